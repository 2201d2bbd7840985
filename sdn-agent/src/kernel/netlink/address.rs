//! `ip address`

use std::net::IpAddr;

use futures_util::TryStreamExt;
use ipnet::IpNet;
use nix::errno::Errno;
use rtnetlink::packet_route::address::{
    AddressAttribute, AddressFlags, AddressHeaderFlags, AddressMessage, AddressScope,
};

use super::{Netlink, NetlinkError, absent_is_done, failed};

impl Netlink {
    /// `ip address show dev INDEX scope global`, without those that are not to be used: tentative, duplicate or deprecated ones, and
    /// temporary ones of IPv6 privacy extensions, which no other node could know.
    pub async fn list_addresses(&self, ifindex: u32) -> Result<Vec<IpNet>, NetlinkError> {
        // The index is compared here too: the kernel filters only for sockets that ask for strict checks.
        let request = self.handle.address().get().set_link_index_filter(ifindex);
        let messages: Result<Vec<AddressMessage>, _> = request.execute().try_collect().await;
        let messages = messages.map_err(|error| failed(format!("list addresses of device {ifindex}"), error))?;
        let mut addresses: Vec<IpNet> =
            messages.iter().filter(|message| message.header.index == ifindex).filter_map(usable_address).collect();
        // Stable: within a family the kernel's order stays, and the first one is the primary address.
        addresses.sort_by_key(|address| matches!(address, IpNet::V6(_)));
        Ok(addresses)
    }

    /// `ip address add ADDRESS dev INDEX nodad`; one that is there is no error.
    pub async fn add_address(&self, ifindex: u32, address: IpNet) -> Result<(), NetlinkError> {
        let mut request = self.handle.address().add(ifindex, address.addr(), address.prefix_len()).replace();
        if address.addr().is_ipv6() {
            request.message_mut().header.flags |= AddressHeaderFlags::Nodad;
        }
        let added = request.execute().await;
        added.map_err(|error| failed(format!("add address {address} to device {ifindex}"), error))
    }

    /// `ip address del ADDRESS dev INDEX`; one that is gone is no error.
    pub async fn del_address(&self, ifindex: u32, address: IpNet) -> Result<(), NetlinkError> {
        let mut message = AddressMessage::default();
        message.header.index = ifindex;
        message.header.prefix_len = address.prefix_len();
        message.header.family = super::route::family(address.addr());
        message.attributes.push(AddressAttribute::Local(address.addr()));
        let deleted = self.handle.address().del(message).execute().await;
        absent_is_done(deleted, || format!("delete address {address} of device {ifindex}"), Errno::EADDRNOTAVAIL)
    }
}

fn usable_address(message: &AddressMessage) -> Option<IpNet> {
    if message.header.scope != AddressScope::Universe {
        return None;
    }
    let (mut local, mut address, mut flags) = (None, None, AddressFlags::empty());
    for attribute in &message.attributes {
        match attribute {
            AddressAttribute::Local(ip) => local = Some(*ip),
            AddressAttribute::Address(ip) => address = Some(*ip),
            AddressAttribute::Flags(all) => flags = *all,
            _ => {}
        }
    }
    let unusable = AddressFlags::Tentative | AddressFlags::Dadfailed | AddressFlags::Deprecated;
    // On IPv4 the bit of "temporary" means "secondary", which is as good as any.
    let ip: IpAddr = local.or(address)?;
    let temporary = ip.is_ipv6() && flags.contains(AddressFlags::Secondary);
    if flags.intersects(unusable) || temporary {
        return None;
    }
    IpNet::new(ip, message.header.prefix_len).ok()
}
