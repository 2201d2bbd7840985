//! A node for tests: the server on a thread, a dataplane that is played, and the plugin as a library.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Write};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::{Arc, Mutex};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use ipnet::IpNet;
use serde_json::{Value, json};
use tokio::sync::{oneshot, watch};

use sdn_cni::Attachment;
use sdn_cni::commands;
use sdn_cni::config::NetConf;
use sdn_cni::environment::Parameters;
use sdn_cni::netlink::Links;
use sdn_cni::protocol::{Dns, Failure, PodIdentity, Request, Response, decode, encode, host_interface_name};

use super::super::super::counters::Counters;
use super::super::super::leases::Leases;
use super::super::super::pod::{AttachError, LocalPod, PodNetwork};
use super::super::{Limits, PodKnown, Readiness, Server, ServerConfig};
use super::sandbox::{PodNetns, Sandbox};

/// How long anything may take that a test waits for.
const DEADLINE: Duration = Duration::from_secs(20);

pub struct Node {
    dir: PathBuf,
    pub socket: PathBuf,
    pub network: Arc<Dataplane>,
    pub counters: Arc<Counters>,
    pub leases: Leases,
    pub subnets: watch::Sender<Vec<IpNet>>,
    pub mtu: watch::Sender<u32>,
    pub readiness: watch::Sender<Readiness>,
    stop: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

/// What differs from an ordinary node.
#[derive(Default)]
pub struct Options {
    pub subnets: Option<&'static [&'static str]>,
    pub limits: Limits,
    pub pod_known: Option<PodKnown>,
    /// The dataplane from the start.
    pub network: Option<Dataplane>,
}

/// A dataplane that is played.
#[derive(Debug, Default)]
pub struct Dataplane {
    pub attached: Mutex<BTreeMap<Attachment, Arc<LocalPod>>>,
    /// Calls under way.
    busy: Mutex<Vec<Attachment>>,
    /// What attach, detach and check answer; None is success.
    pub attach_error: Mutex<Option<AttachError>>,
    pub detach_error: Mutex<Option<AttachError>>,
    pub check_error: Mutex<Option<AttachError>>,
    /// How long attach takes.
    pub attach_time: Mutex<Duration>,
}

// === impl Dataplane ===

impl PodNetwork for Dataplane {
    async fn attach(&self, pod: Arc<LocalPod>) -> Result<(), AttachError> {
        self.begin(&pod);
        let time = *self.attach_time.lock().unwrap();
        tokio::time::sleep(time).await;
        let link = Links::connect().unwrap().get_link(&pod.host_interface).unwrap();
        let error = self.attach_error.lock().unwrap().clone();
        let result = match (error, link) {
            (Some(error), _) => Err(error),
            (None, None) => Err(AttachError { cause: "it is gone".into(), ..refusal(false) }),
            (None, Some(link)) => {
                assert_eq!(link.index, pod.host_ifindex, "not the committed interface");
                self.attached.lock().unwrap().insert(pod.attachment(), pod.clone());
                Ok(())
            }
        };
        self.end(&pod);
        result
    }

    async fn detach(&self, pod: Arc<LocalPod>) -> Result<(), AttachError> {
        self.begin(&pod);
        tokio::task::yield_now().await;
        let link = Links::connect().unwrap().get_link(&pod.host_interface).unwrap();
        assert_eq!(link, None, "detached while the pod can still send");
        let result = self.detach_error.lock().unwrap().clone().map_or(Ok(()), Err);
        if result.is_ok() {
            self.attached.lock().unwrap().remove(&pod.attachment());
        }
        self.end(&pod);
        result
    }

    async fn check(&self, _: Arc<LocalPod>) -> Result<(), AttachError> {
        self.check_error.lock().unwrap().clone().map_or(Ok(()), Err)
    }
}

impl Dataplane {
    fn begin(&self, pod: &LocalPod) {
        let mut busy = self.busy.lock().unwrap();
        assert!(!busy.contains(&pod.attachment()), "two calls for {pod} at a time");
        busy.push(pod.attachment());
    }

