//! `sdn-agent`: parses and calls; everything else is in the library.

#![forbid(unsafe_code)]

use std::process::ExitCode;

use clap::{CommandFactory, FromArgMatches};
use sdn_agent::app::command::{Action, Command, ConfigFormat, NodeArgs};
use sdn_agent::app::{keeper, node};
use sdn_agent::config::{Config, Host};
use sdn_agent::keeper::{Inherited, RoleCommand};
use sdn_agent::preflight;

/// Wrong usage or configuration.
const USAGE: u8 = 2;

fn main() -> ExitCode {
    let matches = Command::command().get_matches();
    let command = Command::from_arg_matches(&matches).unwrap_or_else(|error| error.exit());
    let config = command.load_config(&matches, &Host::read());
    // Told at once, by the keeper: a role that found it out would be started again and again.
    let config = config.and_then(|config| match &command.action {
        Action::Node(NodeArgs { role_command: None, .. }) => config.source().map(drop).map(|()| config),
        _ => Ok(config),
    });
    match config {
        Ok(config) => run(command.action, config),
        Err(error) => {
            eprintln!("sdn-agent: {error}");
            ExitCode::from(USAGE)
        }
    }
}

fn run(action: Action, config: Config) -> ExitCode {
    match action {
        Action::Node(arguments) => match arguments.role_command {
            _ if Inherited::is_role() => node::run(config),
            None => keeper::run(&config, &RoleCommand::itself()),
            Some(command) => keeper::run(&config, &RoleCommand::other(command)),
        },
        Action::Preflight(arguments) => preflight::run(&config, arguments.output),
        Action::Config(arguments) => {
            match arguments.output {
                ConfigFormat::Yaml => print!("{}", config.to_yaml()),
                ConfigFormat::Json => println!("{:#}", config.to_json()),
            }
            ExitCode::SUCCESS
        }
    }
}
