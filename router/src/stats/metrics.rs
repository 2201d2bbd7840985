//! Metrics with the names and labels of the reference's exporter, so that dashboards move over.

use std::fmt::Write;

use super::{Counters, Snapshot};
use crate::{
    listen::Door,
    server::Core,
    table::{Backend, Endpoint, Termination},
};

/// One series: its labels, what is counted, how many are in flight, and whether it is up.
struct Series {
    labels: String,
    counted: Snapshot,
    active: u32,
    is_up: bool,
}

/// The counters of a series, by the exporter's names, with help.
type Column = (&'static str, &'static str, &'static str, fn(&Series) -> u64);

const COLUMNS: [Column; 12] = [
    ("current_sessions", "gauge", "Requests in flight.", |series| series.active.into()),
    ("connections_total", "counter", "Requests (passthrough: connections) that have ended.", |series| {
        series.counted.requests
    }),
    ("bytes_in_total", "counter", "Bytes from clients.", |series| series.counted.bytes_in),
    ("bytes_out_total", "counter", "Bytes to clients.", |series| series.counted.bytes_out),
    ("connection_errors_total", "counter", "Connections to pods that failed.", |series| {
        series.counted.connection_errors
    }),
    ("response_errors_total", "counter", "Responses that did not come, or not whole.", |series| {
        series.counted.response_errors
    }),
    ("up", "gauge", "Whether it is there.", |series| series.is_up.into()),
    ("retries_total", "counter", "Connections to pods that were tried again.", |series| series.counted.retries),
    ("redispatches_total", "counter", "Requests that went to another pod than the first.", |series| {
        series.counted.redispatches
    }),
    ("http_average_queue_latency_milliseconds", "gauge", "Mean wait for a place at a pod.", |series| {
        series.counted.means[0] / 1000
    }),
    ("http_average_connect_latency_milliseconds", "gauge", "Mean time to connect.", |series| {
        series.counted.means[1] / 1000
    }),
    ("http_average_response_latency_milliseconds", "gauge", "Mean time to the response.", |series| {
        series.counted.means[2] / 1000
    }),
];

/// All metrics, in Prometheus' text format.
pub fn write(core: &Core) -> String {
    let (shared, table) = (&core.shared, core.table());
    let mut out = String::with_capacity(64 * 1024);
    header(&mut out, "haproxy_up", "gauge", "Whether the router serves.");
    out.push_str("haproxy_up 1\n");
    header(&mut out, "culvert_router_routes", "gauge", "Routes that are served.");
    let backends: Vec<_> = table.backends().collect();
    line(&mut out, format_args!("culvert_router_routes {}\n", backends.len()));
    header(&mut out, "culvert_router_table_generation", "counter", "Tables that were made.");
    line(&mut out, format_args!("culvert_router_table_generation {}\n", table.generation));
    header(&mut out, "template_router_reload_failure", "gauge", "Always 0: there are no reloads.");
    out.push_str("template_router_reload_failure 0\n");
    let doors = [("public", Door::Http), ("public_ssl", Door::Https)];
    frontends(&mut out, &doors.map(|(name, door)| (name, shared.stats.connections(door), shared.stats.requests(door))));
    family(&mut out, "backend", &backends.iter().map(|backend| of_backend(backend)).collect::<Vec<_>>());
    let servers = backends.iter().map(|backend| backend.endpoints.len()).sum::<usize>();
    header(&mut out, "haproxy_exporter_server_threshold", "gauge", "With more endpoints than this none is told of.");
    let threshold = table.settings.server_threshold;
    line(&mut out, format_args!("haproxy_exporter_server_threshold{{type=\"current\"}} {servers}\n"));
    line(&mut out, format_args!("haproxy_exporter_server_threshold{{type=\"limit\"}} {threshold}\n"));
    if servers <= threshold {
        let each =
            backends.iter().flat_map(|backend| backend.endpoints.iter().map(|endpoint| of_server(backend, endpoint)));
        family(&mut out, "server", &each.collect::<Vec<_>>());
    }
    out
}

fn frontends(out: &mut String, doors: &[(&str, u64, &Counters)]) {
    header(out, "haproxy_frontend_connections_total", "counter", "Connections that were taken.");
    for (name, connections, _) in doors {
        line(out, format_args!("haproxy_frontend_connections_total{{frontend=\"{name}\"}} {connections}\n"));
    }
    type Value = fn(&Snapshot) -> u64;
    let columns: [(&str, &str, Value); 4] = [
        ("http_requests_total", "Requests.", |counted| counted.requests),
        ("bytes_in_total", "Bytes from clients.", |counted| counted.bytes_in),
        ("bytes_out_total", "Bytes to clients.", |counted| counted.bytes_out),
        ("requests_denied_total", "Requests and connections that were refused.", |counted| counted.denied),
    ];
    for (column, help, value) in columns {
        header(out, &format!("haproxy_frontend_{column}"), "counter", help);
        for (name, _, counters) in doors {
            let value = value(&counters.snapshot());
            line(out, format_args!("haproxy_frontend_{column}{{frontend=\"{name}\"}} {value}\n"));
        }
    }
    header(out, "haproxy_frontend_http_responses_total", "counter", "Responses by class.");
    for (name, _, counters) in doors {
        responses(out, "frontend", &format!("frontend=\"{name}\""), &counters.snapshot());
    }
}

fn family(out: &mut String, kind: &str, series: &[Series]) {
    for (column, metric, help, value) in COLUMNS {
        header(out, &format!("haproxy_{kind}_{column}"), metric, help);
        for one in series {
            line(out, format_args!("haproxy_{kind}_{column}{{{}}} {}\n", one.labels, value(one)));
        }
    }
    header(out, &format!("haproxy_{kind}_http_responses_total"), "counter", "Responses by class.");
    for one in series {
        responses(out, kind, &one.labels, &one.counted);
    }
}

fn responses(out: &mut String, kind: &str, labels: &str, counted: &Snapshot) {
    for (class, count) in counted.responses.iter().enumerate() {
        let code = if class == 0 { "other".to_owned() } else { format!("{class}xx") };
        line(out, format_args!("haproxy_{kind}_http_responses_total{{{labels},code=\"{code}\"}} {count}\n"));
    }
}

fn of_backend(backend: &Backend) -> Series {
    let kind = match backend.termination {
        Termination::Plain => "http",
        Termination::Edge => "https-edge",
        Termination::Reencrypt => "https",
        Termination::Passthrough => "tcp",
    };
    let labels = format!("backend=\"{kind}\",namespace=\"{}\",route=\"{}\"", backend.id.namespace, backend.id.name);
    let is_up = backend.endpoints.iter().any(|endpoint| !endpoint.state.is_down());
    Series { labels, counted: backend.state.counters.snapshot(), active: backend.state.active(), is_up }
}

fn of_server(backend: &Backend, endpoint: &Endpoint) -> Series {
    let (namespace, route) = (&backend.id.namespace, &backend.id.name);
    let (server, service, pod) = (endpoint.address, &endpoint.service, endpoint.pod.as_deref().unwrap_or_default());
    let labels =
        format!("server=\"{server}\",namespace=\"{namespace}\",route=\"{route}\",pod=\"{pod}\",service=\"{service}\"");
    let state = &endpoint.state;
    Series { labels, counted: state.counters.snapshot(), active: state.active(), is_up: !state.is_down() }
}

fn header(out: &mut String, name: &str, kind: &str, help: &str) {
    line(out, format_args!("# HELP {name} {help}\n# TYPE {name} {kind}\n"));
}

fn line(out: &mut String, text: std::fmt::Arguments<'_>) {
    out.write_fmt(text).expect("writing to a String does not fail");
}
