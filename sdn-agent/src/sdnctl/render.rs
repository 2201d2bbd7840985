//! Answers as text for people.

use std::fmt::Display;

use crate::admin::api::{
    DnsAnswer, DnsStats, DropCount, DropEvent, EventLine, MapStatus, NodeRow, PodRow, PolicyExplanation, PolicyRow,
    ProgramStatus, RuleRow, Status,
};
use crate::terminal::{Terminal, Tone, printable};

/// Fill of a map from which it is worth a look, in percent.
const NEARLY_FULL: u64 = 80;

/// `sdnctl status`
pub(super) fn status(status: &Status, terminal: Terminal, wide: bool) -> String {
    let ready = match status.waiting.len() {
        0 => terminal.paint("ready", Tone::Good),
        _ => terminal.paint("not ready", Tone::Bad),
    };
    let (version, up) = (printable(status.version.clone()), span(status.uptime_seconds));
    let mut text = format!("{:<14}{ready}, version {version}, up {up}\n", "Agent");
    for (name, value) in facts(status) {
        text.push_str(&format!("{name:<14}{}\n", printable(value)));
    }
    text.push_str(&list("Waiting for", status.waiting.iter().map(|(stage, why)| format!("{stage}: {why}"))));
    text.push_str(&list("Problems of the source", &status.cluster.problems));
    text.push_str(&list("Problems of objects", &status.apply.problems));
    text.push_str(&list("Policies without room", status.apply.conditions.iter().map(|condition| &condition.message)));
    text.push_str(&list("Refused by the kernel, being retried", &status.apply.failures));
    text.push_str(&list("Lease files put aside", &status.quarantined_leases));
    text.push_str(&list("Not used from the source", &status.cluster.unused));
    text.push_str(&list("Could not be found out", &status.unknown));
    if !status.programs.is_empty() {
        text.push_str(&format!("\n{}", programs(&status.programs, terminal)));
    }
    if !status.maps.is_empty() {
        text.push_str(&format!("\n{}", maps(&status.maps, terminal, wide)));
    }
    text
}

fn facts(status: &Status) -> Vec<(&'static str, String)> {
    let resident: Vec<String> = status.resident_bytes.iter().map(|bytes| mebibytes(*bytes)).collect();
    let mut facts = vec![
        ("Process", format!("{}, resident {} (role, keeper)", status.pid, resident.join(" + "))),
        ("Node", status.node.clone()),
    ];
    let subnets = status.subnets.iter().map(|s| format!("{} ({} used, {} free)", s.subnet, s.used, s.free));
    facts.push(("Host subnets", or_none(subnets.collect::<Vec<_>>().join(", "))));
    facts.push(("Uplink", uplink(status)));
    let tunnel = status
        .overlay
        .as_ref()
        .map(|o| format!("{} (index {}), UDP port {}, MTU {}", o.name, o.ifindex, o.port, o.mtu));
    facts.push(("Tunnel", or_none(tunnel.unwrap_or_default())));
    facts.push(("Masquerade", status.masquerade.as_ref().map_or("off".to_owned(), |ports| format!("ports {ports}"))));
    let cluster = &status.cluster;
    let synced = if cluster.synced { "" } else { " (last known: the source has not been read to its end)" };
    let counts = format!("{} nodes, {} namespaces, {} pods", cluster.nodes, cluster.namespaces, cluster.pods);
    facts.push(("Cluster", format!("{counts}, generation {}{synced}", cluster.generation)));
    facts.push(("Local pods", status.local_pods.to_string()));
    let apply = &status.apply;
    let took = format!("{}.{:03} ms", apply.took_micros / 1000, apply.took_micros % 1000);
    let forwarding = if apply.forwarding { "forwarding" } else { "not forwarding yet" };
    facts.push((
        "Applied",
        format!("{forwarding}, generation {}, {} writes, last pass took {took}", apply.generation, apply.writes),
    ));
    let capabilities = &status.capabilities;
    let bounds = if capabilities.bounding == capabilities.effective && capabilities.no_new_privs {
        "and can gain no others"
    } else {
        "but could gain others"
    };
    facts.push(("Capabilities", format!("{capabilities}, {bounds}")));
    facts
}

fn uplink(status: &Status) -> String {
    let Some(uplink) = &status.uplink else { return "none".to_owned() };
    let addresses = join(&uplink.addresses);
    let mut text = format!("{} (index {}), MTU {}, {addresses}", uplink.name, uplink.ifindex, uplink.mtu);
    if !uplink.running {
        text.push_str(", no carrier");
    }
    if let Some(problem) = &status.uplink_problem {
        text.push_str(&format!("; now: {problem}"));
    }
    text
}

