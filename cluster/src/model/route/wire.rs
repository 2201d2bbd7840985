//! A Route as it is written, and the rules that the API has for it, but for those that routers report in its status.

use super::{HeaderAction, InsecurePolicy, Route, RouteTarget, RouteTls, TlsTermination, WildcardPolicy};
use crate::model::{
    meta::Kind,
    object::FieldError,
    secret::Sensitive,
    service::fault,
    wire::{DnsLabel, DnsSubdomain, Meta, or_default, or_none},
};
use serde::{Deserialize, Deserializer, de};
use std::{fmt, sync::Arc};

/// The most alternate Services.
const MAX_ALTERNATES: usize = 3;
/// The most actions of one direction.
const MAX_ACTIONS: usize = 20;
/// The share of a Service that does not say its own, as the API fills it in.
const DEFAULT_WEIGHT: u16 = 100;

#[derive(Deserialize)]
pub(super) struct Wire {
    metadata: Meta<DnsSubdomain>,
    spec: Spec,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Spec {
    #[serde(default, deserialize_with = "or_default")]
    host: Arc<str>,
    #[serde(default, deserialize_with = "or_default")]
    subdomain: Arc<str>,
    #[serde(default, deserialize_with = "or_default")]
    path: Path,
    #[serde(default, deserialize_with = "policy")]
    wildcard_policy: WildcardPolicy,
    to: Target,
    #[serde(default, deserialize_with = "or_default")]
    alternate_backends: Vec<Target>,
    port: Option<Port>,
    tls: Option<Tls>,
    #[serde(default, deserialize_with = "or_default")]
    http_headers: Headers,
}

#[derive(Default, Deserialize)]
#[serde(try_from = "String")]
struct Path(Arc<str>);

#[derive(Deserialize)]
struct Target {
    #[serde(default, deserialize_with = "or_default")]
    kind: ServiceKind,
    name: DnsLabel,
    weight: Option<Weight>,
}

#[derive(Default, Deserialize)]
enum ServiceKind {
    #[default]
    #[serde(alias = "")]
    Service,
}

#[derive(Deserialize)]
#[serde(try_from = "i64")]
struct Weight(u16);

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Port {
    target_port: TargetPort,
}

/// A number or a name, as text. Absent, 0 and "" are no port.
struct TargetPort(Option<Arc<str>>);

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Tls {
    termination: TlsTermination,
    #[serde(default, deserialize_with = "or_default")]
    insecure_edge_termination_policy: InsecurePolicy,
    certificate: Option<Sensitive>,
    key: Option<Sensitive>,
    ca_certificate: Option<Arc<str>>,
    #[serde(rename = "destinationCACertificate")]
    destination_ca_certificate: Option<Arc<str>>,
    external_certificate: Option<SecretName>,
}

#[derive(Deserialize)]
struct SecretName {
    #[serde(default, deserialize_with = "or_none")]
    name: Option<DnsSubdomain>,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Headers {
    #[serde(deserialize_with = "or_default")]
    actions: Actions,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Actions {
    #[serde(deserialize_with = "or_default")]
    request: Vec<NamedAction>,
    #[serde(deserialize_with = "or_default")]
    response: Vec<NamedAction>,
}

#[derive(Deserialize)]
struct NamedAction {
    name: Arc<str>,
    action: Action,
}

#[derive(Deserialize)]
struct Action {
    r#type: ActionType,
    set: Option<Set>,
}

#[derive(Deserialize)]
enum ActionType {
    Set,
    Delete,
}

#[derive(Deserialize)]
struct Set {
    value: Arc<str>,
}

// === impl Wire ===

impl Wire {
    pub fn model(self, seed: &str) -> Result<Route, FieldError> {
        let Self { metadata, spec } = self;
        if spec.alternate_backends.len() > MAX_ALTERNATES {
            let message = format!("{} are more than {MAX_ALTERNATES}", spec.alternate_backends.len());
            return Err(fault("spec.alternateBackends", message));
        }
        let alternates: Vec<_> = spec.alternate_backends.into_iter().map(Target::model).collect();
        let to = spec.to.model();
        for (index, alternate) in alternates.iter().enumerate() {
            let others = std::iter::once(&to).chain(&alternates[..index]);
            if others.into_iter().any(|other| other.service == alternate.service) {
                let message = format!("Service {} is there twice", alternate.service);
                return Err(fault(format!("spec.alternateBackends[{index}].name"), message));
            }
        }
        let is_ingress = |kind: Option<Kind>| kind == Some(Kind::Ingress);
        let owner = metadata.controller().filter(|owner| is_ingress(owner.kind));
        let Actions { request, response } = spec.http_headers.actions;
        Ok(Route {
            namespace: metadata.namespace(),
            name: metadata.name(seed)?,
            uid: metadata.uid(),
            created: metadata.creation_timestamp.clone(),
            ingress: owner.map(|owner| owner.name),
            labels: metadata.labels.0,
            annotations: metadata.annotations.0,
            host: spec.host,
            subdomain: spec.subdomain,
            path: spec.path.0,
            wildcard: spec.wildcard_policy,
            to,
            alternates,
            target_port: spec.port.and_then(|port| port.target_port.0),
            tls: spec.tls.map(Tls::model),
            request_headers: actions(request, "request")?,
            response_headers: actions(response, "response")?,
        })
    }
}

impl Target {
    fn model(self) -> RouteTarget {
        let ServiceKind::Service = self.kind;
        let weight = self.weight.map_or(DEFAULT_WEIGHT, |weight| weight.0);
        RouteTarget { service: self.name.as_ref().clone(), weight }
    }
}

impl Tls {
    fn model(self) -> RouteTls {
        let filled = |text: Option<Arc<str>>| text.filter(|text| !text.is_empty());
        RouteTls {
            termination: self.termination,
            insecure: self.insecure_edge_termination_policy,
            certificate: self.certificate.filter(|text| !text.is_empty()),
            key: self.key.filter(|text| !text.is_empty()),
            ca_certificate: filled(self.ca_certificate),
            destination_ca: filled(self.destination_ca_certificate),
            external: self.external_certificate.and_then(|secret| secret.name).map(|name| name.as_ref().clone()),
        }
    }
}

fn actions(written: Vec<NamedAction>, direction: &str) -> Result<Vec<HeaderAction>, FieldError> {
    let field = format!("spec.httpHeaders.actions.{direction}");
    if written.len() > MAX_ACTIONS {
        return Err(fault(field, format!("{} are more than {MAX_ACTIONS}", written.len())));
    }
    let mut actions: Vec<HeaderAction> = Vec::with_capacity(written.len());
    for (index, NamedAction { name, action }) in written.into_iter().enumerate() {
        let place = |part: &str| format!("{field}[{index}].{part}");
        if actions.iter().any(|other| other.name.eq_ignore_ascii_case(&name)) {
            return Err(fault(place("name"), format!("{name} is there twice")));
        }
        let set = match (action.r#type, action.set) {
            (ActionType::Set, Some(set)) => Some(set.value),
            (ActionType::Delete, None) => None,
            (ActionType::Set, None) => return Err(fault(place("action.set"), "it is missing: the type is Set")),
            (ActionType::Delete, Some(_)) => return Err(fault(place("action.set"), "it goes with the type Set only")),
        };
        actions.push(HeaderAction { name, set });
    }
    Ok(actions)
}

/// Absent, null and "" are None.
fn policy<'de, D: Deserializer<'de>>(decoder: D) -> Result<WildcardPolicy, D::Error> {
    match Option::<String>::deserialize(decoder)?.as_deref() {
        None | Some("" | "None") => Ok(WildcardPolicy::None),
        Some("Subdomain") => Ok(WildcardPolicy::Subdomain),
        Some(other) => Err(de::Error::custom(format!("{other:?} is not None or Subdomain"))),
    }
}

impl TryFrom<String> for Path {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        if !text.is_empty() && !text.starts_with('/') {
            return Err(format!("{text:?} does not begin with a slash"));
        }
        if text.bytes().any(|byte| byte <= b' ' || byte == 0x7f || byte == b'?' || byte == b'#') {
            return Err(format!("{text:?} has a blank, a control character, ? or #: no path of a request has"));
        }
        Ok(Self(text.into()))
    }
}

impl TryFrom<i64> for Weight {
    type Error = String;

