//! How upstreams are asked, and what is believed.

use std::collections::HashSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use hickory_proto::op::{Message, ResponseCode};
use hickory_proto::rr::RecordType;
use tokio::net::UdpSocket;

use super::rig::*;
use crate::forward::{ForwardConfig, Forwarder as _, Policy, ZoneUpstreams};

#[tokio::test]
async fn an_answer_comes_back_as_the_client_asked() {
    let fake = Fake::start(address(1, 300)).await;
    let rig = Rig::new(config(&[&fake]));
    for client in [
        Client::asks("www.example."),
        Client { id: 1, ..Client::asks("wWw.ExAmPle.") },
        Client::asks("www.example.").with_edns(false),
        Client::asks("www.example.").with_edns(true),
        Client { checking_disabled: true, ..Client::asks("www.example.") },
        Client { recursion: false, ..Client::asks("www.example.") },
    ] {
        assert_eq!(hosts(&rig.resolve(&client).await), [(1, 300)], "{client:?}");
        assert_eq!(hosts(&rig.cached(&client).unwrap()), [(1, 300)], "{client:?}");
    }
}

#[tokio::test]
async fn the_hop_to_an_upstream_has_its_own_opt_record() {
    let fake = Fake::start(address(1, 300)).await;
    let rig = Rig::new(config(&[&fake]));
    let mut wire = Client::asks("a.example.").with_edns(true).wire();
    // Client subnet (RFC 7871): 192.0.2.0/24.
    let length = wire.len();
    wire[length - 2..].copy_from_slice(&11_u16.to_be_bytes());
    wire.extend([0, 8, 0, 7, 0, 1, 24, 0, 192, 0, 2]);
    assert_eq!(Message::from_vec(&rig.forwarder.resolve(&wire, 1232).await).unwrap().answers.len(), 1);
    let edns = fake.asked()[0].message.edns.clone().unwrap();
    assert_eq!(edns.max_payload(), 1232);
    assert!(edns.flags().dnssec_ok, "asked for by the client");
    assert!(edns.options().as_ref().is_empty(), "{edns:?}");

    rig.resolve(&Client::asks("b.example.")).await;
    let edns = fake.asked()[1].message.edns.clone().expect("our hop takes large datagrams whatever the client does");
    assert!(!edns.flags().dnssec_ok);
}

#[tokio::test]
async fn ids_and_ports_are_random() {
    let fake = Fake::start(address(1, 0)).await;
    let mut config = config(&[&fake]);
    config.cache.positive.min = Duration::ZERO;
    let rig = Rig::new(config);
    for _ in 0..100 {
        rig.resolve(&Client::asks("a.example.")).await;
    }
    let asked = fake.asked();
    assert_eq!(asked.len(), 100);
    let ids: HashSet<u16> = asked.iter().map(|asked| asked.message.metadata.id).collect();
    let ports: HashSet<u16> = asked.iter().map(|asked| asked.from.port()).collect();
    // Of 65,536 and about 28,000: twice the same is likely, ten times is not.
    assert!(ids.len() > 90 && ports.len() > 90, "{} ids, {} ports", ids.len(), ports.len());
    let distances = asked.windows(2).map(|pair| pair[1].from.port().abs_diff(pair[0].from.port()));
    assert!(distances.filter(|distance| *distance <= 2).count() < 10, "ports in a row");
}

/// What a forger sends before the true answer.
#[tokio::test]
async fn a_reply_that_does_not_fit_is_not_the_end_of_the_wait() {
    type Forge = fn(&mut Vec<u8>);
    let forgeries: [(&str, Forge); 7] = [
        ("another id", |wire| wire[1] ^= 1),
        ("a query", |wire| wire[2] &= 0x7f),
        ("another opcode", |wire| wire[2] |= 0x28),
        ("another name", |wire| wire[13] ^= 1),
        ("another type", |wire| wire[12 + 13 + 1] = 28),
        ("no question", |wire| wire[5] = 0),
        ("cut in the header", |wire| wire.truncate(11)),
    ];
    for (what, forge) in forgeries {
        let fake = Fake::start(move |asked: &Asked| {
            let mut forged = address(66, 300)(asked).remove(0);
            forge(&mut forged);
            vec![forged, address(1, 300)(asked).remove(0)]
        })
        .await;
        let rig = Rig::new(config(&[&fake]));
        let message = rig.resolve(&Client::asks("www.example.")).await;
        assert_eq!(hosts(&message), [(1, 300)], "{what}");
        assert_eq!(fake.count(), 1, "{what}: asked once");
    }
}

