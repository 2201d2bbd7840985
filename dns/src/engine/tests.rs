use crate::{
    config::{Config, Rate},
    metrics::Transport,
    testing::{Rig, cluster, config, decode, query, slice},
};
use hickory_proto::{
    op::{Edns, ResponseCode},
    serialize::binary::BinEncodable,
};
use sdn_cluster::Snapshot;
use std::num::NonZeroU32;

/// A cluster with a headless Service of so many endpoints, called `shop/down`.
fn large(endpoints: u32) -> Snapshot {
    let mut snapshot = cluster();
    let all: Vec<String> =
        (0..endpoints).map(|host| std::net::Ipv4Addr::from(0x0a81_0000 + host).to_string()).collect();
    for (number, part) in all.chunks(1000).enumerate() {
        let part: Vec<&str> = part.iter().map(String::as_str).collect();
        slice(&mut snapshot, &format!("shop/large-{number}"), "down", &["sql/TCP/5432"], &part);
    }
    snapshot
}

fn bytes(name: &str, rtype: &str, size: Option<u16>) -> Vec<u8> {
    let mut message = query(name, rtype);
    message.edns = size.map(|size| {
        let mut edns = Edns::new();
        edns.set_max_payload(size);
        edns
    });
    message.to_bytes().unwrap()
}

#[test]
fn what_does_not_fit_is_cut_and_said() {
    let mut rig = Rig::with(&large(300), config(), true);
    let name = "down.shop.svc.cluster.local.";
    for (size, limit) in [(None, 512), (Some(512), 512), (Some(900), 900), (Some(1232), 1232), (Some(4096), 1232)] {
        let reply = rig.ask_bytes(&bytes(name, "A", size), "10.128.2.2", Transport::Udp).unwrap();
        assert!(reply.len() <= limit && reply.len() > limit - 30, "{size:?}: {}", reply.len());
        let message = decode(&reply);
        assert!(message.metadata.truncation);
        assert_eq!(message.edns.map(|edns| usize::from(edns.max_payload())), size.map(|_| limit));
    }
    let reply = decode(&rig.ask_bytes(&bytes(name, "A", None), "10.128.2.2", Transport::Tcp).unwrap());
    assert!(!reply.metadata.truncation);
    assert_eq!(reply.answers.len(), 300);
}

#[test]
fn what_is_only_helpful_is_left_out_without_a_word() {
    let mut rig = Rig::with(&large(8), config(), true);
    let name = "_sql._tcp.down.shop.svc.cluster.local.";
    let reply = decode(&rig.ask_bytes(&bytes(name, "SRV", Some(640)), "10.128.2.2", Transport::Udp).unwrap());
    assert_eq!(reply.answers.len(), 8);
    assert!(reply.additionals.len() < 8 && !reply.metadata.truncation);
}

#[test]
fn more_endpoints_than_a_message_holds_are_a_choice_of_them() {
    let mut rig = Rig::with(&large(6000), config(), true);
    let reply = rig.ask_bytes(&bytes("down.shop.svc.cluster.local.", "A", None), "10.128.2.2", Transport::Tcp).unwrap();
    let message = decode(&reply);
    assert!(message.answers.len() > 4000 && message.metadata.truncation);
    let distinct: std::collections::BTreeSet<_> =
        message.answers.iter().map(|record| record.data.to_string()).collect();
    assert_eq!(distinct.len(), message.answers.len());
}

#[test]
fn an_endpoint_in_two_slices_is_one() {
    let mut snapshot = cluster();
    slice(&mut snapshot, "shop/db-copy", "db", &["metrics/TCP/9100"], &["10.128.1.1=db-0"]);
    let mut rig = Rig::with(&snapshot, config(), true);
    assert_eq!(rig.ask("db.shop.svc.cluster.local.", "A").answers.len(), 2);
    assert_eq!(rig.ask("_metrics._tcp.db.shop.svc.cluster.local.", "SRV").answers.len(), 1);
    assert_eq!(rig.ask("_sql._tcp.db.shop.svc.cluster.local.", "SRV").answers.len(), 4);
}

#[test]
fn any_gets_one_small_record() {
    let mut rig = Rig::with(&large(300), config(), true);
    for name in ["down.shop.svc.cluster.local.", "cluster.local.", "www.example.com."] {
        let reply = rig.ask(name, "ANY");
        assert_eq!(reply.answers.len(), 1, "{name}");
        assert_eq!(reply.answers[0].record_type().to_string(), "HINFO");
    }
    assert_eq!(rig.ask("nobody.shop.svc.cluster.local.", "ANY").metadata.response_code, ResponseCode::NXDomain);
    assert!(rig.known.asked().is_empty());
}

