use super::*;

fn facts(termination: Termination, path: &Arc<str>) -> RouteFacts<'_> {
    RouteFacts {
        namespace: "default",
        name: "hello",
        path,
        termination,
        insecure: Insecure::None,
        services: 1,
        request_headers: Vec::new(),
        response_headers: Vec::new(),
    }
}

fn read(termination: Termination, annotations: &[(&str, &str)]) -> (RouteConfig, Vec<Notice>) {
    let annotations = annotations.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
    RouteConfig::read(&annotations, facts(termination, &"/app".into()), &Settings::default())
}

/// One annotation on an edge route that makes no notice.
fn edge(name: &str, value: &str) -> RouteConfig {
    let (config, notices) = read(Termination::Edge, &[(name, value)]);
    assert_eq!(notices, [], "{name}: {value:?}");
    config
}

/// What one annotation is refused for; the configuration is as without it.
fn refused(name: &str, value: &str) {
    let (config, notices) = read(Termination::Edge, &[(name, value)]);
    assert_eq!(config, read(Termination::Edge, &[]).0, "{name}: {value:?}");
    let [notice] = &notices[..] else { panic!("{name}: {value:?} makes {notices:?}") };
    assert_eq!(notice.annotation, name);
}

const PLAIN_AND_TERMINATED: [Termination; 3] = [Termination::Plain, Termination::Edge, Termination::Reencrypt];

#[test]
fn without_annotations_a_route_is_as_the_reference_has_it() {
    let seconds = Duration::from_secs;
    for termination in PLAIN_AND_TERMINATED {
        let (config, notices) = read(termination, &[]);
        let is_secure = termination != Termination::Plain;
        let expected = RouteConfig {
            balance: Balance::Random,
            cookie: Some(Cookie {
                name: "24b5a9b1a350017700b768772ea3e338".into(),
                secure: is_secure.then_some(SameSite::None),
            }),
            timeouts: Timeouts { connect: seconds(5), server: seconds(30), tunnel: seconds(3600) },
            allow: AllowList::Everybody,
            limits: None,
            pod_connections: None,
            rewrite: None,
            hsts: None,
            forwarded: Forwarded::Append,
            request_headers: Vec::new(),
            response_headers: Vec::new(),
            check_interval: seconds(5),
            adjust_case: false,
            send_proxy: None,
        };
        assert_eq!((config, notices), (expected, Vec::new()), "{termination:?}");
    }
    let (passthrough, _) = read(Termination::Passthrough, &[]);
    assert_eq!((passthrough.balance, passthrough.cookie), (Balance::Source, None));
}

#[test]
fn balance() {
    let name = annotation::BALANCE;
    for (value, expected) in [
        ("roundrobin", Balance::RoundRobin),
        ("leastconn", Balance::LeastConnections),
        ("source", Balance::Source),
        ("random", Balance::Random),
    ] {
        assert_eq!(edge(name, value).balance, expected);
        assert_eq!(read(Termination::Passthrough, &[(name, value)]).0.balance, expected);
    }
    for value in ["round-robin", "RoundRobin", "first", " random"] {
        refused(name, value);
    }
    // how many Services, settings for HTTP and passthrough, the annotation; what HTTP and passthrough routes have then
    let (random, source, turn, least) =
        (Balance::Random, Balance::Source, Balance::RoundRobin, Balance::LeastConnections);
    let rows = [
        (1, None, None, None, random, source),
        (2, None, None, None, turn, turn),
        (2, Some(least), Some(least), None, turn, turn),
        (2, None, None, Some("leastconn"), least, least),
        (1, Some(least), None, None, least, least),
        (1, Some(least), Some(random), None, least, random),
        (1, None, Some(turn), None, random, turn),
    ];
    for (services, balance, passthrough_balance, value, http, passthrough) in rows {
        let settings = Settings { balance, passthrough_balance, ..Settings::default() };
        let annotations: Labels = value.map(|value: &str| (name.to_owned(), value.to_owned())).into_iter().collect();
        for (termination, expected) in [(Termination::Edge, http), (Termination::Passthrough, passthrough)] {
            let path = "".into();
            let facts = RouteFacts { services, ..facts(termination, &path) };
            let (config, _) = RouteConfig::read(&annotations, facts, &settings);
            assert_eq!(
                config.balance, expected,
                "{services} {balance:?} {passthrough_balance:?} {value:?} {termination:?}"
            );
        }
    }
}