fn programs(programs: &[ProgramStatus], terminal: Terminal) -> String {
    let row = |program: &ProgramStatus| {
        let average = program.run_time_ns.checked_div(program.run_count).map(|ns| format!("{ns} ns"));
        let attached = match program.attached_to.len() {
            0..=4 => program.attached_to.join(" "),
            many => format!("{many} devices"),
        };
        let (id, runs) = (program.id.to_string(), program.run_count.to_string());
        [program.name.clone(), id, runs, average.unwrap_or_else(|| "-".to_owned()), attached]
    };
    terminal.table(["PROGRAM", "ID", "RUNS", "AVERAGE", "ATTACHED TO"], programs.iter().map(row))
}

fn maps(maps: &[MapStatus], terminal: Terminal, wide: bool) -> String {
    let fill = |map: &MapStatus| Some(map.entries? * 100 / map.capacity.max(1));
    // Maps whose fill nobody knows are of interest to those who ask for more.
    let shown = maps.iter().filter(|map| wide || map.entries.is_some());
    let row = |map: &MapStatus| {
        let number = |number: Option<u64>| number.map_or("-".to_owned(), |number| number.to_string());
        let percent = fill(map).map_or("-".to_owned(), |percent| format!("{percent}%"));
        [
            map.name.clone(),
            map.version.to_string(),
            number(map.entries),
            map.capacity.to_string(),
            percent,
            mebibytes(map.memory),
        ]
    };
    let tone = |percent: &str| {
        let percent: u64 = percent.strip_suffix('%')?.parse().ok()?;
        (percent >= NEARLY_FULL).then_some(Tone::Doubtful)
    };
    terminal.toned_table(["MAP", "VERSION", "ENTRIES", "CAPACITY", "FILL", "MEMORY"], shown.map(row), "FILL", tone)
}

/// `sdnctl get pods`
pub(super) fn pods(pods: &[PodRow], terminal: Terminal, wide: bool) -> String {
    let dash = |text: &str| if text.is_empty() { "-".to_owned() } else { text.to_owned() };
    let node = |pod: &PodRow| pod.node.as_deref().map_or_else(|| "-".to_owned(), dash);
    let network = |pod: &PodRow| match (&pod.local, pod.host_network) {
        (Some(local), _) => local.host_interface.clone(),
        (None, true) => "host network".to_owned(),
        (None, false) => "-".to_owned(),
    };
    let ready = |pod: &PodRow| if pod.ready { "yes" } else { "no" }.to_owned();
    if pods.is_empty() {
        return "No pods.\n".to_owned();
    }
    if !wide {
        let row = |pod: &PodRow| {
            let addresses = dash(&join(&pod.addresses));
            [dash(&pod.namespace), pod.name.clone(), addresses, node(pod), pod.phase.clone(), ready(pod), network(pod)]
        };
        let titles = ["NAMESPACE", "NAME", "ADDRESSES", "NODE", "PHASE", "READY", "INTERFACE"];
        return terminal.table(titles, pods.iter().map(row));
    }
    let row = |pod: &PodRow| {
        let local = pod.local.clone().unwrap_or_default();
        let number = |number: u32| if number == 0 { "-".to_owned() } else { number.to_string() };
        let addresses = dash(&join(&pod.addresses));
        let [ifindex, mtu, incarnation] = [local.host_ifindex, local.mtu, local.incarnation].map(number);
        let container = dash(local.container_id.get(..12).unwrap_or(&local.container_id));
        [
            dash(&pod.namespace),
            pod.name.clone(),
            addresses,
            node(pod),
            pod.phase.clone(),
            ready(pod),
            network(pod),
            ifindex,
            dash(&local.mac),
            mtu,
            incarnation,
            container,
            dash(&pod.uid),
        ]
    };
    let titles = [
        "NAMESPACE",
        "NAME",
        "ADDRESSES",
        "NODE",
        "PHASE",
        "READY",
        "INTERFACE",
        "INDEX",
        "MAC",
        "MTU",
        "INCARNATION",
        "CONTAINER",
        "UID",
    ];
    terminal.table(titles, pods.iter().map(row))
}

