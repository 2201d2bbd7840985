//! Bytes that nobody means well with.

use std::sync::LazyLock;

use hickory_proto::op::{Edns, Message, OpCode, Query as HickoryQuery};
use hickory_proto::rr::RecordType;
use prometheus_client::registry::Registry;
use proptest::prelude::*;

use super::rig::*;
use crate::cache::{Cache, CacheConfig, CacheMetrics, Clock, Key, KeyBits};
use crate::forward::answer::{Delivery, Ttls, write};
use crate::forward::query::{Query, Request};
use crate::forward::reply::Reply;
use crate::forward::wire::{HEADER, name_end, record};
use crate::forward::{ForwardConfig, Forwarder as _};

const BITS: KeyBits = KeyBits { dnssec_ok: false, checking_disabled: false, recursion_desired: true };

static CACHE: LazyLock<Cache> = LazyLock::new(|| {
    let metrics = CacheMetrics::register(&mut Registry::default());
    Cache::new(CacheConfig::default(), Clock::start(), metrics)
});

fn request() -> Request {
    Request { name: b"\x03www\x07example\0"[..].into(), rtype: 1, class: 1, bits: BITS }
}

/// A message that begins as the reply to `request` would, with the id to be filled in.
fn plausible() -> impl Strategy<Value = Vec<u8>> {
    // Pointers, zeros and ones more often than others.
    let bytes = any::<u8>().prop_map(|byte| match byte % 8 {
        0 => 0xc0,
        1 => 0x0c,
        2 => 0,
        3 => 1,
        _ => byte,
    });
    let counts = prop::array::uniform3(0_u8..4);
    (any::<u8>(), any::<u8>(), counts, prop::collection::vec(bytes, 0..200)).prop_map(|(high, low, counts, tail)| {
        let mut message = vec![0, 0, 0x80 | high & 0x05, low, 0, 1, 0, counts[0], 0, counts[1], 0, counts[2]];
        message.extend(b"\x03www\x07example\0\0\x01\0\x01");
        message.extend(tail);
        message
    })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 4096, ..ProptestConfig::default() })]

    #[test]
    fn names_and_records_are_read_within_their_message(bytes in prop::collection::vec(any::<u8>(), 0..120), at in 0_usize..130) {
        if let Some(end) = name_end(&bytes, at) {
            prop_assert!(end <= bytes.len() && end > at);
        }
        if let Some(record) = record(&bytes, at) {
            prop_assert!(record.end <= bytes.len() && record.end > at);
        }
    }

    #[test]
    fn any_query_is_read_or_refused(bytes in prop::collection::vec(any::<u8>(), 0..120)) {
        if let Ok(query) = Query::parse(&bytes) {
            prop_assert!(query.name.len() <= 255);
            let key = query.key();
            prop_assert_eq!(key.name(), query.name.to_ascii_lowercase());
        }
    }

    /// Whatever an upstream says: what is kept of it can be told, and is well-formed if the reply was.
    #[test]
    fn any_reply_is_told_or_rejected(bytes in plausible(), exact in any::<bool>()) {
        tell(bytes, exact);
    }

    #[test]
    fn a_good_reply_with_a_few_other_bytes_is_told_or_rejected(
        changes in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..4),
        cut in prop::option::of(any::<prop::sample::Index>()),
    ) {
        let mut bytes = good_reply();
        for (at, value) in changes {
            let at = at.index(bytes.len());
            bytes[at] = value;
        }
        if let Some(cut) = cut {
            bytes.truncate(cut.index(bytes.len()).max(QUESTION_END));
        }
        tell(bytes, false);
    }
}

/// Where the question of `request` ends.
const QUESTION_END: usize = HEADER + 13 + 4;

/// An alias and what it leads to, an SOA record, and an OPT record.
fn good_reply() -> Vec<u8> {
    let mut message = Message::response(0, OpCode::Query);
    message.add_query(HickoryQuery::query(name("www.example."), RecordType::A));
    message.add_answer(cname(name("www.example."), 300, "edge.www.example."));
    message.add_answer(a(name("edge.www.example."), 60, 1));
    message.add_authority(soa("example.", 300, 60));
    message.edns = Some(Edns::new());
    message.to_vec().unwrap()
}

/// Takes the message for a reply, keeps it, and answers with it.
fn tell(mut bytes: Vec<u8>, exact: bool) {
    let sent = request().message(exact, true);
    bytes[..2].copy_from_slice(&sent.id().to_be_bytes());
    bytes[HEADER..QUESTION_END].copy_from_slice(sent.question());
    let parsed_by_another = Message::from_vec(&bytes).is_ok();
    let Ok(Reply::Answer(content)) = Reply::read(bytes, &sent) else { return };
    let key = Key::new(b"\x03www\x07example\0", 1, 1, BITS);
    let entry = CACHE.keep(&key, content);
    let delivery = Delivery { ttls: Ttls::Aged { age: 1, left: 1 }, error: Some(3), max_size: 1232 };
    let wire = Client::asks("www.example.").with_edns(false).wire();
    let mut out = vec![];
    write(&entry, &Query::parse(&wire).unwrap(), delivery, &mut out);
    if parsed_by_another {
        assert!(Message::from_vec(&out).is_ok(), "{out:x?}");
    }
}

#[test]
fn the_good_reply_is_good() {
    let sent = request().message(false, true);
    let mut bytes = good_reply();
    bytes[..2].copy_from_slice(&sent.id().to_be_bytes());
    let Ok(Reply::Answer(content)) = Reply::read(bytes, &sent) else { panic!("it is rejected") };
    assert!(content.has_answer && content.soa.is_some());
    assert_eq!((content.ttls.len(), content.min_ttl), (3, Some(60)));
}

/// Through the sockets: the client gets an answer whatever comes.
#[test]
fn random_bytes_from_an_upstream_end_in_an_answer() {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let fake = Fake::start(|asked: &Asked| {
            let mut bytes = vec![0_u8; usize::from(rand::random::<u8>())];
            rand::fill(&mut bytes[..]);
            // The header and question are right half of the time.
            if bytes.len() > asked.wire.len() && bytes[0] & 1 == 0 {
                let question = asked.wire.len() - 11;
                bytes[..question].copy_from_slice(&asked.wire[..question]);
                bytes[2] |= 0x80;
                bytes[6..12].copy_from_slice(&[0, 2, 0, 1, 0, 1]);
            }
            vec![bytes]
        })
        .await;
        let quick = std::time::Duration::from_millis(2);
        let rig = Rig::new(ForwardConfig { timeout: quick, deadline: quick * 3, ..config(&[&fake]) });
        for index in 0..200 {
            let name = format!("n{index}.example.").leak();
            let client = Client::asks(name);
            let wire = rig.forwarder.resolve(&client.wire(), 1232).await;
            assert_eq!(wire[..2], client.id.to_be_bytes());
            assert_eq!(wire[HEADER..HEADER + 2], client.wire()[HEADER..HEADER + 2]);
        }
    });
}
