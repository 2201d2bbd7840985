//! The node role as processes, in a network and mount namespace of their own: what it waits for, what it survives, what it leaves.
#![expect(clippy::unwrap_used, reason = "in a test, unwrap is an assertion")]

use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::os::fd::AsRawFd;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::{Child, Command, Output, Stdio};
use std::sync::mpsc;
use std::thread::{self, sleep};
use std::time::{Duration, Instant};

use nix::mount::{MntFlags, MsFlags, mount, umount2};
use nix::sched::{CloneFlags, unshare};
use nix::sys::signal::{Signal, kill};
use nix::sys::socket::{AddressFamily, LinkAddr, MsgFlags, SockFlag, SockType, sendto, socket};
use nix::unistd::Pid;
use serde_json::Value;

const DEADLINE: Duration = Duration::from_secs(30);

const NODES: &str = r#"
apiVersion: v1
kind: Node
metadata: {name: n1, uid: u1}
spec: {podCIDRs: [10.128.2.0/23, "fd01:0:0:3::/64"]}
status: {addresses: [{type: InternalIP, address: 192.168.9.1}]}
---
apiVersion: v1
kind: Node
metadata: {name: n2, uid: u2}
spec: {podCIDRs: [10.128.4.0/23]}
status: {addresses: [{type: InternalIP, address: 192.168.9.2}]}
"#;

/// A node's world: namespaces, a bpffs, directories. Everything is done on its thread, whose children share its namespaces.
struct World {
    directory: PathBuf,
    metrics: &'static str,
}

/// An agent's keeper.
struct Agent(Child);

/// Runs a test in a world of its own.
fn in_world(test: impl FnOnce(&World) + Send + 'static) {
    let directory = tempfile::tempdir().unwrap();
    let world = World { directory: directory.path().to_owned(), metrics: "127.0.0.1:9420" };
    let thread = thread::spawn(move || {
        unshare(CloneFlags::CLONE_NEWNET | CloneFlags::CLONE_NEWNS).expect("new namespaces need root");
        let nothing: Option<&str> = None;
        mount(nothing, "/", nothing, MsFlags::MS_REC | MsFlags::MS_PRIVATE, nothing).unwrap();
        for name in ["bpf", "manifests", "cni-bin"] {
            fs::create_dir(world.directory.join(name)).unwrap();
        }
        mount(Some("bpf"), &world.directory.join("bpf"), Some("bpf"), MsFlags::empty(), nothing).unwrap();
        test(&world);
        let _ = umount2(&world.directory.join("bpf"), MntFlags::MNT_DETACH);
    });
    if let Err(panic) = thread.join() {
        std::panic::resume_unwind(panic);
    }
}

impl World {
    fn path(&self, name: &str) -> PathBuf {
        self.directory.join(name)
    }

    fn write_manifests(&self, text: &str) {
        let path = self.path("manifests");
        fs::write(path.join(".new"), text).unwrap();
        fs::rename(path.join(".new"), path.join("cluster.yaml")).unwrap();
    }

    /// `up0` with an address and the default route, its other end `far0` in the same namespace.
    fn add_uplink(&self, mtu: u32, address: &str) {
        on_netlink(async |handle| {
            let pair = rtnetlink::LinkVeth::new("up0", "far0").up().mtu(mtu).build();
            handle.link().add(pair).execute().await.unwrap();
            let index = nix::net::if_::if_nametoindex("far0").unwrap();
            handle.link().set(rtnetlink::LinkUnspec::new_with_index(index).up().build()).execute().await.unwrap();
            let index = nix::net::if_::if_nametoindex("up0").unwrap();
            let net: ipnet::IpNet = address.parse().unwrap();
            handle.address().add(index, net.addr(), net.prefix_len()).execute().await.unwrap();
            let route = rtnetlink::RouteMessageBuilder::<std::net::Ipv4Addr>::new().output_interface(index).build();
            handle.route().add(route).execute().await.unwrap();
        });
    }

    fn set_uplink_mtu(&self, mtu: u32) {
        on_netlink(async |handle| {
            let index = nix::net::if_::if_nametoindex("up0").unwrap();
            handle.link().set(rtnetlink::LinkUnspec::new_with_index(index).mtu(mtu).build()).execute().await.unwrap();
        });
    }

