//! What is kept, for how long, and how it is given out.

use std::time::Duration;

use hickory_proto::op::{Message, ResponseCode};
use hickory_proto::rr::RecordType;
use proptest::prelude::*;

use super::rig::*;
use crate::forward::{Bounds, CacheConfig, ForwardConfig, Prefetch, Stale};

const NAME: &str = "www.example.";

fn seconds(count: u64) -> Duration {
    Duration::from_secs(count)
}

fn with_cache(fake: &Fake, cache: CacheConfig) -> Rig {
    Rig::new(ForwardConfig { cache, ..config(&[fake]) })
}

/// Without what would ask again by itself.
fn plain() -> CacheConfig {
    CacheConfig { prefetch: None, stale: None, ..CacheConfig::default() }
}

#[tokio::test]
async fn ttls_count_down_and_end() {
    let fake = Fake::start(|asked: &Asked| {
        response(asked, |message| {
            message.add_answer(cname(asked.name(), 60, "target.example."));
            message.add_answer(a(name("target.example."), 20, 1));
        })
    })
    .await;
    let rig = with_cache(&fake, plain());
    let ttls = |message: Message| message.answers.iter().map(|record| record.ttl).collect::<Vec<_>>();
    assert_eq!(ttls(rig.resolve(&Client::asks(NAME)).await), [60, 20]);
    for (step, expected) in [(0, Some([60, 20])), (7, Some([53, 13])), (12, Some([41, 1])), (1, None)] {
        rig.clock.advance(seconds(step));
        let message = rig.cached(&Client::asks(NAME));
        assert_eq!(message.map(ttls), expected.map(Vec::from), "{step} s later");
    }
    assert_eq!(ttls(rig.resolve(&Client::asks(NAME)).await), [60, 20]);
    assert_eq!(fake.count(), 2);
}

/// TTL of the answer, and for how long it is kept.
#[tokio::test]
async fn ttls_have_bounds() {
    let bounds = |min, max| Bounds { min: seconds(min), max: seconds(max) };
    for (ttl, bounds, told, kept) in [
        (300, bounds(5, 900), 300, 300_u32),
        (3600, bounds(5, 900), 900, 900),
        (2, bounds(5, 900), 5, 5),
        (0, bounds(5, 900), 5, 5),
        (2, bounds(0, 900), 2, 2),
        // RFC 1035 section 3.2.1: for the transaction in progress only.
        (0, bounds(0, 900), 0, 0),
        // RFC 2181 section 8.
        (u32::MAX, bounds(1, 900), 1, 1),
    ] {
        let fake = Fake::start(address(1, ttl)).await;
        let rig = with_cache(&fake, CacheConfig { positive: bounds, ..plain() });
        assert_eq!(hosts(&rig.resolve(&Client::asks(NAME)).await), [(1, told)], "{ttl} in {bounds:?}");
        assert_eq!(rig.cached(&Client::asks(NAME)).is_some(), kept > 0, "{ttl} in {bounds:?}");
        rig.clock.advance(seconds(u64::from(kept)).saturating_sub(Duration::from_millis(200)));
        assert_eq!(rig.cached(&Client::asks(NAME)).is_some(), kept > 0, "{ttl} in {bounds:?}, until the end");
        rig.clock.advance(Duration::from_millis(200));
        assert!(rig.cached(&Client::asks(NAME)).is_none(), "{ttl} in {bounds:?}, after the end");
    }
}

