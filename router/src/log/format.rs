//! How a line looks: HAProxy's log format with the variables that mean something here, or JSON.

use std::{
    fmt::Write,
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

use crate::{
    server::Core,
    session::{Client, Exchange},
    table::{Backend, Endpoint, Termination},
};

/// HAProxy's httplog.
const HTTP_LOG: &str =
    "%ci:%cp [%tr] %ft %b/%s %TR/%Tw/%Tc/%Tr/%Ta %ST %B %CC %CS %tsc %ac/%fc/%bc/%sc/%rc %sq/%bq %hr %hs %{+Q}r";

/// How lines look.
pub enum Format {
    /// In HAProxy's language.
    Parts(Vec<Part>),
    /// One object a line.
    Json,
}

/// A piece of a line.
#[derive(Debug, PartialEq, Eq)]
pub enum Part {
    Text(String),
    Variable { name: String, quoted: bool },
}

/// The variables that are known.
const VARIABLES: [&str; 36] = [
    "ci", "cp", "fi", "fp", "si", "sp", "tr", "t", "T", "ts", "tsc", "ft", "f", "b", "s", "TR", "Tw", "Tc", "Tr", "Ta",
    "Tt", "ST", "B", "U", "CC", "CS", "ac", "fc", "bc", "sc", "rc", "sq", "bq", "hr", "hs", "r",
];
/// And those of a request line and TLS.
const MORE: [&str; 6] = ["HM", "HU", "HP", "HV", "sslv", "sslc"];

// === impl Format ===

impl Format {
    /// Reads a format; `None`: HAProxy's httplog; `json`: JSON. Or what is wrong with it.
    pub fn parse(text: Option<&str>) -> Result<Self, String> {
        match text {
            Some("json") => Ok(Self::Json),
            text => parts(text.unwrap_or(HTTP_LOG)).map(Self::Parts),
        }
    }

    /// The line for a request.
    pub fn line(&self, core: &Core, client: &Client, exchange: &Exchange, now: Instant) -> String {
        let row = Row { core, client, exchange, now };
        match self {
            Self::Json => row.json(),
            Self::Parts(parts) => {
                let mut line = String::with_capacity(256);
                for part in parts {
                    match part {
                        Part::Text(text) => line.push_str(text),
                        Part::Variable { name, quoted } => row.write(&mut line, name, *quoted),
                    }
                }
                line
            }
        }
    }
}

fn parts(text: &str) -> Result<Vec<Part>, String> {
    let mut parts = vec![];
    let mut rest = text;
    while let Some(at) = rest.find('%') {
        parts.push(Part::Text(rest[..at].to_owned()));
        rest = &rest[at + 1..];
        if let Some(after) = rest.strip_prefix('%') {
            parts.push(Part::Text("%".to_owned()));
            rest = after;
            continue;
        }
        let flags = rest.strip_prefix('{').and_then(|flags| flags.split_once('}'));
        let quoted = flags.is_some_and(|(flags, _)| flags.contains("+Q"));
        rest = flags.map_or(rest, |(_, after)| after);
        let length = rest.find(|letter: char| !letter.is_ascii_alphanumeric()).unwrap_or(rest.len());
        // `%tsc-` and the like: the longest name that is known.
        let known = |length: &usize| VARIABLES.iter().chain(&MORE).any(|name| *name == &rest[..*length]);
        let Some(length) = (1..=length).rev().find(known) else {
            return Err(format!(
                "ROUTER_SYSLOG_FORMAT: %{} is not known to this router",
                &rest[..length.min(rest.len())]
            ));
        };
        parts.push(Part::Variable { name: rest[..length].to_owned(), quoted });
        rest = &rest[length..];
    }
    parts.push(Part::Text(rest.to_owned()));
    parts.retain(|part| *part != Part::Text(String::new()));
    Ok(parts)
}

/// What a line is about.
struct Row<'a> {
    core: &'a Core,
    client: &'a Client,
    exchange: &'a Exchange,
    now: Instant,
}

// === impl Row ===

