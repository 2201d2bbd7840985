//! The uplink: the device of the default route (or the configured one), followed through every change.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use futures_util::StreamExt;
use ipnet::IpNet;
use rtnetlink::MulticastGroup;
use rtnetlink::packet_core::NetlinkPayload;
use rtnetlink::packet_route::link::LinkAttribute;
use rtnetlink::packet_route::{AddressFamily, RouteNetlinkMessage};
use tokio::sync::{Notify, watch};

use super::{Link, Netlink, NetlinkError};

/// Changes come in bursts: an address that is replaced takes its routes along. One look after the burst is enough.
const BURST: Duration = Duration::from_millis(50);
/// How often to look although the kernel reported nothing. Only a lost report makes this matter.
const LOOK_ANYWAY: Duration = Duration::from_secs(30);

/// The device that carries the tunnel and the traffic to the outside, as it is now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Uplink {
    /// Device name, for people and for aya, which attaches by name.
    pub name: String,
    /// Interface index.
    pub ifindex: u32,
    /// MTU in bytes.
    pub mtu: u32,
    /// MAC address; zero for a device without one.
    pub mac: [u8; 6],
    /// Its addresses of global scope with their prefix lengths, in the kernel's order, IPv4 first.
    pub addresses: Vec<IpNet>,
    /// Whether it is up and has carrier.
    pub running: bool,
}

/// An uplink that is being followed.
#[derive(Debug, Clone)]
pub struct Following {
    /// The last one known.
    pub uplink: watch::Receiver<Uplink>,
    /// Why there is none at the moment.
    pub problem: watch::Receiver<Option<String>>,
    /// Marked as changed whenever a device, address or route of the node may have changed, those of pods' veths apart.
    pub changes: watch::Receiver<()>,
}

/// What a look at the kernel's tables found.
enum Look {
    Found(Uplink),
    Missing(String),
}

/// Finds the uplink. Returns as soon as there is one, with what follows it: a task that the caller starts, and that ends when nobody
/// holds the first two receivers any more. `waiting` hears why there is no uplink yet.
pub async fn follow_uplink(
    configured: Option<String>,
    mut waiting: impl FnMut(&str),
) -> Result<(Following, impl Future<Output = ()> + Send + 'static), NetlinkError> {
    let changed = Arc::new(Notify::new());
    let netlink = open_monitor(Arc::clone(&changed))?;
    let first = loop {
        match look(&netlink, configured.as_deref()).await? {
            Look::Found(uplink) => break uplink,
            Look::Missing(why) => waiting(&why),
        }
        wait(&changed).await;
    };
    let Uplink { name, ifindex, mtu, addresses, .. } = &first;
    tracing::info!(name, ifindex, mtu, ?addresses, "found the uplink");
    let (uplink, problem, changes) = (watch::Sender::new(first), watch::Sender::new(None), watch::Sender::new(()));
    let following =
        Following { uplink: uplink.subscribe(), problem: problem.subscribe(), changes: changes.subscribe() };
    let task = async move {
        loop {
            tokio::select! {
                () = wait(&changed) => {}
                () = async { tokio::join!(uplink.closed(), problem.closed()); } => return,
            }
            update(look(&netlink, configured.as_deref()).await, &uplink, &problem);
            changes.send_replace(());
        }
    };
    Ok((following, task))
}

fn update(look: Result<Look, NetlinkError>, uplink: &watch::Sender<Uplink>, problem: &watch::Sender<Option<String>>) {
    let why = match look {
        Ok(Look::Found(found)) => {
            let changed = uplink.send_if_modified(|last| {
                let changed = *last != found;
                *last = found;
                changed
            });
            if changed {
                tracing::info!(uplink = ?*uplink.borrow(), "the uplink has changed");
            }
            None
        }
        Ok(Look::Missing(why)) => Some(why),
        Err(error) => Some(error.to_string()),
    };
    problem.send_if_modified(|last| {
        let changed = *last != why;
        if let Some(why) = why.as_ref().filter(|_| changed) {
            tracing::warn!(why, "there is no uplink; going on with the last one");
        }
        *last = why;
        changed
    });
}

