//! Values as they are shown: on one line, short, and without secrets.

use toml::Value;

/// Characters of a value that are shown.
const LENGTH: usize = 120;

/// What stands in place of a secret.
const HIDDEN: &str = "(secret)";

/// Names of keys whose values are never shown: credentials of registries, headers of requests.
const SECRETS: [&str; 7] =
    ["password", "auth", "identitytoken", "registrytoken", "header", "headers", "username"];

/// The value of the key with this path.
pub(crate) fn shown(path: &[String], value: &Value) -> String {
    let is_secret = path.iter().any(|part| SECRETS.contains(&part.to_ascii_lowercase().as_str()));
    if is_secret && !matches!(value, Value::Boolean(_)) {
        return HIDDEN.to_owned();
    }
    let text = without_userinfo(&value.to_string().replace('\n', " "));
    if text.chars().count() <= LENGTH {
        return text;
    }
    text.chars().take(LENGTH).chain("…".chars()).collect()
}

/// `https://user:password@host` as `https://(secret)@host` (RFC 3986, section 3.2.1).
pub(crate) fn without_userinfo(text: &str) -> String {
    let mut left = text;
    let mut shown = String::new();
    while let Some((before, after)) = left.split_once("://") {
        shown.push_str(before);
        shown.push_str("://");
        let end = after
            .find(|c: char| c == '/' || c == '"' || c == '\'' || c == '?' || c == '#' || c.is_whitespace())
            .unwrap_or(after.len());
        left = after;
        if let Some(at) = after[..end].rfind('@') {
            shown.push_str(HIDDEN);
            left = &after[at..];
        }
    }
    shown.push_str(left);
    shown
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn secrets_are_not_shown() {
        let path = |text: &str| text.split('/').map(str::to_owned).collect::<Vec<_>>();
        for (key, value, text) in [
            ("configs/a.example/auth/password", "x", "(secret)"),
            ("host/https://a/header/x-team", "x", "(secret)"),
            (
                "Service/Environment/HTTP_PROXY",
                "http://u:p%40@a.example:1/",
                "\"http://(secret)@a.example:1/\"",
            ),
            ("server", "https://a.example/b@c", "\"https://a.example/b@c\""),
        ] {
            assert_eq!(shown(&path(key), &Value::String(value.into())), text);
        }
        let list = Value::Array(vec!["A=http://u:p@a".into(), "B=http://v:q@b".into()]);
        assert_eq!(shown(&path("default_env"), &list), "[\"A=http://(secret)@a\", \"B=http://(secret)@b\"]");
    }

    #[test]
    fn a_long_value_is_cut_and_has_no_line_breaks() {
        let text = shown(&[], &Value::String("ä\n".repeat(500)));
        assert!(text.chars().count() == LENGTH + 1 && text.ends_with('…') && !text.contains('\n'), "{text}");
    }
}
