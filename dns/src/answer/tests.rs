//! What the tables of the specification and of CoreDNS's and OpenShift's behaviour say, row by row.

use crate::{
    config::{Config, PodNames},
    metrics::Transport,
    testing::{Rig, cluster, config, decode, query, service, slice, text},
};
use hickory_proto::{
    op::{Message, ResponseCode},
    serialize::binary::BinEncodable,
};
use sdn_cluster::{Snapshot, model::ServiceKey};

/// Asks, and compares code and answers; the negative ones' SOA too.
fn check(rig: &mut Rig, name: &str, rtype: &str, rcode: ResponseCode, answers: &[&str]) -> Message {
    let reply = rig.ask(name, rtype);
    assert_eq!(reply.metadata.response_code, rcode, "{name} {rtype}: {reply}");
    assert_eq!(text(&reply.answers), answers, "{name} {rtype}");
    assert!(reply.metadata.recursion_available && reply.metadata.recursion_desired);
    let is_negative = answers.is_empty() && matches!(rcode, ResponseCode::NoError | ResponseCode::NXDomain);
    assert_eq!(reply.authorities.len(), usize::from(is_negative), "{name} {rtype}: {:?}", reply.authorities);
    reply
}

/// All rows of a table against one engine.
fn table(rig: &mut Rig, rows: &[(&str, &str, ResponseCode, &[&str])]) {
    for (name, rtype, rcode, answers) in rows {
        check(rig, name, rtype, *rcode, answers);
    }
}

const OK: ResponseCode = ResponseCode::NoError;
const NX: ResponseCode = ResponseCode::NXDomain;

#[test]
fn services_with_an_address() {
    table(
        &mut Rig::new(),
        &[
            ("api.shop.svc.cluster.local.", "A", OK, &["api.shop.svc.cluster.local. 5 A 172.30.0.20"]),
            ("api.shop.svc.cluster.local.", "AAAA", OK, &["api.shop.svc.cluster.local. 5 AAAA fd02::20"]),
            // A family that the Service does not have is no error: glibc asks for both and believes the worse.
            ("plain.shop.svc.cluster.local.", "A", OK, &["plain.shop.svc.cluster.local. 5 A 172.30.0.21"]),
            ("plain.shop.svc.cluster.local.", "AAAA", OK, &[]),
            // Without endpoints it answers all the same: plain has none.
            ("plain.shop.svc.cluster.local.", "TXT", OK, &[]),
            ("plain.shop.svc.cluster.local.", "MX", OK, &[]),
            ("plain.shop.svc.cluster.local.", "TYPE65", OK, &[]),
            ("plain.shop.svc.cluster.local.", "TYPE4711", OK, &[]),
            ("nobody.shop.svc.cluster.local.", "A", NX, &[]),
            ("api.nowhere.svc.cluster.local.", "A", NX, &[]),
            // CoreDNS serves names of endpoints below these, too.
            (
                "10-128-0-5.api.shop.svc.cluster.local.",
                "A",
                OK,
                &["10-128-0-5.api.shop.svc.cluster.local. 5 A 10.128.0.5"],
            ),
            ("east.api.shop.svc.cluster.local.", "A", OK, &["east.api.shop.svc.cluster.local. 5 A 10.128.0.6"]),
            ("10-128-0-6.api.shop.svc.cluster.local.", "A", NX, &[]),
            ("10-128-0-7.api.shop.svc.cluster.local.", "A", NX, &[]),
            (
                "fd01--5.api.shop.svc.cluster.local.",
                "AAAA",
                OK,
                &["fd01--5.api.shop.svc.cluster.local. 5 AAAA fd01::5"],
            ),
            ("fd01--5.api.shop.svc.cluster.local.", "A", OK, &[]),
        ],
    );
}