    fn start(&self, more: &[&str]) -> Agent {
        let mut command = Command::new(env!("CARGO_BIN_EXE_sdn-agent"));
        command.args(["node", "--node-name", "n1", "--metrics-address", self.metrics, "--log-level", "debug"]);
        for (flag, name) in [
            ("--manifests", "manifests"),
            ("--bpffs", "bpf/culvert"),
            ("--run-dir", "run"),
            ("--state-dir", "state"),
            ("--cni-bin-dir", "cni-bin"),
            ("--cni-conf-dir", "cni-conf"),
        ] {
            command.arg(flag).arg(self.path(name));
        }
        let log = fs::File::options().create(true).append(true).open(self.path("log")).unwrap();
        Agent(command.args(more).stdin(Stdio::null()).stdout(Stdio::null()).stderr(log).spawn().unwrap())
    }

    fn sdnctl(&self, arguments: &[&str]) -> Output {
        let mut command = Command::new(env!("CARGO_BIN_EXE_sdnctl"));
        command.arg("--socket").arg(self.path("run/admin.sock")).args(arguments).output().unwrap()
    }

    /// What the agent says of itself; `Null` while nobody answers.
    fn status(&self) -> Value {
        serde_json::from_slice(&self.sdnctl(&["status", "-o", "json"]).stdout).unwrap_or_default()
    }

    /// Waits until the status is as wanted.
    fn wait_for(&self, what: &str, wanted: impl Fn(&Value) -> bool) -> Value {
        let start = Instant::now();
        loop {
            let status = self.status();
            if status.is_object() && wanted(&status) {
                return status;
            }
            let log = || fs::read_to_string(self.path("log")).unwrap_or_default();
            assert!(start.elapsed() < DEADLINE, "not {what}: {status:#}\nthe log:\n{}", log());
            sleep(Duration::from_millis(20));
        }
    }

    fn wait_ready(&self) -> Value {
        self.wait_for("ready", is_ready)
    }
}

fn is_ready(status: &Value) -> bool {
    status["waiting"].as_object().is_some_and(serde_json::Map::is_empty)
}

fn on_netlink(work: impl AsyncFnOnce(rtnetlink::Handle)) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_io().build().unwrap();
    runtime.block_on(async {
        let (connection, handle, _) = rtnetlink::new_connection().unwrap();
        tokio::spawn(connection);
        work(handle).await;
    });
}

impl Agent {
    fn pid(&self) -> i32 {
        i32::try_from(self.0.id()).unwrap()
    }

    fn end(mut self) -> Option<i32> {
        kill(Pid::from_raw(self.pid()), Signal::SIGTERM).unwrap();
        self.0.wait().unwrap().code()
    }
}

impl Drop for Agent {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Status line and body of what the metrics address answers.
fn http(path: &str) -> Option<(String, String)> {
    let mut stream = TcpStream::connect("127.0.0.1:9420").ok()?;
    stream.set_read_timeout(Some(DEADLINE)).unwrap();
    write!(stream, "GET {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n").ok()?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).ok()?;
    let (head, body) = answer.split_once("\r\n\r\n")?;
    Some((head.lines().next()?.to_owned(), body.to_owned()))
}

/// Brings the loopback device up, so that the metrics address can be asked.
fn loopback_up() {
    on_netlink(async |handle| {
        handle.link().set(rtnetlink::LinkUnspec::new_with_index(1).up().build()).execute().await.unwrap();
    });
}

#[test]
fn what_is_missing_is_waited_for_and_named() {
    in_world(|world| {
        loopback_up();
        let agent = world.start(&[]);
        let status = world.wait_for("started", |status| status["waiting"]["uplink"] != "not reached yet");
        assert!(status["waiting"]["uplink"].as_str().unwrap().contains("no default route"), "{status:#}");
        let status = world.wait_for("synced", |status| status["cluster"]["synced"] == true);
        assert!(
            status["waiting"]["node object"].as_str().unwrap().starts_with("there is no Node n1 in "),
            "{status:#}"
        );
        assert_eq!(world.sdnctl(&["status"]).status.code(), Some(4), "not ready");
        let (line, body) = http("/readyz").unwrap();
        assert!(line.contains("503") && body.contains("uplink: there is no default route"), "{line} {body}");
        assert!(http("/healthz").unwrap().0.contains("200"));

        world.write_manifests(&NODES.replace("10.128.2.0/23, \"fd01:0:0:3::/64\"", ""));
        world.wait_for("told of the node", |status| {
            status["waiting"]["node object"].as_str().is_some_and(|why| why.contains("has no host subnet"))
        });
        world.write_manifests(NODES);
        world.wait_for("told of its subnets", |status| status["waiting"]["node object"].is_null());

        // An uplink inside the cluster network would take its traffic.
        world.add_uplink(1500, "10.129.7.1/24");
        let status = world.wait_for("told of the overlap", |status| status["waiting"]["uplink"].is_null());
        assert!(status["waiting"]["cluster networks"].as_str().unwrap().contains("10.129.7.0/24"), "{status:#}");
        assert_eq!(agent.end(), Some(0), "a role that still waits ends as well");
    });
}

