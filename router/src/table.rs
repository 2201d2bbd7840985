//! What requests are judged by: hosts, paths, and the backends behind them. Immutable; a change is another table that
//! shares with the last one all that did not change.

mod backend;
mod builder;
mod certificate;
mod endpoints;
mod paths;
#[cfg(test)]
pub(crate) mod sample;
mod state;
#[cfg(test)]
pub(crate) mod testing;

use crate::config::Settings;
use arc_swap::ArcSwap;
use paths::Paths;
use std::sync::Arc;

pub use backend::{
    AppProtocol, Backend, ClientAuthority, DestinationTrust, Endpoint, Insecure, Name, RouteId, Source, Termination,
};
pub use builder::TableBuilder;
pub(crate) use certificate::read_authorities;
pub use certificate::{Certificate, CertificateFault};
pub use state::{Active, BackendState, EndpointState};

/// The table in force. A request loads it once, at its start.
pub type SharedTable = Arc<ArcSwap<Table>>;

/// All hosts that the router serves.
#[derive(Clone, Default)]
pub struct Table {
    /// Exact hosts, lower-case.
    hosts: imbl::HashMap<Arc<str>, Arc<Host>>,
    /// What is behind `*.`, lower-case: one label more is covered, not two, not none.
    wildcards: imbl::HashMap<Arc<str>, Arc<Host>>,
    /// What terminates TLS for names that have no certificate of their own; `None`: such handshakes fail.
    pub default_certificate: Option<Arc<Certificate>>,
    /// What holds for all routes.
    pub settings: Arc<Settings>,
    /// Grows with every table.
    pub generation: u64,
}

/// What a name in a ClientHello leads to.
#[derive(Clone)]
pub enum Sni {
    /// The connection's bytes go to a pod of this backend as they are.
    Passthrough(Arc<Backend>),
    /// TLS ends here, with this certificate.
    Terminate(Arc<Certificate>),
}

/// One host, or one wildcard.
#[derive(Clone, Default)]
pub(crate) struct Host {
    /// Everything that speaks HTTP here, and passthrough routes for what :80 does with them.
    pub paths: Paths,
    /// Where the bytes of TLS connections go.
    pub passthrough: Option<Arc<Backend>>,
    /// TLS is terminated for at least one route.
    pub is_terminated: bool,
    /// The certificate of the oldest route that has one.
    pub certificate: Option<Arc<Certificate>>,
    /// What the oldest route that asks for client certificates takes.
    pub client_authority: Option<Arc<ClientAuthority>>,
}

// === impl Table ===

impl Table {
    /// The backend of a request for `path` (without the query, as it was sent: case, `%` and `//` count) at `host`
    /// (lower-case, without port; a trailing dot is taken off here). Exact hosts come before wildcards, and a host
    /// without a path that fits falls through to its wildcard; of the paths that fit the longest counts.
    ///
    /// With `tls` only routes whose TLS ends here are found. Without it, if the first route that fits redirects, it is
    /// found, and is to be answered with a redirect whatever it terminates ([`Backend::redirects`]); otherwise plain
    /// routes and those that allow plain requests are.
    pub fn route(&self, host: &str, path: &str, tls: bool) -> Option<Arc<Backend>> {
        let host = host.strip_suffix('.').unwrap_or(host);
        let exact = self.hosts.get(host).map(|host| host.paths.find(path)).unwrap_or_default();
        let wildcard = self.wildcard(host).map(|host| host.paths.find(path)).unwrap_or_default();
        if tls {
            return exact.secure.or(wildcard.secure).cloned();
        }
        match exact.any.or(wildcard.any) {
            Some(backend) if backend.redirects() => Some(backend.clone()),
            _ => exact.insecure.or(wildcard.insecure).cloned(),
        }
    }

    /// What the server name `name` of a ClientHello (lower-case) leads to. `None`: no TLS route is known by it, and
    /// there is no default certificate to say so with.
    pub fn sni(&self, name: &str) -> Option<Sni> {
        let name = name.strip_suffix('.').unwrap_or(name);
        let (exact, wildcard) = (self.hosts.get(name), self.wildcard(name));
        let holder =
            [exact, wildcard].into_iter().flatten().find(|host| host.passthrough.is_some() || host.is_terminated);
        if let Some(backend) = holder.and_then(|host| host.passthrough.as_ref()) {
            return Some(Sni::Passthrough(backend.clone()));
        }
        // A host without a certificate of its own is shown its wildcard's: it covers the name.
        let certificates = [exact, wildcard].into_iter().flatten().filter(|host| host.is_terminated);
        let own = certificates.filter_map(|host| host.certificate.as_ref()).next();
        own.or(self.default_certificate.as_ref()).cloned().map(Sni::Terminate)
    }

    /// Whether any TLS route is known by the server name `name`: what strict SNI asks.
    pub fn knows(&self, name: &str) -> bool {
        let name = name.strip_suffix('.').unwrap_or(name);
        let mut hosts = [self.hosts.get(name), self.wildcard(name)].into_iter().flatten();
        hosts.any(|host| host.passthrough.is_some() || host.is_terminated)
    }

    /// Whose client certificates a handshake for `name` asks for, because a route of that host does. What each route
    /// wants is in its backend.
    pub fn client_authority(&self, name: &str) -> Option<&Arc<ClientAuthority>> {
        let name = name.strip_suffix('.').unwrap_or(name);
        let mut hosts = [self.hosts.get(name), self.wildcard(name)].into_iter().flatten();
        hosts.find(|host| host.is_terminated).and_then(|host| host.client_authority.as_ref())
    }

    /// How many hosts and wildcards there are.
    pub fn hosts(&self) -> usize {
        self.hosts.len() + self.wildcards.len()
    }

    /// Every backend, in no particular order.
    pub fn backends(&self) -> impl Iterator<Item = &Arc<Backend>> {
        self.hosts.values().chain(self.wildcards.values()).flat_map(|host| host.paths.backends())
    }

    fn wildcard(&self, host: &str) -> Option<&Arc<Host>> {
        if self.wildcards.is_empty() {
            return None;
        }
        let (_, domain) = host.split_once('.')?;
        self.wildcards.get(domain)
    }
}

#[cfg(test)]
mod tests;