#[test]
fn strangers_get_nothing() {
    let mut rig = Rig::new();
    let message = bytes("api.shop.svc.cluster.local.", "A", None);
    for client in ["192.0.2.1", "8.8.8.8", "2001:db8::1", "192.168.0.2"] {
        assert_eq!(rig.ask_bytes(&message, client, Transport::Udp), None, "{client}");
    }
    for client in ["10.128.2.2", "10.131.0.1", "fd01::9", "192.168.0.1"] {
        assert!(rig.ask_bytes(&message, client, Transport::Udp).is_some(), "{client}");
    }
}

#[test]
fn who_asks_too_much_waits() {
    let number = |number| NonZeroU32::new(number).unwrap();
    let rate = Some(Rate { per_second: number(1), burst: number(5) });
    let mut rig = Rig::with(&cluster(), Config { rate, ..config() }, true);
    let message = bytes("api.shop.svc.cluster.local.", "A", None);
    let answered =
        |rig: &mut Rig, client| (0..20).filter(|_| rig.ask_bytes(&message, client, Transport::Udp).is_some()).count();
    assert_eq!(answered(&mut rig, "10.128.2.2"), 5);
    assert_eq!(answered(&mut rig, "10.128.2.3"), 5);
}

#[test]
fn names_of_others_are_forwarded_as_they_came() {
    for cached in [true, false] {
        let mut rig = Rig::with(&cluster(), config(), cached);
        let reply = rig.ask("www.EXAMPLE.com.", "A");
        assert_eq!(reply.answers.len(), 2);
        assert!(!reply.metadata.authoritative);
        assert_eq!(rig.known.asked(), ["www.example.com."]);
    }
}

#[test]
fn authoritative_is_what_the_cluster_says() {
    let mut rig = Rig::new();
    for name in ["api.shop.svc.cluster.local.", "no.shop.svc.cluster.local.", "20.0.30.172.in-addr.arpa."] {
        assert!(rig.ask(name, "A").metadata.authoritative, "{name}");
    }
}

/// Bytes of a message that may be nearly anything, from a seed.
struct Source(u64);

impl Source {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }

    fn below(&mut self, end: usize) -> usize {
        usize::try_from(self.next() % end as u64).unwrap()
    }

    /// A message: one of the valid ones with some bytes changed, or noise.
    fn message(&mut self, valid: &[Vec<u8>], out: &mut Vec<u8>) {
        out.clear();
        if self.below(8) == 0 {
            let length = self.below(600);
            out.extend((0..length).map(|_| self.next().to_le_bytes()[0]));
            return;
        }
        out.extend_from_slice(&valid[self.below(valid.len())]);
        for _ in 0..self.below(6) {
            match self.below(4) {
                0 => out.truncate(self.below(out.len() + 1)),
                1 => out.push(self.next().to_le_bytes()[0]),
                _ if out.is_empty() => {}
                // The first byte behind the id matters most.
                2 => {
                    let at = self.below(out.len().min(14));
                    out[at] = self.next().to_le_bytes()[0];
                }
                _ => {
                    let at = self.below(out.len());
                    out[at] = self.next().to_le_bytes()[0];
                }
            }
        }
    }
}

/// Resident memory of this process, in KiB.
fn resident() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find(|line| line.starts_with("VmRSS:")).unwrap();
    line.split_whitespace().nth(1).unwrap().parse().unwrap()
}

/// Random messages through all of it: none may panic, every answer is a message that can be read and fits, and memory
/// does not grow. `SDN_FUZZ_ITERATIONS` says how many; `SDN_FUZZ_SEED` which.
#[test]
fn no_message_does_harm() {
    const CHILD: &str = "SDN_FUZZ_CHILD";
    if std::env::var_os(CHILD).is_none() {
        // Memory is a process's: this needs one of its own.
        let test = ["--exact", "engine::tests::no_message_does_harm", "--nocapture"];
        let child = std::process::Command::new(std::env::current_exe().unwrap()).args(test).env(CHILD, "1").output();
        let child = child.unwrap();
        assert!(child.status.success(), "{}", String::from_utf8_lossy(&child.stderr));
        assert!(String::from_utf8_lossy(&child.stdout).contains("1 passed"), "nothing was run");
        return;
    }
    let number = |name: &str, default| std::env::var(name).ok().map_or(default, |text| text.parse().unwrap());
    let (iterations, seed) = (number("SDN_FUZZ_ITERATIONS", 100_000), number("SDN_FUZZ_SEED", 0x5eed));
    let mut rig = Rig::with(&large(100), config(), true);
    let names = [
        "api.shop.svc.cluster.local.",
        "_sql._tcp.down.shop.svc.cluster.local.",
        "db-0.db.shop.svc.cluster.local.",
        "10-128-2-2.shop.pod.cluster.local.",
        "20.0.30.172.in-addr.arpa.",
        "twice.shop.svc.cluster.local.",
        "example.net.shop.svc.cluster.local.",
        "_endpoints.api.shop.svc.cluster.local.",
        "cluster.local.",
        "www.example.com.",
    ];
    let valid: Vec<Vec<u8>> = names
        .iter()
        .flat_map(|name| ["A", "AAAA", "SRV", "PTR", "ANY", "SOA"].map(|rtype| bytes(name, rtype, Some(1232))))
        .collect();
    let (mut source, mut message, mut settled, mut answered) = (Source(seed), Vec::new(), 0, 0u64);
    for iteration in 0..iterations {
        source.message(&valid, &mut message);
        let transport = if source.below(4) == 0 { Transport::Tcp } else { Transport::Udp };
        let reply = rig.ask_harmless(&message, transport);
        if let Some(reply) = reply {
            answered += 1;
            assert!(reply.len() >= 12 && reply[2] & 0x80 != 0 && reply[..2] == message[..2], "{message:?}");
            assert!(transport == Transport::Tcp || reply.len() <= 1232, "{message:?}");
            if iteration % 16 == 0 {
                decode(&reply);
            }
        }
        if iteration == iterations / 10 {
            settled = resident();
        }
    }
    assert!(answered > iterations / 4, "only {answered} of {iterations} were answered");
    let grown = resident().saturating_sub(settled);
    assert!(grown < 16 * 1024, "memory grew by {grown} KiB");
}

