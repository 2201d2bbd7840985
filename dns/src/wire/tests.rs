use super::*;
use crate::testing::query;
use hickory_proto::{
    op::{Edns as HickoryEdns, Message},
    serialize::binary::BinEncodable,
};
use proptest::prelude::*;

fn bytes(name: &str, rtype: &str) -> Vec<u8> {
    query(name, rtype).to_bytes().unwrap()
}

/// A query as a client without EDNS sends it.
fn plain(name: &str) -> Vec<u8> {
    let mut message = query(name, "A");
    message.edns = None;
    message.to_bytes().unwrap()
}

/// What parsing says of a message.
fn said(message: &[u8]) -> Option<u16> {
    match parse(message) {
        Parsed::Query(_) => Some(rcode::NOERROR),
        Parsed::Fail { rcode, .. } => Some(rcode),
        Parsed::Drop => None,
    }
}

fn with(message: &[u8], change: impl FnOnce(&mut Vec<u8>)) -> Vec<u8> {
    let mut changed = message.to_vec();
    change(&mut changed);
    changed
}

/// The same message with a TSIG record, whose key nobody has.
fn signed(message: &[u8]) -> Vec<u8> {
    with(message, |m| {
        m[11] = 1;
        // The key's name, TSIG, ANY, TTL, length; algorithm, time, fudge, no MAC, the id, no error, nothing else.
        m.extend(b"\x03key\x00\x00\xfa\x00\xff\x00\x00\x00\x00\x00\x1d");
        m.extend(b"\x0bhmac-sha256\x00");
        m.extend([0, 0, 0, 0, 0, 1, 1, 44, 0, 0, 0x12, 0x34, 0, 0, 0, 0]);
    })
}

#[test]
fn what_is_answered_and_how() {
    let base = plain("www.example.com.");
    let edns = bytes("www.example.com.", "A");
    let rows: Vec<(&str, Vec<u8>, Option<u16>)> = vec![
        ("a query", base.clone(), Some(rcode::NOERROR)),
        ("a query with EDNS", edns.clone(), Some(rcode::NOERROR)),
        ("nothing", vec![], None),
        ("less than a header", base[..11].to_vec(), None),
        ("a response", with(&base, |m| m[2] |= 0x80), None),
        ("a header alone", base[..12].to_vec(), Some(rcode::FORMERR)),
        ("half a name", base[..20].to_vec(), Some(rcode::FORMERR)),
        ("no type", base[..base.len() - 4].to_vec(), Some(rcode::FORMERR)),
        ("half a class", base[..base.len() - 1].to_vec(), Some(rcode::FORMERR)),
        ("bytes behind", with(&base, |m| m.push(0)), Some(rcode::FORMERR)),
        ("no question", with(&base, |m| m[5] = 0), Some(rcode::FORMERR)),
        ("two questions", with(&base, |m| m[5] = 2), Some(rcode::FORMERR)),
        ("a status query", with(&base, |m| m[2] |= 2 << 3), Some(rcode::NOTIMP)),
        ("a notification", with(&base, |m| m[2] |= 4 << 3), Some(rcode::NOTIMP)),
        ("an update", with(&base, |m| m[2] |= 5 << 3), Some(rcode::NOTIMP)),
        ("a reference in the name", with(&base, |m| m[12..14].copy_from_slice(&[0xc0, 12])), Some(rcode::FORMERR)),
        ("an extended label", with(&base, |m| m[12] = 0x41), Some(rcode::FORMERR)),
        ("a zone transfer", bytes("cluster.local.", "AXFR"), Some(rcode::REFUSED)),
        ("an incremental one", bytes("cluster.local.", "TYPE251"), Some(rcode::REFUSED)),
        ("mail boxes", bytes("a.", "TYPE253"), Some(rcode::NOTIMP)),
        ("OPT as a type", bytes("a.", "TYPE41"), Some(rcode::FORMERR)),
        ("the class CH", with(&base, |m| *m.last_mut().unwrap() = 3), Some(rcode::REFUSED)),
        ("the class ANY", with(&base, |m| *m.last_mut().unwrap() = 255), Some(rcode::REFUSED)),
        (
            "a later EDNS",
            with(&edns, |m| {
                let at = m.len() - 5;
                m[at] = 1;
            }),
            Some(rcode::BADVERS),
        ),
        (
            "two OPT",
            with(&edns, |m| {
                m[11] = 2;
                m.extend_from_within(m.len() - 11..)
            }),
            Some(rcode::FORMERR),
        ),
        ("OPT cut", edns[..edns.len() - 1].to_vec(), Some(rcode::FORMERR)),
        (
            "an option cut",
            with(&edns, |m| {
                *m.last_mut().unwrap() = 3;
                m.extend([0, 10, 0])
            }),
            Some(rcode::FORMERR),
        ),
        (
            "an option",
            with(&edns, |m| {
                *m.last_mut().unwrap() = 6;
                m.extend([0, 10, 0, 2, 1, 2])
            }),
            Some(rcode::NOERROR),
        ),
        ("a signature", signed(&base), Some(rcode::NOTAUTH)),
        ("a record that is not there", with(&base, |m| m[7] = 1), Some(rcode::FORMERR)),
    ];
    for (what, message, expected) in rows {
        assert_eq!(said(&message), expected, "{what}");
    }
}

