//! Text with rules: names, label keys and values, addresses. The rules are those of the Kubernetes API.

use ipnet::IpNet;
use serde::{Deserialize, Deserializer};
use std::{net::IpAddr, sync::Arc};

/// A name that DNS takes as a whole domain: lower-case labels joined by dots, at most 253 characters (RFC 1123).
#[derive(Deserialize)]
#[serde(try_from = "String")]
pub struct DnsSubdomain(Arc<str>);

/// A name that DNS takes as one label: at most 63 characters (RFC 1123).
#[derive(Deserialize)]
#[serde(try_from = "String")]
pub struct DnsLabel(Arc<str>);

/// The key of a label: a name, perhaps with a domain before it.
#[derive(Deserialize, PartialEq, Eq, PartialOrd, Ord)]
#[serde(try_from = "String")]
pub struct LabelKey(pub String);

/// The value of a label.
#[derive(Deserialize)]
#[serde(try_from = "String")]
pub struct LabelValue(pub String);

/// The name of a port: at most 15 characters (RFC 6335).
#[derive(Deserialize)]
#[serde(try_from = "String")]
pub struct PortName(pub Arc<str>);

/// An address that a pod or node can have.
#[derive(Clone, Copy, Deserialize)]
#[serde(try_from = "String")]
pub struct Address(pub IpAddr);

/// A subnet without host bits.
#[derive(Clone, Copy, Deserialize)]
#[serde(try_from = "String")]
pub struct Subnet(pub IpNet);

/// An absent, null or empty text is none, as for the API.
pub fn or_none<'de, D: Deserializer<'de>, T: TryFrom<String, Error = String>>(
    decoder: D,
) -> Result<Option<T>, D::Error> {
    let text = Option::<String>::deserialize(decoder)?.filter(|text| !text.is_empty());
    text.map(T::try_from).transpose().map_err(serde::de::Error::custom)
}

/// At most one of each family: an IPv4 and an IPv6.
pub fn one_a_family(are_ipv4: impl Iterator<Item = bool>, what: &str) -> Result<(), String> {
    let (mut v4, mut v6) = (0, 0);
    for is_ipv4 in are_ipv4 {
        *(if is_ipv4 { &mut v4 } else { &mut v6 }) += 1;
    }
    if v4 > 1 || v6 > 1 { Err(format!("{what} has more than one of a family")) } else { Ok(()) }
}

impl TryFrom<String> for DnsSubdomain {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        if text.len() > 253 || !text.split('.').all(is_dns_label) {
            let rule = "lower-case letters, digits, '-' and '.', at most 253, a letter or digit first and last";
            return Err(format!("{text:?} is not a name: {rule}"));
        }
        Ok(Self(text.into()))
    }
}

impl TryFrom<String> for DnsLabel {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        if text.len() > 63 || !is_dns_label(&text) {
            let rule = "lower-case letters, digits and '-', at most 63, a letter or digit first and last";
            return Err(format!("{text:?} is not a name: {rule}"));
        }
        Ok(Self(text.into()))
    }
}

impl TryFrom<String> for LabelKey {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        let (domain, name) = match text.split_once('/') {
            Some((domain, name)) => (Some(domain), name),
            None => (None, text.as_str()),
        };
        let domain_fits = domain.is_none_or(|domain| domain.len() <= 253 && domain.split('.').all(is_dns_label));
        if !domain_fits || name.is_empty() || !is_label_text(name) {
            return Err(format!(
                "{text:?} is not the key of a label: [domain/]name, the name at most 63 of A-Z a-z 0-9 - _ ."
            ));
        }
        Ok(Self(text))
    }
}

impl TryFrom<String> for LabelValue {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        if !is_label_text(&text) {
            let rule = "at most 63 of A-Z a-z 0-9 - _ ., a letter or digit first and last";
            return Err(format!("{text:?} is not the value of a label: {rule}"));
        }
        Ok(Self(text))
    }
}

impl TryFrom<String> for PortName {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        let fits = text.len() <= 15
            && is_dns_label(&text)
            && text.contains(|c: char| c.is_ascii_lowercase())
            && !text.contains("--");
        if !fits {
            return Err(format!("{text:?} is not the name of a port: at most 15 of a-z 0-9 -, a letter among them"));
        }
        Ok(Self(text.into()))
    }
}

impl TryFrom<String> for Address {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        let address: IpAddr = text.parse().map_err(|_| format!("{text:?} is not an address"))?;
        let is_mapped = matches!(address, IpAddr::V6(v6) if v6.to_ipv4_mapped().is_some());
        if is_mapped || address.is_unspecified() || address.is_loopback() || address.is_multicast() {
            return Err(format!("{text} is not an address that a pod or node can have"));
        }
        Ok(Self(address))
    }
}

