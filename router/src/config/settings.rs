//! What holds for all routes: the settings of the OpenShift router, by the names it has for them.

use super::{Balance, Forwarded};
use crate::headers::Action;
use sdn_cluster::model::{LabelSelector, Labels};
use std::{fmt, path::PathBuf, sync::Arc, time::Duration};

/// Settings of the whole router. The variable that each is read from stands beside it; what has no variable of its own
/// cannot be set.
#[derive(Clone, Debug)]
pub struct Settings {
    // Who it is, and which routes are its own.
    /// ROUTER_SERVICE_NAME: what it is called in the status of routes.
    pub name: Arc<str>,
    /// ROUTER_CANONICAL_HOSTNAME: the name that a route's host can be an alias (CNAME) of.
    pub canonical_hostname: Option<Arc<str>>,
    /// ROUTER_UPDATE_STATUS: the status of routes is written.
    pub update_status: bool,
    /// ROUTER_SUBDOMAIN: what a route without a host gets for one, with `${name}` and `${namespace}`.
    pub hostname_template: Option<Arc<str>>,
    /// ROUTER_DOMAIN: what comes after spec.subdomain.
    pub domain: Option<Arc<str>>,
    /// ROUTER_OVERRIDE_HOSTNAME: every route gets its host from the template.
    pub override_hostname: bool,
    /// ROUTER_OVERRIDE_DOMAINS: and so do routes with a host in one of these domains.
    pub override_domains: Vec<Arc<str>>,
    /// ROUTER_ALLOWED_DOMAINS: hosts must be in one of these; empty: anywhere.
    pub allowed_domains: Vec<Arc<str>>,
    /// ROUTER_DENIED_DOMAINS: hosts must be in none of these, whatever is allowed.
    pub denied_domains: Vec<Arc<str>>,
    /// ROUTER_ALLOW_WILDCARD_ROUTES: routes may have the wildcard policy Subdomain.
    pub allow_wildcards: bool,
    /// ROUTER_DISABLE_NAMESPACE_OWNERSHIP_CHECK: namespaces may share a host.
    pub share_hosts: bool,
    /// EXTENDED_VALIDATION: what is wrong with a route's TLS rejects it.
    pub extended_validation: bool,
    /// ROUTER_ENABLE_EXTERNAL_CERTIFICATE: certificates may be in Secrets.
    pub external_certificates: bool,
    /// ROUTE_LABELS, ROUTE_FIELDS, NAMESPACE_LABELS or PROJECT_LABELS, ROUTER_NAMESPACE: which routes are its own.
    pub selector: Selector,
    /// ROUTER_INGRESS_CLASS: the controllers of IngressClasses whose Ingresses it serves.
    pub ingress_controllers: Vec<Arc<str>>,

    // How long is waited.
    /// ROUTER_DEFAULT_CONNECT_TIMEOUT: for a connection to a pod.
    pub connect_timeout: Duration,
    /// ROUTER_DEFAULT_CLIENT_TIMEOUT: for a client's next byte.
    pub client_timeout: Duration,
    /// ROUTER_CLIENT_FIN_TIMEOUT: for a client after the pod has closed its side.
    pub client_fin_timeout: Duration,
    /// ROUTER_DEFAULT_SERVER_TIMEOUT: for a pod's next byte.
    pub server_timeout: Duration,
    /// ROUTER_DEFAULT_SERVER_FIN_TIMEOUT: for a pod after the client has closed its side.
    pub server_fin_timeout: Duration,
    /// ROUTER_SLOWLORIS_TIMEOUT: for the whole head of a request.
    pub request_timeout: Duration,
    /// ROUTER_SLOWLORIS_HTTP_KEEPALIVE: for the next request of a connection.
    pub keep_alive_timeout: Duration,
    /// ROUTER_DEFAULT_TUNNEL_TIMEOUT: for the next byte of an upgraded or passthrough connection.
    pub tunnel_timeout: Duration,
    /// ROUTER_INSPECT_DELAY: for a ClientHello.
    pub inspect_delay: Duration,
    /// ROUTER_BACKEND_CHECK_INTERVAL: between two checks of an endpoint.
    pub check_interval: Duration,
    /// For the answer to a check.
    pub check_timeout: Duration,
    /// ROUTER_GRACEFUL_SHUTDOWN_DELAY: between failing /healthz/ready and refusing connections.
    pub shutdown_delay: Duration,
    /// ROUTER_MAX_SHUTDOWN_TIMEOUT, else ROUTER_HARD_STOP_AFTER: for connections in flight after that; `None`: as long
    /// as they last.
    pub hard_stop_after: Option<Duration>,

