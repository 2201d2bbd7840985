use std::io::Write;

use clap::{CommandFactory, FromArgMatches, Parser};

use sdn_common::flow::Timeouts;

use super::*;

#[derive(Parser)]
struct Line {
    #[command(flatten)]
    settings: Settings,
}

/// The configuration of a command line and a file named `config.EXTENSION` with a text.
fn load(line: &[&str], file: Option<(&str, &str)>) -> Result<Config, String> {
    let directory = tempfile::tempdir().unwrap();
    let path = file.map(|(extension, text)| {
        let path = directory.path().join(format!("config.{extension}"));
        std::fs::File::create(&path).unwrap().write_all(text.as_bytes()).unwrap();
        path
    });
    let matches = Line::command().no_binary_name(true).try_get_matches_from(line).map_err(|e| e.to_string())?;
    let settings = Line::from_arg_matches(&matches).unwrap().settings;
    let host = Host { name: Some("machine".to_owned()), local_ports: PortRange::new(32768, 60999) };
    Layers::new(settings, &matches, path.as_deref())
        .and_then(|layers| Config::from_layers(&layers, &host))
        .map_err(|error| error.to_string().replace(&directory.path().display().to_string(), ""))
}

#[test]
fn defaults_are_valid() {
    let config = load(&[], None).unwrap();
    assert_eq!(config.node_name, "machine");
    assert_eq!(config.tunnel, Tunnel { port: 4789, mtu: None });
    assert_eq!(config.masquerade, PortRange::new(23000, 29999));
    assert_eq!(config.uplink_xdp, None);
    assert_eq!(config.paths.admin_socket(), default_admin_socket());
    assert_eq!(
        config.cluster_networks.iter().map(ToString::to_string).collect::<Vec<_>>(),
        ["10.128.0.0/14,23", "fd01::/48,64"]
    );
    assert!(!config.reach.metadata && !config.reach.machine_config && !config.cni.install);
    assert_eq!(Timeouts::from(&config.conntrack), Timeouts::DEFAULT, "the programs' own defaults");
}

#[test]
fn layers_have_precedence() {
    let yaml = "vxlan-port: 8472\nuplink: eth7\nallow-metadata: true\ncluster-network: ['10.0.0.0/16,24']\n";
    let toml = "vxlan-port = 8472\nuplink = \"eth7\"\nallow-metadata = true\ncluster-network = [\"10.0.0.0/16,24\"]\n";
    for file in [("yaml", yaml), ("yml", yaml), ("toml", toml)] {
        let config = load(&["--vxlan-port", "5555"], Some(file)).unwrap();
        assert_eq!(config.tunnel.port, 5555, "the command line is over the file");
        assert_eq!(config.uplink.as_deref(), Some("eth7"), "the file is over the default");
        assert!(config.reach.metadata);
        let origin = |name: &str| config.effective.iter().find(|e| e.name == name).unwrap().origin.clone();
        assert_eq!(origin("vxlan-port"), Origin::Flag("--vxlan-port".to_owned()));
        assert!(matches!(origin("cluster-network"), Origin::File(_)));
        assert_eq!(origin("node-ports"), Origin::Default);
    }
}

