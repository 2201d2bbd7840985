//! The plugin as a runtime sees it: a process with an environment, a configuration on standard input, and an agent at a socket, which
//! is played here.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use std::io::{BufRead, BufReader, Write};
use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;

use serde_json::{Value, json};

use sdn_cni::MacAddr;
use sdn_cni::mac::GATEWAY_MAC;
use sdn_cni::netlink::{Address, Links, Route};
use sdn_cni::protocol::{
    Attachment, Dns, Failure, PodInterface, PodRoute, Prepared, Request, Response, code, decode, encode,
    host_interface_name,
};

use self::sandbox::{PodNetns, Sandbox};

#[path = "support/sandbox.rs"]
mod sandbox;

const CONTAINER: &str = "c0ffee";

/// An agent that answers as it is told, and remembers what it was asked.
struct Agent {
    socket: PathBuf,
    asked: Arc<Mutex<Vec<Request>>>,
}

/// What a plugin's process left.
#[derive(Debug)]
struct Outcome {
    success: bool,
    output: Value,
    stderr: String,
}

// === impl Agent ===

impl Agent {
    /// `answer` gives the answer to a request; None hangs up.
    fn start(dir: &Path, answer: impl Fn(&Request) -> Option<Response> + Send + 'static) -> Self {
        let socket = dir.join("cni.sock");
        let listener = UnixListener::bind(&socket).unwrap();
        let asked = Arc::new(Mutex::new(Vec::new()));
        let remembered = asked.clone();
        thread::spawn(move || {
            for stream in listener.incoming() {
                serve(stream.unwrap(), &answer, &remembered);
            }
        });
        Self { socket, asked }
    }

    /// One that has this interface for everybody, and knows nobody yet.
    fn with(dir: &Path, interface: PodInterface) -> Self {
        Self::start(dir, move |request| {
            Some(match request {
                Request::Add(_) => Response::Prepared(Prepared { interface: interface.clone(), existing: false }),
                Request::Check(_) => Response::Checked(interface.clone()),
                _ => Response::Done,
            })
        })
    }

    fn asked(&self) -> Vec<Request> {
        self.asked.lock().unwrap().clone()
    }
}

fn serve(stream: UnixStream, answer: &impl Fn(&Request) -> Option<Response>, asked: &Mutex<Vec<Request>>) {
    let mut writer = stream.try_clone().unwrap();
    for line in BufReader::new(stream).lines() {
        let request = decode(line.unwrap().as_bytes()).unwrap();
        let Some(response) = answer(&request) else { return };
        asked.lock().unwrap().push(request);
        writer.write_all(&encode(&response).unwrap()).unwrap();
    }
}

fn attachment() -> Attachment {
    Attachment { container_id: CONTAINER.into(), ifname: "eth0".into() }
}

fn host_name() -> String {
    host_interface_name(&attachment())
}

fn interface(addresses: &[&str]) -> PodInterface {
    let addresses: Vec<IpAddr> = addresses.iter().map(|address| address.parse().unwrap()).collect();
    let gateway = |address: &IpAddr| if address.is_ipv4() { "169.254.1.1" } else { "fe80::1" }.parse().unwrap();
    let gateways: Vec<IpAddr> = addresses.iter().map(gateway).collect();
    let route = |gateway: &IpAddr| PodRoute {
        destination: if gateway.is_ipv4() { "0.0.0.0/0" } else { "::/0" }.parse().unwrap(),
        gateway: *gateway,
    };
    PodInterface {
        mac: MacAddr::of_pod(addresses[0]),
        mtu: 1450,
        host_interface: host_name(),
        host_mac: GATEWAY_MAC,
        routes: gateways.iter().map(route).collect(),
        dns: Dns { nameservers: vec!["172.30.0.10".into()], ..Dns::default() },
        addresses,
        gateways,
    }
}

/// Runs the plugin.
fn run(command: &str, netns: Option<&Path>, config: &Value) -> Outcome {
    let mut process = Command::new(env!("CARGO_BIN_EXE_sdn-cni"));
    process.env_clear();
    process.env("CNI_COMMAND", command).env("CNI_CONTAINERID", CONTAINER).env("CNI_IFNAME", "eth0");
    process.env("CNI_ARGS", "IgnoreUnknown=1;K8S_POD_NAMESPACE=shop;K8S_POD_NAME=web-0;K8S_POD_UID=0d9c");
    process.env("CNI_PATH", "/opt/cni/bin");
    process.envs(netns.map(|netns| ("CNI_NETNS", netns)));
    let process = process.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn();
    let mut process = process.unwrap();
    process.stdin.take().unwrap().write_all(config.to_string().as_bytes()).unwrap();
    let output = process.wait_with_output().unwrap();
    let stdout = String::from_utf8(output.stdout).unwrap();
    Outcome {
        success: output.status.success(),
        output: if stdout.is_empty() { Value::Null } else { serde_json::from_str(&stdout).expect("JSON on stdout") },
        stderr: String::from_utf8(output.stderr).unwrap(),
    }
}