    fn end(&self, pod: &LocalPod) {
        self.busy.lock().unwrap().retain(|attachment| *attachment != pod.attachment());
    }
}

pub fn refusal(transient: bool) -> AttachError {
    AttachError { operation: "attach", object: "interface".into(), cause: "the map is full".into(), transient }
}

// === impl Node ===

impl Node {
    pub fn start(sandbox: &Sandbox, options: Options) -> Self {
        let dir = sandbox.dir().to_owned();
        let socket = dir.join("cni.sock");
        let nets = options.subnets.unwrap_or(&["10.128.2.0/23", "fd01:0:0:2::/64"]);
        let nets: Vec<IpNet> = nets.iter().map(|net| net.parse().unwrap()).collect();
        let (subnets, subnets_seen) = watch::channel(nets.clone());
        let (mtu, mtu_seen) = watch::channel(1450);
        let (readiness, readiness_seen) = watch::channel(Readiness::Ready);
        let leases = Leases::open(&dir.join("leases"), &nets).unwrap();
        let network = Arc::new(options.network.unwrap_or_default());
        let counters = Arc::new(Counters::default());
        let config = ServerConfig {
            subnets: subnets_seen,
            mtu: mtu_seen,
            readiness: readiness_seen,
            dns: Arc::new(|_, _| Dns { nameservers: vec!["172.30.0.10".into()], ..Dns::default() }),
            pod_known: options.pod_known,
            limits: options.limits,
        };
        let server = Server::new(leases.clone(), network.clone(), config, counters.clone());
        let _ = std::fs::remove_file(&socket);
        let listener = std::os::unix::net::UnixListener::bind(&socket).unwrap();
        listener.set_nonblocking(true).unwrap();
        let (stop, stopped) = oneshot::channel();
        // A thread of this one's, so in the same namespaces; so are the runtime's own.
        let thread = thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            runtime.block_on(async {
                let listener = tokio::net::UnixListener::from_std(listener).unwrap();
                server.run(listener, async { drop(stopped.await) }).await;
            });
        });
        Self { dir, socket, network, counters, leases, subnets, mtu, readiness, stop: Some(stop), thread: Some(thread) }
    }

    /// Stops the server and waits for it.
    pub fn stop(mut self) {
        self.stopped();
    }

    fn stopped(&mut self) {
        // Closed, if the server is gone already.
        let _ = self.stop.take().map(|stop| stop.send(()));
        if let Some(Err(panic)) = self.thread.take().map(JoinHandle::join)
            && !thread::panicking()
        {
            std::panic::resume_unwind(panic);
        }
    }

    pub fn config(&self) -> NetConf {
        self.config_with(&[])
    }

    pub fn config_with(&self, more: &[(&str, Value)]) -> NetConf {
        let mut document = json!({ "cniVersion": "1.1.0", "name": "culvert", "agentSocket": self.socket });
        for (key, value) in more {
            document[key] = value.clone();
        }
        NetConf::parse(document.to_string().as_bytes()).unwrap()
    }

    pub fn add(&self, pod: &PodNetns) -> Result<Value, Failure> {
        commands::add(&self.config(), &parameters(pod))
    }

    pub fn del(&self, pod: &PodNetns) -> Result<(), Failure> {
        let remark = commands::del(&self.config(), &parameters(pod))?;
        assert_eq!(remark, None);
        Ok(())
    }

    pub fn check(&self, pod: &PodNetns, result: &Value) -> Result<(), Failure> {
        commands::check(&self.config_with(&[("prevResult", result.clone())]), &parameters(pod))
    }

    pub fn status(&self) -> Result<(), Failure> {
        commands::status(&self.config())
    }

    /// Runs the plugin as a runtime does. The error is what it said.
    pub fn execute(&self, plugin: &Path, command: &str, pod: &PodNetns) -> Result<Value, String> {
        let name = pod.path().file_name().unwrap().to_str().unwrap();
        let mut process = Command::new(plugin);
        process.env_clear().env("CNI_COMMAND", command).env("CNI_PATH", "/opt/cni/bin").env("CNI_NETNS", pod.path());
        process.env("CNI_CONTAINERID", attachment(pod).container_id).env("CNI_IFNAME", "eth0");
        process.env("CNI_ARGS", format!("K8S_POD_NAMESPACE=shop;K8S_POD_NAME={name};K8S_POD_UID=uid-{name}"));
        let mut process = process.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
        let config = json!({ "cniVersion": "1.1.0", "name": "culvert", "agentSocket": self.socket });
        process.stdin.take().unwrap().write_all(config.to_string().as_bytes()).unwrap();
        let output = process.wait_with_output().unwrap();
        let stdout = String::from_utf8(output.stdout).unwrap();
        if !output.status.success() {
            return Err(stdout);
        }
        Ok(if stdout.is_empty() { Value::Null } else { serde_json::from_str(&stdout).expect("JSON on stdout") })
    }

    /// A connection whose other side is the test.
    pub fn connect(&self) -> Peer {
        Peer(BufReader::new(UnixStream::connect(&self.socket).unwrap()))
    }

    pub fn lease_files(&self) -> usize {
        let names = std::fs::read_dir(self.dir.join("leases")).unwrap();
        names.filter(|entry| entry.as_ref().unwrap().file_name().to_string_lossy().ends_with(".json")).count()
    }

    /// Nothing of any pod is left.
    #[track_caller]
    pub fn expect_empty(&self) {
        assert_eq!(self.leases.pods(), []);
        assert_eq!(self.lease_files(), 0);
        assert!(self.leases.usage().iter().all(|usage| usage.used == 0), "{:?}", self.leases.usage());
        assert!(self.network.attached.lock().unwrap().is_empty());
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        self.stopped();
    }
}