#[test]
fn a_record_besides_the_question_is_no_matter() {
    let mut message = query("www.example.com.", "A");
    let record = "192.0.2.1".parse().map(hickory_proto::rr::RData::A).unwrap();
    let owner = message.queries[0].name().clone();
    message.add_additional(hickory_proto::rr::Record::from_rdata(owner, 5, record));
    let message = message.to_bytes().unwrap();
    let Parsed::Query(query) = parse(&message) else { panic!("refused") };
    assert_eq!(query.edns.map(|edns| edns.size), Some(1232));
}

#[test]
fn names_have_limits() {
    let label = |length: usize| {
        let mut wire = vec![u8::try_from(length).unwrap()];
        wire.extend(vec![b'x'; length]);
        wire
    };
    let longest: Vec<u8> = [label(63), label(63), label(63), label(61), vec![0]].concat();
    assert_eq!(longest.len(), MAX_NAME);
    assert!(Name::parse(&longest).is_some());
    assert!(Name::parse(&[label(63), label(63), label(63), label(62), vec![0]].concat()).is_none());
    let most: Vec<u8> = [label(1).repeat(127), vec![0]].concat();
    assert_eq!(Name::parse(&most).unwrap().labels(), 127);
    assert_eq!(Name::parse(&[0]).unwrap().labels(), 0);
    assert!(Name::parse(&[]).is_none() && Name::parse(&[1, b'a']).is_none() && Name::parse(&[64; 80]).is_none());
}

#[test]
fn names_are_taken_apart_and_put_together() {
    let name = Name::from_text("A.b.Cluster.LOCAL").unwrap();
    assert_eq!((name.labels(), name.label(0), name.label(3), name.label(4)), (4, &b"a"[..], &b"local"[..], &b""[..]));
    assert_eq!(name.to_string(), "a.b.cluster.local.");
    assert_eq!(name.depth_in(b"\x07cluster\x05local\x00", 2), Some(2));
    assert_eq!(name.depth_in(b"\x05local\x00", 1), Some(3));
    assert_eq!(name.joined(1, b"\x03svc\x00").unwrap().to_string(), "a.svc.");
    assert!(Name::from_text("a..b").is_none() && Name::from_text(&"x".repeat(64)).is_none());
    assert_eq!(Name::parse(b"\x03a.\xff\x00").unwrap().to_string(), "a\\.\\255.");
}

