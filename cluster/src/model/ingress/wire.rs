//! An Ingress and an IngressClass as they are written, with the rules that the API has for them.

use super::{Ingress, IngressBackend, IngressClass, IngressPath, IngressRule, IngressTls, PathType, ServicePortRef};
use crate::model::{
    object::FieldError,
    service::fault,
    wire::{DnsLabel, DnsSubdomain, Meta, or_default, or_none},
};
use serde::Deserialize;
use std::sync::Arc;

#[derive(Deserialize)]
pub(super) struct Wire {
    metadata: Meta<DnsSubdomain>,
    #[serde(default, deserialize_with = "or_default")]
    spec: Spec,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Spec {
    #[serde(deserialize_with = "or_none")]
    ingress_class_name: Option<DnsSubdomain>,
    #[serde(deserialize_with = "or_default")]
    rules: Vec<Rule>,
    #[serde(deserialize_with = "or_default")]
    tls: Vec<Tls>,
    default_backend: Option<Backend>,
}

#[derive(Deserialize)]
struct Rule {
    #[serde(default, deserialize_with = "or_none")]
    host: Option<RuleHost>,
    #[serde(default, deserialize_with = "or_default")]
    http: Http,
}

/// A host, perhaps with `*.` before it.
#[derive(Deserialize)]
#[serde(try_from = "String")]
struct RuleHost(Arc<str>);

#[derive(Default, Deserialize)]
#[serde(default)]
struct Http {
    #[serde(deserialize_with = "or_default")]
    paths: Vec<Path>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Path {
    #[serde(default, deserialize_with = "or_default")]
    path: Arc<str>,
    path_type: PathType,
    backend: Backend,
}

/// A Service, or a resource of whatever kind.
#[derive(Deserialize)]
struct Backend {
    service: Option<ServiceBackend>,
}

#[derive(Deserialize)]
struct ServiceBackend {
    name: DnsLabel,
    #[serde(default, deserialize_with = "or_default")]
    port: Port,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Port {
    #[serde(deserialize_with = "or_none")]
    name: Option<DnsLabel>,
    #[serde(deserialize_with = "or_default")]
    number: u16,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Tls {
    #[serde(deserialize_with = "or_default")]
    hosts: Vec<RuleHost>,
    #[serde(deserialize_with = "or_none")]
    secret_name: Option<DnsSubdomain>,
}

#[derive(Deserialize)]
pub(super) struct Class {
    metadata: Meta<DnsSubdomain>,
    #[serde(default, deserialize_with = "or_default")]
    spec: ClassSpec,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct ClassSpec {
    #[serde(deserialize_with = "or_default")]
    controller: Arc<str>,
}

// === impl Wire ===

impl Wire {
    pub fn model(self, seed: &str) -> Result<Ingress, FieldError> {
        let Self { metadata, spec } = self;
        let mut annotations = metadata.annotations.0.clone();
        let annotated = annotations.remove(Ingress::CLASS_ANNOTATION).filter(|class| !class.is_empty());
        let named = spec.ingress_class_name.map(|class| class.as_ref().clone());
        let mut rules = Vec::with_capacity(spec.rules.len());
        for (index, rule) in spec.rules.into_iter().enumerate() {
            rules.push(rule.model().map_err(|error| error.within(&format!("spec.rules[{index}]"), 0))?);
        }
        let default_backend = spec.default_backend.map(Backend::model).transpose();
        let tls = |tls: Tls| IngressTls {
            hosts: tls.hosts.into_iter().map(|host| host.0).collect(),
            secret: tls.secret_name.map(|name| name.as_ref().clone()),
        };
        Ok(Ingress {
            namespace: metadata.namespace(),
            name: metadata.name(seed)?,
            uid: metadata.uid(),
            created: metadata.creation_timestamp,
            labels: metadata.labels.0,
            annotations,
            class: named.or(annotated.map(Arc::from)),
            rules,
            tls: spec.tls.into_iter().map(tls).collect(),
            default_backend: default_backend.map_err(|error| error.within("spec.defaultBackend", 0))?.flatten(),
        })
    }
}

impl Rule {
    fn model(self) -> Result<IngressRule, FieldError> {
        let mut paths = Vec::with_capacity(self.http.paths.len());
        for (index, Path { path, path_type, backend }) in self.http.paths.into_iter().enumerate() {
            let field = |part: &str| format!("http.paths[{index}].{part}");
            check_path(&path, path_type).map_err(|message| fault(field("path"), message))?;
            let backend = backend.model().map_err(|error| error.within(&field("backend"), 0))?;
            paths.push(IngressPath { path, path_type, backend });
        }
        Ok(IngressRule { host: self.host.map(|host| host.0), paths })
    }
}

fn check_path(path: &str, path_type: PathType) -> Result<(), String> {
    let must_begin = path_type != PathType::ImplementationSpecific || !path.is_empty();
    if must_begin && !path.starts_with('/') {
        return Err(format!("{path:?} does not begin with a slash"));
    }
    if path.bytes().any(|byte| byte <= b' ' || byte == 0x7f || byte == b'?' || byte == b'#') {
        return Err(format!("{path:?} has a blank, a control character, ? or #: no path of a request has"));
    }
    // The API refuses these too: they could not be compared segment by segment.
    let forbidden = ["//", "/./", "/../", "%2f", "%2F"].into_iter().find(|part| path.contains(part));
    let forbidden = forbidden.or_else(|| ["/..", "/."].into_iter().find(|end| path.ends_with(end)));
    match forbidden.filter(|_| path_type != PathType::ImplementationSpecific) {
        Some(part) => Err(format!("{path:?} must not have {part:?}")),
        None => Ok(()),
    }
}

impl Backend {
    fn model(self) -> Result<Option<IngressBackend>, FieldError> {
        let Some(ServiceBackend { name, port }) = self.service else { return Ok(None) };
        let port = match (port.name, port.number) {
            (Some(name), 0) => ServicePortRef::Name(name.as_ref().clone()),
            (None, number) if number > 0 => ServicePortRef::Number(number),
            _ => return Err(fault("service.port", "it has either a name or a number")),
        };
        Ok(Some(IngressBackend { service: name.as_ref().clone(), port }))
    }
}

impl TryFrom<String> for RuleHost {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        let domain = text.strip_prefix("*.").unwrap_or(&text);
        DnsSubdomain::try_from(domain.to_owned())?;
        Ok(Self(text.into()))
    }
}

// === impl Class ===

impl Class {
    pub fn model(self, seed: &str) -> Result<IngressClass, FieldError> {
        let annotation = self.metadata.annotations.0.get(IngressClass::DEFAULT_ANNOTATION);
        Ok(IngressClass {
            is_default: annotation.is_some_and(|value| value == "true"),
            name: self.metadata.name(seed)?,
            controller: self.spec.controller,
        })
    }
}