#[test]
fn edns_is_answered_with_edns_and_its_flag() {
    let mut rig = Rig::new();
    for dnssec_ok in [false, true] {
        let mut message = query("api.shop.svc.cluster.local.", "A");
        message.edns.as_mut().unwrap().set_dnssec_ok(dnssec_ok);
        let reply = rig.ask_bytes(&message.to_bytes().unwrap(), "10.128.2.2", Transport::Udp).unwrap();
        let edns = decode(&reply).edns.unwrap();
        assert_eq!((edns.flags().dnssec_ok, edns.version(), edns.max_payload()), (dnssec_ok, 0, 1232));
    }
    let reply = rig.ask_bytes(&bytes("api.shop.svc.cluster.local.", "A", None), "10.128.2.2", Transport::Udp).unwrap();
    assert!(decode(&reply).edns.is_none());
}

/// Counts what is logged of queries.
#[derive(Default)]
struct QueryLog(std::sync::Arc<std::sync::Mutex<Vec<String>>>);

impl tracing::Subscriber for QueryLog {
    fn enabled(&self, metadata: &tracing::Metadata<'_>) -> bool {
        metadata.target() == "sdn_dns::query"
    }

    fn event(&self, event: &tracing::Event<'_>) {
        struct Fields(String);
        impl tracing::field::Visit for Fields {
            fn record_debug(&mut self, field: &tracing::field::Field, value: &dyn std::fmt::Debug) {
                if field.name() != "took_us" {
                    self.0 += &format!("{field}={value:?} ");
                }
            }
        }
        let mut fields = Fields(String::new());
        event.record(&mut fields);
        self.0.lock().unwrap().push(fields.0);
    }

    fn new_span(&self, _: &tracing::span::Attributes<'_>) -> tracing::span::Id {
        tracing::span::Id::from_u64(1)
    }

    fn record(&self, _: &tracing::span::Id, _: &tracing::span::Record<'_>) {}

    fn record_follows_from(&self, _: &tracing::span::Id, _: &tracing::span::Id) {}

    fn enter(&self, _: &tracing::span::Id) {}

    fn exit(&self, _: &tracing::span::Id) {}
}

#[test]
fn queries_are_logged_while_that_is_wanted() {
    let (log, mut rig) = (QueryLog::default(), Rig::with(&cluster(), config(), false));
    let lines = log.0.clone();
    tracing::subscriber::with_default(log, || {
        rig.ask("api.shop.svc.cluster.local.", "A");
        assert!(lines.lock().unwrap().is_empty());
        rig.engine.log_queries.store(true, std::sync::atomic::Ordering::Relaxed);
        rig.ask("no.shop.svc.cluster.local.", "AAAA");
        // One that waits for others.
        rig.ask("www.example.com.", "A");
        rig.engine.log_queries.store(false, std::sync::atomic::Ordering::Relaxed);
        rig.ask("api.shop.svc.cluster.local.", "A");
    });
    let lines = lines.lock().unwrap();
    assert_eq!(lines.len(), 2, "{lines:?}");
    let begin = "message=query client=10.128.2.2 transport=\"udp\" name=";
    assert!(lines[0].starts_with(&format!("{begin}no.shop.svc.cluster.local. rtype=28 rcode=3 size=")), "{}", lines[0]);
    assert!(lines[1].starts_with(&format!("{begin}www.example.com. rtype=1 rcode=0 size=")), "{}", lines[1]);
}