/// RFC 2308: the SOA's TTL and minimum, whichever is less, within our bounds.
#[tokio::test]
async fn denials_are_kept_as_long_as_their_soa_says() {
    let bounds = Bounds { min: seconds(5), max: seconds(30) };
    for code in [ResponseCode::NXDomain, ResponseCode::NoError] {
        for (ttl, minimum, kept) in [(20, 60, 20), (60, 20, 20), (3600, 3600, 30), (0, 3600, 5), (3600, 0, 5)] {
            let fake = Fake::start(denial(code, ttl, minimum)).await;
            let rig = with_cache(&fake, CacheConfig { negative: bounds, ..plain() });
            let row = format!("{code}, TTL {ttl}, minimum {minimum}");
            for message in [rig.resolve(&Client::asks(NAME)).await, rig.cached(&Client::asks(NAME)).unwrap()] {
                assert_eq!(message.metadata.response_code, code, "{row}");
                assert_eq!((message.answers.len(), message.authorities[0].ttl), (0, kept), "{row}");
            }
            rig.clock.advance(seconds(3));
            assert_eq!(rig.cached(&Client::asks(NAME)).unwrap().authorities[0].ttl, kept - 3, "{row}");
            rig.clock.advance(seconds(u64::from(kept) - 3));
            assert!(rig.cached(&Client::asks(NAME)).is_none(), "{row}");
        }
    }
}

#[tokio::test]
async fn what_says_nothing_is_not_kept() {
    type Behave = fn(&Asked) -> Vec<Vec<u8>>;
    let rows: [(&str, Behave); 4] = [
        ("NXDOMAIN without an SOA (RFC 2308 section 5)", |asked| failing(ResponseCode::NXDomain)(asked)),
        ("NODATA without an SOA: a referral", |asked| response(asked, |_| {})),
        ("REFUSED", |asked| failing(ResponseCode::Refused)(asked)),
        ("NOTIMP", |asked| failing(ResponseCode::NotImp)(asked)),
    ];
    for (what, behave) in rows {
        let fake = Fake::start(behave).await;
        let rig = with_cache(&fake, plain());
        rig.resolve(&Client::asks(NAME)).await;
        assert!(rig.cached(&Client::asks(NAME)).is_none(), "{what}");
    }
}

#[tokio::test]
async fn failures_are_kept_for_a_moment() {
    let fake = Fake::start(failing(ResponseCode::ServFail)).await;
    let rig = with_cache(&fake, plain());
    let client = Client::asks(NAME).with_edns(false);
    let message = rig.resolve(&client).await;
    assert_eq!((message.metadata.response_code, extended_error(&message)), (ResponseCode::ServFail, None));
    let message = rig.cached(&client).unwrap();
    assert_eq!((message.metadata.response_code, extended_error(&message)), (ResponseCode::ServFail, Some(13)));
    rig.clock.advance(seconds(5));
    assert!(rig.cached(&client).is_none());
}

#[tokio::test]
async fn an_alias_to_nothing_is_a_denial() {
    let fake = Fake::start(|asked: &Asked| {
        response(asked, |message| {
            message.add_answer(cname(asked.name(), 3600, "target.example."));
            message.add_authority(soa("example.", 3600, 3600));
        })
    })
    .await;
    let rig = with_cache(&fake, plain());
    rig.resolve(&Client::asks(NAME)).await;
    rig.clock.advance(seconds(29));
    assert_eq!(rig.cached(&Client::asks(NAME)).unwrap().answers[0].ttl, 1);
    rig.clock.advance(seconds(1));
    assert!(rig.cached(&Client::asks(NAME)).is_none());
}

#[tokio::test]
async fn hits_and_misses_are_counted_as_coredns_counts_them() {
    let fake = Fake::start(address(1, 300)).await;
    let rig = with_cache(&fake, plain());
    rig.resolve(&Client::asks(NAME)).await;
    (0..3).for_each(|_| assert!(rig.cached(&Client::asks(NAME)).is_some()));
    fake.now_does(denial(ResponseCode::NXDomain, 300, 300));
    rig.resolve(&Client::asks("no.example.")).await;
    rig.resolve(&Client::asks("no.example.")).await;
    let around = |kind: &str| format!("{{server=\"dns://:53\"{kind},zones=\".\",view=\"\"}}");
    for (line, expected) in [
        (format!("coredns_cache_requests_total{}", around("")), 6.0),
        (format!("coredns_cache_misses_total{}", around("")), 2.0),
        (format!("coredns_cache_hits_total{}", around(",type=\"success\"")), 3.0),
        (format!("coredns_cache_hits_total{}", around(",type=\"denial\"")), 1.0),
        (format!("coredns_cache_entries{}", around(",type=\"success\"")), 1.0),
        (format!("coredns_cache_entries{}", around(",type=\"denial\"")), 1.0),
    ] {
        assert_eq!(rig.metric(&line), expected, "{line}");
    }
}