fn config(socket: &Path) -> Value {
    json!({ "cniVersion": "1.1.0", "name": "culvert", "type": "sdn-cni", "agentSocket": socket })
}

/// The configuration with a result of ADD.
fn with_result(config: &Value, result: &Value) -> Value {
    let mut config = config.clone();
    config["prevResult"] = result.clone();
    config
}

// === impl Outcome ===

impl Outcome {
    #[track_caller]
    fn expect_success(self) -> Value {
        assert!(self.success, "{self:?}");
        self.output
    }

    /// Message and details of an error of this code.
    #[track_caller]
    fn expect_error(self, code: u32) -> String {
        assert!(!self.success && self.output["code"] == code, "want code {code}: {self:?}");
        assert_eq!(self.output["cniVersion"], "1.1.0");
        format!("{}: {}", self.output["msg"].as_str().unwrap(), self.output["details"].as_str().unwrap())
    }
}

#[test]
fn a_pod_comes_is_checked_and_goes() {
    for addresses in [&["10.128.2.5", "fd01:0:0:2::5"][..], &["10.128.2.5"], &["fd01:0:0:2::5"]] {
        Sandbox::run(move |sandbox| {
            let pod = sandbox.pod("pod");
            let agent = Agent::with(sandbox.dir(), interface(addresses));
            let config = config(&agent.socket);
            give_the_node_its_addresses();
            let result = run("ADD", Some(pod.path()), &config).expect_success();
            expect_result(&result, addresses, &pod);
            expect_pod_side(&pod, addresses);
            expect_host_side();
            expect_traffic(&pod, addresses);

            let with_result = with_result(&config, &result);
            assert_eq!(run("CHECK", Some(pod.path()), &with_result).expect_success(), Value::Null);
            for _ in 0..2 {
                assert_eq!(run("DEL", Some(pod.path()), &with_result).expect_success(), Value::Null);
                assert_eq!(pod.links().get_link("eth0").unwrap(), None);
                assert_eq!(Links::connect().unwrap().get_link(&host_name()).unwrap(), None);
            }
            expect_requests(&agent, &pod);
        });
    }
}

fn expect_result(result: &Value, addresses: &[&str], pod: &PodNetns) {
    assert_eq!(result["cniVersion"], "1.1.0");
    let mac = interface(addresses).mac.to_string();
    let want = json!([
        { "name": host_name(), "mac": "0a:58:a9:fe:01:01", "mtu": 1450 },
        { "name": "eth0", "mac": mac, "mtu": 1450, "sandbox": pod.path() },
    ]);
    assert_eq!(result["interfaces"], want);
    let ips: Vec<&str> = result["ips"].as_array().unwrap().iter().map(|ip| ip["address"].as_str().unwrap()).collect();
    let want: Vec<String> =
        interface(addresses).addresses.iter().map(|ip| ipnet::IpNet::from(*ip).to_string()).collect();
    assert_eq!(ips, want);
    assert_eq!(result["dns"], json!({ "nameservers": ["172.30.0.10"] }));
}

fn expect_pod_side(pod: &PodNetns, addresses: &[&str]) {
    let want = interface(addresses);
    let mut links = pod.links();
    assert!(links.get_link("lo").unwrap().unwrap().up);
    let link = links.get_link("eth0").unwrap().unwrap();
    assert!(link.up && link.veth);
    assert_eq!((link.mac, link.mtu), (Some(want.mac), 1450));
    let mut got = links.list_addresses(link.index).unwrap();
    got.sort();
    let usable: Vec<Address> = want.addresses.iter().map(|ip| Address { address: *ip, tentative: false }).collect();
    assert_eq!(got, usable, "these and no others, no link-local one");
    let routes = links.list_routes().unwrap();
    for route in &want.routes {
        let route = Route { destination: route.destination, gateway: Some(route.gateway), interface: link.index };
        assert!(routes.contains(&route), "{route} is not among {routes:?}");
    }
    let ipv6 = want.addresses.iter().any(IpAddr::is_ipv6);
    let sysctl = |name: &str| {
        let path = format!("/proc/sys/net/ipv6/conf/eth0/{name}");
        pod.open().run(|| std::fs::read_to_string(path)).unwrap().unwrap().trim().to_owned()
    };
    assert_eq!(sysctl("disable_ipv6"), if ipv6 { "0" } else { "1" });
    if ipv6 {
        assert_eq!(sysctl("accept_ra"), "0");
    }
}