#[test]
fn cookies() {
    let name = |config: RouteConfig| config.cookie.map(|cookie| cookie.name.to_string());
    let hash = Some("24b5a9b1a350017700b768772ea3e338".to_owned());
    assert_eq!(name(edge(annotation::COOKIE_NAME, "my_Cookie-1")), Some("my_Cookie-1".to_owned()));
    refused(annotation::COOKIE_NAME, "my cookie");
    refused(annotation::COOKIE_NAME, "a=b");
    for value in ["true", "True", "1", "t"] {
        assert_eq!(name(edge(annotation::DISABLE_COOKIES, value)), None, "{value}");
    }
    assert_eq!(name(edge(annotation::DISABLE_COOKIES, "false")), hash);
    refused(annotation::DISABLE_COOKIES, "yes");
    let settings = Settings { cookie_name: Some("ALL".into()), ..Settings::default() };
    let own = Labels::from([(annotation::COOKIE_NAME.to_owned(), "own".to_owned())]);
    for (annotations, expected) in [(Labels::new(), "ALL"), (own, "own")] {
        let (config, _) = RouteConfig::read(&annotations, facts(Termination::Edge, &"".into()), &settings);
        assert_eq!(name(config).as_deref(), Some(expected));
    }
    for (value, expected) in [("Lax", SameSite::Lax), ("Strict", SameSite::Strict), ("None", SameSite::None)] {
        let secure = edge(annotation::COOKIE_SAME_SITE, value).cookie.expect("a cookie").secure;
        assert_eq!(secure, Some(expected));
    }
    refused(annotation::COOKIE_SAME_SITE, "lax");
    // Secure and SameSite would keep the cookie from requests without TLS, where those are served.
    let path = "".into();
    for (termination, insecure, is_secure) in [
        (Termination::Plain, Insecure::None, false),
        (Termination::Edge, Insecure::None, true),
        (Termination::Edge, Insecure::Redirect, true),
        (Termination::Edge, Insecure::Allow, false),
        (Termination::Reencrypt, Insecure::None, true),
        (Termination::Reencrypt, Insecure::Allow, false),
    ] {
        let facts = RouteFacts { insecure, ..facts(termination, &path) };
        let (config, _) = RouteConfig::read(&Labels::new(), facts, &Settings::default());
        assert_eq!(config.cookie.expect("a cookie").secure.is_some(), is_secure, "{termination:?} {insecure:?}");
    }
}

#[test]
fn timeouts() {
    let (server, tunnel) = (Duration::from_secs(30), Duration::from_secs(3600));
    let (five, nine) = (Duration::from_secs(5), Duration::from_secs(9));
    // timeout, timeout-tunnel; server and tunnel on an HTTP route, tunnel on a passthrough route
    let rows = [
        (None, None, server, tunnel, tunnel),
        (Some("5s"), None, five, tunnel, five),
        (None, Some("9s"), server, nine, nine),
        (Some("5s"), Some("9s"), five, nine, nine),
        (Some("5000"), None, five, tunnel, five),
        (Some("0s"), None, server, tunnel, tunnel),
        (Some("100d"), None, Settings::MAX_TIMEOUT, tunnel, Settings::MAX_TIMEOUT),
    ];
    for (timeout, tunnel, http_server, http_tunnel, passthrough_tunnel) in rows {
        let given = [(annotation::TIMEOUT, timeout), (annotation::TIMEOUT_TUNNEL, tunnel)];
        let given: Vec<_> = given.into_iter().filter_map(|(name, value)| Some((name, value?))).collect();
        let http = read(Termination::Edge, &given).0.timeouts;
        let passthrough = read(Termination::Passthrough, &given).0.timeouts;
        assert_eq!((http.server, http.tunnel), (http_server, http_tunnel), "{given:?}");
        assert_eq!(passthrough.tunnel, passthrough_tunnel, "{given:?}");
    }
    refused(annotation::TIMEOUT, "5 minutes");
    refused(annotation::TIMEOUT_TUNNEL, "1h30m");
    assert_eq!(edge(annotation::CHECK_INTERVAL, "500ms").check_interval, Duration::from_millis(500));
    refused(annotation::CHECK_INTERVAL, "often");
}

