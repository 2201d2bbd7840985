use super::*;
use crate::{
    control,
    model::{ContainerPort, Namespace, NetworkPolicy, Node, Pod, PodPhase, Protocol},
    source::manifests,
};
use proptest::{collection::vec, option, prelude::*};
use std::sync::Arc;

/// What a source reads of a directory, with nothing wrong.
fn read(directory: &Path) -> Vec<Object> {
    let contents = manifests::read(directory, Kind::DERIVED).expect("read");
    assert_eq!((contents.problems, contents.unused), (vec![], vec![]));
    let mut objects = contents.objects;
    objects.sort_by_key(Object::key);
    objects
}

fn all(derived: &Derived) -> Vec<Object> {
    let mut objects: Vec<_> = derived.objects().collect();
    objects.sort_by_key(Object::key);
    objects
}

fn files(directory: &Path) -> Vec<String> {
    let mut names = Vec::new();
    for kind in ["endpointslices", "namespaces", "networkpolicies", "nodes", "pods", "services"] {
        for entry in fs::read_dir(directory.join(kind)).expect("listed") {
            names.push(format!("{kind}/{}", entry.expect("listed").file_name().to_string_lossy()));
        }
    }
    names.sort();
    names
}

#[test]
fn what_is_published_is_read_back() {
    let directory = tempfile::tempdir().expect("a directory");
    let publisher = Publisher::new(directory.path().join("out")).expect("made");
    let mut derived = Derived { nodes: control::nodes(2).into_iter().map(Arc::new).collect(), ..Derived::default() };
    let pod = |name: &str| Arc::new(Pod { namespace: "shop".into(), name: name.into(), ..Pod::default() });
    derived.pods = vec![pod("web-0"), pod("web-1")];
    let policy = NetworkPolicy { namespace: "shop".into(), name: "web".into(), ..NetworkPolicy::default() };
    derived.policies = vec![Arc::new(NetworkPolicy { ingress: Some(Vec::new()), ..policy })];
    publisher.replace(&derived).expect("published");
    assert_eq!(
        files(publisher.directory()),
        [
            "networkpolicies/shop_web.json",
            "nodes/node-1.json",
            "nodes/node-2.json",
            "pods/shop_web-0.json",
            "pods/shop_web-1.json"
        ]
    );
    assert_eq!(read(publisher.directory()), all(&derived));

    let written =
        |name: &str| fs::metadata(publisher.directory().join(name)).and_then(|file| file.modified()).expect("there");
    let before = (written("pods/shop_web-0.json"), written("nodes/node-2.json"));
    derived.pods[0] = Arc::new(Pod {
        ready: true,
        phase: PodPhase::Running,
        addresses: vec!["10.128.0.2".parse().expect("address")],
        ..Pod::clone(&derived.pods[0])
    });
    derived.pods.pop();
    publisher.replace(&derived).expect("published");
    assert_eq!(read(publisher.directory()), all(&derived));
    assert!(
        written("pods/shop_web-0.json") > before.0 && written("nodes/node-2.json") == before.1,
        "only what changed is written"
    );

    publisher.put(&Object::Pod(pod("api-0"), None)).expect("published");
    publisher.delete(&Object::Node(derived.nodes[0].clone()).key()).expect("removed");
    publisher.delete(&Object::Node(derived.nodes[0].clone()).key()).expect("removed already");
    assert_eq!(
        files(publisher.directory()),
        ["networkpolicies/shop_web.json", "nodes/node-2.json", "pods/shop_api-0.json", "pods/shop_web-0.json"]
    );
}

#[test]
fn names_as_long_as_they_may_be_are_told_apart() {
    let directory = tempfile::tempdir().expect("a directory");
    let publisher = Publisher::new(directory.path()).expect("made");
    let name = |end: &str| vec!["a".repeat(62); 4].join(".") + end;
    for end in ["b", "c"] {
        let pod = Pod { namespace: "n".repeat(63).into(), name: name(end).into(), ..Pod::default() };
        publisher.put(&Object::Pod(pod.into(), None)).expect("published");
    }
    assert_eq!(read(directory.path()).len(), 2);
}

fn labels() -> impl Strategy<Value = crate::model::Labels> {
    proptest::collection::btree_map(
        "([a-z]{1,8}\\.[a-z]{2}/)?[A-Za-z]([A-Za-z0-9_.-]{0,8}[A-Za-z0-9])?",
        "([A-Za-z0-9]([A-Za-z0-9_.-]{0,8}[A-Za-z0-9])?)?",
        0..4,
    )
}