fn expect_host_side() {
    let mut links = Links::connect().unwrap();
    let link = links.get_link(&host_name()).unwrap().unwrap();
    assert!(link.up && link.veth);
    assert_eq!((link.mac, link.mtu), (Some(GATEWAY_MAC), 1450));
    assert_eq!(links.list_addresses(link.index).unwrap(), [], "no link-local address");
    let alias = Command::new("ip").args(["link", "show", &host_name()]).output().unwrap();
    let alias = String::from_utf8(alias.stdout).unwrap();
    assert!(alias.contains("alias shop/web-0"), "{alias}");
}

const NODE: [&str; 2] = ["10.128.2.1", "fd01:0:0:2::1"];

/// Before the pod comes: the kernel makes the route to an IPv6 address of the node in a task of its own.
fn give_the_node_its_addresses() {
    let mut host = Links::connect().unwrap();
    let loopback = host.get_link("lo").unwrap().unwrap().index;
    for address in NODE {
        host.add_address(loopback, address.parse().unwrap()).unwrap();
    }
}

/// A datagram from the pod to the node and back, at once: the first one must not be lost.
fn expect_traffic(pod: &PodNetns, addresses: &[&str]) {
    let mut host = Links::connect().unwrap();
    let veth = host.get_link(&host_name()).unwrap().unwrap().index;
    for address in interface(addresses).addresses {
        let node: IpAddr = NODE[usize::from(address.is_ipv6())].parse().unwrap();
        host.add_route(&Route { destination: address.into(), gateway: None, interface: veth }).unwrap();
        host.add_neighbour(veth, address, interface(addresses).mac).unwrap();
        let server = UdpSocket::bind(SocketAddr::from((node, 0))).unwrap();
        server.set_read_timeout(Some(Duration::from_secs(2))).unwrap();
        let to = server.local_addr().unwrap();
        let client = pod.open().run(move || {
            let client = UdpSocket::bind(SocketAddr::from((address, 0))).unwrap();
            client.set_read_timeout(Some(Duration::from_secs(2))).unwrap();
            client.send_to(b"ping", to).unwrap();
            client
        });
        let mut buffer = [0; 16];
        let (length, from) = server.recv_from(&mut buffer).expect("a datagram from the pod");
        assert_eq!((&buffer[..length], from.ip()), (&b"ping"[..], address));
        server.send_to(b"pong", from).unwrap();
        let (length, from) = client.unwrap().recv_from(&mut buffer).expect("a datagram from the node");
        assert_eq!((&buffer[..length], from), (&b"pong"[..], to));
    }
}

fn expect_requests(agent: &Agent, pod: &PodNetns) {
    let asked = agent.asked();
    let [Request::Add(add), Request::Commit(_), Request::Check(check), Request::Del(del), Request::Del(again)] =
        &asked[..]
    else {
        panic!("{asked:?}");
    };
    assert_eq!(add.attachment, attachment());
    assert_eq!(add.network, "culvert");
    assert_eq!(add.netns, pod.open().identity());
    let identity = add.pod.as_ref().unwrap();
    assert_eq!([&identity.namespace, &identity.name, &identity.uid], ["shop", "web-0", "0d9c"]);
    assert!(!check.addresses.is_empty());
    assert_eq!((&del.attachment, del), (&attachment(), again));
}

#[test]
fn the_host_end_is_down_until_the_agent_is_done() {
    Sandbox::run(|sandbox| {
        let pod = sandbox.pod("pod");
        let agent = Agent::start(sandbox.dir(), |request| match request {
            Request::Add(_) => {
                Some(Response::Prepared(Prepared { interface: interface(&["10.128.2.5"]), existing: false }))
            }
            Request::Commit(commit) => {
                // This thread inherited the node's network namespace.
                let link = Links::connect().unwrap().get_link(&host_name()).unwrap().expect("the host end");
                assert_eq!(link.index, commit.host_ifindex);
                assert!(!link.up, "the pod could send before the dataplane is attached");
                Some(Response::Done)
            }
            _ => None,
        });
        run("ADD", Some(pod.path()), &config(&agent.socket)).expect_success();
        assert_eq!(agent.asked().len(), 2);
        assert!(Links::connect().unwrap().get_link(&host_name()).unwrap().unwrap().up);
    });
}

