//! Each row is a machine, made of files in a directory, and what its checks find.

use std::fs;
use std::path::Path;

use super::checks::all;
use super::firewall::Firewall;
use super::*;
use crate::config::{Host, Layers};
use crate::kernel::netlink::{Link, Uplink, VxlanLink};

/// A machine that has nothing to be said against it, and its files.
fn good_files() -> Vec<(&'static str, &'static str)> {
    vec![
        ("proc/sys/kernel/osrelease", "6.18.44-fc-v595\n"),
        ("sys/kernel/btf/vmlinux", "BTF"),
        ("proc/kallsyms", "0000 T tcx_prog_attach\n0000 T tcx_link_attach\n"),
        ("proc/filesystems", "nodev\tsysfs\nnodev\tbpf\n\text4\n"),
        (
            "proc/self/mounts",
            "sysfs /sys sysfs rw 0 0\nbpf /sys/fs/bpf bpf rw 0 0\ncgroup2 /sys/fs/cgroup cgroup2 rw 0 0\n",
        ),
        ("proc/self/net/udp", "  sl  local_address rem_address   st\n 1: 0100007F:0035 00000000:0000 07 0 0\n"),
        ("proc/self/net/tcp", "  sl  local_address rem_address   st\n 0: 00000000:0016 00000000:0000 0A 0 0\n"),
        ("proc/sys/net/ipv4/conf/all/rp_filter", "2\n"),
        ("etc/cni/net.d/10-culvert.conflist", "{}"),
        ("etc/cni/net.d/99-loopback.conf", "{}"),
        ("etc/cni/net.d/00-README.txt", "text"),
    ]
}

fn link(name: &str, port: Option<u16>) -> Link {
    Link {
        name: name.to_owned(),
        ifindex: 1,
        kind: None,
        mtu: 1500,
        mac: [0; 6],
        up: true,
        running: true,
        no_arp: false,
        vxlan: port.map(|port| VxlanLink { port, external: true, learning: false }),
    }
}

fn uplink() -> Uplink {
    Uplink {
        name: "eth0".to_owned(),
        ifindex: 2,
        mtu: 1500,
        mac: [0; 6],
        addresses: vec!["192.0.2.5/24".parse().unwrap()],
        running: true,
    }
}

fn config() -> Config {
    let host = Host { name: Some("n1".to_owned()), local_ports: None };
    Config::from_layers(&Layers::default(), &host).unwrap()
}

/// What a machine with these files finds, after `change` to the rest of it.
fn findings(files: &[(&str, &str)], change: impl FnOnce(&mut Machine)) -> Vec<Finding> {
    let root = tempfile::tempdir().unwrap();
    for (path, text) in files {
        let path = root.path().join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }
    let mut machine = Machine::at(root.path());
    machine.links = Some(vec![link("eth0", None)]);
    machine.uplink = Ok(uplink());
    machine.rules = vec![
        "table inet filter {\n chain forward {\n type filter hook forward priority 0; policy accept;\n }\n}".to_owned(),
    ];
    change(&mut machine);
    all(&config(), &machine)
}

fn find<'a>(findings: &'a [Finding], check: &str) -> &'a Finding {
    findings.iter().find(|finding| finding.check == check).unwrap_or_else(|| panic!("no check {check}"))
}

#[test]
fn a_good_machine_is_good() {
    let found = findings(&good_files(), |_| {});
    for finding in &found {
        assert_eq!(finding.outcome, Outcome::Ok, "{finding:?}");
        assert_eq!(finding.advice, "", "{finding:?}");
    }
    assert_eq!(
        find(&found, "other CNI configurations").found,
        "99-loopback.conf in /etc/cni/net.d: after 10-culvert.conflist, not used"
    );
}

