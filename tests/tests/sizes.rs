//! Packets of all sizes: what fits, what is cut into fragments, what is too big for the tunnel, and streams of many bytes.

use std::io::{Read as _, Write as _};
use std::net::{IpAddr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::thread;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use sdn_lab::sandbox::Sandbox;
use sdn_lab::{Family, IpFamily, Lab, PodSpec};

const PATIENCE: Duration = Duration::from_secs(10);

/// Bytes that go through a connection in each direction.
const BULK: usize = 8 << 20;

/// Sizes of datagrams in bytes: around what fits into one packet of 1450 or 1430 bytes, and far beyond.
const DATAGRAMS: [usize; 9] = [0, 1, 1200, 1381, 1382, 1422, 1423, 4000, 60_000];

fn start(name: &str, family: Family, underlay_mtu: u32) -> Lab {
    let pods = [("a", "node-1"), ("b", "node-1"), ("c", "node-2")];
    let lab = Lab::builder(name).nodes(2).family(family).underlay_mtu(underlay_mtu);
    pods.into_iter()
        .fold(lab, |lab, (name, node)| lab.pod(PodSpec::new(name).on(node)))
        .start()
        .expect("the lab comes up")
}

/// Sends datagrams of all sizes to `target`, an address of `to`, which sends them back.
fn echo_datagrams(from: &Sandbox, to: &Sandbox, target: IpAddr) -> Result<()> {
    let server = to.within(|| Ok(UdpSocket::bind(SocketAddr::new(target, 0))?))?;
    let port = server.local_addr()?;
    let client = from.within(|| {
        let any: IpAddr = if target.is_ipv4() { [0, 0, 0, 0].into() } else { [0u16; 8].into() };
        let client = UdpSocket::bind((any, 0))?;
        client.connect(port)?;
        Ok(client)
    })?;
    for socket in [&server, &client] {
        socket.set_read_timeout(Some(PATIENCE))?;
    }
    let mut buffer = vec![0; 65_536];
    for (number, size) in DATAGRAMS.into_iter().enumerate() {
        let sent: Vec<u8> = (0..size).map(|at| (at + number) as u8).collect();
        client.send(&sent).with_context(|| format!("send {size} bytes to {target}"))?;
        let (length, back) = server.recv_from(&mut buffer).with_context(|| format!("{size} bytes to {target}"))?;
        server.send_to(&buffer[..length], back)?;
        let length = client.recv(&mut buffer).with_context(|| format!("{size} bytes back from {target}"))?;
        ensure!(buffer[..length] == sent, "{size} bytes to {target} came back otherwise");
    }
    Ok(())
}

/// Sends many bytes over one connection, both ways at once.
fn exchange_bulk(from: &Sandbox, to: &Sandbox, target: IpAddr) -> Result<()> {
    let listener = to.within(|| Ok(TcpListener::bind(SocketAddr::new(target, 0))?))?;
    let port = listener.local_addr()?;
    let client = from.within(|| Ok(TcpStream::connect_timeout(&port, PATIENCE)?))?;
    let (server, _) = listener.accept()?;
    thread::scope(|scope| {
        let ends: Vec<_> = [&client, &server]
            .into_iter()
            .flat_map(|end| [scope.spawn(move || send_bulk(end)), scope.spawn(move || receive_bulk(end))])
            .collect();
        ends.into_iter().try_for_each(|end| end.join().expect("no thread of this test panics"))
    })
    .with_context(|| format!("exchange {BULK} bytes with {target}"))
}

fn send_bulk(mut end: &TcpStream) -> Result<()> {
    end.set_write_timeout(Some(PATIENCE))?;
    let part: Vec<u8> = (0..=255).cycle().take(64 << 10).collect();
    (0..BULK / part.len()).try_for_each(|_| end.write_all(&part))?;
    Ok(end.shutdown(std::net::Shutdown::Write)?)
}

fn receive_bulk(mut end: &TcpStream) -> Result<()> {
    end.set_read_timeout(Some(PATIENCE))?;
    let (mut part, mut received) = (vec![0; 64 << 10], 0);
    loop {
        let length = end.read(&mut part)?;
        if length == 0 {
            ensure!(received == BULK, "{received} of {BULK} bytes came");
            return Ok(());
        }
        let right = part[..length].iter().enumerate().all(|(at, byte)| usize::from(*byte) == (received + at) % 256);
        ensure!(right, "bytes after {received} came otherwise");
        received += length;
    }
}

/// All sizes within a node, across nodes and to the node itself.
fn assert_all_sizes(name: &str, family: Family, underlay_mtu: u32) -> Result<()> {
    let lab = start(name, family, underlay_mtu);
    let [a, b, c] = ["a", "b", "c"].map(|name| lab.pod(name).expect("the pod is there"));
    let from = a.sandbox()?;
    let pods = [&b, &c].map(|pod| anyhow::Ok((pod.sandbox()?, pod.addresses())));
    let node = lab.node("node-2")?;
    let nodes = [Ok((node.sandbox().clone(), node.addresses().to_vec()))];
    for target in pods.into_iter().chain(nodes) {
        let (to, addresses) = target?;
        for address in addresses {
            echo_datagrams(&from, &to, address)?;
            exchange_bulk(&from, &to, address)?;
        }
    }
    // Masqueraded: the outside has no stand-in for this, and answers only the node.
    for family in family.each().iter().copied() {
        let outside = lab.outside();
        echo_datagrams(&from, outside.sandbox(), outside.address(family))?;
        exchange_bulk(&from, outside.sandbox(), outside.address(family))?;
    }
    Ok(())
}

#[test]
fn on_an_ordinary_underlay() -> Result<()> {
    assert_all_sizes("sizes-dual", Family::Dual, 1500)
}

#[test]
fn on_an_ipv6_underlay() -> Result<()> {
    assert_all_sizes("sizes-v6", Family::V6, 1500)
}

#[test]
fn on_an_underlay_of_large_frames() -> Result<()> {
    assert_all_sizes("sizes-large", Family::V4, 9000)
}

#[test]
fn pods_have_the_tunnels_mtu() -> Result<()> {
    for (family, underlay, expected) in [(Family::Dual, 1500, 1450), (Family::V6, 1500, 1430), (Family::V4, 9000, 8950)]
    {
        let lab = start("sizes-mtu", family, underlay);
        let link = lab.pod("a")?.run(["ip", "-o", "link", "show", "eth0"])?;
        assert!(link.contains(&format!(" mtu {expected} ")), "{family:?} over {underlay}: {link}");
        let [own, other] = ["a", "c"].map(|name| lab.pod(name).expect("the pod is there"));
        assert_eq!(own.addresses().len(), family.each().len());
        assert_eq!(other.address(IpFamily::V4).is_some(), family != Family::V6);
    }
    Ok(())
}