#[test]
fn allow_lists_fail_closed() {
    let name = annotation::ALLOW_LIST;
    // the list; an address that may come, one that may not; how many notices
    let rows = [
        ("192.0.2.1", Some("192.0.2.1"), "192.0.2.2", 0),
        ("192.0.2.0/24 198.51.100.7", Some("198.51.100.7"), "198.51.100.8", 0),
        ("172.16.14.10/24", Some("172.16.14.200"), "172.16.15.1", 0),
        ("2001:db8::/32", Some("2001:db8::1"), "2001:db9::1", 0),
        ("192.0.2.1", Some("::ffff:192.0.2.1"), "::ffff:192.0.2.2", 0),
        // Where the reference leaves out the whole list, ours holds.
        (" 192.0.2.1 ", Some("192.0.2.1"), "192.0.2.2", 0),
        ("192.0.2.1\t192.0.2.3", Some("192.0.2.3"), "192.0.2.2", 0),
        ("192.0.2.1,192.0.2.3", None, "192.0.2.1", 2),
        ("192.0.2.1 everybody", Some("192.0.2.1"), "192.0.2.2", 1),
        ("everybody", None, "192.0.2.1", 2),
        (" ", None, "192.0.2.1", 1),
        ("192.0.2.0/33", None, "192.0.2.0", 2),
    ];
    for (list, admitted, refused, notices) in rows {
        let (config, found) = read(Termination::Edge, &[(name, list)]);
        let admits = |address: &str| config.allow.admits(address.parse().expect("an address"));
        assert!(admitted.is_none_or(admits), "{list:?} admits {admitted:?}");
        assert!(!admits(refused), "{list:?} refuses {refused}");
        assert_eq!(found.len(), notices, "{list:?}: {found:?}");
    }
    let both = [(annotation::ALLOW_LIST_LEGACY, "192.0.2.1"), (name, "192.0.2.2")];
    let both = read(Termination::Passthrough, &both).0.allow;
    assert!(both.admits("192.0.2.2".parse().expect("an address")), "the newer name counts");
    let (legacy, _) = read(Termination::Edge, &[(annotation::ALLOW_LIST_LEGACY, "192.0.2.1"), (name, "")]);
    assert!(legacy.allow.admits("192.0.2.1".parse().expect("an address")) && legacy.allow != AllowList::Everybody);
    assert_eq!(edge(name, "").allow, AllowList::Everybody, "an empty one is none");
}

#[test]
fn rate_limits_have_a_gate() {
    let all =
        [(annotation::LIMIT_CONCURRENT, "1"), (annotation::LIMIT_CONNECTIONS, "2"), (annotation::LIMIT_REQUESTS, "3")];
    assert_eq!(read(Termination::Edge, &all).0.limits, None);
    let with_gate = |more: &[(&'static str, &'static str)]| [&[(annotation::LIMITS, "true")], more].concat();
    let limits = |concurrent, connections, requests| Some(Limits { concurrent, connections, requests });
    assert_eq!(read(Termination::Edge, &with_gate(&all)).0.limits, limits(Some(1), Some(2), Some(3)));
    assert_eq!(read(Termination::Passthrough, &with_gate(&all)).0.limits, limits(Some(1), Some(2), None));
    assert_eq!(read(Termination::Edge, &with_gate(&[])).0.limits, None);
    for (value, expected) in
        [("0", Some(0)), ("-1", Some(0)), ("99999999999", Some(u32::MAX)), ("many", None), ("1.5", None)]
    {
        let (config, notices) = read(Termination::Edge, &with_gate(&[(annotation::LIMIT_REQUESTS, value)]));
        assert_eq!(config.limits.and_then(|limits| limits.requests), expected, "{value}");
        assert_eq!(notices.len(), usize::from(expected.is_none()), "{value}");
    }
}

