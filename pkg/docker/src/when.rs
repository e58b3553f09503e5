//! Times as Docker writes and reads them.
//!
//! Answers have RFC 3339 with nanoseconds in UTC. Requests (`since`, `until`) have seconds since the epoch with a fraction, a
//! time, or a duration before now; Go's clients send the first (`timestamp.GetTimestamp`), people the others.

use std::time::Duration;

use husk_model::UnixNanos;
use time::{OffsetDateTime, format_description::well_known::Rfc3339};

/// What Docker writes where a time is not there: Go's zero time.
pub(crate) const NEVER: &str = "0001-01-01T00:00:00Z";

const NANOS: i128 = 1_000_000_000;

/// RFC 3339 in UTC, with as many digits of the fraction as there are.
pub(crate) fn text(at: UnixNanos) -> String {
    OffsetDateTime::from_unix_timestamp_nanos(i128::from(at))
        .ok()
        .and_then(|time| time.format(&Rfc3339).ok())
        .unwrap_or_else(|| NEVER.to_owned())
}

/// Nanoseconds of an RFC 3339 time, such as an image's `created`.
pub(crate) fn nanos(text: &str) -> Option<UnixNanos> {
    let time = OffsetDateTime::parse(text, &Rfc3339).ok()?;
    UnixNanos::try_from(time.unix_timestamp_nanos()).ok()
}

/// A moment of a request: `1700000000`, `1700000000.5`, `2026-01-02T03:04:05Z`, `2026-01-02T03:04:05` and its beginnings (in UTC),
/// or `10m` before `now`.
pub(crate) fn moment(text: &str, now: UnixNanos) -> Option<UnixNanos> {
    let text = text.trim();
    seconds(text)
        .or_else(|| nanos(text))
        .or_else(|| civil(text))
        .or_else(|| Some(now.saturating_sub(UnixNanos::try_from(duration(text)?.as_nanos()).ok()?)))
}

/// Whole seconds and a fraction of up to nine digits.
fn seconds(text: &str) -> Option<UnixNanos> {
    let (whole, fraction) = text.split_once('.').unwrap_or((text, ""));
    if fraction.len() > 9 || !fraction.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    let negative = whole.starts_with('-');
    let whole: i128 = whole.parse().ok()?;
    let part: i128 = format!("{fraction:0<9}").parse().ok()?;
    let nanos = whole.checked_mul(NANOS)? + if negative { -part } else { part };
    UnixNanos::try_from(nanos).ok()
}

/// A date, with or without a time, without a zone.
fn civil(text: &str) -> Option<UnixNanos> {
    const SHAPE: &str = "0000-01-01T00:00:00";
    let rest = SHAPE.get(text.len()..)?;
    if !text.is_ascii() || text.len() < "0000-01-01".len() {
        return None;
    }
    nanos(&format!("{text}{rest}Z"))
}

/// A duration as Go writes it: `1h30m`, `1.5s`, `300ms`. Negative ones are none.
pub(crate) fn duration(text: &str) -> Option<Duration> {
    if text == "0" {
        return Some(Duration::ZERO);
    }
    let mut rest = text;
    let mut sum = Duration::ZERO;
    while !rest.is_empty() {
        let end = rest.find(|c: char| !c.is_ascii_digit() && c != '.')?;
        let number: f64 = rest[..end].parse().ok()?;
        let unit_end = rest[end..].find(|c: char| c.is_ascii_digit()).map_or(rest.len(), |at| end + at);
        let unit = match &rest[end..unit_end] {
            "ns" => 1e-9,
            "us" | "µs" => 1e-6,
            "ms" => 1e-3,
            "s" => 1.0,
            "m" => 60.0,
            "h" => 3600.0,
            _ => return None,
        };
        sum = sum.checked_add(Duration::try_from_secs_f64(number * unit).ok()?)?;
        rest = &rest[unit_end..];
    }
    (!text.is_empty()).then_some(sum)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_written_as_go_writes_them() {
        assert_eq!(text(0), "1970-01-01T00:00:00Z");
        assert_eq!(text(1_500_000_000), "1970-01-01T00:00:01.5Z");
        assert_eq!(text(1), "1970-01-01T00:00:00.000000001Z");
        assert_eq!(nanos(&text(123_456_789_012_345_678)), Some(123_456_789_012_345_678));
    }

    #[test]
    fn a_moment_is_seconds_a_time_a_date_or_a_duration_before_now() {
        let now = 100 * 1_000_000_000;
        for (text, expected) in [
            ("7", Some(7_000_000_000)),
            ("7.5", Some(7_500_000_000)),
            ("7.000000001", Some(7_000_000_001)),
            ("-1.5", Some(-1_500_000_000)),
            ("1970-01-01T00:00:07Z", Some(7_000_000_000)),
            ("1970-01-01T00:00:07", Some(7_000_000_000)),
            ("1970-01-02", Some(86_400_000_000_000)),
            ("10s", Some(90_000_000_000)),
            ("1m30s", Some(10_000_000_000)),
            ("", None),
            ("soon", None),
            ("7.0000000001", None),
            ("99999999999999999999", None),
            ("1970-01-0ä", None),
            ("5 minutes", None),
        ] {
            assert_eq!(moment(text, now), expected, "{text:?}");
        }
    }

    #[test]
    fn durations_are_gos() {
        for (text, expected) in [
            ("1h30m", Some(Duration::from_secs(5400))),
            ("1.5s", Some(Duration::from_millis(1500))),
            ("300ms", Some(Duration::from_millis(300))),
            ("0", Some(Duration::ZERO)),
            ("", None),
            ("5", None),
            ("-5s", None),
            ("1d", None),
            ("9e99h", None),
        ] {
            assert_eq!(duration(text), expected, "{text:?}");
        }
    }
}