#[test]
fn ports_of_a_service_with_an_address() {
    let mut rig = Rig::new();
    let name = "_http._tcp.api.shop.svc.cluster.local.";
    let srv = format!("{name} 5 SRV 0 100 80 api.shop.svc.cluster.local.");
    let reply = check(&mut rig, name, "SRV", OK, &[&srv]);
    let addresses = ["api.shop.svc.cluster.local. 5 A 172.30.0.20", "api.shop.svc.cluster.local. 5 AAAA fd02::20"];
    assert_eq!(text(&reply.additionals), addresses);
    // CoreDNS answers SRV of the Service's own name with all ports.
    let own = "api.shop.svc.cluster.local.";
    let all = [format!("{own} 5 SRV 0 50 53 {own}"), format!("{own} 5 SRV 0 50 80 {own}")];
    check(&mut rig, own, "SRV", OK, &all.each_ref().map(String::as_str));
    table(
        &mut rig,
        &[
            (
                "_dns._udp.api.shop.svc.cluster.local.",
                "SRV",
                OK,
                &["_dns._udp.api.shop.svc.cluster.local. 5 SRV 0 100 53 api.shop.svc.cluster.local."],
            ),
            ("_http._tcp.api.shop.svc.cluster.local.", "A", OK, &[]),
            ("_tcp.api.shop.svc.cluster.local.", "SRV", OK, &[]),
            ("_sctp.api.shop.svc.cluster.local.", "SRV", NX, &[]),
            ("_http._udp.api.shop.svc.cluster.local.", "SRV", NX, &[]),
            ("_nope._tcp.api.shop.svc.cluster.local.", "SRV", NX, &[]),
            // A port without a name has no SRV of its own.
            ("_tcp.plain.shop.svc.cluster.local.", "SRV", NX, &[]),
            ("http._tcp.api.shop.svc.cluster.local.", "SRV", NX, &[]),
            // Too many labels.
            ("a._http._tcp.api.shop.svc.cluster.local.", "SRV", NX, &[]),
            ("a.b.api.shop.svc.cluster.local.", "A", NX, &[]),
        ],
    );
}

#[test]
fn headless_services() {
    table(
        &mut Rig::new(),
        &[
            (
                "db.shop.svc.cluster.local.",
                "A",
                OK,
                &["db.shop.svc.cluster.local. 5 A 10.128.1.1", "db.shop.svc.cluster.local. 5 A 10.128.1.2"],
            ),
            (
                "db.shop.svc.cluster.local.",
                "AAAA",
                OK,
                &["db.shop.svc.cluster.local. 5 AAAA fd01::1:0:0", "db.shop.svc.cluster.local. 5 AAAA fd01::1:1"],
            ),
            // None is ready: there is no such name.
            ("down.shop.svc.cluster.local.", "A", NX, &[]),
            ("_sql._tcp.down.shop.svc.cluster.local.", "SRV", NX, &[]),
            ("db-0.db.shop.svc.cluster.local.", "A", OK, &["db-0.db.shop.svc.cluster.local. 5 A 10.128.1.1"]),
            ("db-0.db.shop.svc.cluster.local.", "AAAA", OK, &["db-0.db.shop.svc.cluster.local. 5 AAAA fd01::1:1"]),
            ("db-1.db.shop.svc.cluster.local.", "A", OK, &["db-1.db.shop.svc.cluster.local. 5 A 10.128.1.2"]),
            ("db-1.db.shop.svc.cluster.local.", "AAAA", OK, &[]),
            ("db-2.db.shop.svc.cluster.local.", "A", NX, &[]),
            (
                "fd01--1-0-0.db.shop.svc.cluster.local.",
                "AAAA",
                OK,
                &["fd01--1-0-0.db.shop.svc.cluster.local. 5 AAAA fd01::1:0:0"],
            ),
            // Another way to write the same address is another name.
            ("fd01-0--1-0-0.db.shop.svc.cluster.local.", "AAAA", NX, &[]),
            ("bare.shop.svc.cluster.local.", "A", OK, &["bare.shop.svc.cluster.local. 5 A 10.128.0.5"]),
            ("bare.shop.svc.cluster.local.", "SRV", OK, &[]),
        ],
    );
}

