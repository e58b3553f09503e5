//! Options of a log: how much of it is kept.

use husk_model::LogLimits;

use crate::{
    api::container::LogConfig,
    error::{Failure, Result},
};

/// Most files of a log.
const MOST_FILES: u32 = 1000;
/// What the driver `local` keeps without options.
const LOCAL: LogLimits = LogLimits { size: 20_000_000, files: 5 };

/// When another file is begun; `None` is never.
///
/// # Errors
/// 400 with the driver or the option.
pub(super) fn limits(log: &LogConfig) -> Result<Option<LogLimits>> {
    let (driver, options) = (log.kind.as_str(), &log.config);
    let (known, default): (&[&str], _) = match driver {
        "" | "json-file" => (
            &[
                "max-size",
                "max-file",
                "compress",
                "labels",
                "labels-regex",
                "env",
                "env-regex",
                "tag",
                "mode",
                "max-buffer-size",
            ],
            None,
        ),
        "local" => (&["max-size", "max-file", "compress", "mode", "max-buffer-size"], Some(LOCAL)),
        "none" => return Ok(None),
        other => {
            return Err(Failure::bad(format!("logger: no log driver named '{}' is registered", cut(other))));
        }
    };
    if let Some(unknown) = options.keys().find(|key| !known.contains(&key.as_str())) {
        let driver = if driver.is_empty() { "json-file" } else { driver };
        return Err(Failure::bad(format!("unknown log opt '{}' for {driver} log driver", cut(unknown))));
    }
    let files = match options.get("max-file") {
        None => default.map_or(1, |limits| limits.files),
        Some(text) => {
            text.parse().ok().filter(|files| (1..=MOST_FILES).contains(files)).ok_or_else(|| {
                Failure::bad(format!("max-file {:?}: a number from 1 to {MOST_FILES} is expected", cut(text)))
            })?
        }
    };
    let size = match options.get("max-size").map(String::as_str) {
        None => default.map(|limits| limits.size),
        Some("-1") => None,
        Some(text) => Some(size(text).filter(|size| *size != 0).ok_or_else(|| {
            Failure::bad(format!("max-size {:?}: a size such as 10m is expected", cut(text)))
        })?),
    };
    Ok(size.map(|size| LogLimits { size, files }))
}

/// `10`, `10k`, `1.5 MB`: of a thousand each, as Docker's log drivers have it.
fn size(text: &str) -> Option<u64> {
    let digits = text.trim().trim_end_matches(|c: char| c.is_ascii_alphabetic() || c == ' ');
    let unit = text.trim()[digits.len()..].trim().to_ascii_lowercase();
    let factor: u32 = match unit.strip_suffix('b').unwrap_or(&unit) {
        "" => 0,
        "k" => 1,
        "m" => 2,
        "g" => 3,
        "t" => 4,
        "p" => 5,
        _ => return None,
    };
    let is_number = !digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_digit() || byte == b'.');
    let bytes = digits.parse::<f64>().ok().filter(|_| is_number)? * 1000_f64.powi(factor as i32);
    // As whole bytes; what is more than any disk has is that.
    (bytes < 1e18).then_some(bytes as u64)
}

fn cut(text: &str) -> String {
    text.chars().take(80).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(text: &str) -> Result<Option<(u64, u32)>> {
        limits(&serde_json::from_str(text).unwrap())
            .map(|limits| limits.map(|limits| (limits.size, limits.files)))
    }

    #[test]
    fn a_log_is_as_large_as_its_driver_and_its_options_say() {
        for (text, expected) in [
            ("{}", None),
            (r#"{"Type":"json-file","Config":{"max-file":"3"}}"#, None),
            (r#"{"Config":{"max-size":"10k"}}"#, Some((10_000, 1))),
            (r#"{"Config":{"max-size":"1.5 MB","max-file":"3"}}"#, Some((1_500_000, 3))),
            (r#"{"Type":"local"}"#, Some((20_000_000, 5))),
            (r#"{"Type":"local","Config":{"max-size":"-1"}}"#, None),
            (r#"{"Type":"none","Config":{"max-size":"x"}}"#, None),
        ] {
            assert_eq!(of(text).unwrap(), expected, "{text}");
        }
        for text in [
            r#"{"Config":{"max-size":"0"}}"#,
            r#"{"Config":{"max-size":"-5"}}"#,
            r#"{"Config":{"max-size":"10x"}}"#,
            r#"{"Config":{"max-size":"nan"}}"#,
            r#"{"Config":{"max-size":"1e30"}}"#,
            r#"{"Config":{"max-size":"99999999999999999999"}}"#,
            r#"{"Config":{"max-file":"0"}}"#,
            r#"{"Config":{"max-file":"1001"}}"#,
            r#"{"Config":{"speed":"1"}}"#,
            r#"{"Type":"awslogs"}"#,
        ] {
            assert_eq!(of(text).unwrap_err().status(), 400, "{text}");
        }
    }
}
