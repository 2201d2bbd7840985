//! TLS that ends here, and TLS to pods: rustls with what the operator's settings allow, or an error at start that says
//! what cannot be done.

mod client_fields;
mod destination;
mod profile;

use std::{
    collections::HashMap,
    io,
    sync::{Arc, Mutex, PoisonError},
};

use rustls::{
    RootCertStore, ServerConfig, SupportedProtocolVersion,
    crypto::CryptoProvider,
    pki_types::{CertificateDer, CertificateRevocationListDer, pem::PemObject},
    server::{
        ClientHello, NoServerSessionStorage, ResolvesServerCert, WebPkiClientVerifier, danger::ClientCertVerifier,
    },
    sign::CertifiedKey,
};
use thiserror::Error;
use tokio::net::TcpStream;
use tokio_rustls::TlsAcceptor;

pub use destination::{Destination, Destinations};
pub use profile::{Profile, missing_suites};

use crate::{
    config::{ClientAuth, Settings},
    listen::Door,
    server::{Buffer, Core},
    session::{Io, Replay, Secured, Unopened},
    sni::Terminated,
    table::{Certificate, ClientAuthority},
};

/// What is wrong with the settings for TLS.
#[derive(Debug, Error)]
pub enum TlsFault {
    /// No cipher is left.
    #[error(
        "setting up TLS: none of the ciphers {0} can be done (rustls has AES-GCM and ChaCha20-Poly1305 with ECDHE)"
    )]
    NoCipher(String),
    /// No group is left.
    #[error("setting up TLS: none of the groups {0} can be done (there are X25519, P-256 and P-384)")]
    NoGroup(String),
    /// The versions exclude each other.
    #[error("setting up TLS: no version is left between SSL_MIN_VERSION and SSL_MAX_VERSION with these ciphers")]
    NoVersion,
    /// A file cannot be read.
    #[error("setting up TLS: reading {0}: {1}")]
    File(String, io::Error),
    /// A file has not what it should have.
    #[error("setting up TLS: {0} has no certificate or list that can be read: {1}")]
    Content(String, String),
    /// A setting that this router cannot do.
    #[error("setting up TLS: {0}")]
    Unsupported(&'static str),
    /// rustls says no.
    #[error("setting up TLS: {0}")]
    Rustls(#[from] rustls::Error),
}

/// Everything that handshakes with clients need, for all cores.
pub struct Contexts {
    profile: Profile,
    protocols: Vec<Vec<u8>>,
    /// Who verifies all clients' certificates, if the operator wants that.
    router_wide: Option<Arc<dyn ClientCertVerifier>>,
    /// By certificate and what client certificates are verified against. Each has keys of its own for its tickets, so
    /// that a session is never resumed under other rules than it was begun with.
    configs: Mutex<HashMap<ConfigKey, Arc<ServerConfig>>>,
}

/// The number of a certificate, and the route's authority if it has one: kept, so that its address is nobody else's.
type ConfigKey = (u64, Option<ByAddress>);

#[derive(Clone)]
struct ByAddress(Arc<ClientAuthority>);

/// Configurations that are kept; more are made anew.
const KEPT: usize = 32 * 1024;

#[derive(Debug)]
struct Shown(Arc<CertifiedKey>);

// === impl Contexts ===

impl Contexts {
    /// As the settings have it.
    pub fn new(settings: &Settings) -> Result<Self, TlsFault> {
        let profile = Profile::new(settings)?;
        let protocols = if settings.http2 { &["h2", "http/1.1"][..] } else { &["http/1.1"] };
        let router_wide = router_wide(settings, profile.provider())?;
        Ok(Self {
            profile,
            protocols: protocols.iter().map(|protocol| protocol.as_bytes().to_vec()).collect(),
            router_wide,
            configs: Mutex::default(),
        })
    }

    /// What the settings amount to.
    pub fn profile(&self) -> &Profile {
        &self.profile
    }

    /// Shakes hands with a client whose first bytes were read.
    pub async fn accept(
        &self,
        stream: TcpStream,
        first: Vec<u8>,
        name: Option<String>,
        certificate: Arc<Certificate>,
        authority: Option<Arc<ClientAuthority>>,
    ) -> io::Result<(Io, Secured)> {
        // Where the whole router verifies clients, nobody asks the route's own authority in the handshake: a route that has one
        // is not satisfied by what another has verified, and answers 421.
        let authority = authority.filter(|_| self.router_wide.is_none());
        let config = self.config(&certificate, authority.as_ref()).map_err(io::Error::other)?;
        let stream = TlsAcceptor::from(config).accept(Replay::new(first, stream)).await?;
        let (_, session) = stream.get_ref();
        let client_certificate = session.peer_certificates().and_then(|chain| chain.first());
        let client_fields = client_certificate.map(|der| client_fields::lines(der)).unwrap_or_default();
        let secured = Secured {
            name,
            certificate,
            authority,
            client_certificate: client_certificate.map(|certificate| certificate.clone().into_owned()),
            client_fields,
            is_h2: session.alpn_protocol() == Some(b"h2"),
            version: match session.protocol_version() {
                Some(rustls::ProtocolVersion::TLSv1_3) => "TLSv1.3",
                _ => "TLSv1.2",
            },
            cipher: session.negotiated_cipher_suite().map(profile::openssl_name).unwrap_or_default(),
        };
        Ok((Io::Server(Box::new(stream)), secured))
    }

    fn config(
        &self,
        certificate: &Arc<Certificate>,
        authority: Option<&Arc<ClientAuthority>>,
    ) -> Result<Arc<ServerConfig>, TlsFault> {
        let key = (certificate.id, authority.cloned().map(ByAddress));
        let lock = || self.configs.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(config) = lock().get(&key) {
            return Ok(config.clone());
        }
        let config = Arc::new(self.make(certificate, authority)?);
        let mut configs = lock();
        if configs.len() >= KEPT {
            configs.clear();
        }
        Ok(configs.entry(key).or_insert(config).clone())
    }

    fn make(
        &self,
        certificate: &Certificate,
        authority: Option<&Arc<ClientAuthority>>,
    ) -> Result<ServerConfig, TlsFault> {
        let builder = ServerConfig::builder_with_provider(self.profile.provider().clone())
            .with_protocol_versions(self.profile.versions())?;
        let verifier = match (&self.router_wide, authority) {
            (Some(verifier), _) => Some(verifier.clone()),
            // Without a certificate the handshake succeeds: the request is told what is missing, and a route of the same
            // host that wants none is served.
            (None, Some(authority)) => {
                let roots = roots("clientCA of a route", &authority.pem)?;
                let builder = WebPkiClientVerifier::builder_with_provider(roots, self.profile.provider().clone());
                let verifier = builder.allow_unauthenticated().build();
                Some(verifier.map_err(|error| TlsFault::Content("clientCA of a route".into(), error.to_string()))?)
            }
            (None, None) => None,
        };
        let builder = match verifier {
            Some(verifier) => builder.with_client_cert_verifier(verifier),
            None => builder.with_no_client_auth(),
        };
        let mut config = builder.with_cert_resolver(Arc::new(Shown(certificate.certified().clone())));
        config.alpn_protocols.clone_from(&self.protocols);
        config.session_storage = Arc::new(NoServerSessionStorage {});
        config.ticketer = rustls::crypto::ring::Ticketer::new()?;
        config.send_tls13_tickets = 1;
        Ok(config)
    }
}

/// Ends the TLS of a connection here. `None`: the handshake failed, or took too long.
pub async fn terminate(core: &Core, terminated: Terminated) -> Option<Unopened> {
    let Terminated { stream, first, mut connection, name, certificate, authority, permit } = terminated;
    let patience = core.table().settings.request_timeout;
    let handshake = core.shared.tls.accept(stream, first, name, certificate, authority);
    match tokio::time::timeout(patience, handshake).await {
        Ok(Ok((io, secured))) => {
            connection.tls = Some(Arc::new(secured));
            Some(Unopened { io, buffer: Buffer::new(&core.pool), connection, permit })
        }
        Ok(Err(error)) => {
            tracing::debug!(client = %connection.client, %error, "shaking hands with a client");
            core.shared.stats.denied(Door::Https);
            None
        }
        Err(_) => None,
    }
}

impl std::fmt::Debug for Contexts {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Contexts").field("profile", &self.profile).finish_non_exhaustive()
    }
}

