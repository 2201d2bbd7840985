use clap::{CommandFactory, Parser};

use super::command::{Action, Format};
use super::*;
use crate::admin::testing::{event, running, serve, starting};

async fn status_text(agent: crate::admin::Agent<crate::admin::testing::FakeDataplane>) -> String {
    let (_agent, client, _directory) = serve(agent);
    let mut status: Status = client.get("/v1/status").await.unwrap();
    // What differs from run to run.
    (status.pid, status.uptime_seconds, status.resident_bytes) = (42, 3 * 3600 + 120, vec![9 << 20, 3 << 19]);
    status.capabilities = crate::kernel::capabilities::Held {
        effective: vec!["CAP_BPF".to_owned()],
        bounding: vec!["CAP_BPF".to_owned()],
        no_new_privs: true,
        ..Default::default()
    };
    render::status(&status, Terminal::NONE, false)
}

#[tokio::test]
async fn status_of_a_running_agent() {
    let expected = "\
Agent         ready, version 0.1.0, up 3h 2m
Process       42, resident 9.0 MiB + 1.5 MiB (role, keeper)
Node          n1
Host subnets  none
Uplink        eth0 (index 2), MTU 1500, 192.0.2.5/24
Tunnel        culvert0 (index 9), UDP port 4789, MTU 1450
Masquerade    ports 23000-29999
Cluster       2 nodes, 0 namespaces, 3 pods, generation 12
Local pods    0
Applied       forwarding, generation 12, 33 writes, last pass took 1.234 ms
Capabilities  CAP_BPF, and can gain no others

Problems of the source:
  /m/a.yaml:7: Pod shop/web-2: spec.nodeName: is no name

Problems of objects:
  pod shop/web-9: 10.1.1.1 is in no host subnet

Policies without room:
  policies web of namespace shop need more

Not used from the source:
  v1 Secret (2, first in /m/b.yaml)

PROGRAM     ID  RUNS  AVERAGE  ATTACHED TO
overlay_in  17  1000  150 ns   culvert0
pod_out     18  0     -        culvert0

MAP       VERSION  ENTRIES  CAPACITY  FILL  MEMORY
PEERS_V4  1        90       100       90%   1.5 MiB
";
    assert_eq!(status_text(running(false)).await, expected);
}

#[tokio::test]
async fn status_of_a_starting_and_of_a_broken_agent() {
    let text = status_text(starting()).await;
    assert!(text.starts_with("Agent         not ready, version"), "{text}");
    assert!(text.contains("\nUplink        none\nTunnel        none\n"), "{text}");
    assert!(text.contains("\nWaiting for:\n  node object: there is no Node n1\n"), "{text}");
    let text = status_text(running(true)).await;
    assert!(text.contains("\nRefused by the kernel, being retried:\n  peer 10.128.4.9: no space left"), "{text}");
    assert!(
        text.contains("\nCould not be found out:\n  read programs: it is broken\n  read maps: it is broken\n"),
        "{text}"
    );
}

#[test]
fn pods_and_nodes() {
    let agent = running(false);
    let text = render::pods(&agent.pods(None), Terminal::NONE, false);
    let expected = "\
NAMESPACE    NAME   ADDRESSES   NODE  PHASE    READY  INTERFACE
kube-system  proxy  192.0.2.5   n1    Running  yes    host network
shop         web-0  10.128.2.2  n1    Running  yes    -
shop         web-1  10.128.4.2  n2    Running  yes    -
";
    assert_eq!(text, expected);
    let wide = render::pods(&agent.pods(None), Terminal::NONE, true);
    assert!(wide.lines().next().unwrap().ends_with("INCARNATION  CONTAINER  UID"), "{wide}");
    let nodes = "\
NAME       ADDRESSES  HOST SUBNETS   PODS
n1 (this)  192.0.2.5  10.128.2.0/23  2
n2         192.0.2.5  10.128.4.0/23  1
";
    assert_eq!(render::nodes(&agent.nodes(), Terminal::NONE, false), nodes);
    assert_eq!(render::pods(&[], Terminal::NONE, false), "No pods.\n");
    assert_eq!(render::nodes(&[], Terminal::NONE, true), "No nodes.\n");
    assert_eq!(render::drops(&[], Terminal::NONE, true), "Nothing was dropped.\n");
}

#[test]
fn events_are_lines() {
    let line = render::event(&EventLine::Event(event("shop/web-0\x1b[2J")), Terminal::NONE);
    assert_eq!(
        line,
        "01:02:03.004 UTC spoofed_source shop/web-0\u{fffd}[2J egress udp 10.128.2.2:40000 > [fd01::2]:53 80 bytes"
    );
    let lost = render::event(&EventLine::Lost { lost: 3 }, Terminal { width: None, colours: true });
    assert!(lost.starts_with("\x1b[1;33m(3 events lost"), "{lost:?}");
    let arp = crate::admin::api::DropEvent { source: None, destination: None, source_port: None, ..event("node") };
    assert!(render::event(&EventLine::Event(arp), Terminal::NONE).contains(" ? > ? "));
}

