use crate::{
    config::Config,
    testing::{Rig, cluster, config, pod, put, text},
};
use hickory_proto::op::ResponseCode;
use sdn_cluster::model::Kind;

/// Both ways: with everything in the forwarder's cache, and with nothing.
fn both(check: impl Fn(Rig)) {
    for cached in [true, false] {
        check(Rig::with(&cluster(), config(), cached));
    }
}

#[test]
fn a_name_outside_costs_one_query() {
    both(|mut rig| {
        let name = "example.net.shop.svc.cluster.local.";
        let reply = rig.ask(name, "A");
        assert_eq!(reply.metadata.response_code, ResponseCode::NoError);
        let alias = format!("{name} 5 CNAME example.net.");
        assert_eq!(text(&reply.answers), ["example.net. 60 A 192.0.2.1", &alias]);
        assert_eq!(rig.known.asked(), ["example.net.corp.example.", "example.net."]);
        // The other family says the same of the name: it exists.
        let reply = rig.ask(name, "AAAA");
        assert_eq!(reply.metadata.response_code, ResponseCode::NoError);
        assert_eq!(text(&reply.answers), [alias]);
    });
}

#[test]
fn the_path_is_followed_in_its_order() {
    both(|mut rig| {
        // namespace.svc.ZONE: nothing to complete.
        let reply = rig.ask("api.shop.svc.cluster.local.", "A");
        assert_eq!(text(&reply.answers), ["api.shop.svc.cluster.local. 5 A 172.30.0.20"]);
        // svc.ZONE
        let reply = rig.ask("kubernetes.default.shop.svc.cluster.local.", "A");
        assert_eq!(
            text(&reply.answers),
            [
                "kubernetes.default.shop.svc.cluster.local. 5 CNAME kubernetes.default.svc.cluster.local.",
                "kubernetes.default.svc.cluster.local. 5 A 172.30.0.1",
            ]
        );
        // A family it does not have: the name is found all the same, and nobody else is asked.
        let reply = rig.ask("kubernetes.default.shop.svc.cluster.local.", "AAAA");
        assert_eq!((reply.metadata.response_code, reply.answers.len()), (ResponseCode::NoError, 1));
        // ZONE
        let reply = rig.ask("kubernetes.default.svc.shop.svc.cluster.local.", "A");
        assert_eq!(reply.answers.len(), 2);
        assert!(rig.known.asked().is_empty());
        // The node's own domains
        let reply = rig.ask("intranet.shop.svc.cluster.local.", "A");
        assert_eq!(
            text(&reply.answers),
            [
                "intranet.corp.example. 60 A 192.0.2.2",
                "intranet.shop.svc.cluster.local. 5 CNAME intranet.corp.example.",
            ]
        );
    });
}

#[test]
fn an_external_name_in_the_path_is_followed() {
    both(|mut rig| {
        let mut snapshot = cluster();
        pod(&mut snapshot, "web/other", &["10.128.2.9"], false);
        rig.update(&snapshot);
        let reply = rig.ask_from("10.128.2.9", "outside.shop.web.svc.cluster.local.", "A");
        let types: Vec<_> = reply.answers.iter().map(|record| record.record_type().to_string()).collect();
        assert_eq!(types, ["CNAME", "CNAME", "CNAME", "A"]);
        assert_eq!(reply.answers[3].data.to_string(), "192.0.2.80");
    });
}

#[test]
fn what_does_not_exist_does_not_exist() {
    both(|mut rig| {
        let reply = rig.ask("nothing.example.shop.svc.cluster.local.", "A");
        assert_eq!(reply.metadata.response_code, ResponseCode::NXDomain);
        assert_eq!((reply.answers.len(), reply.authorities.len()), (0, 1));
        assert_eq!(rig.known.asked().len(), 2);
        // Names of one label are not asked for alone.
        rig.ask("nothing.shop.svc.cluster.local.", "A");
        assert_eq!(rig.known.asked()[2..], ["nothing.corp.example."]);
    });
}

