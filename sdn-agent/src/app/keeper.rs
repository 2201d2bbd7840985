//! The keeper: from the configuration to a role that runs, in order.

use std::net::{IpAddr, SocketAddr};
use std::process::ExitCode;

use crate::app::logging;
use crate::config::Config;
use crate::keeper::{self, Address, Doors, Ended, KeeperError, RoleCommand};
use crate::kernel::bpf::{PinDirectory, PinError};
use crate::kernel::capabilities::{self, CapabilityError};

/// Name of the socket that the CNI plugin talks to.
pub const CNI: &str = "cni";
/// Name of the socket that sdnctl talks to.
pub const ADMIN: &str = "admin";
/// Name of the TCP socket of health and metrics.
pub const METRICS: &str = "metrics";

/// Name of the UDP socket of cluster DNS, and of the TCP one.
pub fn dns_names(address: IpAddr) -> (&'static str, &'static str) {
    if address.is_ipv6() { ("dns-udp-v6", "dns-tcp-v6") } else { ("dns-udp-v4", "dns-tcp-v4") }
}

/// Port of DNS (RFC 1035 §4.2).
const DNS: u16 = 53;

/// What ends a keeper.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Sockets or supervision.
    #[error(transparent)]
    Keeper(#[from] KeeperError),
    /// The bpffs.
    #[error(transparent)]
    Pins(#[from] PinError),
    /// Capabilities.
    #[error(transparent)]
    Capabilities(#[from] CapabilityError),
}

/// Keeps a role running until it is asked to end or a newer keeper has its sockets. The calling thread must be the process' only one.
pub fn run(config: &Config, command: &RoleCommand) -> ExitCode {
    logging::start(&config.log);
    match keep(config, command) {
        Ok(ended) => {
            tracing::info!(?ended, "the keeper ends");
            ExitCode::SUCCESS
        }
        Err(error) => {
            tracing::error!("{error}");
            ExitCode::FAILURE
        }
    }
}

fn keep(config: &Config, command: &RoleCommand) -> Result<Ended, Error> {
    // The only thing that needs CAP_SYS_ADMIN, and only where nobody has mounted a bpffs.
    PinDirectory::prepare(&config.paths.bpffs)?;
    let doors = doors(config);
    let sockets = keeper::acquire(&doors)?;
    // From here on nothing more is needed than what the role needs, and no role can ever have more.
    capabilities::reduce_to(&capabilities::KEPT)?;
    Ok(keeper::supervise(&sockets, &doors, command)?)
}

fn doors(config: &Config) -> Doors {
    let mut role = vec![
        (CNI, Address::Unix(config.paths.cni_socket())),
        (ADMIN, Address::Unix(config.paths.admin_socket())),
        (METRICS, Address::Tcp(config.metrics_address)),
    ];
    for address in &config.dns.addresses {
        let (udp, tcp) = dns_names(*address);
        let address = SocketAddr::new(*address, DNS);
        role.extend([(udp, Address::FutureUdp(address)), (tcp, Address::FutureTcp(address))]);
    }
    Doors { run: config.paths.run.clone(), role }
}
