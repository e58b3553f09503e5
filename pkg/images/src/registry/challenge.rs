//! `WWW-Authenticate` (RFC 9110, 11.6.1): the schemes a registry offers, with their parameters.

use std::collections::HashMap;

/// One offered scheme.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Challenge {
    /// Lower case.
    pub(super) scheme: String,
    /// Names in lower case.
    pub(super) parameters: HashMap<String, String>,
}

/// Reads one header value, which may hold several challenges. What cannot be read is left out.
pub(super) fn parse(header: &str) -> Vec<Challenge> {
    let mut challenges: Vec<Challenge> = Vec::new();
    let mut rest = header.trim_start_matches([' ', ',']);
    while !rest.is_empty() {
        let end = rest.find([' ', '=', ',']).unwrap_or(rest.len());
        let (word, after) = rest.split_at(end);
        if word.is_empty() {
            return challenges;
        }
        if let Some(value) = after.trim_start().strip_prefix('=').filter(|_| !challenges.is_empty()) {
            let (value, after) = value_of(value.trim_start());
            if let Some(challenge) = challenges.last_mut() {
                challenge.parameters.insert(word.to_ascii_lowercase(), value);
            }
            rest = after;
        } else {
            challenges.push(Challenge { scheme: word.to_ascii_lowercase(), parameters: HashMap::new() });
            rest = after.trim_start_matches('=');
        }
        rest = rest.trim_start_matches([' ', ',', '\t']);
    }
    challenges
}

/// A token or quoted string, and what follows it.
fn value_of(text: &str) -> (String, &str) {
    let Some(quoted) = text.strip_prefix('"') else {
        let end = text.find([',', ' ']).unwrap_or(text.len());
        return (text[..end].to_owned(), &text[end..]);
    };
    let mut value = String::new();
    let mut escaped = false;
    for (at, c) in quoted.char_indices() {
        match c {
            _ if escaped => {
                value.push(c);
                escaped = false;
            }
            '\\' => escaped = true,
            '"' => return (value, &quoted[at + 1..]),
            _ => value.push(c),
        }
    }
    (value, "")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn challenges_are_read_with_quoted_commas_and_several_schemes() {
        let found = parse(
            r#"Bearer realm="https://auth.example/token",service=reg,scope="repository:a/b:pull,push", Basic realm="x \"y\"""#,
        );
        assert_eq!(found.len(), 2);
        assert_eq!(found[0].scheme, "bearer");
        assert_eq!(found[0].parameters["scope"], "repository:a/b:pull,push");
        assert_eq!(found[0].parameters["service"], "reg");
        assert_eq!(found[1].parameters["realm"], "x \"y\"");
    }

    #[test]
    fn nonsense_does_not_loop_or_panic() {
        for text in [
            "",
            ",",
            "=",
            "Bearer",
            "Bearer =",
            "Bearer realm",
            "Bearer realm=\"x",
            "=a=b",
            "a = b, c",
            "\u{e9}=\"\u{e9}",
        ] {
            parse(text);
        }
    }
}
