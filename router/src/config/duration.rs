//! Times as HAProxy writes them.

use super::Settings;
use std::time::Duration;

/// A time: a number without leading zeros and a unit (us, ms, s, m, h, d), milliseconds where there is none. Longer than
/// [`Settings::MAX_TIMEOUT`] is that. `None` for anything else.
pub(super) fn parse(text: &str) -> Option<Duration> {
    let end = text.find(|character: char| !character.is_ascii_digit()).unwrap_or(text.len());
    let (digits, unit) = text.split_at(end);
    if digits.is_empty() || digits.starts_with('0') {
        return None;
    }
    let micros: u64 = match unit {
        "us" => 1,
        "" | "ms" => 1_000,
        "s" => 1_000_000,
        "m" => 60_000_000,
        "h" => 3_600_000_000,
        "d" => 86_400_000_000,
        _ => return None,
    };
    // A number that is too long for us is too long for the limit, too.
    let total = digits.parse::<u64>().ok().and_then(|number| number.checked_mul(micros));
    Some(total.map_or(Settings::MAX_TIMEOUT, Duration::from_micros).min(Settings::MAX_TIMEOUT))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times() {
        let ms = |number| Some(Duration::from_millis(number));
        let rows = [
            ("1", ms(1)),
            ("5s", ms(5_000)),
            ("500us", Some(Duration::from_micros(500))),
            ("10ms", ms(10)),
            ("2m", ms(120_000)),
            ("1h", ms(3_600_000)),
            ("1d", ms(86_400_000)),
            ("24d", ms(2_073_600_000)),
            // The limit is 24 days, 20 hours and a bit.
            ("25d", ms(2_147_483_647)),
            ("2147483647", ms(2_147_483_647)),
            ("2147483648", ms(2_147_483_647)),
            ("99999999999999999999999d", ms(2_147_483_647)),
            ("", None),
            ("0", None),
            ("05s", None),
            ("s", None),
            ("-5s", None),
            ("+5s", None),
            ("5 s", None),
            ("5sec", None),
            ("1.5s", None),
            ("1h30m", None),
        ];
        for (text, expected) in rows {
            assert_eq!(parse(text), expected, "{text:?}");
        }
    }
}