#[tokio::test]
async fn popular_answers_are_fetched_before_they_end() {
    let prefetch = Some(Prefetch { amount: 3, window: seconds(60), percent: 10 });
    // Uses in each of these seconds, and whether the answer is fetched again in the last.
    for (what, uses, expected) in [
        ("often, and in the last tenth", &[10, 30, 50, 95][..], true),
        ("often, not in the last tenth", &[10, 20, 40, 85][..], false),
        ("seldom", &[40, 95][..], false),
        ("often, then a long pause", &[1, 2, 3, 4, 95][..], false),
    ] {
        let fake = Fake::start(address(1, 100)).await;
        let rig = with_cache(&fake, CacheConfig { prefetch, ..plain() });
        rig.resolve(&Client::asks(NAME)).await;
        fake.now_does(address(2, 100));
        let mut now = 0;
        for at in uses {
            rig.clock.advance(seconds(at - now));
            now = *at;
            let message = rig.cached(&Client::asks(NAME)).unwrap();
            assert_eq!(hosts(&message)[0].0, 1, "{what}: nobody waits for it");
        }
        if expected {
            fake.wait_until_asked(2).await;
            wait_until(|| hosts(&rig.cached(&Client::asks(NAME)).unwrap()) == [(2, 100)]).await;
        }
        assert_eq!(fake.count(), 1 + usize::from(expected), "{what}");
        let line = "coredns_cache_prefetch_total{server=\"dns://:53\",zones=\".\",view=\"\"}";
        assert_eq!(rig.metric(line), f64::from(u8::from(expected)), "{what}");
    }
}

#[tokio::test]
async fn a_failed_prefetch_leaves_the_answer_alone() {
    let prefetch = Some(Prefetch { amount: 1, window: seconds(60), percent: 10 });
    let fake = Fake::start(address(1, 100)).await;
    let rig = with_cache(&fake, CacheConfig { prefetch, ..plain() });
    rig.resolve(&Client::asks(NAME)).await;
    fake.now_does(failing(ResponseCode::ServFail));
    rig.clock.advance(seconds(95));
    assert!(rig.cached(&Client::asks(NAME)).is_some());
    fake.wait_until_asked(2).await;
    wait_until(|| rig.forwarder.inner.flights.len() == 0).await;
    assert_eq!(hosts(&rig.cached(&Client::asks(NAME)).unwrap())[0].0, 1);
}

fn stale() -> CacheConfig {
    let stale =
        Stale { max: seconds(3600), ttl: seconds(30), patience: Duration::from_millis(50), recheck: seconds(5) };
    CacheConfig { stale: Some(stale), ..plain() }
}

/// RFC 8767. The upstream is silent, refuses, or says that it has failed.
#[tokio::test]
async fn an_outage_is_not_visible_for_names_that_are_known() {
    type Behave = fn(&Asked) -> Vec<Vec<u8>>;
    let outages: [(&str, Behave); 3] = [
        ("silence", silence),
        ("SERVFAIL", |asked| failing(ResponseCode::ServFail)(asked)),
        ("REFUSED", |asked| failing(ResponseCode::Refused)(asked)),
    ];
    for (what, outage) in outages {
        let fake = Fake::start(address(1, 20)).await;
        let rig = with_cache(&fake, stale());
        let client = Client::asks(NAME).with_edns(false);
        rig.resolve(&client).await;
        fake.now_does(outage);
        rig.clock.advance(seconds(20));
        assert!(rig.cached(&client).is_none(), "{what}: the upstream has its chance first");
        let message = rig.resolve(&client).await;
        assert_eq!((hosts(&message), extended_error(&message)), (vec![(1, 30)], Some(3)), "{what}: Stale Answer");
        // From here on nobody waits.
        for _ in 0..10 {
            let message = rig.cached(&client).expect(what);
            assert_eq!((hosts(&message), extended_error(&message)), (vec![(1, 30)], Some(3)), "{what}");
            rig.clock.advance(Duration::from_millis(400));
        }
        assert!(rig.metric("coredns_cache_served_stale_total{server=\"dns://:53\",zones=\".\",view=\"\"}") >= 11.0);

        fake.now_does(address(2, 20));
        wait_until(|| {
            rig.clock.advance(seconds(1));
            rig.cached(&client).is_some_and(|message| hosts(&message)[0].0 == 2)
        })
        .await;
    }
}

