//! The verbs in network namespaces of their own. `ip` and a human would see the same.

use std::future::Future;
use std::net::{IpAddr, UdpSocket};
use std::time::Duration;

use ipnet::IpNet;
use nix::sched::{CloneFlags, unshare};
use rtnetlink::LinkVeth;

use super::*;
use crate::kernel::sysctl;

/// Runs a test on a thread of its own in a new network namespace, which is gone with the thread.
fn in_namespace<F: Future<Output = ()>>(test: impl FnOnce(Netlink) -> F + Send + 'static) {
    let thread = std::thread::spawn(|| {
        unshare(CloneFlags::CLONE_NEWNET).expect("a new network namespace needs root");
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let netlink = Netlink::open().unwrap();
            test(netlink).await;
        });
    });
    if let Err(panic) = thread.join() {
        std::panic::resume_unwind(panic);
    }
}

fn net(text: &str) -> IpNet {
    text.parse().unwrap()
}

fn ip(text: &str) -> IpAddr {
    text.parse().unwrap()
}

/// A veth pair, both ends up, in the test's namespace.
async fn add_veth(netlink: &Netlink, name: &str, peer: &str) -> u32 {
    netlink.handle.link().add(LinkVeth::new(name, peer).build()).execute().await.unwrap();
    for name in [peer, name] {
        let link = netlink.find_link(name).await.unwrap().unwrap();
        netlink.set_link_up(link.ifindex).await.unwrap();
    }
    netlink.find_link(name).await.unwrap().unwrap().ifindex
}

async fn add_default_route(netlink: &Netlink, ifindex: u32, metric: u32, destination: IpNet) {
    let mut message = super::route::message(&Route { destination, ifindex, source: None });
    message.attributes.push(rtnetlink::packet_route::route::RouteAttribute::Priority(metric));
    netlink.handle.route().add(message).execute().await.unwrap();
}

#[test]
fn vxlan_devices_are_made_as_asked() {
    in_namespace(|netlink| async move {
        let mac = [0x0a, 0x58, 10, 128, 1, 1];
        assert_eq!(netlink.find_link("culvert0").await.unwrap(), None);
        netlink.add_vxlan("culvert0", 4790, mac, 1450).await.unwrap();
        let link = netlink.find_link("culvert0").await.unwrap().unwrap();
        assert_eq!(link.kind.as_deref(), Some("vxlan"));
        assert_eq!(link.vxlan, Some(VxlanLink { port: 4790, external: true, learning: false }));
        assert_eq!((link.mac, link.mtu, link.up, link.no_arp), (mac, 1450, false, true));

        sysctl::write_overlay("culvert0", true).unwrap();
        netlink.set_link_up(link.ifindex).await.unwrap();
        netlink.set_link_mtu(link.ifindex, 1430).await.unwrap();
        netlink.set_link_mac(link.ifindex, [0x0a, 0x58, 10, 128, 2, 1]).await.unwrap();
        let link = netlink.find_link("culvert0").await.unwrap().unwrap();
        assert_eq!((link.mac[4], link.mtu, link.up, link.no_arp), (2, 1430, true, true));
        assert_eq!(netlink.list_links().await.unwrap().iter().filter(|other| **other == link).count(), 1);

        let error = netlink.add_vxlan("culvert0", 4791, mac, 1450).await.unwrap_err();
        assert!(matches!(error, NetlinkError::Refused { errno: Errno::EEXIST, .. }), "{error}");
        netlink.del_link(link.ifindex).await.unwrap();
        netlink.del_link(link.ifindex).await.expect("what is gone is gone");
        assert_eq!(netlink.find_link("culvert0").await.unwrap(), None);
    });
}

#[test]
fn a_taken_port_is_named() {
    in_namespace(|netlink| async move {
        let _taken = UdpSocket::bind("0.0.0.0:4789").unwrap();
        netlink.add_vxlan("culvert0", 4789, [2, 0, 0, 0, 0, 1], 1450).await.unwrap();
        let link = netlink.find_link("culvert0").await.unwrap().unwrap();
        let error = netlink.set_link_up(link.ifindex).await.unwrap_err().to_string();
        assert!(error.contains("EADDRINUSE") && error.contains("UDP port"), "{error}");
    });
}

