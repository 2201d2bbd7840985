use nix::sched::{CloneFlags, unshare};

use super::*;
use crate::config::{Host, Layers};
use crate::kernel::netlink::VxlanLink;

fn config() -> Config {
    let host = Host { name: Some("n1".to_owned()), local_ports: None };
    Config::from_layers(&Layers::default(), &host).unwrap()
}

fn node(subnets: &[&str], addresses: &[&str]) -> Node {
    Node {
        name: "n1".into(),
        subnets: subnets.iter().map(|subnet| subnet.parse().unwrap()).collect(),
        addresses: addresses.iter().map(|address| address.parse().unwrap()).collect(),
        ..Node::default()
    }
}

fn uplink(mtu: u32, addresses: &[&str]) -> Uplink {
    let addresses = addresses.iter().map(|address| address.parse().unwrap()).collect();
    Uplink { name: "up0".to_owned(), ifindex: 7, mtu, mac: [2, 0, 0, 0, 0, 1], addresses, running: true }
}

#[test]
fn wanted_follows_node_and_uplink() {
    // (subnets, node's addresses, uplink's addresses) → (MTU of a 1500 byte uplink, addresses, routes)
    type Row = (&'static [&'static str], &'static [&'static str], u32, &'static [&'static str], usize);
    let rows: [Row; 4] = [
        (&["10.128.2.0/23"], &["192.0.2.1"], 1450, &["10.128.2.1"], 1),
        (&["fd01:0:0:3::/64"], &["2001:db8::1"], 1430, &["fd01:0:0:3::1"], 1),
        (
            &["fd01:0:0:3::/64", "10.128.2.0/23"],
            &["192.0.2.1", "2001:db8::1"],
            1450,
            &["10.128.2.1", "fd01:0:0:3::1"],
            2,
        ),
        (&["10.128.2.0/23"], &["2001:db8::1"], 1430, &["10.128.2.1"], 1),
    ];
    for (subnets, addresses, mtu, own, routes) in rows {
        let nets: Vec<String> =
            addresses.iter().map(|a| if a.contains(':') { format!("{a}/64") } else { format!("{a}/24") }).collect();
        let nets: Vec<&str> = nets.iter().map(String::as_str).collect();
        let overlay = Overlay::wanted(&config(), &node(subnets, addresses), &uplink(1500, &nets)).unwrap();
        assert_eq!((overlay.mac, overlay.mtu, overlay.port), (wire::TUNNEL_DESTINATION, mtu, 4789), "{subnets:?}");
        assert_eq!(overlay.addresses.iter().map(ToString::to_string).collect::<Vec<_>>(), own);
        assert_eq!(overlay.routes.len(), routes, "{:?}", overlay.routes);
    }
    assert_eq!(Overlay::wanted(&config(), &node(&[], &["192.0.2.1"]), &uplink(1500, &["192.0.2.1/24"])), None);
    let configured = Config { tunnel: crate::config::Tunnel { port: 8472, mtu: Some(1400) }, ..config() };
    let overlay = Overlay::wanted(&configured, &node(&["10.128.2.0/23"], &[]), &uplink(9000, &[])).unwrap();
    assert_eq!((overlay.port, overlay.mtu), (8472, 1400));
}

/// Runs on a thread of its own in a new network namespace.
fn in_namespace<F: Future<Output = ()>>(test: impl FnOnce(Netlink) -> F + Send + 'static) {
    let thread = std::thread::spawn(|| {
        unshare(CloneFlags::CLONE_NEWNET).expect("a new network namespace needs root");
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async { test(Netlink::open().unwrap()).await });
    });
    if let Err(panic) = thread.join() {
        std::panic::resume_unwind(panic);
    }
}

