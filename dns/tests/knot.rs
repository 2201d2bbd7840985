//! The same cluster's names served by Knot, which knows zones and nothing of clusters, and by the resolver: every name,
//! every type, and names made at random of parts of them get the same answers. Where not, it says here why.

#![expect(clippy::unwrap_used, reason = "what a test needs and does not get is its failure")]

#[path = "knot/cluster.rs"]
mod cluster;
#[path = "knot/server.rs"]
mod server;
#[path = "knot/zone.rs"]
mod zone;

use cluster::Cluster;
use hickory_proto::rr::{Name, RecordType};
use prometheus_client::registry::Registry;
use rand::{RngExt as _, SeedableRng as _, rngs::StdRng};
use sdn_dns::{
    Config, Handle, PodNames, Sockets,
    forward::{CachingForwarder, ForwardConfig, UpstreamSource},
};
use server::{Client, Knot, Reply};
use std::{
    collections::{BTreeMap, BTreeSet},
    env,
    net::{Ipv6Addr, TcpListener, UdpSocket},
    str::FromStr,
    time::Duration,
};
use tokio::sync::watch;
use zone::{HELD, NETWORKS, SERVERS, Zones, zones};

/// What is asked of every name.
const TYPES: [RecordType; 11] = [
    RecordType::A,
    RecordType::AAAA,
    RecordType::SRV,
    RecordType::PTR,
    RecordType::TXT,
    RecordType::CNAME,
    RecordType::NS,
    RecordType::SOA,
    RecordType::MX,
    RecordType::HTTPS,
    RecordType::ANY,
];

/// A question and what each says.
struct Case<'a> {
    name: &'a Name,
    rtype: RecordType,
    ours: &'a mut Reply,
    knot: &'a mut Reply,
}

