//! What others wrote (names, labels, reasons), as a terminal may have it; and times.

use std::time::Duration;

use clap::ValueEnum;
use serde_json::Value;
use time::{OffsetDateTime, format_description::well_known::Rfc3339};

/// For whom something is printed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Format {
    /// For people
    Table,
    /// For programs: one document, or one a line for what goes on
    Json,
}

/// Letters that move what stands around them: a name with them would read as another (Unicode, "Bidirectional Formatting").
fn is_invisible(letter: char) -> bool {
    matches!(letter, '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{2069}' | '\u{feff}')
}

/// A text on one line, without what a terminal would obey.
pub(crate) fn shown(text: &str) -> String {
    let mut shown = String::with_capacity(text.len());
    for letter in text.chars() {
        match letter.is_control() || is_invisible(letter) {
            true => shown.extend(letter.escape_default()),
            false => shown.push(letter),
        }
    }
    shown
}

/// JSON of which no terminal obeys a letter: those that JSON lets stand as they are can only be within texts.
pub(crate) fn json(value: &Value) -> String {
    let mut safe = String::new();
    for letter in value.to_string().chars() {
        match letter.is_control() || is_invisible(letter) {
            true => safe.push_str(&format!("\\u{:04x}", u32::from(letter))),
            false => safe.push(letter),
        }
    }
    safe
}

/// The beginning of an id that people read.
pub(crate) fn short(id: &str) -> String {
    shown(&id.chars().take(13).collect::<String>())
}

/// A time of nanoseconds since the epoch, in UTC; empty for 0.
pub(crate) fn moment(at: i64) -> String {
    if at == 0 {
        return String::new();
    }
    let time = OffsetDateTime::from_unix_timestamp_nanos(at.into()).ok();
    // To the millisecond.
    let time = time.and_then(|time| time.replace_nanosecond(time.nanosecond() / 1_000_000 * 1_000_000).ok());
    time.and_then(|time| time.format(&Rfc3339).ok()).unwrap_or_default()
}

/// The time from `then` to `now`, in one unit.
pub(crate) fn age(then: i64, now: i64) -> String {
    let seconds = now.saturating_sub(then).max(0) / 1_000_000_000;
    match seconds {
        0..120 => format!("{seconds}s"),
        120..7_200 => format!("{}m", seconds / 60),
        7_200..172_800 => format!("{}h", seconds / 3_600),
        _ => format!("{}d", seconds / 86_400),
    }
}

/// How long something took, to three digits.
pub(crate) fn took(nanos: u64) -> String {
    let time = Duration::from_nanos(nanos);
    let shown = |value: f64, unit: &str| {
        let digits = if value >= 100.0 { 0 } else { usize::from(value < 10.0) + 1 };
        format!("{value:.digits$} {unit}")
    };
    match nanos {
        0..1_000_000 => format!("{} µs", time.as_micros()),
        1_000_000..1_000_000_000 => shown(time.as_secs_f64() * 1e3, "ms"),
        _ => shown(time.as_secs_f64(), "s"),
    }
}

/// `10s`, `5m`, `2h`, `1d`, a time of RFC 3339 or seconds since the epoch, as nanoseconds since the epoch.
///
/// # Errors
/// In words.
pub(crate) fn since(text: &str, now: i64) -> Result<i64, String> {
    const SECOND: i64 = 1_000_000_000;
    let unit = [("s", 1), ("m", 60), ("h", 3_600), ("d", 86_400)];
    let ago = unit.iter().find_map(|(suffix, seconds)| {
        let number: i64 = text.strip_suffix(suffix)?.parse().ok()?;
        now.checked_sub(number.checked_mul(seconds * SECOND)?)
    });
    let seconds = || text.parse::<i64>().ok()?.checked_mul(SECOND);
    let moment = || i64::try_from(OffsetDateTime::parse(text, &Rfc3339).ok()?.unix_timestamp_nanos()).ok();
    ago.or_else(seconds)
        .or_else(moment)
        .ok_or_else(|| format!("{text:?} is no time such as 10m, 1h or 2026-01-31T12:00:00Z"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_terminal_would_obey_is_written_out() {
        assert_eq!(shown("a\u{1b}[2Jb\nc\u{9b}d\u{202e}é"), "a\\u{1b}[2Jb\\nc\\u{9b}d\\u{202e}é");
        let text = json(&serde_json::json!({"a": "\u{1b}\u{9b}\u{7f}\u{202e}é\n"}));
        assert_eq!(text, "{\"a\":\"\\u001b\\u009b\\u007f\\u202eé\\n\"}");
        assert!(serde_json::from_str::<Value>(&text).is_ok());
    }

    #[test]
    fn times_are_read_and_shown() {
        let now = 1_000_000 * 1_000_000_000;
        assert_eq!(since("10s", now), Ok(999_990 * 1_000_000_000));
        assert_eq!(since("5", now), Ok(5_000_000_000));
        assert_eq!(since("1970-01-01T00:00:01.5Z", now), Ok(1_500_000_000));
        for text in ["", "x", "10y", "99999999999999999999s", "é"] {
            assert!(since(text, now).is_err(), "{text}");
        }
        assert_eq!(moment(1_500_000_001), "1970-01-01T00:00:01.5Z");
        assert_eq!(moment(0), "");
        let ages = [5, 300, 7_300, 200_000].map(|seconds| age(0, seconds * 1_000_000_000));
        assert_eq!(ages, ["5s", "5m", "2h", "2d"]);
        assert_eq!(
            [took(950), took(1_234_567), took(45_600_000), took(2_000_000_000)],
            ["0 µs", "1.23 ms", "45.6 ms", "2.00 s"]
        );
    }
}