#[test]
fn failures_repeat_what_they_can() {
    let message = bytes("WWW.example.com.", "AXFR");
    let Parsed::Fail { rcode, question_end, edns } = parse(&message) else { panic!("answered") };
    let mut out = Vec::new();
    failure(&mut out, &message, rcode, question_end, edns);
    let reply = Message::from_vec(&out).unwrap();
    assert_eq!(reply.queries[0].name().to_ascii(), "WWW.example.com.");
    assert_eq!((reply.metadata.id, u16::from(reply.metadata.response_code)), (0x1234, rcode::REFUSED));
    assert!(reply.edns.is_some() && reply.metadata.recursion_desired);
    failure(&mut out, &message[..14], rcode::FORMERR, None, None);
    assert_eq!(out, [0x12, 0x34, 0x81, 0x81, 0, 0, 0, 0, 0, 0, 0, 0]);
    // An extended code has its upper bits in OPT.
    let later = with(&bytes("a.", "A"), |m| {
        let at = m.len() - 5;
        m[at] = 1;
    });
    let Parsed::Fail { rcode, question_end, edns } = parse(&later) else { panic!("answered") };
    failure(&mut out, &later, rcode, question_end, edns);
    let reply = Message::from_vec(&out).unwrap();
    assert_eq!((u16::from(reply.metadata.response_code), reply.edns.unwrap().version()), (rcode::BADVERS, 0));
}

#[test]
fn responses_have_the_size_that_both_sides_like() {
    let limit = |size: u16| Edns::udp_limit(Some(Edns { size, version: 0, dnssec_ok: false }));
    assert_eq!(
        [limit(0), limit(512), limit(1000), limit(1232), limit(4096), limit(65_535)],
        [512, 512, 1000, 1232, 1232, 1232]
    );
    assert_eq!(Edns::udp_limit(None), 512);
}

/// A reply to be appended: an alias and its end, with references to all the places that there are.
fn reply_with_aliases() -> Vec<u8> {
    let mut reply = vec![0, 7, 0x81, 0x80, 0, 1, 0, 2, 0, 1, 0, 2];
    reply.extend(b"\x01x\x07example\x03com\x00\x00\x01\x00\x01");
    let answers = reply.len();
    // x.example.com CNAME y.example.com; its target refers to the question.
    reply.extend([0xc0, 12, 0, 5, 0, 1, 0, 0, 0, 60, 0, 4, 1, b'y', 0xc0, 14]);
    // y.example.com A
    reply.extend([0xc0, u8::try_from(answers + 12).unwrap(), 0, 1, 0, 1, 0, 0, 0, 60, 0, 4, 192, 0, 2, 1]);
    // example.com MX, whose exchange refers into the records.
    reply.extend([0xc0, 14, 0, 15, 0, 1, 0, 0, 0, 60, 0, 4, 0, 10, 0xc0, u8::try_from(answers + 12).unwrap()]);
    // OPT, and behind it a record with a name and one that refers to it.
    reply.extend([0, 0, 41, 4, 208, 0, 0, 0, 0, 0, 0]);
    let last = reply.len();
    reply[11] = 3;
    reply.extend([2, b'n', b's', 0xc0, 14, 0, 1, 0, 1, 0, 0, 0, 60, 0, 4, 192, 0, 2, 2]);
    reply.extend([0xc0, u8::try_from(last).unwrap(), 0, 16, 0, 1, 0, 0, 0, 60, 0, 2, 1, b't']);
    reply
}

