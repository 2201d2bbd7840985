//! Whatever a runtime or a peer sends, the answer is an error, never a panic.

use proptest::prelude::*;
use serde_json::json;

use sdn_cni::config::{NetConf, SpecVersion};
use sdn_cni::environment::Command;
use sdn_cni::protocol::{Request, Response, decode, encode};

fn config() -> Vec<u8> {
    let config = json!({
        "cniVersion": "1.1.0",
        "name": "culvert",
        "type": "sdn-cni",
        "agentSocket": "/run/culvert/cni.sock",
        "runtimeConfig": { "mac": "0a:58:00:00:00:01" },
        "prevResult": {
            "interfaces": [{ "name": "eth0", "mac": "0a:58:0a:80:02:05", "mtu": 1450, "sandbox": "/run/netns/c" }],
            "ips": [{ "interface": 0, "address": "10.128.2.5/32", "gateway": "169.254.1.1" }],
            "routes": [{ "dst": "0.0.0.0/0", "gw": "169.254.1.1" }],
        },
        "cni.dev/valid-attachments": [{ "containerID": "c", "ifname": "eth0" }],
    });
    config.to_string().into_bytes()
}

/// A whole document with some bytes replaced, removed or inserted.
fn damaged(whole: Vec<u8>) -> impl Strategy<Value = Vec<u8>> {
    let change = (0..whole.len(), 0..3_u8, any::<u8>());
    prop::collection::vec(change, 0..6).prop_map(move |changes| {
        let mut bytes = whole.clone();
        for (at, kind, byte) in changes {
            let at = at.min(bytes.len() - 1);
            match kind {
                0 => bytes[at] = byte,
                1 => drop(bytes.remove(at)),
                _ => bytes.insert(at, byte),
            }
        }
        bytes
    })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2000, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn configurations(bytes in prop_oneof![damaged(config()), prop::collection::vec(any::<u8>(), 0..200)]) {
        let _ = SpecVersion::of_config(&bytes);
        match NetConf::parse(&bytes) {
            Err(failure) => prop_assert!(failure.code > 0 && !failure.message.is_empty()),
            Ok(config) => {
                // What was accepted is safe to use.
                prop_assert!(config.socket.is_absolute() && !config.name.contains('/'));
                if let Ok(Some(previous)) = config.previous() {
                    let again = previous.to_json(config.version);
                    prop_assert_eq!(&again["cniVersion"], config.version.as_str());
                }
            }
        }
    }

    #[test]
    fn messages(bytes in prop_oneof![
        damaged(encode(&Request::Status).unwrap()),
        damaged(br#"{"protocol":1,"message":{"del":{"container_id":"c","ifname":"eth0"}}}"#.to_vec()),
        prop::collection::vec(any::<u8>(), 0..200),
    ]) {
        if let Ok(request) = decode::<Request>(&bytes) {
            prop_assert_eq!(decode::<Request>(&encode(&request).unwrap()).unwrap(), request);
        }
        let _ = decode::<Response>(&bytes);
    }

    #[test]
    fn environments(container in any::<String>(), ifname in any::<String>(), args in any::<String>()) {
        let command = Command::parse(|name| match name {
            "CNI_COMMAND" => Some("DEL".into()),
            "CNI_CONTAINERID" => Some(container.clone()),
            "CNI_IFNAME" => Some(ifname.clone()),
            "CNI_ARGS" => Some(args.clone()),
            _ => None,
        });
        if let Ok(Command::Del(parameters)) = command {
            let ifname = &parameters.attachment.ifname;
            prop_assert!(ifname.len() < 16 && !ifname.contains('/') && ifname != "..");
            prop_assert!(!parameters.attachment.container_id.contains('/'));
        }
    }
}