#[test]
fn a_node_runs_is_killed_upgraded_and_leaves_the_dataplane() {
    in_world(|world| {
        loopback_up();
        world.add_uplink(1500, "192.168.9.1/24");
        world.write_manifests(NODES);
        let agent = world.start(&[]);
        let status = world.wait_ready();
        assert_eq!(status["overlay"]["mtu"], 1450);
        assert_eq!(status["uplink"]["name"], "up0");
        assert_eq!(status["subnets"][0]["free"], 509);
        let kept = serde_json::json!(["CAP_NET_ADMIN", "CAP_PERFMON", "CAP_BPF"]);
        for set in ["effective", "permitted", "bounding"] {
            assert_eq!(status["capabilities"][set], kept, "{set}");
        }
        assert_eq!(status["capabilities"]["noNewPrivs"], true);
        let attached = |status: &Value| {
            let of = |program: &Value| program["attachedTo"].as_array().unwrap().len();
            status["programs"].as_array().unwrap().iter().map(of).sum::<usize>()
        };
        assert_eq!(attached(&status), 3, "overlay_in and host_out on culvert0, uplink_in on up0: {status:#}");
        assert!(http("/readyz").unwrap().0.contains("200"));
        assert!(http("/metrics").unwrap().1.contains("\nculvert_ready 1\n"));
        assert_eq!(world.sdnctl(&["status"]).status.code(), Some(0));
        assert_eq!(world.sdnctl(&["get", "nodes", "n2"]).status.code(), Some(0));
        assert_eq!(world.sdnctl(&["get", "nodes", "n3"]).status.code(), Some(1));

        world.set_uplink_mtu(9000);
        world.wait_for("followed by the tunnel's MTU", |status| status["overlay"]["mtu"] == 8950);

        // The role is killed: its successor finds everything.
        let role = i32::try_from(status["pid"].as_i64().unwrap()).unwrap();
        kill(Pid::from_raw(role), Signal::SIGKILL).unwrap();
        let status = world.wait_for("restarted", |status| status["pid"] != role && is_ready(status));
        assert_eq!(attached(&status), 3);

        // An upgrade: the new keeper takes over, the old one ends.
        let (role, index) = (status["pid"].clone(), status["overlay"]["ifindex"].clone());
        let new = world.start(&[]);
        let mut old = agent;
        assert_eq!(old.0.wait().unwrap().code(), Some(0));
        let status = world.wait_for("upgraded", |status| status["pid"] != role && is_ready(status));
        assert_eq!((attached(&status), &status["overlay"]["ifindex"]), (3, &index));

        assert_eq!(new.end(), Some(0));
        assert_eq!(world.sdnctl(&["status"]).status.code(), Some(3), "nobody answers any more");
        let links = fs::read_dir(world.path("bpf/culvert/links")).unwrap().count();
        assert_eq!(links, 3, "what is pinned goes on forwarding");
        nix::net::if_::if_nametoindex("culvert0").unwrap();
    });
}

#[test]
fn a_second_agent_elsewhere_waits_for_the_writer_lock() {
    in_world(|world| {
        loopback_up();
        world.add_uplink(1500, "192.168.9.1/24");
        world.write_manifests(NODES);
        let first = world.start(&[]);
        world.wait_ready();
        // Another run directory: no keeper to take over from, but the same pins.
        let other = World { directory: world.path("other"), metrics: "127.0.0.1:9421" };
        fs::create_dir(&other.directory).unwrap();
        for name in ["bpf", "manifests"] {
            std::os::unix::fs::symlink(world.path(name), other.path(name)).unwrap();
        }
        // It cannot have the address of cluster DNS, which the first one answers at.
        let _second = other.start(&["--dns=false"]);
        let status = other.wait_for("answering", |status| !status["waiting"]["machine"].is_null());
        assert_eq!(status["programs"], serde_json::json!([]));
        sleep(Duration::from_millis(300));
        assert!(!is_ready(&other.status()), "one writer at a time");
        assert_eq!(first.end(), Some(0));
        other.wait_ready();
    });
}

