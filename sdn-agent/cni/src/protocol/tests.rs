use serde_json::{Value, json};

use super::*;

fn attachment() -> Attachment {
    Attachment { container_id: "c1".into(), ifname: "eth0".into() }
}

fn netns() -> Netns {
    Netns { path: "/run/netns/c1".into(), device: 4, inode: 4_026_532_000 }
}

/// The wire form is what an agent and a plugin of different releases share, so it is written out here.
#[test]
fn requests_on_the_wire() {
    let rows = [
        (
            Request::Add(AddRequest {
                attachment: attachment(),
                network: "culvert".into(),
                netns: netns(),
                pod: Some(PodIdentity { namespace: "shop".into(), name: "web-0".into(), uid: "u".into() }),
                runtime_config: serde_json::Map::new(),
            }),
            json!({ "add": {
                "container_id": "c1", "ifname": "eth0", "network": "culvert",
                "netns": { "path": "/run/netns/c1", "device": 4, "inode": 4_026_532_000_u64 },
                "pod": { "namespace": "shop", "name": "web-0", "uid": "u" },
            }}),
        ),
        (Request::Commit(CommitRequest { host_ifindex: 7 }), json!({ "commit": { "host_ifindex": 7 } })),
        (
            Request::Del(DelRequest { attachment: attachment() }),
            json!({ "del": { "container_id": "c1", "ifname": "eth0" } }),
        ),
        (
            Request::Check(CheckRequest {
                attachment: attachment(),
                netns: netns(),
                addresses: vec!["10.128.2.5".parse().unwrap()],
            }),
            json!({ "check": {
                "container_id": "c1", "ifname": "eth0", "addresses": ["10.128.2.5"],
                "netns": { "path": "/run/netns/c1", "device": 4, "inode": 4_026_532_000_u64 },
            }}),
        ),
        (
            Request::Gc(GcRequest { network: "culvert".into(), valid: vec![attachment()] }),
            json!({ "gc": { "network": "culvert", "valid": [{ "container_id": "c1", "ifname": "eth0" }] } }),
        ),
        (Request::Status, json!("status")),
    ];
    for (request, want) in rows {
        let line = encode(&request).unwrap();
        assert_eq!(line.last(), Some(&b'\n'));
        assert_eq!(line.iter().filter(|byte| **byte == b'\n').count(), 1);
        let json: Value = serde_json::from_slice(&line).unwrap();
        assert_eq!(json, json!({ "protocol": 1, "message": want }));
        assert_eq!(decode::<Request>(&line).unwrap(), request);
    }
}

#[test]
fn refused_lines() {
    let rows: &[(&str, &str)] = &[
        ("", "EOF"),
        ("{}\n", "protocol"),
        ("{\"protocol\":2,\"message\":{\"later\":[]}}\n", "protocol is 2, ours is 1"),
        ("{\"protocol\":1,\"message\":{\"later\":[]}}\n", "unknown variant `later`"),
        ("{\"protocol\":1,\"message\":\"status\"} {}\n", "trailing"),
        ("\u{0}\u{1}\n", "expected value"),
    ];
    for (line, named) in rows {
        let error = decode::<Request>(line.as_bytes()).unwrap_err().to_string();
        assert!(error.contains(named), "{line}: {error}");
    }
    assert!(matches!(decode::<Request>(&vec![b' '; MAX_MESSAGE + 1]), Err(ProtocolError::TooLong)));
    let valid = vec![attachment(); MAX_MESSAGE / 32];
    let many = Request::Gc(GcRequest { network: "culvert".into(), valid });
    assert!(matches!(encode(&many), Err(ProtocolError::TooLong)));
}

#[test]
fn names_of_host_interfaces() {
    let name = |container_id: &str, ifname: &str| {
        host_interface_name(&Attachment { container_id: container_id.into(), ifname: ifname.into() })
    };
    // Fixed for ever: a DEL after an upgrade must find the interface of an ADD before it.
    assert_eq!(name("c1", "eth0"), "cva0abdbb0e4f4");
    assert_ne!(name("c1", "eth0"), name("c2", "eth0"));
    assert_ne!(name("c1", "eth0"), name("c1", "eth1"));
    let many: std::collections::HashSet<_> = (0..10_000).map(|i| name(&format!("{i:064x}"), "eth0")).collect();
    assert_eq!(many.len(), 10_000);
    for name in many {
        assert!(name.len() == 14 && name[2..].bytes().all(|b| b.is_ascii_hexdigit()), "{name}");
    }
}
