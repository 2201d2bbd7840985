//! The node's resolv.conf(5): who its administrator says knows the names outside.

use std::net::{IpAddr, SocketAddr, SocketAddrV6};

/// CoreDNS takes no more either.
const MAX_UPSTREAMS: usize = 15;
/// The port of DNS.
const PORT: u16 = 53;

/// What of the file matters here.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ResolvConf {
    /// `nameserver` lines, in their order.
    pub nameservers: Vec<SocketAddr>,
    /// The last `search` or `domain` line.
    pub search: Vec<String>,
}

impl ResolvConf {
    /// Reads the file's text. Lines that say nothing are passed over, as the C library does.
    pub fn parse(text: &str) -> Self {
        let mut found = Self::default();
        for line in text.lines().filter(|line| !line.starts_with(['#', ';'])) {
            let mut words = line.split_ascii_whitespace();
            match words.next() {
                Some("nameserver") => found.nameservers.extend(words.next().and_then(address)),
                Some("search") => found.search = words.map(str::to_owned).collect(),
                Some("domain") => found.search = words.take(1).map(str::to_owned).collect(),
                _ => {}
            }
        }
        found.nameservers.truncate(MAX_UPSTREAMS);
        found
    }
}

/// An address, which may name the link it is on: `fe80::1%eth0`, or by number.
fn address(text: &str) -> Option<SocketAddr> {
    let Some((address, link)) = text.split_once('%') else {
        return Some(SocketAddr::new(text.parse::<IpAddr>().ok()?, PORT));
    };
    let scope = link.parse().ok().or_else(|| nix::net::if_::if_nametoindex(link).ok())?;
    Some(SocketAddrV6::new(address.parse().ok()?, PORT, 0, scope).into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_read_as_the_c_library_reads_them() {
        for (text, nameservers, search) in [
            ("", &[][..], &[][..]),
            ("nameserver 192.0.2.1\n", &["192.0.2.1:53"][..], &[][..]),
            ("nameserver\t192.0.2.1  # ours\nnameserver 2001:db8::1", &["192.0.2.1:53", "[2001:db8::1]:53"], &[]),
            ("#nameserver 192.0.2.1\n;nameserver 192.0.2.2\n nameserver 192.0.2.3", &["192.0.2.3:53"], &[]),
            ("nameserver example.com\nnameserver\nnameserver 192.0.2.1", &["192.0.2.1:53"], &[]),
            ("nameserver fe80::1%lo", &["[fe80::1%1]:53"], &[]),
            ("nameserver fe80::1%7\nnameserver fe80::1%no-such-link", &["[fe80::1%7]:53"], &[]),
            ("search a.example b.example\nsearch c.example d.example\n", &[], &["c.example", "d.example"]),
            ("search a.example\ndomain b.example c.example\noptions ndots:5", &[], &["b.example"]),
        ] {
            let found = ResolvConf::parse(text);
            let addresses: Vec<String> = found.nameservers.iter().map(ToString::to_string).collect();
            assert_eq!(addresses, nameservers, "{text}");
            assert_eq!(found.search, search, "{text}");
        }
    }

    #[test]
    fn no_more_than_fifteen_are_taken() {
        let text: String = (1..=20).map(|host| format!("nameserver 192.0.2.{host}\n")).collect();
        let found = ResolvConf::parse(&text).nameservers;
        assert_eq!(found.len(), 15);
        assert_eq!(found[14].to_string(), "192.0.2.15:53");
    }
}