#[test]
fn an_address_that_ends_with_colons_gets_a_zero() {
    let mut snapshot = cluster();
    slice(&mut snapshot, "shop/bare-2", "bare", &[], &["fd01:0:0:7::"]);
    table(
        &mut Rig::with(&snapshot, config(), true),
        &[(
            "fd01-0-0-7--0.bare.shop.svc.cluster.local.",
            "AAAA",
            OK,
            &["fd01-0-0-7--0.bare.shop.svc.cluster.local. 5 AAAA fd01:0:0:7::"],
        )],
    );
}

#[test]
fn ports_of_headless_services() {
    let mut rig = Rig::new();
    let name = "_sql._tcp.db.shop.svc.cluster.local.";
    let row = |target| format!("{name} 5 SRV 0 25 5432 {target}.db.shop.svc.cluster.local.");
    // db-0 has an address of each family: one name, and one record for each endpoint.
    let all = [row("db-0"), row("db-0"), row("db-1"), row("fd01--1-0-0")];
    let reply = check(&mut rig, name, "SRV", OK, &all.each_ref().map(String::as_str));
    assert_eq!(
        text(&reply.additionals),
        [
            "db-0.db.shop.svc.cluster.local. 5 A 10.128.1.1",
            "db-0.db.shop.svc.cluster.local. 5 AAAA fd01::1:1",
            "db-1.db.shop.svc.cluster.local. 5 A 10.128.1.2",
            "fd01--1-0-0.db.shop.svc.cluster.local. 5 AAAA fd01::1:0:0",
        ]
    );
    // Endpoints times ports, at the Service's own name.
    assert_eq!(rig.ask("db.shop.svc.cluster.local.", "SRV").answers.len(), 8);
}

#[test]
fn srv_weights_come_to_a_hundred_and_are_at_least_one() {
    let mut snapshot = cluster();
    let many: Vec<String> = (0..150).map(|host| format!("10.128.3.{host}")).collect();
    slice(&mut snapshot, "shop/bare-2", "bare", &["sql/TCP/1"], &many.iter().map(String::as_str).collect::<Vec<_>>());
    let mut rig = Rig::with(&snapshot, config(), true);
    let query = query("_sql._tcp.bare.shop.svc.cluster.local.", "SRV").to_bytes().unwrap();
    let reply = decode(&rig.ask_bytes(&query, "10.128.2.2", Transport::Tcp).unwrap());
    assert_eq!(reply.answers.len(), 150);
    assert!(text(&reply.answers).iter().all(|row| row.contains(" SRV 0 1 1 ")));
}

#[test]
fn endpoints_may_be_called_as_their_pods() {
    let mut rig = Rig::with(&cluster(), Config { endpoint_pod_names: true, ..config() }, true);
    table(
        &mut rig,
        &[
            (
                "pod-10x128x0x5.api.shop.svc.cluster.local.",
                "A",
                OK,
                &["pod-10x128x0x5.api.shop.svc.cluster.local. 5 A 10.128.0.5"],
            ),
            ("east.api.shop.svc.cluster.local.", "A", OK, &["east.api.shop.svc.cluster.local. 5 A 10.128.0.6"]),
            ("10-128-0-5.api.shop.svc.cluster.local.", "A", NX, &[]),
        ],
    );
}

