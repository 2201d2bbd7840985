//! What a route says of TLS and header fields: checked, and read into what the table needs.

use super::{Claim, Reason, Rejection};
use crate::{
    config::{Settings, annotation},
    headers::{self, Action, Direction, Template},
    table::{
        Certificate, CertificateFault, ClientAuthority, DestinationTrust, Insecure, Name, Termination, read_authorities,
    },
};
use sdn_cluster::model::{
    ObjectName, Secret,
    route::{HeaderAction, InsecurePolicy, RouteTls},
};
use std::{fmt::Display, sync::Arc};

/// What is there beside the route.
pub(crate) struct Authorities<'a> {
    /// The cluster's Secrets.
    pub secrets: &'a imbl::OrdMap<ObjectName, Arc<Secret>>,
    /// The authorities of certificates for Services, PEM.
    pub services: Option<&'a Arc<[u8]>>,
}

/// What a sound route has.
#[derive(Clone, Default)]
pub(crate) struct Validated {
    pub insecure: Insecure,
    pub certificate: Option<Arc<Certificate>>,
    pub client_authority: Option<Arc<ClientAuthority>>,
    pub destination: DestinationTrust,
    pub request_headers: Vec<Action>,
    pub response_headers: Vec<Action>,
}

/// Faults of one route, with the fields they are of.
#[derive(Default)]
struct Faults(Vec<String>);

/// Checks a route. With [`Settings::extended_validation`] off, what is wrong is left out instead, but for what would open
/// a door. `had_secret`: the route was served with the Secret's certificate before.
pub(crate) fn validate(
    claim: &Claim,
    around: &Authorities<'_>,
    settings: &Settings,
    had_secret: bool,
) -> Result<Validated, Rejection> {
    let mut validated = Validated::default();
    let (mut faults, mut closed) = (Faults::default(), Faults::default());
    let route = &claim.route;
    validated.request_headers = actions(&route.request_headers, Direction::Request, claim, &mut faults);
    validated.response_headers = actions(&route.response_headers, Direction::Response, claim, &mut faults);
    if let Some(tls) = &route.tls {
        let external = external(claim, tls, around, settings, had_secret)?;
        check_tls(claim, tls, &mut faults);
        validated.insecure = insecure(tls.insecure);
        validated.certificate = certificate(tls, external, &mut faults);
        validated.destination = destination(claim, tls, around, &mut closed);
    }
    validated.client_authority = client_authority(claim, around, &mut closed);
    if settings.extended_validation {
        closed.0.splice(..0, faults.0);
    }
    match closed.0.len() {
        0 => Ok(validated),
        1 => Err(Rejection::new(Reason::ExtendedValidationFailed, closed.0.remove(0))),
        _ => Err(Rejection::new(Reason::ExtendedValidationFailed, format!("[{}]", closed.0.join(", ")))),
    }
}

// === impl Faults ===

impl Faults {
    /// In the API's words. What has a secret in it is called by what it is.
    fn invalid(&mut self, field: &str, value: impl Display, message: impl Display) {
        self.0.push(format!("{field}: Invalid value: \"{value}\": {message}"));
    }
}

fn actions(written: &[HeaderAction], direction: Direction, claim: &Claim, faults: &mut Faults) -> Vec<Action> {
    let mut actions = Vec::with_capacity(written.len());
    if claim.termination() == Termination::Passthrough && !written.is_empty() {
        let field = format!("spec.httpHeaders.actions.{direction}");
        faults.invalid(&field, "", "passthrough termination does not support header actions");
        return actions;
    }
    for (index, action) in written.iter().enumerate() {
        let field = |part: &str| format!("spec.httpHeaders.actions.{direction}[{index}].{part}");
        if let Some(reason) = headers::refusal(&action.name) {
            faults.invalid(&field("name"), &action.name, reason);
            continue;
        }
        let name = action.name.clone();
        match action.set.as_deref().map(|value| Template::parse(value, direction)) {
            None => actions.push(Action::Delete { name }),
            Some(Ok(value)) => actions.push(Action::Set { name, value }),
            Some(Err(error)) => faults.invalid(&field("action.set.value"), "", error),
        }
    }
    actions
}