// === impl Shown ===

impl ResolvesServerCert for Shown {
    fn resolve(&self, _: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        Some(self.0.clone())
    }
}

// === impl ByAddress ===

impl PartialEq for ByAddress {
    fn eq(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.0, &other.0)
    }
}

impl Eq for ByAddress {}

impl std::hash::Hash for ByAddress {
    fn hash<H: std::hash::Hasher>(&self, state: &mut H) {
        Arc::as_ptr(&self.0).hash(state);
    }
}

/// ROUTER_MUTUAL_TLS_AUTH and what goes with it.
fn router_wide(
    settings: &Settings,
    provider: &Arc<CryptoProvider>,
) -> Result<Option<Arc<dyn ClientCertVerifier>>, TlsFault> {
    let mutual = &settings.mutual_tls;
    if mutual.mode == ClientAuth::None {
        return Ok(None);
    }
    if mutual.filter.is_some() {
        return Err(TlsFault::Unsupported("ROUTER_MUTUAL_TLS_AUTH_FILTER is not supported"));
    }
    let path = mutual.authorities.as_ref();
    let path = path.ok_or(TlsFault::Unsupported("ROUTER_MUTUAL_TLS_AUTH needs ROUTER_MUTUAL_TLS_AUTH_CA"))?;
    let shown = path.display().to_string();
    let read =
        |path: &std::path::Path| std::fs::read(path).map_err(|error| TlsFault::File(path.display().to_string(), error));
    let mut builder = WebPkiClientVerifier::builder_with_provider(roots(&shown, &read(path)?)?, provider.clone());
    if let Some(path) = &mutual.revocations {
        let lists: Result<Vec<_>, _> = CertificateRevocationListDer::pem_slice_iter(&read(path)?).collect();
        let lists = lists.map_err(|error| TlsFault::Content(path.display().to_string(), error.to_string()))?;
        builder = builder.with_crls(lists).allow_unknown_revocation_status();
    }
    if mutual.mode == ClientAuth::Optional {
        builder = builder.allow_unauthenticated();
    }
    builder.build().map(Some).map_err(|error| TlsFault::Content(shown, error.to_string()))
}

/// The authorities in some PEM.
fn roots(shown: &str, pem: &[u8]) -> Result<Arc<RootCertStore>, TlsFault> {
    let fault = |reason: String| TlsFault::Content(shown.to_owned(), reason);
    let mut roots = RootCertStore::empty();
    for certificate in CertificateDer::pem_slice_iter(pem) {
        let certificate = certificate.map_err(|error| fault(error.to_string()))?;
        roots.add(certificate).map_err(|error| fault(error.to_string()))?;
    }
    if roots.is_empty() { Err(fault("there is none in it".into())) } else { Ok(Arc::new(roots)) }
}

/// For `with_protocol_versions`.
type Versions = &'static [&'static SupportedProtocolVersion];
