use super::*;
use crate::{
    model::{Kind, Object},
    snapshot::{Change, Snapshot},
};

fn parse(spec: &str) -> Result<Arc<NetworkPolicy>, FieldError> {
    let json = format!(r#"{{"metadata": {{"name": "web", "namespace": "shop"}}, "spec": {spec}}}"#);
    match Object::parse(Kind::NetworkPolicy, &json, "")? {
        Object::NetworkPolicy(policy) => Ok(policy),
        other => panic!("{other:?} is no policy"),
    }
}

/// The one problem of a policy with this rule for ingress, which admits nothing and is not the only one.
fn problem(rule: &str) -> FieldError {
    let policy = parse(&format!(r#"{{"ingress": [{{}}, {rule}]}}"#)).expect("taken");
    let rules = policy.ingress.as_deref().expect("it isolates");
    assert_eq!(rules.iter().map(Rule::admits_nothing).collect::<Vec<_>>(), [false, true], "{rule}");
    let again = Object::parse(Kind::NetworkPolicy, &policy.to_json().to_string(), "");
    assert_eq!(again, Ok(Object::NetworkPolicy(policy.clone())), "it stays wrong when it is written and read");
    let [problem] = policy.problems() else { panic!("{rule}: {:?}", policy.problems()) };
    problem.clone()
}

#[test]
fn what_the_api_refuses_is_told_by_field() {
    // rule, field below spec.ingress[1], what the message says
    let rows = [
        (r#"null"#, "", "expected a mapping"),
        (r#"[]"#, "", "expected a mapping"),
        (r#"{"from": {}}"#, "from", "expected a sequence"),
        (r#"{"from": [{}]}"#, "from[0]", "a peer needs"),
        (r#"{"from": [[]]}"#, "from[0]", "expected a mapping"),
        (r#"{"from": [{"podSelector": null}]}"#, "from[0]", "a peer needs"),
        (r#"{"from": [{"podSelector": []}]}"#, "from[0].podSelector", "expected a mapping"),
        (r#"{"from": [{"podSelector": {}, "ipBlock": {"cidr": "10.0.0.0/8"}}]}"#, "from[0]", "stands alone"),
        (r#"{"from": [{"namespaceSelector": {}, "ipBlock": {"cidr": "10.0.0.0/8"}}]}"#, "from[0]", "stands alone"),
        (
            r#"{"from": [{"podSelector": {}}, {"podSelector": {"matchExpressions": [{"key": "a", "operator": "In"}]}}]}"#,
            "from[1].podSelector.matchExpressions[0]",
            "In needs values",
        ),
        (
            r#"{"from": [{"namespaceSelector": {"matchLabels": {"a": "b c"}}}]}"#,
            "from[0].namespaceSelector.matchLabels.a",
            "not the value of a label",
        ),
        (r#"{"from": [{"ipBlock": {}}]}"#, "from[0].ipBlock", "missing field `cidr`"),
        (r#"{"from": [{"ipBlock": {"cidr": ""}}]}"#, "from[0].ipBlock.cidr", "is not a CIDR"),
        (r#"{"from": [{"ipBlock": {"cidr": "10.0.0.0"}}]}"#, "from[0].ipBlock.cidr", "is not a CIDR"),
        (
            r#"{"from": [{"ipBlock": {"cidr": "10.0.0.0/8", "except": ["11.0.0.0/9"]}}]}"#,
            "from[0].ipBlock",
            "except[0], 11.0.0.0/9, is not a part of cidr",
        ),
        (
            r#"{"from": [{"ipBlock": {"cidr": "10.0.0.0/8", "except": ["10.0.0.0/9", "10.0.0.0/8"]}}]}"#,
            "from[0].ipBlock",
            "except[1]",
        ),
        (r#"{"from": [{"ipBlock": {"cidr": "10.0.0.0/8", "except": ["fd00::/16"]}}]}"#, "from[0].ipBlock", "except[0]"),
        (
            r#"{"from": [{"ipBlock": {"cidr": "10.0.0.0/8", "except": ["x"]}}]}"#,
            "from[0].ipBlock.except[0]",
            "is not a CIDR",
        ),
        (r#"{"ports": [{"port": 0}]}"#, "ports[0].port", "1 to 65535"),
        (r#"{"ports": [{"port": 65536}]}"#, "ports[0].port", "1 to 65535"),
        (r#"{"ports": [{"port": -1}]}"#, "ports[0].port", "1 to 65535"),
        (r#"{"ports": [{"port": 80.5}]}"#, "ports[0].port", "1 to 65535"),
        (r#"{"ports": [{"port": ""}]}"#, "ports[0].port", "not the name of a port"),
        (r#"{"ports": [{"port": "80"}]}"#, "ports[0].port", "not the name of a port"),
        (r#"{"ports": [{"port": "HTTP"}]}"#, "ports[0].port", "not the name of a port"),
        (r#"{"ports": [{"protocol": "ICMP"}]}"#, "ports[0].protocol", "unknown variant `ICMP`"),
        (r#"{"ports": [{"protocol": "tcp"}]}"#, "ports[0].protocol", "unknown variant `tcp`"),
        (r#"{"ports": [{"protocol": ""}]}"#, "ports[0].protocol", "unknown variant"),
        (r#"{"ports": [{"endPort": 80}]}"#, "ports[0]", "endPort needs a port"),
        (r#"{"ports": [{"port": "http", "endPort": 80}]}"#, "ports[0]", "not with the name"),
        (r#"{"ports": [{"port": 81, "endPort": 80}]}"#, "ports[0]", "endPort 80 is less than port 81"),
        (r#"{"ports": [{"port": 80, "endPort": 65536}]}"#, "ports[0].endPort", "65536"),
        (r#"{"ports": [{"port": 80}, [80]]}"#, "ports[1]", "expected a mapping"),
    ];
    for (rule, field, says) in rows {
        let problem = problem(rule);
        let dot = if field.is_empty() { "" } else { "." };
        assert_eq!(problem.field, format!("spec.ingress[1]{dot}{field}"), "{rule}: {problem:?}");
        assert!(problem.message.contains(says), "{rule}: {problem:?}");
    }
}

#[test]
fn what_is_wrong_as_a_whole_still_isolates() {
    // spec, ingress rules, egress rules, the fields that are wrong
    type Row<'a> = (&'a str, Option<usize>, Option<usize>, &'a [&'a str]);
    let rows: [Row; 8] = [
        (r#"{"policyTypes": ["ingress"]}"#, Some(0), None, &["spec.policyTypes[0]"]),
        (r#"{"policyTypes": ["Egress", "x"]}"#, Some(0), Some(0), &["spec.policyTypes[1]"]),
        (r#"{"policyTypes": ["egress"], "egress": [{}]}"#, Some(0), Some(1), &["spec.policyTypes[0]"]),
        (r#"{"policyTypes": "Egress"}"#, Some(0), None, &["spec.policyTypes"]),
        (r#"{"policyTypes": ["Egress", "Egress", "Egress"]}"#, Some(0), Some(0), &["spec.policyTypes"]),
        (r#"{"ingress": {}}"#, Some(0), None, &["spec.ingress"]),
        (r#"{"egress": {"to": []}}"#, Some(0), Some(0), &["spec.egress"]),
        (
            r#"{"policyTypes": ["Ingress"], "ingress": [{"ports": 1}, {"from": 1}], "egress": [{"to": 1}]}"#,
            Some(2),
            None,
            &["spec.ingress[0].ports", "spec.ingress[1].from", "spec.egress[0].to"],
        ),
    ];
    for (spec, ingress, egress, fields) in rows {
        let policy = parse(spec).expect(spec);
        let count = |rules: &Option<Vec<Rule>>| rules.as_ref().map(Vec::len);
        assert_eq!((count(&policy.ingress), count(&policy.egress)), (ingress, egress), "{spec}");
        let wrong: Vec<_> = policy.problems().iter().map(|problem| problem.field.as_str()).collect();
        assert_eq!(wrong, fields, "{spec}");
    }
}

#[test]
fn without_knowing_the_pods_it_is_rejected() {
    let expression = r#"{"podSelector": {"matchExpressions": [{"key": "a", "operator": "Exists", "values": ["b"]}]}}"#;
    let rows = [
        (expression, "spec.podSelector.matchExpressions[0]"),
        (r#"{"podSelector": {"matchLabels": {"a": 1}}}"#, "spec.podSelector.matchLabels.a"),
        (r#"{"podSelector": []}"#, "spec.podSelector"),
        ("[]", "spec"),
        ("5", "spec"),
    ];
    for (spec, field) in rows {
        assert_eq!(parse(spec).expect_err(spec).field, field, "{spec}");
    }
    let unnamed = Object::parse(Kind::NetworkPolicy, r#"{"metadata": {}}"#, "").expect_err("no name");
    assert_eq!(unnamed.field, "metadata.name");
}

#[test]
fn problems_have_their_lines() {
    let json = "{\"metadata\": {\"name\": \"a\"},\n\"spec\": {\n \"ingress\": [\n  {},\n  {\"from\": [\n   {}]}],\n \"policyTypes\": [\n  \"x\"]}}";
    let object = Object::parse(Kind::NetworkPolicy, json, "").expect("taken");
    let faults: Vec<_> = object.faults(json).into_iter().map(|fault| (fault.field, fault.line)).collect();
    let expected = [("spec.policyTypes[0]", 8), ("spec.ingress[1].from[0]", 6)];
    assert_eq!(faults, expected.map(|(field, line)| (field.to_owned(), Some(line))));
}

#[test]
fn blocks_are_read_as_the_api_server_reads_them() {
    // cidr, what it is; empty: nothing
    let rows = [
        ("10.1.2.3/8", "10.0.0.0/8"),
        ("010.001.0.0/016", "10.1.0.0/16"),
        ("0.0.0.0/0", "0.0.0.0/0"),
        ("fd01::1/64", "fd01::/64"),
        ("::/0", "::/0"),
        ("::ffff:10.0.0.0/104", "10.0.0.0/8"),
        ("10.0.0.0/33", ""),
        ("10.0.0.0/+8", ""),
        ("10.0.0.0/", ""),
        ("10.0.0/8", ""),
        ("256.0.0.0/8", ""),
        ("10.0.0.0/8/8", ""),
        (" 10.0.0.0/8", ""),
        ("fe80::1%eth0/64", ""),
        ("::/129", ""),
        ("x", ""),
    ];
    for (cidr, expected) in rows {
        let policy =
            parse(&format!(r#"{{"ingress": [{{"from": [{{"ipBlock": {{"cidr": "{cidr}"}}}}]}}]}}"#)).expect(cidr);
        let rules = policy.ingress.as_deref().expect("it isolates");
        let found = match &rules[0].peers {
            Scope::Only(peers) => match peers.first() {
                Some(Peer::Block(block)) => block.cidr.to_string(),
                _ => String::new(),
            },
            Scope::Everything => panic!("{cidr} is everything"),
        };
        assert_eq!((found.as_str(), policy.invalid.is_none()), (expected, !expected.is_empty()), "{cidr}");
    }
}

#[test]
fn both_groups_that_served_it_are_known() {
    let known = ["networking.k8s.io/v1", "extensions/v1beta1"].map(|version| Kind::of(version, "NetworkPolicy"));
    assert_eq!(known, [Some(Kind::NetworkPolicy); 2]);
    assert_eq!(Kind::of("crd.projectcalico.org/v1", "NetworkPolicy"), None);
}

#[test]
fn snapshots_tell_what_changed_and_what_a_namespace_has() {
    let policy = |namespace: &str, name: &str| {
        Arc::new(NetworkPolicy { namespace: namespace.into(), name: name.into(), ..NetworkPolicy::default() })
    };
    let mut old = Snapshot::default();
    for policy in [policy("a", "z"), policy("b", "x"), policy("b", "y"), policy("ba", "a")] {
        old.policies.insert(policy.key(), policy);
    }
    let names: Vec<_> = old.policies_in("b").map(|policy| policy.key().to_string()).collect();
    assert_eq!(names, ["b/x", "b/y"]);
    let mut new = old.clone();
    let key = PolicyKey::new("b", "x");
    new.policies
        .insert(key.clone(), NetworkPolicy { ingress: Some(Vec::new()), ..(*old.policies[&key]).clone() }.into());
    new.policies.remove(&PolicyKey::new("a", "z"));
    let changes: Vec<_> = new.policy_changes(&old).collect();
    assert!(
        matches!(&changes[..], [Change::Removed(gone, _), Change::Changed { key: changed, .. }]
            if gone.to_string() == "a/z" && **changed == key),
        "{changes:?}"
    );
}
