use super::*;
use crate::admission::Reason;
use crate::table::Source;
use serde_json::json;

const NOW: &str = "2026-02-01T00:00:00Z";

fn status(admitted: Result<(), Rejection>) -> RouteStatus {
    RouteStatus {
        id: RouteId { namespace: "shop".into(), name: "web".into(), source: Source::Route, uid: "u".into() },
        host: "a.com".into(),
        is_wildcard: false,
        path: "".into(),
        termination: Termination::Plain,
        services: vec!["web".into()],
        endpoints: 1,
        admitted,
        notices: Vec::new(),
    }
}

fn settings() -> Settings {
    Settings { canonical_hostname: Some("router.com".into()), ..Settings::default() }
}

fn claimed(message: &str) -> Result<(), Rejection> {
    Err(Rejection::new(Reason::HostAlreadyClaimed, message))
}

#[test]
fn an_entry_is_as_the_api_has_it() {
    let mut entries = Vec::new();
    assert!(status(Ok(())).record(&mut entries, &settings(), NOW));
    let expected = json!([{
        "host": "a.com", "routerName": "public", "routerCanonicalHostname": "router.com", "wildcardPolicy": "None",
        "conditions": [{"type": "Admitted", "status": "True", "lastTransitionTime": NOW}],
    }]);
    assert_eq!(serde_json::to_value(&entries).expect("JSON"), expected, "what is admitted has no reason");
    assert!(status(claimed("why")).record(&mut entries, &settings(), "2026-03-01T00:00:00Z"));
    let condition = json!({
        "type": "Admitted", "status": "False", "reason": "HostAlreadyClaimed", "message": "why",
        "lastTransitionTime": "2026-03-01T00:00:00Z",
    });
    assert_eq!(serde_json::to_value(&entries[0].conditions).expect("JSON"), json!([condition]));
    let read: Vec<RouteIngress> =
        serde_json::from_value(serde_json::to_value(&entries).expect("JSON")).expect("entries");
    assert_eq!(read, entries);
}

#[test]
fn what_is_said_already_is_not_said_again() {
    let mut entries = Vec::new();
    status(claimed("why")).record(&mut entries, &settings(), NOW);
    let before = entries.clone();
    assert!(!status(claimed("why")).record(&mut entries, &settings(), "2026-03-01T00:00:00Z"));
    assert_eq!(entries, before);
    // Another host is another thing, though the condition is the one it was.
    let moved = RouteStatus { host: "b.com".into(), is_wildcard: true, ..status(claimed("why")) };
    assert!(moved.record(&mut entries, &settings(), "2026-03-01T00:00:00Z"));
    assert_eq!((entries[0].host.as_str(), entries[0].wildcard_policy.as_str()), ("b.com", "Subdomain"));
    assert_eq!(entries[0].conditions[0].last_transition_time.as_deref(), Some(NOW));
}

#[test]
fn other_routers_entries_stay_and_what_older_routers_said_goes() {
    let condition = |name: &str| Condition { r#type: name.into(), status: "True".into(), ..Condition::default() };
    let other = RouteIngress { router_name: "shard".into(), host: "c.com".into(), ..RouteIngress::default() };
    let own = RouteIngress {
        router_name: "public".into(),
        conditions: vec![condition(UNSERVABLE), condition("Other"), condition(ADMITTED)],
        ..RouteIngress::default()
    };
    let mut entries = vec![other.clone(), own];
    assert!(status(Ok(())).record(&mut entries, &settings(), NOW));
    assert_eq!((entries.len(), &entries[0]), (2, &other));
    let types: Vec<_> = entries[1].conditions.iter().map(|condition| condition.r#type.as_str()).collect();
    assert_eq!(types, [ADMITTED, "Other"]);
    assert!(!status(Ok(())).record(&mut entries, &settings(), NOW));
}

#[test]
fn reasons_are_the_references() {
    for (reason, text) in [
        (Reason::NoHostValue, "NoHostValue"),
        (Reason::InvalidHost, "InvalidHost"),
        (Reason::HostAlreadyClaimed, "HostAlreadyClaimed"),
        (Reason::RouteNotAdmitted, "RouteNotAdmitted"),
        (Reason::ExtendedValidationFailed, "ExtendedValidationFailed"),
        (Reason::ExternalCertificateValidationFailed, "ExternalCertificateValidationFailed"),
        (Reason::ExternalCertificateSecretDeleted, "ExternalCertificateSecretDeleted"),
    ] {
        assert_eq!(reason.to_string(), text);
    }
}
