use super::*;
use crate::mac::GATEWAY_MAC;
use crate::protocol::{PodRoute, code};

fn dual_stack() -> PodInterface {
    let gateways: [IpAddr; 2] = ["169.254.1.1".parse().unwrap(), "fe80::1".parse().unwrap()];
    PodInterface {
        addresses: vec!["10.128.2.5".parse().unwrap(), "fd01:0:0:2::5".parse().unwrap()],
        gateways: gateways.to_vec(),
        mac: "0a:58:0a:80:02:05".parse().unwrap(),
        mtu: 1450,
        host_interface: "cv0123456789ab".into(),
        host_mac: GATEWAY_MAC,
        routes: vec![
            PodRoute { destination: "0.0.0.0/0".parse().unwrap(), gateway: gateways[0] },
            PodRoute { destination: "::/0".parse().unwrap(), gateway: gateways[1] },
        ],
        dns: Dns { nameservers: vec!["172.30.0.10".into()], search: vec!["cluster.local".into()], ..Dns::default() },
    }
}

fn success(interface: &PodInterface) -> Success {
    let attachment = Attachment { container_id: "c".into(), ifname: "eth0".into() };
    Success::of_pod(&attachment, "/run/netns/c", interface)
}

#[test]
fn each_version_has_its_form() {
    let mut want = json!({
        "cniVersion": "1.1.0",
        "interfaces": [
            { "name": "cv0123456789ab", "mac": "0a:58:a9:fe:01:01", "mtu": 1450 },
            { "name": "eth0", "mac": "0a:58:0a:80:02:05", "mtu": 1450, "sandbox": "/run/netns/c" },
        ],
        "ips": [
            { "interface": 1, "address": "10.128.2.5/32", "gateway": "169.254.1.1" },
            { "interface": 1, "address": "fd01:0:0:2::5/128", "gateway": "fe80::1" },
        ],
        "routes": [
            { "dst": "169.254.1.1/32", "scope": 253 },
            { "dst": "0.0.0.0/0", "gw": "169.254.1.1" },
            { "dst": "::/0", "gw": "fe80::1" },
        ],
        "dns": { "nameservers": ["172.30.0.10"], "search": ["cluster.local"] },
    });
    let result = success(&dual_stack());
    assert_eq!(result.to_json(SpecVersion::V1_1_0), want);

    for interface in want["interfaces"].as_array_mut().unwrap() {
        interface.as_object_mut().unwrap().remove("mtu");
    }
    want["routes"][0].as_object_mut().unwrap().remove("scope");
    want["cniVersion"] = "1.0.0".into();
    assert_eq!(result.to_json(SpecVersion::V1_0_0), want);

    want["ips"][0]["version"] = "4".into();
    want["ips"][1]["version"] = "6".into();
    for version in [SpecVersion::V0_4_0, SpecVersion::V0_3_1] {
        want["cniVersion"] = version.as_str().into();
        assert_eq!(result.to_json(version), want);
    }
}

#[test]
fn a_single_family() {
    let mut interface = dual_stack();
    interface.addresses.remove(0);
    interface.gateways.remove(0);
    interface.routes.remove(0);
    let json = success(&interface).to_json(SpecVersion::V1_1_0);
    assert_eq!(json["ips"], json!([{ "interface": 1, "address": "fd01:0:0:2::5/128", "gateway": "fe80::1" }]));
    assert_eq!(json["routes"], json!([{ "dst": "::/0", "gw": "fe80::1" }]));
}

#[test]
fn every_form_is_read_again() {
    let result = success(&dual_stack());
    for version in VERSIONS {
        let read: Success = serde_json::from_value(result.to_json(version)).unwrap();
        assert_eq!(read.to_json(version), result.to_json(version), "{version}");
        assert_eq!(read.interface_in_sandbox("eth0").unwrap().mac, "0a:58:0a:80:02:05");
        assert_eq!(read.interface_in_sandbox("cv0123456789ab"), None, "an interface of the host");
    }
    let sparse: Success = serde_json::from_value(json!({ "ips": null, "cniVersion": "1.0.0" })).unwrap();
    assert_eq!(sparse, Success::default());
}

#[test]
fn behind_another_plugin() {
    let previous = serde_json::from_value::<Success>(json!({
        "interfaces": [{ "name": "net1", "sandbox": "/run/netns/c", "pciID": "0000:00:1f.6" }],
        "ips": [{ "interface": 0, "address": "192.0.2.1/24" }],
        "routes": [{ "dst": "192.0.2.0/24", "priority": 5 }],
        "dns": { "domain": "example.org" },
    }));
    let previous = previous.unwrap();
    let json = previous.followed_by(success(&dual_stack())).to_json(SpecVersion::V1_1_0);
    assert_eq!(json["interfaces"][0], json!({ "name": "net1", "sandbox": "/run/netns/c", "pciID": "0000:00:1f.6" }));
    let indices: Vec<_> = json["ips"].as_array().unwrap().iter().map(|ip| ip["interface"].clone()).collect();
    assert_eq!(indices, [0, 2, 2]);
    assert_eq!(json["interfaces"][2]["name"], "eth0");
    assert_eq!(json["routes"][0], json!({ "dst": "192.0.2.0/24", "priority": 5 }));
    assert_eq!(json["routes"].as_array().unwrap().len(), 4);
    assert_eq!(json["dns"], json!({ "domain": "example.org" }));
}

#[test]
fn errors_and_versions() {
    let failure = Failure::new(code::TRY_AGAIN_LATER, "ADD of eth0", "the agent is absent");
    let want = json!({ "cniVersion": "0.4.0", "code": 11, "msg": "ADD of eth0", "details": "the agent is absent" });
    assert_eq!(error(&failure, SpecVersion::V0_4_0), want);
    let want = json!({ "cniVersion": "0.2.0", "supportedVersions": ["0.3.1", "0.4.0", "1.0.0", "1.1.0"] });
    assert_eq!(versions("0.2.0"), want);
}
