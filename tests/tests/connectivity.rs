//! Everything that ought to be reached is, with the right addresses seen; what must not get through is dropped and counted.

use std::path::Path;

use anyhow::Result;
use sdn_lab::machine::Machine;
use sdn_lab::survey::{self, Survey};
use sdn_lab::{Family, Lab, LabBuilder, PodSpec};

/// Two pods on each of three nodes, one of them on its node's network.
fn pods(builder: LabBuilder) -> LabBuilder {
    let own = (1..=3).flat_map(|node| [(node, "a"), (node, "b")]);
    let own = own.map(|(node, name)| PodSpec::new(&format!("matrix/{name}-{node}")).on(&format!("node-{node}")));
    let host = PodSpec::new("matrix/host").on("node-2").host_network().tcp(18080).udp(18081);
    own.map(|pod| pod.tcp(8080).udp(5353)).chain([host]).fold(builder, LabBuilder::pod)
}

fn start(name: &str, family: Family) -> Lab {
    pods(Lab::builder(name).nodes(3).family(family)).start().expect("the lab comes up")
}

#[track_caller]
fn assert_as_expected(survey: &Survey) {
    let faults = survey.faults();
    assert!(
        faults.is_empty(),
        "{} of {}:\n{}",
        faults.len(),
        survey.checked.len(),
        faults[..faults.len().min(30)].join("\n")
    );
}

/// The questions asked in a lab of these families: 6 pods ask 6 others, 3 nodes twice, the outside, and what is forbidden.
fn assert_everything_reached(name: &str, family: Family) -> Result<()> {
    let before = Machine::look()?;
    let lab = start(name, family);
    let survey = survey::survey(&lab, |_, _| ())?;
    assert_as_expected(&survey);
    let least = family.each().len() * (6 * (6 * 3 + 3 * 6 + 3 + 4) + 3 * 6 * 3);
    assert!(survey.checked.len() >= least, "only {} questions, expected {least}", survey.checked.len());
    lab.stop()?;
    assert_eq!(before.changes_after(name)?, Vec::<String>::new());
    Ok(())
}

#[test]
fn over_ipv4() -> Result<()> {
    assert_everything_reached("matrix-v4", Family::V4)
}

#[test]
fn over_ipv6_alone() -> Result<()> {
    assert_everything_reached("matrix-v6", Family::V6)
}

#[test]
fn over_both() -> Result<()> {
    assert_everything_reached("matrix-dual", Family::Dual)
}

#[test]
fn two_labs_at_once_do_not_disturb_each_other() {
    let labs = [start("matrix-left", Family::Dual), start("matrix-right", Family::Dual)];
    let surveys = std::thread::scope(|scope| {
        let both = labs.each_ref().map(|lab| scope.spawn(|| survey::survey(lab, |_, _| ())));
        both.map(|one| one.join().unwrap().unwrap())
    });
    surveys.iter().for_each(assert_as_expected);
    let [left, right] = labs;
    left.stop().unwrap();
    assert_as_expected(&survey::survey(&right, |_, _| ()).unwrap());
}

#[test]
fn pods_come_and_go_without_an_address_in_two_hands() {
    let before = Machine::look().unwrap();
    let lab = Lab::builder("matrix-churn").nodes(2).start().unwrap();
    for round in 0..4 {
        let names: Vec<String> = (0..20).map(|number| format!("churn/pod-{number}")).collect();
        let pods = lab.add_pods(names.iter().map(|name| PodSpec::new(name).tcp(80))).unwrap();
        let addresses: std::collections::BTreeSet<_> = pods.iter().flat_map(|pod| pod.addresses()).collect();
        assert_eq!(addresses.len(), 40, "an IPv4 and an IPv6 address each");
        pods.iter().for_each(|pod| lab.check_pod(&pod.key().to_string()).unwrap());
        if round % 2 == 0 {
            assert_as_expected(&survey::survey(&lab, |_, _| ()).unwrap());
        }
        names.iter().for_each(|name| lab.delete_pod(name).unwrap());
    }
    for node in lab.nodes() {
        let status: serde_json::Value = serde_json::from_str(&node.sdnctl(&["status", "-o", "json"]).unwrap()).unwrap();
        assert_eq!(status["localPods"], 0, "leases on {}", node.name());
        let left = node.exec(["sh", "-c", "ls /run/netns; ls /sys/class/net | grep ^cv"]).unwrap();
        assert_eq!(String::from_utf8_lossy(&left.stdout), "", "left on {}", node.name());
    }
    lab.stop().unwrap();
    assert_eq!(before.changes_after("matrix-churn").unwrap(), Vec::<String>::new());
}

#[test]
fn the_example_application_is_reached() {
    let examples = Path::new(env!("CARGO_MANIFEST_DIR")).join("../examples");
    let lab = Lab::builder("matrix-examples").nodes(3).manifests(examples).start().unwrap();
    assert!(lab.pods().len() >= 5, "{:?}", lab.pods());
    assert_as_expected(&survey::survey(&lab, |_, _| ()).unwrap());
}