#[test]
fn addresses_and_routes_come_and_go() {
    in_namespace(|netlink| async move {
        netlink.add_vxlan("culvert0", 4789, [0x0a, 0x58, 10, 128, 1, 1], 1450).await.unwrap();
        let ifindex = netlink.find_link("culvert0").await.unwrap().unwrap().ifindex;
        sysctl::write_overlay("culvert0", true).unwrap();
        netlink.set_link_up(ifindex).await.unwrap();
        let wanted = [net("10.128.1.1/32"), net("fd01:0:0:1::1/128")];
        for address in [wanted[1], wanted[0], wanted[0]] {
            netlink.add_address(ifindex, address).await.unwrap();
        }
        assert_eq!(
            netlink.list_addresses(ifindex).await.unwrap(),
            wanted,
            "usable at once, IPv4 first, no link-local one"
        );
        assert_eq!(netlink.list_addresses(1).await.unwrap(), [], "loopback is down");

        let routes = [
            Route { destination: net("10.128.0.0/14"), ifindex, source: Some(ip("10.128.1.1")) },
            Route { destination: net("fd01::/48"), ifindex, source: Some(ip("fd01:0:0:1::1")) },
        ];
        for route in routes.iter().chain(&routes) {
            netlink.replace_route(route).await.unwrap();
        }
        assert_eq!(netlink.list_own_routes().await.unwrap(), routes);
        // What the kernel makes of it: packets for the cluster leave by culvert0 with the node's address.
        for (destination, source) in [("10.130.7.9", "10.128.1.1"), ("fd01:0:0:9::9", "fd01:0:0:1::1")] {
            let socket =
                UdpSocket::bind((if destination.contains(':') { ip("::") } else { ip("0.0.0.0") }, 0)).unwrap();
            socket.connect((ip(destination), 9)).unwrap();
            assert_eq!(socket.local_addr().unwrap().ip(), ip(source));
        }
        for route in routes.iter().chain(&routes) {
            netlink.del_route(route).await.unwrap();
        }
        assert_eq!(netlink.list_own_routes().await.unwrap(), []);
        for address in wanted.into_iter().chain(wanted) {
            netlink.del_address(ifindex, address).await.unwrap();
        }
        assert_eq!(netlink.list_addresses(ifindex).await.unwrap(), []);
        let error = netlink.add_address(4711, wanted[0]).await.unwrap_err().to_string();
        assert!(error.starts_with("add address 10.128.1.1/32 to device 4711: ENODEV"), "{error}");
    });
}

#[test]
fn the_uplink_is_the_default_routes_device_and_is_followed() {
    in_namespace(|netlink| async move {
        let first = add_veth(&netlink, "up0", "far0").await;
        let second = add_veth(&netlink, "up1", "far1").await;
        netlink.add_address(first, net("192.168.9.1/24")).await.unwrap();
        netlink.add_address(second, net("192.168.8.1/24")).await.unwrap();

        let (told, mut why) = tokio::sync::mpsc::unbounded_channel();
        let follow = tokio::spawn(follow_uplink(None, move |reason| told.send(reason.to_owned()).unwrap()));
        let reason = why.recv().await.unwrap();
        assert!(reason.contains("no default route"), "{reason}");
        add_default_route(&netlink, first, 200, net("0.0.0.0/0")).await;
        let (mut following, task) = follow.await.unwrap().unwrap();
        tokio::spawn(task);
        let uplink = following.uplink.borrow().clone();
        assert_eq!((uplink.name.as_str(), uplink.ifindex, uplink.mtu), ("up0", first, 1500));
        assert_eq!(uplink.addresses, [net("192.168.9.1/24")]);
        assert!(uplink.has(ip("192.168.9.1")) && !uplink.has(ip("192.168.9.2")));

        netlink.set_link_mtu(first, 9000).await.unwrap();
        changed(&mut following, |uplink| uplink.mtu == 9000).await;
        netlink.add_address(first, net("fd00:9::1/64")).await.unwrap();
        changed(&mut following, |uplink| uplink.addresses.len() == 2).await;
        add_default_route(&netlink, second, 100, net("0.0.0.0/0")).await;
        changed(&mut following, |uplink| uplink.name == "up1").await;

        netlink.del_link(second).await.unwrap();
        changed(&mut following, |uplink| uplink.name == "up0").await;
        netlink.del_link(first).await.unwrap();
        tokio::time::timeout(DEADLINE, following.problem.wait_for(Option::is_some)).await.unwrap().unwrap();
        assert_eq!(following.uplink.borrow().name, "up0", "the last one known stays");
        following.changes.mark_unchanged();
        netlink.add_vxlan("culvert0", 4789, [2, 0, 0, 0, 0, 1], 1450).await.unwrap();
        tokio::time::timeout(DEADLINE, following.changes.changed()).await.expect("other devices are reported").unwrap();
    });
}

