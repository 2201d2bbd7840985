//! Who is admitted, and what the others are told.

use super::*;

#[test]
fn deletion_promotes_who_waits() {
    let mut world = World::new(Settings::default());
    for (minute, (name, path)) in (0..).zip([("a", ""), ("b", "/foo"), ("c", "/foo"), ("d", "/foo"), ("e", "/bar")]) {
        world.put(route(name, "example.com", minute, json!({"path": path})));
    }
    let steps: [(Option<&str>, &[&str], &[&str]); 4] = [
        (None, &["a", "b", "e"], &["c", "d"]),
        (Some("b"), &["a", "c", "e"], &["d"]),
        (Some("c"), &["a", "d", "e"], &[]),
        (Some("e"), &["a", "d"], &[]),
    ];
    for (deleted, admitted, rejected) in steps {
        deleted.into_iter().for_each(|name| world.delete_route("shop", name));
        world.update();
        let names = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect::<Vec<_>>();
        assert_eq!(world.sorted(), (names(admitted), names(rejected)), "without {deleted:?}");
    }
    assert_eq!(world.answers("example.com", "/foo").as_deref(), Some("shop/d"));
    assert_eq!(world.answers("example.com", "/bar").as_deref(), Some("shop/a"));
}

#[test]
fn the_oldest_owns_a_host_for_its_namespace() {
    let mut world = World::new(Settings::default());
    world.put(route_in("new", "n", "h.com", 2, json!({"path": "/n"})));
    world.update();
    assert_eq!(world.rejection("new", "n"), None);
    // Somebody older comes: the host is theirs, whatever the path.
    world.put(route_in("old", "o", "h.com", 1, json!({"path": "/o"})));
    world.update();
    assert_eq!(world.rejection("old", "o"), None);
    let replaced = Some((Reason::HostAlreadyClaimed, "replaced by older route o".to_owned()));
    assert_eq!(world.rejection("new", "n"), replaced);
    assert_eq!(world.answers("h.com", "/n"), None);
    // What was said stays said while it is so.
    world.put(route_in("old", "p", "h.com", 3, json!({"path": "/p"})));
    world.put(route_in("new", "m", "h.com", 4, json!({})));
    world.update();
    assert_eq!(world.rejection("new", "n"), replaced);
    let message = "a route in another namespace holds h.com and is older than m".to_owned();
    assert_eq!(world.rejection("new", "m"), Some((Reason::HostAlreadyClaimed, message)));
    // The owner goes, and the oldest that is left owns the host.
    world.delete_route("old", "o");
    world.update();
    assert_eq!((world.rejection("new", "n"), world.rejection("new", "m")), (None, None));
    assert!(world.rejection("old", "p").is_some());
}

#[test]
fn paths_of_one_namespace_coexist_but_passthrough_is_for_the_whole_host() {
    let edge = |path: &str| json!({"path": path, "tls": {"termination": "edge"}});
    let pass = || json!({"tls": {"termination": "passthrough"}});
    // the older, the younger, whether the younger has to wait
    let rows = [
        (json!({"path": "/a"}), json!({"path": "/b"}), false),
        (json!({"path": "/a"}), json!({"path": "/a"}), true),
        (json!({"path": "/"}), json!({}), true),
        (json!({"path": "/a"}), json!({"path": "/a/"}), false),
        (edge("/a"), edge("/b"), false),
        (edge("/a"), json!({"path": "/a"}), true),
        (edge("/a"), pass(), true),
        (pass(), edge("/a"), true),
        (pass(), json!({"path": "/a"}), false),
        (pass(), json!({}), true),
        (pass(), pass(), true),
    ];
    for (old, new, waits) in rows {
        let mut world = World::new(Settings::default());
        world.put(route("new", "h.com", 2, new.clone()));
        world.put(route("old", "h.com", 1, old.clone()));
        world.update();
        assert_eq!(world.rejection("shop", "old"), None, "{old} {new}");
        let message = "route old already exposes h.com and is older".to_owned();
        let expected = waits.then_some((Reason::HostAlreadyClaimed, message));
        assert_eq!(world.rejection("shop", "new"), expected, "{old} {new}");
    }
}

