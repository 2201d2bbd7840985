use super::*;

const ADD: &[(&str, &str)] = &[
    ("CNI_COMMAND", "ADD"),
    ("CNI_CONTAINERID", "0a1b2c"),
    ("CNI_IFNAME", "eth0"),
    ("CNI_NETNS", "/run/netns/cni-1"),
    ("CNI_PATH", "/opt/cni/bin"),
];

/// The variables of `base` with some replaced or, by None, taken away.
fn parse(base: &[(&str, &str)], changes: &[(&str, Option<&str>)]) -> Result<Command, Failure> {
    Command::parse(|name| {
        let changed = changes.iter().find(|(changed, _)| *changed == name).map(|(_, value)| *value);
        let value = changed.unwrap_or_else(|| base.iter().find(|(known, _)| *known == name).map(|(_, value)| *value));
        value.map(str::to_owned)
    })
}

fn parameters(command: Command) -> Parameters {
    match command {
        Command::Add(parameters) | Command::Del(parameters) | Command::Check(parameters) => parameters,
        other => panic!("{other:?} has no parameters"),
    }
}

#[test]
fn add() {
    let got = parse(ADD, &[]).unwrap();
    let attachment = Attachment { container_id: "0a1b2c".into(), ifname: "eth0".into() };
    let want = Parameters { attachment, netns: Some("/run/netns/cni-1".into()), own_netns_allowed: false, pod: None };
    assert_eq!(got, Command::Add(want));
}

#[test]
fn what_each_command_needs() {
    let rows: &[(&str, &[&str])] = &[
        ("ADD", &["CNI_CONTAINERID", "CNI_IFNAME", "CNI_NETNS"]),
        ("CHECK", &["CNI_CONTAINERID", "CNI_IFNAME", "CNI_NETNS"]),
        ("DEL", &["CNI_CONTAINERID", "CNI_IFNAME"]),
        ("GC", &[]),
        ("STATUS", &[]),
        ("VERSION", &[]),
    ];
    for (command, needed) in rows {
        for name in ["CNI_CONTAINERID", "CNI_IFNAME", "CNI_NETNS", "CNI_ARGS", "CNI_PATH"] {
            for absent in [None, Some("")] {
                let got = parse(ADD, &[("CNI_COMMAND", Some(command)), (name, absent)]);
                match (got, needed.contains(&name)) {
                    (Ok(_), false) => {}
                    (Err(failure), true) => {
                        assert_eq!(failure.code, code::INVALID_ENVIRONMENT);
                        assert!(failure.message.contains(name), "{failure}");
                    }
                    (got, needed) => panic!("{command} without {name}: needed {needed}, got {got:?}"),
                }
            }
        }
    }
}

#[test]
fn refused_values() {
    let long = "x".repeat(300);
    let huge = "x".repeat(5000);
    let rows: &[(&str, &str)] = &[
        ("CNI_COMMAND", ""),
        ("CNI_COMMAND", "add"),
        ("CNI_COMMAND", "UPDATE"),
        ("CNI_CONTAINERID", "-leading"),
        ("CNI_CONTAINERID", "../../etc"),
        ("CNI_CONTAINERID", "with space"),
        ("CNI_CONTAINERID", "ümlaut"),
        ("CNI_CONTAINERID", &long),
        ("CNI_IFNAME", "."),
        ("CNI_IFNAME", ".."),
        ("CNI_IFNAME", "eth/0"),
        ("CNI_IFNAME", "eth:0"),
        ("CNI_IFNAME", "eth 0"),
        ("CNI_IFNAME", "sixteen-bytes-xx"),
        ("CNI_ARGS", "IgnoreUnknown"),
        ("CNI_ARGS", "K8S_POD_NAME=../x"),
        ("CNI_ARGS", "K8S_POD_UID=a b"),
        ("CNI_NETNS", &huge),
    ];
    for (name, value) in rows {
        let failure = parse(ADD, &[(name, Some(value))]).unwrap_err();
        assert_eq!(failure.code, code::INVALID_ENVIRONMENT, "{name}={value}");
        assert!(failure.message.contains(name), "{name}={value}: {failure}");
    }
}

#[test]
fn pods_in_args() {
    let rows: &[(&str, Option<[&str; 3]>)] = &[
        ("", None),
        (";;", None),
        ("IgnoreUnknown=1", None),
        ("K8S_POD_NAME=web-0", None),
        ("K8S_POD_NAMESPACE=shop", None),
        ("IgnoreUnknown=1;K8S_POD_NAMESPACE=shop;K8S_POD_NAME=web-0", Some(["shop", "web-0", ""])),
        (
            "K8S_POD_UID=0d9c7b4e-1;K8S_POD_NAMESPACE=shop;K8S_POD_NAME=a.b;K8S_POD_INFRA_CONTAINER_ID=x/y",
            Some(["shop", "a.b", "0d9c7b4e-1"]),
        ),
        ("IP=10.0.0.1;MAC=0a:0b", None),
    ];
    for (args, want) in rows {
        let pod = parameters(parse(ADD, &[("CNI_ARGS", Some(args))]).unwrap()).pod;
        assert_eq!(pod.as_ref().map(|pod| [pod.namespace.as_str(), &pod.name, &pod.uid]), *want, "{args}");
    }
}

#[test]
fn netns_override() {
    for (value, want) in [("1", true), ("true", true), ("TRUE", true), ("0", false), ("no", false), ("", false)] {
        let got = parameters(parse(ADD, &[("CNI_NETNS_OVERRIDE", Some(value))]).unwrap());
        assert_eq!(got.own_netns_allowed, want, "{value}");
    }
}
