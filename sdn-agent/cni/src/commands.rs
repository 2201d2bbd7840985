//! What each command of the runtime does, from its parameters to the result.

use std::path::Path;
use std::time::Duration;

use serde_json::Value;

use crate::client::{Client, ClientError};
use crate::config::{NetConf, SpecVersion};
use crate::environment::Parameters;
use crate::mac::MacAddr;
use crate::netlink::Links;
use crate::netns::{NetnsError, OpenNetns};
use crate::protocol::{
    AddRequest, CheckRequest, CommitRequest, DelRequest, Failure, GcRequest, PodInterface, Prepared, Request, Response,
    code, host_interface_name,
};
use crate::result::Success;
use crate::veth::{self, Plugged, Veth, VethError};

/// For an ADD's answers: the agent may wait for the pod's object, and for an operation before this one.
const ADD_PATIENCE: Duration = Duration::from_secs(60);

/// For a DEL's answer. It need not come: what the agent has not done when this is over, it does by itself later.
const DEL_PATIENCE: Duration = Duration::from_secs(20);

/// For a CHECK's answer.
const CHECK_PATIENCE: Duration = Duration::from_secs(30);

/// For a GC's answer: every stale attachment is removed before it.
const GC_PATIENCE: Duration = Duration::from_secs(120);

/// For a STATUS's answer. Runtimes ask every few seconds.
const STATUS_PATIENCE: Duration = Duration::from_secs(3);

/// ADD: addresses from the agent, veth by us, dataplane by the agent, then the host end goes up.
pub fn add(config: &NetConf, parameters: &Parameters) -> Result<Value, Failure> {
    let what = format!("ADD of {}", parameters.attachment);
    let previous = config.previous()?;
    let netns = open_netns(parameters)?;
    let mut agent = Client::connect(&config.socket, ADD_PATIENCE).map_err(|e| e.into_failure(&what))?;
    let prepared = prepare(&mut agent, config, parameters, &netns).map_err(|e| e.into_failure(&what))?;
    let interface = &prepared.interface;
    let alias = alias(parameters);
    let veth = Veth { netns: &netns, ifname: &parameters.attachment.ifname, interface, alias: &alias };
    let failed = |error: VethError| veth_failure(&what, &error);
    let mut host = Links::connect().map_err(|e| failed(e.into()))?;
    let mut plugged = plug(&veth, &prepared, &mut host).map_err(failed)?;

    let committed = agent.ask(&Request::Commit(CommitRequest { host_ifindex: plugged.host_index }));
    let committed = committed.and_then(|answer| expect_done(&answer));
    if let Err(error) = committed {
        // The agent undoes its part, this is ours. On a retry the interface is the pod's, whatever becomes of this ADD.
        if !prepared.existing {
            let _ = host.delete_link(&interface.host_interface);
        }
        return Err(error.into_failure(&what));
    }
    if let Err(error) = veth.bring_up(&mut host, &mut plugged) {
        let failure = failed(error);
        let _ = host.delete_link(&interface.host_interface);
        let _ = release(config, parameters);
        return Err(failure);
    }
    let sandbox = netns.identity().path.display().to_string();
    let ours = Success::of_pod(&parameters.attachment, &sandbox, interface);
    let result = previous.unwrap_or_default().followed_by(ours);
    Ok(result.to_json(config.version))
}

/// DEL: the interface first, so that the pod is cut off before its address is anybody else's.
///
/// An absent agent is no error. A runtime would repeat the DEL for ever and keep the pod in Terminating, most likely because the
/// agent itself is being removed or replaced. The interface is gone, the namespace will be, and with both gone the agent takes the
/// lease back.
pub fn del(config: &NetConf, parameters: &Parameters) -> Result<Option<String>, Failure> {
    let what = format!("DEL of {}", parameters.attachment);
    remove_interface(parameters).map_err(|e| veth_failure(&what, &e))?;
    match release(config, parameters) {
        Ok(()) => Ok(None),
        Err(error @ (ClientError::Absent { .. } | ClientError::Silent { .. })) => Ok(Some(format!(
            "{what}: {error}. The interface is removed; the agent will take the address back by itself"
        ))),
        Err(error) => Err(error.into_failure(&what)),
    }
}