#[tokio::test]
async fn upstreams_known_to_be_down_are_not_waited_for() {
    let fake = Fake::start(address(1, 20)).await;
    let rig = with_cache(&fake, stale());
    rig.resolve(&Client::asks(NAME)).await;
    fake.now_does(silence);
    rig.resolve(&Client::asks("other.example.")).await;
    wait_until(|| rig.forwarder.upstreams()[0].down).await;
    rig.clock.advance(seconds(21));
    assert_eq!(hosts(&rig.cached(&Client::asks(NAME)).expect("at once")), [(1, 30)]);
    rig.clock.advance(seconds(3598));
    assert!(rig.cached(&Client::asks(NAME)).is_some(), "an hour less a second after its end");
    rig.clock.advance(seconds(1));
    assert!(rig.cached(&Client::asks(NAME)).is_none(), "an hour");
}

#[tokio::test]
async fn denials_are_given_out_old_as_well() {
    let fake = Fake::start(denial(ResponseCode::NXDomain, 20, 20)).await;
    let rig = with_cache(&fake, stale());
    let client = Client::asks(NAME).with_edns(false);
    rig.resolve(&client).await;
    fake.now_does(silence);
    rig.clock.advance(seconds(21));
    let message = rig.resolve(&client).await;
    assert_eq!(message.metadata.response_code, ResponseCode::NXDomain);
    assert_eq!(extended_error(&message), Some(19), "Stale NXDOMAIN Answer");
}

#[tokio::test]
async fn news_beats_what_is_old() {
    // Gone: that is an answer.
    let fake = Fake::start(address(1, 20)).await;
    let rig = with_cache(&fake, stale());
    rig.resolve(&Client::asks(NAME)).await;
    fake.now_does(denial(ResponseCode::NXDomain, 20, 20));
    rig.clock.advance(seconds(21));
    assert_eq!(rig.resolve(&Client::asks(NAME)).await.metadata.response_code, ResponseCode::NXDomain);
    assert_eq!(rig.cached(&Client::asks(NAME)).unwrap().metadata.response_code, ResponseCode::NXDomain);

    // A failure is never old news.
    let fake = Fake::start(failing(ResponseCode::ServFail)).await;
    let rig = with_cache(&fake, stale());
    rig.resolve(&Client::asks(NAME)).await;
    fake.now_does(address(1, 20));
    rig.clock.advance(seconds(6));
    assert_eq!(hosts(&rig.resolve(&Client::asks(NAME)).await), [(1, 20)]);
}

#[tokio::test]
async fn entries_and_bytes_have_bounds() {
    let fake = Fake::start(|asked: &Asked| {
        response(asked, |message| {
            message.add_answers((0..4).map(|_| txt(asked.name(), 300, "x".repeat(200))));
        })
    })
    .await;
    for (max_entries, max_bytes, least, most) in [(100, 16 << 20, 50, 100), (10_000, 100_000, 30, 100)] {
        let rig = with_cache(&fake, CacheConfig { max_entries, max_bytes, ..plain() });
        for index in 0..400 {
            let name = format!("name-{index}.example.").leak();
            rig.resolve(&Client::asks(name).for_type(RecordType::TXT)).await;
        }
        let cache = &rig.forwarder.inner.cache;
        let length = cache.len();
        assert!((least..=most).contains(&length), "{length} entries of at most {max_entries}, {max_bytes} bytes");
        assert!(cache.weight() <= max_bytes as u64);
        assert_eq!(cache.metrics().entries(), i64::try_from(length).unwrap(), "every eviction is counted");
    }
}

