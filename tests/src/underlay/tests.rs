use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use sdn_cluster::model::Protocol;

use super::*;
use crate::probe::{self, Outcome};
use crate::standin::{Identity, StandIn};

const PATIENCE: Duration = Duration::from_secs(2);

#[test]
fn every_host_has_addresses_of_its_own() {
    let hosts = || std::iter::once(Host::Outside).chain((1..=MOST_NODES).map(Host::Node));
    for family in [IpFamily::V4, IpFamily::V6] {
        let all: BTreeSet<_> = hosts().map(|host| host.address(family)).collect();
        assert_eq!(all.len(), MOST_NODES + 1);
    }
    let both = ["192.168.77.11", "fd00:77::b"].map(|text| text.parse::<IpAddr>().unwrap());
    assert_eq!(Host::Node(1).addresses(Family::Dual), both);
    assert_eq!(Host::Node(3).addresses(Family::V6), ["fd00:77::d".parse::<IpAddr>().unwrap()]);
}

/// Whatever has an address in the calling thread's network namespace.
fn has_ipv4_besides_loopback() -> bool {
    let known = fs::read_to_string("/proc/thread-self/net/fib_trie").unwrap();
    known.contains("host LOCAL")
        && known.split("|-- ").any(|part| part.contains("host LOCAL") && !part.starts_with("127."))
}

#[test]
fn nodes_reach_each_other_and_the_internet_which_sees_their_addresses() {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
    let who = Arc::new(Identity { namespace: String::new(), pod: "outside".into(), node: String::new() });
    for family in [Family::V4, Family::V6, Family::Dual] {
        let underlay = Underlay::new(family, 1500).unwrap();
        let outside = Sandbox::from(underlay.add_outside().unwrap());
        let [one, two] = [1, 2].map(|index| Sandbox::from(underlay.add_node(index).unwrap()));
        let _served = [Protocol::Tcp, Protocol::Udp]
            .map(|protocol| StandIn::open(&outside, runtime.handle(), who.clone(), protocol, 80).unwrap());
        for family in family.each() {
            let ask = |sandbox: &Sandbox, target: IpAddr| -> [Outcome; 3] {
                let port = SocketAddr::new(target, 80);
                let asked = sandbox.within_async(async || {
                    let (http, datagram) = (probe::http(port, PATIENCE).await, probe::datagram(port, PATIENCE).await);
                    Ok([probe::ping(target, PATIENCE).await, http, datagram])
                });
                asked.unwrap()
            };
            for (sandbox, host) in [(&one, Host::Node(1)), (&two, Host::Node(2))] {
                let [ping, http, datagram] = ask(sandbox, internet_address(*family));
                ping.unwrap();
                for answer in [http, datagram].map(|reply| reply.unwrap().answer.unwrap()) {
                    assert_eq!(answer.client_address, host.address(*family).addr());
                    assert_eq!(answer.server_address, internet_address(*family));
                }
            }
            let [ping, http, _] = ask(&one, Host::Node(2).address(*family).addr());
            ping.unwrap();
            assert!(matches!(http, Err(probe::Failure::Refused(_))), "{http:?}");
        }
        for sandbox in [&one, &outside, underlay.switch()] {
            let any = sandbox.within(|| Ok(has_ipv4_besides_loopback())).unwrap();
            assert!(!any || family != Family::V6, "an IPv6-only underlay has no IPv4");
        }
        assert!(family == Family::V6 || one.within(|| Ok(has_ipv4_besides_loopback())).unwrap(), "the check works");
    }
}

#[test]
fn a_datagram_with_a_forged_source_leaves() {
    let underlay = Underlay::new(Family::Dual, 1500).unwrap();
    let [one, two] = [1, 2].map(|index| Sandbox::from(underlay.add_node(index).unwrap()));
    for (family, forged) in [(IpFamily::V4, "192.168.77.99"), (IpFamily::V6, "fd00:77::99")] {
        let forged: IpAddr = forged.parse().unwrap();
        let target = SocketAddr::new(Host::Node(2).address(family).addr(), 7);
        let socket = two.within(|| Ok(std::net::UdpSocket::bind(target)?)).unwrap();
        socket.set_read_timeout(Some(PATIENCE)).unwrap();
        one.within_async(async || Ok(probe::forged_datagram(forged, target).await?)).unwrap();
        assert_eq!(socket.recv_from(&mut [0; 16]).unwrap().1.ip(), forged);
    }
}
