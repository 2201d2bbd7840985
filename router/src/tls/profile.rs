//! Which ciphers, groups and versions are taken.

use std::sync::Arc;

use rustls::{
    CipherSuite, SupportedCipherSuite,
    crypto::{CryptoProvider, SupportedKxGroup, ring},
    version::{TLS12, TLS13},
};

use super::{TlsFault, Versions};
use crate::config::{Ciphers, Settings, TlsVersion};

/// What is taken.
#[derive(Clone, Debug)]
pub struct Profile {
    provider: Arc<CryptoProvider>,
    versions: Versions,
}

const BOTH: Versions = &[&TLS12, &TLS13];
const ONLY_12: Versions = &[&TLS12];
const ONLY_13: Versions = &[&TLS13];

/// Mozilla's intermediate profile (version 5), up to TLS 1.2.
const INTERMEDIATE: [&str; 9] = [
    "ECDHE-ECDSA-AES128-GCM-SHA256",
    "ECDHE-RSA-AES128-GCM-SHA256",
    "ECDHE-ECDSA-AES256-GCM-SHA384",
    "ECDHE-RSA-AES256-GCM-SHA384",
    "ECDHE-ECDSA-CHACHA20-POLY1305",
    "ECDHE-RSA-CHACHA20-POLY1305",
    "DHE-RSA-AES128-GCM-SHA256",
    "DHE-RSA-AES256-GCM-SHA384",
    "DHE-RSA-CHACHA20-POLY1305",
];

/// Names that OpenSSL and the standard have for the suites that rustls does.
const NAMES: [(CipherSuite, &str, &str); 9] = [
    (CipherSuite::TLS13_AES_128_GCM_SHA256, "TLS_AES_128_GCM_SHA256", "TLS_AES_128_GCM_SHA256"),
    (CipherSuite::TLS13_AES_256_GCM_SHA384, "TLS_AES_256_GCM_SHA384", "TLS_AES_256_GCM_SHA384"),
    (CipherSuite::TLS13_CHACHA20_POLY1305_SHA256, "TLS_CHACHA20_POLY1305_SHA256", "TLS_CHACHA20_POLY1305_SHA256"),
    (
        CipherSuite::TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256,
        "ECDHE-ECDSA-AES128-GCM-SHA256",
        "TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256",
    ),
    (
        CipherSuite::TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256,
        "ECDHE-RSA-AES128-GCM-SHA256",
        "TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256",
    ),
    (
        CipherSuite::TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384,
        "ECDHE-ECDSA-AES256-GCM-SHA384",
        "TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384",
    ),
    (
        CipherSuite::TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384,
        "ECDHE-RSA-AES256-GCM-SHA384",
        "TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384",
    ),
    (
        CipherSuite::TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256,
        "ECDHE-ECDSA-CHACHA20-POLY1305",
        "TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256",
    ),
    (
        CipherSuite::TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305_SHA256,
        "ECDHE-RSA-CHACHA20-POLY1305",
        "TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305_SHA256",
    ),
];

// === impl Profile ===

impl Profile {
    /// As the settings have it; what rustls cannot do is left out and told.
    pub fn new(settings: &Settings) -> Result<Self, TlsFault> {
        for missing in missing_suites(settings) {
            tracing::warn!(cipher = %missing, "a cipher that is asked for is left out: rustls has none like it");
        }
        let modern = settings.ciphers == Ciphers::Modern;
        let wants_12 = settings.tls_min == TlsVersion::V1_2 && !modern;
        let wants_13 = settings.tls_max == TlsVersion::V1_3;
        let mut provider = ring::default_provider();
        provider.cipher_suites.retain(|suite| is_wanted(settings, suite));
        let is_13 = |suite: &SupportedCipherSuite| matches!(suite, SupportedCipherSuite::Tls13(_));
        let (has_13, has_12) = (
            wants_13 && provider.cipher_suites.iter().any(is_13),
            wants_12 && !provider.cipher_suites.iter().all(is_13),
        );
        provider.cipher_suites.retain(|suite| if is_13(suite) { has_13 } else { has_12 });
        if (wants_12 || wants_13) && provider.cipher_suites.is_empty() {
            return Err(TlsFault::NoCipher(format!("{:?} and {:?}", settings.ciphers, settings.cipher_suites)));
        }
        provider.kx_groups = groups(settings)?;
        let versions: Versions = match (has_12, has_13) {
            (true, true) => BOTH,
            (true, false) => ONLY_12,
            (false, true) => ONLY_13,
            (false, false) => return Err(TlsFault::NoVersion),
        };
        Ok(Self { provider: Arc::new(provider), versions })
    }

    /// For rustls.
    pub fn provider(&self) -> &Arc<CryptoProvider> {
        &self.provider
    }

    /// For rustls.
    pub fn versions(&self) -> Versions {
        self.versions
    }
}

/// The ciphers that the settings ask for and rustls does not have, by OpenSSL's names.
pub fn missing_suites(settings: &Settings) -> Vec<String> {
    let old = match &settings.ciphers {
        Ciphers::Modern => Vec::new(),
        Ciphers::Intermediate => INTERMEDIATE.iter().map(ToString::to_string).collect(),
        Ciphers::List(names) => names.clone(),
    };
    let asked = old.into_iter().chain(settings.cipher_suites.iter().cloned());
    asked.filter(|asked| !NAMES.iter().any(|(_, openssl, iana)| is_named(asked, openssl, iana))).collect()
}

fn is_named(asked: &str, openssl: &str, iana: &str) -> bool {
    asked.eq_ignore_ascii_case(openssl) || asked.eq_ignore_ascii_case(iana)
}

fn is_wanted(settings: &Settings, suite: &SupportedCipherSuite) -> bool {
    let Some((_, openssl, iana)) = NAMES.iter().find(|(id, ..)| *id == suite.suite()) else { return false };
    let is_in = |names: &[String]| names.iter().any(|asked| is_named(asked, openssl, iana));
    match (suite, &settings.ciphers) {
        (SupportedCipherSuite::Tls13(_), _) => settings.cipher_suites.is_empty() || is_in(&settings.cipher_suites),
        (_, Ciphers::List(names)) => is_in(names),
        (_, Ciphers::Modern) => false,
        (_, Ciphers::Intermediate) => true,
    }
}

fn groups(settings: &Settings) -> Result<Vec<&'static dyn SupportedKxGroup>, TlsFault> {
    let all = ring::default_provider().kx_groups;
    if settings.curves.is_empty() {
        return Ok(all);
    }
    let named = |name: &str| match name.to_ascii_lowercase().as_str() {
        "x25519" => Some(rustls::NamedGroup::X25519),
        "p-256" | "prime256v1" | "secp256r1" => Some(rustls::NamedGroup::secp256r1),
        "p-384" | "secp384r1" => Some(rustls::NamedGroup::secp384r1),
        _ => {
            tracing::warn!(group = name, "a group that is asked for is left out: it is not supported");
            None
        }
    };
    let asked: Vec<_> = settings.curves.iter().filter_map(|name| named(name)).collect();
    let found: Vec<_> =
        asked.iter().filter_map(|name| all.iter().find(|group| group.name() == *name).copied()).collect();
    if found.is_empty() { Err(TlsFault::NoGroup(settings.curves.join(", "))) } else { Ok(found) }
}

/// How OpenSSL calls a suite.
pub(super) fn openssl_name(suite: SupportedCipherSuite) -> String {
    let name = NAMES.iter().find(|(id, ..)| *id == suite.suite()).map(|(_, name, _)| *name);
    name.unwrap_or_default().to_owned()
}
