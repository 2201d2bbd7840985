//! Stand-ins: what answers on the ports that pods declare, in place of the images that a lab does not run.
//!
//! A stand-in says who it is and whom it sees. Its socket is opened inside the pod's network namespace and served by the lab's
//! own runtime, so that two hundred pods cost two hundred sockets and not two hundred processes.

mod http;
pub(crate) mod udp;

use std::collections::BTreeMap;
use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use anyhow::{Context as _, Result};
use sdn_cluster::model::Protocol;
use serde::{Deserialize, Serialize};
use tokio::runtime::Handle;
use tokio::task::JoinHandle;

use crate::sandbox::Sandbox;

/// Who answers.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Identity {
    /// The pod's namespace; empty for hosts.
    pub namespace: String,
    /// The pod's name, or the host's.
    pub pod: String,
    /// The node that it runs on; empty for the outside host.
    pub node: String,
}

/// What a stand-in answers, as JSON.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Answer {
    /// Who answers.
    #[serde(flatten)]
    pub who: Identity,
    /// The address that the question seems to come from.
    pub client_address: IpAddr,
    /// Its port.
    pub client_port: u16,
    /// The address that was asked.
    pub server_address: IpAddr,
    /// The port that was asked.
    pub server_port: u16,
    /// The HTTP request; none for a datagram.
    #[serde(flatten, default, skip_serializing_if = "Option::is_none")]
    pub request: Option<Request>,
}

/// An HTTP request as the stand-in saw it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Request {
    /// `HTTP/1.1` or `HTTP/2.0`.
    pub version: String,
    /// The method.
    pub method: String,
    /// Path and query.
    pub path: String,
    /// Header fields; the values of repeated ones are joined by ", ".
    pub headers: BTreeMap<String, String>,
}

/// A served port; dropping it closes the port and its connections.
#[derive(Debug)]
pub struct StandIn {
    port: u16,
    protocol: Protocol,
    task: JoinHandle<()>,
}

/// Both ends of what a stand-in was asked over.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Ends {
    pub client: SocketAddr,
    pub server: SocketAddr,
}

// === impl Identity ===

impl fmt::Display for Identity {
    /// `namespace/name`, or a host's name.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { namespace, pod, .. } = self;
        if namespace.is_empty() { f.write_str(pod) } else { write!(f, "{namespace}/{pod}") }
    }
}

// === impl StandIn ===

impl StandIn {
    /// Opens `port` on all addresses inside `sandbox` and answers there as `who`; on `runtime` until dropped.
    /// SCTP is an error: kernels without SCTP sockets are common, and nothing here speaks it.
    pub fn open(
        sandbox: &Sandbox,
        runtime: &Handle,
        who: Arc<Identity>,
        protocol: Protocol,
        port: u16,
    ) -> Result<Self> {
        let all = SocketAddr::from(([0u16; 8], port));
        let opened = format!("open {port}/{protocol} for {}", who.pod);
        let task = match protocol {
            Protocol::Tcp => {
                let socket = sandbox.within(|| Ok(std::net::TcpListener::bind(all)?)).context(opened)?;
                http::serve(socket, runtime, who)?
            }
            Protocol::Udp => {
                let socket = sandbox.within(|| Ok(std::net::UdpSocket::bind(all)?)).context(opened)?;
                udp::serve(socket, runtime, move |_, ends| Some(Answer::new(&who, ends, None).to_json()))?
            }
            Protocol::Sctp => anyhow::bail!("{opened}: stand-ins do not speak SCTP"),
        };
        Ok(Self { port, protocol, task })
    }

    /// The port, host byte order.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// The protocol.
    pub fn protocol(&self) -> Protocol {
        self.protocol
    }
}

impl Drop for StandIn {
    fn drop(&mut self) {
        self.task.abort();
    }
}

// === impl Answer ===

impl Answer {
    fn new(who: &Identity, ends: Ends, request: Option<Request>) -> Self {
        Self {
            who: who.clone(),
            // Sockets serve both families, and see IPv4 as ::ffff:a.b.c.d.
            client_address: ends.client.ip().to_canonical(),
            client_port: ends.client.port(),
            server_address: ends.server.ip().to_canonical(),
            server_port: ends.server.port(),
            request,
        }
    }

    fn to_json(&self) -> Vec<u8> {
        serde_json::to_vec(self).expect("an answer has only text keys, so it has a JSON form")
    }
}

#[cfg(test)]
mod tests;
