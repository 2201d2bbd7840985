use std::collections::BTreeMap;

use proptest::prelude::*;
use sdn_cluster::model::PodPhase;
use sdn_common::{Addr4, Addr6, Endpoint, Identity, Node, NodeState, Peer, incarnation};

use super::policy::Seed;
use super::testing::*;
use super::*;
use crate::family::mapped;

fn plan(inputs: Inputs) -> Plan {
    Plan::new(inputs, Indices::default(), Seed::default())
}

fn problems(plan: &Plan) -> Vec<String> {
    plan.problems().map(|problem| format!("{}: {}", problem.object, problem.cause)).collect()
}

const NODE_1: u32 = 1;
const NODE_2: u32 = 2;

fn node_peer(node: u32) -> Peer {
    let identity = if node == Node::SELF { Identity::HOST } else { Identity::NODE };
    Peer { node, incarnation: 0, identity, _pad: 0 }
}

fn pod_peer(node: u32, name: &str) -> Peer {
    Peer { node, incarnation: incarnation(&format!("uid-{name}")), identity: Identity::POD, _pad: 0 }
}

// === Tables ===

#[test]
fn nodes_become_tunnels_subnets_and_peers() {
    let plan = plan(three_nodes());
    let wanted = plan.wanted();
    assert_eq!(problems(&plan), [""; 0]);

    let tunnel = |text| Node { tunnel: mapped(ip(text)), flags: Node::VALID };
    let nodes: Vec<_> = wanted.nodes.iter().map(|(index, node)| (*index, *node)).collect();
    assert_eq!(nodes, [(0, tunnel("192.168.9.1")), (1, tunnel("192.168.9.2")), (2, tunnel("192.168.9.3"))]);
    let tunnels: BTreeMap<_, _> = wanted.tunnels.iter().map(|(from, node)| (*from, *node)).collect();
    assert_eq!(
        tunnels,
        BTreeMap::from([(mapped(ip("192.168.9.2")), NODE_1), (mapped(ip("192.168.9.3")), NODE_2)]),
        "nothing comes through the tunnel from this node"
    );

    let subnets: BTreeMap<_, _> = wanted.v4.subnets.iter().map(|(net, node)| (net.to_string(), *node)).collect();
    assert_eq!(subnets, [("10.128.0.0/23", 0), ("10.128.2.0/23", 1), ("10.128.4.0/23", 2)].map(own).into());
    let subnets: BTreeMap<_, _> = wanted.v6.subnets.iter().map(|(net, node)| (net.to_string(), *node)).collect();
    assert_eq!(subnets, [("fd01::/64", 0), ("fd01:0:0:1::/64", 1), ("fd01:0:0:2::/64", 2)].map(own).into());

    let peers: BTreeMap<_, _> = wanted.v4.peers.iter().map(|(address, peer)| (address.ip(), *peer)).collect();
    let expected = [
        ("192.168.9.1", 0),
        ("10.128.0.1", 0),
        ("192.168.9.2", 1),
        ("10.128.2.1", 1),
        ("192.168.9.3", 2),
        ("10.128.4.1", 2),
    ];
    assert_eq!(peers, expected.map(|(address, node)| (ip(address), node_peer(node))).into());
    assert_eq!(wanted.v6.peers.get(&v6("fd01:0:0:2::1")), Some(&node_peer(NODE_2)));
}

fn own((text, index): (&str, u32)) -> (String, u32) {
    (text.to_owned(), index)
}

#[test]
fn the_nodes_settings() {
    let state = plan(three_nodes()).wanted().state.unwrap();
    assert_eq!((state.epoch, state.flags, state.mtu, state.hz), (0, NodeState::MASQUERADE, 1450, 250));
    assert_eq!((state.vxlan_ifindex, state.uplink_ifindex, state.vxlan_port.native()), (3, 2, 4789));
    assert_eq!((state.masquerade_first, state.masquerade_last), (23_000, 29_999));
    assert_eq!((state.v4.cluster_address, state.v4.masquerade), (v4("10.128.0.1"), v4("192.168.9.1")));
    assert_eq!((state.v6.cluster_address, state.v6.masquerade), (v6("fd01::1"), Addr6::default()));
    assert!(state.v4.cluster[0].contains(v4("10.131.255.1")) && !state.v4.cluster[0].contains(v4("10.132.0.1")));
    assert!(state.v6.cluster[0].contains(v6("fd01::7:0:0:1")) && !state.v6.cluster[1].contains(Addr6::default()));
}

