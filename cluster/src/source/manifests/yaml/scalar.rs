//! What a plain scalar means: YAML 1.1 as go-yaml v2 resolves it, which the clients of the Kubernetes API use.

/// The JSON of a plain scalar; `None` for numbers that JSON has not (infinities).
pub(super) fn to_json(text: &str) -> Option<String> {
    match text {
        "" | "~" | "null" | "Null" | "NULL" => return Some("null".to_owned()),
        "y" | "Y" | "yes" | "Yes" | "YES" | "on" | "On" | "ON" | "true" | "True" | "TRUE" => {
            return Some("true".to_owned());
        }
        "n" | "N" | "no" | "No" | "NO" | "off" | "Off" | "OFF" | "false" | "False" | "FALSE" => {
            return Some("false".to_owned());
        }
        _ => {}
    }
    // Only these can begin a number; words are the common case.
    if !text.starts_with(|first: char| first.is_ascii_digit() || matches!(first, '+' | '-' | '.')) {
        return Some(quote(text));
    }
    if is_infinite(text) {
        return None;
    }
    match integer(text) {
        Some(integer) => Some(integer.to_string()),
        None => match float(text) {
            Some(float) => serde_json::Number::from_f64(float).map(|number| number.to_string()),
            None => Some(quote(text)),
        },
    }
}

/// A plain scalar as the key of a mapping: numbers and booleans become text, null cannot.
pub(super) fn key(text: &str) -> Option<String> {
    let json = to_json(text)?;
    match serde_json::from_str(&json).ok()? {
        serde_json::Value::String(text) => Some(text),
        serde_json::Value::Null => None,
        _ => Some(json),
    }
}

/// `text` as a JSON string.
pub(super) fn quote(text: &str) -> String {
    serde_json::Value::from(text).to_string()
}

fn is_infinite(text: &str) -> bool {
    let unsigned = text.strip_prefix(['+', '-']).unwrap_or(text);
    matches!(unsigned, ".inf" | ".Inf" | ".INF") || matches!(text, ".nan" | ".NaN" | ".NAN")
}

/// An integer as Go's strconv.ParseInt(…, 0, …) reads it, underscores dropped: 0x, 0o, 0b, and octal after a mere 0.
fn integer(text: &str) -> Option<i128> {
    let text = text.replace('_', "");
    let (negative, digits) = match text.strip_prefix('-') {
        Some(digits) => (true, digits),
        None => (false, text.strip_prefix('+').unwrap_or(&text)),
    };
    let (radix, digits) = match digits.as_bytes() {
        [b'0', b'x' | b'X', ..] => (16, &digits[2..]),
        [b'0', b'b' | b'B', ..] => (2, &digits[2..]),
        [b'0', b'o' | b'O', ..] => (8, &digits[2..]),
        [b'0', _, ..] => (8, &digits[1..]),
        _ => (10, digits),
    };
    if digits.starts_with(['+', '-']) {
        return None;
    }
    let value = i128::from(u64::from_str_radix(digits, radix).ok()?);
    let value = if negative { -value } else { value };
    (value >= i128::from(i64::MIN)).then_some(value)
}

/// A float as YAML writes it: digits with at most one point and an exponent.
fn float(text: &str) -> Option<f64> {
    let text = text.replace('_', "");
    let mantissa = text.split(['e', 'E']).next().unwrap_or_default();
    let is_number = mantissa.contains(|c: char| c.is_ascii_digit())
        && text.chars().all(|c| c.is_ascii_digit() || matches!(c, '+' | '-' | '.' | 'e' | 'E'));
    // Rust reads a superset ("inf", "nan") and rejects what is malformed ("1.2.3", "1-2").
    if is_number { text.parse().ok() } else { None }
}