/// CHECK: lease and dataplane by the agent, the veth by us.
pub fn check(config: &NetConf, parameters: &Parameters) -> Result<(), Failure> {
    config.require("CHECK", SpecVersion::V0_4_0)?;
    let what = format!("CHECK of {}", parameters.attachment);
    let previous = config.previous()?.ok_or_else(|| {
        Failure::new(
            code::INVALID_CONFIG,
            format!("{what}: prevResult is missing"),
            "the runtime has to pass the result of ADD",
        )
    })?;
    let netns = open_netns(parameters)?;
    let request = CheckRequest {
        attachment: parameters.attachment.clone(),
        netns: netns.identity(),
        addresses: previous.ips.iter().map(|ip| ip.address.addr()).collect(),
    };
    let mut agent = Client::connect(&config.socket, CHECK_PATIENCE).map_err(|e| e.into_failure(&what))?;
    let mut interface = match agent.ask(&Request::Check(request)).map_err(|e| e.into_failure(&what))? {
        Response::Checked(interface) => interface,
        other => return Err(unexpected(&other).into_failure(&what)),
    };
    allow_later_plugins(&mut interface, &previous, &parameters.attachment.ifname);
    let veth = Veth { netns: &netns, ifname: &parameters.attachment.ifname, interface: &interface, alias: "" };
    let differences = Links::connect().map_err(VethError::from).and_then(|mut host| veth.differences(&mut host));
    let differences = differences.map_err(|e| veth_failure(&what, &e))?;
    if differences.is_empty() { Ok(()) } else { Err(Failure::new(code::CHECK_FAILED, what, differences.join("; "))) }
}

/// GC: the agent removes what the runtime does not list.
pub fn gc(config: NetConf) -> Result<(), Failure> {
    config.require("GC", SpecVersion::V1_1_0)?;
    // An absent list is not an empty one: taking it for that would cut off every pod.
    let valid = config.valid_attachments.ok_or_else(|| {
        let message = "GC: cni.dev/valid-attachments is missing in the network configuration";
        Failure::new(code::INVALID_CONFIG, message, "the runtime has to list the attachments that are still valid")
    })?;
    let mut agent = Client::connect(&config.socket, GC_PATIENCE).map_err(|e| e.into_failure("GC"))?;
    let done = agent.ask(&Request::Gc(GcRequest { network: config.name, valid }));
    done.and_then(|answer| expect_done(&answer)).map_err(|e| e.into_failure("GC"))
}

/// STATUS: whether the agent can serve ADD.
pub fn status(config: &NetConf) -> Result<(), Failure> {
    config.require("STATUS", SpecVersion::V1_1_0)?;
    let done = Client::connect(&config.socket, STATUS_PATIENCE).and_then(|mut agent| agent.ask(&Request::Status));
    done.and_then(|answer| expect_done(&answer)).map_err(|error| {
        let failure = error.into_failure("STATUS: pods cannot be added now");
        // The kernel goes on forwarding without the agent, so connectivity is not limited (51).
        let code = if failure.code == code::TRY_AGAIN_LATER { code::NOT_AVAILABLE } else { failure.code };
        Failure { code, ..failure }
    })
}

fn open_netns(parameters: &Parameters) -> Result<OpenNetns, Failure> {
    let invalid = |cause: String| Failure::new(code::INVALID_NETNS, "invalid CNI_NETNS", cause);
    let path = parameters.netns.as_deref().unwrap_or(Path::new(""));
    let netns = OpenNetns::open(path).map_err(|e| invalid(e.to_string()))?;
    refuse_own(&netns, parameters).map(|()| netns)
}

