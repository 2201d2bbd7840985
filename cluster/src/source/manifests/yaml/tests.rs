use super::*;
use serde_json::{Value as Json, json};

fn json(yaml: &str) -> Result<Json, YamlError> {
    to_json(yaml).map(|text| text.map_or(Json::Null, |text| serde_json::from_str(&text).expect(&text)))
}

#[test]
fn scalars_mean_what_they_mean_to_kubectl() {
    let rows = [
        ("8080", json!(8080)),
        ("-1", json!(-1)),
        ("+12", json!(12)),
        ("0x1F", json!(31)),
        ("0o17", json!(15)),
        ("017", json!(15)),
        ("089", json!(89.0)),
        ("1_000", json!(1000)),
        ("18446744073709551615", json!(18446744073709551615u64)),
        ("1.5", json!(1.5)),
        ("1e3", json!(1000.0)),
        (".5", json!(0.5)),
        ("1.2.3", json!("1.2.3")),
        ("10.128.0.0/14", json!("10.128.0.0/14")),
        ("2001-01-01", json!("2001-01-01")),
        ("-", json!([null])),
        ("--", json!("--")),
        ("0x", json!("0x")),
        ("0", json!(0)),
        ("1e", json!("1e")),
        ("yes", json!(true)),
        ("Off", json!(false)),
        ("'yes'", json!("yes")),
        ("\"8080\"", json!("8080")),
        ("!!str 8080", json!("8080")),
        ("! 8080", json!("8080")),
        ("!!int 8080", json!(8080)),
        ("~", Json::Null),
        ("", Json::Null),
        ("# only a comment", Json::Null),
        ("v1", json!("v1")),
        ("|\n  a\n  b\n", json!("a\nb\n")),
        (">-\n  a\n  b\n", json!("a b")),
        ("{1: a, true: b, 1.5: c}", json!({"1": "a", "true": "b", "1.5": "c"})),
        ("\"a\\u0001\\\"\\n\"", json!("a\u{1}\"\n")),
    ];
    for (yaml, expected) in rows {
        assert_eq!(json(yaml), Ok(expected), "{yaml:?}");
    }
}

#[test]
fn what_cannot_be_json_is_refused_with_its_line() {
    let rows = [
        ("a: 1\na: 2", 2, "given twice"),
        ("a: .inf", 1, "not a number"),
        ("a:\n  ? [1]\n  : b", 2, "a key is a collection"),
        ("a: 1\n~: 2", 2, "a key is null"),
        ("a: *b", 1, ""),
        ("a: &a [*a]", 1, "an alias inside"),
        ("a: 1\nb: {<<: 1}", 2, "not a mapping"),
        ("a: [1\nb: 2", 2, "not YAML"),
        ("a: b: c", 1, "not YAML"),
        ("a: 1\n\tb: 2", 1, "not YAML"),
        ("a: 1\n...\nb: 1", 3, "second document"),
    ];
    for (yaml, line, message) in rows {
        let error = json(yaml).expect_err(yaml);
        assert_eq!(error.line, line, "{yaml:?}: {error:?}");
        assert!(error.message.contains(message), "{yaml:?}: {error:?}");
    }
}

#[test]
fn tokens_stay_on_their_lines() {
    let yaml = "# licence\n\na: 1\n\nb:\n- c\n-\n  d: |\n    x\n    y\n  e: 5\nf: [1,\n  2]\n";
    let json = to_json(yaml).expect("valid").expect("not empty");
    for (token, line) in [("\"a\"", 3), ("\"b\"", 5), ("\"c\"", 6), ("\"d\"", 8), ("\"e\"", 11), ("5", 11), ("2]", 13)]
    {
        let at = json.find(token).unwrap_or_else(|| panic!("{token} in {json}"));
        assert_eq!(json[..at].matches('\n').count() + 1, line, "{token} in {json}");
    }
    for yaml in ["a: 1\n? b", "a: 1\r? b", "a: 1\r\n? b"] {
        let json = to_json(yaml).expect("valid").expect("not empty");
        assert_eq!(json.matches('\n').count() + 1, 2, "an absent value is on the last line: {json}");
    }
}

#[test]
fn anchors_aliases_and_merges() {
    let yaml = "base: &base {a: 1, b: 2}\nname: &name web\none:\n  <<: *base\n  b: 3\n*name : *name\ntwo: {<<: [*base, {c: 4, a: 9}]}\n'<<': 5\n";
    let expected = json!({
        "base": {"a": 1, "b": 2}, "name": "web", "one": {"a": 1, "b": 3}, "web": "web",
        "two": {"a": 1, "b": 2, "c": 4}, "<<": 5,
    });
    assert_eq!(json(yaml), Ok(expected));
}

#[test]
fn bombs_are_refused() {
    let mut laughs = "a: &a [x,x,x,x,x,x,x,x,x,x]\n".to_owned();
    for (name, last) in ('b'..='k').zip('a'..) {
        laughs += &format!("{name}: &{name} [{}]\n", vec![format!("*{last}"); 10].join(","));
    }
    let mut merges = format!("a: &a {{{}}}\n", (0..1000).map(|n| format!("k{n}: 1")).collect::<Vec<_>>().join(","));
    for n in 0..1000 {
        merges += &format!("m{n}: {{<<: *a}}\n");
    }
    let chain: String = (0..80)
        .map(|n| format!("a{}: &a{} [{}]\n", n, n, if n > 0 { format!("*a{}", n - 1) } else { String::new() }))
        .collect();
    let rows = [
        ("billion laughs", laughs, "aliases add more"),
        ("merges", merges, "merges add more"),
        ("a chain of aliases", chain, "nested deeper"),
        ("deep flow", "[".repeat(100_000), ""),
        ("deep blocks", (0..100).map(|n| format!("{}a:\n", " ".repeat(n))).collect(), "nested deeper"),
        ("deep dashes", "- ".repeat(100_000), "nested deeper"),
    ];
    for (name, yaml, message) in rows {
        let begun = std::time::Instant::now();
        let error = json(&yaml).expect_err(name);
        assert!(error.message.contains(message), "{name}: {error:?}");
        assert!(begun.elapsed().as_secs() < 5, "{name} took {:?}", begun.elapsed());
    }
}
