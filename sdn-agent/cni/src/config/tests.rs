use serde_json::json;

use super::*;

fn parse(document: Value) -> Result<NetConf, Failure> {
    NetConf::parse(document.to_string().as_bytes())
}

#[test]
fn a_whole_configuration() {
    let config = parse(json!({
        "cniVersion": "1.1.0",
        "cniVersions": ["1.0.0", "1.1.0"],
        "name": "culvert",
        "type": "sdn-cni",
        "agentSocket": "/run/other/cni.sock",
        "capabilities": { "mac": true },
        "runtimeConfig": { "mac": "0a:58:00:00:00:01" },
        "ipMasq": true,
        "ipam": {},
        "unknown": { "to": "us" },
        "prevResult": { "ips": [{ "address": "10.128.2.5/32" }] },
        "cni.dev/valid-attachments": [{ "containerID": "a", "ifname": "eth0" }],
    }));
    let config = config.unwrap();
    assert_eq!(config.version, SpecVersion::V1_1_0);
    assert_eq!(config.name, "culvert");
    assert_eq!(config.socket.to_str(), Some("/run/other/cni.sock"));
    assert_eq!(config.runtime_config["mac"], "0a:58:00:00:00:01");
    assert_eq!(config.previous().unwrap().unwrap().ips[0].address.to_string(), "10.128.2.5/32");
    assert_eq!(config.valid_attachments.unwrap(), [Attachment { container_id: "a".into(), ifname: "eth0".into() }]);
}

#[test]
fn the_least_configuration() {
    let config = parse(json!({ "cniVersion": "0.3.1", "name": "n" })).unwrap();
    assert_eq!(config.version, SpecVersion::V0_3_1);
    assert_eq!(config.socket.to_str(), Some(DEFAULT_SOCKET));
    assert_eq!(config.previous().unwrap(), None);
    assert!(config.runtime_config.is_empty());
}

#[test]
fn refused_configurations() {
    let valid = || json!({ "cniVersion": "1.1.0", "name": "n" });
    let with = |key: &str, value: Value| {
        let mut document = valid();
        document[key] = value;
        document.to_string()
    };
    let rows: &[(String, u32, &str)] = &[
        (String::new(), code::DECODING_FAILURE, "EOF"),
        ("{".into(), code::DECODING_FAILURE, "EOF"),
        ("[]".into(), code::INCOMPATIBLE_VERSION, "0.1.0"),
        (with("cniVersion", json!(null)), code::INCOMPATIBLE_VERSION, "0.1.0"),
        (with("cniVersion", json!("0.2.0")), code::INCOMPATIBLE_VERSION, "0.2.0"),
        (with("cniVersion", json!("2.0.0")), code::INCOMPATIBLE_VERSION, "supported are 0.3.1, 0.4.0, 1.0.0, 1.1.0"),
        (with("cniVersion", json!(1)), code::DECODING_FAILURE, "cniVersion"),
        (with("name", json!("")), code::INVALID_CONFIG, "name"),
        (with("name", json!("a/b")), code::INVALID_CONFIG, "a/b"),
        (with("name", json!(7)), code::DECODING_FAILURE, "string"),
        (with("agentSocket", json!("cni.sock")), code::INVALID_CONFIG, "cni.sock"),
        (with("ipam", json!({ "type": "host-local" })), code::UNSUPPORTED_FIELD, "ipam.type = \"host-local\""),
        (with("runtimeConfig", json!([])), code::DECODING_FAILURE, "map"),
        (with("cni.dev/valid-attachments", json!([{ "containerID": "a" }])), code::DECODING_FAILURE, "ifname"),
    ];
    for (document, want, named) in rows {
        let failure = NetConf::parse(document.as_bytes()).unwrap_err();
        assert_eq!(failure.code, *want, "{document}: {failure}");
        assert!(failure.to_string().contains(named), "{document}: {failure}");
    }
}

#[test]
fn a_strange_previous_result_is_only_refused_when_it_is_needed() {
    let config = parse(json!({ "cniVersion": "1.1.0", "name": "n", "prevResult": { "ips": 7 } })).unwrap();
    let failure = config.previous().unwrap_err();
    assert_eq!(failure.code, code::DECODING_FAILURE);
    assert!(failure.message.contains("prevResult"), "{failure}");
}

#[test]
fn no_list_of_attachments_is_not_an_empty_one() {
    let list = |value: Option<Value>| {
        let mut document = json!({ "cniVersion": "1.1.0", "name": "n" });
        if let Some(value) = value {
            document["cni.dev/valid-attachments"] = value;
        }
        parse(document).unwrap().valid_attachments.map(|list| list.len())
    };
    assert_eq!(list(None), None);
    assert_eq!(list(Some(json!(null))), Some(0));
    assert_eq!(list(Some(json!([]))), Some(0));
}

#[test]
fn commands_by_version() {
    for (version, check, gc) in
        [("0.3.1", false, false), ("0.4.0", true, false), ("1.0.0", true, false), ("1.1.0", true, true)]
    {
        let config = parse(json!({ "cniVersion": version, "name": "n" })).unwrap();
        let got = |command: &str, since| match config.require(command, since) {
            Ok(()) => true,
            Err(failure) => {
                assert_eq!(failure.code, code::INCOMPATIBLE_VERSION);
                false
            }
        };
        assert_eq!(got("CHECK", SpecVersion::V0_4_0), check, "{version}");
        assert_eq!(got("GC", SpecVersion::V1_1_0), gc, "{version}");
    }
}

#[test]
fn too_long_a_configuration() {
    let failure = read(std::io::repeat(b' ')).unwrap_err();
    assert_eq!(failure.code, code::IO_FAILURE);
    assert_eq!(read(&b"{}"[..]).unwrap(), b"{}");
}
