//! Settings from variables, by the names that the OpenShift router has for them.

mod lists;
mod selectors;

use super::{
    Balance, Ciphers, ClientAuth, Credentials, Forwarded, IpMode, MutualTls, Selector, Settings, TlsVersion,
    annotations::boolean, duration,
};
use crate::headers::Direction;
use std::{path::PathBuf, str::FromStr, sync::Arc, time::Duration};
use zeroize::Zeroizing;

/// A variable that cannot be used as it stands.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{variable}={value:?}: {message}")]
pub struct SettingsFault {
    /// Its name.
    pub variable: &'static str,
    /// Its value.
    pub value: String,
    /// What is wrong, and what is done instead.
    pub message: String,
    /// Nothing can be done instead that would be safe: the router must not start.
    pub is_fatal: bool,
}

/// The variables while they are read.
struct Reader<'a> {
    lookup: &'a dyn Fn(&str) -> Option<String>,
    faults: Vec<SettingsFault>,
}

// === impl Settings ===

impl Settings {
    /// Reads settings from variables, as `lookup` knows them; empty ones are none. What makes no sense is left at its
    /// default, and told. The only file that is read is that of a password.
    pub fn from_variables(lookup: &dyn Fn(&str) -> Option<String>) -> (Self, Vec<SettingsFault>) {
        let mut reader = Reader { lookup, faults: Vec::new() };
        let mut settings = Self::default();
        reader.identity(&mut settings);
        reader.timeouts(&mut settings);
        reader.capacity(&mut settings);
        reader.listening(&mut settings);
        reader.tls(&mut settings);
        reader.messages(&mut settings);
        reader.logging(&mut settings);
        reader.statistics(&mut settings);
        (settings, reader.faults)
    }

    /// Reads settings from this process's environment.
    pub fn from_environment() -> (Self, Vec<SettingsFault>) {
        Self::from_variables(&|name| std::env::var(name).ok())
    }
}

// === impl Reader: sections ===

