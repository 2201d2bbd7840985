//! The PROXY protocol (HAProxy's doc/proxy-protocol.txt), versions 1 and 2: who the client is, from a load balancer that
//! stands before us, or for a pod that stands behind us.

use std::net::{IpAddr, SocketAddr};

use thiserror::Error;

use crate::config::ProxyVersion;

/// The most that a header may have. The protocol allows 64 KiB, for extensions that nobody has so many of.
pub const MAX_HEADER: usize = 4096;

/// What a header says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Proxied {
    /// The client and where it went. `None`: the balancer speaks for itself (LOCAL, UNKNOWN), so the connection's own
    /// addresses hold.
    pub addresses: Option<(SocketAddr, SocketAddr)>,
    /// Bytes that the header has.
    pub length: usize,
}

/// Why bytes are not a header.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum ProxyFault {
    /// It begins with something else.
    #[error("reading a PROXY header: the connection begins without one (is the balancer set to send it?)")]
    Missing,
    /// It begins well, and then has what it may not have.
    #[error("reading a PROXY header: it is malformed")]
    Malformed,
    /// More than [`MAX_HEADER`].
    #[error("reading a PROXY header: it has more than {MAX_HEADER} bytes")]
    TooLarge,
}

const V1: &[u8] = b"PROXY ";
const V2: &[u8] = b"\r\n\r\n\0\r\nQUIT\n";
/// The longest header of version 1.
const V1_MAX: usize = 107;
const V2_HEAD: usize = 16;

/// Reads the header that a connection begins with. `None`: not all of it is there yet.
pub fn read(bytes: &[u8]) -> Result<Option<Proxied>, ProxyFault> {
    let begins = |signature: &[u8]| bytes.iter().zip(signature).all(|(byte, expected)| byte == expected);
    if begins(V2) {
        if bytes.len() < V2_HEAD { Ok(None) } else { read_v2(bytes) }
    } else if begins(V1) {
        read_v1(bytes)
    } else {
        Err(ProxyFault::Missing)
    }
}

fn read_v1(bytes: &[u8]) -> Result<Option<Proxied>, ProxyFault> {
    let visible = &bytes[..bytes.len().min(V1_MAX)];
    let Some(end) = visible.iter().position(|byte| *byte == b'\n') else {
        return if visible.len() == V1_MAX { Err(ProxyFault::Malformed) } else { Ok(None) };
    };
    let line = std::str::from_utf8(&visible[..end]).ok().and_then(|line| line.strip_suffix('\r'));
    let words: Vec<_> = line.ok_or(ProxyFault::Malformed)?.split(' ').collect();
    let addresses = match words[..] {
        ["PROXY", "UNKNOWN", ..] => None,
        ["PROXY", family @ ("TCP4" | "TCP6"), source, destination, from, to] => {
            let address = |ip: &str, port| v1_address(ip, port).filter(|it| it.is_ipv4() == (family == "TCP4"));
            Some(address(source, from).zip(address(destination, to)).ok_or(ProxyFault::Malformed)?)
        }
        _ => return Err(ProxyFault::Malformed),
    };
    Ok(Some(Proxied { addresses, length: end + 1 }))
}

fn v1_address(ip: &str, port: &str) -> Option<SocketAddr> {
    let digits = port.bytes().all(|byte| byte.is_ascii_digit());
    Some(SocketAddr::new(ip.parse().ok()?, port.parse().ok().filter(|_| digits)?))
}

fn read_v2(bytes: &[u8]) -> Result<Option<Proxied>, ProxyFault> {
    let length = V2_HEAD + usize::from(u16::from_be_bytes([bytes[14], bytes[15]]));
    if bytes[12] >> 4 != 2 {
        return Err(ProxyFault::Malformed);
    }
    if length > MAX_HEADER {
        return Err(ProxyFault::TooLarge);
    }
    let Some(content) = bytes.get(V2_HEAD..length) else { return Ok(None) };
    let addresses = match (bytes[12] & 15, bytes[13]) {
        (0, _) => None,
        (1, 0x11) => Some(v2_addresses::<4, 12>(content).ok_or(ProxyFault::Malformed)?),
        (1, 0x21) => Some(v2_addresses::<16, 36>(content).ok_or(ProxyFault::Malformed)?),
        // Other families, and none: the connection's addresses hold.
        (1, _) => None,
        _ => return Err(ProxyFault::Malformed),
    };
    Ok(Some(Proxied { addresses, length }))
}

/// Two addresses of `N` bytes, then two ports.
fn v2_addresses<const N: usize, const ALL: usize>(content: &[u8]) -> Option<(SocketAddr, SocketAddr)>
where
    [u8; N]: Into<IpAddr>,
{
    let content: &[u8; ALL] = content.first_chunk()?;
    let ip = |at: usize| content[at..at + N].try_into().map(<[u8; N]>::into).ok();
    let port = |at: usize| u16::from_be_bytes([content[at], content[at + 1]]);
    Some((SocketAddr::new(ip(0)?, port(2 * N)), SocketAddr::new(ip(N)?, port(2 * N + 2))))
}

/// Appends the header that tells a pod about a client at `source` that went to `destination`.
pub fn write(out: &mut Vec<u8>, version: ProxyVersion, source: SocketAddr, destination: SocketAddr) {
    let (source, destination) = same_family(source, destination);
    match version {
        ProxyVersion::V1 => {
            let family = if source.is_ipv4() { "TCP4" } else { "TCP6" };
            let (from, to) = (source.port(), destination.port());
            let line = format!("PROXY {family} {} {} {from} {to}\r\n", source.ip(), destination.ip());
            out.extend_from_slice(line.as_bytes());
        }
        ProxyVersion::V2 => {
            out.extend_from_slice(V2);
            let (family, length) = if source.is_ipv4() { (0x11, 12) } else { (0x21, 36) };
            out.extend_from_slice(&[0x21, family, 0, length]);
            for address in [source, destination] {
                match address.ip() {
                    IpAddr::V4(ip) => out.extend_from_slice(&ip.octets()),
                    IpAddr::V6(ip) => out.extend_from_slice(&ip.octets()),
                }
            }
            out.extend_from_slice(&source.port().to_be_bytes());
            out.extend_from_slice(&destination.port().to_be_bytes());
        }
    }
}

/// Both as IPv4 if both are, mapped ones included; else both as IPv6.
fn same_family(source: SocketAddr, destination: SocketAddr) -> (SocketAddr, SocketAddr) {
    let (from, to) = (source.ip().to_canonical(), destination.ip().to_canonical());
    let wide = |ip: IpAddr| match ip {
        IpAddr::V4(ip) => IpAddr::V6(ip.to_ipv6_mapped()),
        IpAddr::V6(_) => ip,
    };
    let (from, to) = if from.is_ipv4() == to.is_ipv4() { (from, to) } else { (wide(from), wide(to)) };
    (SocketAddr::new(from, source.port()), SocketAddr::new(to, destination.port()))
}

#[cfg(test)]
mod tests;