#[test]
fn strangers_are_refused_at_the_admin_socket() {
    in_world(|world| {
        let _agent = world.start(&[]);
        world.wait_for("answering", |_| true);
        let ask = || {
            let mut command = Command::new(env!("CARGO_BIN_EXE_sdnctl"));
            let output = command.arg("--socket").arg(world.path("run/admin.sock")).arg("status").uid(65534).output();
            let output = output.unwrap();
            (output.status.code(), String::from_utf8(output.stderr).unwrap())
        };
        fs::set_permissions(&world.directory, fs::Permissions::from_mode(0o755)).unwrap();
        let (code, text) = ask();
        assert_eq!(code, Some(3));
        assert!(text.contains("Permission denied") && text.contains("only root and the agent's own user"), "{text}");
        // Whoever loosens the mode has not opened the door.
        fs::set_permissions(world.path("run/admin.sock"), fs::Permissions::from_mode(0o666)).unwrap();
        let (code, text) = ask();
        assert_eq!(code, Some(1), "{text}");
        let log = fs::read_to_string(world.path("log")).unwrap();
        assert!(log.contains("refused a user at the admin socket") && log.contains("uid=65534"), "{log}");
    });
}

#[test]
fn the_last_snapshot_serves_a_start_without_the_source() {
    in_world(|world| {
        loopback_up();
        world.add_uplink(1500, "192.168.9.1/24");
        world.write_manifests(NODES);
        let agent = world.start(&[]);
        world.wait_ready();
        let saved = world.path("state/snapshot.json");
        let start = Instant::now();
        while !saved.exists() {
            assert!(start.elapsed() < DEADLINE, "the snapshot is not saved");
            sleep(Duration::from_millis(20));
        }
        assert_eq!(agent.end(), Some(0));
        fs::remove_dir_all(world.path("manifests")).unwrap();
        let _agent = world.start(&[]);
        let status = world.wait_ready();
        assert_eq!((&status["cluster"]["synced"], &status["cluster"]["nodes"]), (&false.into(), &2.into()));
        let problems = status["cluster"]["problems"].as_array().unwrap();
        assert_eq!(problems.len(), 1, "the source's absence is a problem that is shown: {problems:?}");

        fs::create_dir(world.path("manifests")).unwrap();
        world.write_manifests(&NODES.replace("n2", "n3"));
        world.wait_for("synced", |status| status["cluster"]["synced"] == true && is_ready(status));
        let nodes: Value = serde_json::from_slice(&world.sdnctl(&["get", "nodes", "-o", "json"]).stdout).unwrap();
        let names: Vec<&str> = nodes.as_array().unwrap().iter().map(|node| node["name"].as_str().unwrap()).collect();
        assert_eq!(names, ["n1", "n3"]);
    });
}

#[test]
fn the_plugin_is_installed_where_it_is_wanted() {
    in_world(|world| {
        loopback_up();
        let plugin = world.path("sdn-cni-built");
        fs::write(&plugin, b"#!/bin/sh\n").unwrap();
        let _agent = world.start(&["--install-cni", "--cni-plugin", plugin.to_str().unwrap()]);
        let start = Instant::now();
        while !world.path("run/admin.sock").exists() {
            assert!(start.elapsed() < DEADLINE);
            sleep(Duration::from_millis(10));
        }
        world.wait_for("answering", |_| true);
        let conflist = world.path("cni-conf/10-culvert.conflist");
        assert!(!conflist.exists(), "a runtime that sees it takes the node for ready");
        world.add_uplink(1500, "192.168.9.1/24");
        world.write_manifests(NODES);
        world.wait_ready();
        assert_eq!(fs::read(world.path("cni-bin/sdn-cni")).unwrap(), b"#!/bin/sh\n");
        let text = fs::read_to_string(conflist).unwrap();
        assert!(text.contains(world.path("run/cni.sock").to_str().unwrap()), "{text}");
    });
}

#[test]
fn wrong_usage_is_code_2_and_says_why() {
    let run = |arguments: &[&str], variable: Option<(&str, &str)>| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_sdn-agent"));
        let output = command.args(arguments).envs(variable).output().unwrap();
        (output.status.code(), String::from_utf8(output.stderr).unwrap())
    };
    let (code, text) = run(&["node", "--node-name", "n1"], None);
    assert_eq!(
        (code, text.as_str()),
        (Some(2), "sdn-agent: setting manifests (default): is needed: a file or directory of manifests\n")
    );
    let (code, text) = run(&["node", "--node-name", "n1"], Some(("CULVERT_VXLAN_PORT", "x")));
    assert_eq!(code, Some(2));
    assert!(
        text.starts_with("sdn-agent: setting vxlan-port (environment CULVERT_VXLAN_PORT): \"x\" is no port"),
        "{text}"
    );
    assert_eq!(run(&["node", "--vxlan-prot", "1"], None).0, Some(2));
    assert_eq!(run(&["fly"], None).0, Some(2));
}