#[test]
fn a_reply_is_appended_with_its_references() {
    let reply = reply_with_aliases();
    Message::from_vec(&reply).expect("the reply itself is whole");
    let mut draft = plain("a.long.name.svc.cluster.local.");
    let head = draft.clone();
    let mut writer = Writer::new(&mut draft, &head, None, MAX_UDP);
    let target = b"\x01x\x07example\x03com\x00";
    let at = writer.rdata(Section::Answer, NameAt::QUESTION, rtype::CNAME, 5, &[target]).and_then(NameAt::new).unwrap();
    let spliced = splice(&mut draft, at, &reply, [1, 0, 0]).unwrap();
    assert_eq!((spliced.rcode, spliced.counts), (rcode::NOERROR, [3, 1, 2]));
    Writer::resume(&mut draft, None, MAX_UDP, spliced.counts).finish(spliced.rcode, 0);
    let message = Message::from_vec(&draft).unwrap();
    assert_eq!(
        crate::testing::text(&message.answers),
        [
            "a.long.name.svc.cluster.local. 5 CNAME x.example.com.",
            "x.example.com. 60 CNAME y.example.com.",
            "y.example.com. 60 A 192.0.2.1",
        ]
    );
    assert_eq!(crate::testing::text(&message.authorities), ["example.com. 60 MX 10 y.example.com."]);
    assert_eq!(
        crate::testing::text(&message.additionals),
        ["ns.example.com. 60 A 192.0.2.2", "ns.example.com. 60 TXT t"]
    );
}

#[test]
fn a_reply_to_another_question_is_not_appended() {
    let mut draft = plain("z.example.com.");
    let before = draft.clone();
    assert_eq!(splice(&mut draft, NameAt::QUESTION, &reply_with_aliases(), [0; 3]), None);
    assert_eq!(draft, before);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2_000))]

    /// Whatever comes: never a panic, and what is a query to us is one to hickory.
    #[test]
    fn any_bytes_are_parsed(message in prop::collection::vec(any::<u8>(), 0..300)) {
        if let Parsed::Query(query) = parse(&message) {
            prop_assert!(Message::from_vec(&message).is_ok());
            prop_assert_eq!(query.head().len(), HEADER + query.name.wire().len() + 4);
        }
    }

    /// Queries with something changed: the same question is found as hickory finds, or none.
    #[test]
    fn changed_queries_are_parsed(at in 0usize..60, value: u8, keep in 12usize..80) {
        let mut message = bytes("_http._tcp.api.shop.svc.cluster.local.", "SRV");
        let length = message.len();
        message[at % length] = value;
        message.truncate(keep);
        if let Parsed::Query(query) = parse(&message) {
            let read = Message::from_vec(&message).unwrap();
            prop_assert_eq!(u16::from(read.queries[0].query_type()), query.rtype);
            let name = read.queries[0].name().to_lowercase().to_bytes().unwrap();
            prop_assert_eq!(name, query.name.wire());
        }
    }

    /// All queries that hickory writes are read, with what they say.
    #[test]
    fn written_queries_are_parsed(labels in prop::collection::vec("[a-zA-Z0-9_-]{1,20}", 1..6), rtype in 1u16..40, size: u16, dnssec_ok: bool) {
        let labels: Vec<_> = labels.iter().map(|label| format!("x{}", label.trim_matches('-'))).collect();
        let mut message = query(&format!("{}.", labels.join(".")), &format!("TYPE{rtype}"));
        let mut edns = HickoryEdns::new();
        edns.set_max_payload(size).set_dnssec_ok(dnssec_ok);
        message.set_edns(edns);
        let message = message.to_bytes().unwrap();
        let Parsed::Query(query) = parse(&message) else { panic!("{message:?}") };
        prop_assert_eq!(query.rtype, rtype);
        prop_assert_eq!(query.name.to_string(), format!("{}.", labels.join(".")).to_lowercase());
        prop_assert_eq!(query.edns.map(|edns| edns.dnssec_ok), Some(dnssec_ok));
    }

    /// Replies of any bytes are appended whole or not at all.
    #[test]
    fn any_reply_is_appended(at in 0usize..150, value: u8, keep in 0usize..160) {
        let mut reply = reply_with_aliases();
        let length = reply.len();
        reply[at % length] = value;
        reply.truncate(keep);
        let mut draft = plain("x.example.com.");
        let before = draft.clone();
        if splice(&mut draft, NameAt::QUESTION, &reply, [0; 3]).is_none() {
            prop_assert_eq!(draft, before);
        }
    }
}