#[test]
fn addresses_have_names() {
    table(
        &mut Rig::new(),
        &[
            ("20.0.30.172.in-addr.arpa.", "PTR", OK, &["20.0.30.172.in-addr.arpa. 5 PTR api.shop.svc.cluster.local."]),
            (
                &format!("0.2.{}2.0.d.f.ip6.arpa.", "0.".repeat(26)),
                "PTR",
                OK,
                &[&format!("0.2.{}2.0.d.f.ip6.arpa. 5 PTR api.shop.svc.cluster.local.", "0.".repeat(26))],
            ),
            // One for each Service that has it as an endpoint.
            (
                "5.0.128.10.in-addr.arpa.",
                "PTR",
                OK,
                &[
                    "5.0.128.10.in-addr.arpa. 5 PTR 10-128-0-5.api.shop.svc.cluster.local.",
                    "5.0.128.10.in-addr.arpa. 5 PTR 10-128-0-5.bare.shop.svc.cluster.local.",
                ],
            ),
            (
                "1.1.128.10.in-addr.arpa.",
                "PTR",
                OK,
                &["1.1.128.10.in-addr.arpa. 5 PTR db-0.db.shop.svc.cluster.local."],
            ),
            ("20.0.30.172.in-addr.arpa.", "A", OK, &[]),
            ("99.0.30.172.in-addr.arpa.", "PTR", NX, &[]),
            ("3.1.128.10.in-addr.arpa.", "PTR", NX, &[]),
            ("0.30.172.in-addr.arpa.", "PTR", OK, &[]),
            ("77.30.172.in-addr.arpa.", "PTR", NX, &[]),
            ("020.0.30.172.in-addr.arpa.", "PTR", NX, &[]),
            ("a.20.0.30.172.in-addr.arpa.", "PTR", NX, &[]),
            ("30.172.in-addr.arpa.", "NS", OK, &["30.172.in-addr.arpa. 5 NS ns.dns.cluster.local."]),
        ],
    );
}

#[test]
fn reverse_zones_of_others_are_forwarded() {
    let mut rig = Rig::new();
    for name in ["1.2.0.192.in-addr.arpa.", "172.in-addr.arpa.", "1.0.31.172.in-addr.arpa.", "1.0.132.10.in-addr.arpa."]
    {
        let reply = rig.ask(name, "PTR");
        assert_eq!(reply.metadata.response_code, NX, "{name}");
        assert!(reply.authorities.is_empty(), "{name} is not answered by us");
    }
    assert_eq!(rig.known.asked().len(), 4);
}

#[test]
fn the_owner_of_an_address_comes_before_its_endpoints() {
    let mut snapshot = cluster();
    slice(&mut snapshot, "shop/bare-2", "bare", &[], &["172.30.0.20"]);
    table(
        &mut Rig::with(&snapshot, config(), true),
        &[("20.0.30.172.in-addr.arpa.", "PTR", OK, &["20.0.30.172.in-addr.arpa. 5 PTR api.shop.svc.cluster.local."])],
    );
}

#[test]
fn external_names() {
    for cached in [true, false] {
        let mut rig = Rig::with(&cluster(), config(), cached);
        let end = ["web.example.com. 300 A 192.0.2.80", "www.example.com. 300 CNAME web.example.com."];
        let alias = |name: &str, target: &str| format!("{name}.shop.svc.cluster.local. 5 CNAME {target}");
        check(
            &mut rig,
            "outside.shop.svc.cluster.local.",
            "A",
            OK,
            &[&alias("outside", "www.example.com."), end[0], end[1]],
        );
        check(
            &mut rig,
            "twice.shop.svc.cluster.local.",
            "A",
            OK,
            &[
                &alias("outside", "www.example.com."),
                &alias("twice", "outside.shop.svc.cluster.local."),
                end[0],
                end[1],
            ],
        );
        // Where it leads is known here.
        check(
            &mut rig,
            "inside.shop.svc.cluster.local.",
            "AAAA",
            OK,
            &["api.shop.svc.cluster.local. 5 AAAA fd02::20", &alias("inside", "api.shop.svc.cluster.local.")],
        );
        let reply = rig.ask("gone.shop.svc.cluster.local.", "A");
        assert_eq!(reply.metadata.response_code, NX);
        assert_eq!((reply.answers.len(), reply.authorities.len()), (1, 1));
        // Nobody knows where it ends: the alias is given, and the code says that it is not all.
        check(
            &mut rig,
            "broken.shop.svc.cluster.local.",
            "A",
            ResponseCode::ServFail,
            &[&alias("broken", "broken.example.com.")],
        );
        assert_eq!(rig.ask("loop-a.shop.svc.cluster.local.", "A").metadata.response_code, ResponseCode::ServFail);
        check(&mut rig, "outside.shop.svc.cluster.local.", "CNAME", OK, &[&alias("outside", "www.example.com.")]);
        // No SRV of their own, whatever their ports.
        check(&mut rig, "_http._tcp.outside.shop.svc.cluster.local.", "SRV", NX, &[]);
    }
}