    // How much is taken.
    /// ROUTER_MAX_CONNECTIONS: connections of clients at a time; `None`: as many as come.
    pub max_connections: Option<u32>,
    /// ROUTER_THREADS: threads that serve; `None`: one a core.
    pub threads: Option<u32>,
    /// ROUTER_BUF_SIZE: bytes of a buffer; less [`Self::max_rewrite`], the most that the head of a message may have.
    pub buffer_size: usize,
    /// ROUTER_MAX_REWRITE_SIZE: bytes of a buffer that are kept for what is added to a head.
    pub max_rewrite: usize,
    /// ROUTER_ABORT_ON_CLOSE: a request whose client has gone while it waits is given up.
    pub abort_on_close: bool,

    // Where it listens, and what is spoken.
    /// ROUTER_SERVICE_HTTP_PORT.
    pub http_port: u16,
    /// ROUTER_SERVICE_HTTPS_PORT.
    pub https_port: u16,
    /// ROUTER_IP_V4_V6_MODE.
    pub ip_mode: IpMode,
    /// ROUTER_USE_PROXY_PROTOCOL: every connection begins with a PROXY header.
    pub proxy_protocol: bool,
    /// ROUTER_BIND_PORTS_AFTER_SYNC: connections are taken when all routes are known.
    pub bind_after_sync: bool,
    /// ROUTER_STRICT_SNI: a handshake for an unknown name is refused.
    pub strict_sni: bool,
    /// SSL_MIN_VERSION.
    pub tls_min: TlsVersion,
    /// SSL_MAX_VERSION.
    pub tls_max: TlsVersion,
    /// ROUTER_CIPHERS: up to TLS 1.2.
    pub ciphers: Ciphers,
    /// ROUTER_CIPHERSUITES, for TLS 1.3, by their names; empty: all.
    pub cipher_suites: Vec<String>,
    /// ROUTER_CURVES: groups for key exchange, by their names; empty: all.
    pub curves: Vec<String>,
    /// DEFAULT_CERTIFICATE_PATH, else DEFAULT_CERTIFICATE_DIR and `/tls.crt`: the default certificate with its key.
    pub default_certificate: Option<PathBuf>,
    /// DEFAULT_DESTINATION_CA_PATH: the authority of certificates for Services.
    pub destination_ca: Option<PathBuf>,
    /// ROUTER_DISABLE_HTTP2.
    pub http2: bool,
    /// ROUTER_MUTUAL_TLS_AUTH and what goes with it.
    pub mutual_tls: MutualTls,

    // What is done to messages.
    /// ROUTER_LOAD_BALANCE_ALGORITHM: for HTTP routes without an annotation.
    pub balance: Option<Balance>,
    /// ROUTER_TCP_BALANCE_SCHEME: for passthrough routes.
    pub passthrough_balance: Option<Balance>,
    /// ROUTER_COOKIE_NAME: for routes without an annotation; `None`: a name of each route's own.
    pub cookie_name: Option<Arc<str>>,
    /// ROUTER_SET_FORWARDED_HEADERS.
    pub forwarded: Forwarded,
    /// ROUTER_HTTP_REQUEST_HEADERS.
    pub request_headers: Vec<Action>,
    /// ROUTER_HTTP_RESPONSE_HEADERS.
    pub response_headers: Vec<Action>,
    /// ROUTER_H1_CASE_ADJUST: how names of fields are written in HTTP/1, for clients that cannot read them otherwise.
    pub header_case: Vec<HeaderCase>,
    /// ROUTER_UNIQUE_ID_HEADER_NAME and ROUTER_UNIQUE_ID_FORMAT: a field that names each request, and its value.
    pub unique_id: Option<(Arc<str>, Arc<str>)>,
    /// ROUTER_ENABLE_COMPRESSION with ROUTER_COMPRESSION_MIME: types of bodies that are compressed; empty: none.
    pub compression: Vec<Arc<str>>,
    /// ROUTER_ERRORFILE_503: what is answered where there is no endpoint.
    pub page_503: Option<PathBuf>,
    /// ROUTER_ERRORFILE_404: what is answered for unknown hosts; `None`: the page for 503.
    pub page_404: Option<PathBuf>,
    /// ROUTER_IDLE_CLOSE_ON_RESPONSE: a connection that ends idle is closed with its next response.
    pub idle_close_on_response: bool,

