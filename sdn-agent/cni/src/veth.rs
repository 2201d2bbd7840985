//! A pod's veth: made, configured in the pod, compared, removed.
//!
//! The host end stays down until the agent has attached the dataplane, so that no packet of the pod ever passes it unjudged.

use std::fs;
use std::io;
use std::net::IpAddr;
use std::os::fd::AsRawFd;
use std::thread;
use std::time::{Duration, Instant};

use ipnet::IpNet;
use thiserror::Error;

use crate::mac::MacAddr;
use crate::netlink::{Link, LinkError, Links, Route, VethEnd};
use crate::netns::{NetnsError, OpenNetns};
use crate::protocol::PodInterface;

/// How long the kernel may take to make a new interface work.
const SETTLE_PATIENCE: Duration = Duration::from_secs(1);

/// How often it is asked.
const SETTLE_POLL: Duration = Duration::from_micros(200);

/// What a veth is made of.
#[derive(Debug)]
pub struct Veth<'a> {
    /// The pod's network namespace.
    pub netns: &'a OpenNetns,
    /// Name of the pod's end.
    pub ifname: &'a str,
    /// Everything else.
    pub interface: &'a PodInterface,
    /// Whose it is, for people who look at the host end.
    pub alias: &'a str,
}

/// A veth that is there, configured.
#[derive(Debug)]
pub struct Plugged {
    /// Index of the host end.
    pub host_index: u32,
    pod_index: u32,
    /// The pod's links. Entering its namespace takes a thread, which need not be had twice.
    pod: Links,
}

