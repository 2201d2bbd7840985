//! TLS to pods: whom a re-encrypt route believes.

use std::{
    cell::{Cell, RefCell},
    collections::HashMap,
    io,
    sync::Arc,
};

use rustls::{
    CertificateError, ClientConfig, DigitallySignedStruct, Error, SignatureScheme,
    client::{
        Resumption, WebPkiServerVerifier,
        danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier},
    },
    crypto::{CryptoProvider, verify_tls12_signature, verify_tls13_signature},
    pki_types::{CertificateDer, ServerName, UnixTime},
};

use super::{Profile, roots};
use crate::table::{DestinationTrust, Name};

/// What a handshake with a pod needs.
#[derive(Clone)]
pub struct Destination {
    /// Tells it from other destinations of this core: connections are kept under it.
    pub id: u64,
    /// For rustls.
    pub config: Arc<ClientConfig>,
    /// The name that the pod is asked for, and must prove where one is required.
    pub name: ServerName<'static>,
}

/// The destinations of a core, made once each.
pub struct Destinations {
    profile: Profile,
    known: RefCell<HashMap<DestinationKey, Kept>>,
    made: Cell<u64>,
}

/// With what is trusted.
type Kept = (Destination, Option<Arc<[u8]>>);

#[derive(Clone, PartialEq, Eq, Hash)]
struct DestinationKey {
    /// The address of what is trusted, which is kept beside, so that it is nobody else's; `None`: whatever comes.
    authorities: Option<usize>,
    name: String,
    is_verified: bool,
    only_http1: bool,
}

/// Destinations that are kept; more are made anew.
const KEPT: usize = 16 * 1024;

/// Takes any certificate: for routes that name no authority, as the reference does.
#[derive(Debug)]
struct Anything(Arc<CryptoProvider>);

/// Takes a certificate of the authorities, whatever its name.
#[derive(Debug)]
struct AnyName(Arc<WebPkiServerVerifier>);

// === impl Destinations ===

impl Destinations {
    /// With what the profile allows.
    pub fn new(profile: Profile) -> Self {
        Self { profile, known: RefCell::default(), made: Cell::new(0) }
    }

    /// How a pod of `service` (as `<name>.<namespace>.svc`) is spoken to. `only_http1`: the connection is to be upgraded.
    pub fn find(&self, trust: &DestinationTrust, service: &str, only_http1: bool) -> io::Result<Destination> {
        let (authorities, name, is_verified) = match trust {
            DestinationTrust::Unverified => (None, service, false),
            DestinationTrust::Authorities { pem, name: None } => (Some(pem.clone()), service, false),
            DestinationTrust::Authorities { pem, name: Some(Name::Service) } => (Some(pem.clone()), service, true),
            DestinationTrust::Authorities { pem, name: Some(Name::Fixed(name)) } => (Some(pem.clone()), &**name, true),
        };
        let address = authorities.as_ref().map(|pem| Arc::as_ptr(pem).addr());
        let key = DestinationKey { authorities: address, name: name.to_owned(), is_verified, only_http1 };
        if let Some((found, _)) = self.known.borrow().get(&key) {
            return Ok(found.clone());
        }
        let made = self.make(&key, authorities.as_deref()).map_err(io::Error::other)?;
        let mut known = self.known.borrow_mut();
        if known.len() >= KEPT {
            known.clear();
        }
        known.insert(key, (made.clone(), authorities));
        Ok(made)
    }

    fn make(&self, key: &DestinationKey, authorities: Option<&[u8]>) -> Result<Destination, super::TlsFault> {
        let provider = self.profile.provider().clone();
        let verifier: Arc<dyn ServerCertVerifier> = match authorities {
            None => Arc::new(Anything(provider.clone())),
            Some(pem) => {
                let fault = |error: &dyn ToString| {
                    super::TlsFault::Content("destinationCACertificate".into(), error.to_string())
                };
                let roots = roots("destinationCACertificate", pem)?;
                let builder = WebPkiServerVerifier::builder_with_provider(roots, provider.clone());
                let verifier = builder.build().map_err(|error| fault(&error))?;
                if key.is_verified { verifier } else { Arc::new(AnyName(verifier)) }
            }
        };
        let builder = ClientConfig::builder_with_provider(provider).with_protocol_versions(self.profile.versions())?;
        let mut config = builder.dangerous().with_custom_certificate_verifier(verifier).with_no_client_auth();
        let protocols = if key.only_http1 { &["http/1.1"][..] } else { &["h2", "http/1.1"] };
        config.alpn_protocols = protocols.iter().map(|protocol| protocol.as_bytes().to_vec()).collect();
        config.resumption = Resumption::in_memory_sessions(256);
        let name = ServerName::try_from(key.name.clone());
        let name = name.map_err(|_| super::TlsFault::Unsupported("a pod's name is not one that TLS can ask for"))?;
        self.made.set(self.made.get() + 1);
        Ok(Destination { id: self.made.get(), config: Arc::new(config), name })
    }
}

// === impl Anything ===

impl ServerCertVerifier for Anything {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls12_signature(message, certificate, signed, &self.0.signature_verification_algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls13_signature(message, certificate, signed, &self.0.signature_verification_algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}

// === impl AnyName ===

impl ServerCertVerifier for AnyName {
    fn verify_server_cert(
        &self,
        certificate: &CertificateDer<'_>,
        chain: &[CertificateDer<'_>],
        name: &ServerName<'_>,
        ocsp: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        // The name is looked at last: an error about it says that all else is right.
        match self.0.verify_server_cert(certificate, chain, name, ocsp, now) {
            Err(Error::InvalidCertificate(
                CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. },
            )) => Ok(ServerCertVerified::assertion()),
            other => other,
        }
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.0.verify_tls12_signature(message, certificate, signed)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.0.verify_tls13_signature(message, certificate, signed)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.supported_verify_schemes()
    }
}