    // What is told.
    /// ROUTER_SYSLOG_ADDRESS: where access is logged; `None`: nowhere.
    pub log_address: Option<Arc<str>>,
    /// ROUTER_SYSLOG_FORMAT, in HAProxy's language; `None`: its httplog.
    pub log_format: Option<Arc<str>>,
    /// ROUTER_LOG_LEVEL.
    pub log_level: Arc<str>,
    /// ROUTER_LOG_FACILITY.
    pub log_facility: Arc<str>,
    /// ROUTER_LOG_MAX_LENGTH: bytes of a line.
    pub log_max_length: usize,
    /// ROUTER_DONT_LOG_NULL: connections without a byte are not logged.
    pub omit_empty: bool,
    /// ROUTER_HTTP_IGNORE_PROBES: and neither logged nor answered.
    pub ignore_probes: bool,
    /// ROUTER_CAPTURE_HTTP_REQUEST_HEADERS: fields of requests that are logged.
    pub capture_request: Vec<Capture>,
    /// ROUTER_CAPTURE_HTTP_RESPONSE_HEADERS: fields of responses that are logged.
    pub capture_response: Vec<Capture>,
    /// ROUTER_CAPTURE_HTTP_COOKIE: a cookie that is logged.
    pub capture_cookie: Option<CaptureCookie>,
    /// STATS_PORT.
    pub stats_port: u16,
    /// STATS_USERNAME with STATS_PASSWORD; `None`: only the cluster's users may see statistics.
    pub stats_user: Option<Credentials>,
    /// ROUTER_METRICS_HAPROXY_SERVER_THRESHOLD: with more endpoints than this, metrics tell of none of them.
    pub server_threshold: usize,
}

/// Which routes are a router's own.
#[derive(Clone, Debug, Default)]
pub struct Selector {
    /// Labels of the route.
    pub labels: LabelSelector,
    /// Fields of the route, as name and value, and whether it is to have that value.
    pub fields: Vec<(String, String, bool)>,
    /// Labels of its namespace; `None`: any namespace.
    pub namespace_labels: Option<LabelSelector>,
    /// Its namespace; `None`: any.
    pub namespace: Option<Arc<str>>,
}

/// Which addresses it listens on.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum IpMode {
    /// IPv4.
    #[default]
    V4,
    /// IPv6.
    V6,
    /// Both.
    Both,
}

/// A version of TLS.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum TlsVersion {
    /// 1.2.
    V1_2,
    /// 1.3.
    V1_3,
}

/// Which ciphers are taken up to TLS 1.2.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Ciphers {
    /// Mozilla's modern profile.
    Modern,
    /// Mozilla's intermediate profile.
    #[default]
    Intermediate,
    /// These, by OpenSSL's names.
    List(Vec<String>),
}

/// Client certificates for the whole router.
#[derive(Clone, Debug, Default)]
pub struct MutualTls {
    /// ROUTER_MUTUAL_TLS_AUTH.
    pub mode: ClientAuth,
    /// ROUTER_MUTUAL_TLS_AUTH_CA.
    pub authorities: Option<PathBuf>,
    /// ROUTER_MUTUAL_TLS_AUTH_CRL.
    pub revocations: Option<PathBuf>,
    /// ROUTER_MUTUAL_TLS_AUTH_FILTER: a regular expression that the client's subject must match.
    pub filter: Option<Arc<str>>,
    /// ROUTER_MUTUAL_TLS_HEADER_FILTER: what clients say in X-SSL fields is taken away.
    pub strips_headers: bool,
}

/// Whether clients need certificates.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ClientAuth {
    /// They are not asked.
    #[default]
    None,
    /// They are asked.
    Optional,
    /// They need one.
    Required,
}

/// How the name of a field is written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HeaderCase {
    /// The name, lower-case.
    pub name: Arc<str>,
    /// As it is written.
    pub written: Arc<str>,
}

/// A field that is logged.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Capture {
    /// Its name.
    pub name: Arc<str>,
    /// Bytes of it at most.
    pub length: usize,
}

