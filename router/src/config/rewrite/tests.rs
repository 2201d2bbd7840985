use super::*;

#[test]
fn targets_mean_what_they_meant_in_haproxys_configuration() {
    // the target, and what HAProxy was given for it; a percent sign that was doubled for it is one here
    let rows = [
        ("%foo", r"%foo\1"),
        ("%%foo", r"%foo\1"),
        ("%%%foo", r"%%%foo\1"),
        ("%%%%foo", r"%%foo\1"),
        (r"'foo'foo\'", r"foofoo'\1"),
        (r"\foo\", r"foo\1"),
        (r"\\foo\\", r"\foo\\1"),
        (r"\\\foo\\\", r"\\foo\\\1"),
        (r"\\\\foo\\\\", r"\\foo\\\1"),
        ("# foo # foo", ""),
        (r"\# foo # foo", "# foo "),
        ("foo # foo", "foo "),
        (r#""foo"foo\""#, r#"foofoo"\1"#),
        (r#"\\foo\"foo"\#foo\foo'foo\'#foo"#, r#"\foo"foo#foofoofoo'"#),
    ];
    for (target, expected) in rows {
        assert_eq!(sanitize(target), expected, "{target}");
    }
}

#[test]
fn paths_are_rewritten() {
    // the route's path, the target, the request's path, what the pod is asked for
    let rows = [
        ("/app", "/", "/app", "/"),
        ("/app", "/", "/app/", "/"),
        ("/app", "/", "/app/x/y", "/x/y"),
        ("/app", "/", "/app//x", "//x"),
        ("/app/", "/", "/app/x", "/x"),
        ("/app", "/new", "/app", "/new"),
        ("/app", "/new", "/app/x", "/new/x"),
        ("/app", "/new/", "/app/x", "/new//x"),
        ("/app/", "/new/", "/app/x", "/new/x"),
        ("", "/", "/x", "/x"),
        ("", "/new", "/x", "/new/x"),
        ("/", "/new", "/x", "/newx"),
        // A dot is a dot, not any character.
        ("/v1.0", "/", "/v1.0/x", "/x"),
        // The rest is not appended after a comment; it can be where one likes.
        ("/app", "/fixed#", "/app/x", "/fixed"),
        ("/app", r"/a\\1/b#", "/app/x", "/a/x/b"),
        ("/app", r"/a\\0#", "/app/x", "/a/app/x"),
        ("/app", r"/a\\2b", "/app/x", "/ab/x"),
        ("/app", "/50%", "/app/x", "/50%/x"),
        ("/app", "/a b", "/app", "/a%20b"),
        ("/app", r"/a\#b", "/app", "/a%23b"),
        ("/app", "/ü", "/app", "/%C3%BC"),
    ];
    for (path, target, request, expected) in rows {
        let rewrite = Rewrite::parse(target, &path.into()).expect("a target");
        assert_eq!(rewrite.apply(request), expected, "{path} to {target}: {request}");
    }
}

#[test]
fn a_target_begins_with_a_slash() {
    for target in ["", "new", "http://example.com/", "/a\nb"] {
        assert_eq!(Rewrite::parse(target, &"/app".into()), None, "{target:?}");
    }
}
