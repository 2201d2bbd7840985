use sdn_common::{Addr4, Address, Be16, DropKey, Hook, Reason};

use super::*;
use crate::admin::api::Direction;

fn event() -> Event {
    Event {
        key: DropKey {
            reason: Reason::SpoofedAddress as u16,
            direction: sdn_common::Direction::Egress as u8,
            hook: Hook::PodOut as u8,
            endpoint: 17,
            ..DropKey::default()
        },
        source: Addr4::new([10, 9, 9, 9]).mapped(),
        destination: Addr4::new([10, 128, 2, 2]).mapped(),
        source_port: Be16::new(4000),
        destination_port: Be16::new(80),
        len: 74,
        ethertype: Be16::new(0x0800),
        protocol: 6,
        _pad: [0; 5],
    }
}

#[test]
fn an_event_is_told_in_words() {
    let names = Names::default();
    names.add(17, "shop/cart".to_owned());
    let told = describe(&event(), &names);
    assert!(told.time_ms > 1_700_000_000_000);
    let expected = DropEvent {
        time_ms: told.time_ms,
        reason: "spoofed_address".to_owned(),
        endpoint: "shop/cart".to_owned(),
        direction: Direction::Egress,
        source: Some("10.9.9.9".parse().unwrap()),
        destination: Some("10.128.2.2".parse().unwrap()),
        protocol: "tcp".to_owned(),
        source_port: Some(4000),
        destination_port: Some(80),
        length: 74,
        author: None,
    };
    assert_eq!(told, expected);
    let unparsed = Event { source: Addr6::default(), destination: Addr6::default(), source_port: Be16(0), ..event() };
    let told = describe(&unparsed, &names);
    assert_eq!((told.source, told.destination, told.source_port), (None, None, None));
}

#[test]
fn protocols_have_names() {
    let rows = [
        (0x0800, 17, "udp"),
        (0x0800, 1, "icmp"),
        (0x86dd, 58, "icmpv6"),
        (0x86dd, 132, "sctp"),
        (0x0800, 89, "89"),
        (0x0806, 0, "arp"),
        (0x88cc, 0, "ethertype 0x88cc"),
    ];
    for (ethertype, number, name) in rows {
        let event = Event { ethertype: Be16::new(ethertype), protocol: number, ..event() };
        assert_eq!(protocol(&event), name);
    }
}

#[test]
fn records_are_counted_listened_to_or_not() {
    let events = Events { sender: broadcast::Sender::new(4), seen: Arc::default() };
    let names = Names::default();
    events.take(raw::bytes_of(&event()), &names);
    events.take(&[0; 10], &names);
    assert_eq!(events.seen(), 1, "what is cut short is no event");
    let mut listener = events.subscribe();
    events.take(raw::bytes_of(&event()), &names);
    assert_eq!(events.seen(), 2);
    assert_eq!(listener.try_recv().unwrap().endpoint, "interface 17 (gone)");
}
