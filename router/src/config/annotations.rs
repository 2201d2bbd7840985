//! A route's annotations, read into its configuration. One that makes no sense is left out, and said so: but for
//! allow-lists, which then admit nobody.

use super::{
    AllowList, Balance, Cookie, Forwarded, Limits, ProxyVersion, Rewrite, RouteConfig, SameSite, Settings, Timeouts,
    duration,
};
use crate::{
    cookie,
    headers::Action,
    table::{Insecure, Termination},
};
use ipnet::IpNet;
use sdn_cluster::model::Labels;
use std::{net::IpAddr, sync::Arc, time::Duration};

/// The names of annotations that are read, with the values they take.
pub mod annotation {
    /// `roundrobin`, `leastconn`, `source` or `random`.
    pub const BALANCE: &str = "haproxy.router.openshift.io/balance";
    /// `true`: no affinity cookie.
    pub const DISABLE_COOKIES: &str = "haproxy.router.openshift.io/disable_cookies";
    /// Letters, digits, `_` and `-`.
    pub const COOKIE_NAME: &str = "router.openshift.io/cookie_name";
    /// `Lax`, `Strict` or `None`.
    pub const COOKIE_SAME_SITE: &str = "router.openshift.io/cookie-same-site";
    /// A time: for a pod's next byte; on passthrough routes for anybody's.
    pub const TIMEOUT: &str = "haproxy.router.openshift.io/timeout";
    /// A time: for the next byte of upgraded and passthrough connections.
    pub const TIMEOUT_TUNNEL: &str = "haproxy.router.openshift.io/timeout-tunnel";
    /// A time: between two checks of an endpoint.
    pub const CHECK_INTERVAL: &str = "router.openshift.io/haproxy.health.check.interval";
    /// Addresses and ranges, parted by blanks.
    pub const ALLOW_LIST: &str = "haproxy.router.openshift.io/ip_allowlist";
    /// The older name of [`ALLOW_LIST`].
    pub const ALLOW_LIST_LEGACY: &str = "haproxy.router.openshift.io/ip_whitelist";
    /// `true`: the three below are heeded.
    pub const LIMITS: &str = "haproxy.router.openshift.io/rate-limit-connections";
    /// A number: in flight at a time.
    pub const LIMIT_CONCURRENT: &str = "haproxy.router.openshift.io/rate-limit-connections.concurrent-tcp";
    /// A number: in 3 seconds.
    pub const LIMIT_CONNECTIONS: &str = "haproxy.router.openshift.io/rate-limit-connections.rate-tcp";
    /// A number: HTTP requests in 10 seconds.
    pub const LIMIT_REQUESTS: &str = "haproxy.router.openshift.io/rate-limit-connections.rate-http";
    /// A number: requests at an endpoint at a time.
    pub const POD_CONNECTIONS: &str = "haproxy.router.openshift.io/pod-concurrent-connections";
    /// `max-age=N`, with `includeSubDomains` and `preload` before or after.
    pub const HSTS: &str = "haproxy.router.openshift.io/hsts_header";
    /// `append`, `replace`, `if-none` or `never`.
    pub const FORWARDED: &str = "haproxy.router.openshift.io/set-forwarded-headers";
    /// A path.
    pub const REWRITE: &str = "haproxy.router.openshift.io/rewrite-target";
    /// `true`: names of fields are written to pods as the router's list has them.
    pub const ADJUST_CASE: &str = "haproxy.router.openshift.io/h1-adjust-case";
    /// `edge`, `passthrough` or `reencrypt`, of an Ingress.
    pub const TERMINATION: &str = "route.openshift.io/termination";
    /// The Secret with the authorities of the pods, of an Ingress.
    pub const DESTINATION_CA_SECRET: &str = "route.openshift.io/destination-ca-certificate-secret";
    /// `v1` or `v2`: pods are told about the client by the PROXY protocol.
    pub const SEND_PROXY: &str = "router.culvert/send-proxy";
    /// The name that pods' certificates must have, of a re-encrypt route with authorities of its own.
    pub const DESTINATION_NAME: &str = "router.culvert/destination-name";
    /// The Secret (`ca.crt`) with the authorities of client certificates.
    pub const CLIENT_CA_SECRET: &str = "router.culvert/client-ca-secret";
    /// `required` or `optional`.
    pub const CLIENT_CERTIFICATE: &str = "router.culvert/client-certificate";
}

/// An annotation that is not used as it stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Notice {
    /// Its name.
    pub annotation: &'static str,
    /// What is wrong, and what is done instead.
    pub message: String,
}

