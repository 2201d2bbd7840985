//! The others: the same names as each of them wants them to be written.

use std::fmt::Write as _;
use std::fs;
use std::net::SocketAddr;
use std::path::Path;
use std::process::{Command, Stdio};

use anyhow::{Context as _, Result};
use serde::Serialize;

use super::Workload;
use super::cluster::Cluster;
use super::server::{Server, free_port};

/// Another server.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "camelCase")]
pub enum Rival {
    /// Authoritative only.
    Knot,
    Dnsmasq,
    Unbound,
}

impl Rival {
    pub const ALL: [Self; 3] = [Self::Knot, Self::Dnsmasq, Self::Unbound];

    pub fn name(self) -> &'static str {
        match self {
            Self::Knot => "Knot",
            Self::Dnsmasq => "dnsmasq",
            Self::Unbound => "unbound",
        }
    }

    /// Whether it can do that at all.
    pub fn takes(self, workload: Workload) -> bool {
        self != Self::Knot || workload == Workload::Own
    }

    /// Starts it with the names of a cluster.
    pub fn start(self, cluster: Cluster, upstream: SocketAddr) -> Result<Server> {
        let directory = tempfile::tempdir().context("make a directory")?;
        let port = free_port()?;
        let command = self.command(directory.path(), port, cluster, upstream);
        let server = command.and_then(|command| Server::theirs(command, port, directory, cluster.services));
        server.with_context(|| format!("{} with {} Services", self.name(), cluster.services))
    }

    fn command(self, directory: &Path, port: u16, cluster: Cluster, upstream: SocketAddr) -> Result<Command> {
        let (records, config) = (directory.join("records"), directory.join("config"));
        let (names, text) = match self {
            Self::Knot => (knot_zone(cluster)?, knot_config(directory, port)),
            Self::Dnsmasq => (hosts(cluster)?, dnsmasq_config(&records, port, upstream)),
            Self::Unbound => (local_data(cluster)?, unbound_config(&records, port, upstream)),
        };
        fs::write(&records, names).context("write its names")?;
        fs::write(&config, text).context("write its configuration")?;
        let mut command = match self {
            Self::Knot => Command::new("knotd"),
            Self::Dnsmasq => Command::new("dnsmasq"),
            Self::Unbound => Command::new("unbound"),
        };
        match self {
            Self::Knot => command.arg("-c").arg(config),
            Self::Dnsmasq => command.arg("-k").arg("-C").arg(config),
            Self::Unbound => command.arg("-d").arg("-c").arg(config),
        };
        // Errors are for people, and go to standard error.
        command.stdin(Stdio::null()).stdout(Stdio::null());
        Ok(command)
    }
}

fn knot_zone(cluster: Cluster) -> Result<String> {
    let mut text = "\
$ORIGIN cluster.local.
$TTL 5
@ SOA ns.dns hostmaster 1 7200 1800 86400 5
@ NS ns.dns
ns.dns A 172.30.0.10
"
    .to_owned();
    for names in cluster.names() {
        for address in &names.addresses {
            writeln!(text, "{}. A {address}", names.name)?;
        }
    }
    Ok(text)
}

/// One of each kind of thread, as there is one processor.
fn knot_config(directory: &Path, port: u16) -> String {
    let directory = directory.display();
    format!(
        "\
server:
    rundir: {directory}
    listen: 127.0.0.1@{port}
    udp-workers: 1
    tcp-workers: 1
    background-workers: 1
database:
    storage: {directory}
log:
  - target: stderr
    any: error
zone:
  - domain: cluster.local
    storage: {directory}
    file: records
    zonefile-sync: -1
    zonefile-load: whole
    journal-content: none
"
    )
}

fn hosts(cluster: Cluster) -> Result<String> {
    let mut text = String::new();
    for names in cluster.names() {
        for address in &names.addresses {
            writeln!(text, "{address} {}", names.name)?;
        }
    }
    Ok(text)
}

/// As many entries as dnsmasq allows without a warning.
fn dnsmasq_config(records: &Path, port: u16, upstream: SocketAddr) -> String {
    let (records, address, upstream_port) = (records.display(), upstream.ip(), upstream.port());
    format!(
        "\
port={port}
listen-address=127.0.0.1
bind-interfaces
user=root
pid-file=
no-resolv
no-hosts
addn-hosts={records}
local=/cluster.local/
local-ttl=5
server={address}#{upstream_port}
cache-size=10000
dns-forward-max=1000
"
    )
}

fn local_data(cluster: Cluster) -> Result<String> {
    let mut text = String::new();
    for names in cluster.names() {
        for address in &names.addresses {
            writeln!(text, "local-data: \"{}. 5 A {address}\"", names.name)?;
        }
    }
    Ok(text)
}

/// Without validation, which none of the others does.
fn unbound_config(records: &Path, port: u16, upstream: SocketAddr) -> String {
    let (records, address, upstream_port) = (records.display(), upstream.ip(), upstream.port());
    format!(
        "\
server:
    interface: 127.0.0.1@{port}
    do-daemonize: no
    username: \"\"
    chroot: \"\"
    pidfile: \"\"
    use-syslog: no
    verbosity: 0
    num-threads: 1
    module-config: \"iterator\"
    do-not-query-localhost: no
    access-control: 127.0.0.0/8 allow
    local-zone: \"cluster.local.\" static
    local-data: \"cluster.local. 5 SOA ns.dns.cluster.local. hostmaster.cluster.local. 1 7200 1800 86400 5\"
    include: \"{records}\"
forward-zone:
    name: \".\"
    forward-addr: {address}@{upstream_port}
remote-control:
    control-enable: no
"
    )
}