/// The veth could not be made, compared or removed.
#[derive(Debug, Error)]
pub enum VethError {
    /// The pod has an interface of this name, and it is not ours.
    #[error(
        "making interface {ifname} in {netns}: there is one already; another plugin or an earlier run of the container made it"
    )]
    Exists {
        /// The interface.
        ifname: String,
        /// The pod's network namespace.
        netns: String,
    },
    /// It vanished while it was being configured.
    #[error("configuring interface {0}: it is gone; the network namespace is being removed, or a DEL came meanwhile")]
    Vanished(String),
    /// The namespace could not be entered.
    #[error(transparent)]
    Netns(#[from] NetnsError),
    /// The kernel refused a request.
    #[error(transparent)]
    Link(#[from] LinkError),
    /// A sysctl could not be set.
    #[error("writing {value} to {path}: {source}; is /proc mounted read-only?")]
    Sysctl {
        /// The sysctl's file.
        path: String,
        /// What should be in it.
        value: &'static str,
        /// Why.
        source: io::Error,
    },
}

// === impl Veth ===

impl Veth<'_> {
    /// Makes both ends and configures the pod's; the host's is still down. After an error nothing is left.
    pub fn create(&self, host: &mut Links) -> Result<Plugged, VethError> {
        self.add(host)?;
        self.configure(host).inspect_err(|_| {
            // The first error is the one to report.
            let _ = host.delete_link(&self.interface.host_interface);
        })
    }

    /// The veth that is there already, if it is as it should be.
    pub fn find(&self, host: &mut Links) -> Result<Option<Plugged>, VethError> {
        let Some(host_end) = host.get_link(&self.interface.host_interface)? else { return Ok(None) };
        let whole = self.differences(host)?.is_empty();
        let mut pod = self.netns.run(Links::connect)??;
        let pod_end = pod.get_link(self.ifname)?.filter(|_| whole);
        Ok(pod_end.map(|pod_end| Plugged { host_index: host_end.index, pod_index: pod_end.index, pod }))
    }

    /// Brings up the host end, and with it the carrier of the pod's. Returns when both forward.
    pub fn bring_up(&self, host: &mut Links, plugged: &mut Plugged) -> Result<(), VethError> {
        host.set_up(plugged.host_index)?;
        self.settle(host, plugged)
    }

    /// The kernel notices a carrier, and makes an IPv6 address usable, in tasks of its own; packets are lost until then. That takes
    /// less than a millisecond. Should it take much longer, packets are lost at first and nothing is wrong with the pod.
    fn settle(&self, host: &mut Links, plugged: &mut Plugged) -> Result<(), VethError> {
        let deadline = Instant::now() + SETTLE_PATIENCE;
        let mut settled = |plugged: &mut Plugged| -> Result<bool, VethError> {
            // Addresses first: a request about a link waits for what the kernel is doing, so that the route is there, too.
            let ipv6 = self.interface.addresses.iter().any(IpAddr::is_ipv6);
            if ipv6 && plugged.pod.list_addresses(plugged.pod_index)?.iter().any(|address| address.tentative) {
                return Ok(false);
            }
            let vanished = |name: &str| VethError::Vanished(name.into());
            let pod = plugged.pod.get_link(self.ifname)?.ok_or_else(|| vanished(self.ifname))?;
            let name = &self.interface.host_interface;
            Ok(pod.operational && host.get_link(name)?.ok_or_else(|| vanished(name))?.operational)
        };
        while !settled(plugged)? && Instant::now() < deadline {
            thread::sleep(SETTLE_POLL);
        }
        Ok(())
    }

    fn add(&self, host: &mut Links) -> Result<(), VethError> {
        match self.try_add(host) {
            // Either end may be in the way. The host end's name is made from the container's id, so it is a leftover of ours.
            Err(error) if error.is_exists() => host.delete_link(&self.interface.host_interface)?,
            added => return Ok(added?),
        };
        self.try_add(host).map_err(|error| match error.is_exists() {
            true => VethError::Exists { ifname: self.ifname.into(), netns: self.netns_name() },
            false => error.into(),
        })
    }

    fn try_add(&self, host: &mut Links) -> Result<(), LinkError> {
        let here = VethEnd { name: &self.interface.host_interface, mac: self.interface.host_mac };
        let there = VethEnd { name: self.ifname, mac: self.interface.mac };
        host.add_veth(here, there, self.netns.as_raw_fd(), self.interface.mtu)
    }

    fn configure(&self, host: &mut Links) -> Result<Plugged, VethError> {
        let name = &self.interface.host_interface;
        let host_end = host.get_link(name)?.ok_or_else(|| VethError::Vanished(name.clone()))?;
        host.set_quiet(host_end.index, self.alias)?;
        let mut pod = self.netns.run(|| {
            self.set_sysctls()?;
            Ok::<_, VethError>(Links::connect()?)
        })??;
        let pod_index = self.configure_pod(&mut pod)?;
        Ok(Plugged { host_index: host_end.index, pod_index, pod })
    }

    /// The order matters: addresses before up, so that the first packet has its source; up before routes, which need it.
    fn configure_pod(&self, pod: &mut Links) -> Result<u32, VethError> {
        let vanished = || VethError::Vanished(self.ifname.into());
        let loopback = pod.get_link("lo")?.ok_or_else(vanished)?;
        pod.set_up(loopback.index)?;
        let index = pod.get_link(self.ifname)?.ok_or_else(vanished)?.index;
        for address in &self.interface.addresses {
            pod.add_address(index, *address)?;
        }
        pod.set_up(index)?;
        for gateway in &self.interface.gateways {
            // The gateway answers ARP and ND, but it never moves: nothing has to be asked, then or later.
            pod.add_neighbour(index, *gateway, self.interface.host_mac)?;
        }
        for route in self.routes(index) {
            pod.add_route(&route)?;
        }
        Ok(index)
    }

    /// Runs in the pod's network namespace. A kernel without IPv6 has none of these files, and needs none for IPv4.
    fn set_sysctls(&self) -> Result<(), VethError> {
        let directory = format!("/proc/sys/net/ipv6/conf/{}", self.ifname);
        let ipv6 = self.interface.addresses.iter().any(IpAddr::is_ipv6);
        if !ipv6 && !fs::exists(&directory).unwrap_or(false) {
            return Ok(());
        }
        // Nobody may configure the pod by router advertisements. Its link-local address is of no use, since the dataplane takes
        // packets from the pod's own address only; without one (mode 1) it does not try.
        let used: &[(&str, &str)] = &[("disable_ipv6", "0"), ("accept_ra", "0"), ("addr_gen_mode", "1")];
        // An IPv4 pod would send multicast listener reports that nobody takes.
        let unused: &[(&str, &str)] = &[("disable_ipv6", "1")];
        for (name, value) in if ipv6 { used } else { unused } {
            let path = format!("{directory}/{name}");
            fs::write(&path, value).map_err(|source| VethError::Sysctl { path, value, source })?;
        }
        Ok(())
    }

    /// The pod's routes; an IPv4 gateway needs a route of its own first.
    fn routes(&self, index: u32) -> Vec<Route> {
        let on_link =
            link_routes(self.interface).map(|destination| Route { destination, gateway: None, interface: index });
        let through = self.interface.routes.iter();
        let through = through.map(|route| Route {
            destination: route.destination,
            gateway: Some(route.gateway),
            interface: index,
        });
        on_link.chain(through).collect()
    }

    /// What is not as it should be, as sentences; empty if all is well.
    pub fn differences(&self, host: &mut Links) -> Result<Vec<String>, VethError> {
        let name = &self.interface.host_interface;
        let Some(host_end) = host.get_link(name)? else { return Ok(vec![format!("host interface {name} is missing")]) };
        let mut found = Vec::new();
        compare(&mut found, name, &host_end, self.interface.host_mac, None);
        let mut pod = self.netns.run(Links::connect)??;
        let Some(end) = pod.get_link(self.ifname)? else {
            found.push(format!("interface {} is missing in {}", self.ifname, self.netns_name()));
            return Ok(found);
        };
        compare(&mut found, self.ifname, &end, self.interface.mac, Some(self.interface.mtu));
        if end.peer != Some(host_end.index) {
            found.push(format!("the other end of interface {} is not {name}", self.ifname));
        }
        let addresses = pod.list_addresses(end.index)?;
        let present = |address: &IpAddr| addresses.iter().any(|found| found.address == *address);
        let missing = self.interface.addresses.iter().filter(|address| !present(address));
        found.extend(missing.map(|address| format!("interface {} lacks address {address}", self.ifname)));
        let routes = pod.list_routes()?;
        let missing = self.routes(end.index).into_iter().filter(|route| !routes.contains(route));
        found.extend(missing.map(|route| format!("route {route} ({}) is missing", self.ifname)));
        Ok(found)
    }

    fn netns_name(&self) -> String {
        self.netns.identity().path.display().to_string()
    }
}