impl Reader<'_> {
    fn identity(&mut self, settings: &mut Settings) {
        self.text("ROUTER_SERVICE_NAME", &mut settings.name);
        settings.canonical_hostname = self.parsed("ROUTER_CANONICAL_HOSTNAME", "a host's name", |text| {
            (text.parse::<std::net::IpAddr>().is_err() && crate::admission::is_host(text)).then(|| Arc::from(text))
        });
        self.flag("ROUTER_UPDATE_STATUS", &mut settings.update_status);
        settings.hostname_template = self.value("ROUTER_SUBDOMAIN").map(Arc::from);
        settings.domain = self.value("ROUTER_DOMAIN").map(Arc::from);
        self.flag("ROUTER_OVERRIDE_HOSTNAME", &mut settings.override_hostname);
        settings.override_domains = self.list("ROUTER_OVERRIDE_DOMAINS");
        let overrides = settings.override_hostname || !settings.override_domains.is_empty();
        if overrides && settings.hostname_template.is_none() {
            let variable =
                if settings.override_hostname { "ROUTER_OVERRIDE_HOSTNAME" } else { "ROUTER_OVERRIDE_DOMAINS" };
            self.refuse(variable, "it needs ROUTER_SUBDOMAIN, the template of hosts".to_owned());
        }
        settings.allowed_domains = self.list("ROUTER_ALLOWED_DOMAINS");
        settings.denied_domains = self.list("ROUTER_DENIED_DOMAINS");
        self.flag("ROUTER_ALLOW_WILDCARD_ROUTES", &mut settings.allow_wildcards);
        self.flag("ROUTER_DISABLE_NAMESPACE_OWNERSHIP_CHECK", &mut settings.share_hosts);
        self.flag("EXTENDED_VALIDATION", &mut settings.extended_validation);
        self.flag("ROUTER_ENABLE_EXTERNAL_CERTIFICATE", &mut settings.external_certificates);
        settings.selector = self.selector();
        if let Some(classes) = self.value("ROUTER_INGRESS_CLASS") {
            settings.ingress_controllers = lists::texts(&classes);
        }
    }

    fn selector(&mut self) -> Selector {
        let mut selector = Selector::default();
        if let Some(labels) = self.selection("ROUTE_LABELS", selectors::labels) {
            selector.labels = labels;
        }
        selector.fields = self.selection("ROUTE_FIELDS", selectors::fields).unwrap_or_default();
        let namespaces = self.selection("NAMESPACE_LABELS", selectors::labels);
        // For projects `*` means all.
        let projects = self.value("PROJECT_LABELS").filter(|text| text != "*");
        let projects = projects.and_then(|_| self.selection("PROJECT_LABELS", selectors::labels));
        selector.namespace = self.value("ROUTER_NAMESPACE").map(Arc::from);
        let given = [namespaces.is_some(), projects.is_some(), selector.namespace.is_some()];
        if given.into_iter().filter(|given| *given).count() > 1 {
            let message = "only one of NAMESPACE_LABELS, PROJECT_LABELS and ROUTER_NAMESPACE may be used";
            self.refuse(if projects.is_some() { "PROJECT_LABELS" } else { "NAMESPACE_LABELS" }, message.to_owned());
        }
        selector.namespace_labels = namespaces.or(projects);
        selector
    }

    fn timeouts(&mut self, settings: &mut Settings) {
        let rows: [(&'static str, &mut Duration); 11] = [
            ("ROUTER_DEFAULT_CONNECT_TIMEOUT", &mut settings.connect_timeout),
            ("ROUTER_DEFAULT_CLIENT_TIMEOUT", &mut settings.client_timeout),
            ("ROUTER_CLIENT_FIN_TIMEOUT", &mut settings.client_fin_timeout),
            ("ROUTER_DEFAULT_SERVER_TIMEOUT", &mut settings.server_timeout),
            ("ROUTER_DEFAULT_SERVER_FIN_TIMEOUT", &mut settings.server_fin_timeout),
            ("ROUTER_SLOWLORIS_TIMEOUT", &mut settings.request_timeout),
            ("ROUTER_SLOWLORIS_HTTP_KEEPALIVE", &mut settings.keep_alive_timeout),
            ("ROUTER_DEFAULT_TUNNEL_TIMEOUT", &mut settings.tunnel_timeout),
            ("ROUTER_INSPECT_DELAY", &mut settings.inspect_delay),
            ("ROUTER_BACKEND_CHECK_INTERVAL", &mut settings.check_interval),
            ("ROUTER_GRACEFUL_SHUTDOWN_DELAY", &mut settings.shutdown_delay),
        ];
        for (variable, setting) in rows {
            if let Some(time) = self.time(variable) {
                *setting = time;
            }
        }
        let stop = self.time("ROUTER_MAX_SHUTDOWN_TIMEOUT");
        settings.hard_stop_after = stop.or(self.time("ROUTER_HARD_STOP_AFTER"));
    }

    fn capacity(&mut self, settings: &mut Settings) {
        match self.value("ROUTER_MAX_CONNECTIONS").as_deref() {
            // What `auto` finds depends on limits of file descriptors: as many as can be.
            Some("auto") => settings.max_connections = None,
            Some(_) => {
                if let Some(most) = self.number("ROUTER_MAX_CONNECTIONS") {
                    settings.max_connections = Some(most).filter(|most| *most > 0);
                }
            }
            None => {}
        }
        settings.threads = self.number("ROUTER_THREADS").filter(|threads| *threads > 0);
        for (variable, setting) in
            [("ROUTER_BUF_SIZE", &mut settings.buffer_size), ("ROUTER_MAX_REWRITE_SIZE", &mut settings.max_rewrite)]
        {
            if let Some(size) = self.number::<usize>(variable) {
                *setting = size;
            }
        }
        if settings.buffer_size < settings.max_rewrite + 4_096 {
            let message =
                format!("less than 4096 above ROUTER_MAX_REWRITE_SIZE ({}) leaves no room", settings.max_rewrite);
            self.refuse("ROUTER_BUF_SIZE", message);
        }
        self.flag("ROUTER_ABORT_ON_CLOSE", &mut settings.abort_on_close);
    }

    fn listening(&mut self, settings: &mut Settings) {
        for (variable, setting) in [
            ("ROUTER_SERVICE_HTTP_PORT", &mut settings.http_port),
            ("ROUTER_SERVICE_HTTPS_PORT", &mut settings.https_port),
        ] {
            if let Some(port) = self.number(variable) {
                *setting = port;
            }
        }
        let mode = self.parsed("ROUTER_IP_V4_V6_MODE", "v4, v6 or v4v6", |text| match text {
            "v4" => Some(IpMode::V4),
            "v6" => Some(IpMode::V6),
            "v4v6" => Some(IpMode::Both),
            _ => None,
        });
        settings.ip_mode = mode.unwrap_or_default();
        self.flag("ROUTER_USE_PROXY_PROTOCOL", &mut settings.proxy_protocol);
        self.flag("ROUTER_BIND_PORTS_AFTER_SYNC", &mut settings.bind_after_sync);
        self.flag("ROUTER_STRICT_SNI", &mut settings.strict_sni);
        let mut without = false;
        self.flag("ROUTER_DISABLE_HTTP2", &mut without);
        settings.http2 = !without;
    }

    fn tls(&mut self, settings: &mut Settings) {
        for (variable, setting) in
            [("SSL_MIN_VERSION", &mut settings.tls_min), ("SSL_MAX_VERSION", &mut settings.tls_max)]
        {
            match self.value(variable).as_deref() {
                None => {}
                Some("TLSv1.2") => *setting = TlsVersion::V1_2,
                Some("TLSv1.3") => *setting = TlsVersion::V1_3,
                Some(_) => self.refuse(variable, "only TLSv1.2 and TLSv1.3 are spoken".to_owned()),
            }
        }
        if settings.tls_min > settings.tls_max {
            self.refuse("SSL_MAX_VERSION", "it is below SSL_MIN_VERSION: nothing would be spoken".to_owned());
        }
        match self.value("ROUTER_CIPHERS").as_deref() {
            None | Some("intermediate") => {}
            Some("modern") => settings.ciphers = Ciphers::Modern,
            Some("old") => self.refuse(
                "ROUTER_CIPHERS",
                "the profile old needs ciphers and versions of TLS that are broken: take intermediate or modern"
                    .to_owned(),
            ),
            Some(list) => settings.ciphers = Ciphers::List(lists::parted(list, &[':', ','])),
        }
        settings.cipher_suites =
            self.value("ROUTER_CIPHERSUITES").map(|list| lists::parted(&list, &[':', ','])).unwrap_or_default();
        settings.curves = self.value("ROUTER_CURVES").map(|list| lists::parted(&list, &[':', ','])).unwrap_or_default();
        let directory = self.value("DEFAULT_CERTIFICATE_DIR").map(|directory| PathBuf::from(directory).join("tls.crt"));
        settings.default_certificate = self.value("DEFAULT_CERTIFICATE_PATH").map(PathBuf::from).or(directory);
        settings.destination_ca = self.value("DEFAULT_DESTINATION_CA_PATH").map(PathBuf::from);
        settings.mutual_tls = self.mutual_tls();
    }

    fn mutual_tls(&mut self) -> MutualTls {
        let mode = match self.value("ROUTER_MUTUAL_TLS_AUTH").as_deref() {
            None | Some("none") => ClientAuth::None,
            Some("optional") => ClientAuth::Optional,
            Some("required") => ClientAuth::Required,
            Some(_) => {
                self.refuse("ROUTER_MUTUAL_TLS_AUTH", "it is none, optional or required".to_owned());
                ClientAuth::None
            }
        };
        let mut strips_headers = true;
        self.flag("ROUTER_MUTUAL_TLS_HEADER_FILTER", &mut strips_headers);
        MutualTls {
            mode,
            authorities: self.value("ROUTER_MUTUAL_TLS_AUTH_CA").map(PathBuf::from),
            revocations: self.value("ROUTER_MUTUAL_TLS_AUTH_CRL").map(PathBuf::from),
            filter: self.value("ROUTER_MUTUAL_TLS_AUTH_FILTER").map(|filter| filter.trim_matches(['"', '\'']).into()),
            strips_headers,
        }
    }

    fn messages(&mut self, settings: &mut Settings) {
        let form = "roundrobin, leastconn, source or random";
        settings.balance = self.parsed("ROUTER_LOAD_BALANCE_ALGORITHM", form, Balance::parse);
        settings.passthrough_balance = self.parsed("ROUTER_TCP_BALANCE_SCHEME", form, Balance::parse);
        settings.cookie_name = self.parsed("ROUTER_COOKIE_NAME", "letters, digits, _ and -", |name| {
            crate::cookie::is_name(name).then(|| Arc::from(name))
        });
        let forwarded =
            self.parsed("ROUTER_SET_FORWARDED_HEADERS", "append, replace, if-none or never", Forwarded::parse);
        settings.forwarded = forwarded.unwrap_or_default();
        settings.request_headers =
            self.checked("ROUTER_HTTP_REQUEST_HEADERS", |text| lists::actions(text, Direction::Request));
        settings.response_headers =
            self.checked("ROUTER_HTTP_RESPONSE_HEADERS", |text| lists::actions(text, Direction::Response));
        settings.header_case = self.checked("ROUTER_H1_CASE_ADJUST", lists::cases);
        let (name, format) = (self.value("ROUTER_UNIQUE_ID_HEADER_NAME"), self.value("ROUTER_UNIQUE_ID_FORMAT"));
        settings.unique_id =
            name.zip(format).map(|(name, format)| (name.into(), format.trim_matches(['"', '\'']).into()));
        let mut compresses = false;
        self.flag("ROUTER_ENABLE_COMPRESSION", &mut compresses);
        if compresses {
            let types =
                self.value("ROUTER_COMPRESSION_MIME").unwrap_or_else(|| "text/html text/plain text/css".to_owned());
            settings.compression = types.trim_matches(['"', '\'']).split_whitespace().map(Arc::from).collect();
        }
        settings.page_503 = self.value("ROUTER_ERRORFILE_503").map(PathBuf::from);
        settings.page_404 = self.value("ROUTER_ERRORFILE_404").map(PathBuf::from);
        self.flag("ROUTER_IDLE_CLOSE_ON_RESPONSE", &mut settings.idle_close_on_response);
    }

    fn logging(&mut self, settings: &mut Settings) {
        settings.log_address = self.value("ROUTER_SYSLOG_ADDRESS").map(Arc::from);
        settings.log_format = self.value("ROUTER_SYSLOG_FORMAT").map(Arc::from);
        self.text("ROUTER_LOG_LEVEL", &mut settings.log_level);
        self.text("ROUTER_LOG_FACILITY", &mut settings.log_facility);
        if let Some(length) = self.number("ROUTER_LOG_MAX_LENGTH") {
            settings.log_max_length = length;
        }
        self.flag("ROUTER_DONT_LOG_NULL", &mut settings.omit_empty);
        self.flag("ROUTER_HTTP_IGNORE_PROBES", &mut settings.ignore_probes);
        settings.capture_request = self.checked("ROUTER_CAPTURE_HTTP_REQUEST_HEADERS", lists::captures);
        settings.capture_response = self.checked("ROUTER_CAPTURE_HTTP_RESPONSE_HEADERS", lists::captures);
        settings.capture_cookie = self.checked("ROUTER_CAPTURE_HTTP_COOKIE", |text| lists::cookie(text).map(Some));
    }

    fn statistics(&mut self, settings: &mut Settings) {
        if let Some(port) = self.number("STATS_PORT") {
            settings.stats_port = port;
        }
        let files = self.value("STATS_USERNAME_FILE").zip(self.value("STATS_PASSWORD_FILE"));
        let (name, password) = match files {
            Some((name, password)) => {
                (self.file("STATS_USERNAME_FILE", &name), self.file("STATS_PASSWORD_FILE", &password))
            }
            None => (self.value("STATS_USERNAME"), self.value("STATS_PASSWORD")),
        };
        settings.stats_user =
            name.zip(password.map(Zeroizing::new)).map(|(name, password)| Credentials { name: name.into(), password });
        if let Some(most) = self.number("ROUTER_METRICS_HAPROXY_SERVER_THRESHOLD") {
            settings.server_threshold = most;
        }
    }
}

