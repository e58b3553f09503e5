//! Placeholders in what clients want: `{{.Service.Name}}-{{.Task.Slot}}`.
//!
//! Docker's are Go's templates. husk has the placeholders that Docker documents, and refuses anything else of that language where the text is given.

use std::collections::BTreeMap;

use crate::error::{Result, SwarmError, cut};

/// Longest text that a template becomes.
const LONGEST: usize = 1 << 20;

/// What placeholders stand for.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Context {
    /// `.Service.ID` and so on, without the first dot.
    pub values: BTreeMap<&'static str, String>,
    /// Labels of the service: `.Service.Labels`, and one by `index`.
    pub labels: BTreeMap<String, String>,
    /// `env "NAME"`, of payloads.
    pub env: BTreeMap<String, String>,
    /// `secret "target"`, of payloads.
    pub secrets: BTreeMap<String, String>,
    /// `config "target"`, of payloads.
    pub configs: BTreeMap<String, String>,
}

/// A text with placeholders.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Template(Vec<Part>);

#[derive(Debug, Clone, PartialEq, Eq)]
enum Part {
    Text(String),
    Value(&'static str),
    Label(String),
    Env(String),
    Secret(String),
    Config(String),
}

/// The placeholders that Docker documents.
const VALUES: [&str; 9] = [
    "Service.ID",
    "Service.Name",
    "Node.ID",
    "Node.Hostname",
    "Node.Platform.OS",
    "Node.Platform.Architecture",
    "Task.ID",
    "Task.Name",
    "Task.Slot",
];

impl Template {
    /// Reads a text; in a payload `env`, `secret` and `config` may be asked, too.
    ///
    /// # Errors
    /// [`SwarmError::Wrong`] with the placeholder that is none.
    pub fn parse(text: &str, payload: bool) -> Result<Self> {
        let mut parts = Vec::new();
        let mut rest = text;
        while let Some((before, behind)) = rest.split_once("{{") {
            let (inner, after) = behind.split_once("}}").ok_or_else(|| {
                SwarmError::wrong(format!("a template has {{{{ without }}}}: {}", cut(behind)))
            })?;
            parts.push(Part::Text(before.to_owned()));
            parts.push(part(inner.trim(), payload)?);
            rest = after;
        }
        parts.push(Part::Text(rest.to_owned()));
        Ok(Self(parts))
    }

    /// The text for a context.
    ///
    /// # Errors
    /// [`SwarmError::Wrong`] for a secret or config that the task has not, and for a text of more than 1 MiB.
    pub fn render(&self, context: &Context) -> Result<String> {
        let mut text = String::new();
        for part in &self.0 {
            let of = |what: &str, all: &BTreeMap<String, String>, name: &String| {
                all.get(name).cloned().ok_or_else(|| {
                    SwarmError::wrong(format!(
                        "a template asks for the {what} {:?}, which the task has not",
                        cut(name)
                    ))
                })
            };
            text.push_str(&match part {
                Part::Text(part) => part.clone(),
                Part::Value(name) => context.values.get(name).cloned().unwrap_or_default(),
                Part::Label(name) => context.labels.get(name).cloned().unwrap_or_default(),
                Part::Env(name) => context.env.get(name).cloned().unwrap_or_default(),
                Part::Secret(name) => of("secret", &context.secrets, name)?,
                Part::Config(name) => of("config", &context.configs, name)?,
            });
            if text.len() > LONGEST {
                return Err(SwarmError::wrong(format!("a template becomes more than {LONGEST} bytes")));
            }
        }
        Ok(text)
    }
}

fn part(inner: &str, payload: bool) -> Result<Part> {
    let refused = || {
        SwarmError::wrong(format!(
            "husk has no template {{{{{}}}}}: placeholders are .{}{}",
            cut(inner),
            VALUES.join(", ."),
            if payload { ", env, secret and config \"NAME\"" } else { "" }
        ))
    };
    if let Some(name) = inner.strip_prefix('.') {
        return VALUES.iter().find(|value| **value == name).map(|name| Part::Value(name)).ok_or_else(refused);
    }
    let (function, argument) = inner.split_once(char::is_whitespace).ok_or_else(refused)?;
    let argument = argument.trim();
    let quoted = |text: &str| {
        let inner = text.strip_prefix('"')?.strip_suffix('"')?;
        (!inner.contains(['"', '\\'])).then(|| inner.to_owned())
    };
    match function {
        "index" => argument
            .strip_prefix(".Service.Labels")
            .and_then(|name| quoted(name.trim()))
            .map(Part::Label)
            .ok_or_else(refused),
        "env" if payload => quoted(argument).map(Part::Env).ok_or_else(refused),
        "secret" if payload => quoted(argument).map(Part::Secret).ok_or_else(refused),
        "config" if payload => quoted(argument).map(Part::Config).ok_or_else(refused),
        _ => Err(refused()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn placeholders_become_what_they_stand_for() {
        let context = Context {
            values: [("Service.Name", "web".to_owned()), ("Task.Slot", "2".to_owned())].into(),
            labels: [("tier".to_owned(), "front".to_owned())].into(),
            secrets: [("key".to_owned(), "{{.Task.ID}}".to_owned())].into(),
            ..Context::default()
        };
        let text = |text, payload| Template::parse(text, payload)?.render(&context);
        assert_eq!(text("{{.Service.Name}}-{{ .Task.Slot }}!", false).unwrap(), "web-2!");
        assert_eq!(text(r#"{{index .Service.Labels "tier"}}"#, false).unwrap(), "front");
        assert_eq!(text("plain } { text", false).unwrap(), "plain } { text");
        assert_eq!(text(r#"<{{secret "key"}}>"#, true).unwrap(), "<{{.Task.ID}}>", "and not once more");
        assert!(text(r#"{{secret "other"}}"#, true).is_err());
    }

    #[test]
    fn what_is_no_placeholder_is_refused() {
        for text in [
            "{{",
            "{{.Service}}",
            "{{range .}}x{{end}}",
            r#"{{secret "key"}}"#,
            "{{}}",
            r#"{{index .Node "x"}}"#,
        ] {
            assert!(Template::parse(text, false).is_err(), "{text}");
        }
        assert!(Template::parse(r#"{{env "A}}"#, true).is_err());
    }
}
