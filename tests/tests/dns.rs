//! Names in pods, through the real agents: what a pod is told, what programs in it find, and what is lost while agents are
//! killed, replaced and away.

use std::collections::BTreeSet;
use std::net::{IpAddr, SocketAddr};
use std::path::Path;
use std::sync::{Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use hickory_proto::rr::RecordType;
use sdn_lab::nameserver::{ALIAS, KNOWN_NAME, LARGE, LARGE_NAME, PORT, UNKNOWN_NAME, known_address};
use sdn_lab::probe::names::{NameReply, Transport, ask};
use sdn_lab::programs::Programs;
use sdn_lab::queries::{Known, Load, Report};
use sdn_lab::survey::names::{self, NameKind};
use sdn_lab::{Family, IpFamily, Lab, Node, Pod, PodSpec};

/// Questions a second of each load.
const RATE: u32 = 1000;

const PATIENCE: Duration = Duration::from_secs(60);

/// How long it may take until another node answers for one whose agent is silent, with a second of silence in it.
const STAND_IN: Duration = Duration::from_millis(1500);

/// Loads of several labs at once would measure the machine.
static ONE_AT_A_TIME: Mutex<()> = Mutex::new(());

const SERVICES: &str = "
{apiVersion: v1, kind: Service, metadata: {name: web, namespace: shop}, spec: {
  ipFamilyPolicy: PreferDualStack, selector: {app: web}, ports: [{name: http, port: 80}]}}
---
{apiVersion: v1, kind: Service, metadata: {name: db, namespace: shop}, spec: {
  clusterIP: None, ipFamilyPolicy: PreferDualStack, selector: {app: web}, ports: [{name: http, port: 80}]}}
---
{apiVersion: v1, kind: Service, metadata: {name: elsewhere, namespace: shop}, spec: {
  type: ExternalName, externalName: example.test}}
";

/// Two nodes, on each a pod of the Services and one that asks; one that asks from another namespace.
fn start(name: &str, family: Family) -> Lab {
    let web =
        |number| PodSpec::new(&format!("shop/web-{number}")).on(&format!("node-{number}")).label("app", "web").tcp(80);
    let client = |number| PodSpec::new(&format!("shop/client-{number}")).on(&format!("node-{number}"));
    let pods = [web(1), web(2), client(1), client(2), PodSpec::new("other/client").on("node-1")];
    let lab = pods.into_iter().fold(Lab::builder(name).nodes(2).family(family), |lab, pod| lab.pod(pod));
    lab.yaml(SERVICES).start().expect("the lab comes up")
}

fn pod(lab: &Lab, name: &str) -> std::sync::Arc<Pod> {
    lab.pod(name).expect("the pod is there")
}

/// The name servers that a pod was told, as the fixed addresses of the cluster's service networks.
fn servers(family: Family) -> Vec<IpAddr> {
    let of = |family: &IpFamily| match family {
        IpFamily::V4 => IpAddr::from([172, 30, 0, 10]),
        IpFamily::V6 => "fd02::a".parse().expect("an address"),
    };
    family.each().iter().map(of).collect()
}

/// The addresses of a Service, of its pods for one without its own.
fn service_addresses(lab: &Lab, name: &str) -> BTreeSet<String> {
    let cluster = lab.cluster();
    let service = cluster.services.values().find(|service| &*service.name == name).expect("the Service is there");
    let endpoints = cluster.slices.values().filter(|slice| slice.service.as_deref() == Some(name));
    let endpoints: BTreeSet<_> =
        endpoints.flat_map(|slice| &slice.endpoints).map(|endpoint| endpoint.address.to_string()).collect();
    if service.headless { endpoints } else { service.cluster_ips.iter().map(ToString::to_string).collect() }
}

fn known_addresses(family: Family) -> BTreeSet<String> {
    family.each().iter().map(|family| known_address(*family).to_string()).collect()
}

/// What getaddrinfo(3) finds in a program in the pod.
fn look_up(pod: &Pod, name: &str) -> BTreeSet<String> {
    let output = pod.exec(["getent", "ahosts", name]).expect("getent runs");
    let text = String::from_utf8(output.stdout).expect("addresses are text");
    text.lines().filter_map(|line| line.split(' ').next()).map(Into::into).collect()
}

fn ask_from(pod: &Pod, over: Transport, server: IpAddr, name: &str, kind: RecordType) -> Option<NameReply> {
    let server = SocketAddr::new(server, PORT);
    let sandbox = pod.sandbox().expect("the pod is up");
    let asked = sandbox.within_async(async || Ok(ask(over, server, name, kind, Duration::from_secs(2)).await));
    asked.expect("the pod can be entered").ok()
}

fn check_names(name: &str, family: Family) {
    let lab = &start(name, family);
    let servers = servers(family);
    let nameservers: String = servers.iter().map(|server| format!("nameserver {server}\n")).collect();
    for (client, namespace) in [("shop/client-1", "shop"), ("shop/client-2", "shop"), ("other/client", "other")] {
        let domain = "svc.cluster.local";
        let expected = format!("search {namespace}.{domain} {domain} cluster.local\n{nameservers}options ndots:5\n");
        assert_eq!(pod(lab, client).run(["cat", "/etc/resolv.conf"]).expect("cat"), expected, "{client}");
    }
    let upstream: String =
        family.each().iter().map(|family| format!("nameserver {}\n", lab.outside().address(*family))).collect();
    assert_eq!(
        lab.nodes()[0].read_file(Path::new("/etc/resolv.conf")).expect("there"),
        upstream,
        "the node has its own"
    );

    let found = names::survey(lab).expect("asked");
    assert_eq!(found.faults(), Vec::<String>::new());
    let counts = found.counts();
    for kind in
        [NameKind::Service, NameKind::Headless, NameKind::Port, NameKind::Reverse, NameKind::External, NameKind::Absent]
    {
        for (family, over) in
            family.each().iter().flat_map(|family| [(*family, Transport::Udp), (*family, Transport::Tcp)])
        {
            assert!(counts.get(&(kind, family, over)).is_some_and(|count| count.tried >= 2), "{kind} {family} {over}");
        }
    }
    assert_eq!((found.withdrawn.len(), found.resolved.len()), (2, 4), "from each node");
    check_lookups(lab, family);
}

/// What programs find, whole names and searched ones.
fn check_lookups(lab: &Lab, family: Family) {
    let (web, db, known) = (service_addresses(lab, "web"), service_addresses(lab, "db"), known_addresses(family));
    assert_eq!((web.len(), db.len()), (family.each().len(), 2 * family.each().len()));
    let rows = [
        ("shop/client-1", "web", &web),
        ("shop/client-2", "web.shop", &web),
        ("other/client", "web.shop.svc", &web),
        ("other/client", "web.shop.svc.cluster.local", &web),
        ("shop/client-2", "db", &db),
        ("shop/client-1", KNOWN_NAME, &known),
        ("other/client", ALIAS, &known),
        ("shop/client-1", "elsewhere", &known),
        ("other/client", "web", &BTreeSet::new()),
        ("shop/client-1", UNKNOWN_NAME, &BTreeSet::new()),
    ];
    for (from, name, expected) in rows {
        assert_eq!(look_up(&pod(lab, from), name), *expected, "{from} looks up {name}");
    }
    // Too long for a datagram: the C library asks again over TCP.
    assert_eq!(look_up(&pod(lab, "shop/client-1"), LARGE_NAME).len(), usize::from(LARGE) * family.each().len());
}

#[test]
fn pods_find_names_over_ipv4() {
    check_names("dns-v4", Family::V4);
}

#[test]
fn pods_find_names_over_ipv6() {
    check_names("dns-v6", Family::V6);
}

#[test]
fn pods_find_names_over_both() {
    check_names("dns-dual", Family::Dual);
}

/// Whether a program is on the machine.
fn is_installed(program: &str) -> bool {
    std::env::split_paths(&std::env::var_os("PATH").unwrap_or_default()).any(|place| place.join(program).is_file())
}

#[test]
fn dig_and_kdig_agree() {
    let tools: Vec<_> = ["dig", "kdig"].into_iter().filter(|tool| is_installed(tool)).collect();
    if tools.is_empty() {
        println!("skipped: neither dig (bind9-dnsutils) nor kdig (knot-dnsutils) is installed");
        return;
    }
    let lab = &start("dns-dig", Family::Dual);
    let v4 =
        |addresses: BTreeSet<String>| addresses.into_iter().filter(|text| !text.contains(':')).collect::<BTreeSet<_>>();
    let (web, db) = (v4(service_addresses(lab, "web")), v4(service_addresses(lab, "db")));
    let reversed = web.first().and_then(|address| address.parse::<IpAddr>().ok()).expect("web has an address");
    let reversed = hickory_proto::rr::Name::from(reversed).to_ascii();
    let rows: [(&str, &str, BTreeSet<String>); 5] = [
        ("web.shop.svc.cluster.local", "A", web),
        ("db.shop.svc.cluster.local", "A", db),
        (&reversed, "PTR", ["web.shop.svc.cluster.local.".to_owned()].into()),
        (KNOWN_NAME, "AAAA", [known_address(IpFamily::V6).to_string()].into()),
        (UNKNOWN_NAME, "A", BTreeSet::new()),
    ];
    for (tool, over) in tools.iter().flat_map(|tool| [(*tool, "+notcp"), (*tool, "+tcp")]) {
        for server in servers(Family::Dual) {
            for (name, kind, expected) in &rows {
                let text = pod(lab, "shop/client-2").run([tool, &format!("@{server}"), over, "+short", name, kind]);
                let found: BTreeSet<String> = text.unwrap().lines().map(Into::into).collect();
                assert_eq!(found, *expected, "{tool} {over} @{server} {name} {kind}");
            }
        }
    }
}

#[test]
fn services_that_come_and_go_are_found_and_not_found() {
    let lab = &start("dns-change", Family::Dual);
    let late = "late.shop.svc.cluster.local";
    let await_code = |wanted: &str| {
        let deadline = Instant::now() + Duration::from_secs(5);
        for client in ["shop/client-1", "shop/client-2"] {
            let client = pod(lab, client);
            for server in servers(Family::Dual) {
                while ask_from(&client, Transport::Udp, server, late, RecordType::A)
                    .is_none_or(|reply| reply.code != wanted)
                {
                    assert!(Instant::now() < deadline, "{late} is not {wanted} at {server} for {}", client.key());
                }
            }
        }
    };
    await_code("NXDOMAIN");
    let service = "{apiVersion: v1, kind: Service, metadata: {name: late, namespace: shop}, spec: {selector: {app: web}, ports: [{port: 80}]}}";
    lab.apply_yaml(service).unwrap();
    await_code("NOERROR");
    let client = pod(lab, "shop/client-2");
    let reply = ask_from(&client, Transport::Tcp, servers(Family::Dual)[0], late, RecordType::A).expect("an answer");
    assert_eq!(reply.records, service_addresses(lab, "late"));
    lab.delete_service("shop/late").unwrap();
    await_code("NXDOMAIN");

    // An endpoint that goes with its pod.
    let gone = pod(lab, "shop/web-2").address(IpFamily::V4).expect("an address").to_string();
    lab.delete_pod("shop/web-2").unwrap();
    let deadline = Instant::now() + Duration::from_secs(5);
    let db = "db.shop.svc.cluster.local";
    while ask_from(&client, Transport::Udp, servers(Family::Dual)[0], db, RecordType::A)
        .is_none_or(|reply| reply.records.contains(&gone))
    {
        assert!(Instant::now() < deadline, "{gone} is still found as {db}");
    }
}

#[test]
fn what_is_not_the_clusters_is_asked_of_the_upstream_and_remembered() {
    let lab = &start("dns-upstream", Family::Dual);
    let client = pod(lab, "shop/client-1");
    let before = lab.outside().names().asked(KNOWN_NAME);
    for _ in 0..20 {
        let reply = ask_from(&client, Transport::Udp, servers(Family::Dual)[0], KNOWN_NAME, RecordType::A);
        assert_eq!(reply.expect("an answer").records, [known_address(IpFamily::V4).to_string()].into());
    }
    let asked = lab.outside().names().asked(KNOWN_NAME) - before;
    assert!((1..20).contains(&asked), "the upstream was asked {asked} times for a name that may be kept for 30 s");
    let inside = format!("{KNOWN_NAME}.shop.svc.cluster.local");
    look_up(&client, KNOWN_NAME);
    assert_eq!(lab.outside().names().asked(&inside), 0, "names of the cluster stay in it");
}

// === Under load ===

/// Asks from a pod on every node, of both families, while `disturb` does its work.
fn load_while(lab: &Lab, disturb: impl FnOnce()) -> Vec<Report> {
    // One that failed has nothing to do with the next.
    let _alone = ONE_AT_A_TIME.lock().unwrap_or_else(PoisonError::into_inner);
    let (web, known) = (service_addresses(lab, "web"), known_addresses(lab.family()));
    let of = |addresses: &BTreeSet<String>, v6: bool| {
        addresses.iter().filter(|text| text.contains(':') == v6).cloned().collect()
    };
    let names = [("web.shop.svc.cluster.local", &web), (KNOWN_NAME, &known)];
    let questions: Vec<Known> = names
        .into_iter()
        .flat_map(|(name, addresses)| {
            [(RecordType::A, false), (RecordType::AAAA, true)].map(|(kind, v6)| Known {
                name: name.into(),
                kind,
                records: of(addresses, v6),
            })
        })
        .collect();
    let loads: Vec<Load> = ["shop/client-1", "shop/client-2"]
        .into_iter()
        .flat_map(|client| servers(lab.family()).into_iter().map(move |server| (client, server)))
        .map(|(client, server)| {
            let sandbox = pod(lab, client).sandbox().expect("the pod is up");
            Load::start(&sandbox, SocketAddr::new(server, PORT), questions.clone(), RATE).expect("the load starts")
        })
        .collect();
    thread::sleep(Duration::from_millis(500));
    disturb();
    thread::sleep(Duration::from_millis(500));
    let reports: Vec<_> = loads.into_iter().map(Load::finish).collect();
    reports.iter().for_each(|report| println!("{report}"));
    reports
}

/// All was answered rightly, but for what roles had taken from their sockets and not answered when they ended, `ends` times in
/// all: with a question a millisecond, hardly more than one of each load. What waits in the sockets, hundreds, is not lost.
#[track_caller]
fn assert_whole_but(reports: &[Report], ends: u64) {
    let lost: u64 = reports.iter().map(|report| report.lost).sum();
    let told: Vec<_> = reports.iter().map(ToString::to_string).collect();
    assert!(
        lost <= ends * reports.len() as u64
            && reports.iter().all(|report| report.answered + report.lost == report.sent),
        "{}",
        told.join("\n")
    );
}

#[track_caller]
fn assert_whole(reports: &[Report]) {
    let broken: Vec<_> = reports.iter().filter(|report| !report.is_whole()).map(ToString::to_string).collect();
    assert!(broken.is_empty(), "{}", broken.join("\n"));
}

fn await_ready(node: &Node) {
    node.agent().wait_ready(PATIENCE).expect("the agent gets ready again");
    // What comes last after a start, and between two disturbances.
    thread::sleep(Duration::from_millis(100));
}

#[test]
fn killed_roles_lose_no_waiting_question() {
    let lab = &start("dns-role", Family::Dual);
    let kills = 3;
    let reports = load_while(lab, || {
        for _ in 0..kills {
            for node in lab.nodes() {
                node.agent().kill_role().expect("the role runs");
                await_ready(node);
            }
        }
    });
    assert_whole_but(&reports, kills * lab.nodes().len() as u64);
}

#[test]
fn a_replaced_program_loses_no_waiting_question() {
    let lab = &start("dns-replace", Family::Dual);
    let directory = tempfile::tempdir().unwrap();
    let program = directory.path().join("sdn-agent");
    std::fs::copy(Programs::find().unwrap().agent, &program).expect("the agent's program is copied");
    let reports = load_while(lab, || {
        for node in lab.nodes() {
            node.agent().replace(&program).expect("the new keeper takes over");
            await_ready(node);
        }
    });
    assert_whole_but(&reports, lab.nodes().len() as u64);
}

#[test]
fn another_node_answers_for_one_whose_agent_is_away() {
    let lab = &start("dns-away", Family::Dual);
    let reports = load_while(lab, || {
        let [one, _] = lab.nodes() else { panic!("two nodes") };
        one.agent().stop().expect("the agent ends");
        thread::sleep(Duration::from_secs(3));
        one.agent().start().expect("the agent starts");
        await_ready(one);
    });
    let per_node = servers(Family::Dual).len();
    assert_whole(&reports[per_node..]);
    for report in &reports[..per_node] {
        // One second of silence, then the other node's answers.
        assert!(report.wrong == 0 && report.longest_silence < STAND_IN, "{report}");
        let most = u64::from(RATE) * u64::try_from(STAND_IN.as_millis()).expect("it is short") / 1000;
        assert!(report.lost > 0 && report.lost < most, "{report}");
    }
}
