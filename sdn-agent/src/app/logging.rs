//! Log lines on standard error.

use std::io::{self, IsTerminal};

use tracing_subscriber::filter::{LevelFilter, Targets};
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;
use tracing_subscriber::{Layer, Registry, fmt};

use crate::config::{Log, LogFormat};

/// Starts logging. Called once a process; later calls change nothing.
pub fn start(log: &Log) {
    // The configuration has checked the filter; what a future tracing might refuse is logged in full rather than not at all.
    let targets = log.filter.parse::<Targets>().unwrap_or_else(|_| Targets::new().with_default(LevelFilter::INFO));
    let lines: Box<dyn Layer<Registry> + Send + Sync> = match log.format {
        LogFormat::Text => Box::new(fmt::layer().with_writer(io::stderr).with_ansi(io::stderr().is_terminal())),
        LogFormat::Json => Box::new(fmt::layer().json().flatten_event(true).with_writer(io::stderr).with_ansi(false)),
    };
    // An error means that a subscriber is there already, as in tests that start several roles in one process.
    let _ = tracing_subscriber::registry().with(lines.with_filter(targets)).try_init();
}