#[tokio::test]
async fn only_the_upstream_itself_is_heard() {
    let stranger = Arc::new(UdpSocket::bind("127.0.0.1:0").await.unwrap());
    let sends = stranger.clone();
    let fake = Fake::start(move |asked: &Asked| {
        // Right in everything but the sender's port.
        sends.try_send_to(&address(66, 300)(asked)[0], asked.from).unwrap();
        address(1, 300)(asked)
    })
    .await;
    let rig = Rig::new(config(&[&fake]));
    assert_eq!(hosts(&rig.resolve(&Client::asks("a.example.")).await), [(1, 300)]);
}

#[tokio::test]
async fn random_case_is_demanded_back() {
    let honest = Fake::start(address(1, 300)).await;
    let careless = Fake::start(|asked: &Asked| {
        let mut reply = address(66, 300)(asked).remove(0);
        reply[12..12 + 40].make_ascii_lowercase();
        vec![reply]
    })
    .await;
    let name = "abcdefghijklmnopqrstuvwxyzabcdefghijkl.example.";
    for (fake, hosts_found) in [(&honest, vec![(1, 300)]), (&careless, vec![])] {
        let rig = Rig::new(ForwardConfig { random_case: true, ..config(&[fake]) });
        assert_eq!(hosts(&rig.resolve(&Client::asks(name)).await), hosts_found);
        assert_ne!(fake.asked()[0].name().to_string(), name, "one in 2^44 is as it was");
    }
    // Without it, an upstream may answer in lower case.
    let rig = Rig::new(config(&[&careless]));
    assert_eq!(hosts(&rig.resolve(&Client::asks("WWW.ABCDEFGHIJKLMNOPQRSTUVWXYZABCDEF.example.")).await), [(66, 300)]);
}

#[tokio::test]
async fn what_does_not_fit_comes_by_tcp() {
    let fake = Fake::start(|asked: &Asked| {
        response(asked, |message| {
            message.metadata.truncation = !asked.tcp;
            if asked.tcp {
                message.add_answers((0..100).map(|host| a(asked.name(), 300, host)));
            }
        })
    })
    .await;
    let rig = Rig::new(config(&[&fake]));
    let client = Client::asks("www.example.").with_edns(false);
    let wire = rig.forwarder.resolve(&client.wire(), 65_535).await;
    assert_eq!(hosts(&Message::from_vec(&wire).unwrap()).len(), 100);
    assert_eq!(fake.asked().iter().map(|asked| asked.tcp).collect::<Vec<_>>(), [false, true]);

    let message = rig.cached_within(&client, 1232).unwrap();
    assert!(message.metadata.truncation && message.answers.is_empty(), "{message}");
    let message = rig.cached_within(&client, 65_535).unwrap();
    assert!(!message.metadata.truncation && message.answers.len() == 100);
}

#[tokio::test]
async fn tcp_at_once_when_so_configured() {
    let fake = Fake::start(address(1, 300)).await;
    let rig = Rig::new(ForwardConfig { force_tcp: true, ..config(&[&fake]) });
    assert_eq!(hosts(&rig.resolve(&Client::asks("www.example.")).await), [(1, 300)]);
    assert_eq!(fake.asked().iter().map(|asked| asked.tcp).collect::<Vec<_>>(), [true]);
}

#[tokio::test]
async fn a_lost_datagram_is_sent_again() {
    let seen = AtomicUsize::new(0);
    let fake = Fake::start(move |asked: &Asked| match seen.fetch_add(1, Ordering::Relaxed) {
        0 => vec![],
        _ => address(1, 300)(asked),
    })
    .await;
    let rig = Rig::new(ForwardConfig {
        timeout: Duration::from_secs(5),
        deadline: Duration::from_secs(5),
        ..config(&[&fake])
    });
    assert_eq!(hosts(&rig.resolve(&Client::asks("www.example.")).await), [(1, 300)]);
    let asked = fake.asked();
    assert_eq!(asked.len(), 2);
    assert_eq!(asked[0].wire, asked[1].wire);
    assert_eq!(asked[0].from, asked[1].from);
}