#[test]
fn the_device_is_made_kept_and_repaired() {
    in_namespace(|netlink| async move {
        let (node, uplink) =
            (node(&["10.128.2.0/23", "fd01:0:0:3::/64"], &["192.0.2.1"]), uplink(1500, &["192.0.2.1/24"]));
        let wanted = Overlay::wanted(&config(), &node, &uplink).unwrap();
        let device = wanted.ensure(&netlink).await.unwrap();
        assert_eq!(wanted.ensure(&netlink).await.unwrap(), device, "a second time changes nothing");
        let link = netlink.find_link(DEVICE).await.unwrap().unwrap();
        assert_eq!((link.mtu, link.mac, link.up, link.no_arp), (1450, wanted.mac, true, true));
        let addresses = netlink.list_addresses(device.ifindex).await.unwrap();
        let mut shared_too = [wanted.addresses.clone(), wanted.shared.clone()].concat();
        shared_too.sort();
        let mut found: Vec<IpAddr> = addresses.iter().map(IpNet::addr).collect();
        found.sort();
        assert_eq!(found, shared_too, "its own, and those that every node has");
        assert_eq!(netlink.list_own_routes().await.unwrap().len(), 2);
        let rp_filter = std::fs::read_to_string("/proc/sys/net/ipv4/conf/culvert0/rp_filter").unwrap();
        assert_eq!(rp_filter.trim(), "0");

        // Another subnet, MTU and MAC: the same device.
        let mac = [0x0a, 0x58, 10, 128, 4, 1];
        let moved = Overlay {
            mtu: 1400,
            mac,
            ..Overlay::wanted(&config(), &self::node(&["10.128.4.0/23"], &[]), &uplink).unwrap()
        };
        assert_eq!(moved.ensure(&netlink).await.unwrap(), device);
        let link = netlink.find_link(DEVICE).await.unwrap().unwrap();
        assert_eq!((link.mtu, link.mac), (1400, mac));
        let addresses = netlink.list_addresses(device.ifindex).await.unwrap();
        let mut expected = ["10.128.4.1/32", "172.30.0.10/32"].map(|net| net.parse::<IpNet>().unwrap());
        expected.sort();
        let mut addresses = addresses;
        addresses.sort();
        assert_eq!(addresses, expected, "of the families that the node has");
        let routes = netlink.list_own_routes().await.unwrap();
        assert_eq!(routes.iter().map(|route| route.source).collect::<Vec<_>>(), [Some("10.128.4.1".parse().unwrap())]);

        // Another port: another device. And one that is no VXLAN device, or is gone.
        let other_port = Overlay { port: 4790, ..moved };
        let second = other_port.ensure(&netlink).await.unwrap();
        assert_ne!(second.ifindex, device.ifindex);
        let link = netlink.find_link(DEVICE).await.unwrap().unwrap();
        assert_eq!(link.vxlan, Some(VxlanLink { port: 4790, external: true, learning: false }));
        netlink.del_link(second.ifindex).await.unwrap();
        other_port.ensure(&netlink).await.unwrap();
    });
}

#[test]
fn changes_are_followed() {
    in_namespace(|netlink| async move {
        let (own, first) = (node(&["10.128.2.0/23"], &["192.0.2.1"]), uplink(1500, &["192.0.2.1/24"]));
        let (nodes, uplinks) = (watch::Sender::new(Arc::new(node(&[], &[]))), watch::Sender::new(first));
        let (changes, readiness) = (watch::Sender::new(()), Readiness::waiting_for(&["overlay"]));
        let keeper = OverlayKeeper {
            netlink: netlink.clone(),
            config: Arc::new(config()),
            node: nodes.subscribe(),
            uplink: uplinks.subscribe(),
            changes: changes.subscribe(),
            readiness: readiness.clone(),
            stage: "overlay",
        };
        let start = tokio::spawn(async move { keeper.start(&Tasks::new()).await });
        while readiness.waiting()["overlay"] != "the node has no host subnet" {
            tokio::task::yield_now().await;
        }
        nodes.send_replace(Arc::new(own));
        let mut device = start.await.unwrap();
        assert!(readiness.waiting().is_empty());
        uplinks.send_replace(uplink(9000, &["192.0.2.1/24"]));
        let deadline = tokio::time::Instant::now() + Duration::from_secs(10);
        while netlink.find_link(DEVICE).await.unwrap().unwrap().mtu != 8950 {
            assert!(tokio::time::Instant::now() < deadline, "the MTU does not follow the uplink's");
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        assert_eq!(device.borrow().ifindex, netlink.find_link(DEVICE).await.unwrap().unwrap().ifindex);

        // Somebody removes the device: it is made anew, and whoever watches hears of it.
        let lost = device.borrow().ifindex;
        netlink.del_link(lost).await.unwrap();
        changes.send_replace(());
        let found = device.wait_for(|device| device.ifindex != lost);
        tokio::time::timeout(Duration::from_secs(10), found).await.expect("the device is made anew").unwrap();
    });
}