impl Row<'_> {
    fn write(&self, line: &mut String, name: &str, quoted: bool) {
        let mut value = String::new();
        // Writing to a String does not fail.
        let _ = self.value(&mut value, name);
        if quoted {
            line.push('"');
            line.push_str(&value);
            line.push('"');
        } else {
            line.push_str(&value);
        }
    }

    fn value(&self, out: &mut String, name: &str) -> std::fmt::Result {
        let (exchange, connection) = (self.exchange, &self.client.connection);
        let times = &exchange.times;
        let endpoint = exchange.chosen();
        match name {
            "ci" => write!(out, "{}", connection.client.ip()),
            "cp" => write!(out, "{}", connection.client.port()),
            "fi" => write!(out, "{}", connection.local.ip()),
            "fp" => write!(out, "{}", connection.local.port()),
            "si" => endpoint.map_or(out.write_char('-'), |endpoint| write!(out, "{}", endpoint.address.ip())),
            "sp" => endpoint.map_or(out.write_char('-'), |endpoint| write!(out, "{}", endpoint.address.port())),
            "tr" | "t" => out.write_str(&log_time(self.wall(times.begun), true)),
            "T" => out.write_str(&log_time(self.wall(times.begun), false)),
            "ts" => out.write_str(exchange.end.letters()),
            "tsc" => write!(out, "{}--", exchange.end.letters()),
            "ft" | "f" => {
                write!(out, "{}{}", self.frontend(), if name == "ft" && connection.tls.is_some() { "~" } else { "" })
            }
            "b" => out.write_str(&exchange.backend.as_deref().map_or_else(|| self.frontend().to_owned(), backend_name)),
            "s" => out.write_str(&endpoint.map_or_else(|| "<NOSRV>".to_owned(), server_name)),
            "TR" => milliseconds(out, Some(times.head - times.begun)),
            "Tw" => milliseconds(out, times.queue()),
            "Tc" => milliseconds(out, times.connect()),
            "Tr" => milliseconds(out, times.response()),
            "Ta" | "Tt" => milliseconds(out, Some(self.now - times.begun)),
            "ST" => {
                if exchange.status == 0 {
                    out.write_str("-1")
                } else {
                    write!(out, "{}", exchange.status)
                }
            }
            "B" => write!(out, "{}", exchange.down.written),
            "U" => write!(out, "{}", exchange.up.written),
            "CC" | "CS" | "hr" | "hs" => self.capture(out, name),
            "ac" | "fc" => write!(out, "{}", self.core.connections()),
            "bc" => write!(out, "{}", exchange.backend.as_ref().map_or(0, |backend| backend.state.active())),
            "sc" => write!(out, "{}", endpoint.map_or(0, |endpoint| endpoint.state.active())),
            "rc" => write!(out, "{}{}", if exchange.redispatched { "+" } else { "" }, exchange.retries),
            "sq" | "bq" => out.write_char('0'),
            "r" => out.write_str(&self.request_line()),
            "HM" => out.write_str(self.words().0),
            "HU" | "HP" => {
                out.write_str(self.words().1.split(if name == "HP" { '?' } else { ' ' }).next().unwrap_or(""))
            }
            "HV" => out.write_str("HTTP/1.1"),
            "sslv" => out.write_str(connection.tls.as_ref().map_or("-", |tls| tls.version)),
            "sslc" => out.write_str(connection.tls.as_ref().map_or("-", |tls| &tls.cipher)),
            _ => Ok(()),
        }
    }

    /// Captured fields and cookies, as HAProxy has them: `{a|b}` in `%hr` and `%hs`, a bare value in the others.
    fn capture(&self, out: &mut String, name: &str) -> std::fmt::Result {
        let settings = &self.core.table().settings;
        let (exchange, printable) =
            (self.exchange, |value: &[u8]| String::from_utf8_lossy(value).escape_default().to_string());
        let of_request = name == "hr";
        let captures = if of_request { &settings.capture_request } else { &settings.capture_response };
        if matches!(name, "CC" | "CS") || captures.is_empty() {
            return out.write_str(if matches!(name, "CC" | "CS") { "-" } else { "" });
        }
        out.push('{');
        for (place, capture) in captures.iter().enumerate() {
            let (fields, bytes) = match of_request {
                true => (&exchange.request.fields, &exchange.head),
                false => (&exchange.response.fields, &exchange.answer),
            };
            let named =
                |field: &&crate::http1::Field| field.name.of(bytes).eq_ignore_ascii_case(capture.name.as_bytes());
            let value = fields.iter().rfind(named).map_or(&b""[..], |field| field.value.of(bytes));
            write!(
                out,
                "{}{}",
                if place > 0 { "|" } else { "" },
                printable(&value[..value.len().min(capture.length)])
            )?;
        }
        out.write_char('}')
    }

    /// Method, target.
    fn words(&self) -> (&str, &str) {
        let head = &self.exchange.head;
        (self.exchange.request.method.text(head), self.exchange.request.target.text(head))
    }

    fn request_line(&self) -> String {
        match self.words() {
            ("", _) => "<BADREQ>".to_owned(),
            (method, target) => format!("{method} {target} HTTP/1.1").escape_default().to_string(),
        }
    }

    fn frontend(&self) -> &'static str {
        match (&self.client.connection.tls, self.exchange.backend.as_ref().map(|backend| backend.termination)) {
            (_, Some(Termination::Passthrough)) => "public_ssl",
            (Some(_), _) => "fe_sni",
            (None, _) => "public",
        }
    }

    fn wall(&self, at: Instant) -> Duration {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        now.saturating_sub(self.now.saturating_duration_since(at))
    }

    fn json(&self) -> String {
        let (exchange, connection) = (self.exchange, &self.client.connection);
        let (method, target) = self.words();
        let route = exchange.backend.as_ref().map(|backend| backend.id.to_string());
        let times = &exchange.times;
        let micros = |time: Option<Duration>| time.map_or("null".to_owned(), |time| time.as_micros().to_string());
        let mut out = String::with_capacity(512);
        let _ = write!(
            out,
            "{{\"time\":\"{}\",\"client\":\"{}\",\"method\":{},\"host\":{},\"target\":{},\"status\":{},\"route\":{},\"endpoint\":{},",
            rfc3339(self.wall(times.begun)),
            connection.client,
            quote(method),
            quote(exchange.request.host.text(&exchange.head)),
            quote(target),
            exchange.status,
            route.as_deref().map_or("null".to_owned(), quote),
            exchange.chosen().map_or("null".to_owned(), |endpoint| quote(&endpoint.address.to_string())),
        );
        let _ = write!(
            out,
            "\"bytes_in\":{},\"bytes_out\":{},\"queue_us\":{},\"connect_us\":{},\"response_us\":{},\"total_us\":{},\"retries\":{},\"end\":{},\"reason\":{},\"tls\":{}}}",
            exchange.up.written,
            exchange.down.written,
            micros(times.queue()),
            micros(times.connect()),
            micros(times.response()),
            micros(Some(self.now - times.begun)),
            exchange.retries,
            quote(exchange.end.letters()),
            exchange.reason.as_deref().map_or("null".to_owned(), quote),
            connection.tls.as_ref().map_or("null".to_owned(), |tls| quote(tls.version)),
        );
        out
    }
}