#[test]
fn results_in_the_version_of_the_configuration() {
    Sandbox::run(|sandbox| {
        let agent = Agent::with(sandbox.dir(), interface(&["10.128.2.5"]));
        for (version, ip_version) in
            [("0.3.1", json!("4")), ("0.4.0", json!("4")), ("1.0.0", Value::Null), ("1.1.0", Value::Null)]
        {
            let pod = sandbox.pod("pod");
            let mut config = config(&agent.socket);
            config["cniVersion"] = version.into();
            let result = run("ADD", Some(pod.path()), &config).expect_success();
            assert_eq!(result["cniVersion"], version);
            assert_eq!(result["ips"][0]["version"], ip_version, "{version}");
            run("DEL", Some(pod.path()), &with_result(&config, &result)).expect_success();
        }
    });
}

#[test]
fn without_an_agent() {
    Sandbox::run(|sandbox| {
        let pod = sandbox.pod("pod");
        let socket = sandbox.dir().join("cni.sock");
        let absent = config(&socket);
        for _ in 0..2 {
            let error = run("ADD", Some(pod.path()), &absent).expect_error(code::TRY_AGAIN_LATER);
            assert!(error.contains("cni.sock") && error.contains("is sdn-agent running"), "{error}");
            let error = run("STATUS", None, &absent).expect_error(code::NOT_AVAILABLE);
            assert!(error.contains("cni.sock"), "{error}");
            let error = run("GC", None, &with_attachments(&absent, json!([]))).expect_error(code::TRY_AGAIN_LATER);
            assert!(error.contains("cni.sock"), "{error}");
            let versions = run("VERSION", None, &json!({ "cniVersion": "1.1.0" })).expect_success();
            assert_eq!(versions["supportedVersions"], json!(["0.3.1", "0.4.0", "1.0.0", "1.1.0"]));
            // The second time with a socket that nobody listens at.
            drop(UnixListener::bind(&socket));
        }
        // A pod that was added while the agent was there can leave without it.
        std::fs::remove_file(&socket).unwrap();
        let agent = Agent::with(sandbox.dir(), interface(&["10.128.2.5"]));
        let result = run("ADD", Some(pod.path()), &config(&agent.socket)).expect_success();
        let absent = with_result(&config(&sandbox.dir().join("other.sock")), &result);
        let error = run("CHECK", Some(pod.path()), &absent).expect_error(code::TRY_AGAIN_LATER);
        assert!(error.contains("other.sock"), "{error}");
        let outcome = run("DEL", Some(pod.path()), &absent);
        assert!(outcome.stderr.contains("the agent will take the address back"), "{outcome:?}");
        assert_eq!(outcome.expect_success(), Value::Null);
        assert_eq!(pod.links().get_link("eth0").unwrap(), None);
    });
}

fn with_attachments(config: &Value, attachments: Value) -> Value {
    let mut config = config.clone();
    config["cni.dev/valid-attachments"] = attachments;
    config
}

#[test]
fn whatever_the_agent_does_nothing_is_left_behind() {
    // (when, answer, code): None hangs up.
    let refusal = || Some(Response::Failure(Failure::new(code::ADDRESSES_EXHAUSTED, "no address", "subnet full")));
    let rows: Vec<(&str, Option<Response>, u32)> = vec![
        ("add", refusal(), code::ADDRESSES_EXHAUSTED),
        ("add", None, code::TRY_AGAIN_LATER),
        ("add", Some(Response::Done), code::PROTOCOL),
        ("commit", refusal(), code::ADDRESSES_EXHAUSTED),
        ("commit", None, code::TRY_AGAIN_LATER),
        ("commit", Some(Response::Checked(interface(&["10.128.2.5"]))), code::PROTOCOL),
    ];
    for (when, answer, code) in rows {
        Sandbox::run(move |sandbox| {
            let pod = sandbox.pod("pod");
            let agent = Agent::start(sandbox.dir(), move |request| match request {
                Request::Add(_) if when != "add" => {
                    Some(Response::Prepared(Prepared { interface: interface(&["10.128.2.5"]), existing: false }))
                }
                _ => answer.clone(),
            });
            let error = run("ADD", Some(pod.path()), &config(&agent.socket)).expect_error(code);
            assert!(!error.is_empty());
            assert_eq!(pod.links().get_link("eth0").unwrap(), None, "{when}: {error}");
            assert_eq!(Links::connect().unwrap().get_link(&host_name()).unwrap(), None, "{when}: {error}");
        });
    }
}