#[test]
fn of_one_age_the_uid_decides_and_then_the_name() {
    let mut world = World::new(Settings::default());
    for (name, uid) in [("a", "2"), ("b", "1")] {
        let mut route = route(name, "h.com", 1, json!({}));
        route["metadata"]["uid"] = json!(uid);
        world.put(route);
    }
    for name in ["y", "x"] {
        let mut route = route(name, "i.com", 1, json!({}));
        let metadata = route["metadata"].as_object_mut().expect("metadata");
        metadata.retain(|field, _| field != "uid" && field != "creationTimestamp");
        world.put(route);
    }
    world.put(route("dated", "i.com", 0, json!({})));
    world.update();
    let names = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect::<Vec<_>>();
    assert_eq!(world.sorted(), (names(&["b", "x"]), names(&["a", "dated", "y"])));
}

#[test]
fn namespaces_may_share_hosts_where_the_operator_says_so() {
    let mut world = World::new(Settings { share_hosts: true, allow_wildcards: true, ..Settings::default() });
    world.put(route_in("old", "o", "www.h.com", 1, json!({"path": "/o"})));
    world.put(route_in("new", "n", "www.h.com", 2, json!({"path": "/n"})));
    world.put(route_in("new", "o", "www.h.com", 3, json!({"path": "/o"})));
    world.put(route_in("third", "w", "any.h.com", 4, json!({"wildcardPolicy": "Subdomain"})));
    world.update();
    assert_eq!(world.answers("www.h.com", "/n").as_deref(), Some("new/n"));
    assert_eq!(world.answers("www.h.com", "/x").as_deref(), Some("third/w"));
    assert_eq!(world.rejection("new", "o").map(|(reason, _)| reason), Some(Reason::HostAlreadyClaimed));
}

#[test]
fn wildcards_need_leave_and_keep_others_out_of_their_domain() {
    let wildcard = || json!({"wildcardPolicy": "Subdomain"});
    let mut world = World::new(Settings::default());
    world.put(route("w", "any.h.com", 1, wildcard()));
    world.update();
    let message = "wildcard routes are not allowed".to_owned();
    assert_eq!(world.rejection("shop", "w"), Some((Reason::RouteNotAdmitted, message)));

    let foreign =
        |host: &str| Some((Reason::HostAlreadyClaimed, format!("a route in another namespace holds host {host}")));
    // who is older, the wildcard's namespace; what each is told
    let rows = [
        ("wildcard", "shop", None, None),
        ("exact", "shop", None, None),
        ("wildcard", "other", None, foreign("www.h.com")),
        ("exact", "other", foreign("any.h.com"), None),
    ];
    for (older, namespace, told_wildcard, told_exact) in rows {
        let mut world = World::new(Settings { allow_wildcards: true, ..Settings::default() });
        let minute = |name| if older == name { 1 } else { 2 };
        world.put(route_in(namespace, "w", "any.h.com", minute("wildcard"), wildcard()));
        world.put(route("e", "www.h.com", minute("exact"), json!({"path": "/e"})));
        world.put(route("far", "a.www.h.com", 9, json!({})));
        world.update();
        assert_eq!(world.rejection(namespace, "w"), told_wildcard, "{older} {namespace}");
        assert_eq!(world.rejection("shop", "e"), told_exact, "{older} {namespace}");
        assert_eq!(world.rejection("shop", "far"), None, "two labels are another domain");
        if told_wildcard.is_none() && told_exact.is_none() {
            assert_eq!(world.answers("www.h.com", "/e").as_deref(), Some("shop/e"));
            assert_eq!(world.answers("www.h.com", "/").as_deref(), Some("shop/w"), "what has no path there");
            assert_eq!(world.answers("h.com", "/"), None);
        }
        // The wildcard goes: whoever it kept out comes in.
        world.delete_route(namespace, "w");
        world.update();
        assert_eq!(world.rejection("shop", "e"), None, "{older} {namespace}");
        assert_eq!(world.answers("www.h.com", "/"), None);
    }
}