/// What a configuration depends on beside annotations and settings.
#[derive(Clone, Debug)]
pub struct RouteFacts<'a> {
    /// The route's namespace.
    pub namespace: &'a str,
    /// The route's name.
    pub name: &'a str,
    /// The route's path.
    pub path: &'a Arc<str>,
    /// Where TLS ends.
    pub termination: Termination,
    /// What becomes of requests without TLS.
    pub insecure: Insecure,
    /// How many of its Services have a weight.
    pub services: usize,
    /// What the route itself does with fields of requests.
    pub request_headers: Vec<Action>,
    /// What the route itself does with fields of responses.
    pub response_headers: Vec<Action>,
}

/// Annotations while they are read.
struct Reader<'a> {
    annotations: &'a Labels,
    notices: Vec<Notice>,
}

// === impl RouteConfig ===

impl RouteConfig {
    /// Reads the annotations of a route.
    pub fn read(annotations: &Labels, facts: RouteFacts<'_>, settings: &Settings) -> (Self, Vec<Notice>) {
        let mut reader = Reader { annotations, notices: Vec::new() };
        let is_passthrough = facts.termination == Termination::Passthrough;
        let is_terminated = matches!(facts.termination, Termination::Edge | Termination::Reencrypt);
        let rewrite =
            reader.read(annotation::REWRITE, "a path that begins with /", |target| Rewrite::parse(target, facts.path));
        let config = Self {
            balance: reader.balance(is_passthrough, facts.services, settings),
            cookie: if is_passthrough { None } else { reader.cookie(&facts, settings) },
            timeouts: reader.timeouts(is_passthrough, settings),
            allow: reader.allow_list(),
            limits: reader.limits(is_passthrough),
            pod_connections: reader.number(annotation::POD_CONNECTIONS).filter(|limit| *limit > 0),
            rewrite: rewrite.filter(|_| !is_passthrough),
            hsts: reader.read(annotation::HSTS, HSTS_FORM, hsts).filter(|_| is_terminated),
            forwarded: reader
                .read(annotation::FORWARDED, FORWARDED_FORM, Forwarded::parse)
                .unwrap_or(settings.forwarded),
            request_headers: settings.request_headers.iter().cloned().chain(facts.request_headers).collect(),
            response_headers: facts
                .response_headers
                .into_iter()
                .chain(settings.response_headers.iter().cloned())
                .collect(),
            check_interval: reader.time(annotation::CHECK_INTERVAL).unwrap_or(settings.check_interval),
            adjust_case: reader.is_true(annotation::ADJUST_CASE),
            send_proxy: reader.read(annotation::SEND_PROXY, "v1 or v2", |version| match version {
                "v1" => Some(ProxyVersion::V1),
                "v2" => Some(ProxyVersion::V2),
                _ => None,
            }),
        };
        (config, reader.notices)
    }
}

const HSTS_FORM: &str = "max-age=SECONDS, with ;includeSubDomains and ;preload";
const FORWARDED_FORM: &str = "append, replace, if-none or never";

// === impl Reader ===

