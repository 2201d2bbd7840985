//! What the page for people shows, as JSON: the router as a whole, and the busiest of the routes that it is asked for.

use serde_json::{Value, json};

use super::{Counters, Snapshot};
use crate::{
    listen::Door,
    server::Core,
    table::{Backend, Endpoint},
};

/// Routes that are told at most.
const MOST: usize = 200;

/// The report; `query` is that of the request: `q=` what a route's name or host must contain.
pub fn json(core: &Core, query: &str) -> String {
    let (shared, table) = (&core.shared, core.table());
    let wanted = query.split('&').find_map(|pair| pair.strip_prefix("q=")).map(decode).unwrap_or_default();
    let matches = |backend: &&Backend| {
        wanted.is_empty() || backend.host.contains(&wanted) || backend.id.to_string().contains(&wanted)
    };
    let mut backends: Vec<&Backend> = table.backends().map(AsRef::as_ref).filter(matches).collect();
    let found = backends.len();
    backends.sort_by_cached_key(|backend| {
        let counted = backend.state.counters.requests.value();
        (std::cmp::Reverse((backend.state.active(), counted)), backend.id.clone())
    });
    backends.truncate(MOST);
    json!({
        "uptime": shared.started.elapsed().as_secs(),
        "generation": table.generation,
        "hosts": table.hosts(),
        "found": found,
        "doors": [door(core, "HTTP", Door::Http), door(core, "TLS", Door::Https)],
        "routes": backends.into_iter().map(route).collect::<Vec<_>>(),
    })
    .to_string()
}

fn door(core: &Core, name: &str, door: Door) -> Value {
    let stats = &core.shared.stats;
    json!({ "name": name, "connections": stats.connections(door), "counted": counted(stats.requests(door)) })
}

fn route(backend: &Backend) -> Value {
    json!({
        "route": backend.id.to_string(),
        "host": &*backend.host,
        "path": &*backend.path,
        "termination": backend.termination.to_string(),
        "active": backend.state.active(),
        "counted": counted(&backend.state.counters),
        "endpoints": backend.endpoints.iter().map(endpoint).collect::<Vec<_>>(),
    })
}

fn endpoint(endpoint: &Endpoint) -> Value {
    json!({
        "address": endpoint.address.to_string(),
        "pod": endpoint.pod.as_deref(),
        "service": &*endpoint.service,
        "weight": endpoint.weight,
        "up": !endpoint.state.is_down(),
        "active": endpoint.state.active(),
        "counted": counted(&endpoint.state.counters),
    })
}

fn counted(counters: &Counters) -> Value {
    let Snapshot {
        requests, bytes_in, bytes_out, connection_errors, response_errors, denied, responses, means, ..
    } = counters.snapshot();
    json!({
        "requests": requests,
        "bytes_in": bytes_in,
        "bytes_out": bytes_out,
        "errors": connection_errors + response_errors,
        "denied": denied,
        "responses": responses,
        "response_us": means[2],
        "total_us": means[3],
    })
}

/// Percent-encoding undone; bytes that are no text are replaced.
fn decode(text: &str) -> String {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let [first, after @ ..] = rest {
        let code = match (first, after) {
            (b'%', [high, low, ..]) => {
                std::str::from_utf8(&[*high, *low]).ok().and_then(|hex| u8::from_str_radix(hex, 16).ok())
            }
            _ => None,
        };
        bytes.push(code.unwrap_or(if *first == b'+' { b' ' } else { *first }));
        rest = if code.is_some() { &after[2..] } else { after };
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

#[cfg(test)]
mod tests {
    use super::decode;

    #[test]
    fn decodes() {
        for (text, expected) in [("a%2Fb", "a/b"), ("a+b", "a b"), ("%", "%"), ("%zz", "%zz"), ("100%25", "100%")] {
            assert_eq!(decode(text), expected);
        }
    }
}
