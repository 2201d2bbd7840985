//! The command line of `sdn-agent`.

use std::path::PathBuf;

use clap::{ArgMatches, Args, Parser, Subcommand, ValueEnum};

use crate::config::{Config, ConfigError, Host, Layers, Settings};

/// Culvert's node agent: the cluster network of one node.
#[derive(Debug, Parser)]
#[command(name = "sdn-agent", version, max_term_width = 120, after_help = EXIT_CODES)]
pub struct Command {
    /// What to do.
    #[command(subcommand)]
    pub action: Action,
}

/// What `sdn-agent` can do.
#[derive(Debug, Subcommand)]
pub enum Action {
    /// Run the node's agent: a keeper that holds the sockets, and its role as a child
    ///
    /// Started while another one runs in the same run directory, it takes the sockets over from it: connections that wait in
    /// them are served by the new one, the old one ends with code 0, and traffic goes on all the time.
    #[command(after_help = NODE_EXAMPLES)]
    Node(NodeArgs),
    /// Tell whether this machine can be a node, and what would be in the way
    #[command(after_help = PREFLIGHT_EXAMPLES)]
    Preflight(PreflightArgs),
    /// Print the configuration that the same flags, environment and file give
    #[command(after_help = CONFIG_EXAMPLES)]
    Config(ConfigArgs),
}

/// Flags of `sdn-agent node`.
#[derive(Debug, Args)]
pub struct NodeArgs {
    /// The settings.
    #[command(flatten)]
    pub configuration: Configuration,
    /// Run this command as the role, in place of the node role: for tests of the keeper.
    #[arg(long, hide = true, num_args = 1.., allow_hyphen_values = true, value_name = "COMMAND")]
    pub role_command: Option<Vec<String>>,
}

/// Flags of `sdn-agent preflight`.
#[derive(Debug, Args)]
pub struct PreflightArgs {
    /// The settings that `node` would be started with.
    #[command(flatten)]
    pub configuration: Configuration,
    /// Form of the report
    #[arg(short, long, value_enum, default_value_t)]
    pub output: ReportFormat,
}

/// Flags of `sdn-agent config`.
#[derive(Debug, Args)]
pub struct ConfigArgs {
    /// The settings that `node` would be started with.
    #[command(flatten)]
    pub configuration: Configuration,
    /// Form of the output
    #[arg(short, long, value_enum, default_value_t)]
    pub output: ConfigFormat,
}

/// A configuration's layers on the command line.
#[derive(Debug, Args)]
pub struct Configuration {
    /// File with settings, YAML (or TOML, if it is called so); flags and environment have precedence
    #[arg(long, env = "CULVERT_CONFIG", value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// The settings themselves.
    #[command(flatten, next_help_heading = "Settings")]
    pub settings: Settings,
}

/// Form of a report.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, ValueEnum)]
pub enum ReportFormat {
    /// For people.
    #[default]
    Table,
    /// For programs.
    Json,
}

/// Form of a printed configuration.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, ValueEnum)]
pub enum ConfigFormat {
    /// A file for `--config`, with the origin of every setting.
    #[default]
    Yaml,
    /// One object.
    Json,
}

const EXIT_CODES: &str = "\
Exit codes: 0 ended as asked, 1 failed, 2 wrong usage or configuration.";

const NODE_EXAMPLES: &str = "\
Examples:
  sdn-agent node --node-name node-1 --manifests /etc/culvert/manifests
  sdn-agent node --config /etc/culvert/agent.yaml --install-cni
  CULVERT_UPLINK=eth1 sdn-agent node --config /etc/culvert/agent.yaml

Signals: TERM and INT end role and keeper (traffic goes on); HUP restarts the role, which reads its configuration again.
Exit codes: 0 ended as asked or handed over to a newer keeper, 1 failed, 2 wrong usage or configuration.";

const PREFLIGHT_EXAMPLES: &str = "\
Examples:
  sdn-agent preflight
  sdn-agent preflight --config /etc/culvert/agent.yaml -o json

Exit codes: 0 nothing that must be is missing, 1 something is, 2 wrong usage or configuration.";

const CONFIG_EXAMPLES: &str = "\
Examples:
  sdn-agent config --config /etc/culvert/agent.yaml
  CULVERT_VXLAN_PORT=8472 sdn-agent config -o json";

impl Action {
    /// The part of the command line that every action shares.
    pub fn configuration(&self) -> &Configuration {
        match self {
            Self::Node(arguments) => &arguments.configuration,
            Self::Preflight(arguments) => &arguments.configuration,
            Self::Config(arguments) => &arguments.configuration,
        }
    }
}

impl Command {
    /// The configuration of the command; `matches` are those that the command was parsed from.
    pub fn load_config(&self, matches: &ArgMatches, host: &Host) -> Result<Config, ConfigError> {
        let Configuration { config, settings } = self.action.configuration();
        let matches = matches.subcommand().map_or(matches, |(_, matches)| matches);
        Config::from_layers(&Layers::new(settings.clone(), matches, config.as_deref())?, host)
    }
}
