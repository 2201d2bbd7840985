use super::*;

#[test]
fn names_and_values_are_the_references() {
    assert_eq!(&*name("default", "hello"), "24b5a9b1a350017700b768772ea3e338");
    let at = |text: &str| text.parse::<SocketAddr>().expect("an address");
    let pod = value(Some("hello-1"), "hello", "http", at("10.1.2.3:8080"));
    assert_eq!(&*pod, "2f6f26713a88f55bd065218e3cd96a91");
    // Another of anything is another value.
    let others = [
        value(None, "hello", "http", at("10.1.2.3:8080")),
        value(Some("hello-2"), "hello", "http", at("10.1.2.3:8080")),
        value(Some("hello-1"), "other", "http", at("10.1.2.3:8080")),
        value(Some("hello-1"), "hello", "", at("10.1.2.3:8080")),
        value(Some("hello-1"), "hello", "http", at("10.1.2.4:8080")),
        value(Some("hello-1"), "hello", "http", at("10.1.2.3:8081")),
        value(Some("hello-1"), "hello", "http", at("[fd01::3]:8080")),
    ];
    let all: std::collections::BTreeSet<_> = others.iter().chain([&pod]).collect();
    assert_eq!(all.len(), 8);
}

#[test]
fn what_a_browser_is_told() {
    let cookie = |secure| Cookie { name: "n".into(), secure };
    let rows = [
        (None, "n=v; path=/; HttpOnly"),
        (Some(SameSite::None), "n=v; path=/; HttpOnly; Secure; SameSite=None"),
        (Some(SameSite::Lax), "n=v; path=/; HttpOnly; Secure; SameSite=Lax"),
        (Some(SameSite::Strict), "n=v; path=/; HttpOnly; Secure; SameSite=Strict"),
    ];
    for (secure, expected) in rows {
        assert_eq!(cookie(secure).set("v"), expected);
    }
}

#[test]
fn cookies_are_found_and_taken_away() {
    // the field; the value of n; what a pod sees
    let rows = [
        ("n=v", Some("v"), None),
        ("a=b; n=v", Some("v"), Some("a=b")),
        ("n=v; a=b", Some("v"), Some("a=b")),
        ("a=b;n=v;c=d", Some("v"), Some("a=b; c=d")),
        ("n=\"v\"", Some("v"), None),
        ("n = v; a=b", Some("v"), Some("a=b")),
        ("n=", Some(""), None),
        ("n=1; n=2; a=b", Some("1"), Some("a=b")),
        ("nn=v; N=v", None, Some("nn=v; N=v")),
        ("a=n=v", None, Some("a=n=v")),
        ("n", None, Some("n")),
        ("", None, Some("")),
        ("; ;n=v;", Some("v"), None),
    ];
    for (field, found, rest) in rows {
        assert_eq!(find(field, "n"), found, "{field:?}");
        assert_eq!(strip(field, "n").as_deref(), rest, "{field:?}");
    }
}

#[test]
fn names() {
    for (name, fits) in
        [("a", true), ("A-b_1", true), ("", false), ("a b", false), ("a=b", false), ("a;b", false), ("ü", false)]
    {
        assert_eq!(is_name(name), fits, "{name:?}");
    }
}

proptest::proptest! {
    #[test]
    fn what_is_taken_away_is_gone_and_the_rest_is_not(field in "([na]{1,2}=?[v;= \"]{0,3};? ?){0,6}") {
        if let Some(rest) = strip(&field, "n") {
            proptest::prop_assert_eq!(find(&rest, "n"), None);
            proptest::prop_assert_eq!(find(&rest, "a"), find(&field, "a"));
        } else {
            proptest::prop_assert!(find(&field, "n").is_some() && find(&field, "a").is_none());
        }
    }
}