fn addresses() -> impl Strategy<Value = Vec<std::net::IpAddr>> {
    (any::<bool>(), option::of(any::<u16>()), option::of(any::<u16>())).prop_map(|(swap, v4, v6)| {
        let v4 = v4.map(|n| std::net::Ipv4Addr::from(0x0a80_0000 + u32::from(n)).into());
        let v6 = v6.map(|n| std::net::Ipv6Addr::new(0xfd01, 0, 0, 0, 0, 0, 0, n).into());
        let both = if swap { [v6, v4] } else { [v4, v6] };
        both.into_iter().flatten().collect()
    })
}

fn ports() -> impl Strategy<Value = Vec<ContainerPort>> {
    let protocol = prop_oneof![Just(Protocol::Tcp), Just(Protocol::Udp), Just(Protocol::Sctp)];
    let port = (option::of("[a-c]"), 1u16.., protocol, option::of(1u16..));
    let model = |(name, port, protocol, host_port): (Option<String>, u16, Protocol, Option<u16>)| ContainerPort {
        name: name.map(Into::into),
        port,
        protocol,
        host_port,
    };
    vec(port.prop_map(model), 0..6)
}

fn pods() -> impl Strategy<Value = Pod> {
    let phase = prop_oneof![
        Just(PodPhase::Pending),
        Just(PodPhase::Running),
        Just(PodPhase::Succeeded),
        Just(PodPhase::Failed),
        Just(PodPhase::Unknown)
    ];
    let annotations = proptest::collection::btree_map("k8s\\.v1\\.cni\\.cncf\\.io/[a-z]{1,4}", "\\PC{0,8}", 0..2);
    let names = (
        "[a-z]([a-z0-9-]{0,8}[a-z0-9])?",
        "[a-z0-9]([a-z0-9.]{0,4}[a-z0-9])?".prop_filter("a name", |name| !name.contains("..")),
        "[ -~]{0,8}",
        option::of("[a-z]([a-z0-9-]{0,4}[a-z0-9])?"),
        any::<bool>(),
    );
    let node = option::of("[a-z]{1,5}");
    let rest = (labels(), annotations, node, addresses(), phase, any::<bool>(), any::<bool>(), ports());
    (names, rest).prop_map(
        |(
            (namespace, name, uid, dns, terminating),
            (labels, annotations, node, addresses, phase, ready, host_network, ports),
        )| {
            let mut pod = Pod {
                namespace: namespace.into(),
                name: name.into(),
                uid: uid.into(),
                labels,
                annotations,
                node: node.map(Into::into),
                addresses,
                host_network,
                hostname: dns.clone().map(Into::into),
                subdomain: dns.map(Into::into),
                terminating,
                phase,
                ready,
                ports,
            };
            for port in pod.ports.iter_mut().filter(|_| host_network) {
                port.host_port = Some(port.port);
            }
            pod
        },
    )
}

fn nodes() -> impl Strategy<Value = Node> {
    let subnets = (option::of(0u8..), option::of(0u16..)).prop_map(|(v4, v6)| {
        let v4 = v4.map(|n| format!("10.128.{n}.0/24").parse().expect("a subnet"));
        let v6 = v6.map(|n| format!("fd01:0:0:{n:x}::/64").parse().expect("a subnet"));
        v4.into_iter().chain(v6).collect()
    });
    ("[a-z]{1,8}", labels(), option::of("[a-z]{1,4}"), vec(addresses(), 0..3), subnets, any::<bool>()).prop_map(
        |(name, mut labels, zone, addresses, subnets, unschedulable)| {
            if let Some(zone) = &zone {
                labels.insert(Node::ZONE_LABEL.to_owned(), zone.clone());
            }
            Node {
                name: name.into(),
                uid: "u".into(),
                labels,
                zone: zone.map(Into::into),
                addresses: addresses.concat(),
                subnets,
                unschedulable,
            }
        },
    )
}

proptest! {
    /// Every object that can be is the same after it was written and read.
    #[test]
    fn objects_survive_being_written(pod in pods(), node in nodes(), name in "[a-z]{1,8}", mut labels in labels()) {
        labels.insert(Namespace::NAME_LABEL.to_owned(), name.clone());
        let namespace = Namespace { name: name.into(), uid: "u".into(), labels };
        for object in [Object::Pod(pod.into(), None), Object::Node(node.into()), Object::Namespace(namespace.into())] {
            let json = object.to_json().expect("not a workload").to_string();
            prop_assert_eq!(Object::parse(object.key().kind, &json, ""), Ok(object), "{}", json);
        }
    }
}