#[test]
fn an_alias_comes_before_what_it_leads_to() {
    let reply = Rig::new().ask("twice.shop.svc.cluster.local.", "A");
    let types: Vec<_> = reply.answers.iter().map(|record| record.record_type().to_string()).collect();
    assert_eq!(types, ["CNAME", "CNAME", "CNAME", "A"]);
}

#[test]
fn an_external_name_that_is_an_address_has_no_name() {
    let mut snapshot = cluster();
    let outside = snapshot.services.values().find(|service| &*service.name == "outside").unwrap();
    let mut address = (**outside).clone();
    address.external_name = Some("192.0.2.9".into());
    snapshot.services.insert(address.key(), address.into());
    table(&mut Rig::with(&snapshot, config(), true), &[("outside.shop.svc.cluster.local.", "A", NX, &[])]);
}

#[test]
fn names_of_pods() {
    let rig = |pod_names| Rig::with(&cluster(), Config { pod_names, search: None, ..config() }, true);
    let name = "10-128-2-2.shop.pod.cluster.local.";
    let echo = "10-128-2-2.shop.pod.cluster.local. 5 A 10.128.2.2";
    table(&mut rig(PodNames::Disabled), &[(name, "A", NX, &[])]);
    table(
        &mut rig(PodNames::Insecure),
        &[
            (name, "A", OK, &[echo]),
            (name, "AAAA", OK, &[]),
            (name, "TXT", OK, &[]),
            ("1-2-3-4.shop.pod.cluster.local.", "A", OK, &["1-2-3-4.shop.pod.cluster.local. 5 A 1.2.3.4"]),
            ("fd01--2-2.shop.pod.cluster.local.", "AAAA", OK, &["fd01--2-2.shop.pod.cluster.local. 5 AAAA fd01::2:2"]),
            ("1-2-3-4.nowhere.pod.cluster.local.", "A", NX, &[]),
            ("1-2-3.shop.pod.cluster.local.", "A", NX, &[]),
            ("www.shop.pod.cluster.local.", "A", NX, &[]),
            ("a.1-2-3-4.shop.pod.cluster.local.", "A", NX, &[]),
        ],
    );
    table(
        &mut rig(PodNames::Verified),
        &[
            (name, "A", OK, &[echo]),
            ("fd01--2-2.shop.pod.cluster.local.", "AAAA", OK, &["fd01--2-2.shop.pod.cluster.local. 5 AAAA fd01::2:2"]),
            ("10-128-2-2.web.pod.cluster.local.", "A", NX, &[]),
            ("1-2-3-4.shop.pod.cluster.local.", "A", NX, &[]),
        ],
    );
}

