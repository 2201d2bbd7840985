//! `sdn-lab` as people use it: up and down, in the foreground and in the background, and interrupted at any moment.

use std::io::{BufRead as _, BufReader};
use std::path::Path;
use std::process::{Child, Command, Output, Stdio};
use std::time::Duration;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use sdn_lab::machine::Machine;

const MANIFEST: &str = "\
apiVersion: apps/v1
kind: Deployment
metadata: {name: web, namespace: shop}
spec:
  replicas: 4
  selector: {matchLabels: {app: web}}
  template:
    metadata: {labels: {app: web}}
    spec:
      containers:
      - {name: web, image: none, ports: [{containerPort: 8080}, {containerPort: 53, protocol: UDP}, {containerPort: 9, protocol: SCTP}]}
";

fn sdn_lab(arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_sdn-lab"));
    command.args(arguments).stdin(Stdio::null());
    command
}

fn manifest() -> tempfile::NamedTempFile {
    let file = tempfile::Builder::new().suffix(".yaml").tempfile().expect("a temporary file");
    std::fs::write(file.path(), MANIFEST).expect("a manifest is written");
    file
}

fn path(file: &tempfile::NamedTempFile) -> &str {
    file.path().to_str().expect("temporary files have plain names")
}

#[track_caller]
fn said(output: &Output, code: i32) -> String {
    let [out, err] = [&output.stdout, &output.stderr].map(|text| String::from_utf8_lossy(text).into_owned());
    assert_eq!(output.status.code(), Some(code), "{out}{err}");
    out + &err
}

/// Starts `up` in the foreground and reads what it says until a line has `word`.
fn up_until(word: &str, name: &str, file: &tempfile::NamedTempFile) -> (Child, Vec<String>) {
    let mut command = sdn_lab(&["up", "-f", path(file), "--nodes", "2", "--name", name]);
    let mut child = command.stdout(Stdio::piped()).spawn().expect("sdn-lab starts");
    let lines = BufReader::new(child.stdout.as_mut().expect("its output is a pipe")).lines().map_while(Result::ok);
    let mut said = vec![];
    for line in lines {
        said.push(line);
        if said.last().is_some_and(|line| line.contains(word)) {
            return (child, said);
        }
    }
    let status = child.wait();
    panic!("it ends ({status:?}) without a word about {word}: {said:?}");
}

fn send(signal: Signal, child: &Child) {
    kill(Pid::from_raw(child.id().cast_signed()), signal).expect("the process is there");
}

#[test]
fn ctrl_c_ends_a_lab_and_leaves_nothing() {
    let (before, file) = (Machine::look().unwrap(), manifest());
    for (word, signal, code) in [
        ("is up: 2 nodes, 4 of 4 pods", Signal::SIGINT, 0),
        ("is up", Signal::SIGTERM, 0),
        ("2 nodes up", Signal::SIGINT, 130),
        ("agents ready 2/2", Signal::SIGINT, 130),
        ("pods ready 1/4", Signal::SIGTERM, 130),
    ] {
        let (mut child, said) = up_until(word, "command-int", &file);
        send(signal, &child);
        assert_eq!(child.wait().unwrap().code(), Some(code), "{word}: {said:?}");
        assert_eq!(before.changes_after("command-int").unwrap(), Vec::<String>::new(), "after {word}");
    }
}

#[test]
fn a_killed_command_takes_its_agents_with_it() {
    let (before, file) = (Machine::look().unwrap(), manifest());
    for word in ["is up", "agents ready 1/2"] {
        let (mut child, _) = up_until(word, "command-kill", &file);
        child.kill().unwrap();
        child.wait().unwrap();
        assert_eq!(before.changes_after("command-kill").unwrap(), Vec::<String>::new(), "after {word}");
    }
}

#[test]
fn a_lab_in_the_background_is_used_and_taken_down_by_other_commands() {
    let (before, file) = (Machine::look().unwrap(), manifest());
    let name = "command-back";
    let up =
        sdn_lab(&["up", "-f", path(&file), "--nodes", "2", "--name", name, "--detach", "--wait"]).output().unwrap();
    let up = said(&up, 0);
    assert!(up.contains("4 of 4 pods") && up.contains("stand-ins do not speak SCTP"), "{up}");
    let again = sdn_lab(&["up", "--name", name]).output().unwrap();
    assert!(said(&again, 1).contains("'command-back' is up"), "a name is taken once");
    let status = said(&sdn_lab(&["status", "--name", name, "-o", "json"]).output().unwrap(), 0);
    let status: serde_json::Value = serde_json::from_str(&status).unwrap();
    let (pod, record) = status[0]["pods"].as_object().unwrap().iter().next().unwrap();
    let address = record["addresses"][0].as_str().unwrap();
    let ip = sdn_lab(&["exec", "--name", name, pod, "--", "ip", "-brief", "address", "show", "eth0"]).output().unwrap();
    assert!(said(&ip, 0).contains(address));
    let names = sdn_lab(&["exec", "--name", name, pod, "--", "cat", "/etc/resolv.conf"]).output().unwrap();
    assert!(said(&names, 0).contains("nameserver 172.30.0.10\n"), "the pod's, not its node's");
    let sdnctl = sdn_lab(&["exec", "--name", name, "node/node-1", "--", "sdnctl", "get", "nodes"]).output().unwrap();
    assert!(said(&sdnctl, 0).contains("node-2"));
    said(&sdn_lab(&["down", "--name", name]).output().unwrap(), 0);
    assert_eq!(before.changes_after(name).unwrap(), Vec::<String>::new());
}

#[test]
fn what_cannot_be_is_refused_with_a_reason() {
    let refusals: [(&[&str], &str); 5] = [
        (&["up", "-f", "/nowhere/app.yaml", "--name", "command-refused"], "/nowhere/app.yaml"),
        (&["up", "--nodes", "0", "--name", "command-refused"], "0 is not in 1..=200"),
        (&["up", "--ipv4", "--ipv6", "--name", "command-refused"], "cannot be used with"),
        (&["exec", "--name", "command-refused", "web", "--", "true"], "no lab 'command-refused' is up"),
        (&["down", "--name", "command-refused"], "no lab 'command-refused' is up"),
    ];
    for (arguments, reason) in refusals {
        let output = sdn_lab(arguments).output().unwrap();
        let complaint = String::from_utf8_lossy(&output.stderr);
        assert!(!output.status.success() && complaint.contains(reason), "{arguments:?}: {complaint}");
    }
    assert!(!Path::new("/run/culvert-lab/command-refused").exists());
}

#[test]
fn a_lab_whose_agents_do_not_start_fails_with_their_last_words() {
    let before = Machine::look().unwrap();
    let failed = sdn_lab::Lab::builder("command-agent")
        .nodes(1)
        .patience(Duration::from_secs(2))
        .agent_program("/bin/false")
        .start()
        .unwrap_err();
    let complaint = format!("{failed:#}");
    assert!(complaint.contains("the agent of node-1 is not ready"), "{complaint}");
    assert_eq!(before.changes_after("command-agent").unwrap(), Vec::<String>::new());
}