#[test]
fn settings_that_change_the_state() {
    let state = |change: fn(&mut Inputs)| {
        let mut inputs = three_nodes();
        change(&mut inputs);
        plan(inputs).wanted().state.unwrap()
    };
    let with = |change: fn(&mut Settings)| {
        let mut inputs = three_nodes();
        change(Arc::make_mut(&mut inputs.settings));
        plan(inputs).wanted().state.unwrap()
    };
    assert_eq!(with(|s| s.mtu = Some(1400)).mtu, 1400);
    assert_eq!(with(|s| s.metadata = true).flags, NodeState::MASQUERADE | NodeState::METADATA);
    assert_eq!(with(|s| s.machine_config = true).flags, NodeState::MASQUERADE | NodeState::MACHINE_CONFIG);
    let off = with(|s| s.masquerade = None);
    assert_eq!((off.flags, off.masquerade_first, off.v4.masquerade), (0, 0, Addr4::default()));
    // The address that the cluster knows the node by, not the uplink's first.
    let two = state(|inputs| inputs.uplink = uplink(&["192.168.9.77/24", "192.168.9.1/24", "2001:db8::1/64"]));
    assert_eq!((two.v4.masquerade, two.v6.masquerade), (v4("192.168.9.1"), v6("2001:db8::1")));
    let foreign = state(|inputs| inputs.uplink = uplink(&["192.168.9.77/24"]));
    assert_eq!(foreign.v4.masquerade, v4("192.168.9.77"));
}

#[test]
fn the_family_of_tunnels_is_that_of_the_nodes_address_on_the_uplink() {
    // (own addresses, uplink, tunnels over IPv6, MTU)
    let rows: [(&[&str], &[&str], bool, u32); 6] = [
        (&["192.168.9.1"], &["192.168.9.1/24"], false, 1450),
        (&["2001:db8::1"], &["2001:db8::1/64"], true, 1430),
        (&["2001:db8::1", "192.168.9.1"], &["192.168.9.1/24", "2001:db8::1/64"], false, 1450),
        (&["2001:db8::1"], &["192.168.9.1/24", "2001:db8::1/64"], true, 1430),
        (&["192.168.50.1"], &["2001:db8::1/64"], true, 1430),
        (&[], &[], false, 1450),
    ];
    for (addresses, found, tunnel_v6, mtu) in rows {
        let mut inputs = inputs().with_node(node("n0", addresses, &["10.128.0.0/23"])).with_node(node(
            "n1",
            &["192.168.9.2", "2001:db8::2"],
            &["10.128.2.0/23"],
        ));
        inputs.uplink = uplink(found);
        let plan = plan(inputs);
        let far = plan.wanted().nodes.get(&NODE_1).unwrap();
        let expected = if tunnel_v6 { "2001:db8::2" } else { "192.168.9.2" };
        assert_eq!(far.tunnel, mapped(ip(expected)), "{addresses:?} on {found:?}");
        assert_eq!(far.flags & Node::TUNNEL_V6 != 0, tunnel_v6, "{addresses:?} on {found:?}");
        assert_eq!(plan.wanted().state.unwrap().mtu, mtu, "{addresses:?} on {found:?}");
    }
}