#[test]
fn the_zone_itself_and_what_is_above_names() {
    let mut rig = Rig::new();
    table(
        &mut rig,
        &[
            ("dns-version.cluster.local.", "TXT", OK, &["dns-version.cluster.local. 28800 TXT 1.1.0"]),
            ("dns-version.cluster.local.", "A", OK, &[]),
            ("cluster.local.", "A", OK, &[]),
            ("svc.cluster.local.", "A", OK, &[]),
            ("pod.cluster.local.", "A", OK, &[]),
            ("dns.cluster.local.", "A", OK, &[]),
            ("shop.svc.cluster.local.", "A", OK, &[]),
            ("empty.svc.cluster.local.", "A", OK, &[]),
            ("shop.pod.cluster.local.", "A", OK, &[]),
            ("nowhere.svc.cluster.local.", "A", NX, &[]),
            ("nowhere.pod.cluster.local.", "A", NX, &[]),
            ("a.b.cluster.local.", "A", NX, &[]),
            ("ns.dns.cluster.local.", "A", OK, &["ns.dns.cluster.local. 5 A 172.30.0.10"]),
            ("ns.dns.cluster.local.", "AAAA", OK, &["ns.dns.cluster.local. 5 AAAA fd02::a"]),
            ("cluster.local.", "NS", OK, &["cluster.local. 5 NS ns.dns.cluster.local."]),
        ],
    );
    let reply = rig.ask("cluster.local.", "NS");
    let addresses = ["ns.dns.cluster.local. 5 A 172.30.0.10", "ns.dns.cluster.local. 5 AAAA fd02::a"];
    assert_eq!(text(&reply.additionals), addresses);
    let serial = rig.engine.index.load().serial;
    let soa =
        format!("cluster.local. 5 SOA ns.dns.cluster.local. hostmaster.cluster.local. {serial} 7200 1800 86400 5");
    assert_eq!(text(&rig.ask("cluster.local.", "SOA").answers), [soa.as_str()]);
    // Negative answers have the same, of the zone that they are in.
    assert_eq!(text(&rig.ask("no.shop.svc.cluster.local.", "A").authorities), [soa]);
    let soa = format!(
        "30.172.in-addr.arpa. 5 SOA ns.dns.cluster.local. hostmaster.cluster.local. {serial} 7200 1800 86400 5"
    );
    assert_eq!(text(&rig.ask("9.9.30.172.in-addr.arpa.", "PTR").authorities), [soa]);
}

#[test]
fn a_wildcard_is_a_name_like_any_other() {
    table(
        &mut Rig::new(),
        &[
            ("*.shop.svc.cluster.local.", "A", NX, &[]),
            ("api.*.svc.cluster.local.", "A", NX, &[]),
            ("*.*.api.shop.svc.cluster.local.", "SRV", NX, &[]),
        ],
    );
}

#[test]
fn before_the_cluster_is_known_nothing_is_denied() {
    let fail = ResponseCode::ServFail;
    let empty = Snapshot::default();
    table(
        &mut Rig::with(&empty, config(), true),
        &[
            ("api.shop.svc.cluster.local.", "A", fail, &[]),
            ("cluster.local.", "SOA", fail, &[]),
            ("20.0.30.172.in-addr.arpa.", "PTR", fail, &[]),
        ],
    );
    // What was kept from before is answered; what is not in there may be new.
    let kept = Snapshot { synced: false, ..cluster() };
    table(
        &mut Rig::with(&kept, config(), true),
        &[
            ("plain.shop.svc.cluster.local.", "A", OK, &["plain.shop.svc.cluster.local. 5 A 172.30.0.21"]),
            ("plain.shop.svc.cluster.local.", "AAAA", OK, &[]),
            ("nobody.shop.svc.cluster.local.", "A", fail, &[]),
        ],
    );
}