#[test]
fn the_configuration_is_printed() {
    let output = Command::new(env!("CARGO_BIN_EXE_sdn-agent"))
        .args(["config", "--node-name", "n1", "--uplink", "eth7"])
        .env("CULVERT_VXLAN_PORT", "8472")
        .output()
        .unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    assert!(text.contains("vxlan-port: \"8472\"  # environment CULVERT_VXLAN_PORT\n"), "{text}");
    assert!(text.contains("uplink: \"eth7\"  # flag --uplink\n"), "{text}");
    assert!(text.contains("run-dir: \"/run/culvert\"  # default\n"), "{text}");
}

#[test]
fn completions_are_scripts() {
    for shell in ["bash", "zsh", "fish"] {
        let output = Command::new(env!("CARGO_BIN_EXE_sdnctl")).args(["completions", shell]).output().unwrap();
        assert!(output.status.success() && output.stdout.len() > 1000, "{shell}");
    }
    let output =
        Command::new(env!("CARGO_BIN_EXE_sdnctl")).args(["--socket", "/nowhere/x.sock", "status"]).output().unwrap();
    assert_eq!(output.status.code(), Some(3));
    let text = String::from_utf8(output.stderr).unwrap();
    assert!(text.starts_with("sdnctl: connect to the agent at /nowhere/x.sock: "), "{text}");
}

#[test]
fn drops_are_watched_until_interrupted() {
    in_world(|world| {
        loopback_up();
        world.add_uplink(1500, "192.168.9.1/24");
        world.write_manifests(NODES);
        let _agent = world.start(&[]);
        world.wait_ready();
        let mut watcher = Command::new(env!("CARGO_BIN_EXE_sdnctl"))
            .arg("--socket")
            .arg(world.path("run/admin.sock"))
            .args(["drops", "--watch", "-o", "json"])
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut lines = BufReader::new(watcher.stdout.take().unwrap());
        let (sender, first_line) = mpsc::channel();
        thread::spawn(move || {
            let mut line = String::new();
            lines.read_line(&mut line).unwrap();
            sender.send(line)
        });
        // From the underlay with a source in the cluster network: dropped at the uplink, and reported.
        let deadline = Instant::now() + DEADLINE;
        let line = loop {
            send_forged();
            match first_line.recv_timeout(Duration::from_millis(50)) {
                Ok(line) => break line,
                Err(_) => assert!(Instant::now() < deadline, "no drop is reported"),
            }
        };
        kill(Pid::from_raw(i32::try_from(watcher.id()).unwrap()), Signal::SIGINT).unwrap();
        assert!(watcher.wait().unwrap().success());
        let event: Value = serde_json::from_str(&line).unwrap();
        assert_eq!(event["source"], "10.128.4.9", "{event:#}");
        let table = String::from_utf8(world.sdnctl(&["drops"]).stdout).unwrap();
        assert!(table.starts_with("REASON"), "{table}");
    });
}

/// An IPv4 packet with a source in the cluster network, from the far end of the uplink.
fn send_forged() {
    let socket = socket(AddressFamily::Packet, SockType::Raw, SockFlag::empty(), None).unwrap();
    let mut frame = Vec::from(link_address("up0").addr().unwrap());
    frame.extend([2, 0, 0, 0, 0, 9, 0x08, 0x00]);
    frame.extend([0x45, 0, 0, 28, 0, 0, 0, 0, 64, 17, 0, 0, 10, 128, 4, 9, 192, 168, 9, 1]);
    frame.extend([0x9c, 0x40, 0, 53, 0, 8, 0, 0]);
    let sum = frame[14..34].chunks(2).map(|pair| u32::from(u16::from_be_bytes([pair[0], pair[1]]))).sum::<u32>();
    let sum = !((sum & 0xffff) + (sum >> 16));
    frame[24..26].copy_from_slice(&u16::try_from(sum & 0xffff).unwrap().to_be_bytes());
    sendto(socket.as_raw_fd(), &frame, &link_address("far0"), MsgFlags::empty()).unwrap();
}

fn link_address(name: &str) -> LinkAddr {
    let mut interfaces = nix::ifaddrs::getifaddrs().unwrap();
    let found = interfaces
        .find_map(|interface| interface.address.filter(|_| interface.interface_name == name)?.as_link_addr().copied());
    found.unwrap()
}
