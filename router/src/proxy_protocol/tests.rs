//! Headers of both versions: rows, what is written is read back, and foreign bytes.

use proptest::{collection::vec, prelude::*, test_runner::Config};

use super::*;

type Addresses = Option<(SocketAddr, SocketAddr)>;

fn pair(source: &str, destination: &str) -> Option<(SocketAddr, SocketAddr)> {
    Some((source.parse().unwrap(), destination.parse().unwrap()))
}

fn v2(command: u8, family: u8, content: &[u8]) -> Vec<u8> {
    [V2, &[command, family, (content.len() >> 8) as u8, content.len() as u8], content].concat()
}

#[test]
fn reads_rows() {
    let v4 = [10, 0, 0, 1, 10, 0, 0, 2, 0x30, 0x39, 0, 80];
    let v6 = [&[0xfd, 0][..], &[0; 13], &[1], &[0xfd, 0], &[0; 13], &[2], &[0x30, 0x39, 0, 80]].concat();
    let client = || pair("10.0.0.1:12345", "10.0.0.2:80");
    let with_extension = [&v4[..], &[4, 0, 2, 1, 2]].concat();
    let rows: Vec<(Vec<u8>, Result<Addresses, ProxyFault>)> = vec![
        (b"PROXY TCP4 10.0.0.1 10.0.0.2 12345 80\r\n".into(), Ok(client())),
        (b"PROXY TCP6 fd00::1 fd00::2 12345 80\r\n".into(), Ok(pair("[fd00::1]:12345", "[fd00::2]:80"))),
        (b"PROXY UNKNOWN\r\n".into(), Ok(None)),
        (b"PROXY UNKNOWN fd00::1 fd00::2 1 2\r\n".into(), Ok(None)),
        (b"PROXY TCP4 fd00::1 fd00::2 1 2\r\n".into(), Err(ProxyFault::Malformed)),
        (b"PROXY TCP4 10.0.0.1 10.0.0.2 +1 80\r\n".into(), Err(ProxyFault::Malformed)),
        (b"PROXY TCP4 10.0.0.1 10.0.0.2 65536 80\r\n".into(), Err(ProxyFault::Malformed)),
        (b"PROXY TCP4 10.0.0.1  10.0.0.2 1 80\r\n".into(), Err(ProxyFault::Malformed)),
        (b"PROXY TCP4 10.0.0.1 10.0.0.2 1 80\n".into(), Err(ProxyFault::Malformed)),
        (b"PROXY UDP4 10.0.0.1 10.0.0.2 1 80\r\n".into(), Err(ProxyFault::Malformed)),
        ([&b"PROXY "[..], &[b'x'; V1_MAX]].concat(), Err(ProxyFault::Malformed)),
        (b"GET / HTTP/1.1\r\n".into(), Err(ProxyFault::Missing)),
        (b"\x16\x03\x01".into(), Err(ProxyFault::Missing)),
        (v2(0x21, 0x11, &v4), Ok(client())),
        (v2(0x21, 0x21, &v6), Ok(pair("[fd00::1]:12345", "[fd00::2]:80"))),
        (v2(0x21, 0x11, &with_extension), Ok(client())),
        (v2(0x20, 0, &[]), Ok(None)),
        (v2(0x20, 0x11, &v4), Ok(None)),
        (v2(0x21, 0x31, &[0; 216]), Ok(None)),
        (v2(0x21, 0x11, &v4[..11]), Err(ProxyFault::Malformed)),
        (v2(0x22, 0x11, &v4), Err(ProxyFault::Malformed)),
        (v2(0x11, 0x11, &v4), Err(ProxyFault::Malformed)),
        (v2(0x21, 0x11, &[0; MAX_HEADER]), Err(ProxyFault::TooLarge)),
    ];
    for (bytes, expected) in rows {
        let found = read(&bytes);
        let shown = String::from_utf8_lossy(&bytes);
        assert_eq!(found.map(|found| found.and_then(|found| found.addresses)), expected, "{shown:?}");
        if expected.is_ok() {
            assert_eq!(found.unwrap().unwrap().length, bytes.len(), "{shown:?}");
            for at in 0..bytes.len() {
                assert_eq!(read(&bytes[..at]), Ok(None), "{shown:?}, the first {at} bytes");
            }
        }
    }
}

fn address() -> impl Strategy<Value = SocketAddr> {
    prop_oneof![
        any::<([u8; 4], u16)>().prop_map(|(ip, port)| SocketAddr::new(ip.into(), port)),
        any::<([u8; 16], u16)>().prop_map(|(ip, port)| SocketAddr::new(ip.into(), port)),
    ]
}

proptest! {
    #![proptest_config(Config::with_cases(2000))]

    #[test]
    fn reads_what_it_writes(source in address(), destination in address(), rest in vec(any::<u8>(), 0..20)) {
        for version in [ProxyVersion::V1, ProxyVersion::V2] {
            let mut bytes = Vec::new();
            write(&mut bytes, version, source, destination);
            let length = bytes.len();
            bytes.extend_from_slice(&rest);
            let found = read(&bytes).unwrap().unwrap();
            prop_assert_eq!(found.length, length);
            let (from, to) = found.addresses.unwrap();
            prop_assert_eq!((from.ip().to_canonical(), from.port()), (source.ip().to_canonical(), source.port()));
            prop_assert_eq!((to.ip().to_canonical(), to.port()), (destination.ip().to_canonical(), destination.port()));
        }
    }

    #[test]
    fn survives_foreign_bytes(bytes in vec(any::<u8>(), 0..120)) {
        let _ = read(&bytes);
        let _ = read(&[V2, &bytes].concat());
        let _ = read(&[V1, &bytes].concat());
    }
}