#[test]
fn pods_become_endpoints_and_peers() {
    let mut ended = pod("ended", "n1", &["10.128.2.9"]);
    ended.phase = PodPhase::Succeeded;
    let mut host = pod("host", "n1", &["192.168.9.2"]);
    host.host_network = true;
    let inputs = three_nodes()
        .with_pod(pod("far", "n1", &["10.128.2.2", "fd01:0:0:1::2"]))
        .with_pod(pod("near", "n0", &["10.128.0.2"]))
        .with_pod(ended)
        .with_pod(host)
        .with_local(local("near", 17, &["10.128.0.2", "fd01::2"]));
    let plan = plan(inputs);
    assert_eq!(problems(&plan), [""; 0]);
    let wanted = plan.wanted();
    assert_eq!(wanted.v4.peers.get(&v4("10.128.2.2")), Some(&pod_peer(NODE_1, "far")));
    assert_eq!(wanted.v6.peers.get(&v6("fd01:0:0:1::2")), Some(&pod_peer(NODE_1, "far")));
    assert_eq!(wanted.v4.peers.get(&v4("10.128.2.9")), None, "a pod that has ended has no address any more");
    assert_eq!(wanted.v4.peers.get(&v4("192.168.9.2")), Some(&node_peer(NODE_1)), "its node's, not its own");
    assert_eq!(wanted.v4.peers.get(&v4("10.128.0.2")), None, "this node's pods are endpoints");
    let endpoint = Endpoint {
        ifindex: 17,
        incarnation: incarnation("uid-near"),
        identity: Identity::POD,
        mac: [0x0a, 0x58, 10, 128, 0, 2],
        ..Endpoint::default()
    };
    assert_eq!(wanted.v4.endpoints.get(&v4("10.128.0.2")), Some(&endpoint));
    assert_eq!(wanted.v6.endpoints.get(&v6("fd01::2")), Some(&endpoint));
    let links: Vec<_> = wanted.links.iter().map(|((hook, ifindex), device)| (*hook, *ifindex, &*device.name)).collect();
    let expected = [
        (Hook::PodOut, 17, "cv17"),
        (Hook::OverlayIn, 3, "culvert0"),
        (Hook::HostOut, 3, "culvert0"),
        (Hook::UplinkIn, 2, "eth0"),
    ];
    assert_eq!(links, expected);
}

#[test]
fn xdp_is_on_the_uplink_where_it_is_asked_for() {
    let mut inputs = three_nodes();
    Arc::make_mut(&mut inputs.settings).uplink_xdp = true;
    let mut plan = plan(inputs.clone());
    let early = |plan: &Plan| -> Vec<u32> {
        plan.wanted().links.keys().filter(|(hook, _)| *hook == Hook::UplinkXdp).map(|(_, ifindex)| *ifindex).collect()
    };
    assert_eq!(early(&plan), [2]);
    Arc::make_mut(&mut inputs.uplink).ifindex = 9;
    plan.update(inputs.clone());
    assert_eq!(early(&plan), [9]);
    Arc::make_mut(&mut inputs.settings).uplink_xdp = false;
    plan.update(inputs);
    assert_eq!(early(&plan), [] as [u32; 0]);
}

