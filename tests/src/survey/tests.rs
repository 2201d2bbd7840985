use super::*;
use crate::probe::{Failure, Reply};
use crate::sandbox::Namespace;
use crate::standin::{Answer, Identity};

fn address(text: &str) -> IpAddr {
    text.parse().unwrap()
}

fn reply(namespace: &str, pod: &str, client: &str) -> Outcome {
    let who = Identity { namespace: namespace.into(), pod: pod.into(), node: "node-2".into() };
    let (client_address, server_address) = (address(client), address("10.128.2.2"));
    let answer = Answer { who, client_address, client_port: 40000, server_address, server_port: 80, request: None };
    Ok(Reply { answer: Some(answer), took: Duration::ZERO })
}

#[test]
fn an_outcome_is_as_expected_or_says_why_not() {
    let web = Expected::Answer { who: "shop/web".into(), seen_as: vec![address("10.128.0.2"), address("fd01::2")] };
    let node = Expected::Answer { who: "node-1".into(), seen_as: vec![address("10.128.0.2")] };
    let dropped = Expected::Dropped("metadata");
    let silence = || Err(Failure::Silence(Duration::from_secs(3)));
    let rows = [
        (&web, reply("shop", "web", "10.128.0.2"), None),
        (&web, reply("shop", "web", "fd01::2"), None),
        (&web, reply("shop", "db", "10.128.0.2"), Some("answered by shop/db in place of shop/web")),
        (&web, reply("", "web", "10.128.0.2"), Some("answered by web in place of shop/web")),
        (
            &web,
            reply("shop", "web", "192.168.77.11"),
            Some("seen as coming from 192.168.77.11, not from [10.128.0.2, fd01::2]"),
        ),
        (&web, silence(), Some("no answer in 3 s")),
        (&web, Err(Failure::Refused("Connection refused".into())), Some("Connection refused")),
        (&node, reply("", "node-1", "10.128.0.2"), None),
        (&node, Ok(Reply { answer: None, took: Duration::ZERO }), None),
        (&dropped, silence(), None),
        (
            &dropped,
            reply("", "outside", "192.168.77.11"),
            Some("was answered, and should have been dropped as metadata"),
        ),
    ];
    for (expected, outcome, fault) in rows {
        assert_eq!(expected.fault(&outcome).as_deref(), fault, "{expected:?} {outcome:?}");
    }
}

/// A survey of `sent` datagrams that should be dropped, of which the agents counted `counted`.
fn survey_of_drops(sent: usize, counted: u64) -> Survey {
    let sandbox = Sandbox::from(Namespace::new_net().unwrap());
    let from = Arc::new(Place { name: "shop/web".into(), node: "node-1".into(), sandbox });
    let question = Question::Datagram("192.168.77.12:4789".parse().unwrap());
    let expected = Expected::Dropped("pod_vxlan");
    let check = Check { path: Path::PodToVxlan, family: IpFamily::V4, from, question, expected };
    let drops = |packets| Drops::of(&[("node-1", "pod_vxlan", packets), ("node-2", "metadata", 9)]);
    Survey {
        checked: vec![Checked { check, fault: None }; sent],
        drops_before: drops(5),
        drops_after: drops(5 + counted),
    }
}

#[test]
fn drops_that_were_not_counted_are_faults() {
    assert_eq!(survey_of_drops(3, 3).faults(), Vec::<String>::new());
    assert_eq!(survey_of_drops(3, 7).faults(), Vec::<String>::new(), "a client may send again");
    let short = "3 packets to be dropped as pod_vxlan, but the agents counted 2";
    assert_eq!(survey_of_drops(3, 2).faults(), [short]);
    let counts = survey_of_drops(3, 3).counts();
    let count = Count { tried: 3, well: 3 };
    assert_eq!(counts.into_iter().collect::<Vec<_>>(), [((Path::PodToVxlan, IpFamily::V4, "UDP"), count)]);
}