#[tokio::test]
async fn spelling_is_the_clients_everywhere() {
    let fake = Fake::start(address(1, 300)).await;
    let rig = with_cache(&fake, plain());
    rig.resolve(&Client::asks("www.example.")).await;
    let message = rig.cached(&Client::asks("WwW.eXaMpLe.")).unwrap();
    assert_eq!(message.answers[0].name.to_string(), "WwW.eXaMpLe.", "its owner points at the question");
}

/// What a record is made of: its kind, its TTL, and a number for the rest.
type Part = (u8, u32, u8);

/// Records of any number and kind: answers and others, and whether the client has EDNS.
fn message_parts() -> impl Strategy<Value = (Vec<Part>, Vec<Part>, bool)> {
    let record = (0_u8..5, 0_u32..2_000_000, any::<u8>());
    (prop::collection::vec(record.clone(), 1..12), prop::collection::vec(record, 0..6), any::<bool>())
}

fn record((kind, ttl, value): Part) -> hickory_proto::rr::Record {
    let owner = name(["www.example.", "a.www.example.", "other.test.", "."][usize::from(value) % 4]);
    match kind {
        0 => a(owner, ttl, value),
        1 => aaaa(owner, ttl, value.into()),
        2 => cname(owner, ttl, ["example.", "b.www.example.", "far.away."][usize::from(value) % 3]),
        3 => txt(owner, ttl, "t".repeat(usize::from(value) % 40)),
        _ => soa("example.", ttl, value.into()),
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, ..ProptestConfig::default() })]

    /// The answer from the cache is the upstream's, but for TTLs.
    #[test]
    fn nothing_but_ttls_changes((answers, others, edns) in message_parts(), age in 0_u64..1000) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let (sent, more) = (answers.clone(), others.clone());
            let fake = Fake::start(move |asked: &Asked| {
                response(asked, |message| {
                    message.add_answers(sent.iter().copied().map(record));
                    message.add_authorities(more.iter().copied().map(record));
                    message.add_additionals(more.iter().copied().map(record));
                })
            })
            .await;
            let bounds = Bounds { min: seconds(1), max: seconds(1 << 20) };
            let rig = with_cache(&fake, CacheConfig { positive: bounds, negative: bounds, ..plain() });
            let base = Client::asks("www.example.").for_type(RecordType::ANY);
            let client = if edns { base.with_edns(false) } else { base };
            let first = rig.resolve(&client).await;
            rig.clock.advance(seconds(age));
            let Some(cached) = rig.cached(&client) else {
                let least = answers.iter().chain(&others).map(|part| part.1.max(1)).min().unwrap();
                prop_assert!(u64::from(least) <= age, "ended too early: {least}");
                return Ok(());
            };
            let wanted = |parts: &[Part]| parts.iter().copied().map(record).collect::<Vec<_>>();
            for (section, parts) in
                [(&cached.answers, &answers), (&cached.authorities, &others), (&cached.additionals, &others)]
            {
                prop_assert_eq!(section.len(), parts.len());
                for (found, wanted) in section.iter().zip(wanted(parts)) {
                    prop_assert_eq!((&found.name, &found.data), (&wanted.name, &wanted.data));
                    let told = wanted.ttl.min(1 << 20);
                    let expected = told.saturating_sub(age as u32);
                    // A second may have begun since; our lower bound may hold it up.
                    prop_assert!(found.ttl <= told.max(1) && found.ttl + 1 >= expected, "{found} of {wanted}");
                }
            }
            prop_assert_eq!(cached.metadata, first.metadata);
            Ok(())
        })?;
    }
}