impl Reader<'_> {
    /// The annotation's value as `parse` reads it; one that it cannot read is left out with a notice.
    fn read<T>(&mut self, name: &'static str, form: &str, parse: impl FnOnce(&str) -> Option<T>) -> Option<T> {
        let value = self.annotations.get(name).filter(|value| !value.is_empty())?;
        let parsed = parse(value);
        if parsed.is_none() {
            self.note(name, format!("{value:?} is not {form}: it is left out"));
        }
        parsed
    }

    fn note(&mut self, annotation: &'static str, message: String) {
        self.notices.push(Notice { annotation, message });
    }

    fn time(&mut self, name: &'static str) -> Option<Duration> {
        self.read(name, "a time like 5s (us, ms, s, m, h, d)", duration::parse)
    }

    /// An integer; what is below 0 is 0, as comparisons with it would have it.
    fn number(&mut self, name: &'static str) -> Option<u32> {
        let parse =
            |text: &str| text.parse::<i64>().ok().map(|number| u32::try_from(number.max(0)).unwrap_or(u32::MAX));
        self.read(name, "an integer", parse)
    }

    fn is_true(&mut self, name: &'static str) -> bool {
        self.read(name, "true or false", boolean).unwrap_or(false)
    }

    fn balance(&mut self, is_passthrough: bool, services: usize, settings: &Settings) -> Balance {
        if let Some(balance) = self.read(annotation::BALANCE, "roundrobin, leastconn, source or random", Balance::parse)
        {
            return balance;
        }
        if services > 1 {
            return Balance::RoundRobin;
        }
        if is_passthrough {
            return settings.passthrough_balance.or(settings.balance).unwrap_or(Balance::Source);
        }
        settings.balance.unwrap_or(Balance::Random)
    }

    fn cookie(&mut self, facts: &RouteFacts<'_>, settings: &Settings) -> Option<Cookie> {
        let named = self.read(annotation::COOKIE_NAME, "letters, digits, _ and -", |name| {
            cookie::is_name(name).then(|| Arc::from(name))
        });
        let same_site = self.read(annotation::COOKIE_SAME_SITE, "Lax, Strict or None", |text| match text {
            "Lax" => Some(SameSite::Lax),
            "Strict" => Some(SameSite::Strict),
            "None" => Some(SameSite::None),
            _ => None,
        });
        if self.is_true(annotation::DISABLE_COOKIES) {
            return None;
        }
        let name = named.or(settings.cookie_name.clone()).unwrap_or_else(|| cookie::name(facts.namespace, facts.name));
        let is_secure = matches!(facts.termination, Termination::Edge | Termination::Reencrypt)
            && facts.insecure != Insecure::Allow;
        Some(Cookie { name, secure: is_secure.then(|| same_site.unwrap_or_default()) })
    }

    fn timeouts(&mut self, is_passthrough: bool, settings: &Settings) -> Timeouts {
        let timeout = self.time(annotation::TIMEOUT);
        let tunnel = self.time(annotation::TIMEOUT_TUNNEL).or(timeout.filter(|_| is_passthrough));
        Timeouts {
            connect: settings.connect_timeout,
            server: timeout.filter(|_| !is_passthrough).unwrap_or(settings.server_timeout),
            tunnel: tunnel.unwrap_or(settings.tunnel_timeout),
        }
    }

    fn allow_list(&mut self) -> AllowList {
        let filled = |name: &&'static str| self.annotations.get(*name).is_some_and(|value| !value.is_empty());
        let Some(name) = [annotation::ALLOW_LIST, annotation::ALLOW_LIST_LEGACY].iter().find(|name| filled(name))
        else {
            return AllowList::Everybody;
        };
        let mut ranges = Vec::new();
        for entry in self.annotations[*name].split_whitespace() {
            match entry.parse::<IpNet>().or_else(|_| entry.parse::<IpAddr>().map(IpNet::from)) {
                Ok(range) => ranges.push(range),
                Err(_) => self.note(name, format!("{entry:?} is not an address or range: it admits nobody")),
            }
        }
        if ranges.is_empty() {
            self.note(name, "no address or range is in it: nobody is admitted".to_owned());
        }
        AllowList::Only(ranges)
    }

    fn limits(&mut self, is_passthrough: bool) -> Option<Limits> {
        if !self.is_true(annotation::LIMITS) {
            return None;
        }
        let limits = Limits {
            concurrent: self.number(annotation::LIMIT_CONCURRENT),
            connections: self.number(annotation::LIMIT_CONNECTIONS),
            requests: self.number(annotation::LIMIT_REQUESTS).filter(|_| !is_passthrough),
        };
        (!limits.is_empty()).then_some(limits)
    }
}

/// As Go's strconv.ParseBool reads it.
pub(super) fn boolean(text: &str) -> Option<bool> {
    match text {
        "1" | "t" | "T" | "true" | "TRUE" | "True" => Some(true),
        "0" | "f" | "F" | "false" | "FALSE" | "False" => Some(false),
        _ => None,
    }
}

/// `max-age` with a number, and `includeSubDomains` and `preload` as often as one likes, without regard to case: parted
/// by semicolons, with blanks around them.
fn hsts(text: &str) -> Option<Arc<str>> {
    let mut ages = 0;
    for directive in text.split(';') {
        let directive = directive.trim().to_ascii_lowercase();
        if let Some(age) = directive.strip_prefix("max-age") {
            let age = age.trim_start().strip_prefix('=')?.trim_start();
            let digits = age.strip_prefix('"').and_then(|age| age.strip_suffix('"')).unwrap_or(age);
            let is_number = !digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_digit());
            is_number.then_some(())?;
            ages += 1;
        } else if directive != "includesubdomains" && directive != "preload" {
            return None;
        }
    }
    (ages == 1 && text == text.trim()).then(|| text.into())
}

// === impl Balance, impl Forwarded ===

impl Balance {
    /// As an annotation names it.
    pub fn parse(text: &str) -> Option<Self> {
        match text {
            "roundrobin" => Some(Self::RoundRobin),
            "leastconn" => Some(Self::LeastConnections),
            "source" => Some(Self::Source),
            "random" => Some(Self::Random),
            _ => None,
        }
    }
}

impl Forwarded {
    /// As an annotation names it.
    pub fn parse(text: &str) -> Option<Self> {
        match text {
            "append" => Some(Self::Append),
            "replace" => Some(Self::Replace),
            "if-none" => Some(Self::IfNone),
            "never" => Some(Self::Never),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests;
