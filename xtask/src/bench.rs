//! `cargo xtask bench`: builds what would be shipped, then lets the lab measure it.

use std::process::ExitCode;

use anyhow::{Context, Result};
use clap::{Args, ValueEnum};

use crate::build::{Profile, Workspace};
use crate::console::{self, Tone};
use crate::privilege::Privilege;
use crate::setup::{self, Purpose};

#[derive(Args)]
pub struct Arguments {
    /// What to measure; everything, unless named
    #[arg(value_enum)]
    name: Option<Benchmark>,
    /// Passed on to `sdn-lab bench NAME`: --quick, --rounds N, --only PART; after `--` also --help
    #[arg(trailing_var_arg = true, allow_hyphen_values = true, value_name = "ARGUMENTS")]
    lab: Vec<String>,
}

/// Each is `sdn-lab bench NAME`.
#[derive(Clone, Copy, ValueEnum)]
enum Benchmark {
    /// Pods against kernel bridge and kernel VXLAN: throughput, cycles per byte, latency, time per packet
    Pods,
    /// The node's resolver against Knot, dnsmasq and unbound: CPU per query, latency, memory, changes under load
    Dns,
}

pub fn run(arguments: &Arguments) -> Result<ExitCode> {
    setup::ensure(Purpose::Bench)?;
    let workspace = Workspace::find()?;
    let binaries = workspace.build(Profile::Release)?;
    let privilege = Privilege::find("to make network namespaces and to load eBPF programs")?;
    let results = workspace.results("bench")?;
    let chosen = arguments.name.map_or_else(|| Benchmark::value_variants().to_vec(), |name| vec![name]);
    let mut code = ExitCode::SUCCESS;
    for benchmark in chosen {
        let file = results.join(format!("{}.json", benchmark.name()));
        let mut lab = privilege.command(binaries.path("sdn-lab"), &[]);
        lab.args(["bench", benchmark.name(), "--json"]).arg(&file).args(&arguments.lab);
        let status = lab.status().with_context(|| format!("cannot start {}", binaries.path("sdn-lab").display()))?;
        match status.success() {
            true => console::say(Tone::Quiet, format!("results: {}", file.display())),
            false => code = ExitCode::FAILURE,
        }
    }
    Ok(code)
}

impl Benchmark {
    fn name(self) -> &'static str {
        match self {
            Self::Pods => "pods",
            Self::Dns => "dns",
        }
    }
}