#[tokio::test]
async fn a_server_without_edns_is_asked_without() {
    for code in [ResponseCode::FormErr, ResponseCode::NotImp] {
        let fake = Fake::start(move |asked: &Asked| match &asked.message.edns {
            // Without the question, as some do.
            Some(_) => vec![
                Message::error_msg(asked.message.metadata.id, asked.message.metadata.op_code, code).to_vec().unwrap(),
            ],
            None => address(1, 300)(asked),
        })
        .await;
        let rig = Rig::new(config(&[&fake]));
        let message = rig.resolve(&Client::asks("www.example.").with_edns(false)).await;
        assert_eq!(hosts(&message), [(1, 300)], "{code}");
    }
}

#[tokio::test]
async fn policies() {
    let fakes = [Fake::start(address(0, 0)).await, Fake::start(address(1, 0)).await, Fake::start(address(2, 0)).await];
    let [first, second, third] = &fakes;
    for (policy, expected) in
        [(Policy::Sequential, Some([30, 0, 0])), (Policy::RoundRobin, Some([10, 10, 10])), (Policy::Random, None)]
    {
        let mut config = ForwardConfig { policy, ..config(&[first, second, third]) };
        config.cache.positive.min = Duration::ZERO;
        let rig = Rig::new(config);
        let before = fakes.each_ref().map(Fake::count);
        for _ in 0..30 {
            rig.resolve(&Client::asks("www.example.")).await;
        }
        let counts: [usize; 3] = std::array::from_fn(|index| fakes[index].count() - before[index]);
        match expected {
            Some(expected) => assert_eq!(counts, expected, "{policy:?}"),
            // One of them never: 3 × (2/3)^30, 2 in 100,000.
            None => assert!(counts.iter().all(|count| *count > 0), "{policy:?}: {counts:?}"),
        }
    }
}