#[test]
fn a_configured_uplink_needs_no_route() {
    in_namespace(|netlink| async move {
        let first = add_veth(&netlink, "up0", "far0").await;
        let second = add_veth(&netlink, "up1", "far1").await;
        netlink.add_address(first, net("fd00:9::1/64")).await.unwrap();
        netlink.add_address(second, net("fd00:8::1/64")).await.unwrap();
        add_default_route(&netlink, first, 1, net("::/0")).await;
        let (told, mut why) = tokio::sync::mpsc::unbounded_channel();
        let configured = follow_uplink(Some("later0".to_owned()), move |reason| told.send(reason.to_owned()).unwrap());
        let configured = tokio::spawn(configured);
        assert_eq!(why.recv().await.unwrap(), "there is no device later0 (setting uplink)");
        configured.abort();
        let (following, _) = follow_uplink(Some("up1".to_owned()), |why| panic!("{why}")).await.unwrap();
        assert_eq!(following.uplink.borrow().ifindex, second);
        let (by_route, _) = follow_uplink(None, |why| panic!("{why}")).await.unwrap();
        assert_eq!(by_route.uplink.borrow().ifindex, first, "an IPv6-only node has an IPv6 default route");
    });
}

const DEADLINE: Duration = Duration::from_secs(10);

async fn changed(following: &mut Following, wanted: impl FnMut(&Uplink) -> bool) {
    tokio::time::timeout(DEADLINE, following.uplink.wait_for(wanted)).await.expect("the change is noticed").unwrap();
}

#[test]
fn pods_veths_are_no_reason_to_look() {
    use rtnetlink::packet_core::NetlinkPayload;
    use rtnetlink::packet_route::RouteNetlinkMessage;
    use rtnetlink::packet_route::address::AddressMessage;

    let named = |name: &str| {
        let mut message = LinkMessage::default();
        message.attributes.push(LinkAttribute::IfName(name.to_owned()));
        message
    };
    for (name, pods) in [("cv0123456789ab", true), ("culvert0", false), ("cv0", false), ("cv0123456789zz", false)] {
        let came = NetlinkPayload::InnerMessage(RouteNetlinkMessage::NewLink(named(name)));
        let went = NetlinkPayload::InnerMessage(RouteNetlinkMessage::DelLink(named(name)));
        assert_eq!([super::uplink::is_of_pod(&came), super::uplink::is_of_pod(&went)], [pods; 2], "{name}");
    }
    let address = NetlinkPayload::InnerMessage(RouteNetlinkMessage::NewAddress(AddressMessage::default()));
    assert!(!super::uplink::is_of_pod(&address));
    let attachment = sdn_cni::Attachment { container_id: "c".to_owned(), ifname: "eth0".to_owned() };
    let message = named(&sdn_cni::protocol::host_interface_name(&attachment));
    assert!(super::uplink::is_of_pod(&NetlinkPayload::InnerMessage(RouteNetlinkMessage::NewLink(message))));
}
