//! `sdnctl`: what the agent of this node knows, for people and for scripts.

mod check;
pub mod command;
mod matrix;
mod output;
mod render;

use std::future::Future;
use std::io::{self, Write};
use std::path::PathBuf;
use std::process::ExitCode;

use clap::CommandFactory;
use tokio::signal::unix::{SignalKind, signal};

use crate::admin::api::{
    DnsAnswer, DnsStats, DropCount, EventLine, NodeRow, PodRow, PolicyExplanation, PolicyRow, Status,
};
use crate::admin::client::{Client, ClientError};
use crate::terminal::Terminal;
use command::{Action, CheckArgs, Command, DnsAction, DropArgs, GetArgs, MatrixArgs, PolicyAction, Resource, Switch};
use output::Output;

/// Exit codes; `--help` lists them.
pub mod code {
    /// Something failed.
    pub const FAILED: u8 = 1;
    /// Wrong usage; clap's own code.
    pub const USAGE: u8 = 2;
    /// Nobody answers at the agent's socket.
    pub const UNREACHABLE: u8 = 3;
    /// `status`: the agent is there and not ready.
    pub const NOT_READY: u8 = 4;
}

/// What went wrong.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The agent.
    #[error(transparent)]
    Client(#[from] ClientError),
    /// Standard output.
    #[error("write to standard output: {0}")]
    Write(#[from] io::Error),
    /// What was asked for by name is not there.
    #[error(
        "find {name}: the agent does not know it (is it in another namespace, or did its manifest have a problem? see `sdnctl status`)"
    )]
    NotFound {
        /// Its name.
        name: String,
    },
    /// Manifests.
    #[error(transparent)]
    Manifests(#[from] sdn_cluster::Error),
    /// The directory of `matrix --steps`.
    #[error("read the steps in {}: {source} (does the directory exist?)", path.display())]
    Steps {
        /// The directory.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// The process.
    #[error("start: {0}")]
    Start(io::Error),
}

/// Does what the command line says.
pub fn run(command: Command) -> ExitCode {
    let terminal = Terminal::stdout();
    let outcome = match &command.action {
        Action::Completions { shell } => {
            clap_complete::generate(*shell, &mut Command::command(), "sdnctl", &mut io::stdout());
            Ok(0)
        }
        Action::Check(arguments) => check(arguments, command.output()),
        Action::Matrix(arguments) => matrix(arguments, command.output(), terminal),
        _ => on_runtime(ask(&command, terminal)),
    };
    match outcome {
        Ok(code) => ExitCode::from(code),
        // Whoever read the output has seen enough, like `head`.
        Err(Error::Write(error)) if error.kind() == io::ErrorKind::BrokenPipe => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("sdnctl: {error}");
            ExitCode::from(exit_code(&error))
        }
    }
}

fn exit_code(error: &Error) -> u8 {
    match error {
        Error::Client(ClientError::Unreachable { .. } | ClientError::Silent { .. }) => code::UNREACHABLE,
        _ => code::FAILED,
    }
}

fn on_runtime(work: impl Future<Output = Result<u8, Error>>) -> Result<u8, Error> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(Error::Start)?;
    runtime.block_on(work)
}

async fn ask(command: &Command, terminal: Terminal) -> Result<u8, Error> {
    let client = Client::new(&command.socket);
    let output = command.output();
    match &command.action {
        Action::Status { .. } => {
            let status: Status = client.get("/v1/status").await?;
            write(&output.of(&status, |wide| render::status(&status, terminal, wide)))?;
            return Ok(if status.waiting.is_empty() { 0 } else { code::NOT_READY });
        }
        Action::Get(arguments) => get(&client, arguments, output, terminal).await?,
        Action::Drops(arguments) => drops(&client, arguments, output, terminal).await?,
        Action::Policy(action) => policy(&client, action, output, terminal).await?,
        Action::Check(_) | Action::Matrix(_) | Action::Completions { .. } => {}
        Action::Dns(action) => return dns(&client, action, output).await,
    }
    Ok(0)
}

async fn policy(client: &Client, action: &PolicyAction, output: Output, terminal: Terminal) -> Result<(), Error> {
    match action {
        PolicyAction::Get { namespace, .. } => {
            let mut rows: Vec<PolicyRow> = client.get("/v1/policies").await?;
            rows.retain(|row| namespace.as_ref().is_none_or(|wanted| *wanted == row.namespace));
            write(&output.of(&rows, |wide| render::policies(&rows, terminal, wide)))
        }
        PolicyAction::Explain { pod, .. } => {
            let explanation: PolicyExplanation = client.get(&format!("/v1/policies/explain?pod={pod}")).await?;
            write(&output.of(&explanation, |_| render::explanation(&explanation, terminal)))
        }
    }
}

