use super::*;
use crate::model::{Kind, Object};

/// A Service of the fields of its spec, in YAML's flow style.
fn parse(spec: &str) -> Result<Service, FieldError> {
    let json = format!(
        r#"{{"metadata": {{"name": "web", "namespace": "shop", "annotations": {{"service.kubernetes.io/topology-mode": "Auto"}}}}, "spec": {{{spec}}}}}"#
    );
    match Object::parse(Kind::Service, &json, "")? {
        Object::Service(service) => Ok(Service::clone(&service)),
        other => panic!("{other:?}"),
    }
}

#[test]
fn what_is_left_out_has_its_default() {
    let service = parse(r#""ports": [{"port": 80}]"#).expect("a Service");
    let port = ServicePort {
        name: None,
        protocol: Protocol::Tcp,
        port: 80,
        target: TargetPort::Number(80),
        node_port: None,
        app_protocol: None,
    };
    let expected = Service {
        namespace: "shop".into(),
        name: "web".into(),
        topology_mode: Some("Auto".into()),
        ports: vec![port],
        allocate_node_ports: true,
        ..Service::default()
    };
    assert_eq!(service, expected);
}

#[test]
fn faults_name_their_field() {
    // the spec, and the field and a part of the message; None when it is fine
    let port = r#""ports": [{"port": 80}]"#;
    let rows: &[(&str, Option<(&str, &str)>)] = &[
        ("", Some(("spec.ports", "none"))),
        (r#""clusterIP": "None""#, None),
        (r#""clusterIP": "None", "type": "NodePort""#, Some(("spec.clusterIP", "cannot do without"))),
        (r#""type": "ExternalName""#, Some(("spec.externalName", "missing"))),
        (r#""type": "ExternalName", "externalName": "example.com""#, None),
        (r#""type": "ExternalName", "externalName": "a..b""#, Some(("spec.externalName", "not a name"))),
        (
            r#""type": "ExternalName", "externalName": "a.b", "clusterIP": "10.0.0.1""#,
            Some(("spec.clusterIP", "no address")),
        ),
        (r#""ports": [{"port": 0}]"#, Some(("spec.ports[0].port", "nonzero"))),
        (r#""ports": [{"port": 65536}]"#, Some(("spec.ports[0].port", "65536"))),
        (r#""ports": [{"port": 80, "protocol": "ICMP"}]"#, Some(("spec.ports[0].protocol", "ICMP"))),
        (r#""ports": [{"port": 80, "targetPort": "http"}]"#, None),
        (r#""ports": [{"port": 80, "targetPort": "8080"}]"#, Some(("spec.ports[0].targetPort", "8080"))),
        (r#""ports": [{"port": 80, "targetPort": 70000}]"#, Some(("spec.ports[0].targetPort", "70000"))),
        (r#""ports": [{"port": 80}, {"name": "b", "port": 81}]"#, Some(("spec.ports[0].name", "missing"))),
        (
            r#""ports": [{"name": "a", "port": 80}, {"name": "a", "port": 81}]"#,
            Some(("spec.ports[1].name", "two ports")),
        ),
        (r#""ports": [{"name": "a", "port": 80}, {"name": "b", "port": 80}]"#, Some(("spec.ports[1]", "twice"))),
        (r#""ports": [{"name": "a", "port": 53}, {"name": "b", "port": 53, "protocol": "UDP"}]"#, None),
        (r#""ports": [{"port": 80, "nodePort": 30000}]"#, Some(("spec.ports[0].nodePort", "type ClusterIP"))),
        (r#""type": "LoadBalancer", "ports": [{"port": 10250}]"#, Some(("spec.ports[0].port", "kubelet"))),
        (r#""clusterIPs": ["10.0.0.1"], "ports": [{"port": 80}]"#, Some(("spec.clusterIPs", "clusterIP is missing"))),
        (
            r#""clusterIP": "10.0.0.1", "clusterIPs": ["10.0.0.2"], "ports": [{"port": 80}]"#,
            Some(("spec.clusterIPs[0]", "10.0.0.2")),
        ),
        (
            r#""clusterIP": "10.0.0.1", "ipFamilies": ["IPv6"], "ports": [{"port": 80}]"#,
            Some(("spec.clusterIPs[0]", "not IPv6")),
        ),
        (r#""clusterIP": "x", "ports": [{"port": 80}]"#, Some(("spec.clusterIP", "not an address"))),
        (r#""ipFamilies": ["IPv4", "IPv6"], "ports": [{"port": 80}]"#, Some(("spec.ipFamilyPolicy", "two families"))),
        (r#""ipFamilies": ["IPv4", "IPv6"], "ipFamilyPolicy": "PreferDualStack", "ports": [{"port": 80}]"#, None),
        (r#""ipFamilies": ["IPv4", "IPv4"], "ports": [{"port": 80}]"#, Some(("spec.ipFamilies", "once"))),
        (r#""ipFamilies": ["IPv4", "IPv6"], "clusterIP": "None""#, None),
        (r#""sessionAffinityConfig": {}, "ports": [{"port": 80}]"#, Some(("spec.sessionAffinityConfig", "ClientIP"))),
        (
            r#""externalTrafficPolicy": "Local", "ports": [{"port": 80}]"#,
            Some(("spec.externalTrafficPolicy", "nobody outside")),
        ),
        (r#""externalTrafficPolicy": "Local", "externalIPs": ["192.0.2.1"], "ports": [{"port": 80}]"#, None),
        (r#""externalIPs": ["169.254.1.1"], "ports": [{"port": 80}]"#, Some(("spec.externalIPs[0]", "link-local"))),
        (
            r#""loadBalancerSourceRanges": ["10.0.0.0/8"], "ports": [{"port": 80}]"#,
            Some(("spec.loadBalancerSourceRanges", "LoadBalancer")),
        ),
        (
            r#""type": "LoadBalancer", "loadBalancerSourceRanges": ["10.0.0.1"], "ports": [{"port": 80}]"#,
            Some(("spec.loadBalancerSourceRanges[0]", "range")),
        ),
        (r#""loadBalancerClass": "a/b", "ports": [{"port": 80}]"#, Some(("spec.loadBalancerClass", "LoadBalancer"))),
        (
            r#""allocateLoadBalancerNodePorts": true, "ports": [{"port": 80}]"#,
            Some(("spec.allocateLoadBalancerNodePorts", "LoadBalancer")),
        ),
        (
            r#""type": "LoadBalancer", "healthCheckNodePort": 30001, "ports": [{"port": 80}]"#,
            Some(("spec.healthCheckNodePort", "Local")),
        ),
        (r#""trafficDistribution": "Far", "ports": [{"port": 80}]"#, Some(("spec.trafficDistribution", "Far"))),
        (port, None),
    ];
    for (spec, expected) in rows {
        match (parse(spec), expected) {
            (Ok(_), None) => {}
            (Err(error), Some((field, message))) => {
                assert_eq!(error.field, *field, "{spec}: {error:?}");
                assert!(error.message.contains(message), "{spec}: {error:?}");
            }
            (result, _) => panic!("{spec}: {result:?}, expected {expected:?}"),
        }
    }
}

#[test]
fn affinity_has_its_bounds() {
    let affinity = |seconds: &str| {
        parse(&format!(r#""sessionAffinity": "ClientIP", "sessionAffinityConfig": {{"clientIP": {{{seconds}}}}}, "ports": [{{"port": 80}}]"#))
            .map(|service| service.affinity)
            .map_err(|error| error.field)
    };
    let field = "spec.sessionAffinityConfig.clientIP.timeoutSeconds";
    assert_eq!(affinity(""), Ok(Some(10800)));
    for (seconds, fits) in [(0, false), (1, true), (86400, true), (86401, false), (-1, false)] {
        let expected = if fits { Ok(Some(seconds as u32)) } else { Err(field.to_owned()) };
        assert_eq!(affinity(&format!(r#""timeoutSeconds": {seconds}"#)), expected);
    }
}

#[test]
fn a_whole_service_survives_being_written() {
    let service = r#"{"metadata": {"name": "web", "namespace": "shop", "uid": "u",
        "labels": {"service.kubernetes.io/service-proxy-name": "other"}},
        "spec": {"type": "LoadBalancer", "clusterIP": "172.30.0.9", "clusterIPs": ["172.30.0.9", "fd02::9"],
        "ipFamilies": ["IPv4", "IPv6"], "ipFamilyPolicy": "RequireDualStack",
        "ports": [{"name": "a", "port": 80, "targetPort": "http", "nodePort": 30080, "appProtocol": "kubernetes.io/h2c"},
                  {"name": "b", "port": 53, "protocol": "UDP"}, {"name": "c", "port": 9, "protocol": "SCTP"}],
        "selector": {"app": "web"}, "sessionAffinity": "ClientIP", "externalTrafficPolicy": "Local",
        "internalTrafficPolicy": "Local", "externalIPs": ["192.0.2.9"], "loadBalancerSourceRanges": ["10.0.0.1/8"],
        "loadBalancerClass": "example.com/lb", "allocateLoadBalancerNodePorts": false, "healthCheckNodePort": 30090,
        "publishNotReadyAddresses": true, "trafficDistribution": "PreferSameNode"},
        "status": {"loadBalancer": {"ingress": [{"ip": "198.51.100.1", "ipMode": "Proxy"}, {"hostname": "lb.example"}]}}}"#;
    let headless = r#"{"metadata": {"name": "db"}, "spec": {"clusterIP": "None", "selector": {"app": "db"}}}"#;
    let alias = r#"{"metadata": {"name": "x"}, "spec": {"type": "ExternalName", "externalName": "example.com"}}"#;
    for text in [service, headless, alias] {
        let object = Object::parse(Kind::Service, text, "").expect("a Service");
        let json = object.to_json().expect("written").to_string();
        assert_eq!(Object::parse(Kind::Service, &json, ""), Ok(object), "{json}");
    }
    let Ok(Object::Service(service)) = Object::parse(Kind::Service, service, "") else { panic!("not a Service") };
    assert_eq!((service.proxy_name(), service.ingress.len(), service.has_node_ports()), (Some("other"), 1, false));
    assert_eq!((service.ingress[0].mode, service.source_ranges[0].to_string()), (IpMode::Proxy, "10.0.0.0/8".into()));
}