/// A cookie that is logged.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CaptureCookie {
    /// Which.
    pub name: CookieMatch,
    /// Bytes of it at most.
    pub length: usize,
}

/// Which cookie is meant.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum CookieMatch {
    /// The one of this name.
    Exact(Arc<str>),
    /// The first whose name begins like this.
    Prefix(Arc<str>),
}

/// A name with a password. It is not shown.
#[derive(Clone)]
pub struct Credentials {
    /// The name.
    pub name: Arc<str>,
    /// The password.
    pub password: zeroize::Zeroizing<String>,
}

// === impl Settings ===

impl Settings {
    /// The controller of IngressClasses that OpenShift hands to its router, and ours.
    pub const INGRESS_CONTROLLERS: [&str; 2] = ["openshift.io/ingress-to-route", "culvert/router"];
    /// The most that a timeout may be: 2^31 - 1 milliseconds, as for HAProxy.
    pub const MAX_TIMEOUT: Duration = Duration::from_millis(2_147_483_647);
}

impl Default for Settings {
    fn default() -> Self {
        let seconds = Duration::from_secs;
        Self {
            name: "public".into(),
            canonical_hostname: None,
            update_status: true,
            hostname_template: None,
            domain: None,
            override_hostname: false,
            override_domains: Vec::new(),
            allowed_domains: Vec::new(),
            denied_domains: Vec::new(),
            allow_wildcards: false,
            share_hosts: false,
            extended_validation: true,
            external_certificates: true,
            selector: Selector::default(),
            ingress_controllers: Self::INGRESS_CONTROLLERS.map(Arc::from).into(),
            connect_timeout: seconds(5),
            client_timeout: seconds(30),
            client_fin_timeout: seconds(1),
            server_timeout: seconds(30),
            server_fin_timeout: seconds(1),
            request_timeout: seconds(10),
            keep_alive_timeout: seconds(300),
            tunnel_timeout: seconds(3600),
            inspect_delay: seconds(5),
            check_interval: seconds(5),
            check_timeout: seconds(5),
            shutdown_delay: seconds(45),
            hard_stop_after: None,
            max_connections: Some(50_000),
            threads: None,
            buffer_size: 32_768,
            max_rewrite: 8_192,
            abort_on_close: false,
            http_port: 80,
            https_port: 443,
            ip_mode: IpMode::default(),
            proxy_protocol: false,
            bind_after_sync: false,
            strict_sni: false,
            tls_min: TlsVersion::V1_2,
            tls_max: TlsVersion::V1_3,
            ciphers: Ciphers::default(),
            cipher_suites: Vec::new(),
            curves: Vec::new(),
            default_certificate: None,
            destination_ca: None,
            http2: true,
            mutual_tls: MutualTls { strips_headers: true, ..MutualTls::default() },
            balance: None,
            passthrough_balance: None,
            cookie_name: None,
            forwarded: Forwarded::default(),
            request_headers: Vec::new(),
            response_headers: Vec::new(),
            header_case: Vec::new(),
            unique_id: None,
            compression: Vec::new(),
            page_503: None,
            page_404: None,
            idle_close_on_response: false,
            log_address: None,
            log_format: None,
            log_level: "warning".into(),
            log_facility: "local1".into(),
            log_max_length: 1024,
            omit_empty: false,
            ignore_probes: false,
            capture_request: Vec::new(),
            capture_response: Vec::new(),
            capture_cookie: None,
            stats_port: 1936,
            stats_user: None,
            server_threshold: 500,
        }
    }
}

// === impl Selector ===

impl Selector {
    /// Whether an object of this namespace, name and these labels is the router's own. `namespace_labels` are `None`
    /// for a namespace that is not known.
    pub fn picks(&self, namespace: &str, name: &str, labels: &Labels, namespace_labels: Option<&Labels>) -> bool {
        self.namespace.as_deref().is_none_or(|only| only == namespace)
            && self.labels.matches(labels)
            && self.fields.iter().all(|(field, value, wanted)| {
                let actual = if field == "metadata.name" { name } else { namespace };
                (actual == value) == *wanted
            })
            && self
                .namespace_labels
                .as_ref()
                .is_none_or(|selector| namespace_labels.is_some_and(|labels| selector.matches(labels)))
    }
}

// === impl Credentials ===

impl fmt::Debug for Credentials {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Credentials").field("name", &self.name).finish_non_exhaustive()
    }
}
