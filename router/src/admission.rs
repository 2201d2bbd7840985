//! Which routes are served, and why others are not.
//!
//! A route is admitted in stages: is it this router's ([`Settings::selector`]), which host is it for, may it have that
//! host at all, is nobody older there ([`judge`](judge::judge)), is what it says of TLS and header fields sound. Reasons
//! and messages are those of the OpenShift router.

mod claim;
mod hosts;
mod ingress;
pub(crate) mod judge;
mod validate;

use crate::config::Settings;
use std::{fmt, sync::Arc};

pub(crate) use claim::{Claim, HostKey, PortChoice};
pub(crate) use ingress::{Classes, claims_of};
pub(crate) use validate::{Authorities, Validated, validate};

pub use hosts::is_host;

/// Why a route is not served.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rejection {
    /// For machines.
    pub reason: Reason,
    /// For people.
    pub message: String,
}

/// Why a route is not served, in a word.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Reason {
    /// It has no host, and gets none.
    NoHostValue,
    /// Its host is none.
    InvalidHost,
    /// Somebody older has its host or path.
    HostAlreadyClaimed,
    /// The operator does not want it: its domain, or wildcards.
    RouteNotAdmitted,
    /// What it says of TLS or header fields is not sound.
    ExtendedValidationFailed,
    /// The Secret with its certificate is not there, or not of the type.
    ExternalCertificateValidationFailed,
    /// The Secret with its certificate was there, and is not any more.
    ExternalCertificateSecretDeleted,
}

impl Rejection {
    pub(crate) fn new(reason: Reason, message: impl Into<String>) -> Self {
        Self { reason, message: message.into() }
    }
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self, f)
    }
}

/// The stages that need no other object: whose host it is to be, and whether it may be.
pub(crate) fn check_host(claim: &Claim, settings: &Settings) -> Result<(), Rejection> {
    hosts::check_domain(&claim.host, settings)?;
    hosts::check_wildcard(claim, settings)?;
    hosts::check_name(&claim.host)
}

/// The host that a route is for; empty: none.
pub(crate) fn host_of(namespace: &str, name: &str, host: &str, subdomain: &str, settings: &Settings) -> Arc<str> {
    hosts::host_of(namespace, name, host, subdomain, settings)
}