/// Destinations that are on the pod's link: the IPv4 gateway. An IPv6 one is link-local, which needs no route.
pub fn link_routes(interface: &PodInterface) -> impl Iterator<Item = IpNet> + '_ {
    interface.gateways.iter().copied().filter(IpAddr::is_ipv4).map(IpNet::from)
}

/// Deletes the interface of this name in a pod, if it is an end of a veth. False if there is none.
pub fn remove_from_pod(netns: &OpenNetns, ifname: &str) -> Result<bool, VethError> {
    let mut pod = netns.run(Links::connect)??;
    match pod.get_link(ifname)? {
        Some(link) if link.veth => Ok(pod.delete_link(ifname)?),
        _ => Ok(false),
    }
}

fn compare(found: &mut Vec<String>, name: &str, link: &Link, mac: MacAddr, mtu: Option<u32>) {
    if !link.up {
        found.push(format!("interface {name} is down"));
    }
    if link.mac != Some(mac) {
        let actual = link.mac.map_or("none".into(), |mac| mac.to_string());
        found.push(format!("interface {name} has the Ethernet address {actual}, expected {mac}"));
    }
    if let Some(mtu) = mtu.filter(|mtu| *mtu != link.mtu) {
        found.push(format!("interface {name} has the MTU {}, expected {mtu}", link.mtu));
    }
}