#[test]
fn an_interface_of_others_is_left_alone() {
    Sandbox::run(|sandbox| {
        let (pod, other) = (sandbox.pod("pod"), sandbox.pod("other"));
        make_veth("foreign", "eth0", &pod);
        let agent = Agent::with(sandbox.dir(), interface(&["10.128.2.5"]));
        let error = run("ADD", Some(pod.path()), &config(&agent.socket)).expect_error(code::INTERFACE_EXISTS);
        assert!(error.contains("eth0") && error.contains("there is one already"), "{error}");
        assert!(pod.links().get_link("eth0").unwrap().is_some());
        let mut host = Links::connect().unwrap();
        assert_eq!(host.get_link(&host_name()).unwrap(), None, "our half is left");

        // A veth that a killed plugin left is ours, and no obstacle.
        make_veth(&host_name(), "eth0", &other);
        run("ADD", Some(other.path()), &config(&agent.socket)).expect_success();
        expect_pod_side(&other, &["10.128.2.5"]);
    });
}

fn make_veth(host: &str, ifname: &str, pod: &PodNetns) {
    use sdn_cni::netlink::VethEnd;
    use std::os::fd::AsRawFd;
    let end = |name| VethEnd { name, mac: GATEWAY_MAC };
    let netns = pod.open();
    Links::connect().unwrap().add_veth(end(host), end(ifname), netns.as_raw_fd(), 1400).unwrap();
}

#[test]
fn a_retry_keeps_a_whole_interface_and_replaces_a_broken_one() {
    Sandbox::run(|sandbox| {
        let pod = sandbox.pod("pod");
        let first = Mutex::new(true);
        let agent = Agent::start(sandbox.dir(), move |request| match request {
            Request::Add(_) => {
                let existing = !std::mem::take(&mut *first.lock().unwrap());
                Some(Response::Prepared(Prepared { interface: interface(&["10.128.2.5"]), existing }))
            }
            _ => Some(Response::Done),
        });
        let config = config(&agent.socket);
        let mut host = Links::connect().unwrap();
        let first = run("ADD", Some(pod.path()), &config).expect_success();
        let index = host.get_link(&host_name()).unwrap().unwrap().index;
        let second = run("ADD", Some(pod.path()), &config).expect_success();
        assert_eq!(first, second);
        assert_eq!(host.get_link(&host_name()).unwrap().unwrap().index, index, "the interface was made anew");
        delete_default_route(&pod);
        run("ADD", Some(pod.path()), &config).expect_success();
        assert_ne!(host.get_link(&host_name()).unwrap().unwrap().index, index, "the broken interface was kept");
        expect_pod_side(&pod, &["10.128.2.5"]);
    });
}

fn delete_default_route(pod: &PodNetns) {
    let deleted = pod.open().run(|| Command::new("ip").args(["route", "del", "default"]).status().unwrap());
    assert!(deleted.unwrap().success());
}

#[test]
fn check_sees_what_is_missing() {
    // (what breaks it, what the error names)
    let rows: &[(&[&str], &str)] = &[
        (&["route", "del", "default"], "route 0.0.0.0/0 via 169.254.1.1"),
        (&["route", "del", "169.254.1.1"], "route 169.254.1.1/32"),
        (&["-6", "route", "del", "default"], "route ::/0 via fe80::1"),
        (&["addr", "del", "10.128.2.5/32", "dev", "eth0"], "lacks address 10.128.2.5"),
        (&["addr", "del", "fd01:0:0:2::5/128", "dev", "eth0"], "lacks address fd01:0:0:2::5"),
        (&["link", "set", "eth0", "down"], "eth0 is down"),
        (&["link", "set", "eth0", "mtu", "1300"], "MTU 1300, expected 1450"),
        (&["link", "set", "eth0", "address", "0a:58:00:00:00:01"], "expected 0a:58:0a:80:02:05"),
        (&["link", "set", "eth0", "name", "eth9"], "eth0 is missing"),
    ];
    for (breakage, named) in rows {
        Sandbox::run(move |sandbox| {
            let pod = sandbox.pod("pod");
            let agent = Agent::with(sandbox.dir(), interface(&["10.128.2.5", "fd01:0:0:2::5"]));
            let config = config(&agent.socket);
            let result = run("ADD", Some(pod.path()), &config).expect_success();
            let config = with_result(&config, &result);
            run("CHECK", Some(pod.path()), &config).expect_success();
            let broken = pod.open().run(|| Command::new("ip").args(*breakage).status().unwrap());
            assert!(broken.unwrap().success());
            let error = run("CHECK", Some(pod.path()), &config).expect_error(code::CHECK_FAILED);
            assert!(error.contains(named), "{breakage:?}: {error}");
        });
    }
}