#[test]
fn a_bad_object_rejects_only_itself() {
    let far = || pod("far", "n1", &["10.128.2.2"]);
    let nameless = Pod { uid: "".into(), ..pod("nameless", "n2", &["10.128.4.2"]) };
    let starting = Pod { phase: PodPhase::Pending, ready: false, ..pod("a-starting", "n1", &["10.128.2.2"]) };
    type Change = Box<dyn Fn(Inputs) -> Inputs>;
    // (what is added to three nodes and the pod shop/far, what is said about it)
    let rows: Vec<(Change, &str)> = vec![
        (
            Box::new(|inputs| inputs.with_node(node("n3", &["192.168.9.2"], &[]))),
            "node n3: its address 192.168.9.2 is node n1's already",
        ),
        (
            Box::new(|inputs| inputs.with_node(node("n3", &["10.128.7.7"], &[]))),
            "node n3: its address 10.128.7.7 lies in the cluster network, which is for pods",
        ),
        (
            Box::new(|inputs| inputs.with_node(node("n3", &["127.0.0.1", "192.168.9.4"], &[]))),
            "node n3: its address 127.0.0.1 is no address of a machine",
        ),
        (
            Box::new(|inputs| inputs.with_node(node("n3", &["2001:db8::4"], &["10.128.6.0/23"]))),
            "node n3: it has no usable IPv4 address: its pods cannot be reached",
        ),
        (
            Box::new(|inputs| inputs.with_node(node("n3", &["192.168.9.4"], &["10.128.2.128/25"]))),
            "node n3: its host subnet 10.128.2.128/25 overlaps 10.128.2.0/23, which is node n1's",
        ),
        (
            Box::new(|inputs| inputs.with_node(node("n3", &["192.168.9.4"], &["10.128.0.0/20"]))),
            "node n3: its host subnet 10.128.0.0/20 overlaps 10.128.0.0/23, which is this node's",
        ),
        (
            Box::new(|inputs| inputs.with_node(node("n3", &["192.168.9.4"], &["10.200.0.0/23"]))),
            "node n3: its host subnet 10.200.0.0/23 is not in a cluster network",
        ),
        (
            Box::new(|inputs| inputs.with_pod(pod("lost", "n9", &["10.128.2.3"]))),
            "pod shop/lost: its node n9 is not known",
        ),
        (
            Box::new(|inputs| inputs.with_pod(pod("strayed", "n2", &["10.128.2.3"]))),
            "pod shop/strayed: its address 10.128.2.3 is in 10.128.2.0/23, the host subnet of node n1, but it is on node n2",
        ),
        (
            Box::new(|inputs| inputs.with_pod(pod("outside", "n1", &["8.8.8.8"]))),
            "pod shop/outside: its address 8.8.8.8 is not in a cluster network",
        ),
        (
            Box::new(move |inputs| inputs.with_pod(nameless.clone())),
            "pod shop/nameless: it has no uid, by which its packets are known",
        ),
        (
            Box::new(move |inputs| inputs.with_pod(starting.clone())),
            "pod shop/a-starting: its address 10.128.2.2 is that of pod shop/far",
        ),
        (
            Box::new(|inputs| inputs.with_pod(pod("twin", "n1", &["10.128.2.2"]))),
            "pod shop/twin: its address 10.128.2.2 is that of pod shop/far",
        ),
        (
            Box::new(|inputs| inputs.with_pod(pod("node", "n1", &["10.128.2.1"]))),
            "pod shop/node: its address 10.128.2.1 is that of node n1",
        ),
        (
            Box::new(|inputs| inputs.with_local(local("thief", 17, &["10.128.0.1"]))),
            "pod shop/thief: its address 10.128.0.1 is that of this node",
        ),
    ];
    let good = plan(three_nodes().with_pod(far()));
    for (change, problem) in rows {
        let plan = plan(change(three_nodes().with_pod(far())));
        assert!(problems(&plan).contains(&problem.to_owned()), "{problem:?} is not in {:?}", problems(&plan));
        for (address, peer) in &good.wanted().v4.peers {
            assert_eq!(plan.wanted().v4.peers.get(address), Some(peer), "{} in spite of {problem}", address.ip());
        }
        for (subnet, index) in &good.wanted().v4.subnets {
            assert_eq!(plan.wanted().v4.subnets.get(subnet), Some(index), "{subnet} in spite of {problem}");
        }
    }
}

#[test]
fn a_local_pod_comes_before_what_the_cluster_says() {
    let inputs =
        three_nodes().with_pod(pod("moved", "n1", &["10.128.0.2"])).with_local(local("near", 17, &["10.128.0.2"]));
    let plan = plan(inputs);
    assert!(plan.wanted().v4.endpoints.contains_key(&v4("10.128.0.2")));
    assert!(!plan.wanted().v4.peers.contains_key(&v4("10.128.0.2")));
}

#[test]
fn nothing_is_said_of_the_node_before_its_object_was_read() {
    let mut unsynced = inputs();
    unsynced.snapshot.synced = false;
    assert_eq!(plan(unsynced.clone()).wanted().state, None);
    assert!(!plan(unsynced).is_complete());
    let absent = plan(inputs());
    assert!(absent.is_complete() && absent.wanted().state.is_some());
    assert_eq!(problems(&absent), ["node n0: the cluster has no such node: this node has no host subnet"]);
}

#[test]
fn cluster_networks_beyond_the_slots_are_a_problem() {
    let mut inputs = three_nodes();
    let five = (0..5).map(|number| format!("10.{}.0.0/16", 128 + number).parse().unwrap()).collect();
    Arc::make_mut(&mut inputs.settings).cluster_networks = five;
    let expected = "cluster network 10.132.0.0/16: there is room for 4 of a family; its pods are not reached";
    assert!(problems(&plan(inputs)).contains(&expected.to_owned()));
}

