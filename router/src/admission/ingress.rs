//! What an Ingress amounts to: a route for each of its paths, as OpenShift's controller would make them, but that Exact
//! paths are exact.

use super::{Claim, PortChoice};
use crate::{
    config::{Settings, annotation},
    table::{RouteId, Source},
};
use sdn_cluster::model::{
    Route,
    ingress::{Ingress, IngressClass, IngressPath, IngressTls, PathType},
    route::{InsecurePolicy, RouteTarget, RouteTls, TlsTermination, WildcardPolicy},
};
use std::sync::Arc;

/// Whose Ingresses are served.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Classes {
    /// Names of classes that are.
    own: Vec<Arc<str>>,
    /// Names of classes that exist.
    known: Vec<Arc<str>>,
    /// Ingresses without a class are of the default class, if there is one.
    default: Option<Arc<str>>,
}

// === impl Classes ===

impl Classes {
    pub fn new<'a>(classes: impl Iterator<Item = &'a Arc<IngressClass>>, settings: &Settings) -> Self {
        let mut all = Self::default();
        for class in classes {
            all.known.push(class.name.clone());
            if settings.ingress_controllers.contains(&class.controller) {
                all.own.push(class.name.clone());
            }
            if class.is_default && all.default.is_none() {
                all.default = Some(class.name.clone());
            }
        }
        all
    }

    /// Whether an Ingress of this class is served. One without a class is if it is not another's by default.
    pub fn serve(&self, ingress: &Ingress) -> bool {
        match ingress.class.as_ref().or(self.default.as_ref()) {
            Some(class) => self.own.contains(class),
            None => true,
        }
    }
}

/// The claims of an Ingress: one for each path of a rule with a host that leads to a Service.
pub(crate) fn claims_of(ingress: &Arc<Ingress>, settings: &Settings) -> Vec<Claim> {
    let mut claims = Vec::new();
    for (rule_index, rule) in ingress.rules.iter().enumerate() {
        let Some(host) = &rule.host else { continue };
        for (path_index, path) in rule.paths.iter().enumerate() {
            claims.extend(claim_of(ingress, host, path, (rule_index, path_index), settings));
        }
    }
    claims
}

fn claim_of(
    ingress: &Ingress,
    rule_host: &Arc<str>,
    path: &IngressPath,
    (rule_index, path_index): (usize, usize),
    settings: &Settings,
) -> Option<Claim> {
    let backend = path.backend.as_ref()?;
    let name: Arc<str> = format!("{}/{rule_index}-{path_index}", ingress.name).into();
    let (written, wildcard) = match rule_host.strip_prefix("*.") {
        Some(domain) => (format!("wildcard.{domain}").into(), WildcardPolicy::Subdomain),
        None => (rule_host.clone(), WildcardPolicy::None),
    };
    let route = Route {
        namespace: ingress.namespace.clone(),
        name: name.clone(),
        uid: ingress.uid.clone(),
        labels: ingress.labels.clone(),
        annotations: ingress.annotations.clone(),
        created: ingress.created.clone(),
        ingress: Some(ingress.name.clone()),
        host: written.clone(),
        path: path_of(path),
        wildcard,
        to: RouteTarget { service: backend.service.clone(), weight: 100 },
        tls: tls_of(ingress, rule_host),
        ..Route::default()
    };
    let id = RouteId {
        namespace: ingress.namespace.clone(),
        name: name.clone(),
        source: Source::Ingress,
        uid: ingress.uid.clone(),
    };
    Some(Claim {
        id,
        host: super::host_of(&ingress.namespace, &name, &written, "", settings),
        is_wildcard: wildcard == WildcardPolicy::Subdomain,
        is_exact: path.path_type == PathType::Exact,
        port: PortChoice::Service(backend.port.clone()),
        destination_secret: ingress.annotations.get(annotation::DESTINATION_CA_SECRET).map(|name| name.as_str().into()),
        route: route.into(),
    })
}

/// For Prefix a slash at the end says nothing: `/a/` is `/a`, and matches `/a`, too.
fn path_of(path: &IngressPath) -> Arc<str> {
    match path.path_type {
        PathType::Prefix => path.path.strip_suffix('/').unwrap_or(&path.path).into(),
        PathType::Exact | PathType::ImplementationSpecific => path.path.clone(),
    }
}

/// TLS ends at the router for the hosts of an entry of spec.tls, and requests without it are redirected; annotations may
/// have it end at the pods.
fn tls_of(ingress: &Ingress, host: &Arc<str>) -> Option<RouteTls> {
    let is_for = |entry: &&IngressTls| entry.hosts.is_empty() || entry.hosts.contains(host);
    let entry = ingress.tls.iter().find(is_for);
    let annotated = match ingress.annotations.get(annotation::TERMINATION).map(String::as_str) {
        Some("passthrough") => Some(TlsTermination::Passthrough),
        Some("reencrypt") => Some(TlsTermination::Reencrypt),
        Some("edge") => Some(TlsTermination::Edge),
        _ => None,
    };
    // Passthrough needs no certificate, and so no entry.
    if entry.is_none() && annotated != Some(TlsTermination::Passthrough) {
        return None;
    }
    let termination = annotated.unwrap_or_default();
    let secret = entry.and_then(|entry| entry.secret.clone());
    Some(RouteTls {
        termination,
        insecure: InsecurePolicy::Redirect,
        external: secret.filter(|_| termination != TlsTermination::Passthrough),
        ..RouteTls::default()
    })
}
