//! Backends for tests.

use super::{
    AppProtocol, Backend, BackendState, DestinationTrust, Endpoint, Insecure, RouteId, Source, Termination, endpoints,
};
use crate::config::{Balance, RouteConfig, RouteFacts, Settings};
use sdn_cluster::model::Labels;
use std::{net::SocketAddr, sync::Arc};

/// A backend called `name` for `host` and `path`, without endpoints.
pub(crate) fn backend(name: &str, host: &str, path: &str, termination: Termination, insecure: Insecure) -> Backend {
    let path: Arc<str> = path.into();
    let facts = RouteFacts {
        namespace: "shop",
        name,
        path: &path,
        termination,
        insecure,
        services: 1,
        request_headers: Vec::new(),
        response_headers: Vec::new(),
    };
    let (config, _) = RouteConfig::read(&Labels::new(), facts, &Settings::default());
    Backend {
        id: RouteId { namespace: "shop".into(), name: name.into(), source: Source::Route, uid: "".into() },
        host: host.into(),
        path,
        is_exact: false,
        termination,
        insecure,
        certificate: None,
        client_authority: None,
        destination: DestinationTrust::Unverified,
        config: config.into(),
        endpoints: Vec::new(),
        shares: Vec::new(),
        stride: 1,
        is_idled: false,
        state: Arc::default(),
    }
}

/// A backend with endpoints of these weights.
pub(crate) fn balanced(balance: Balance, pod_connections: Option<u32>, weights: &[u32]) -> Backend {
    let mut backend = backend("web", "example.com", "", Termination::Plain, Insecure::None);
    backend.config = RouteConfig { balance, pod_connections, ..RouteConfig::clone(&backend.config) }.into();
    let state = Arc::<BackendState>::default();
    let endpoint = |(index, weight): (usize, &u32)| {
        let number = u8::try_from(index % 250).expect("below 250") + 1;
        let address = SocketAddr::from(([10, 128, (index / 250) as u8, number], 8080));
        let cookie: Arc<str> = format!("cookie-{index}").into();
        Endpoint {
            address,
            weight: *weight,
            protocol: AppProtocol::Http1,
            pod: None,
            service: "web".into(),
            port: "".into(),
            state: state.endpoint(&cookie),
            cookie,
        }
    };
    backend.endpoints = weights.iter().enumerate().map(endpoint).collect();
    (backend.shares, backend.stride) = endpoints::shares(&backend.endpoints);
    backend.state = state;
    backend
}