/// `sdnctl get nodes`
pub(super) fn nodes(nodes: &[NodeRow], terminal: Terminal, wide: bool) -> String {
    if nodes.is_empty() {
        return "No nodes.\n".to_owned();
    }
    let name = |node: &NodeRow| if node.this { format!("{} (this)", node.name) } else { node.name.clone() };
    let schedulable = |node: &NodeRow| if node.unschedulable { "no" } else { "yes" }.to_owned();
    let basic = |node: &NodeRow| {
        [name(node), or_none(join(&node.addresses)), or_none(join(&node.subnets)), node.pods.to_string()]
    };
    if !wide {
        return terminal.table(["NAME", "ADDRESSES", "HOST SUBNETS", "PODS"], nodes.iter().map(basic));
    }
    let row = |node: &NodeRow| {
        let [name, addresses, subnets, pods] = basic(node);
        let zone = node.zone.clone().unwrap_or_else(|| "-".to_owned());
        [name, addresses, subnets, pods, zone, schedulable(node), node.uid.clone()]
    };
    let titles = ["NAME", "ADDRESSES", "HOST SUBNETS", "PODS", "ZONE", "SCHEDULABLE", "UID"];
    terminal.table(titles, nodes.iter().map(row))
}

/// `sdnctl policy get`
pub(super) fn policies(rows: &[PolicyRow], terminal: Terminal, wide: bool) -> String {
    if rows.is_empty() {
        return "There are no policies: everything is allowed.\n".to_owned();
    }
    let rules = |rules: Option<usize>| rules.map_or("-".to_owned(), |rules| format!("{rules} rules"));
    let fit = |row: &PolicyRow| match (row.problems.is_empty(), row.conditions.is_empty()) {
        (true, true) => "ok",
        (false, _) => "invalid",
        (true, false) => "no room",
    };
    let row = |row: &PolicyRow| {
        let pods = format!("{} ({} here)", row.pods.len(), row.here);
        let selector = if wide { row.pods.join(" ") } else { pods };
        [row.namespace.clone(), row.name.clone(), rules(row.ingress), rules(row.egress), selector, fit(row).to_owned()]
    };
    let mut text = terminal.table(["NAMESPACE", "NAME", "INGRESS", "EGRESS", "PODS", "STATE"], rows.iter().map(row));
    let named = |row: &PolicyRow, what: &[String]| {
        let name = format!("{}/{}", row.namespace, row.name);
        what.iter().map(|what| format!("{name}: {what}")).collect::<Vec<_>>()
    };
    text.push_str(&list(
        "Invalid: what they select validly is isolated",
        rows.iter().flat_map(|row| named(row, &row.problems)),
    ));
    text.push_str(&list("Without room", rows.iter().flat_map(|row| named(row, &row.conditions))));
    text
}

/// `sdnctl policy explain`
pub(super) fn explanation(explanation: &PolicyExplanation, terminal: Terminal) -> String {
    let mut text = format!("Pod {} {}\n", printable(explanation.pod.clone()), join(&explanation.addresses));
    for (name, rules) in [("Ingress", &explanation.ingress), ("Egress", &explanation.egress)] {
        match rules {
            None => text.push_str(&format!("\n{name}: not isolated, everything is allowed.\n")),
            Some(rules) => {
                text.push_str(&format!("\n{name}: isolated; only this is allowed:\n"));
                text.push_str(&rules_table(rules, terminal));
            }
        }
    }
    text.push_str(&list("Always allowed", &explanation.always));
    text.push_str(&list("Notes", &explanation.notes));
    text
}

fn rules_table(rules: &[RuleRow], terminal: Terminal) -> String {
    let row = |row: &RuleRow| {
        let rule = row.rule.map_or("-".to_owned(), |rule| rule.to_string());
        let peers = if row.rule.is_some() { row.peers.join("; ") } else { "nobody: it has no rules".to_owned() };
        let now = row.matches.as_ref().map_or("-".to_owned(), |matches| or_none(matches.join(" ")));
        [row.policy.clone(), rule, peers, row.ports.join(" "), now]
    };
    terminal.table(["POLICY", "RULE", "PEERS", "PORTS", "PODS NOW"], rules.iter().map(row))
}

/// `sdnctl drops`
pub(super) fn drops(rows: &[DropCount], terminal: Terminal, wide: bool) -> String {
    if rows.is_empty() {
        return "Nothing was dropped.\n".to_owned();
    }
    let basic = |row: &DropCount| {
        let direction = format!("{:?}", row.direction).to_lowercase();
        let author = row.author.clone().unwrap_or_else(|| "-".to_owned());
        [row.reason.clone(), row.endpoint.clone(), direction, row.peer.clone(), author, row.packets.to_string()]
    };
    if !wide {
        return terminal
            .table(["REASON", "ENDPOINT", "DIRECTION", "PEER", "POLICY", "PACKETS"], rows.iter().map(basic));
    }
    let row = |row: &DropCount| {
        let [reason, endpoint, direction, peer, author, packets] = basic(row);
        [reason, endpoint, direction, peer, author, packets, row.bytes.to_string(), row.description.clone()]
    };
    let titles = ["REASON", "ENDPOINT", "DIRECTION", "PEER", "POLICY", "PACKETS", "BYTES", "MEANING"];
    terminal.table(titles, rows.iter().map(row))
}