#[test]
fn names_of_openshift_3() {
    // The published test vector of FNV-1a of 32 bits.
    assert_eq!(fnv("foobar"), "bf9cf968");
    let (hash4, hash6) = (fnv("10.128.0.5"), fnv("fd01::5"));
    let mut rig = Rig::new();
    table(
        &mut rig,
        &[
            // Every endpoint, although the Service has an address.
            (
                "api.shop.endpoints.cluster.local.",
                "A",
                OK,
                &[
                    "api.shop.endpoints.cluster.local. 30 A 10.128.0.5",
                    "api.shop.endpoints.cluster.local. 30 A 10.128.0.6",
                ],
            ),
            ("api.shop.endpoints.cluster.local.", "AAAA", OK, &["api.shop.endpoints.cluster.local. 30 AAAA fd01::5"]),
            (
                "db.shop.endpoints.cluster.local.",
                "A",
                OK,
                &[
                    "db.shop.endpoints.cluster.local. 30 A 10.128.1.1",
                    "db.shop.endpoints.cluster.local. 30 A 10.128.1.2",
                ],
            ),
            (
                "_endpoints.api.shop.svc.cluster.local.",
                "A",
                OK,
                &[
                    "_endpoints.api.shop.svc.cluster.local. 30 A 10.128.0.5",
                    "_endpoints.api.shop.svc.cluster.local. 30 A 10.128.0.6",
                ],
            ),
            (
                "east.api.shop.endpoints.cluster.local.",
                "A",
                OK,
                &["east.api.shop.endpoints.cluster.local. 30 A 10.128.0.6"],
            ),
            (
                &format!("{hash4}.api.shop.endpoints.cluster.local."),
                "A",
                OK,
                &[&format!("{hash4}.api.shop.endpoints.cluster.local. 30 A 10.128.0.5")],
            ),
            (
                &format!("{hash6}.api.shop.endpoints.cluster.local."),
                "AAAA",
                OK,
                &[&format!("{hash6}.api.shop.endpoints.cluster.local. 30 AAAA fd01::5")],
            ),
            ("deadbeef.api.shop.endpoints.cluster.local.", "A", NX, &[]),
            ("plain.shop.endpoints.cluster.local.", "A", NX, &[]),
            ("nobody.shop.endpoints.cluster.local.", "A", NX, &[]),
            ("outside.shop.endpoints.cluster.local.", "A", NX, &[]),
            ("endpoints.cluster.local.", "A", OK, &[]),
            ("shop.endpoints.cluster.local.", "A", OK, &[]),
            // A namespace's name exists, without records.
            ("shop.cluster.local.", "A", OK, &[]),
            ("nowhere.cluster.local.", "A", NX, &[]),
            ("openshift.default.svc.cluster.local.", "A", OK, &["openshift.default.svc.cluster.local. 5 A 172.30.0.1"]),
        ],
    );
    let name = "_http._tcp.api.shop.endpoints.cluster.local.";
    let row = |label: &str| format!("{name} 30 SRV 10 10 8080 {label}.api.shop.endpoints.cluster.local.");
    let mut all = [row(&hash4), row("east"), row(&hash6)];
    all.sort();
    check(&mut rig, name, "SRV", OK, &all.each_ref().map(String::as_str));
}

#[test]
fn a_service_called_openshift_is_itself() {
    let mut snapshot = cluster();
    service(
        &mut snapshot,
        "default/openshift",
        r#""clusterIP":"172.30.0.9","clusterIPs":["172.30.0.9"],"ports":[{"port":1}]"#,
    );
    table(
        &mut Rig::with(&snapshot, config(), true),
        &[("openshift.default.svc.cluster.local.", "A", OK, &["openshift.default.svc.cluster.local. 5 A 172.30.0.9"])],
    );
}

fn fnv(text: &str) -> String {
    let hash = text.bytes().fold(2_166_136_261_u32, |hash, byte| (hash ^ u32::from(byte)).wrapping_mul(16_777_619));
    format!("{hash:x}")
}

#[test]
fn ttl_is_what_was_configured() {
    let rig = |ttl| Rig::with(&cluster(), Config { ttl, ..config() }, true);
    for (given, ttl) in [(0, 0), (30, 30), (3600, 3600), (3601, 3600)] {
        let reply = rig(given).ask("api.shop.svc.cluster.local.", "A");
        assert_eq!(text(&reply.answers), [format!("api.shop.svc.cluster.local. {ttl} A 172.30.0.20")]);
        assert!(rig(given).ask("no.shop.svc.cluster.local.", "A").authorities.iter().all(|soa| soa.ttl == ttl));
    }
}