#[test]
fn files_tell_what_is_wrong() {
    // (check, file, its text; None: absent, outcome, part of what was found)
    type Row = (&'static str, &'static str, Option<&'static str>, Outcome, &'static str);
    let rows: &[Row] = &[
        ("kernel", "proc/sys/kernel/osrelease", Some("6.5.0-generic\n"), Outcome::Bad, "Linux 6.5.0-generic"),
        ("kernel", "proc/sys/kernel/osrelease", Some("6.6\n"), Outcome::Ok, "Linux 6.6"),
        ("kernel", "proc/sys/kernel/osrelease", Some("10.0.1\n"), Outcome::Ok, "Linux 10.0.1"),
        ("kernel", "proc/sys/kernel/osrelease", Some("banana"), Outcome::Unknown, "banana"),
        ("kernel", "proc/sys/kernel/osrelease", None, Outcome::Unknown, "release \"\""),
        ("BTF", "sys/kernel/btf/vmlinux", None, Outcome::Bad, "the kernel has none"),
        ("TCX", "proc/kallsyms", Some("0000 T do_tcx_link_attach\n"), Outcome::Bad, "without it"),
        ("TCX", "proc/kallsyms", Some(""), Outcome::Unknown, "cannot be read"),
        (
            "bpffs",
            "proc/self/mounts",
            Some("sysfs /sys sysfs rw 0 0\n"),
            Outcome::Bad,
            "/sys/fs/bpf/culvert is not in one",
        ),
        ("bpffs", "proc/self/mounts", Some("bpf /sys/fs/bp bpf rw 0 0\n"), Outcome::Bad, "is not in one"),
        (
            "bpffs",
            "proc/self/mounts",
            Some("bpf /sys/fs/bpf bpf rw 0 0\nx /sys/fs/bpf tmpfs rw 0 0\n"),
            Outcome::Bad,
            "is not in one",
        ),
        ("cgroup v2", "proc/self/mounts", Some("x /sys/fs/cgroup tmpfs rw 0 0\n"), Outcome::Bad, "not mounted"),
        (
            "tunnel port",
            "proc/self/net/udp",
            Some("h\n 9: 00000000:12B5 00000000:0000 07\n"),
            Outcome::Bad,
            "UDP port 4789 is in use",
        ),
        (
            "tunnel port",
            "proc/self/net/udp6",
            Some("h\n 9: 0000:12B5 0000:0000 07\n"),
            Outcome::Bad,
            "UDP port 4789 is in use",
        ),
        (
            "tunnel port",
            "proc/self/net/tcp",
            Some("h\n 9: 0000:12B5 0000:0000 0A\n"),
            Outcome::Ok,
            "UDP port 4789 is free",
        ),
        (
            "masquerade ports",
            "proc/self/net/tcp",
            Some("h\n 0: 00000000:59D8 00000000:0000 0A\n"),
            Outcome::Bad,
            "sockets of the node use 23000",
        ),
        (
            "masquerade ports",
            "proc/self/net/tcp",
            Some("h\n 0: 00000000:59D8 01010101:0050 01\n"),
            Outcome::Ok,
            "no socket",
        ),
        ("masquerade ports", "proc/self/net/udp6", Some("h\n 0: 00:752F 00:0000 07\n"), Outcome::Bad, "use 29999"),
        (
            "masquerade ports",
            "proc/self/net/udp6",
            Some("h\n 0: 00:7530 00:0000 07\nbroken\n\n 1:\n"),
            Outcome::Ok,
            "no socket",
        ),
        ("reverse path filter", "proc/sys/net/ipv4/conf/all/rp_filter", Some("1\n"), Outcome::Ok, "strict"),
        ("reverse path filter", "proc/sys/net/ipv4/conf/all/rp_filter", None, Outcome::Unknown, "None"),
        (
            "other CNI configurations",
            "etc/cni/net.d/05-cilium.conflist",
            Some("{}"),
            Outcome::Bad,
            "05-cilium.conflist in",
        ),
    ];
    for (check, path, text, outcome, want) in rows {
        let mut files: Vec<_> = good_files().into_iter().filter(|(file, _)| file != path).collect();
        files.extend(text.map(|text| (*path, text)));
        let found = findings(&files, |_| {});
        let finding = find(&found, check);
        assert_eq!(finding.outcome, *outcome, "{finding:?}");
        assert!(finding.found.contains(want), "{finding:?}");
        assert_eq!(finding.advice.is_empty(), *outcome != Outcome::Bad, "{finding:?}");
    }
}

#[test]
fn devices_tell_what_is_wrong() {
    type Change = fn(&mut Machine);
    let rows: &[(&str, Change, Outcome, &str)] = &[
        (
            "tunnel port",
            |m| m.links = Some(vec![link("flannel.1", Some(4789))]),
            Outcome::Bad,
            "VXLAN device flannel.1",
        ),
        ("tunnel port", |m| m.links = Some(vec![link("flannel.1", Some(8472))]), Outcome::Ok, "free"),
        ("tunnel port", |m| m.links = Some(vec![link("culvert0", Some(4789))]), Outcome::Ok, "free"),
        ("tunnel port", |m| m.links = None, Outcome::Ok, "free"),
        ("leftovers of kube-proxy", |m| m.links = Some(vec![link("kube-ipvs0", None)]), Outcome::Bad, "kube-ipvs0"),
        (
            "uplink",
            |m| m.uplink = Err("there is no default route".to_owned()),
            Outcome::Bad,
            "there is no default route",
        ),
        ("uplink", |m| m.uplink = Ok(Uplink { mtu: 1300, ..uplink() }), Outcome::Bad, "eth0, MTU 1300, 192.0.2.5/24"),
        ("uplink", |m| m.uplink = Ok(Uplink { running: false, ..uplink() }), Outcome::Bad, "eth0"),
        (
            "cluster networks",
            |m| m.uplink = Ok(Uplink { addresses: vec!["10.129.0.5/16".parse().unwrap()], ..uplink() }),
            Outcome::Bad,
            "10.129.0.0/16",
        ),
        (
            "capabilities",
            |m| m.missing_capability = Some("CAP_BPF is missing".to_owned()),
            Outcome::Bad,
            "CAP_BPF is missing",
        ),
        ("firewall for forwarded traffic", |m| m.rules = Vec::new(), Outcome::Unknown, "no firewall tool"),
        ("leftovers of kube-proxy", |m| m.rules = Vec::new(), Outcome::Unknown, "no firewall tool"),
    ];
    for (check, change, outcome, want) in rows {
        let found = findings(&good_files(), change);
        let finding = find(&found, check);
        assert_eq!(finding.outcome, *outcome, "{finding:?}");
        assert!(finding.found.contains(want), "{finding:?}");
    }
}

