use super::{testing::backend, *};
use proptest::prelude::*;

/// What a route of a test is: its name says where it leads.
#[derive(Clone, Debug)]
struct Row {
    host: &'static str,
    path: &'static str,
    termination: Termination,
    insecure: Insecure,
    is_exact: bool,
}

fn row(host: &'static str, path: &'static str, termination: Termination, insecure: Insecure) -> Row {
    Row { host, path, termination, insecure, is_exact: false }
}

fn plain(host: &'static str, path: &'static str) -> Row {
    row(host, path, Termination::Plain, Insecure::None)
}

fn exact(host: &'static str, path: &'static str) -> Row {
    Row { is_exact: true, ..plain(host, path) }
}

/// A table of rows, each called by its host and path (and a `=` before an exact path).
fn table(rows: &[Row]) -> Table {
    let mut table = Table::default();
    for row in rows {
        let name = format!("{}{}{}", row.host, if row.is_exact { "=" } else { "" }, row.path);
        let mut backend = backend(&name, row.host, row.path, row.termination, row.insecure);
        backend.is_exact = row.is_exact;
        let backend = Arc::new(backend);
        let (hosts, key) = match row.host.strip_prefix("*.") {
            Some(domain) => (&mut table.wildcards, domain),
            None => (&mut table.hosts, row.host),
        };
        let mut host = hosts.get(key).cloned().unwrap_or_default();
        let entry = Arc::make_mut(&mut host);
        entry.paths.insert(backend.clone());
        entry.is_terminated |= backend.serves_tls();
        if row.termination == Termination::Passthrough {
            entry.passthrough = Some(backend);
        }
        hosts.insert(key.into(), host);
    }
    table
}

fn found(table: &Table, host: &str, path: &str, tls: bool) -> Option<String> {
    table.route(host, path, tls).map(|backend| backend.id.name.to_string())
}

#[test]
fn the_longest_path_by_segments_counts() {
    let h = "h.example.com";
    let table = table(&[
        plain(h, ""),
        plain(h, "/foo"),
        plain(h, "/foo/"),
        plain(h, "/foo/bar"),
        plain(h, "/v1.0"),
        plain(h, "/a//b"),
        plain(h, "/only/"),
        exact(h, "/foo/exact"),
        exact(h, "/foo"),
        exact(h, "/end/"),
    ]);
    let rows = [
        ("/", ""),
        ("", ""),
        ("*", ""),
        ("/x", ""),
        ("/foo", "=/foo"),
        ("/foo/", "/foo/"),
        ("/foo/x", "/foo/"),
        ("/foo/bar", "/foo/bar"),
        ("/foo/bar/", "/foo/bar"),
        ("/foo/bar/x", "/foo/bar"),
        ("/foo/barx", "/foo/"),
        ("/foobar", ""),
        // Paths are compared as they are sent.
        ("/FOO", ""),
        ("/%66oo", ""),
        ("/./foo", ""),
        ("//foo", ""),
        ("/foo//bar", "/foo/"),
        // A dot is not any character, as it is in the reference.
        ("/v1.0/x", "/v1.0"),
        ("/v1x0", ""),
        ("/a//b", "/a//b"),
        ("/a/b", ""),
        ("/only", ""),
        ("/only/", "/only/"),
        ("/only/x", "/only/"),
        ("/foo/exact", "=/foo/exact"),
        ("/foo/exact/", "/foo/"),
        ("/end", ""),
        ("/end/", "=/end/"),
        ("/end/x", ""),
    ];
    for (path, expected) in rows {
        assert_eq!(found(&table, h, path, false), Some(format!("{h}{expected}")), "{path}");
    }
    assert_eq!(found(&table, "h.example.com.", "/foo/x", false), Some(format!("{h}/foo/")), "a dot at the end is none");
    for host in ["example.com", "x.h.example.com", "", "h.example.com.."] {
        assert_eq!(found(&table, host, "/", false), None, "{host}");
    }
}

#[test]
fn exact_hosts_come_before_wildcards() {
    let table =
        table(&[plain("one.wild.com", "/x"), plain("*.wild.com", ""), plain("*.wild.com", "/w"), plain("*.com", "")]);
    let rows = [
        ("one.wild.com", "/x", Some("one.wild.com/x")),
        // The host has no path that fits: its wildcard has.
        ("one.wild.com", "/y", Some("*.wild.com")),
        ("one.wild.com", "/w/1", Some("*.wild.com/w")),
        ("two.wild.com", "/x", Some("*.wild.com")),
        // One label, not two, and not none.
        ("a.b.wild.com", "/", None),
        ("wild.com", "/", Some("*.com")),
        ("com", "/", None),
    ];
    for (host, path, expected) in rows {
        assert_eq!(found(&table, host, path, false).as_deref(), expected, "{host}{path}");
    }
}