fn refuse_own(netns: &OpenNetns, parameters: &Parameters) -> Result<(), Failure> {
    if !netns.is_own() || parameters.own_netns_allowed {
        return Ok(());
    }
    let cause =
        format!("{} is the plugin's own network namespace, which is the node's", netns.identity().path.display());
    Err(Failure::new(code::INVALID_NETNS, "invalid CNI_NETNS", cause))
}

fn prepare(
    agent: &mut Client,
    config: &NetConf,
    parameters: &Parameters,
    netns: &OpenNetns,
) -> Result<Prepared, ClientError> {
    let request = AddRequest {
        attachment: parameters.attachment.clone(),
        network: config.name.clone(),
        netns: netns.identity(),
        pod: parameters.pod.clone(),
        runtime_config: config.runtime_config.clone(),
    };
    match agent.ask(&Request::Add(request))? {
        Response::Prepared(prepared) => Ok(prepared),
        other => Err(unexpected(&other)),
    }
}

/// A veth just made, or the one that an earlier ADD of the same attachment left.
fn plug(veth: &Veth<'_>, prepared: &Prepared, host: &mut Links) -> Result<Plugged, VethError> {
    if prepared.existing {
        if let Some(plugged) = veth.find(host)? {
            return Ok(plugged);
        }
        host.delete_link(&prepared.interface.host_interface)?;
    }
    veth.create(host)
}

/// Both ends go with the host end. Should that one be elsewhere or have another name, the pod's end is looked for as well.
fn remove_interface(parameters: &Parameters) -> Result<(), VethError> {
    Links::connect()?.delete_link(&host_interface_name(&parameters.attachment))?;
    let Some(path) = &parameters.netns else { return Ok(()) };
    match OpenNetns::open(path) {
        Ok(netns) if !netns.is_own() || parameters.own_netns_allowed => {
            veth::remove_from_pod(&netns, &parameters.attachment.ifname).map(drop)
        }
        Ok(_) => Ok(()),
        Err(NetnsError::Missing { .. } | NetnsError::NotNamespace { .. }) => Ok(()),
        Err(error) => Err(error.into()),
    }
}

fn release(config: &NetConf, parameters: &Parameters) -> Result<(), ClientError> {
    let mut agent = Client::connect(&config.socket, DEL_PATIENCE)?;
    let request = DelRequest { attachment: parameters.attachment.clone() };
    agent.ask(&Request::Del(request)).and_then(|answer| expect_done(&answer))
}

/// Plugins that ran after us may have changed the pod's interface and routes; prevResult has what they left.
fn allow_later_plugins(interface: &mut PodInterface, previous: &Success, ifname: &str) {
    if let Some(link) = previous.interface_in_sandbox(ifname) {
        interface.mac = link.mac.parse::<MacAddr>().unwrap_or(interface.mac);
        interface.mtu = link.mtu.unwrap_or(interface.mtu);
    }
    interface.routes.retain(|ours| {
        previous
            .routes
            .iter()
            .any(|route| route.dst == ours.destination && route.gw.is_none_or(|gw| gw == ours.gateway))
    });
}

fn alias(parameters: &Parameters) -> String {
    match &parameters.pod {
        Some(pod) => format!("{}/{}", pod.namespace, pod.name),
        None => format!("container {}", parameters.attachment.container_id),
    }
}

fn expect_done(answer: &Response) -> Result<(), ClientError> {
    if matches!(answer, Response::Done) { Ok(()) } else { Err(unexpected(answer)) }
}

fn unexpected(answer: &Response) -> ClientError {
    let cause = format!("the agent answered out of turn ({answer:?}); plugin and agent are of different releases");
    Failure::new(code::PROTOCOL, "understanding the agent", cause).into()
}

fn veth_failure(what: &str, error: &VethError) -> Failure {
    let code = match error {
        VethError::Exists { .. } => code::INTERFACE_EXISTS,
        VethError::Netns(_) => code::INVALID_NETNS,
        VethError::Vanished(_) | VethError::Link(_) | VethError::Sysctl { .. } => code::KERNEL,
    };
    Failure::new(code, what, error.to_string())
}