/// One line of `sdnctl drops --watch`.
pub(super) fn event(line: &EventLine, terminal: Terminal) -> String {
    let event = match line {
        EventLine::Lost { lost } => {
            return terminal.paint(&format!("({lost} events lost: this reader was too slow)"), Tone::Doubtful);
        }
        EventLine::Event(event) => event,
    };
    let seconds = event.time_ms / 1000 % 86_400;
    let time =
        format!("{:02}:{:02}:{:02}.{:03}", seconds / 3600, seconds / 60 % 60, seconds % 60, event.time_ms % 1000);
    let direction = format!("{:?}", event.direction).to_lowercase();
    let DropEvent { reason, endpoint, protocol, length, .. } = event;
    let reason = terminal.paint(&printable(reason.clone()), Tone::Bad);
    let author = event.author.as_ref().map(|author| format!(", by {author}")).unwrap_or_default();
    let rest = format!("{endpoint} {direction} {protocol} {} {length} bytes{author}", tuple(event));
    format!("{time} UTC {reason} {}", printable(rest))
}

/// `10.128.2.2:40000 > 10.128.4.2:80`
fn tuple(event: &DropEvent) -> String {
    let side = |address: Option<std::net::IpAddr>, port: Option<u16>| match (address, port) {
        (Some(address), Some(port)) => std::net::SocketAddr::new(address, port).to_string(),
        (Some(address), None) => address.to_string(),
        (None, _) => "?".to_owned(),
    };
    let source = side(event.source, event.source_port);
    format!("{source} > {}", side(event.destination, event.destination_port))
}

/// A heading and indented lines; nothing where there are none.
/// `sdnctl dns query`
pub(super) fn dns_answer(answer: &DnsAnswer) -> String {
    let own = if answer.authoritative { "the cluster's own" } else { "not of the cluster" };
    let client = answer.client.map_or_else(|| "the node".to_owned(), |address| address.to_string());
    let asked = printable(answer.asked.join(", "));
    let mut text = format!("; {}, {own}, {} µs, as {client}, asked for: {asked}\n", answer.code, answer.took_micros);
    for record in &answer.records {
        text.push_str(&format!("{}\n", printable(record.clone())));
    }
    text
}

/// `sdnctl dns stats`
pub(super) fn dns_stats(stats: &DnsStats) -> String {
    let ready = if stats.ready { "ready" } else { "not ready: the cluster is not known yet" };
    let mut text = format!("{:<14}{ready}\n{:<14}{}\n", "DNS", "Domain", printable(stats.domain.clone()));
    text.push_str(&format!("{:<14}{}\n", "Addresses", join(&stats.addresses)));
    text.push_str(&format!("{:<14}{} services, {} addresses of endpoints\n", "Names", stats.services, stats.endpoints));
    let upstreams = stats.upstreams.iter().map(|upstream| match &upstream.problem {
        None => upstream.address.clone(),
        Some(problem) => format!("{}: {problem}", upstream.address),
    });
    text.push_str(&list("Upstreams", upstreams));
    text.push_str(&list("Counters", stats.counters.iter().map(|(name, value)| format!("{value:>10}  {name}"))));
    text
}

fn list(heading: &str, lines: impl IntoIterator<Item = impl Display>) -> String {
    let lines: String = lines.into_iter().map(|line| format!("  {}\n", printable(line.to_string()))).collect();
    if lines.is_empty() { lines } else { format!("\n{heading}:\n{lines}") }
}

fn join(values: &[impl Display]) -> String {
    values.iter().map(ToString::to_string).collect::<Vec<_>>().join(" ")
}

fn or_none(text: String) -> String {
    if text.is_empty() { "none".to_owned() } else { text }
}

fn mebibytes(bytes: u64) -> String {
    format!("{}.{} MiB", bytes >> 20, ((bytes & 0xf_ffff) * 10) >> 20)
}

/// `3d 4h`, `4h 5m`, `5m 6s`, `6s`
fn span(seconds: u64) -> String {
    let (days, hours, minutes) = (seconds / 86_400, seconds / 3600 % 24, seconds / 60 % 60);
    match (days, hours, minutes) {
        (0, 0, 0) => format!("{seconds}s"),
        (0, 0, _) => format!("{minutes}m {}s", seconds % 60),
        (0, _, _) => format!("{hours}h {minutes}m"),
        _ => format!("{days}d {hours}h"),
    }
}