#[test]
fn pod_connections() {
    let name = annotation::POD_CONNECTIONS;
    assert_eq!(edge(name, "7").pod_connections, Some(7));
    assert_eq!(read(Termination::Passthrough, &[(name, "7")]).0.pod_connections, Some(7));
    assert_eq!(edge(name, "0").pod_connections, None, "0 is no limit, as for HAProxy");
    refused(name, "few");
}

#[test]
fn hsts_headers() {
    let good = [
        "max-age=99999;includeSubDomains;preload",
        "max-age=99999;includeSubDomains",
        "max-age=99999 ;  includesubdomains;  PREload",
        "max-age=\"99999\"",
        "max-age  =  \"99999\"",
        "includeSubDomains;max-age=99999;preload",
        "preload;includeSubDomains;max-age=99999",
        "MAX-AGE=0",
    ];
    for value in good {
        assert_eq!(edge(annotation::HSTS, value).hsts.as_deref(), Some(value));
        let given = [(annotation::HSTS, value)];
        assert!(read(Termination::Reencrypt, &given).0.hsts.is_some(), "{value}");
        for termination in [Termination::Plain, Termination::Passthrough] {
            assert_eq!(read(termination, &given).0.hsts, None, "{termination:?}");
        }
    }
    let bad = [
        "max-age",
        "max-age=",
        "max-age=-1",
        "max-age=\"5",
        "max-age=1;max-age=2",
        "includeSubDomains",
        "max-age=1;other",
        "max-age=1\r\nX: y",
        "max-age=1;",
        " max-age=1",
    ];
    for value in bad {
        refused(annotation::HSTS, value);
    }
}

#[test]
fn the_rest() {
    for (value, expected) in [
        ("append", Forwarded::Append),
        ("replace", Forwarded::Replace),
        ("if-none", Forwarded::IfNone),
        ("never", Forwarded::Never),
    ] {
        assert_eq!(edge(annotation::FORWARDED, value).forwarded, expected);
    }
    refused(annotation::FORWARDED, "always");
    let rewrite = edge(annotation::REWRITE, "/new").rewrite.expect("a rewrite");
    assert_eq!(rewrite.apply("/app/x"), "/new/x");
    refused(annotation::REWRITE, "new");
    assert_eq!(read(Termination::Passthrough, &[(annotation::REWRITE, "/new")]).0.rewrite, None);
    assert!(edge(annotation::ADJUST_CASE, "true").adjust_case);
    assert_eq!(edge(annotation::SEND_PROXY, "v1").send_proxy, Some(ProxyVersion::V1));
    assert_eq!(edge(annotation::SEND_PROXY, "v2").send_proxy, Some(ProxyVersion::V2));
    refused(annotation::SEND_PROXY, "v3");
}

#[test]
fn actions_are_in_the_order_that_decides() {
    let set = |name: &str| Action::Delete { name: name.into() };
    let settings = Settings {
        request_headers: vec![set("global-request")],
        response_headers: vec![set("global-response")],
        ..Settings::default()
    };
    let path = "".into();
    let facts = RouteFacts {
        request_headers: vec![set("route-request")],
        response_headers: vec![set("route-response")],
        ..facts(Termination::Edge, &path)
    };
    let (config, _) = RouteConfig::read(&Labels::new(), facts, &settings);
    assert_eq!(config.request_headers, [set("global-request"), set("route-request")], "the route has the last word");
    assert_eq!(config.response_headers, [set("route-response"), set("global-response")], "the operator has");
}
