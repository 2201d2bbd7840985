//! The CNI plugin: the result, or the error, as JSON on standard output.
#![forbid(unsafe_code)]

use std::io::{self, Write};
use std::process::ExitCode;

use serde_json::Value;

use sdn_cni::commands;
use sdn_cni::config::{self, NetConf, SpecVersion};
use sdn_cni::environment::Command;
use sdn_cni::protocol::{Failure, code};
use sdn_cni::result;

fn main() -> ExitCode {
    let mut version = SpecVersion::LATEST;
    let (output, exit) = match run(&mut version) {
        Ok(output) => (output, ExitCode::SUCCESS),
        Err(failure) => (Some(result::error(&failure, version)), ExitCode::FAILURE),
    };
    match output.map(print) {
        None | Some(Ok(())) => exit,
        Some(Err(error)) => {
            eprintln!("sdn-cni: writing the result to standard output: {error}");
            ExitCode::FAILURE
        }
    }
}

/// Serves the command. `version` becomes the configuration's as soon as it is known, for the form of an error.
fn run(version: &mut SpecVersion) -> Result<Option<Value>, Failure> {
    let variable = |name: &str| std::env::var(name).ok();
    if variable("CNI_COMMAND").is_none() {
        // Somebody tries it by hand, and would have to end standard input first.
        return Command::parse(variable).map(|_| None);
    }
    let input = config::read(io::stdin().lock())?;
    *version = SpecVersion::of_config(&input).unwrap_or(*version);
    let command = Command::parse(variable)?;
    if command == Command::Version {
        return Ok(Some(versions(&input)?));
    }
    let config = NetConf::parse(&input)?;
    match command {
        Command::Add(parameters) => commands::add(&config, &parameters).map(Some),
        Command::Del(parameters) => commands::del(&config, &parameters).map(|remark| {
            // Standard error is for logs, says the spec.
            remark.iter().for_each(|remark| eprintln!("sdn-cni: {remark}"));
            None
        }),
        Command::Check(parameters) => commands::check(&config, &parameters).map(|()| None),
        Command::Gc => commands::gc(config).map(|()| None),
        Command::Status => commands::status(&config).map(|()| None),
        Command::Version => unreachable!("VERSION needs no configuration and is answered above"),
    }
}

/// VERSION works with any version of the spec, and with nothing on standard input.
fn versions(input: &[u8]) -> Result<Value, Failure> {
    if input.iter().all(u8::is_ascii_whitespace) {
        return Ok(result::versions(SpecVersion::LATEST.as_str()));
    }
    let document: Value = serde_json::from_slice(input)
        .map_err(|e| Failure::new(code::DECODING_FAILURE, "decoding the version on standard input", e.to_string()))?;
    let theirs = document.get("cniVersion").and_then(Value::as_str);
    Ok(result::versions(theirs.unwrap_or(SpecVersion::LATEST.as_str())))
}

fn print(output: Value) -> io::Result<()> {
    let mut stdout = io::stdout().lock();
    writeln!(stdout, "{output:#}")?;
    stdout.flush()
}
