//! rtnetlink, one request a method, named as `ip` says it. Every request speaks to the network namespace of the thread that
//! opened the socket.

mod address;
mod route;
mod uplink;
mod vxlan;

use futures_util::TryStreamExt;
use nix::errno::Errno;
use rtnetlink::packet_route::link::{InfoData, LinkAttribute, LinkFlags, LinkInfo, LinkMessage, State};
use rtnetlink::{Handle, LinkUnspec};

pub use route::{ROUTE_PROTOCOL, Route};
pub use uplink::{Following, Uplink, find_uplink, follow_uplink};
pub use vxlan::VxlanLink;

/// An open rtnetlink socket, cheap to clone. Its other half is a task of the runtime it was opened in.
#[derive(Debug, Clone)]
pub struct Netlink {
    handle: Handle,
}

/// A network device.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Link {
    /// Its name.
    pub name: String,
    /// Its interface index.
    pub ifindex: u32,
    /// Kind of a virtual device, as `veth`; `None` for hardware.
    pub kind: Option<String>,
    /// MTU in bytes.
    pub mtu: u32,
    /// Ethernet address; zero for a device without one.
    pub mac: [u8; 6],
    /// Set up by the administrator.
    pub up: bool,
    /// Up and with carrier.
    pub running: bool,
    /// `NOARP`: neighbours are not asked for.
    pub no_arp: bool,
    /// What a VXLAN device is like.
    pub vxlan: Option<VxlanLink>,
}

/// A request to the kernel failed.
#[derive(Debug, thiserror::Error)]
pub enum NetlinkError {
    /// No socket.
    #[error("open an rtnetlink socket: {0}")]
    Open(std::io::Error),
    /// The kernel refused.
    #[error("{operation}: {errno}{}", hint(*errno))]
    Refused {
        /// What was asked for, with its object.
        operation: String,
        /// Its answer.
        errno: Errno,
    },
    /// The answer was none that one can use.
    #[error("{operation}: {cause}")]
    Answer {
        /// What was asked for, with its object.
        operation: String,
        /// What is wrong with the answer.
        cause: String,
    },
}

/// The likely cause, where an errno has one.
fn hint(errno: Errno) -> &'static str {
    match errno {
        Errno::EPERM => " (is CAP_NET_ADMIN there?)",
        Errno::EADDRINUSE => " (does another process or VXLAN device use the UDP port? see `ss -ulpn`)",
        Errno::EOPNOTSUPP => " (does this kernel have the device type?)",
        Errno::ENODEV => " (was the device removed?)",
        _ => "",
    }
}

// === impl Netlink ===

impl Netlink {
    /// Opens a socket in the network namespace of the calling thread; to be called inside a runtime.
    pub fn open() -> Result<Self, NetlinkError> {
        let (connection, handle, _) = rtnetlink::new_connection().map_err(NetlinkError::Open)?;
        tokio::spawn(connection);
        Ok(Self { handle })
    }

    /// `ip link show NAME`; `None` if there is no such device.
    pub async fn find_link(&self, name: &str) -> Result<Option<Link>, NetlinkError> {
        let found: Result<Vec<_>, _> = self.handle.link().get().match_name(name).execute().try_collect().await;
        match found {
            Ok(messages) => Ok(messages.into_iter().next().map(Link::from)),
            Err(error) => match failed(format!("find device {name}"), error) {
                NetlinkError::Refused { errno: Errno::ENODEV, .. } => Ok(None),
                error => Err(error),
            },
        }
    }

    /// `ip link show`
    pub async fn list_links(&self) -> Result<Vec<Link>, NetlinkError> {
        let links: Result<Vec<_>, _> = self.handle.link().get().execute().map_ok(Link::from).try_collect().await;
        links.map_err(|error| failed("list devices".to_owned(), error))
    }

    /// `ip link set INDEX up`
    pub async fn set_link_up(&self, ifindex: u32) -> Result<(), NetlinkError> {
        let message = LinkUnspec::new_with_index(ifindex).up().build();
        self.set_link(message).await.map_err(|error| failed(format!("set device {ifindex} up"), error))
    }