#[test]
fn when_upstreams_fail_the_first_name_still_does_not_exist() {
    both(|mut rig| {
        let reply = rig.ask("broken.example.shop.svc.cluster.local.", "A");
        assert_eq!(reply.metadata.response_code, ResponseCode::NXDomain);
        assert_eq!(reply.authorities.len(), 1);
    });
}

#[test]
fn only_the_path_of_the_pod_that_asks_is_completed() {
    both(|mut rig| {
        let denied = |rig: &mut Rig, client, name| {
            assert_eq!(
                rig.ask_from(client, name, "A").metadata.response_code,
                ResponseCode::NXDomain,
                "{client} {name}"
            );
        };
        // Another's namespace, and the second element of the path.
        denied(&mut rig, "10.128.2.3", "example.net.shop.svc.cluster.local.");
        denied(&mut rig, "10.128.2.2", "example.net.svc.cluster.local.");
        // In the node's network nobody knows who asks, nor at an address that no pod has.
        denied(&mut rig, "192.168.0.1", "example.net.shop.svc.cluster.local.");
        denied(&mut rig, "10.128.2.77", "example.net.shop.svc.cluster.local.");
        // A Service without endpoints, and one that has lost its name, are not looked for elsewhere.
        denied(&mut rig, "10.128.2.2", "down.shop.svc.cluster.local.");
        assert!(rig.known.asked().is_empty());
        let reply = rig.ask_from("10.128.2.3", "example.net.web.svc.cluster.local.", "A");
        assert_eq!(reply.answers.len(), 2);
        let reply = rig.ask_from("fd01::2:2", "example.net.shop.svc.cluster.local.", "A");
        assert_eq!(reply.answers.len(), 2);
    });
}

#[test]
fn an_address_that_went_to_another_pod_has_that_ones_path() {
    let mut rig = Rig::new();
    let mut snapshot = cluster();
    let old =
        snapshot.pods.iter().find(|(key, _)| key.to_string() == "shop/client").map(|(key, _)| key.clone()).unwrap();
    snapshot.pods.remove(&old);
    pod(&mut snapshot, "web/new", &["10.128.2.2"], false);
    rig.update(&snapshot);
    let reply = rig.ask("example.net.shop.svc.cluster.local.", "A");
    assert_eq!(reply.metadata.response_code, ResponseCode::NXDomain);
    assert_eq!(rig.ask("example.net.web.svc.cluster.local.", "A").answers.len(), 2);
    // An ended pod keeps its address in its status; it is another's already.
    put(
        &mut snapshot,
        Kind::Pod,
        r#"{"metadata":{"namespace":"shop","name":"job"},"spec":{"nodeName":"n1","containers":[{"name":"c"}]},
        "status":{"phase":"Succeeded","podIPs":[{"ip":"10.128.2.2"}]}}"#,
    );
    rig.update(&snapshot);
    assert_eq!(rig.ask("example.net.web.svc.cluster.local.", "A").answers.len(), 2);
}

/// Knows of a pod before the API does.
#[derive(Debug)]
struct Leases;

impl crate::config::Clients for Leases {
    fn admits(&self, _: std::net::IpAddr) -> bool {
        true
    }

    fn namespace(&self, address: std::net::IpAddr) -> Option<std::sync::Arc<str>> {
        (address.to_string() == "10.128.2.2").then(|| "web".into())
    }
}

#[test]
fn what_the_node_gave_away_counts_before_the_api_tells() {
    let clients = std::sync::Arc::new(Leases);
    let mut rig = Rig::with(&cluster(), Config { clients, ..config() }, true);
    assert_eq!(rig.ask("example.net.web.svc.cluster.local.", "A").answers.len(), 2);
    assert_eq!(rig.ask("example.net.shop.svc.cluster.local.", "A").metadata.response_code, ResponseCode::NXDomain);
}

#[test]
fn without_search_paths_nothing_is_completed() {
    let mut rig = Rig::with(&cluster(), Config { search: None, ..config() }, true);
    let reply = rig.ask("example.net.shop.svc.cluster.local.", "A");
    assert_eq!(reply.metadata.response_code, ResponseCode::NXDomain);
    assert!(rig.known.asked().is_empty());
}