/// A JSON string.
fn quote(text: &str) -> String {
    let mut out = String::with_capacity(text.len() + 2);
    out.push('"');
    for letter in text.chars() {
        match letter {
            '"' | '\\' => {
                out.push('\\');
                out.push(letter);
            }
            control if control < ' ' => {
                let _ = write!(out, "\\u{:04x}", control as u32);
            }
            other => out.push(other),
        }
    }
    out.push('"');
    out
}

fn milliseconds(out: &mut String, time: Option<Duration>) -> std::fmt::Result {
    match time {
        Some(time) => write!(out, "{}", time.as_millis()),
        None => out.write_str("-1"),
    }
}

/// The reference's name of a backend.
pub fn backend_name(backend: &Backend) -> String {
    let kind = match backend.termination {
        Termination::Plain => "be_http",
        Termination::Edge => "be_edge_http",
        Termination::Reencrypt => "be_secure",
        Termination::Passthrough => "be_tcp",
    };
    format!("{kind}:{}:{}", backend.id.namespace, backend.id.name)
}

/// The reference's name of a server.
pub fn server_name(endpoint: &Endpoint) -> String {
    let (service, port, address) = (&endpoint.service, &endpoint.port, endpoint.address);
    match &endpoint.pod {
        Some(pod) => format!("pod:{pod}:{service}:{port}:{}:{}", address.ip(), address.port()),
        None => format!("ept:{service}:{port}:{}:{}", address.ip(), address.port()),
    }
}

