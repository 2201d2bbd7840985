use super::*;
use rcgen::{BasicConstraints, CertificateParams, DistinguishedName, DnType, IsCa, Issuer, KeyPair};

fn params(names: &[&str], common: &str) -> CertificateParams {
    let names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
    let mut params = CertificateParams::new(names).expect("names");
    params.distinguished_name = DistinguishedName::new();
    params.distinguished_name.push(DnType::CommonName, common);
    params
}

/// A certificate that signed itself, and its key.
fn own(names: &[&str], common: &str) -> (String, String) {
    let key = KeyPair::generate().expect("a key");
    let certificate = params(names, common).self_signed(&key).expect("a certificate");
    (certificate.pem(), key.serialize_pem())
}

/// An authority, a certificate that it signed, and that one's key.
fn signed(authority_name: &str) -> (String, String, String) {
    let authority_key = KeyPair::generate().expect("a key");
    let mut authority = params(&[], authority_name);
    authority.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let authority_pem = authority.self_signed(&authority_key).expect("an authority").pem();
    let key = KeyPair::generate().expect("a key");
    let issuer = Issuer::new(authority, authority_key);
    let leaf = params(&["a.example.com"], "leaf").signed_by(&key, &issuer).expect("a certificate");
    (authority_pem, leaf.pem(), key.serialize_pem())
}

fn read(chain: &str, key: Option<&str>, issuers: &str) -> Result<Certificate, CertificateFault> {
    Certificate::read(chain.as_bytes(), key.map(str::as_bytes), issuers.as_bytes())
}

fn fault(chain: &str, key: Option<&str>, issuers: &str) -> CertificateFault {
    read(chain, key, issuers).err().expect("a fault")
}

#[test]
fn a_pair_is_read_wherever_its_key_is() {
    let (certificate, key) = own(&["a.example.com"], "a");
    let both = format!("{certificate}{key}");
    let reversed = format!("{key}{certificate}");
    for (chain, key) in [(&certificate, Some(&*key)), (&both, None), (&reversed, None), (&both, Some(&*key))] {
        let read = read(chain, key, "").unwrap_or_else(|error| panic!("{error}"));
        assert_eq!(read.certified().cert.len(), 1);
    }
    let ids = [read(&both, None, "").map(|read| read.id), read(&both, None, "").map(|read| read.id)];
    assert_ne!(ids[0], ids[1], "each has an id of its own");
}

#[test]
fn what_is_wrong_is_told_without_a_part_of_it() {
    let ((certificate, key), (_, other_key)) = (own(&["a.example.com"], "a"), own(&["b.example.com"], "b"));
    let (authority, leaf, leaf_key) = signed("authority");
    let broken = certificate.replace("MII", "AAA");
    let garbled = "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n";
    let rows = [
        (fault("", Some(&key), ""), "no certificate"),
        (fault("text", Some(&key), ""), "no certificate"),
        (fault(&key, Some(&key), ""), "no certificate"),
        (fault(&certificate, None, ""), "no key"),
        (fault(&certificate, Some(""), ""), "no key"),
        (fault(&certificate, Some(&certificate), ""), "no key"),
        (fault(&certificate, Some(&other_key), ""), "does not belong"),
        (fault(&format!("{authority}{leaf}"), Some(&leaf_key), ""), "does not belong"),
        (fault(garbled, Some(&key), ""), "cannot be read"),
        (fault(&broken, Some(&key), ""), "cannot be read"),
        (fault(&certificate, Some(&key), &authority), "unknown authority"),
        (fault(&leaf, Some(&leaf_key), "text"), "no certificate"),
    ];
    for (error, part) in rows {
        let message = error.to_string();
        assert!(message.contains(part), "{message:?} has {part:?}");
        assert!(!message.contains("MII") && !message.contains("AAA"), "{message}");
    }
}

#[test]
fn issuers_are_checked_and_sent() {
    let (authority, leaf, key) = signed("authority");
    let with_issuer = read(&leaf, Some(&key), &authority).unwrap_or_else(|error| panic!("{error}"));
    assert_eq!(with_issuer.certified().cert.len(), 2, "the leaf, then who signed it");
    let chain = format!("{leaf}{authority}");
    let twice = read(&chain, Some(&key), &authority).unwrap_or_else(|error| panic!("{error}"));
    assert_eq!(twice.certified().cert.len(), 2, "nothing is sent twice");
    let (own, own_key) = own(&["a.example.com"], "a");
    assert!(read(&own, Some(&own_key), &own).is_ok(), "it is its own authority");
    // A name is not enough.
    let (impostor, ..) = signed("authority");
    assert!(matches!(fault(&leaf, Some(&key), &impostor), CertificateFault::Unverified(_)));
}

#[test]
fn names_that_are_covered() {
    let (certificate, key) = own(&["a.example.com", "*.wild.com", "Upper.com"], "cn.example.com");
    let named = read(&certificate, Some(&key), "").unwrap_or_else(|error| panic!("{error}"));
    for (name, covered) in [
        ("a.example.com", true),
        ("b.example.com", false),
        ("x.wild.com", true),
        ("x.y.wild.com", false),
        ("wild.com", false),
        ("upper.com", true),
        ("cn.example.com", false),
    ] {
        assert_eq!(named.covers(name), covered, "{name}");
    }
    let (certificate, key) = own(&[], "cn.example.com");
    let common = read(&certificate, Some(&key), "").unwrap_or_else(|error| panic!("{error}"));
    assert!(common.covers("cn.example.com"), "a common name counts where there is no other");
}