fn check(arguments: &CheckArgs, output: Output) -> Result<u8, Error> {
    let report = check::read(&arguments.files)?.report;
    write(&output.of(&report, |_| report.table()))?;
    Ok(if report.problems.is_empty() { 0 } else { code::FAILED })
}

fn matrix(arguments: &MatrixArgs, output: Output, terminal: Terminal) -> Result<u8, Error> {
    let (states, problems) = matrix::states(arguments)?;
    if !problems.problems.is_empty() {
        // The answers are about what is left, which may be what an agent would do as well.
        eprint!("{}", problems.table());
    }
    for (step, matrix) in states {
        let rows = matrix.rows();
        if arguments.steps.is_none() {
            write(&output.of(&rows, |_| matrix::table("", &rows, terminal)))?;
        } else {
            let step = matrix::Step { step, rows };
            write(&output.line(&step, || matrix::table(&step.step, &step.rows, terminal)))?;
        }
    }
    Ok(if problems.problems.is_empty() { 0 } else { code::FAILED })
}

async fn dns(client: &Client, action: &DnsAction, output: Output) -> Result<u8, Error> {
    match action {
        DnsAction::Query { name, kind, from, .. } => {
            let from = from.iter().map(|pod| ("from", pod.as_str()));
            let path = query_path("/v1/dns/query", [("name", name.as_str()), ("type", kind)].into_iter().chain(from));
            let answer: DnsAnswer = client.get(&path).await?;
            write(&output.of(&answer, |_| render::dns_answer(&answer)))?;
            return Ok(if answer.records.is_empty() { code::FAILED } else { 0 });
        }
        DnsAction::Stats { .. } => {
            let stats: DnsStats = client.get("/v1/dns").await?;
            write(&output.of(&stats, |_| render::dns_stats(&stats)))?;
        }
        DnsAction::Log { wanted } => {
            let wanted = *wanted == Switch::On;
            let _: bool = client.put(&format!("/v1/dns/log?wanted={wanted}")).await?;
        }
    }
    Ok(0)
}

/// A path with parameters (RFC 3986 §2.1, what is not unreserved is encoded).
fn query_path<'a>(path: &str, parameters: impl Iterator<Item = (&'a str, &'a str)>) -> String {
    let encode = |text: &str| -> String {
        let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-._~".contains(&byte);
        text.bytes()
            .map(|byte| if plain(byte) { char::from(byte).to_string() } else { format!("%{byte:02X}") })
            .collect()
    };
    let parameters: Vec<String> = parameters.map(|(name, value)| format!("{name}={}", encode(value))).collect();
    format!("{path}?{}", parameters.join("&"))
}

async fn get(client: &Client, arguments: &GetArgs, output: Output, terminal: Terminal) -> Result<(), Error> {
    let (text, missing) = match arguments.resource {
        Resource::Pods => {
            let mut pods: Vec<PodRow> = client.get("/v1/pods").await?;
            pods.retain(|pod| arguments.wants(&pod.namespace, &pod.name));
            let missing = arguments.missing(pods.iter().map(|pod| &pod.name));
            (output.of(&pods, |wide| render::pods(&pods, terminal, wide)), missing)
        }
        Resource::Nodes => {
            let mut nodes: Vec<NodeRow> = client.get("/v1/nodes").await?;
            nodes.retain(|node| arguments.names.is_empty() || arguments.names.contains(&node.name));
            let missing = arguments.missing(nodes.iter().map(|node| &node.name));
            (output.of(&nodes, |wide| render::nodes(&nodes, terminal, wide)), missing)
        }
    };
    write(&text)?;
    match missing {
        None => Ok(()),
        Some(name) => Err(Error::NotFound { name }),
    }
}

async fn drops(client: &Client, arguments: &DropArgs, output: Output, terminal: Terminal) -> Result<(), Error> {
    if !arguments.watch {
        let mut rows: Vec<DropCount> = client.get("/v1/drops").await?;
        rows.retain(|row| arguments.wants(&row.reason, &row.endpoint));
        return write(&output.of(&rows, |wide| render::drops(&rows, terminal, wide)));
    }
    let mut lines = client.lines("/v1/drops/events").await?;
    let mut interrupted = signal(SignalKind::interrupt()).map_err(Error::Start)?;
    loop {
        let line: EventLine = tokio::select! {
            line = lines.next() => match line? {
                Some(line) => line,
                None => return Ok(()),
            },
            _ = interrupted.recv() => return Ok(()),
        };
        match &line {
            EventLine::Event(event) if !arguments.wants(&event.reason, &event.endpoint) => {}
            _ => write(&output.line(&line, || render::event(&line, terminal)))?,
        }
    }
}

fn write(text: &str) -> Result<(), Error> {
    let mut stdout = io::stdout().lock();
    stdout.write_all(text.as_bytes())?;
    Ok(stdout.flush()?)
}

#[cfg(test)]
mod tests;