#[test]
fn the_case_of_the_question_is_kept() {
    let name = "ApI.sHoP.SVC.Cluster.LOCAL.";
    let reply = Rig::new().ask(name, "A");
    assert_eq!(reply.queries[0].name().to_ascii(), name);
    assert_eq!(reply.answers[0].name.to_ascii(), name);
    let reply = Rig::new().ask("_HTTP._Tcp.API.shop.svc.cluster.local.", "SRV");
    assert_eq!(reply.answers.len(), 1);
}

#[test]
fn every_endpoint_is_first_as_often_as_any_other() {
    let mut snapshot = cluster();
    let all: Vec<String> = (1..=5).map(|host| format!("10.128.3.{host}")).collect();
    slice(&mut snapshot, "shop/many", "down", &[], &all.iter().map(String::as_str).collect::<Vec<_>>());
    let mut rig = Rig::with(&snapshot, config(), true);
    let mut orders = std::collections::BTreeMap::new();
    for _ in 0..6000 {
        let reply = rig.ask("down.shop.svc.cluster.local.", "A");
        let order: Vec<_> = reply.answers.iter().map(|record| record.data.to_string()).collect();
        *orders.entry(order).or_insert(0u32) += 1;
    }
    assert_eq!(orders.len(), 120, "every order appears");
    // Each of 120 orders is expected 50 times; a chi-square of 119 degrees of freedom is below 190 but once in 40,000.
    let chi: f64 = orders.values().map(|seen| (f64::from(*seen) - 50.0).powi(2) / 50.0).sum();
    assert!(chi < 190.0, "chi-square {chi}");
}

#[test]
fn a_change_is_in_the_next_answer() {
    let mut snapshot = cluster();
    let mut rig = Rig::with(&snapshot, config(), true);
    slice(&mut snapshot, "shop/db-1", "db", &["sql/TCP/5432"], &["10.128.1.2=db-1"]);
    rig.update(&snapshot);
    let one: &[&str] = &["db.shop.svc.cluster.local. 5 A 10.128.1.2"];
    table(
        &mut rig,
        &[
            ("db.shop.svc.cluster.local.", "A", OK, one),
            ("db-0.db.shop.svc.cluster.local.", "A", OK, &[]),
            ("1.1.128.10.in-addr.arpa.", "PTR", NX, &[]),
        ],
    );
    snapshot.services.remove(&ServiceKey::new("shop", "db"));
    rig.update(&snapshot);
    table(&mut rig, &[("db.shop.svc.cluster.local.", "A", NX, &[]), ("2.1.128.10.in-addr.arpa.", "PTR", NX, &[])]);
}

#[test]
fn services_without_endpoints_may_be_left_out() {
    let mut rig = Rig::with(&cluster(), Config { ignore_empty_services: true, search: None, ..config() }, true);
    table(
        &mut rig,
        &[
            ("plain.shop.svc.cluster.local.", "A", NX, &[]),
            ("api.shop.svc.cluster.local.", "A", OK, &["api.shop.svc.cluster.local. 5 A 172.30.0.20"]),
        ],
    );
}

#[test]
fn only_some_namespaces_may_have_names() {
    let namespaces = Some(["default".to_owned()].into());
    let mut rig = Rig::with(&cluster(), Config { namespaces, search: None, ..config() }, true);
    table(
        &mut rig,
        &[
            ("api.shop.svc.cluster.local.", "A", NX, &[]),
            ("shop.svc.cluster.local.", "A", NX, &[]),
            ("1-2-3-4.shop.pod.cluster.local.", "A", NX, &[]),
            ("20.0.30.172.in-addr.arpa.", "PTR", NX, &[]),
            (
                "kubernetes.default.svc.cluster.local.",
                "A",
                OK,
                &["kubernetes.default.svc.cluster.local. 5 A 172.30.0.1"],
            ),
        ],
    );
}