#[test]
fn a_bpffs_can_be_mounted_by_who_may() {
    let files: Vec<_> = good_files().into_iter().filter(|(file, _)| *file != "proc/self/mounts").collect();
    let found = findings(&files, |machine| machine.can_mount = true);
    assert_eq!(find(&found, "bpffs").found, "/sys/fs/bpf/culvert will be mounted");
    let files: Vec<_> = files.into_iter().filter(|(file, _)| *file != "proc/filesystems").collect();
    let found = findings(&files, |machine| machine.can_mount = true);
    assert_eq!(find(&found, "bpffs").found, "this kernel has none");
    assert!(find(&found, "bpffs").is_fatal());
}

const IPTABLES: &str = "*nat\n:PREROUTING ACCEPT [0:0]\n:KUBE-SERVICES - [0:0]\n:KUBE-SVC-ABC - [0:0]\n-A PREROUTING -j KUBE-SERVICES\n\
                        COMMIT\n*filter\n:INPUT DROP [0:0]\n:FORWARD DROP [0:0]\n:KUBE-FIREWALL - [0:0]\n\
                        -A INPUT -p udp -m udp --dport 14789 -j ACCEPT\nCOMMIT\n";

const NFT: &str = "table ip kube-proxy {\n\tchain services {\n\t\tip daddr 10.0.0.1 tcp dport 80 goto x\n\t}\n}\n\
                   table inet firewalld {\n\tchain filter_FORWARD {\n\t\ttype filter hook forward priority filter + 10; policy drop;\n\t}\n\
                   \tchain filter_INPUT {\n\t\ttype filter hook input priority filter + 10; policy drop;\n\
                   \t\tudp dport { 53, 4789 } accept\n\t}\n}\n";

#[test]
fn firewall_rules_are_understood() {
    let iptables = Firewall::read(&[IPTABLES.to_owned()], 4789);
    assert_eq!(iptables.forward_drops, ["iptables filter FORWARD"]);
    assert_eq!(iptables.input_drops, ["iptables filter INPUT"]);
    assert_eq!(iptables.kube_proxy, ["nat KUBE-SERVICES", "nat KUBE-SVC-ABC"], "KUBE-FIREWALL is kubelet's");
    assert!(!iptables.names_port, "14789 is another port");

    let nft = Firewall::read(&[NFT.to_owned()], 4789);
    assert_eq!(nft.forward_drops, ["nft inet firewalld filter_FORWARD"]);
    assert_eq!(nft.input_drops, ["nft inet firewalld filter_INPUT"]);
    assert_eq!(nft.kube_proxy, ["ip kube-proxy"]);
    assert!(nft.names_port);
    assert_eq!(Firewall::read(&["garbage {{{\n\0".to_owned(), String::new()], 4789), Firewall::default());
}

#[test]
fn firewalls_are_judged() {
    let drops = findings(&good_files(), |machine| machine.rules = vec![IPTABLES.to_owned()]);
    let tunnel = find(&drops, "tunnel through the firewall");
    assert_eq!((tunnel.outcome, tunnel.is_fatal()), (Outcome::Bad, false), "{tunnel:?}");
    assert!(find(&drops, "firewall for forwarded traffic").found.contains("pods' packets pass before it"));
    assert_eq!(
        find(&drops, "leftovers of kube-proxy").found,
        "2 chains or devices: nat KUBE-SERVICES, nat KUBE-SVC-ABC"
    );
    let allows = findings(&good_files(), |machine| machine.rules = vec![NFT.to_owned()]);
    assert_eq!(find(&allows, "tunnel through the firewall").outcome, Outcome::Ok);
}

#[test]
fn reports_say_what_it_comes_to() {
    let good = report::table(&findings(&good_files(), |_| {}), Terminal::NONE);
    assert!(good.starts_with("CHECK ") && good.ends_with("\nThis machine can be a node.\n"), "{good}");
    let no_btf: Vec<_> = good_files().into_iter().filter(|(file, _)| !file.contains("btf")).collect();
    let bad = report::table(&findings(&no_btf, |_| {}), Terminal::NONE);
    assert!(bad.contains("FAILED") && bad.ends_with("cannot be a node. Requirements not met: 1.\n"), "{bad}");
    let json: serde_json::Value = serde_json::from_str(&report::json(&findings(&no_btf, |_| {}))).unwrap();
    let btf = json.as_array().unwrap().iter().find(|finding| finding["check"] == "BTF").unwrap();
    assert_eq!((&btf["required"], &btf["outcome"]), (&true.into(), &"bad".into()));
}

#[test]
fn this_machine_can_be_looked_at() {
    let config = config();
    let findings = all(&config, &Machine::this(&config));
    assert_eq!(find(&findings, "kernel").outcome, Outcome::Ok, "tests need a kernel that can run Culvert");
    require(&config).unwrap();
    assert!(Path::new("/proc/self/mounts").exists());
}