#[test]
fn a_certificate_that_has_expired_is_taken_and_known() {
    let key = KeyPair::generate().expect("a key");
    let mut old = params(&["a.example.com"], "a");
    old.not_before = rcgen::date_time_ymd(2001, 1, 1);
    old.not_after = rcgen::date_time_ymd(2002, 1, 1);
    let pem = old.self_signed(&key).expect("a certificate").pem();
    let read = read(&pem, Some(&key.serialize_pem()), "").unwrap_or_else(|error| panic!("{error}"));
    let (year_2000, year_2001, year_2003) = (946_684_800, 980_000_000, 1_041_379_200);
    assert!(read.is_out_of_date(year_2000) && !read.is_out_of_date(year_2001) && read.is_out_of_date(year_2003));
    assert_eq!(read.holds_until(), 1_009_843_200);
}

/// Signed with SHA-1 and MD5 by an authority, and with SHA-1 by itself (openssl x509 -sha1, -md5). There are no keys: what
/// is weak is refused before one is looked at.
#[test]
fn weak_signatures_are_refused_unless_it_signed_itself() {
    const SHA1: &str = "\
-----BEGIN CERTIFICATE-----
MIIBHzCBxwIUco01YhDFXchm7G7N11MBnZMXQp8wCQYHKoZIzj0EATANMQswCQYD
VQQDDAJjYTAgFw0yNjExMjIwNDAyMjNaGA8yMTI2MTAyOTA0MDIyM1owGDEWMBQG
A1UEAwwNYS5leGFtcGxlLmNvbTBZMBMGByqGSM49AgEGCCqGSM49AwEHA0IABBL0
92AtObRppY+zq2ZuhPollcEgY9vOUg6p7amPeQFhHBXh5wBERollQPRIrLFWEk+7
yfCMCqXcSGOZS250RRUwCQYHKoZIzj0EAQNIADBFAiBc016/VRPOoVbDcsBTx0Um
ORhATRDPZcAYRhEy8o6eawIhAIWFfu6k+DHsjOrFJqIS+OGeJMKmFYbWBHStb5Jo
nVlI
-----END CERTIFICATE-----
";
    const MD5: &str = "\
-----BEGIN CERTIFICATE-----
MIIBYTCBywIUPX/gwIwXYASMv7G4Bb6286npxoswDQYJKoZIhvcNAQEEBQAwDTEL
MAkGA1UEAwwCY2EwIBcNMjYxMTIyMDQwMjIzWhgPMjEyNjEwMjkwNDAyMjNaMBgx
FjAUBgNVBAMMDWEuZXhhbXBsZS5jb20wWTATBgcqhkjOPQIBBggqhkjOPQMBBwNC
AAQS9PdgLTm0aaWPs6tmboT6JZXBIGPbzlIOqe2pj3kBYRwV4ecAREaJZUD0SKyx
VhJPu8nwjAql3EhjmUtudEUVMA0GCSqGSIb3DQEBBAUAA4GBAC1Ceusv9gYFS6bE
GFHd61lMh4Vp1QyUEcDNi1oiOwvkOP6wYtu7CaTvLKiDIpdRvW09afofYbCsVHgG
MKP3jwvsczxSg1qqXUPZaebB4OvaHSsiV6/3ghxmtErCDGLaB7DknJI6ZHXoAI8Z
VDtkCRtt/PnZL4qr5Ll2tdkfTMsG
-----END CERTIFICATE-----
";
    const OWN: &str = "\
-----BEGIN CERTIFICATE-----
MIIBcDCCARigAwIBAgIUFWRtNKKFs3a6qHu0PRiBP14poUMwCQYHKoZIzj0EATAO
MQwwCgYDVQQDDANvd24wIBcNMjYxMTIyMDQwMjIzWhgPMjEyNjEwMjkwNDAyMjNa
MA4xDDAKBgNVBAMMA293bjBZMBMGByqGSM49AgEGCCqGSM49AwEHA0IABBL092At
ObRppY+zq2ZuhPollcEgY9vOUg6p7amPeQFhHBXh5wBERollQPRIrLFWEk+7yfCM
CqXcSGOZS250RRWjUzBRMB0GA1UdDgQWBBQFamx5quX9KSmaNxNItmDL/QmW0DAf
BgNVHSMEGDAWgBQFamx5quX9KSmaNxNItmDL/QmW0DAPBgNVHRMBAf8EBTADAQH/
MAkGByqGSM49BAEDRwAwRAIgLXv5meVFUxB/qA4jNEYLWl129UzQu5C7YrCeUDik
5VMCIH5Tknc0q7c/TInwHEJBDHT3V4t8kxrff9L7trzWkdY8
-----END CERTIFICATE-----
";
    assert_eq!(fault(SHA1, None, "").to_string(), "router does not support CA-signed certs using SHA1");
    assert_eq!(fault(MD5, None, "").to_string(), "router does not support CA-signed certs using MD5");
    assert_eq!(fault(OWN, None, ""), CertificateFault::NoKey);
    assert_eq!(read_authorities(SHA1.as_bytes()), Err(CertificateFault::WeakSignature("SHA1")));
    assert!(read_authorities(OWN.as_bytes()).is_ok(), "roots may be as old as they are");
}