    fn try_from(weight: i64) -> Result<Self, String> {
        let fits = u16::try_from(weight).ok().filter(|weight| *weight <= Route::MAX_WEIGHT);
        fits.map(Self).ok_or_else(|| format!("{weight} is not within 0 to {}", Route::MAX_WEIGHT))
    }
}

impl<'de> Deserialize<'de> for TargetPort {
    fn deserialize<D: Deserializer<'de>>(decoder: D) -> Result<Self, D::Error> {
        struct Visitor;

        impl de::Visitor<'_> for Visitor {
            type Value = TargetPort;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a port's number or name")
            }

            fn visit_u64<E: de::Error>(self, number: u64) -> Result<TargetPort, E> {
                let port = u16::try_from(number).map_err(|_| E::custom(format!("{number} is not a port")))?;
                Ok(TargetPort((port > 0).then(|| port.to_string().into())))
            }

            fn visit_i64<E: de::Error>(self, number: i64) -> Result<TargetPort, E> {
                Err(E::custom(format!("{number} is not a port")))
            }

            fn visit_str<E: de::Error>(self, text: &str) -> Result<TargetPort, E> {
                Ok(TargetPort((!text.is_empty()).then(|| text.into())))
            }
        }

        decoder.deserialize_any(Visitor)
    }
}