#[tokio::test]
async fn answers_have_the_form_asked_for() {
    let (_agent, client, _directory) = serve(running(false));
    let nodes: Vec<NodeRow> = client.get("/v1/nodes").await.unwrap();
    let json = Output(Format::Json).of(&nodes, |_| unreachable!("no table"));
    assert_eq!(serde_json::from_str::<Vec<NodeRow>>(&json).unwrap(), nodes);
    let yaml = Output(Format::Yaml).of(&nodes, |_| unreachable!("no table"));
    assert_eq!(serde_yaml_ng::from_str::<Vec<NodeRow>>(&yaml).unwrap(), nodes);
    assert_eq!(Output(Format::Wide).of(&nodes, |wide| wide.to_string()), "true");
    let line = Output(Format::Json).line(&EventLine::Lost { lost: 1 }, String::new);
    assert_eq!(line, "{\"lost\":1}\n");
    assert_eq!(Output(Format::Yaml).line(&EventLine::Lost { lost: 1 }, String::new), "---\nlost: 1\n");
}

#[test]
fn command_lines() {
    Command::command().debug_assert();
    let parse = |line: &str| Command::try_parse_from(line.split(' '));
    let accepted = [
        "sdnctl status",
        "sdnctl --socket /x status -o yaml",
        "sdnctl status --socket /x",
        "sdnctl get pods -n shop cart -o wide",
        "sdnctl get po -A",
        "sdnctl get nodes",
        "sdnctl drops --watch --pod a/b --reason no_flow",
        "sdnctl completions zsh",
    ];
    for line in accepted {
        parse(line).unwrap_or_else(|error| panic!("{line}: {error}"));
    }
    for line in [
        "sdnctl",
        "sdnctl get",
        "sdnctl get services",
        "sdnctl get pods -A -n x",
        "sdnctl status -o xml",
        "sdnctl status x",
    ] {
        let error = parse(line).expect_err(line);
        assert_eq!(error.exit_code(), i32::from(code::USAGE), "{line}");
    }
    let Action::Get(arguments) = parse("sdnctl get pods -n shop cart").unwrap().action else { panic!("no get") };
    assert!(arguments.wants("shop", "cart") && !arguments.wants("shop", "web") && !arguments.wants("bank", "cart"));
    let found = ["web".to_owned()];
    assert_eq!(arguments.missing(found.iter()).as_deref(), Some("cart"));
    let Action::Drops(arguments) = parse("sdnctl drops --pod a/b").unwrap().action else { panic!("no drops") };
    assert!(arguments.wants("no_flow", "a/b") && !arguments.wants("no_flow", "a/c"));
}

#[test]
fn help_has_examples_and_exit_codes() {
    let help = Command::command().render_long_help().to_string();
    assert!(help.contains("Examples:\n  sdnctl status") && help.contains("Exit codes: 0 done"), "{help}");
    for command in Command::command().get_subcommands_mut() {
        let help = command.render_long_help().to_string();
        assert!(help.contains("Examples:"), "{help}");
    }
}

#[tokio::test]
async fn policies_are_asked_for_at_the_socket() {
    let (_agent, client, _directory) = serve(running(false));
    let rows: Vec<PolicyRow> = client.get("/v1/policies").await.unwrap();
    assert_eq!(rows, []);
    let error = client.get::<PolicyExplanation>("/v1/policies/explain?pod=shop/nobody").await.unwrap_err();
    assert!(error.to_string().contains("the agent does not know it"), "{error}");
    let error = client.get::<PolicyExplanation>("/v1/policies/explain?pod=nobody").await.unwrap_err();
    assert!(error.to_string().contains("NAMESPACE/NAME"), "{error}");
}

#[test]
fn policies_and_explanations_as_text() {
    assert_eq!(render::policies(&[], Terminal::NONE, false), "There are no policies: everything is allowed.\n");
    let row = PolicyRow {
        namespace: "shop".to_owned(),
        name: "web".to_owned(),
        ingress: Some(2),
        pods: vec!["shop/web-1".to_owned(), "shop/web-2".to_owned()],
        here: 1,
        problems: vec!["spec.ingress[0]: is wrong".to_owned()],
        ..PolicyRow::default()
    };
    let text = render::policies(&[row], Terminal::NONE, false);
    let expected = "\
NAMESPACE  NAME  INGRESS  EGRESS  PODS        STATE
shop       web   2 rules  -       2 (1 here)  invalid

Invalid: what they select validly is isolated:
  shop/web: spec.ingress[0]: is wrong
";
    assert_eq!(text, expected);
    let explanation = PolicyExplanation {
        pod: "shop/web-1".to_owned(),
        addresses: vec!["10.128.0.5".parse().unwrap()],
        always: vec!["the pod itself".to_owned()],
        ingress: Some(vec![crate::admin::api::RuleRow {
            policy: "shop/web".to_owned(),
            rule: Some(0),
            peers: vec!["pods with app=client of shop".to_owned()],
            matches: Some(vec!["shop/client".to_owned()]),
            ports: vec!["80/TCP".to_owned()],
        }]),
        egress: None,
        notes: vec![],
    };
    let expected = "\
Pod shop/web-1 10.128.0.5

Ingress: isolated; only this is allowed:
POLICY    RULE  PEERS                         PORTS   PODS NOW
shop/web  0     pods with app=client of shop  80/TCP  shop/client

Egress: not isolated, everything is allowed.

Always allowed:
  the pod itself
";
    assert_eq!(render::explanation(&explanation, Terminal::NONE), expected);
}