#[test]
fn hosts_are_generated_and_overridden() {
    let template =
        || Settings { hostname_template: Some("${name}-${namespace}.apps.com".into()), ..Settings::default() };
    let domain = || Settings { domain: Some("apps.com".into()), ..Settings::default() };
    let overriding = || Settings { override_domains: vec!["h.com".into()], ..template() };
    let of = |text: &str| Settings { hostname_template: Some(text.into()), ..Settings::default() };
    let own = |host: &str| Ok(host.to_owned());
    // settings, spec.host, spec.subdomain; the host, or why there is none
    let rows = [
        (Settings::default(), "", "", Err(Reason::NoHostValue)),
        (Settings::default(), "h.com", "", own("h.com")),
        (Settings::default(), "", "sub", Err(Reason::NoHostValue)),
        (domain(), "", "sub", own("sub.apps.com")),
        (domain(), "h.com", "sub", own("h.com")),
        (template(), "", "", own("web-shop.apps.com")),
        (template(), "h.com", "", own("h.com")),
        (Settings { domain: Some("d.com".into()), ..template() }, "", "sub", own("sub.d.com")),
        (Settings { override_hostname: true, ..template() }, "h.com", "", own("web-shop.apps.com")),
        (overriding(), "a.h.com", "", own("web-shop.apps.com")),
        (overriding(), "ah.com", "", own("ah.com")),
        (of("${uid}.com"), "", "", Err(Reason::NoHostValue)),
        (of("\"${name}.com\""), "", "", own("web.com")),
    ];
    for (settings, host, subdomain, expected) in rows {
        let shown = format!("{:?} {host:?} {subdomain:?}", settings.hostname_template);
        let mut world = World::new(settings);
        world.put(route("web", host, 1, json!({"subdomain": subdomain})));
        world.update();
        let status = world.status("shop", "web");
        let found = status.admitted.clone().map(|()| status.host.to_string()).map_err(|rejection| rejection.reason);
        assert_eq!(found, expected, "{shown}");
    }
    let mut world = World::new(Settings::default());
    world.put(route("web", "", 1, json!({})));
    world.update();
    let message = "no host value was defined for the route".to_owned();
    assert_eq!(world.rejection("shop", "web"), Some((Reason::NoHostValue, message)));
}

#[test]
fn hosts_that_are_none_are_told_why() {
    let long = format!("{}.com", "a".repeat(64));
    let label = "a lowercase RFC 1123 label must consist of";
    let rows = [
        ("Upper.com", label),
        ("a_b.com", label),
        ("a..com", label),
        ("-a.com", label),
        ("a.com.", label),
        ("*.com", label),
        (&*long, "must be no more than 63 characters"),
    ];
    for (host, part) in rows {
        let mut world = World::new(Settings::default());
        world.put(route("web", host, 1, json!({})));
        world.update();
        let (reason, message) = world.rejection("shop", "web").expect("a rejection");
        assert_eq!(reason, Reason::InvalidHost, "{host}");
        let begin = format!(
            "host name validation errors: spec.host: Invalid value: {host:?}: host must conform to DNS 952 subdomain \
             conventions, spec.host: Invalid value: {host:?}: "
        );
        assert!(message.starts_with(&begin) && message.contains(part), "{message}");
    }
}