impl TryFrom<String> for Subnet {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        let subnet: IpNet = text.parse().map_err(|_| format!("{text:?} is not a subnet like 10.128.2.0/23"))?;
        if subnet != subnet.trunc() {
            return Err(format!("{text} has host bits set: the subnet is {}", subnet.trunc()));
        }
        Ok(Self(subnet))
    }
}

impl AsRef<Arc<str>> for DnsSubdomain {
    fn as_ref(&self) -> &Arc<str> {
        &self.0
    }
}

impl AsRef<Arc<str>> for DnsLabel {
    fn as_ref(&self) -> &Arc<str> {
        &self.0
    }
}

fn is_dns_label(text: &str) -> bool {
    let inner = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
    !text.is_empty() && text.len() <= 63 && text.bytes().all(inner) && !text.starts_with('-') && !text.ends_with('-')
}

/// What label values and the names in label keys are made of; empty is fine.
fn is_label_text(text: &str) -> bool {
    let inner = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.');
    let ends = [text.as_bytes().first(), text.as_bytes().last()];
    text.len() <= 63 && text.bytes().all(inner) && ends.iter().flatten().all(|byte| byte.is_ascii_alphanumeric())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn accepts<T: TryFrom<String>>(text: &str) -> bool {
        T::try_from(text.to_owned()).is_ok()
    }

    #[test]
    fn names_follow_the_rules_of_the_api() {
        let (long_label, long_name) = ("a".repeat(63), vec!["a".repeat(63); 4].join("."));
        // text, subdomain, label, port name
        let rows = [
            ("web", true, true, true),
            ("web-1", true, true, true),
            ("web.shop", true, false, false),
            ("1", true, true, false),
            ("", false, false, false),
            ("-web", false, false, false),
            ("web-", false, false, false),
            ("Web", false, false, false),
            ("web_1", false, false, false),
            ("web..shop", false, false, false),
            ("a--b", true, true, false),
            ("http-metrics-80", true, true, true),
            ("http-metrics-808", true, true, false),
            ("wéb", false, false, false),
            (&long_label, true, true, false),
            (&long_label.replace('a', "aa"), false, false, false),
            (&long_name, false, false, false),
            (&long_name[3..], true, false, false),
        ];
        for (text, subdomain, label, port) in rows {
            assert_eq!(accepts::<DnsSubdomain>(text), subdomain, "subdomain {text:?}");
            assert_eq!(accepts::<DnsLabel>(text), label, "label {text:?}");
            assert_eq!(accepts::<PortName>(text), port, "port name {text:?}");
        }
    }

    #[test]
    fn labels_follow_the_rules_of_the_api() {
        let long = "a".repeat(64);
        // text, as a key, as a value
        let rows = [
            ("app", true, true),
            ("app.kubernetes.io/name", true, false),
            ("App_1.x", true, true),
            ("", false, true),
            ("/name", false, false),
            ("example.com/", false, false),
            ("a/b/c", false, false),
            ("Example.com/name", false, false),
            ("-x", false, false),
            ("x-", false, false),
            ("a b", false, false),
            (&long, false, false),
            (&long[1..], true, true),
        ];
        for (text, key, value) in rows {
            assert_eq!(accepts::<LabelKey>(text), key, "key {text:?}");
            assert_eq!(accepts::<LabelValue>(text), value, "value {text:?}");
        }
    }

    #[test]
    fn addresses_and_subnets() {
        let addresses = [
            ("10.128.0.2", true),
            ("fd01::2", true),
            ("169.254.1.1", true),
            ("0.0.0.0", false),
            ("127.0.0.1", false),
            ("224.0.0.1", false),
            ("::", false),
            ("::1", false),
            ("ff02::1", false),
            ("::ffff:10.0.0.1", false),
            ("010.0.0.1", false),
            ("10.0.0", false),
            ("host", false),
        ];
        for (text, fits) in addresses {
            assert_eq!(accepts::<Address>(text), fits, "address {text:?}");
        }
        let subnets = [
            ("10.128.2.0/23", true),
            ("10.128.3.0/23", false),
            ("fd01:0:0:1::/64", true),
            ("fd01::1/64", false),
            ("10.128.0.0/33", false),
            ("10.128.0.0", false),
        ];
        for (text, fits) in subnets {
            assert_eq!(accepts::<Subnet>(text), fits, "subnet {text:?}");
        }
    }
}