#[test]
fn what_is_wrong_is_named() {
    // (command line, file's extension and text) → part of the error
    type Row = (&'static [&'static str], Option<(&'static str, &'static str)>, &'static str);
    let rows: &[Row] = &[
        (&["--node-name", "Node_1"], None, "setting node-name (flag --node-name): \"Node_1\" is no name of a Node"),
        (&["--vxlan-port", "0"], None, "setting vxlan-port (flag --vxlan-port): port 0 means none"),
        (
            &["--vxlan-port", "70000"],
            None,
            "setting vxlan-port (flag --vxlan-port): \"70000\" is no port: number too large",
        ),
        (&["--tunnel-mtu", "1000"], None, "setting tunnel-mtu (flag --tunnel-mtu): 1000 is outside 1280 … 65535"),
        (&["--uplink", "a/b"], None, "setting uplink (flag --uplink): \"a/b\" is no name of a network device"),
        (&["--uplink", "sixteen-letters-"], None, "is no name of a network device"),
        (&["--uplink-xdp", "on"], None, "setting uplink-xdp (flag --uplink-xdp): \"on\" is neither off, generic nor"),
        (&["--bpffs", "sys/fs"], None, "setting bpffs (flag --bpffs): \"sys/fs\" is not absolute"),
        (
            &["--metrics-address", "9420"],
            None,
            "setting metrics-address (flag --metrics-address): \"9420\" is no IP:PORT",
        ),
        (
            &["--allow-metadata=yes"],
            None,
            "setting allow-metadata (flag --allow-metadata): \"yes\" is neither true nor",
        ),
        (&["--conntrack-udp", "0"], None, "setting conntrack-udp (flag --conntrack-udp): 0 is outside 1s … 720h"),
        (&["--conntrack-udp", "5 d"], None, "setting conntrack-udp (flag --conntrack-udp): \"5 d\" is no time"),
        (&["--conntrack-udp", "h"], None, "setting conntrack-udp (flag --conntrack-udp): \"h\" is no time"),
        (&["--log-level", "loud"], None, "setting log-level (flag --log-level): \"loud\" is no LEVEL"),
        (&["--log-level", "info,=debug"], None, "\"=debug\" is no LEVEL"),
        (&["--log-format", "xml"], None, "setting log-format (flag --log-format): \"xml\" is neither text nor json"),
        (&["--service-network", "10.0.0.1/8"], None, "10.0.0.1/8 has host bits set; the network is 10.0.0.0/8"),
        (
            &["--masquerade-ports", "40000-50000"],
            None,
            "40000-50000 overlaps 32768-60999, which the node's own sockets use",
        ),
        (&["--masquerade-ports", "29000-31000"], None, "29000-31000 overlaps the NodePorts 30000-32767"),
        (&["--masquerade-ports", "9-3"], None, "\"9-3\" is no range FIRST-LAST"),
        (&["--masquerade-ports", "0-3"], None, "\"0-3\" is no range FIRST-LAST"),
        (&["--masquerade-ports", "a-3"], None, "port \"a\": invalid digit"),
        (&["--cluster-network", "10.0.0.0/8,24", "--service-network", "10.3.0.0/16"], None, "setting cluster-network"),
        (
            &["--cluster-network", "10.0.0.0/8,24", "--cluster-network", "10.3.0.0/16,24"],
            None,
            "setting cluster-network",
        ),
        (&[], Some(("yaml", "vxlan-port: x")), "setting vxlan-port (file /config.yaml): \"x\" is no port"),
        (&[], Some(("yaml", "vxlan-prot: 1")), "configuration file /config.yaml: unknown field `vxlan-prot`"),
        (&[], Some(("yaml", "vxlan-port: [1]")), "configuration file /config.yaml: vxlan-port: invalid type: sequence"),
        (&[], Some(("toml", "vxlan-prot = 1")), "unknown field `vxlan-prot`"),
        (&[], Some(("yaml", "cluster-network: []")), "setting cluster-network (file /config.yaml): is an empty list"),
    ];
    for (line, file, want) in rows {
        let error = load(line, *file).expect_err(&format!("{line:?} {file:?} was accepted"));
        assert!(error.contains(want), "{line:?} {file:?}\n  said {error}\n  want {want}");
    }
}

#[test]
fn what_is_unusual_is_accepted() {
    let rows: &[&[&str]] = &[
        &["--masquerade=false", "--masquerade-ports", "40000-50000"],
        &["--allow-metadata"],
        &["--conntrack-tcp-established", "2h"],
        &["--conntrack-icmp", "45"],
        &["--log-level", "warn,sdn_agent=debug,sdn_agent::keeper=off"],
        &["--cluster-network", "fd01::/48,64", "--service-network", "fd02::/112"],
        &["--metrics-address", "[::]:0"],
        &["--node-name", "node-1.example.com"],
    ];
    for line in rows {
        load(line, None).unwrap_or_else(|error| panic!("{line:?}: {error}"));
    }
    assert_eq!(load(&[], Some(("yaml", "# nothing\n"))).unwrap(), load(&[], None).unwrap());
    assert_eq!(load(&["--masquerade=false"], None).unwrap().masquerade, None);
    for (mode, expected) in [("off", None), ("generic", Some(XdpMode::Generic)), ("native", Some(XdpMode::Native))] {
        assert_eq!(load(&["--uplink-xdp", mode], None).unwrap().uplink_xdp, expected);
        // YAML takes a bare off for a text, too.
        assert_eq!(load(&[], Some(("yaml", &format!("uplink-xdp: {mode}")))).unwrap().uplink_xdp, expected);
    }
    assert_eq!(load(&["--conntrack-udp", "2m"], None).unwrap().conntrack.udp, Duration::from_secs(120));
}

#[test]
fn a_missing_file_is_named() {
    let matches = Line::command().no_binary_name(true).get_matches_from::<_, &str>([]);
    let error = Layers::new(Settings::default(), &matches, Some(Path::new("/nowhere/agent.yaml"))).unwrap_err();
    assert_eq!(
        error.to_string(),
        "read configuration file /nowhere/agent.yaml: No such file or directory (os error 2)"
    );
}

#[test]
fn printed_configuration_gives_itself() {
    let first = load(&["--vxlan-port", "1234", "--manifests", "/a: b", "--uplink", "no"], None).unwrap();
    for (extension, text) in [("yaml", first.to_yaml()), ("yaml", first.to_json().to_string())] {
        let mut second = load(&[], Some((extension, &text))).unwrap();
        assert!(second.effective.iter().all(|setting| setting.origin != Origin::Default), "{text}");
        second.effective = first.effective.clone();
        assert_eq!(first, second, "{text}");
    }
}

#[test]
fn ranges_overlap_at_their_edges() {
    let range = |text: &str| text.parse::<PortRange>().unwrap();
    assert!(range("1-10").overlaps(range("10-20")) && range("10-20").overlaps(range("1-10")));
    assert!(!range("1-10").overlaps(range("11-20")) && range("80").overlaps(range("1-65535")));
}
