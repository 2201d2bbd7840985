//! Certificates with their keys.

use rustls::{
    crypto::ring::sign::any_supported_type,
    pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject},
    sign::CertifiedKey,
};
use std::sync::{
    Arc,
    atomic::{AtomicU64, Ordering::Relaxed},
};
use x509_parser::prelude::{FromDer, GeneralName, X509Certificate};

/// A certificate with its chain and its key, checked: the pair fits. Neither shown nor copied. The key's text stays with
/// the object it came from, which overwrites it; here is only what signs.
pub struct Certificate {
    /// Tells it from all others that this process ever had: what is made of it can be kept under this.
    pub id: u64,
    certified: Arc<CertifiedKey>,
    names: Names,
    validity: Validity,
}

/// What is wrong with a certificate or its key. The messages never have a part of either.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CertificateFault {
    /// No certificate.
    #[error("there is no certificate in it (is it PEM, and whole?)")]
    NoCertificate,
    /// No key.
    #[error("no key specified")]
    NoKey,
    /// One that is none.
    #[error("the certificate cannot be read: {0}")]
    Unreadable(String),
    /// A key that is none, or of a kind that is not supported.
    #[error("the key cannot be used: {0}")]
    UnusableKey(String),
    /// Two that have nothing to do with each other.
    #[error("the key does not belong to the first certificate (does the leaf come first?)")]
    Mismatch,
    /// A signature that is worth nothing any more.
    #[error("router does not support CA-signed certs using {0}")]
    WeakSignature(&'static str),
    /// The issuer that the route names has not signed it.
    #[error("error verifying certificate: {0}")]
    Unverified(String),
}

/// The names that a certificate is for.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Names(Vec<Box<str>>);

/// When a certificate holds, in seconds since 1970.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Validity {
    from: i64,
    to: i64,
}

// === impl Certificate ===

impl Certificate {
    /// Reads a certificate with its chain, the leaf first, and its key, which may also be among `chain`. `issuers` is
    /// sent after the chain; where it has anything, the leaf must be signed by one of them (or be one of them).
    pub fn read(chain: &[u8], key: Option<&[u8]>, issuers: &[u8]) -> Result<Self, CertificateFault> {
        let certificates = read_chain(chain)?;
        let [leaf, ..] = &certificates[..] else { return Err(CertificateFault::NoCertificate) };
        check_signatures(&certificates)?;
        let authorities = if issuers.is_empty() { Vec::new() } else { read_authorities(issuers)? };
        let parsed = parse(leaf)?;
        if !authorities.is_empty() {
            check_issuer(&parsed, leaf, &authorities)?;
        }
        let key = [Some(chain), key].into_iter().flatten().find_map(key_in).ok_or(CertificateFault::NoKey)?;
        let key = any_supported_type(&key).map_err(|error| CertificateFault::UnusableKey(error.to_string()))?;
        if key.public_key().is_some_and(|public| *public != *parsed.public_key().raw) {
            return Err(CertificateFault::Mismatch);
        }
        let validity =
            Validity { from: parsed.validity().not_before.timestamp(), to: parsed.validity().not_after.timestamp() };
        let names = Names::of(&parsed);
        let rest: Vec<_> = authorities.into_iter().filter(|authority| !certificates.contains(authority)).collect();
        static IDS: AtomicU64 = AtomicU64::new(1);
        let chain = certificates.into_iter().chain(rest).collect();
        let certified = Arc::new(CertifiedKey::new(chain, key));
        Ok(Self { id: IDS.fetch_add(1, Relaxed), certified, names, validity })
    }

    /// What a handshake needs.
    pub fn certified(&self) -> &Arc<CertifiedKey> {
        &self.certified
    }

    /// Whether it is for the host `name` (lower-case). `*` stands for one label. The subject's common name counts only
    /// where there are no alternative names.
    pub fn covers(&self, name: &str) -> bool {
        self.names.cover(name)
    }

    /// Whether it has expired, or holds only later, at `now` (seconds since 1970). It is served all the same: the client
    /// may judge.
    pub fn is_out_of_date(&self, now: i64) -> bool {
        now < self.validity.from || now > self.validity.to
    }

    /// The last second (since 1970) at which it holds.
    pub fn holds_until(&self) -> i64 {
        self.validity.to
    }
}

// === impl Names ===