/// The plugin's end of a connection.
pub struct Peer(BufReader<UnixStream>);

impl Peer {
    pub fn send(&mut self, request: &Request) {
        self.write(&encode(request).unwrap());
    }

    pub fn write(&mut self, bytes: &[u8]) {
        self.0.get_mut().write_all(bytes).unwrap();
    }

    /// No more from this side.
    pub fn finish(&mut self) {
        self.0.get_mut().shutdown(std::net::Shutdown::Write).unwrap();
    }

    /// None if the server has hung up.
    pub fn receive(&mut self) -> Option<Response> {
        let mut line = Vec::new();
        self.0.get_mut().set_read_timeout(Some(DEADLINE)).unwrap();
        self.0.read_until(b'\n', &mut line).expect("an answer");
        (!line.is_empty()).then(|| decode(&line).unwrap())
    }
}

pub fn attachment(pod: &PodNetns) -> Attachment {
    let name = pod.path().file_name().unwrap().to_str().unwrap();
    Attachment { container_id: format!("c-{name}"), ifname: "eth0".into() }
}

pub fn parameters(pod: &PodNetns) -> Parameters {
    let name = pod.path().file_name().unwrap().to_str().unwrap().to_owned();
    Parameters {
        attachment: attachment(pod),
        netns: Some(pod.path().to_owned()),
        own_netns_allowed: false,
        pod: Some(PodIdentity { namespace: "shop".into(), uid: format!("uid-{name}"), name }),
    }
}

/// Is the pod's host end there?
pub fn host_end(pod: &PodNetns) -> Option<u32> {
    Links::connect().unwrap().get_link(&host_interface_name(&attachment(pod))).unwrap().map(|link| link.index)
}

pub fn addresses(result: &Value) -> Vec<String> {
    let ips = result["ips"].as_array().unwrap().iter();
    ips.map(|ip| ip["address"].as_str().unwrap().to_owned()).collect()
}

/// Waits until it is so.
#[track_caller]
pub fn eventually(what: &str, condition: impl Fn() -> bool) {
    let end = Instant::now() + DEADLINE;
    while !condition() {
        assert!(Instant::now() < end, "not within {DEADLINE:?}: {what}");
        thread::sleep(Duration::from_millis(5));
    }
}
