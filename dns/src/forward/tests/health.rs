//! Upstreams that fail, come back, or ask us in turn.

use std::time::Duration;

use hickory_proto::op::ResponseCode;
use hickory_proto::rr::RecordType;

use super::rig::*;
use crate::forward::{ForwardConfig, Forwarder as _};

#[tokio::test]
async fn failures_in_a_row_are_the_end_until_a_probe_succeeds() {
    let [first, second] = [Fake::start(silence).await, Fake::start(address(2, 300)).await];
    let rig = Rig::new(config(&[&first, &second]));
    // The first failure: still trusted.
    assert_eq!(hosts(&rig.resolve(&Client::asks("a.example.")).await), [(2, 300)]);
    assert!(!rig.forwarder.upstreams()[0].down);
    assert_eq!(hosts(&rig.resolve(&Client::asks("b.example.")).await), [(2, 300)]);
    assert!(rig.forwarder.upstreams()[0].down && !rig.forwarder.upstreams()[1].down);

    // It is probed, and asked nothing else.
    let line = format!("coredns_forward_healthcheck_failures_total{{to=\"{}\"}}", first.address);
    wait_until(|| rig.metric(&line) >= 2.0).await;
    rig.resolve(&Client::asks("c.example.")).await;
    let probes = first.asked().split_off(2);
    assert!(!probes.is_empty());
    for probe in probes {
        let question = &probe.message.queries[0];
        assert_eq!((question.name.to_string(), question.query_type), (".".to_owned(), RecordType::NS));
    }

    // Any reply will do.
    first.now_does(failing(ResponseCode::Refused));
    wait_until(|| !rig.forwarder.upstreams()[0].down).await;
    first.now_does(address(1, 300));
    assert_eq!(hosts(&rig.resolve(&Client::asks("d.example.")).await), [(1, 300)]);
}

#[tokio::test]
async fn a_success_in_between_starts_the_count_anew() {
    let fake = Fake::start(silence).await;
    let rig = Rig::new(ForwardConfig { max_fails: 3, ..config(&[&fake]) });
    for round in 0..3 {
        // Two attempts each.
        fake.now_does(silence);
        rig.resolve(&Client::asks(["a.example.", "b.example.", "c.example."][round])).await;
        assert!(!rig.forwarder.upstreams()[0].down, "round {round}");
        fake.now_does(address(1, 300));
        rig.resolve(&Client::asks(["d.example.", "e.example.", "f.example."][round])).await;
    }
}

#[tokio::test]
async fn an_upstream_is_never_left_alone_when_so_configured() {
    let fake = Fake::start(silence).await;
    let rig = Rig::new(ForwardConfig { max_fails: 0, ..config(&[&fake]) });
    for name in ["a.example.", "b.example.", "c.example."] {
        rig.resolve(&Client::asks(name)).await;
    }
    assert!(!rig.forwarder.upstreams()[0].down);
    assert!(fake.asked().iter().all(|asked| asked.message.queries[0].query_type == RecordType::A), "no probes");
}

#[tokio::test]
async fn when_all_are_down_they_are_asked_all_the_same() {
    for (fail_fast, expected) in [(false, ResponseCode::NoError), (true, ResponseCode::ServFail)] {
        let [first, second] = [Fake::start(silence).await, Fake::start(silence).await];
        let settings = ForwardConfig {
            fail_fast,
            // No probe in this test's time.
            probe_interval: Duration::from_secs(3600),
            max_probe_interval: Duration::from_secs(3600),
            ..config(&[&first, &second])
        };
        let rig = Rig::new(settings);
        rig.resolve(&Client::asks("a.example.")).await;
        wait_until(|| rig.forwarder.upstreams().iter().all(|upstream| upstream.down)).await;
        [&first, &second].into_iter().for_each(|fake| fake.now_does(address(1, 300)));
        let message = rig.resolve(&Client::asks("b.example.")).await;
        assert_eq!(message.metadata.response_code, expected, "fail_fast: {fail_fast}");
        assert_eq!(rig.metric("coredns_forward_healthcheck_broken_total"), 1.0);
    }
}

#[tokio::test]
async fn what_this_machine_lacks_is_not_an_upstreams_fault() {
    use crate::forward::exchange::ExchangeError;
    let local = ExchangeError::Local { operation: "open a UDP socket", source: std::io::Error::from_raw_os_error(24) };
    let remote =
        ExchangeError::Unreachable { operation: "receive the reply", source: std::io::Error::from_raw_os_error(111) };
    assert!(!local.is_failure() && remote.is_failure());
    assert!(ExchangeError::Timeout(Duration::from_secs(1)).is_failure());
}

/// The upstream forwards to us, as a resolver does whose own upstream is this node.
#[tokio::test]
async fn a_loop_is_noticed_and_the_upstream_left_alone() {
    let looping = Fake::start(silence).await;
    let fine = Fake::start(address(2, 300)).await;
    let (send, mut probes) = tokio::sync::mpsc::unbounded_channel();
    looping.now_does(move |asked| {
        send.send(asked.wire.clone()).unwrap();
        failing(ResponseCode::ServFail)(asked)
    });
    let settings = ForwardConfig { detect_loops: true, ..config(&[]) };
    let rig = Rig::new(settings);
    let patient = ForwardConfig {
        detect_loops: true,
        timeout: Duration::from_secs(5),
        deadline: Duration::from_secs(5),
        ..config(&[&looping, &fine])
    };
    drop(rig);
    let rig = Rig::new(patient);
    let probe = probes.recv().await.unwrap();
    let question = hickory_proto::op::Message::from_vec(&probe).unwrap().queries[0].clone();
    assert_eq!(question.query_type, RecordType::HINFO);
    assert_eq!(question.name.num_labels(), 2);

    // It comes back in other letters, with another id: a different resolver asks.
    let answer = rig.forwarder.resolve(&probe, 1232).await;
    let answer = hickory_proto::op::Message::from_vec(&answer).unwrap();
    assert_eq!(answer.metadata.response_code, ResponseCode::Refused);
    let status = rig.forwarder.upstreams();
    assert!(status[0].looping && !status[1].looping, "{status:?}");
    assert_eq!(hosts(&rig.resolve(&Client::asks("www.example.")).await), [(2, 300)]);
    assert_eq!(looping.count(), 1, "the probe and nothing else");
    assert!(fine.asked().iter().any(|asked| asked.message.queries[0].query_type == RecordType::HINFO));
}

#[tokio::test]
async fn a_loop_of_the_only_upstream_is_a_failure_not_an_end() {
    let looping = Fake::start(silence).await;
    let rig = Rig::new(ForwardConfig { detect_loops: true, timeout: Duration::from_secs(5), ..config(&[&looping]) });
    looping.wait_until_asked(1).await;
    rig.forwarder.resolve(&looping.asked()[0].wire, 1232).await;
    let message = rig.resolve(&Client::asks("www.example.").with_edns(false)).await;
    assert_eq!(message.metadata.response_code, ResponseCode::ServFail);
    assert_eq!(extended_error(&message), Some(22), "No Reachable Authority");
    assert!(rig.forwarder.upstreams()[0].looping);
}

#[tokio::test]
async fn other_questions_for_hinfo_are_questions() {
    let fake = Fake::start(denial(ResponseCode::NoError, 300, 300)).await;
    let rig = Rig::new(ForwardConfig { detect_loops: true, ..config(&[&fake]) });
    let message = rig.resolve(&Client::asks("1234.5678.").for_type(RecordType::HINFO)).await;
    assert_eq!(message.metadata.response_code, ResponseCode::NoError);
    assert!(!rig.forwarder.upstreams()[0].looping);
}