#[test]
fn what_is_served_without_tls_and_with() {
    use Insecure::{Allow, None as Nothing, Redirect};
    use Termination::{Edge, Passthrough, Plain, Reencrypt};
    // what the route is; whether it is found on :80, redirects there, is found over TLS
    let rows = [
        (Plain, Nothing, true, false, false),
        (Edge, Nothing, false, false, true),
        (Edge, Allow, true, false, true),
        (Edge, Redirect, true, true, true),
        (Reencrypt, Nothing, false, false, true),
        (Reencrypt, Allow, true, false, true),
        (Reencrypt, Redirect, true, true, true),
        (Passthrough, Nothing, false, false, false),
        (Passthrough, Redirect, true, true, false),
    ];
    for (termination, insecure, on_80, redirects, on_443) in rows {
        let table = table(&[row("h.com", "", termination, insecure)]);
        let plain = table.route("h.com", "/x", false);
        assert_eq!(plain.is_some(), on_80, "{termination:?} {insecure:?}");
        assert_eq!(plain.is_some_and(|backend| backend.redirects()), redirects, "{termination:?} {insecure:?}");
        assert_eq!(table.route("h.com", "/x", true).is_some(), on_443, "{termination:?} {insecure:?}");
    }
}

#[test]
fn the_first_route_that_fits_says_whether_to_redirect() {
    use Insecure::{Allow, None as Nothing, Redirect};
    use Termination::{Edge, Passthrough, Plain};
    let rows: [(&[Row], Option<&str>, Option<&str>); 6] = [
        // A path that is for TLS only: without it, the rest of the host answers.
        (&[row("h.com", "", Plain, Nothing), row("h.com", "/x", Edge, Nothing)], Some("h.com"), Some("h.com/x")),
        (&[row("h.com", "", Plain, Nothing), row("h.com", "/x", Edge, Redirect)], Some("h.com/x"), Some("h.com/x")),
        (&[row("h.com", "", Edge, Redirect), row("h.com", "/x", Edge, Allow)], Some("h.com/x"), Some("h.com/x")),
        (&[row("h.com", "", Edge, Redirect), row("h.com", "/x", Edge, Nothing)], None, Some("h.com/x")),
        (&[row("h.com", "", Passthrough, Redirect), row("h.com", "/x", Plain, Nothing)], Some("h.com/x"), None),
        (&[row("h.com", "", Edge, Nothing), row("*.com", "", Plain, Nothing)], Some("*.com"), Some("h.com")),
    ];
    for (routes, plain, tls) in rows {
        let table = table(routes);
        assert_eq!(found(&table, "h.com", "/x", false).as_deref(), plain, "{routes:?}");
        assert_eq!(found(&table, "h.com", "/x", true).as_deref(), tls, "{routes:?}");
    }
}

#[test]
fn names_in_handshakes() {
    use Insecure::None as Nothing;
    use Termination::{Edge, Passthrough, Plain, Reencrypt};
    let passes = |table: &Table, name: &str| matches!(table.sni(name), Some(Sni::Passthrough(_)));
    let edge_under = table(&[row("*.d.com", "", Passthrough, Nothing), row("e.d.com", "", Edge, Nothing)]);
    assert!(!passes(&edge_under, "e.d.com"), "an exact host under a passthrough wildcard is terminated");
    assert!(passes(&edge_under, "other.d.com") && passes(&edge_under, "other.d.com."));
    assert!(edge_under.knows("e.d.com") && edge_under.knows("x.d.com") && !edge_under.knows("d.com"));
    let passthrough_under = table(&[row("*.d.com", "", Reencrypt, Nothing), row("e.d.com", "", Passthrough, Nothing)]);
    assert!(passes(&passthrough_under, "e.d.com") && !passes(&passthrough_under, "x.d.com"));
    let plain_under = table(&[row("*.d.com", "", Passthrough, Nothing), row("e.d.com", "", Plain, Nothing)]);
    assert!(passes(&plain_under, "e.d.com"), "a host that speaks no TLS leaves it to the wildcard");
    assert!(edge_under.sni("unknown.com").is_none(), "there is no default certificate");
}

// === a table against the rules, read literally ===

const HOSTS: [&str; 6] = ["a.com", "b.a.com", "c.a.com", "*.a.com", "*.com", "x.b.a.com"];
const PATHS: [&str; 9] = ["", "/a", "/a/", "/a/b", "/a/b/", "/b", "//a", "/a//b", "/ab"];

