use super::*;

/// A message with fields, and a client certificate of three bytes.
struct Message(&'static [(&'static str, &'static str)]);

impl Fields for Message {
    fn last(&self, name: &str) -> Option<&[u8]> {
        let mut fields = self.0.iter().rev();
        fields.find(|(field, _)| field.eq_ignore_ascii_case(name)).map(|(_, value)| value.as_bytes())
    }

    fn client_certificate(&self) -> Option<&[u8]> {
        Some(&[0x30, 0x0d, 0xff])
    }
}

const MESSAGE: Message = Message(&[
    ("X-One", "first"),
    ("X-One", "Last"),
    ("X-List", "a, b ,\"c, d\""),
    ("X-Quotes", "a\"b\\c]d"),
    ("X-Empty", ""),
    ("X-Evil", "a\r\nSet-Cookie: x"),
]);

fn render(text: &str) -> String {
    let template = Template::parse(text, Direction::Request).unwrap_or_else(|error| panic!("{error}"));
    String::from_utf8(template.render(&MESSAGE)).expect("text")
}

#[test]
fn values() {
    let rows = [
        ("DENY", "DENY"),
        ("a b\u{fc}", "a b\u{fc}"),
        ("100%%", "100%"),
        ("%%%%", "%%"),
        ("%%[req.hdr(X-One)]", "%[req.hdr(X-One)]"),
        // The last of several fields, the last of a list.
        ("%[req.hdr(X-One)]", "Last"),
        ("%[req.hdr(x-one)]", "Last"),
        ("%[req.hdr(X-List)]", "\"c, d\""),
        ("<%[req.hdr(X-None)]>", "<>"),
        ("<%[req.hdr(X-Empty)]>", "<>"),
        ("%[req.hdr(X-One),lower]", "last"),
        ("%[req.hdr(X-One),base64]", "TGFzdA=="),
        ("%[req.hdr(X-One),lower,base64]", "bGFzdA=="),
        ("%[req.hdr(X-One),base64,lower]", "tgfzda=="),
        ("%[ssl_c_der,base64]", "MA3/"),
        ("%{+Q}[req.hdr(X-One)]", "\"Last\""),
        ("%{+Q}[req.hdr(X-None)]", "\"\""),
        ("%{Q}[req.hdr(X-One)]", "\"Last\""),
        ("%{+Q,-Q}[req.hdr(X-One)]", "Last"),
        ("%{+E}[req.hdr(X-Quotes)]", "a\\\"b\\\\c\\]d"),
        ("%{+X}[req.hdr(X-One)]", "Last"),
        ("%{+Q,+E}[req.hdr(X-Quotes)]", "\"a\\\"b\\\\c\\]d\""),
        // Flags are for one place only.
        ("%{+Q}[req.hdr(X-One)]%[req.hdr(X-One)]", "\"Last\"Last"),
        ("a=%[req.hdr(X-One)];b", "a=Last;b"),
        // What comes from outside makes no new field.
        ("%[req.hdr(X-Evil)]", "aSet-Cookie: x"),
    ];
    for (text, expected) in rows {
        assert_eq!(render(text), expected, "{text}");
    }
}

#[test]
fn what_is_not_a_value_is_told_with_its_place() {
    let rows = [
        ("", 1),
        ("a%", 3),
        ("a%b", 3),
        ("%[src]", 3),
        ("%[req.hdr()]", 11),
        ("%[req.hdr(a b)]", 12),
        ("%[req.hdr(a]", 12),
        ("%[req.hdr(a)", 13),
        ("%[req.hdr(a),upper]", 13),
        ("%[res.hdr(a)]", 3),
        ("%{}[req.hdr(a)]", 3),
        ("%{+Z}[req.hdr(a)]", 4),
        ("%{+Q[req.hdr(a)]", 5),
        ("%[ssl_c_s_dn]", 3),
        ("a\nb", 2),
        ("a\u{7f}", 2),
    ];
    for (text, at) in rows {
        let error = Template::parse(text, Direction::Request).expect_err(text).to_string();
        assert!(error.contains(&format!(" at character {at} of ")), "{text:?}: {error}");
    }
    assert!(Template::parse("%[res.hdr(a)]", Direction::Response).is_ok());
    assert!(Template::parse("%[req.hdr(a)]", Direction::Response).is_err());
    assert!(Template::parse(&"a".repeat(16_384), Direction::Request).is_ok());
    assert!(Template::parse(&"a".repeat(16_385), Direction::Request).is_err());
}

#[test]
fn reserved_names() {
    for name in ["X-Frame-Options", "x", "Forwarded", "Host"] {
        assert_eq!(refusal(name), None, "{name}");
    }
    for name in ["Proxy", "cookie", "SET-COOKIE", "Strict-Transport-Security", "", "a b", "a:b", "a\n", "\u{fc}"] {
        assert!(refusal(name).is_some(), "{name:?}");
    }
    assert!(refusal(&"a".repeat(255)).is_none() && refusal(&"a".repeat(256)).is_some());
}

proptest::proptest! {
    #[test]
    fn no_text_does_harm(text in "[%\\[\\]{}(),+Qa-z.\\r\\n\u{fc}]{0,40}|(%\\[req\\.hdr\\([a-z-]{1,3}\\)(,lower|,base64){0,2}\\]|%%|[a-z ]){0,8}") {
        for direction in [Direction::Request, Direction::Response] {
            if let Ok(template) = Template::parse(&text, direction) {
                let value = template.render(&MESSAGE);
                proptest::prop_assert!(!value.iter().any(|byte| matches!(byte, b'\r' | b'\n' | 0)));
            }
        }
    }
}