impl Names {
    fn of(certificate: &X509Certificate<'_>) -> Self {
        let alternatives = certificate.subject_alternative_name().ok().flatten();
        let names: Vec<&str> = match &alternatives {
            Some(alternatives) => alternatives.value.general_names.iter().filter_map(dns_name).collect(),
            None => certificate.subject().iter_common_name().filter_map(|name| name.as_str().ok()).collect(),
        };
        Self(names.into_iter().map(|name| name.to_ascii_lowercase().into()).collect())
    }

    fn cover(&self, host: &str) -> bool {
        let domain = host.split_once('.').map(|(_, domain)| domain);
        self.0.iter().any(|name| match name.strip_prefix("*.") {
            Some(suffix) => domain == Some(suffix),
            None => **name == *host,
        })
    }
}

fn dns_name<'a>(name: &GeneralName<'a>) -> Option<&'a str> {
    match name {
        GeneralName::DNSName(name) => Some(name),
        _ => None,
    }
}

/// Reads certificates of authorities: there must be at least one, and each must be readable and worth something.
pub(crate) fn read_authorities(pem: &[u8]) -> Result<Vec<CertificateDer<'static>>, CertificateFault> {
    let certificates = read_chain(pem)?;
    if certificates.is_empty() {
        return Err(CertificateFault::NoCertificate);
    }
    check_signatures(&certificates)?;
    Ok(certificates)
}

fn read_chain(pem: &[u8]) -> Result<Vec<CertificateDer<'static>>, CertificateFault> {
    let unreadable = |error: rustls::pki_types::pem::Error| CertificateFault::Unreadable(error.to_string());
    CertificateDer::pem_slice_iter(pem).map(|certificate| certificate.map_err(unreadable)).collect()
}

fn key_in(pem: &[u8]) -> Option<PrivateKeyDer<'static>> {
    PrivateKeyDer::from_pem_slice(pem).ok()
}

fn parse<'a>(certificate: &'a CertificateDer<'_>) -> Result<X509Certificate<'a>, CertificateFault> {
    let parsed =
        X509Certificate::from_der(certificate).map_err(|error| CertificateFault::Unreadable(error.to_string()));
    parsed.map(|(_, certificate)| certificate)
}

/// Every certificate but self-signed ones must be signed with something that still proves anything.
fn check_signatures(certificates: &[CertificateDer<'_>]) -> Result<(), CertificateFault> {
    for certificate in certificates {
        let certificate = parse(certificate)?;
        let digest = match certificate.signature_algorithm.algorithm.to_id_string().as_str() {
            "1.2.840.113549.1.1.5" | "1.2.840.10045.4.1" | "1.2.840.10040.4.3" => "SHA1",
            "1.2.840.113549.1.1.4" => "MD5",
            "1.2.840.113549.1.1.2" => "MD2",
            _ => continue,
        };
        if !is_self_signed(&certificate) {
            return Err(CertificateFault::WeakSignature(digest));
        }
    }
    Ok(())
}

/// As OpenSSL sees it: it is its own issuer, and its key identifiers do not say otherwise.
fn is_self_signed(certificate: &X509Certificate<'_>) -> bool {
    use x509_parser::extensions::ParsedExtension::{AuthorityKeyIdentifier, SubjectKeyIdentifier};
    let (mut authority, mut subject) = (None, None);
    for extension in certificate.extensions() {
        match extension.parsed_extension() {
            AuthorityKeyIdentifier(found) => authority = found.key_identifier.as_ref().map(|id| id.0),
            SubjectKeyIdentifier(found) => subject = Some(found.0),
            _ => {}
        }
    }
    certificate.issuer().as_raw() == certificate.subject().as_raw() && (authority.is_none() || authority == subject)
}

/// The leaf must be one of the authorities or be signed by one. Dates do not matter here.
fn check_issuer(
    leaf: &X509Certificate<'_>,
    der: &CertificateDer<'_>,
    authorities: &[CertificateDer<'_>],
) -> Result<(), CertificateFault> {
    if authorities.contains(der) {
        return Ok(());
    }
    for authority in authorities {
        let authority = parse(authority)?;
        let is_issuer = leaf.issuer().as_raw() == authority.subject().as_raw();
        if is_issuer && leaf.verify_signature(Some(authority.public_key())).is_ok() {
            return Ok(());
        }
    }
    let reason = "certificate signed by unknown authority: caCertificate has none that signed it";
    Err(CertificateFault::Unverified(reason.to_owned()))
}

#[cfg(test)]
mod tests;
