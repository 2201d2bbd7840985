//! ClientHellos of real clients (rustls'), cut up in every way, and bytes that are none.

use std::sync::Arc;

use proptest::{collection::vec, prelude::*, test_runner::Config};
use rustls::{ClientConfig, ClientConnection, RootCertStore, crypto::ring};

use super::*;

type Protocols = &'static [&'static [u8]];

/// What rustls sends first.
fn hello(name: &'static str, protocols: &[&[u8]]) -> Vec<u8> {
    let builder = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()));
    let builder = builder.with_safe_default_protocol_versions().unwrap();
    let mut config = builder.with_root_certificates(RootCertStore::empty()).with_no_client_auth();
    config.alpn_protocols = protocols.iter().map(|protocol| protocol.to_vec()).collect();
    let mut client = ClientConnection::new(Arc::new(config), name.try_into().unwrap()).unwrap();
    let mut bytes = Vec::new();
    client.write_tls(&mut bytes).unwrap();
    bytes
}

/// The same handshake message in records of `size` bytes.
fn refragment(hello: &[u8], size: usize) -> Vec<u8> {
    let header = |length: usize| [22, 3, 1, (length >> 8) as u8, length as u8];
    hello[5..].chunks(size).flat_map(|part| [&header(part.len())[..], part].concat()).collect()
}

#[test]
fn reads_names_and_protocols() {
    let cases: [(&'static str, Protocols, Option<&str>, bool); 5] = [
        ("a.example", &[b"h2", b"http/1.1"], Some("a.example"), true),
        ("A.Example", &[b"http/1.1"], Some("a.example"), false),
        ("a.example", &[], Some("a.example"), false),
        ("xn--bcher-kva.example", &[b"h2c"], Some("xn--bcher-kva.example"), false),
        // An address is not sent as a name.
        ("10.0.0.1", &[b"h2"], None, true),
    ];
    for (name, protocols, expected, offers_h2) in cases {
        let expected = ClientHello { name: expected.map(str::to_owned), offers_h2 };
        assert_eq!(read(&hello(name, protocols)), Ok(Some(expected)), "{name}");
    }
}

#[test]
fn waits_for_the_rest_however_it_is_cut() {
    let whole = hello("a.example", &[b"h2"]);
    let expected = read(&whole).unwrap();
    for at in 0..whole.len() {
        assert_eq!(read(&whole[..at]), Ok(None), "the first {at} bytes");
    }
    for size in [1, 2, 3, 5, 37, 100, whole.len()] {
        let records = refragment(&whole, size);
        assert_eq!(read(&records), Ok(expected.clone()), "records of {size} bytes");
        assert_eq!(read(&records[..records.len() - 1]), Ok(None), "records of {size} bytes, one missing");
    }
}

#[test]
fn refuses_what_is_none() {
    let whole = hello("a.example", &[]);
    let changed = |at: usize, value: u8| {
        let mut bytes = whole.clone();
        bytes[at] = value;
        read(&bytes)
    };
    assert_eq!(read(b"GET / HTTP/1.1\r\n\r\n"), Err(HelloFault::NotTls));
    assert_eq!(read(b"G"), Err(HelloFault::NotTls));
    assert_eq!(changed(1, 2), Err(HelloFault::NotTls));
    assert_eq!(changed(3, 0x7f), Err(HelloFault::Malformed), "a record beyond its limit");
    assert_eq!(changed(5, 2), Err(HelloFault::Malformed), "a ServerHello");
    assert_eq!(changed(6, 1), Err(HelloFault::TooLarge));
    assert_eq!(changed(5 + 4 + 34, 255), Err(HelloFault::Malformed), "a session that is longer than all");
    // A message that says it is 16 KiB long, and never ends.
    let mut endless = vec![22, 3, 1, 0x40, 0, 1, 0, 0x40, 0];
    endless.resize(MAX_HELLO - 1, 0);
    assert_eq!(read(&endless), Ok(None));
    endless.push(0);
    assert_eq!(read(&endless), Err(HelloFault::TooLarge));
}

proptest! {
    #![proptest_config(Config::with_cases(2000))]

    #[test]
    fn survives_foreign_bytes(bytes in vec(any::<u8>(), 0..200)) {
        let _ = read(&bytes);
        // Behind a head that lets them pass.
        let length = bytes.len() as u8;
        let _ = read(&[&[22, 3, 1, 0, length.saturating_add(4), 1, 0, 0, length][..], &bytes].concat());
    }

    #[test]
    fn survives_changed_bytes(changes in vec((any::<prop::sample::Index>(), any::<u8>()), 1..8), cut in any::<prop::sample::Index>()) {
        let mut bytes = hello("a.example", &[b"h2", b"http/1.1"]);
        for (at, value) in changes {
            let at = at.index(bytes.len());
            bytes[at] = value;
        }
        let _ = read(&bytes[..cut.index(bytes.len())]);
        let _ = read(&bytes);
    }
}
