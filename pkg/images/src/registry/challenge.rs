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
    let mut rest = header;
    loop {
        // Lists may have empty elements, and some registries separate by other means than commas.
        rest = rest.trim_start_matches(|c: char| !is_token(c));
        let end = rest.find(|c| !is_token(c)).unwrap_or(rest.len());
        let (word, after) = rest.split_at(end);
        if word.is_empty() {
            return challenges;
        }
        let value = after.trim_start().strip_prefix('=');
        rest = match (value, challenges.last_mut()) {
            (Some(value), Some(challenge)) => {
                let (value, after) = value_of(value.trim_start());
                challenge.parameters.insert(word.to_ascii_lowercase(), value);
                after
            }
            _ => {
                challenges.push(Challenge { scheme: word.to_ascii_lowercase(), parameters: HashMap::new() });
                after
            }
        };
    }
}

/// A character of a token (RFC 9110, 5.6.2).
fn is_token(c: char) -> bool {
    c.is_ascii_alphanumeric() || "!#$%&'*+-.^_`|~".contains(c)
}

/// A token or quoted string, and what follows it.
fn value_of(text: &str) -> (String, &str) {
    let Some(quoted) = text.strip_prefix('"') else {
        let end = text.find([',', ' ', '\t', ';']).unwrap_or(text.len());
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
    fn odd_spellings_of_registries_are_read() {
        for text in [
            r#"BEARER Realm="https://a.example/t?x=1,2",SERVICE="s""#,
            r#"bearer realm = "https://a.example/t?x=1,2" , service = s"#,
            "Bearer\trealm=\"https://a.example/t?x=1,2\"\tservice=s",
            r#"Bearer realm="https://a.example/t?x=1,2";service="s""#,
            r#",, Bearer realm="https://a.example/t?x=1,2",,service="s","#,
            r#"Negotiate, Basic realm="b", Bearer realm="https://a.example/t?x=1,2",service="s",error="invalid_token""#,
            r#"Bearer service="s",realm=https://a.example/t?x=1"#,
        ] {
            let found = parse(text);
            let bearer = found.iter().find(|challenge| challenge.scheme == "bearer").expect(text);
            assert!(bearer.parameters["realm"].starts_with("https://a.example/t?x=1"), "{text}: {bearer:?}");
            assert_eq!(bearer.parameters["service"], "s", "{text}");
        }
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
