use super::*;
use crate::model::{ServicePort, TargetPort, TrafficPolicy};
use proptest::{collection::vec, option, prelude::*};

fn service(name: &str, change: impl FnOnce(&mut Service)) -> Object {
    let port = ServicePort {
        name: None,
        protocol: Protocol::Tcp,
        port: 80,
        target: TargetPort::Number(80),
        node_port: None,
        app_protocol: None,
    };
    let mut service = Service {
        namespace: "shop".into(),
        name: name.into(),
        ports: vec![port],
        allocate_node_ports: true,
        ..Service::default()
    };
    change(&mut service);
    Object::Service(service.into())
}

fn ranges(networks: &[&str]) -> ServiceRanges {
    ServiceRanges::new(networks.iter().map(|text| text.parse().expect(text)).collect()).expect("ranges")
}

fn ip(text: &str) -> IpAddr {
    text.parse().expect(text)
}

fn notes(derived: &DerivedServices) -> String {
    derived.notes.iter().map(ToString::to_string).collect::<Vec<_>>().join("; ")
}

#[test]
fn dual_stack_follows_the_policy() {
    use FamilyPolicy::{PreferDualStack, RequireDualStack, SingleStack};
    let (one, two) = (&["172.30.0.0/16"][..], &["172.30.0.0/16", "fd02::/112"][..]);
    // networks, policy, families asked for; families then, or None when refused
    type Row<'a> = (&'a [&'a str], Option<FamilyPolicy>, &'a [IpFamily], Option<&'a [IpFamily]>);
    let rows: &[Row] = &[
        (two, None, &[], Some(&[IpFamily::V4])),
        (two, Some(SingleStack), &[IpFamily::V6], Some(&[IpFamily::V6])),
        (two, Some(PreferDualStack), &[], Some(&[IpFamily::V4, IpFamily::V6])),
        (two, Some(RequireDualStack), &[IpFamily::V6], Some(&[IpFamily::V6, IpFamily::V4])),
        (one, Some(PreferDualStack), &[], Some(&[IpFamily::V4])),
        (one, Some(RequireDualStack), &[], None),
        (one, None, &[IpFamily::V6], None),
    ];
    for (networks, policy, families, expected) in rows {
        let object = service("web", |service| {
            service.family_policy = *policy;
            service.families = families.to_vec();
        });
        let derived = derive_services([&object], &ranges(networks));
        let got = derived.services.first().map(|service| service.families.clone());
        assert_eq!(got.as_deref(), *expected, "{policy:?} {families:?}: {}", notes(&derived));
        assert_eq!(derived.notes.len(), usize::from(expected.is_none()));
        for service in &derived.services {
            let of: Vec<_> = service.cluster_ips.iter().map(|address| IpFamily::of(*address)).collect();
            assert_eq!(of, service.families);
        }
    }
}

#[test]
fn the_static_band_is_given_out_last() {
    let ranges = ranges(&["10.96.0.0/27"]);
    let objects: Vec<_> = (0..31).map(|n| service(&format!("s{n:02}"), |_| {})).collect();
    let derived = derive_services(&objects, &ranges);
    let hosts: Vec<u8> = derived
        .services
        .iter()
        .map(|service| match service.cluster_ips[0] {
            IpAddr::V4(address) => address.octets()[3],
            IpAddr::V6(address) => panic!("{address}"),
        })
        .collect();
    assert!(hosts[..14].iter().all(|host| (17..=30).contains(host)), "{hosts:?}");
    assert_eq!(hosts[14..], (1..=16).collect::<Vec<_>>(), "then the band from below");
    assert!(notes(&derived).contains("no IPv4 address is left"), "{}", notes(&derived));
    let large = derive_services(&objects, &ServiceRanges::default());
    assert!(large.services.iter().all(|service| service.cluster_ips[0] > ip("172.30.1.0")), "a band of 256");
}

#[test]
fn what_is_given_is_kept_and_conflicts_are_told() {
    let given = |name: &str, address: &str| service(name, |service| service.cluster_ips = vec![ip(address)]);
    let node_port = |name: &str, port: u16, protocol: Protocol| {
        service(name, |service| {
            service.service_type = ServiceType::NodePort;
            service.ports[0].node_port = Some(port);
            service.ports[0].protocol = protocol;
        })
    };
    // objects, which are there then, and what is noted
    let rows: Vec<(Vec<Object>, &[&str], &str)> = vec![
        (
            vec![given("b", "172.30.0.10"), given("a", "172.30.0.10")],
            &["a"],
            "clusterIP 172.30.0.10 is Service shop/a's",
        ),
        (vec![given("a", "10.96.0.1")], &[], "none of the service networks"),
        (vec![given("a", "172.30.0.0")], &[], "none of the service networks"),
        (vec![given("a", "172.30.255.255")], &[], "none of the service networks"),
        (vec![node_port("a", 30080, Protocol::Tcp), node_port("b", 30080, Protocol::Udp)], &["a", "b"], ""),
        (
            vec![node_port("a", 30080, Protocol::Tcp), node_port("b", 30080, Protocol::Tcp)],
            &["a"],
            "is Service shop/a's",
        ),
        (vec![node_port("a", 80, Protocol::Tcp)], &[], "not within 30000-32767"),
    ];
    for (objects, expected, message) in rows {
        let derived = derive_services(&objects, &ServiceRanges::default());
        let names: Vec<_> = derived.services.iter().map(|service| &*service.name).collect();
        assert_eq!(names, expected, "{}", notes(&derived));
        assert!(notes(&derived).contains(message), "{}", notes(&derived));
    }
}

#[test]
fn each_type_gets_what_it_needs() {
    let pool = ranges(&["172.30.0.0/16"]).lb_pool(vec!["192.0.2.0/30".parse().expect("a pool")]).expect("a pool");
    let balancer = |name: &str, change: fn(&mut Service)| {
        service(name, |service| {
            service.service_type = ServiceType::LoadBalancer;
            change(service);
        })
    };
    // addresses, node ports, health check port, addresses outside
    let rows: Vec<(Object, [bool; 4])> = vec![
        (service("a", |_| {}), [true, false, false, false]),
        (service("a", |service| service.headless = true), [false; 4]),
        (service("a", |service| service.service_type = ServiceType::ExternalName), [false; 4]),
        (service("a", |service| service.service_type = ServiceType::NodePort), [true, true, false, false]),
        (balancer("a", |_| {}), [true, true, false, true]),
        (balancer("a", |service| service.allocate_node_ports = false), [true, false, false, true]),
        (balancer("a", |service| service.external_policy = TrafficPolicy::Local), [true, true, true, true]),
        (balancer("a", |service| service.load_balancer_class = Some("x/y".into())), [true, true, false, false]),
    ];
    for (object, expected) in rows {
        let derived = derive_services([&object], &pool);
        let service = &derived.services[0];
        let got = [
            !service.cluster_ips.is_empty(),
            service.ports[0].node_port.is_some(),
            service.health_check_node_port.is_some(),
            !service.ingress.is_empty(),
        ];
        assert_eq!((got, notes(&derived)), (expected, String::new()), "{object:?}");
    }
    let three: Vec<_> = ["a", "b", "c"].into_iter().map(|name| balancer(name, |_| {})).collect();
    let derived = derive_services(&three, &pool);
    let got: Vec<_> =
        derived.services.iter().flat_map(|service| &service.ingress).map(|ingress| ingress.address).collect();
    assert_eq!(got, [ip("192.0.2.1"), ip("192.0.2.2")]);
    assert!(notes(&derived).contains("left in the load balancer pool"), "{}", notes(&derived));
}

#[test]
fn ranges_are_checked() {
    let rows = [
        (&[][..], "no service network"),
        (&["172.30.0.1/16"], "host bits"),
        (&["172.30.0.0/31"], "too small"),
        (&["127.0.0.0/16"], "loopback"),
        (&["172.30.0.0/16", "10.0.0.0/16"], "of its family already"),
    ];
    for (networks, message) in rows {
        let networks: Vec<IpNet> = networks.iter().map(|text| text.parse().expect("a network")).collect();
        let error = ServiceRanges::new(networks).expect_err(message).to_string();
        assert!(error.contains(message), "{error}");
    }
    assert!(ServiceRanges::default().lb_pool(vec!["172.30.1.0/24".parse().expect("a pool")]).is_err());
}

proptest! {
    /// Nothing is given out twice, and what was assigned stays when it is assigned again beside others.
    #[test]
    fn nothing_is_given_twice(wishes in vec((0u8..3, any::<bool>(), option::of(0u8..40), option::of(0u8..20)), 0..40)) {
        let ranges = ranges(&["10.96.0.0/27", "fd02::/112"]).node_ports(30000..=30020).expect("ports");
        let object = |(index, (kind, dual, host, port)): (usize, &(u8, bool, Option<u8>, Option<u8>))| {
            service(&format!("s{index}"), |service| {
                service.service_type = [ServiceType::ClusterIP, ServiceType::NodePort, ServiceType::LoadBalancer][usize::from(*kind)];
                service.family_policy = dual.then_some(FamilyPolicy::PreferDualStack);
                service.cluster_ips = host.map(|host| IpAddr::from([10, 96, 0, host])).into_iter().collect();
                service.ports[0].node_port = port.filter(|_| *kind > 0).map(|port| 30000 + u16::from(port));
            })
        };
        let objects: Vec<_> = wishes.iter().enumerate().map(object).collect();
        let derived = derive_services(&objects, &ranges);
        let mut seen = BTreeSet::new();
        for service in &derived.services {
            for address in &service.cluster_ips {
                prop_assert!(seen.insert(address.to_string()), "{} twice", address);
            }
            for (protocol, port) in given_ports(service) {
                prop_assert!(seen.insert(format!("{port}/{protocol}")), "{} twice", port);
            }
        }
        let assigned: Vec<_> = derived.services.iter().cloned().map(Object::Service).collect();
        let again = derive_services(assigned.iter().chain([&service("new", |_| {})]), &ranges);
        for service in &derived.services {
            prop_assert!(again.services.contains(service));
        }
    }
}