/// A difference that there is to be: it is taken out of both replies.
struct Difference {
    reason: &'static str,
    /// Whether it was there.
    settle: fn(&mut Case<'_>) -> bool,
}

const DIFFERENCES: [Difference; 8] = [
    Difference {
        reason: "names in records have their own case, Knot's that of the question where its end is also theirs",
        settle: |case| {
            case.ours.lower();
            case.knot.lower();
            case.ours == case.knot
        },
    },
    Difference {
        reason: "ANY gets one small record wherever there is a name (RFC 8482 section 4.2), Knot's everything",
        settle: |case| {
            let settles = case.rtype == RecordType::ANY && case.ours.answers.iter().any(|row| row.contains(" hinfo "));
            settles && case.knot.rcode == case.ours.rcode && case.give_up()
        },
    },
    Difference {
        reason: "two endpoints of one name have one SRV record each, a set of Knot's has it once",
        settle: |case| {
            let before = case.ours.answers.len();
            case.ours.answers.dedup();
            case.rtype == RecordType::SRV && case.ours.answers.len() < before
        },
    },
    Difference {
        reason: "Knot adds an address once for every SRV record that leads to it",
        settle: |case| {
            let before = case.knot.additionals.len();
            case.knot.additionals.dedup();
            case.rtype == RecordType::SRV && case.knot.additionals.len() < before
        },
    },
    Difference {
        reason: "the name server's addresses come with NS records of reverse zones: in Knot's it is another zone's",
        settle: |case| {
            let settles = case.rtype == RecordType::NS && case.knot.additionals.is_empty();
            settles && !std::mem::take(&mut case.ours.additionals).is_empty()
        },
    },
    Difference {
        reason: "an alias of a name outside is followed there, as a client's only resolver has to; Knot stops",
        settle: |case| {
            let leads_out = |row: &String| row.contains(" cname ") && row.ends_with(".example.com.");
            let settles = case.knot.answers.len() == 1 && case.knot.answers.iter().all(leads_out);
            settles && case.ours.answers.first() == case.knot.answers.first() && case.give_up()
        },
    },
    Difference {
        reason: "a pod's name may spell its address in any way, a zone has the shortest only",
        settle: |case| {
            let name = case.name.to_string().to_lowercase();
            let address = name.strip_suffix(".pod.cluster.local.").and_then(|name| name.split_once('.'));
            let address = address.and_then(|(label, _)| label.replace('-', ":").parse::<Ipv6Addr>().ok());
            let is_other = address.is_some_and(|own| !name.starts_with(&format!("{own}.").replace(':', "-")));
            let settles = case.ours.rcode == "No Error" && case.knot.rcode == "Non-Existent Domain";
            is_other && settles && case.give_up()
        },
    },
    Difference {
        reason: "aliases in a circle are a failure, for which Knot has no code",
        settle: |case| {
            let is_circle = |row: &String| row.contains(" cname circle.") || row.contains(" cname endless.");
            let all = |reply: &Reply| reply.answers.len() > 1 && reply.answers.iter().all(is_circle);
            let settles = case.ours.rcode == "Server Failure" && case.knot.rcode == "No Error";
            settles && all(case.ours) && all(case.knot) && case.give_up()
        },
    },
];

// === impl Case ===

impl Case<'_> {
    /// Nothing is left to compare.
    fn give_up(&mut self) -> bool {
        *self.ours = self.knot.clone();
        true
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn knot_says_the_same() {
    let seed = env::var("CULVERT_TEST_SEED").ok().and_then(|seed| seed.parse().ok()).unwrap_or(1);
    let (services, guesses) = if env::var_os("CULVERT_TEST_LONG").is_some() { (30, 10_000) } else { (12, 600) };
    let random = &mut StdRng::seed_from_u64(seed);
    let cluster = Cluster::random(random, services);
    let zones = zones(&cluster);
    let Some(knot) = Knot::start(&zones) else {
        println!("skipped: knotd is not installed (Debian package knot)");
        return;
    };
    let (resolver, ours) = resolver(&cluster, &knot).await;
    let mut contest = Contest { ours, knot: Client::new(knot.address), seen: BTreeMap::new(), failures: Vec::new() };
    let names = names(&zones);
    for name in &names {
        contest.compare(&Name::from_str(&format!("{name}.")).unwrap());
    }
    let spelled = format!("fd01--01.{}.pod.cluster.local.", cluster.pods[0].namespace);
    contest.compare(&Name::from_ascii(spelled).unwrap());
    contest.compare(&Name::from_ascii("InSide.Bank.SVC.Cluster.Local.").unwrap());
    for name in guesses_of(&zones, &names, guesses, random) {
        contest.compare(&name);
    }
    let failures = &contest.failures;
    let some: String =
        failures.iter().step_by(failures.len().div_ceil(10).max(1)).map(|failure| format!("{failure}\n")).collect();
    assert!(failures.is_empty(), "CULVERT_TEST_SEED={seed}: {} answers differ, such as\n{some}", failures.len());
    for difference in &DIFFERENCES {
        assert!(contest.seen.contains_key(difference.reason), "no longer true: {}", difference.reason);
    }
    resolver.stop().await;
}

/// The resolver with the cluster, and a client of it. Names of others it asks Knot for.
async fn resolver(cluster: &Cluster, knot: &Knot) -> (Handle<CachingForwarder>, Client) {
    let upstream = UpstreamSource::Fixed(vec![knot.address]);
    let forwarder = ForwardConfig { detect_loops: false, ..ForwardConfig::new(upstream) };
    let forwarder = CachingForwarder::new(forwarder, &mut Registry::default()).unwrap();
    let config = Config {
        addresses: SERVERS.map(|address| address.parse().unwrap()).to_vec(),
        reverse: NETWORKS.map(|network| network.parse().unwrap()).to_vec(),
        pod_names: PodNames::Verified,
        ..Config::default()
    };
    let udp = UdpSocket::bind("127.0.0.1:0").unwrap();
    let address = udp.local_addr().unwrap();
    let sockets = Sockets { udp: vec![udp], tcp: vec![TcpListener::bind(address).unwrap()] };
    let (sender, snapshots) = watch::channel(cluster.snapshot());
    let resolver = sdn_dns::start(config, sockets, snapshots, forwarder).unwrap();
    while !resolver.is_ready() {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    drop(sender);
    (resolver, Client::new(address))
}

/// Every name that has records, and every one above it up to the zone's.
fn names(zones: &Zones) -> BTreeSet<String> {
    let mut names = BTreeSet::new();
    for (zone, records) in zones.iter().filter(|(zone, _)| *zone != "example.com") {
        for record in records {
            let mut name = &record.owner[..];
            while name.len() > zone.len() {
                names.insert(name.to_owned());
                name = name.split_once('.').unwrap().1;
            }
            names.insert(zone.clone());
        }
    }
    names.retain(|name| !name.starts_with(HELD));
    names
}

/// Names that are nearly right: a part too many or too few, one of another name's, one letter wrong, another case.
fn guesses_of(zones: &Zones, names: &BTreeSet<String>, count: usize, random: &mut StdRng) -> Vec<Name> {
    let zones: Vec<Name> = zones.keys().map(|zone| Name::from_str(&format!("{zone}.")).unwrap()).collect();
    let names: Vec<&String> = names.iter().collect();
    let labels: BTreeSet<&str> = names.iter().flat_map(|name| name.split('.')).collect();
    let labels: Vec<&str> = labels.into_iter().chain(["_", "_tcp", "*", "-", "00", "1-2-3", "tcp", "a_b"]).collect();
    let mut guesses = Vec::new();
    while guesses.len() < count {
        let name = names[random.random_range(0..names.len())];
        let mut parts: Vec<String> = name.split('.').map(str::to_owned).collect();
        let own = parts.len() - 2;
        let at = random.random_range(0..=own);
        let label = labels[random.random_range(0..labels.len())].to_owned();
        match random.random_range(0..6) {
            0 => parts.insert(at, label),
            1 if at < own => parts[at] = label,
            2 if at < own => drop(parts.remove(at)),
            3 if at < own => {
                let length = parts[at].len();
                let letter = random.random_range(0..length);
                let other = b"abc059-_x"[random.random_range(0..9)] as char;
                parts[at].replace_range(letter..=letter, &other.to_string());
            }
            4 if at + 1 < own => parts.swap(at, at + 1),
            _ => parts = parts.into_iter().map(|part| random_case(part, random)).collect(),
        }
        // Other names are others' to answer.
        let name = Name::from_ascii(parts.join(".") + ".").ok();
        guesses.extend(name.filter(|name| zones.iter().any(|zone| zone.zone_of(name))));
    }
    guesses
}

fn random_case(text: String, random: &mut StdRng) -> String {
    let letter = |letter: char| if random.random_bool(0.5) { letter.to_ascii_uppercase() } else { letter };
    text.chars().map(letter).collect()
}

/// Both, and what is found.
struct Contest {
    ours: Client,
    knot: Client,
    /// How often each of the differences was seen.
    seen: BTreeMap<&'static str, usize>,
    failures: Vec<String>,
}

impl Contest {
    fn compare(&mut self, name: &Name) {
        for rtype in TYPES {
            let (mut ours, mut knot) = (self.ours.ask(name, rtype), self.knot.ask(name, rtype));
            for difference in &DIFFERENCES {
                if ours == knot {
                    break;
                }
                if (difference.settle)(&mut Case { name, rtype, ours: &mut ours, knot: &mut knot }) {
                    *self.seen.entry(difference.reason).or_default() += 1;
                }
            }
            if ours != knot {
                self.failures.push(format!("{name} {rtype}\n  ours {ours:?}\n  Knot {knot:?}"));
            }
        }
    }
}