#[test]
fn domains_are_allowed_and_denied() {
    let settings = || Settings {
        allowed_domains: vec!["good.com".into(), "one.other.com".into()],
        denied_domains: vec!["bad.good.com".into()],
        ..Settings::default()
    };
    let (denied, outside) = ("host in list of denied domains", "host not in the allowed list of domains");
    let rows = [
        ("good.com", None),
        ("a.good.com", None),
        ("a.b.good.com", None),
        ("one.other.com", None),
        ("bad.good.com", Some(denied)),
        ("very.bad.good.com", Some(denied)),
        ("notbad.good.com", None),
        ("agood.com", Some(outside)),
        ("other.com", Some(outside)),
        ("com", Some(outside)),
    ];
    for (host, message) in rows {
        let mut world = World::new(settings());
        world.put(route("web", host, 1, json!({})));
        world.update();
        let expected = message.map(|message| (Reason::RouteNotAdmitted, message.to_owned()));
        assert_eq!(world.rejection("shop", "web"), expected, "{host}");
    }
}

#[test]
fn shards_pick_by_labels_of_routes_and_namespaces() {
    let variables = [("ROUTE_LABELS", "type=public"), ("NAMESPACE_LABELS", "tier!=internal")];
    let lookup = |name: &str| variables.iter().find(|(other, _)| *other == name).map(|(_, value)| (*value).to_owned());
    let (settings, faults) = Settings::from_variables(&lookup);
    assert_eq!(faults, []);
    let mut world = World::new(settings);
    let namespace = |name: &str, tier: &str| json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name, "labels": {"tier": tier}}});
    world.put(namespace("shop", "public"));
    let labelled = |namespace: &str, name: &str, label: &str| {
        let mut route = route_in(namespace, name, &format!("{name}.com"), 1, json!({}));
        route["metadata"]["labels"] = json!({"type": label});
        route
    };
    world.put(labelled("shop", "a", "public"));
    world.put(labelled("shop", "b", "private"));
    world.put(labelled("unknown", "c", "public"));
    world.update();
    assert_eq!(world.sorted(), (vec!["a".to_owned()], vec![]), "what is not this router's has no status");
    world.put(labelled("shop", "b", "public"));
    world.put(namespace("unknown", "public"));
    world.update();
    assert_eq!(world.sorted().0, ["a", "b", "c"]);
    // A namespace that falls out takes its routes with it at once.
    world.put(namespace("shop", "internal"));
    world.update();
    assert_eq!(world.sorted(), (vec!["c".to_owned()], vec![]));
    assert_eq!(world.answers("a.com", "/"), None);
}

#[test]
fn a_route_that_changes_keeps_its_counters_and_one_that_is_made_anew_does_not() {
    let timeout = "haproxy.router.openshift.io/timeout";
    let mut world = World::new(Settings::default());
    world.put(route("web", "a.com", 1, json!({})));
    world.update();
    let before = world.backend("a.com", "/").expect("a backend");
    let held = before.state.enter();
    world.put(with_annotation(route("web", "b.com", 1, json!({"path": "/x"})), timeout, "7s"));
    world.update();
    assert_eq!(world.answers("a.com", "/"), None);
    let after = world.backend("b.com", "/x").expect("a backend");
    assert_eq!(after.config.timeouts.server, std::time::Duration::from_secs(7));
    assert_eq!(after.state.active(), 1, "a change forgets nothing");
    drop(held);
    let mut other = route("web", "b.com", 1, json!({}));
    other["metadata"]["uid"] = json!("another");
    world.put(other);
    world.update();
    assert!(!Arc::ptr_eq(&world.backend("b.com", "/").expect("a backend").state, &after.state));
}

#[test]
fn annotations_that_make_no_sense_are_told_with_a_route_that_is_served() {
    let mut world = World::new(Settings::default());
    let route = with_annotation(route("web", "a.com", 1, json!({})), "haproxy.router.openshift.io/timeout", "soon");
    world.put(route);
    world.update();
    let status = world.status("shop", "web");
    assert_eq!(status.admitted, Ok(()));
    assert_eq!(status.notices.len(), 1);
    assert!(status.notices[0].message.contains("soon"), "{:?}", status.notices);
}
