//! What pods are told about a client's certificate: the X-SSL fields of the reference, made once a connection.

use base64::{Engine, engine::general_purpose::STANDARD};
use x509_parser::{prelude::*, time::ASN1Time};

use crate::http1::field;

/// The fields for a certificate (DER) that was verified, as lines. Empty where it cannot be read, which one that was
/// verified can.
pub(super) fn lines(der: &[u8]) -> Vec<u8> {
    let Ok((_, certificate)) = X509Certificate::from_der(der) else { return Vec::new() };
    let mut out = Vec::with_capacity(der.len() * 2 + 512);
    let sha1 = ring::digest::digest(&ring::digest::SHA1_FOR_LEGACY_USE_ONLY, der);
    let common_name = certificate.subject().iter_common_name().next().and_then(|name| name.as_str().ok());
    let rows = [
        ("X-SSL", "1".to_owned()),
        ("X-SSL-Client-Verify", "0".to_owned()),
        ("X-SSL-Client-Serial", quote(&hex(certificate.raw_serial()))),
        ("X-SSL-Client-Version", quote(&(certificate.version().0 + 1).to_string())),
        ("X-SSL-Client-SHA1", quote(&hex(sha1.as_ref()))),
        ("X-SSL-Client-DN", quote(&one_line(certificate.subject()))),
        ("X-SSL-Client-CN", quote(common_name.unwrap_or_default())),
        ("X-SSL-Issuer", quote(&one_line(certificate.issuer()))),
        ("X-SSL-Client-NotBefore", quote(&moment(certificate.validity().not_before))),
        ("X-SSL-Client-NotAfter", quote(&moment(certificate.validity().not_after))),
        ("X-SSL-Client-DER", quote(&STANDARD.encode(der))),
    ];
    for (name, value) in rows {
        field(&mut out, name.as_bytes(), value.as_bytes());
    }
    out
}

/// In quotes, what a quoted string must escape escaped. A name in a certificate is foreign: what no field may have is
/// left out.
fn quote(text: &str) -> String {
    let mut quoted = String::with_capacity(text.len() + 2);
    quoted.push('"');
    for letter in text.chars().filter(|letter| !letter.is_control()) {
        if matches!(letter, '"' | '\\') {
            quoted.push('\\');
        }
        quoted.push(letter);
    }
    quoted.push('"');
    quoted
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02X}")).collect()
}

/// As OpenSSL's one-line form has it: `/C=FR/O=Org/CN=me`.
fn one_line(name: &X509Name<'_>) -> String {
    let mut line = String::new();
    for attribute in name.iter_attributes() {
        let registry = x509_parser::objects::oid_registry();
        let short = x509_parser::objects::oid2abbrev(attribute.attr_type(), registry);
        let short = short.map_or_else(|_| attribute.attr_type().to_id_string(), str::to_owned);
        line.push_str(&format!("/{short}={}", attribute.as_str().unwrap_or_default()));
    }
    line
}

/// As in the certificate: `YYMMDDhhmmssZ`, with four digits of the year from 2050 on.
fn moment(time: ASN1Time) -> String {
    let time = time.to_datetime();
    let (date, clock) = (time.date(), time.time());
    let year = if date.year() < 2050 { format!("{:02}", date.year() % 100) } else { date.year().to_string() };
    let (month, day) = (u8::from(date.month()), date.day());
    format!("{year}{month:02}{day:02}{:02}{:02}{:02}Z", clock.hour(), clock.minute(), clock.second())
}
