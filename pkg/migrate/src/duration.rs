//! Go's durations (`time.ParseDuration`: `4h0m0s`, `1m30s`, `500ms`) as husk writes them: one number and one unit.

use std::time::Duration;

/// A Go duration; `None` for what is none or negative. A bare `0` is one.
pub(crate) fn parse(text: &str) -> Option<Duration> {
    if text == "0" {
        return Some(Duration::ZERO);
    }
    let mut left = text.strip_prefix('+').unwrap_or(text);
    let mut seconds = 0.0;
    if left.is_empty() {
        return None;
    }
    while !left.is_empty() {
        let digits = left.find(|c: char| !c.is_ascii_digit() && c != '.')?;
        let number: f64 = left[..digits].parse().ok()?;
        let rest = &left[digits..];
        let end = rest.find(|c: char| c.is_ascii_digit() || c == '.').unwrap_or(rest.len());
        seconds += number * unit(&rest[..end])?;
        left = &rest[end..];
    }
    Duration::try_from_secs_f64(seconds).ok()
}

fn unit(name: &str) -> Option<f64> {
    Some(match name {
        "ns" => 1e-9,
        "us" | "µs" | "μs" => 1e-6,
        "ms" => 1e-3,
        "s" => 1.0,
        "m" => 60.0,
        "h" => 3600.0,
        _ => return None,
    })
}

/// As husk's configuration has it: whole seconds, rounded up, in the largest unit that fits. `None` for zero.
pub(crate) fn husk(duration: Duration) -> Option<String> {
    let seconds = duration.as_secs() + u64::from(duration.subsec_nanos() > 0);
    match seconds {
        0 => None,
        seconds if seconds % 3600 == 0 => Some(format!("{}h", seconds / 3600)),
        seconds if seconds % 60 == 0 => Some(format!("{}m", seconds / 60)),
        seconds => Some(format!("{seconds}s")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_of_go_become_one_number_and_one_unit() {
        for (go, ours) in [
            ("4h0m0s", Some("4h")),
            ("1m30s", Some("90s")),
            ("5m0s", Some("5m")),
            ("1.5h", Some("90m")),
            ("500ms", Some("1s")),
            ("0s", None),
            ("0", None),
        ] {
            assert_eq!(husk(parse(go).unwrap()).as_deref(), ours, "{go}");
        }
        for wrong in ["", "5", "s", "-1s", "1x", "soon", "1s2"] {
            assert_eq!(parse(wrong), None, "{wrong}");
        }
    }
}
