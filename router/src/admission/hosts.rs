//! Hosts: which one a route is for, and whether it may be.

use super::{Claim, Reason, Rejection};
use crate::config::Settings;
use std::sync::Arc;

/// Whether `text` can be a host: lower-case labels of letters, digits and `-`, at most 63 characters each and 253 in all
/// (RFC 1123).
pub fn is_host(text: &str) -> bool {
    text.len() <= 253 && text.split('.').all(|label| label_fault(label).is_none())
}

/// spec.host, else what spec.subdomain or the template make, unless the router overrides it.
pub(super) fn host_of(namespace: &str, name: &str, host: &str, subdomain: &str, settings: &Settings) -> Arc<str> {
    let mut own: Arc<str> = host.into();
    if let (true, false, Some(domain)) = (host.is_empty(), subdomain.is_empty(), &settings.domain) {
        own = format!("{subdomain}.{domain}").into();
    }
    let Some(template) = &settings.hostname_template else { return own };
    let is_overridden = settings.override_hostname || is_in_domain(&own, &settings.override_domains);
    if !own.is_empty() && !is_overridden {
        return own;
    }
    expand(template, namespace, name).map_or(own, Arc::from)
}

/// The template with `${name}` and `${namespace}` filled in; `None` when it asks for anything else.
fn expand(template: &str, namespace: &str, name: &str) -> Option<String> {
    let (mut host, mut rest) = (String::new(), template);
    while let Some((text, more)) = rest.split_once("${") {
        let (key, more) = more.split_once('}')?;
        host += text;
        host += match key {
            "name" => name,
            "namespace" => namespace,
            _ => return None,
        };
        rest = more;
    }
    Some((host + rest).trim_matches(['"', '\'']).to_owned())
}

/// Whether the host is one of the domains or in one of them.
fn is_in_domain(host: &str, domains: &[Arc<str>]) -> bool {
    let mut rest = Some(host);
    while let Some(name) = rest.filter(|_| !domains.is_empty()) {
        if domains.iter().any(|domain| **domain == *name) {
            return true;
        }
        rest = name.split_once('.').map(|(_, domain)| domain);
    }
    false
}

/// Denied domains come before allowed ones.
pub(super) fn check_domain(host: &str, settings: &Settings) -> Result<(), Rejection> {
    let refuse = |message: &str| Err(Rejection::new(Reason::RouteNotAdmitted, message));
    if host.is_empty() {
        return Ok(());
    }
    if is_in_domain(host, &settings.denied_domains) {
        return refuse("host in list of denied domains");
    }
    if !settings.allowed_domains.is_empty() && !is_in_domain(host, &settings.allowed_domains) {
        return refuse("host not in the allowed list of domains");
    }
    Ok(())
}

pub(super) fn check_wildcard(claim: &Claim, settings: &Settings) -> Result<(), Rejection> {
    if claim.is_wildcard && !settings.allow_wildcards {
        return Err(Rejection::new(Reason::RouteNotAdmitted, "wildcard routes are not allowed"));
    }
    Ok(())
}

pub(super) fn check_name(host: &str) -> Result<(), Rejection> {
    if host.is_empty() {
        return Err(Rejection::new(Reason::NoHostValue, "no host value was defined for the route"));
    }
    let mut faults = Vec::new();
    if !is_host(host) {
        faults.push("host must conform to DNS 952 subdomain conventions");
    }
    faults.extend(host.split('.').filter_map(label_fault));
    if faults.is_empty() {
        return Ok(());
    }
    let faults: Vec<_> = faults.iter().map(|fault| format!("spec.host: Invalid value: {host:?}: {fault}")).collect();
    Err(Rejection::new(Reason::InvalidHost, format!("host name validation errors: {}", faults.join(", "))))
}

/// What is wrong with a label, in the words of the API.
fn label_fault(label: &str) -> Option<&'static str> {
    if label.len() > 63 {
        return Some("must be no more than 63 characters");
    }
    let inner = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
    let fits = !label.is_empty() && label.bytes().all(inner) && !label.starts_with('-') && !label.ends_with('-');
    (!fits).then_some(
        "a lowercase RFC 1123 label must consist of lower case alphanumeric characters or '-', and must start and end \
         with an alphanumeric character (e.g. 'my-name',  or '123-abc', regex used for validation is \
         '[a-z0-9]([-a-z0-9]*[a-z0-9])?')",
    )
}
