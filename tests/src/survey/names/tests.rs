use super::*;
use crate::sandbox::{Namespace, Sandbox};

fn reply(code: &str, records: &[&str]) -> Result<NameReply, Failure> {
    let records = records.iter().map(|record| (*record).to_owned()).collect();
    Ok(NameReply { code: code.into(), records, truncated: false })
}

#[test]
fn an_answer_is_as_expected_or_says_why_not() {
    let two = NameExpected::Records(["10.128.0.2", "10.128.2.2"].map(String::from).into());
    let none = NameExpected::Records(BTreeSet::new());
    let silence = Err(Failure::Silence(Duration::from_secs(3)));
    let rows = [
        (&two, reply("NOERROR", &["10.128.2.2", "10.128.0.2"]), None),
        (&two, reply("NOERROR", &["10.128.0.2"]), Some("is NOERROR [10.128.0.2] in place of NOERROR")),
        (&two, reply("SERVFAIL", &[]), Some("is SERVFAIL []")),
        (&two, silence, Some("no answer in 3 s")),
        (&none, reply("NOERROR", &[]), None),
        (&none, reply("NXDOMAIN", &[]), Some("is NXDOMAIN []")),
        (&NameExpected::Absent, reply("NXDOMAIN", &[]), None),
        (&NameExpected::Absent, reply("NOERROR", &[]), Some("is NOERROR []")),
    ];
    for (expected, outcome, fault) in rows {
        match (expected.fault(&outcome), fault) {
            (None, None) => {}
            (Some(told), Some(fault)) => assert!(told.contains(fault), "{told}"),
            (told, _) => panic!("{expected:?} {outcome:?}: {told:?}"),
        }
    }
}

#[test]
fn every_kind_of_fault_is_told() {
    let sandbox = Sandbox::from(Namespace::new_net().unwrap());
    let from = Arc::new(Place { name: "shop/web".into(), node: "node-1".into(), sandbox });
    let check = NameCheck {
        kind: NameKind::Port,
        from,
        server: "172.30.0.10".parse().unwrap(),
        over: Transport::Tcp,
        name: "_http._tcp.web.shop.svc.cluster.local".into(),
        record: RecordType::SRV,
        expected: NameExpected::Absent,
    };
    let resolution = |fault: Option<&str>| Resolution {
        from: "shop/web".into(),
        name: "api.shop".into(),
        fault: fault.map(Into::into),
    };
    let withdrawal = |took| Withdrawal {
        endpoint: "shop/api-0".into(),
        name: "api.shop.svc.cluster.local".into(),
        node: "node-2".into(),
        took,
    };
    let names = Names {
        checked: vec![(check.clone(), None), (check, Some("is wrong".into()))],
        resolved: vec![resolution(None), resolution(Some("found nothing"))],
        withdrawn: vec![withdrawal(Some(Duration::from_millis(3))), withdrawal(None)],
    };
    assert_eq!(
        names.faults(),
        [
            "a Service's port (SRV): shop/web (on node-1) asks 172.30.0.10 over TCP for _http._tcp.web.shop.svc.cluster.local SRV: is wrong",
            "getaddrinfo: shop/web looks up api.shop: found nothing",
            "shop/api-0 is not ready, and found as api.shop.svc.cluster.local on node-2 5 s later",
        ]
    );
    let count = names.counts()[&(NameKind::Port, IpFamily::V4, Transport::Tcp)];
    assert_eq!(count, Count { tried: 2, well: 1 });
}