/// A socket for requests that also notifies of changes to devices, addresses and routes.
fn open_monitor(changed: Arc<Notify>) -> Result<Netlink, NetlinkError> {
    let groups = [
        MulticastGroup::Link,
        MulticastGroup::Ipv4Ifaddr,
        MulticastGroup::Ipv6Ifaddr,
        MulticastGroup::Ipv4Route,
        MulticastGroup::Ipv6Route,
    ];
    let (connection, handle, mut messages) =
        rtnetlink::new_multicast_connection(&groups).map_err(NetlinkError::Open)?;
    tokio::spawn(connection);
    // Drained at once, so that a routing daemon's storm is not kept in memory. An overrun is a message too.
    tokio::spawn(async move {
        while let Some((message, _)) = messages.next().await {
            if !is_of_pod(&message.payload) {
                changed.notify_one();
            }
        }
    });
    Ok(Netlink { handle })
}

/// Pods come and go often, and nobody here needs to look at all devices each time.
pub(super) fn is_of_pod(payload: &NetlinkPayload<RouteNetlinkMessage>) -> bool {
    let NetlinkPayload::InnerMessage(RouteNetlinkMessage::NewLink(link) | RouteNetlinkMessage::DelLink(link)) = payload
    else {
        return false;
    };
    let is_pods = |attribute: &LinkAttribute| matches!(attribute, LinkAttribute::IfName(name) if is_pod_device(name));
    link.attributes.iter().any(is_pods)
}

/// `cv` and 12 hexadecimal digits: see `sdn_cni::protocol::host_interface_name`.
fn is_pod_device(name: &str) -> bool {
    name.strip_prefix("cv").is_some_and(|digits| digits.len() == 12 && digits.bytes().all(|b| b.is_ascii_hexdigit()))
}

async fn wait(changed: &Notify) {
    // Neither outcome of the timeout matters: both are reasons to look.
    let _ = tokio::time::timeout(LOOK_ANYWAY, changed.notified()).await;
    tokio::time::sleep(BURST).await;
}

/// The uplink as it is now, or why there is none.
pub async fn find_uplink(netlink: &Netlink, configured: Option<&str>) -> Result<Result<Uplink, String>, NetlinkError> {
    Ok(match look(netlink, configured).await? {
        Look::Found(uplink) => Ok(uplink),
        Look::Missing(why) => Err(why),
    })
}

async fn look(netlink: &Netlink, configured: Option<&str>) -> Result<Look, NetlinkError> {
    let links = netlink.list_links().await?;
    let link = match configured {
        Some(name) => match links.into_iter().find(|link| link.name == name) {
            Some(link) => link,
            None => return Ok(Look::Missing(format!("there is no device {name} (setting uplink)"))),
        },
        None => match default_route_device(netlink).await? {
            Some(ifindex) => match links.into_iter().find(|link| link.ifindex == ifindex) {
                Some(link) => link,
                None => return Ok(Look::Missing(format!("the default route's device {ifindex} has just gone"))),
            },
            None => {
                let why = "there is no default route whose device could be it (or name one by the setting uplink)";
                return Ok(Look::Missing(why.to_owned()));
            }
        },
    };
    let Link { name, ifindex, mtu, mac, running, .. } = link;
    let addresses = netlink.list_addresses(ifindex).await?;
    if addresses.is_empty() {
        return Ok(Look::Missing(format!("device {name} has no address of global scope")));
    }
    Ok(Look::Found(Uplink { name, ifindex, mtu, mac, addresses, running }))
}

/// The device of the default route with the lowest metric, of IPv4 first.
async fn default_route_device(netlink: &Netlink) -> Result<Option<u32>, NetlinkError> {
    for family in [AddressFamily::Inet, AddressFamily::Inet6] {
        let routes = netlink.list_routes(family).await?;
        let defaults = routes.iter().filter(|found| found.route.destination.prefix_len() == 0);
        if let Some(best) = defaults.min_by_key(|found| found.metric) {
            return Ok(Some(best.route.ifindex));
        }
    }
    Ok(None)
}

// === impl Uplink ===

impl Uplink {
    /// Whether the address is one of the uplink's own.
    pub fn has(&self, address: IpAddr) -> bool {
        self.addresses.iter().any(|own| own.addr() == address)
    }
}