#[test]
fn check_allows_what_later_plugins_changed() {
    Sandbox::run(|sandbox| {
        let pod = sandbox.pod("pod");
        let agent = Agent::with(sandbox.dir(), interface(&["10.128.2.5"]));
        let config = config(&agent.socket);
        let mut result = run("ADD", Some(pod.path()), &config).expect_success();
        let changes = ["link set eth0 mtu 1300", "link set eth0 address 0a:58:00:00:00:01", "route del default"];
        for change in changes {
            let done = pod.open().run(|| Command::new("ip").args(change.split(' ')).status().unwrap());
            assert!(done.unwrap().success(), "{change}");
        }
        result["interfaces"][1]["mtu"] = 1300.into();
        result["interfaces"][1]["mac"] = "0a:58:00:00:00:01".into();
        result["routes"] = json!([]);
        run("CHECK", Some(pod.path()), &with_result(&config, &result)).expect_success();
    });
}

#[test]
fn namespaces_that_are_none() {
    Sandbox::run(|sandbox| {
        let agent = Agent::with(sandbox.dir(), interface(&["10.128.2.5"]));
        let config = config(&agent.socket);
        let file = sandbox.dir().join("file");
        std::fs::write(&file, "").unwrap();
        let rows: &[(&Path, &str)] = &[
            (Path::new("/run/netns/no-such-namespace"), "there is none"),
            (&file, "it is no network namespace"),
            (Path::new("/proc/self/ns/net"), "own network namespace"),
            (Path::new("/proc/self/ns/uts"), "it is no network namespace"),
        ];
        for (path, named) in rows {
            let error = run("ADD", Some(path), &config).expect_error(code::INVALID_NETNS);
            assert!(error.contains(named), "{error}");
            assert_eq!(run("DEL", Some(path), &config).expect_success(), Value::Null);
        }
        assert_eq!(run("DEL", None, &config).expect_success(), Value::Null);
    });
}

#[test]
fn gc_and_status_are_passed_on() {
    Sandbox::run(|sandbox| {
        let agent = Agent::with(sandbox.dir(), interface(&["10.128.2.5"]));
        let config = config(&agent.socket);
        let error = run("GC", None, &config).expect_error(code::INVALID_CONFIG);
        assert!(error.contains("cni.dev/valid-attachments"), "{error}");
        let valid = with_attachments(&config, json!([{ "containerID": CONTAINER, "ifname": "eth0" }]));
        assert_eq!(run("GC", None, &valid).expect_success(), Value::Null);
        assert_eq!(run("STATUS", None, &config).expect_success(), Value::Null);
        let asked = agent.asked();
        let [Request::Gc(gc), Request::Status] = &asked[..] else { panic!("{asked:?}") };
        assert_eq!((gc.network.as_str(), &gc.valid[..]), ("culvert", &[attachment()][..]));

        let mut old = valid;
        old["cniVersion"] = "1.0.0".into();
        for command in ["GC", "STATUS"] {
            let outcome = run(command, None, &old);
            assert_eq!(outcome.output["code"], code::INCOMPATIBLE_VERSION, "{outcome:?}");
            assert_eq!(outcome.output["cniVersion"], "1.0.0");
        }
    });
}

#[test]
fn errors_before_the_agent_is_asked() {
    let config = json!({ "cniVersion": "1.1.0", "name": "culvert" });
    run("UPGRADE", None, &config).expect_error(code::INVALID_ENVIRONMENT);
    run("ADD", None, &config).expect_error(code::INVALID_ENVIRONMENT);
    run("STATUS", None, &json!({ "cniVersion": "9.9.9", "name": "culvert" })).expect_error(code::INCOMPATIBLE_VERSION);
    run("STATUS", None, &json!(7)).expect_error(code::INCOMPATIBLE_VERSION);
    let versions = run("VERSION", None, &json!({ "cniVersion": "9.9.9" })).expect_success();
    assert_eq!(versions["cniVersion"], "9.9.9");
}