// === impl Reader: kinds of values ===

impl Reader<'_> {
    fn value(&self, variable: &str) -> Option<String> {
        (self.lookup)(variable).filter(|value| !value.is_empty())
    }

    fn text(&self, variable: &str, setting: &mut Arc<str>) {
        if let Some(value) = self.value(variable) {
            *setting = value.into();
        }
    }

    fn list(&self, variable: &str) -> Vec<Arc<str>> {
        self.value(variable).map(|value| lists::texts(&value)).unwrap_or_default()
    }

    /// As the reference: what is not true is false.
    fn flag(&mut self, variable: &'static str, setting: &mut bool) {
        let Some(value) = self.value(variable) else { return };
        match boolean(&value) {
            Some(value) => *setting = value,
            None => {
                *setting = false;
                self.report(variable, "it is neither true nor false: false".to_owned());
            }
        }
    }

    fn time(&mut self, variable: &'static str) -> Option<Duration> {
        self.parsed(variable, "a time like 5s (us, ms, s, m, h, d)", duration::parse)
    }

    fn number<T: FromStr>(&mut self, variable: &'static str) -> Option<T> {
        self.parsed(variable, "a number that fits", |text| text.parse().ok())
    }

    fn parsed<T>(&mut self, variable: &'static str, form: &str, parse: impl FnOnce(&str) -> Option<T>) -> Option<T> {
        let value = self.value(variable)?;
        let parsed = parse(&value);
        if parsed.is_none() {
            self.report(variable, format!("it is not {form}: the default is taken"));
        }
        parsed
    }

    fn checked<T: Default>(&mut self, variable: &'static str, parse: impl FnOnce(&str) -> Result<T, String>) -> T {
        let Some(value) = self.value(variable) else { return T::default() };
        parse(&value).unwrap_or_else(|message| {
            self.refuse(variable, message);
            T::default()
        })
    }

    fn selection<T>(&mut self, variable: &'static str, parse: fn(&str) -> Result<T, String>) -> Option<T> {
        let value = self.value(variable)?;
        parse(&value).map_err(|message| self.refuse(variable, message)).ok()
    }

    fn file(&mut self, variable: &'static str, path: &str) -> Option<String> {
        match std::fs::read_to_string(path) {
            Ok(text) => Some(text.trim_end_matches(['\r', '\n']).to_owned()),
            Err(error) => {
                self.refuse(variable, format!("the file cannot be read: {error}"));
                None
            }
        }
    }

    fn report(&mut self, variable: &'static str, message: String) {
        self.add(variable, message, false);
    }

    fn refuse(&mut self, variable: &'static str, message: String) {
        self.add(variable, message, true);
    }

    fn add(&mut self, variable: &'static str, message: String, is_fatal: bool) {
        let value = self.value(variable).unwrap_or_default();
        self.faults.push(SettingsFault { variable, value, message, is_fatal });
    }
}

#[cfg(test)]
mod tests;