#[test]
fn a_nodes_number_waits_for_its_release() {
    let mut plan = plan(three_nodes());
    let mut without = plan.inputs().clone();
    without.snapshot.nodes.remove("n1");
    plan.update(without);
    assert_eq!(plan.reserved().collect::<Vec<_>>(), [NODE_1]);
    let with = plan.inputs().clone().with_node(node("n3", &["192.168.9.4"], &[]));
    plan.update(with.clone());
    assert_eq!(plan.wanted().tunnels.get(&mapped(ip("192.168.9.4"))), Some(&3));
    plan.release(NODE_1);
    plan.update(with.with_node(node("n4", &["192.168.9.5"], &[])));
    assert_eq!(plan.wanted().tunnels.get(&mapped(ip("192.168.9.5"))), Some(&NODE_1));
}

#[test]
fn an_unchanged_plan_shares_its_maps() {
    let mut plan = plan(three_nodes().with_pod(pod("far", "n1", &["10.128.2.2"])));
    let before = plan.wanted().clone();
    let mut inputs = plan.inputs().clone().with_pod(pod("far", "n1", &["10.128.2.2"]));
    inputs.snapshot.generation += 1;
    plan.update(inputs);
    assert!(before.v4.peers.ptr_eq(&plan.wanted().v4.peers), "so that finding no difference costs nothing");
}

// === Properties ===

/// What must hold of every plan, whatever it was made from.
fn check_consistent(plan: &Plan) -> Result<(), TestCaseError> {
    let wanted = plan.wanted();
    let numbers: BTreeSet<u32> = plan.table.indices.values().copied().chain([Node::SELF]).collect();
    prop_assert_eq!(numbers.len(), plan.table.indices.len() + 1, "a number belongs to one node");
    prop_assert!(plan.reserved().all(|index| !numbers.contains(&index)), "a reserved number is nobody's");
    let known = |index: &u32| numbers.contains(index);
    prop_assert!(wanted.nodes.keys().all(known) && wanted.tunnels.values().all(known));
    prop_assert!(wanted.v4.subnets.values().all(known) && wanted.v6.subnets.values().all(known));
    prop_assert!(wanted.v4.peers.values().all(|peer| known(&peer.node)));
    prop_assert!(wanted.v4.endpoints.keys().all(|address| !wanted.v4.peers.contains_key(address)));
    prop_assert!(wanted.v6.endpoints.keys().all(|address| !wanted.v6.peers.contains_key(address)));
    for pod in plan.inputs().pods.values() {
        prop_assert!(wanted.links.contains_key(&(Hook::PodOut, pod.host_ifindex)), "{} has its program", pod);
    }
    Ok(())
}

/// What a plan wants but for its policy sets, whose numbers say how they came about.
fn without_sets(plan: &Plan) -> Wanted {
    let mut wanted = Wanted { policies: policy::WantedPolicies::default(), ..plan.wanted().clone() };
    let reset = |endpoint: Endpoint| Endpoint { egress: SetRef::default(), ingress: SetRef::default(), ..endpoint };
    wanted.v4.endpoints =
        wanted.v4.endpoints.into_iter().map(|(address, endpoint)| (address, reset(endpoint))).collect();
    wanted.v6.endpoints =
        wanted.v6.endpoints.into_iter().map(|(address, endpoint)| (address, reset(endpoint))).collect();
    wanted
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    /// The same plan whether it grew change by change or is made at once.
    #[test]
    fn a_plan_that_grew_equals_one_made_at_once(operations in prop::collection::vec(operation(), 1..60)) {
        let mut grown = plan(three_nodes());
        let mut inputs = grown.inputs().clone();
        for operation in operations {
            if matches!(operation, Operation::ReleaseAll) {
                let reserved: Vec<u32> = grown.reserved().collect();
                reserved.into_iter().for_each(|index| grown.release(index));
            }
            apply_operation(&mut inputs, operation);
            grown.update(inputs.clone());
            let made = Plan::new(inputs.clone(), grown.indices.clone(), grown.policies.seed());
            prop_assert_eq!(without_sets(&grown), without_sets(&made));
            prop_assert_eq!(grown.problems().collect::<Vec<_>>(), made.problems().collect::<Vec<_>>());
            prop_assert_eq!(&grown.claims, &made.claims);
            prop_assert_eq!(&grown.pods_of, &made.pods_of);
            prop_assert_eq!(&grown.table, &made.table);
            check_consistent(&grown)?;
        }
    }
}
