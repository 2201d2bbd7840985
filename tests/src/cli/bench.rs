//! `sdn-lab bench`

use std::fmt;
use std::fs;
use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context as _, Result};
use clap::{Args, Subcommand, ValueEnum as _};
use serde::Serialize;

use super::OutputFormat;
use super::interrupts::{self, INTERRUPTED};
use crate::bench::dns;
use crate::bench::pods::{self, Part, Settings};
use crate::events::Interrupt;
use crate::family::IpFamily;

#[derive(Debug, Args)]
pub struct BenchArgs {
    #[command(subcommand)]
    benchmark: Benchmark,
}

#[derive(Debug, Subcommand)]
enum Benchmark {
    /// Pods against kernel bridge and kernel VXLAN, the time of each program, and what the agent costs
    #[command(after_help = PODS_EXAMPLES)]
    Pods(PodsArgs),
    /// The node's resolver against Knot, dnsmasq and unbound: CPU per query, latency, memory, changes under load
    #[command(after_help = DNS_EXAMPLES)]
    Dns(DnsArgs),
}

#[derive(Debug, Args)]
struct DnsArgs {
    /// How often the servers take turns [default: 9, with --quick 3]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..))]
    rounds: Option<u16>,
    /// Length of one run [default: 2, with --quick 1]
    #[arg(long, value_name = "S", value_parser = clap::value_parser!(u16).range(1..))]
    seconds: Option<u16>,
    /// Services, with ten endpoints each; may be said several times [default: 1000 and 10000]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(10..=20_000))]
    services: Vec<u16>,
    /// Changes of endpoints under load [default: 10000, with --quick 1000]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=50_000))]
    changes: Option<u16>,
    /// To see that it works: few and short rounds; the numbers mean little
    #[arg(long)]
    quick: bool,
    #[command(flatten)]
    results: ResultArgs,
}

/// Where results go.
#[derive(Debug, Args)]
struct ResultArgs {
    /// Form of the output
    #[arg(short, long, value_enum, default_value_t)]
    output: OutputFormat,
    /// Write the results there as JSON, too
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
}

#[derive(Debug, Args)]
struct PodsArgs {
    /// How often ours and theirs take turns [default: 9, with --quick 3]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..))]
    rounds: Option<u16>,
    /// Length of one run of bulk traffic [default: 3, with --quick 1]
    #[arg(long, value_name = "S", value_parser = clap::value_parser!(u16).range(1..))]
    seconds: Option<u16>,
    /// To see that it works: few and short rounds, fewer pods; the numbers mean little
    #[arg(long)]
    quick: bool,
    /// IPv6 in place of IPv4: pods and underlay have no IPv4 at all
    #[arg(long)]
    ipv6: bool,
    /// Flows at the same time while programs are timed
    #[arg(long, value_name = "N", default_value_t = 1000, value_parser = clap::value_parser!(u16).range(1..=20_000))]
    flows: u16,
    /// Measure this part only; may be said several times
    #[arg(long, value_name = "PART", value_enum)]
    only: Vec<Part>,
    /// Measure the kernel's devices against themselves: what noise alone makes of the ratios
    #[arg(long)]
    against_itself: bool,
    #[command(flatten)]
    results: ResultArgs,
}

const PODS_EXAMPLES: &str = "\
Examples:
  sdn-lab bench pods
  sdn-lab bench pods --quick --only throughput
  sdn-lab bench pods --ipv6 --json six.json

Needs iperf3, two processors, and a machine with nothing else to do. Targets that are missed are no failures.";

const DNS_EXAMPLES: &str = "\
Examples:
  sdn-lab bench dns
  sdn-lab bench dns --quick --services 1000

Needs knotd, dnsmasq, unbound and dnsperf, two processors, and a machine with nothing else to do. Targets that are missed
are no failures.";

pub fn run(arguments: &BenchArgs) -> Result<u8> {
    let interrupt = Interrupt::default();
    // Measuring looks at the wish itself.
    let _interrupted = interrupts::listen(&interrupt)?;
    let progress = |said: &str| eprintln!("{said}");
    match &arguments.benchmark {
        Benchmark::Pods(arguments) => {
            let report = pods::run(&arguments.settings(), &interrupt, progress);
            arguments.results.show(report, &interrupt)
        }
        Benchmark::Dns(arguments) => {
            let report = dns::run(&arguments.settings(), &interrupt, progress);
            arguments.results.show(report, &interrupt)
        }
    }
}

impl ResultArgs {
    fn show<R: Serialize + fmt::Display>(&self, report: Result<R>, interrupt: &Interrupt) -> Result<u8> {
        let report = match report {
            Ok(report) => report,
            Err(_) if interrupt.is_requested() => return Ok(INTERRUPTED),
            Err(error) => return Err(error),
        };
        let json = serde_json::to_string_pretty(&report).context("write the results as JSON")?;
        if let Some(file) = &self.json {
            fs::write(file, &json).with_context(|| format!("write {}", file.display()))?;
        }
        match self.output {
            OutputFormat::Table => println!("{report}"),
            OutputFormat::Json => println!("{json}"),
        }
        Ok(0)
    }
}

impl DnsArgs {
    fn settings(&self) -> dns::Settings {
        let (rounds, seconds, changes) = if self.quick { (3, 1, 1_000) } else { (9, 2, 10_000) };
        let services: Vec<usize> = self.services.iter().copied().map(usize::from).collect();
        dns::Settings {
            rounds: self.rounds.map_or(rounds, usize::from),
            time: Duration::from_secs(self.seconds.map_or(seconds, u64::from)),
            services: if services.is_empty() { vec![1_000, 10_000] } else { services },
            changes: self.changes.map_or(changes, usize::from),
        }
    }
}

impl PodsArgs {
    fn settings(&self) -> Settings {
        let (rounds, seconds, round_trips, pods) = if self.quick { (3, 1, 2_000, 20) } else { (9, 3, 20_000, 200) };
        Settings {
            family: if self.ipv6 { IpFamily::V6 } else { IpFamily::V4 },
            rounds: self.rounds.map_or(rounds, usize::from),
            time: Duration::from_secs(self.seconds.map_or(seconds, u64::from)),
            round_trips,
            flows: self.flows.into(),
            pods,
            parts: if self.only.is_empty() { Part::value_variants().to_vec() } else { self.only.clone() },
            against_itself: self.against_itself,
        }
    }
}
