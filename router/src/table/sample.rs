//! Tables for tests, made without a snapshot: endpoints may be on loopback, which the builder never lets pass.

use std::{net::SocketAddr, sync::Arc};

use super::{
    AppProtocol, Backend, BackendState, Certificate, ClientAuthority, DestinationTrust, Endpoint, Host, Insecure,
    RouteId, Source, Table, Termination, endpoints,
};
use crate::config::{RouteConfig, RouteFacts, Settings};

/// A route for a test.
#[derive(Clone)]
pub(crate) struct Sample {
    pub host: &'static str,
    pub path: &'static str,
    pub termination: Termination,
    pub insecure: Insecure,
    pub endpoints: Vec<(SocketAddr, AppProtocol)>,
    pub annotations: Vec<(&'static str, &'static str)>,
    pub certificate: Option<Arc<Certificate>>,
    pub client_authority: Option<Arc<ClientAuthority>>,
    pub destination: DestinationTrust,
}

impl Default for Sample {
    fn default() -> Self {
        Self {
            host: "a.example",
            path: "",
            termination: Termination::Plain,
            insecure: Insecure::None,
            endpoints: Vec::new(),
            annotations: Vec::new(),
            certificate: None,
            client_authority: None,
            destination: DestinationTrust::Unverified,
        }
    }
}

impl Sample {
    /// A plain route to one pod.
    pub fn plain(address: SocketAddr) -> Self {
        Self { endpoints: vec![(address, AppProtocol::Http1)], ..Self::default() }
    }

    fn backend(&self, name: &str, settings: &Settings) -> Backend {
        let path: Arc<str> = self.path.into();
        let facts = RouteFacts {
            namespace: "default",
            name,
            path: &path,
            termination: self.termination,
            insecure: self.insecure,
            services: 1,
            request_headers: Vec::new(),
            response_headers: Vec::new(),
        };
        let annotations = self.annotations.iter().map(|(name, value)| ((*name).into(), (*value).into())).collect();
        let (config, notices) = RouteConfig::read(&annotations, facts, settings);
        assert!(notices.is_empty(), "{notices:?}");
        let state = Arc::<BackendState>::default();
        let endpoint = |(address, protocol): &(SocketAddr, AppProtocol)| {
            let cookie: Arc<str> = format!("cookie{}", address.port()).into();
            Endpoint {
                address: *address,
                weight: 1,
                protocol: *protocol,
                pod: Some(format!("pod{}", address.port()).into()),
                service: "svc".into(),
                port: "http".into(),
                state: state.endpoint(&cookie),
                cookie,
            }
        };
        let endpoints: Vec<_> = self.endpoints.iter().map(endpoint).collect();
        let (shares, stride) = endpoints::shares(&endpoints);
        Backend {
            id: RouteId { namespace: "default".into(), name: name.into(), source: Source::Route, uid: name.into() },
            host: self.host.into(),
            path,
            is_exact: false,
            termination: self.termination,
            insecure: self.insecure,
            certificate: self.certificate.clone(),
            client_authority: self.client_authority.clone(),
            destination: self.destination.clone(),
            config: Arc::new(config),
            endpoints,
            shares,
            stride,
            is_idled: false,
            state,
        }
    }
}

/// A table of these routes, called `route0` and so on.
pub(crate) fn table(settings: Settings, default_certificate: Option<Arc<Certificate>>, samples: &[Sample]) -> Table {
    let mut table = Table { default_certificate, ..Table::default() };
    for (place, sample) in samples.iter().enumerate() {
        let backend = Arc::new(sample.backend(&format!("route{place}"), &settings));
        let (hosts, name) = match sample.host.strip_prefix("*.") {
            Some(domain) => (&mut table.wildcards, domain),
            None => (&mut table.hosts, sample.host),
        };
        let mut host = hosts.get(name).map_or_else(Host::default, |host| Host::clone(host));
        match backend.termination {
            Termination::Passthrough => host.passthrough = Some(backend.clone()),
            Termination::Edge | Termination::Reencrypt => {
                host.is_terminated = true;
                host.certificate = host.certificate.or(backend.certificate.clone());
                host.client_authority = host.client_authority.or(backend.client_authority.clone());
            }
            Termination::Plain => {}
        }
        host.paths.insert(backend);
        hosts.insert(name.into(), Arc::new(host));
    }
    table.settings = Arc::new(settings);
    table
}