/// Whether a route fits, as its regular expression in the reference would have it.
fn fits(route: &Row, host: &str, path: &str) -> bool {
    let host_fits = match route.host.strip_prefix("*.") {
        Some(domain) => host.split_once('.').is_some_and(|(_, rest)| rest == domain),
        None => host == route.host,
    };
    let path_fits = match route.path {
        _ if route.is_exact => path == route.path,
        "" => path.is_empty() || path.starts_with('/'),
        own if own.ends_with('/') => path.starts_with(own),
        own => path == own || path.strip_prefix(own).is_some_and(|rest| rest.starts_with('/')),
    };
    host_fits && path_fits
}

/// Exact hosts first, then the longest path, then exact paths.
fn rank(route: &Row) -> (bool, usize, bool) {
    (!route.host.starts_with("*."), route.path.len(), route.is_exact)
}

fn naive<'a>(routes: &'a [Row], host: &str, path: &str, tls: bool) -> Option<&'a Row> {
    let serves_tls = |row: &&Row| matches!(row.termination, Termination::Edge | Termination::Reencrypt);
    let best = |serves: &dyn Fn(&&Row) -> bool| {
        routes.iter().filter(serves).filter(|route| fits(route, host, path)).max_by_key(|route| rank(route))
    };
    if tls {
        return best(&serves_tls);
    }
    let redirects = |row: &&Row| row.termination != Termination::Plain && row.insecure == Insecure::Redirect;
    best(&|_| true).filter(redirects).or_else(|| {
        best(&|row| row.termination == Termination::Plain || (serves_tls(row) && row.insecure == Insecure::Allow))
    })
}

fn routes() -> impl Strategy<Value = Vec<Row>> {
    let terminations = [Termination::Plain, Termination::Edge, Termination::Reencrypt];
    let insecure = [Insecure::None, Insecure::Allow, Insecure::Redirect];
    let row = (
        prop::sample::select(&HOSTS[..]),
        prop::sample::select(&PATHS[..]),
        prop::sample::select(terminations.to_vec()),
        prop::sample::select(insecure.to_vec()),
        any::<bool>(),
    );
    let row = row.prop_map(|(host, path, termination, insecure, is_exact)| Row {
        host,
        path,
        termination,
        insecure,
        is_exact: is_exact && !path.is_empty(),
    });
    // One route for a host and path, as admission leaves it.
    prop::collection::vec(row, 0..24).prop_map(|rows| {
        let mut seen = std::collections::BTreeSet::new();
        rows.into_iter().filter(|row| seen.insert((row.host, row.path, row.is_exact))).collect()
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(512))]

    #[test]
    fn the_table_finds_what_the_rules_say(routes in routes(), path in "(/(a|b|ab|)){0,4}", host in 0..HOSTS.len()) {
        let table = table(&routes);
        let host = HOSTS[host].replace('*', "w");
        for tls in [false, true] {
            let expected = naive(&routes, &host, &path, tls)
                .map(|row| format!("{}{}{}", row.host, if row.is_exact { "=" } else { "" }, row.path));
            prop_assert_eq!(found(&table, &host, &path, tls), expected, "{} {} {}", host, path, tls);
        }
    }

    #[test]
    fn what_is_taken_away_leaves_nothing_behind(routes in routes(), keep in any::<u32>()) {
        let whole = table(&routes);
        let kept: Vec<_> = routes.iter().enumerate().filter(|(index, _)| keep >> (index % 32) & 1 == 1).map(|(_, row)| row.clone()).collect();
        let expected = table(&kept);
        for host in HOSTS {
            let pick = |table: &Table| match host.strip_prefix("*.") {
                Some(domain) => table.wildcards.get(domain).cloned(),
                None => table.hosts.get(host).cloned(),
            };
            let Some(entry) = pick(&whole) else { continue };
            let mut paths = entry.paths.clone();
            for backend in entry.paths.backends() {
                if !kept.iter().any(|row| row.host == host && *row.path == *backend.path && row.is_exact == backend.is_exact) {
                    paths.remove(backend);
                }
            }
            let names = |paths: &Paths| paths.backends().map(|backend| backend.id.name.to_string()).collect::<std::collections::BTreeSet<_>>();
            prop_assert_eq!(names(&paths), pick(&expected).map(|host| names(&host.paths)).unwrap_or_default());
            prop_assert_eq!(entry.paths.backends().count(), routes.iter().filter(|row| row.host == host).count(), "the old table is as it was");
        }
    }
}