/// The Secret with the certificate, if the route names one.
fn external<'a>(
    claim: &Claim,
    tls: &RouteTls,
    around: &Authorities<'a>,
    settings: &Settings,
    had_secret: bool,
) -> Result<Option<&'a Arc<Secret>>, Rejection> {
    let Some(name) = tls.external.as_ref().filter(|_| settings.external_certificates) else { return Ok(None) };
    let field = "spec.tls.externalCertificate";
    let key = ObjectName { namespace: claim.id.namespace.clone(), name: name.clone() };
    let Some(secret) = around.secrets.get(&key) else {
        return Err(if had_secret {
            let message = format!("secret {name:?} deleted for route \"{}\"", claim.id);
            Rejection::new(Reason::ExternalCertificateSecretDeleted, message)
        } else {
            let message = format!("{field}: Not found: \"secrets \\\"{name}\\\" not found\"");
            Rejection::new(Reason::ExternalCertificateValidationFailed, message)
        });
    };
    if *secret.secret_type != *Secret::TLS {
        let message = format!("{field}: Invalid value: {name:?}: secret of type {:?} required", Secret::TLS);
        return Err(Rejection::new(Reason::ExternalCertificateValidationFailed, message));
    }
    Ok(Some(secret))
}

/// Which fields go with which termination.
fn check_tls(claim: &Claim, tls: &RouteTls, faults: &mut Faults) {
    let termination = claim.termination();
    let given = [
        ("certificate", "certificate", tls.certificate.is_some() || tls.external.is_some()),
        ("key", "key", tls.key.is_some()),
        ("caCertificate", "ca certificate", tls.ca_certificate.is_some()),
        ("destinationCACertificate", "destination ca certificate", tls.destination_ca.is_some()),
    ];
    if termination == Termination::Passthrough {
        for (field, what, _) in given.into_iter().filter(|(_, _, is_given)| *is_given) {
            let message = "passthrough termination does not support certificates";
            faults.invalid(&format!("spec.tls.{field}"), format_args!("redacted {what} data"), message);
        }
        if !claim.path().is_empty() {
            faults.invalid("spec.path", claim.path(), "passthrough termination does not support paths");
        }
        if tls.insecure == InsecurePolicy::Allow {
            let message = "invalid value for InsecureEdgeTerminationPolicy option, acceptable values are None, Redirect, \
                           or empty";
            faults.invalid("spec.tls.insecureEdgeTerminationPolicy", "Allow", message);
        }
    }
    if termination == Termination::Edge && tls.destination_ca.is_some() {
        let message = "edge termination does not support destination certificates";
        faults.invalid("spec.tls.destinationCACertificate", "redacted destination ca certificate data", message);
    }
}

fn certificate(tls: &RouteTls, external: Option<&Arc<Secret>>, faults: &mut Faults) -> Option<Arc<Certificate>> {
    let (chain, key) = match external {
        Some(secret) => (secret.certificate.as_ref(), secret.key.as_ref()),
        None => (tls.certificate.as_ref(), tls.key.as_ref()),
    };
    let issuers = tls.ca_certificate.as_deref().unwrap_or_default();
    let Some(chain) = chain else {
        if let Err(error) = if issuers.is_empty() { Ok(Vec::new()) } else { read_authorities(issuers.as_bytes()) } {
            let message = format!("failed to parse CA certificate: {error}");
            faults.invalid("spec.tls.caCertificate", "redacted ca certificate data", message);
        }
        return None;
    };
    let read = Certificate::read(chain.expose(), key.map(|key| key.expose()), issuers.as_bytes());
    let error = match read {
        Ok(certificate) => return Some(Arc::new(certificate)),
        Err(error) => error,
    };
    match error {
        CertificateFault::NoKey => faults.invalid("spec.tls.key", "", error),
        CertificateFault::UnusableKey(_) | CertificateFault::Mismatch => {
            faults.invalid("spec.tls.key", "redacted key data", error);
        }
        _ => faults.invalid("spec.tls.certificate", "redacted certificate data", error),
    }
    None
}

