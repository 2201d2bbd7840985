//! Secrets that hold certificates, and how private keys are held.

use super::{
    meta::ObjectName,
    object::{self, FieldError},
    service::fault,
    wire::{DnsSubdomain, Meta, or_default},
};
use base64::{Engine, prelude::BASE64_STANDARD};
use serde::Deserialize;
use std::{collections::BTreeMap, fmt, sync::Arc};
use zeroize::Zeroizing;

/// A Secret: what routers read of it.
#[derive(PartialEq, Eq)]
pub struct Secret {
    /// metadata.namespace.
    pub namespace: Arc<str>,
    /// metadata.name.
    pub name: Arc<str>,
    /// metadata.uid; empty when the object carries none.
    pub uid: Arc<str>,
    /// type: [`Secret::TLS`] for a certificate with its key.
    pub secret_type: Arc<str>,
    /// data `tls.crt`: a certificate with its chain, PEM.
    pub certificate: Option<Sensitive>,
    /// data `tls.key`: its key, PEM.
    pub key: Option<Sensitive>,
    /// data `ca.crt`: certificates of authorities, PEM.
    pub authorities: Option<Vec<u8>>,
}

/// Text that may have a private key in it. It is neither shown nor copied nor written, and overwritten when it is
/// dropped.
#[derive(PartialEq, Eq)]
pub struct Sensitive(Zeroizing<Vec<u8>>);

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Wire {
    metadata: Meta<DnsSubdomain>,
    #[serde(default)]
    r#type: Option<Arc<str>>,
    #[serde(default, deserialize_with = "or_default")]
    data: Data,
    #[serde(default, deserialize_with = "or_default")]
    string_data: StringData,
}

/// Of all the data only what is read: what else a Secret has is none of ours.
#[derive(Default, Deserialize)]
#[serde(default)]
struct Data {
    #[serde(rename = "tls.crt", deserialize_with = "decoded")]
    certificate: Option<Sensitive>,
    #[serde(rename = "tls.key", deserialize_with = "decoded")]
    key: Option<Sensitive>,
    #[serde(rename = "ca.crt", deserialize_with = "decoded")]
    authorities: Option<Sensitive>,
}

#[derive(Default, Deserialize)]
#[serde(transparent)]
struct StringData(BTreeMap<String, Sensitive>);

// === impl Secret ===

impl Secret {
    /// The type of Secrets that have a certificate with its key.
    pub const TLS: &str = "kubernetes.io/tls";

    pub(super) fn parse(json: &str, seed: &str) -> Result<Self, FieldError> {
        let Wire { metadata, r#type, mut data, mut string_data } = object::decode(json)?;
        let mut overwrite = |name: &str, value: &mut Option<Sensitive>| {
            if let Some(text) = string_data.0.remove(name) {
                *value = Some(text);
            }
        };
        overwrite("tls.crt", &mut data.certificate);
        overwrite("tls.key", &mut data.key);
        overwrite("ca.crt", &mut data.authorities);
        let secret_type = r#type.unwrap_or_else(|| Arc::from("Opaque"));
        // The API asks it of them, too.
        if *secret_type == *Self::TLS {
            for (name, value) in [("tls.crt", &data.certificate), ("tls.key", &data.key)] {
                if value.is_none() {
                    return Err(fault(format!("data[{name}]"), format!("it is missing: a {} has both", Self::TLS)));
                }
            }
        }
        Ok(Self {
            namespace: metadata.namespace(),
            name: metadata.name(seed)?,
            uid: metadata.uid(),
            secret_type,
            certificate: data.certificate,
            key: data.key,
            authorities: data.authorities.map(|authorities| authorities.expose().to_vec()),
        })
    }

    /// Its namespace and name.
    pub fn key(&self) -> ObjectName {
        ObjectName { namespace: self.namespace.clone(), name: self.name.clone() }
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Secret")
            .field("namespace", &self.namespace)
            .field("name", &self.name)
            .field("secret_type", &self.secret_type)
            .finish_non_exhaustive()
    }
}

// === impl Sensitive ===

impl Sensitive {
    /// The text.
    pub fn expose(&self) -> &[u8] {
        &self.0
    }

    /// Whether it is empty.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl From<&str> for Sensitive {
    fn from(text: &str) -> Self {
        Self(Zeroizing::new(text.as_bytes().to_vec()))
    }
}

/// A text field that may have a key in it; empty is none.
impl<'de> Deserialize<'de> for Sensitive {
    fn deserialize<D: serde::Deserializer<'de>>(decoder: D) -> Result<Self, D::Error> {
        String::deserialize(decoder).map(|text| Self(Zeroizing::new(text.into_bytes())))
    }
}

/// The error does not repeat the text.
fn decoded<'de, D: serde::Deserializer<'de>>(decoder: D) -> Result<Option<Sensitive>, D::Error> {
    let Some(text) = Option::<Sensitive>::deserialize(decoder)? else { return Ok(None) };
    let compact = Zeroizing::new(text.0.iter().copied().filter(|byte| !byte.is_ascii_whitespace()).collect::<Vec<_>>());
    let bytes = BASE64_STANDARD.decode(&*compact).map_err(|_| serde::de::Error::custom("this is not base64"))?;
    Ok(Some(Sensitive(Zeroizing::new(bytes))))
}

#[cfg(test)]
mod tests;
