use super::*;
use crate::model::{Kind, Object};

fn slice(fields: &str) -> Result<EndpointSlice, FieldError> {
    let json = format!(
        r#"{{"metadata": {{"name": "web-1", "namespace": "shop", "labels": {{"kubernetes.io/service-name": "web"}}}}, {fields}}}"#
    );
    match Object::parse(Kind::EndpointSlice, &json, "")? {
        Object::EndpointSlice(slice) => Ok(EndpointSlice::clone(&slice)),
        other => panic!("{other:?}"),
    }
}

#[test]
fn conditions_that_are_not_told_have_their_defaults() {
    // conditions; ready, serving, terminating
    let rows = [
        ("", (true, true, false)),
        (r#""ready": false"#, (false, true, false)),
        (r#""ready": null, "serving": false, "terminating": true"#, (true, false, true)),
    ];
    for (conditions, expected) in rows {
        let text = format!(
            r#""addressType": "IPv4", "ports": [{{"name": ""}}], "endpoints": [{{"addresses": ["10.0.0.1"], "conditions": {{{conditions}}}}}]"#
        );
        let slice = slice(&text).expect("a slice");
        let endpoint = &slice.endpoints[0];
        assert_eq!((endpoint.ready, endpoint.serving, endpoint.terminating), expected, "{conditions}");
        assert_eq!((slice.ports[0].port, slice.ports[0].name.as_deref()), (None, None), "all ports");
        assert_eq!(slice.service_key(), Some(ServiceKey::new("shop", "web")));
    }
}

#[test]
fn faults_name_their_field() {
    let rows = [
        (r#""endpoints": []"#, "", "addressType"),
        (r#""addressType": "IPv4", "endpoints": [{"addresses": []}]"#, "endpoints[0].addresses", "1 to 100"),
        (
            r#""addressType": "IPv4", "endpoints": [{"addresses": ["10.0.0.1", "fd01::1"]}]"#,
            "endpoints[0].addresses[1]",
            "addressType",
        ),
        (r#""addressType": "IPv6", "endpoints": [{"addresses": ["::1"]}]"#, "endpoints[0].addresses[0]", "::1"),
        (r#""addressType": "FQDN", "endpoints": [{"addresses": ["A"]}]"#, "endpoints[0].addresses[0]", "not a name"),
        (
            r#""addressType": "IPv4", "endpoints": [{"addresses": ["10.0.0.1"], "hostname": "A"}]"#,
            "endpoints[0].hostname",
            "not a name",
        ),
        (r#""addressType": "IPv4", "ports": [{"name": "a"}, {"name": "a"}]"#, "ports[1].name", "two ports"),
        (r#""addressType": "IPv4", "ports": [{"port": 0}]"#, "ports[0].port", "nonzero"),
    ];
    for (text, field, message) in rows {
        let error = slice(text).expect_err(text);
        assert_eq!(error.field, field, "{text}: {error:?}");
        assert!(error.message.contains(message), "{text}: {error:?}");
    }
}

#[test]
fn a_whole_slice_survives_being_written() {
    let slice = slice(
        r#""addressType": "IPv4", "ports": [{"name": "http", "port": 80, "appProtocol": "http"}, {"name": "all", "protocol": "UDP"}],
        "endpoints": [{"addresses": ["10.0.0.1", "10.0.0.2"], "conditions": {"ready": false, "serving": true, "terminating": true},
        "hostname": "a", "nodeName": "n1", "zone": "east", "hints": {"forZones": [{"name": "east"}], "forNodes": [{"name": "n1"}]},
        "targetRef": {"kind": "Pod", "name": "web-0"}}, {"addresses": ["10.0.0.3"], "targetRef": {"kind": "Node", "name": "x"}}]"#,
    )
    .expect("a slice");
    assert_eq!(
        (slice.endpoints[0].pod.clone(), slice.endpoints[1].pod.clone()),
        (Some(PodKey::new("shop", "web-0")), None)
    );
    let json = slice.to_json().to_string();
    assert_eq!(Object::parse(Kind::EndpointSlice, &json, ""), Ok(Object::EndpointSlice(slice.into())), "{json}");
}

#[test]
fn endpoints_become_slices() {
    let parse = |labels: &str, subsets: &str| {
        let json = format!(r#"{{"metadata": {{"name": "web", "labels": {{{labels}}}}}, "subsets": [{subsets}]}}"#);
        Object::parse(Kind::Endpoints, &json, "").map(|object| match object {
            Object::Endpoints(endpoints) => endpoints.slices.clone(),
            other => panic!("{other:?}"),
        })
    };
    let subset = r#"{"addresses": [{"ip": "10.0.0.1"}, {"ip": "fd01::1"}], "notReadyAddresses": [{"ip": "10.0.0.2"}], "ports": [{"port": 80}]}"#;
    let slices = parse("", subset).expect("good");
    let got: Vec<_> =
        slices.iter().map(|slice| (slice.address_type, slice.endpoints.iter().map(|e| e.ready).collect())).collect();
    assert_eq!(got, [(AddressType::V4, vec![true, false]), (AddressType::V6, vec![true])]);
    assert!(slices.iter().all(|slice| slice.service.as_deref() == Some("web") && slice.ports[0].port == Some(80)));
    assert_eq!(parse(r#""endpointslice.kubernetes.io/skip-mirror": "true""#, subset), Ok(vec![]));
    assert_eq!(parse("", "{}").expect_err("empty").field, "subsets[0].addresses");
    let unnamed = r#"{"addresses": [{"ip": "10.0.0.1"}], "ports": [{"port": 1}, {"name": "b", "port": 2}]}"#;
    assert_eq!(parse("", unnamed).expect_err("unnamed").field, "subsets[0].ports[0].name");
}