fn destination(claim: &Claim, tls: &RouteTls, around: &Authorities<'_>, faults: &mut Faults) -> DestinationTrust {
    if claim.termination() != Termination::Reencrypt {
        return DestinationTrust::Unverified;
    }
    let named = claim.destination_secret.as_ref().map(|name| secret_authorities(claim, name, around));
    let pem: Option<Result<Arc<[u8]>, String>> = match (&tls.destination_ca, named) {
        (Some(pem), _) => Some(Ok(pem.as_bytes().into())),
        (None, named) => named,
    };
    let checked = pem.map(|pem| {
        let pem = pem?;
        read_authorities(&pem)
            .map(|_| pem)
            .map_err(|error| format!("failed to parse destination CA certificate: {error}"))
    });
    match (checked, around.services) {
        (Some(Ok(pem)), _) => {
            let name = claim.route.annotations.get(annotation::DESTINATION_NAME).filter(|name| !name.is_empty());
            DestinationTrust::Authorities { pem, name: name.map(|name| Name::Fixed(name.as_str().into())) }
        }
        (Some(Err(message)), _) => {
            faults.invalid("spec.tls.destinationCACertificate", "redacted destination ca certificate data", message);
            DestinationTrust::Unverified
        }
        (None, Some(pem)) => DestinationTrust::Authorities { pem: pem.clone(), name: Some(Name::Service) },
        (None, None) => DestinationTrust::Unverified,
    }
}

/// A route that names authorities is not served without them: whoever came would be let in.
fn client_authority(claim: &Claim, around: &Authorities<'_>, faults: &mut Faults) -> Option<Arc<ClientAuthority>> {
    let name = claim.route.annotations.get(annotation::CLIENT_CA_SECRET)?;
    let field = format!("metadata.annotations[{}]", annotation::CLIENT_CA_SECRET);
    if !matches!(claim.termination(), Termination::Edge | Termination::Reencrypt) {
        faults.invalid(&field, name, "client certificates need termination edge or reencrypt");
        return None;
    }
    let pem = match secret_authorities(claim, &name.as_str().into(), around) {
        Ok(pem) => pem.to_vec(),
        Err(message) => {
            faults.invalid(&field, name, message);
            return None;
        }
    };
    let mode = claim.route.annotations.get(annotation::CLIENT_CERTIFICATE).map(String::as_str);
    let is_required = match mode {
        None | Some("" | "required") => true,
        Some("optional") => false,
        Some(other) => {
            let field = format!("metadata.annotations[{}]", annotation::CLIENT_CERTIFICATE);
            faults.invalid(&field, other, "it is required or optional");
            return None;
        }
    };
    Some(Arc::new(ClientAuthority { pem, is_required }))
}

/// `ca.crt` of a Secret, else its `tls.crt`, if that can be read.
fn secret_authorities(claim: &Claim, name: &Arc<str>, around: &Authorities<'_>) -> Result<Arc<[u8]>, String> {
    let key = ObjectName { namespace: claim.id.namespace.clone(), name: name.clone() };
    let secret = around.secrets.get(&key).ok_or_else(|| format!("secret {name:?} is not there"))?;
    let own = secret.certificate.as_ref().map(|certificate| certificate.expose());
    let pem = secret.authorities.as_deref().or(own).ok_or_else(|| format!("secret {name:?} has no ca.crt"))?;
    read_authorities(pem).map_err(|error| format!("secret {name:?}: {error}"))?;
    Ok(pem.into())
}

fn insecure(policy: InsecurePolicy) -> Insecure {
    match policy {
        InsecurePolicy::None => Insecure::None,
        InsecurePolicy::Allow => Insecure::Allow,
        InsecurePolicy::Redirect => Insecure::Redirect,
    }
}