    /// `ip link set INDEX mtu BYTES`
    pub async fn set_link_mtu(&self, ifindex: u32, mtu: u32) -> Result<(), NetlinkError> {
        let message = LinkUnspec::new_with_index(ifindex).mtu(mtu).build();
        self.set_link(message).await.map_err(|error| failed(format!("set the MTU of device {ifindex} to {mtu}"), error))
    }

    /// `ip link set INDEX address MAC`
    pub async fn set_link_mac(&self, ifindex: u32, mac: [u8; 6]) -> Result<(), NetlinkError> {
        let message = LinkUnspec::new_with_index(ifindex).address(mac.to_vec()).build();
        self.set_link(message).await.map_err(|error| failed(format!("set the MAC of device {ifindex}"), error))
    }

    /// `ip link set INDEX arp off`
    pub async fn set_link_arp_off(&self, ifindex: u32) -> Result<(), NetlinkError> {
        let message = LinkUnspec::new_with_index(ifindex).arp(false).build();
        self.set_link(message).await.map_err(|error| failed(format!("set ARP of device {ifindex} off"), error))
    }

    /// `ip link del INDEX`; one that is gone is no error.
    pub async fn del_link(&self, ifindex: u32) -> Result<(), NetlinkError> {
        let deleted = self.handle.link().del(ifindex).execute().await;
        absent_is_done(deleted, || format!("delete device {ifindex}"), Errno::ENODEV)
    }

    async fn set_link(&self, message: LinkMessage) -> Result<(), rtnetlink::Error> {
        self.handle.link().set(message).execute().await
    }
}

/// The error of an operation.
fn failed(operation: String, error: rtnetlink::Error) -> NetlinkError {
    match error {
        rtnetlink::Error::NetlinkError(message) => {
            NetlinkError::Refused { operation, errno: Errno::from_raw(message.raw_code().abs()) }
        }
        other => NetlinkError::Answer { operation, cause: other.to_string() },
    }
}

/// What is to be absent and is absent already is as it should be.
fn absent_is_done(
    done: Result<(), rtnetlink::Error>,
    operation: impl FnOnce() -> String,
    absent: Errno,
) -> Result<(), NetlinkError> {
    match done.map_err(|error| failed(operation(), error)) {
        Err(NetlinkError::Refused { errno, .. }) if errno == absent => Ok(()),
        done => done,
    }
}

// === impl Link ===

impl From<LinkMessage> for Link {
    fn from(message: LinkMessage) -> Self {
        let flags = message.header.flags;
        let mut link = Self {
            name: String::new(),
            ifindex: message.header.index,
            kind: None,
            mtu: 0,
            mac: [0; 6],
            up: flags.contains(LinkFlags::Up),
            running: flags.contains(LinkFlags::Up | LinkFlags::Running),
            no_arp: flags.contains(LinkFlags::Noarp),
            vxlan: None,
        };
        for attribute in message.attributes {
            match attribute {
                LinkAttribute::IfName(name) => link.name = name,
                LinkAttribute::Mtu(mtu) => link.mtu = mtu,
                LinkAttribute::Address(address) => link.mac = address.try_into().unwrap_or_default(),
                LinkAttribute::OperState(State::Down | State::LowerLayerDown) => link.running = false,
                LinkAttribute::LinkInfo(infos) => link.read_info(infos),
                _ => {}
            }
        }
        link
    }
}

impl Link {
    fn read_info(&mut self, infos: Vec<LinkInfo>) {
        for info in infos {
            match info {
                LinkInfo::Kind(kind) => self.kind = Some(kind.to_string()),
                LinkInfo::Data(InfoData::Vxlan(data)) => self.vxlan = Some(VxlanLink::from(data.as_slice())),
                _ => {}
            }
        }
    }
}

#[cfg(test)]
mod tests;