#[tokio::test]
async fn another_upstream_is_asked_when_one_fails() {
    type Row = (&'static str, ResponseCode, bool, Vec<(u8, u32)>, ResponseCode);
    let rows: [Row; 5] = [
        ("SERVFAIL", ResponseCode::ServFail, true, vec![(2, 300)], ResponseCode::NoError),
        ("REFUSED", ResponseCode::Refused, true, vec![(2, 300)], ResponseCode::NoError),
        ("NOTIMP", ResponseCode::NotImp, true, vec![(2, 300)], ResponseCode::NoError),
        ("SERVFAIL is final", ResponseCode::ServFail, false, vec![], ResponseCode::ServFail),
        ("NXDOMAIN is an answer", ResponseCode::NXDomain, true, vec![], ResponseCode::NXDomain),
    ];
    for (what, code, failover, expected, expected_code) in rows {
        let [first, second] = [Fake::start(failing(code)).await, Fake::start(address(2, 300)).await];
        let rig = Rig::new(ForwardConfig { failover, ..config(&[&first, &second]) });
        let message = rig.resolve(&Client::asks("www.example.")).await;
        assert_eq!((hosts(&message), message.metadata.response_code), (expected, expected_code), "{what}");
    }
    let [first, second] =
        [Fake::start(failing(ResponseCode::Refused)).await, Fake::start(failing(ResponseCode::Refused)).await];
    let rig = Rig::new(config(&[&first, &second]));
    let message = rig.resolve(&Client::asks("www.example.")).await;
    assert_eq!(message.metadata.response_code, ResponseCode::Refused, "all of them");
    assert_eq!((first.count(), second.count()), (1, 1));
}

#[tokio::test]
async fn nobody_answers() {
    let silent = Fake::start(silence).await;
    let rig = Rig::new(config(&[&silent]));
    let client = Client::asks("www.example.").with_edns(false);
    let message = rig.resolve(&client).await;
    assert_eq!(message.metadata.response_code, ResponseCode::ServFail);
    assert_eq!(extended_error(&message), Some(23), "Network Error");

    // A closed port says so: no time is spent.
    let closed = silent.address;
    drop(silent);
    let gone = UdpSocket::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
    let mut slow = config(&[]);
    slow.upstreams = crate::forward::UpstreamSource::Fixed(vec![gone, closed]);
    (slow.timeout, slow.deadline) = (Duration::from_secs(60), Duration::from_secs(60));
    let message = tokio::time::timeout(Duration::from_secs(20), Rig::new(slow).resolve(&client)).await.unwrap();
    assert_eq!(message.metadata.response_code, ResponseCode::ServFail);

    let message = Rig::new(config(&[])).resolve(&client).await;
    assert_eq!(message.metadata.response_code, ResponseCode::ServFail);
    assert_eq!(extended_error(&message), Some(22), "No Reachable Authority");
    let message = Rig::new(config(&[])).resolve(&Client::asks("www.example.")).await;
    assert_eq!(message.metadata.response_code, ResponseCode::ServFail);
}

#[tokio::test]
async fn the_longest_zone_has_its_own_upstreams() {
    let [root, example, deep] = [0, 1, 2].map(|host| Fake::start(address(host, 300)));
    let (root, example, deep) = (root.await, example.await, deep.await);
    let zone = |zone: &str, fake: &Fake| ZoneUpstreams { zone: zone.to_owned(), upstreams: vec![fake.address] };
    let zones = vec![zone("example.com", &example), zone("Deep.Example.com.", &deep)];
    let rig = Rig::new(ForwardConfig { zones, ..config(&[&root]) });
    for (name, host) in [
        ("example.org.", 0),
        ("com.", 0),
        ("example.com.", 1),
        ("www.example.com.", 1),
        ("WWW.EXAMPLE.COM.", 1),
        ("notexample.com.", 0),
        ("deep.example.com.", 2),
        ("a.b.deep.example.com.", 2),
        ("notdeep.example.com.", 1),
        (".", 0),
    ] {
        assert_eq!(hosts(&rig.resolve(&Client::asks(name)).await), [(host, 300)], "{name}");
    }
}

#[tokio::test]
async fn equal_questions_are_asked_once() {
    let gate = Arc::new(tokio::sync::Semaphore::new(0));
    let fake = Fake::start(silence).await;
    let rig = Rig::new(ForwardConfig { timeout: Duration::from_secs(5), ..config(&[&fake]) });
    let names = ["www.example.", "WWW.example.", "www.EXAMPLE."];
    let clients = (0..30).map(|index| Client { id: index, ..Client::asks(names[usize::from(index) % 3]) });
    let mut tasks = tokio::task::JoinSet::new();
    for client in clients {
        let (forwarder, gate) = (rig.forwarder.clone(), gate.clone());
        tasks.spawn(async move {
            gate.add_permits(1);
            let wire = forwarder.resolve(&client.wire(), 1232).await;
            client.check(&wire);
            hosts(&Message::from_vec(&wire).unwrap())
        });
    }
    let _ = gate.acquire_many(30).await.unwrap();
    fake.wait_until_asked(1).await;
    // The second time the datagram is sent there is an answer.
    fake.now_does(address(1, 300));
    let found = tasks.join_all().await;
    assert!(found.iter().all(|hosts| hosts == &[(1, 300)]), "{found:?}");
    let ids: HashSet<u16> = fake.asked().iter().map(|asked| asked.message.metadata.id).collect();
    assert_eq!(ids.len(), 1, "one question, however often it was sent");
    assert_eq!(rig.forwarder.inner.flights.len(), 0);
}

#[tokio::test]
async fn what_differs_is_asked_for_itself() {
    let fake = Fake::start(address(1, 300)).await;
    let rig = Rig::new(config(&[&fake]));
    let base = Client::asks("www.example.");
    let clients = [
        base.clone(),
        base.clone().with_edns(true),
        Client { checking_disabled: true, ..base.clone() },
        Client { recursion: false, ..base.clone() },
        base.clone().for_type(RecordType::AAAA),
        Client::asks("ww.example."),
    ];
    for (index, client) in clients.iter().enumerate() {
        assert!(rig.cached(client).is_none(), "{client:?}");
        rig.resolve(client).await;
        assert_eq!(fake.count(), index + 1, "{client:?}");
        let sent = &fake.asked()[index].message.metadata;
        assert_eq!((sent.checking_disabled, sent.recursion_desired), (client.checking_disabled, client.recursion));
    }
    // These are the same question.
    for client in [base.clone().with_edns(false), Client { authentic: true, ..base.clone() }, Client { id: 9, ..base }]
    {
        assert!(rig.cached(&client).is_some(), "{client:?}");
    }
}

#[tokio::test]
async fn too_many_at_once_are_refused_and_counted() {
    let fake = Fake::start(silence).await;
    let rig = Rig::new(ForwardConfig { max_concurrent: 2, timeout: Duration::from_secs(5), ..config(&[&fake]) });
    let waiting: Vec<_> = ["a.example.", "b.example."]
        .map(|name| {
            let forwarder = rig.forwarder.clone();
            tokio::spawn(async move { forwarder.resolve(&Client::asks(name).wire(), 1232).await })
        })
        .into();
    fake.wait_until_asked(2).await;
    let message = rig.resolve(&Client::asks("c.example.")).await;
    assert_eq!(message.metadata.response_code, ResponseCode::Refused);
    assert_eq!(rig.metric("coredns_forward_max_concurrent_rejects_total"), 1.0);
    fake.now_does(address(1, 300));
    for task in waiting {
        let message = Message::from_vec(&task.await.unwrap()).unwrap();
        assert_eq!(message.metadata.response_code, ResponseCode::NoError);
    }
    assert_eq!(hosts(&rig.resolve(&Client::asks("c.example.")).await), [(1, 300)], "there is room again");
}

/// RFC 6840 section 5.7 and 5.8.
#[tokio::test]
async fn the_ad_bit_is_for_those_who_understand_it() {
    let fake = Fake::start(|asked: &Asked| {
        response(asked, |message| {
            message.metadata.authentic_data = true;
            message.add_answer(a(asked.name(), 300, 1));
        })
    })
    .await;
    let rig = Rig::new(config(&[&fake]));
    let base = Client::asks("www.example.");
    for (client, expected) in [
        (base.clone(), false),
        (base.clone().with_edns(false), false),
        (Client { authentic: true, ..base.clone() }, true),
        (base.with_edns(true), true),
    ] {
        assert_eq!(rig.resolve(&client).await.metadata.authentic_data, expected, "{client:?}");
        assert_eq!(rig.cached(&client).unwrap().metadata.authentic_data, expected, "{client:?}");
    }
    assert!(fake.asked().iter().all(|asked| asked.message.metadata.authentic_data));
}

#[tokio::test]
async fn queries_that_are_not_forwarded() {
    let fake = Fake::start(address(1, 300)).await;
    let rig = Rig::new(config(&[&fake]));
    let good = Client::asks("www.example.").with_edns(false).wire();
    type Spoil = fn(&mut Vec<u8>);
    let rows: [(&str, Spoil, Option<ResponseCode>); 9] = [
        ("nothing", Vec::clear, None),
        ("half a header", |wire| wire.truncate(11), None),
        ("a response", |wire| wire[2] |= 0x80, None),
        ("an update", |wire| wire[2] |= 0x28, Some(ResponseCode::NotImp)),
        ("two questions", |wire| wire[5] = 2, Some(ResponseCode::FormErr)),
        ("a cut question", |wire| wire.truncate(20), Some(ResponseCode::FormErr)),
        ("a zone transfer", |wire| wire[26] = 252, Some(ResponseCode::Refused)),
        ("of the class CH", |wire| wire[28] = 3, Some(ResponseCode::Refused)),
        ("of EDNS version 1", |wire| wire[35] = 1, Some(ResponseCode::BADVERS)),
    ];
    for (what, spoil, expected) in rows {
        let mut wire = good.clone();
        spoil(&mut wire);
        let response = rig.forwarder.resolve(&wire, 1232).await;
        let code = (!response.is_empty()).then(|| Message::from_vec(&response).unwrap().metadata.response_code);
        // 16 has two names.
        assert_eq!(code.map(u16::from), expected.map(u16::from), "{what}");
    }
    assert_eq!(fake.count(), 0);
}

#[tokio::test]
async fn requests_are_counted_as_coredns_counts_them() {
    let fake = Fake::start(address(1, 300)).await;
    let rig = Rig::new(config(&[&fake]));
    rig.resolve(&Client::asks("a.example.")).await;
    fake.now_does(denial(ResponseCode::NXDomain, 300, 300));
    rig.resolve(&Client::asks("b.example.")).await;
    let to = fake.address;
    for (line, expected) in [
        (format!("coredns_forward_requests_total{{to=\"{to}\"}}"), 2.0),
        (format!("coredns_forward_responses_total{{to=\"{to}\",rcode=\"NOERROR\"}}"), 1.0),
        (format!("coredns_forward_responses_total{{to=\"{to}\",rcode=\"NXDOMAIN\"}}"), 1.0),
        (format!("coredns_forward_request_duration_seconds_count{{to=\"{to}\",rcode=\"NOERROR\"}}"), 1.0),
        (
            format!(
                "coredns_proxy_request_duration_seconds_count{{proxy_name=\"forward\",to=\"{to}\",rcode=\"NOERROR\"}}"
            ),
            1.0,
        ),
    ] {
        assert_eq!(rig.metric(&line), expected, "{line}");
    }
}