const MONTHS: [&str; 12] = ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"];

/// Year, month (0 to 11), day, and the second of the day, UTC (Howard Hinnant's civil_from_days).
fn civil(since_epoch: Duration) -> (i64, usize, i64, u64) {
    let seconds = since_epoch.as_secs();
    let days = (seconds / 86_400) as i64 + 719_468;
    let (era, day_of_era) = (days.div_euclid(146_097), days.rem_euclid(146_097));
    let year_of_era = (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let shifted = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * shifted + 2) / 5 + 1;
    let month = if shifted < 10 { shifted + 3 } else { shifted - 9 };
    (year_of_era + era * 400 + i64::from(month <= 2), (month - 1) as usize, day, seconds % 86_400)
}

fn clock(second: u64) -> String {
    format!("{:02}:{:02}:{:02}", second / 3600, second / 60 % 60, second % 60)
}

/// As HAProxy writes it: `06/Feb/2009:12:14:14.655`.
fn log_time(time: Duration, milliseconds: bool) -> String {
    let (year, month, day, second) = civil(time);
    let after = if milliseconds { format!(".{:03}", time.subsec_millis()) } else { " +0000".to_owned() };
    format!("{day:02}/{}/{year}:{}{after}", MONTHS[month], clock(second))
}

fn rfc3339(time: Duration) -> String {
    let (year, month, day, second) = civil(time);
    format!("{year}-{:02}-{day:02}T{}.{:03}Z", month + 1, clock(second), time.subsec_millis())
}

/// As syslog writes it: `Feb  6 12:14:14`.
pub fn syslog_time() -> String {
    let (_, month, day, second) = civil(SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default());
    format!("{} {day:>2} {}", MONTHS[month], clock(second))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn writes_dates() {
        for (second, expected) in [
            (0, "1970-01-01T00:00:00.000Z"),
            (951_782_400, "2000-02-29T00:00:00.000Z"),
            (1_709_210_096, "2024-02-29T12:34:56.000Z"),
            (4_102_444_799, "2099-12-31T23:59:59.000Z"),
        ] {
            assert_eq!(rfc3339(Duration::from_secs(second)), expected);
        }
        assert_eq!(log_time(Duration::from_millis(1_233_922_454_655), true), "06/Feb/2009:12:14:14.655");
    }

    #[test]
    fn reads_formats() {
        let text = |text: &str| Part::Text(text.to_owned());
        let variable = |name: &str, quoted| Part::Variable { name: name.to_owned(), quoted };
        assert_eq!(
            parts("%ci:%cp %{+Q}r 5%%"),
            Ok(vec![
                variable("ci", false),
                text(":"),
                variable("cp", false),
                text(" "),
                variable("r", true),
                text(" 5"),
                text("%"),
            ])
        );
        assert_eq!(parts("%tsc"), Ok(vec![variable("tsc", false)]));
        assert!(parts("%[var(x)]").is_err());
        assert!(parts("%zz").is_err());
        assert!(Format::parse(None).is_ok());
    }

    #[test]
    fn quotes_for_json() {
        assert_eq!(quote("a\"b\\c\n"), "\"a\\\"b\\\\c\\u000a\"");
    }
}
