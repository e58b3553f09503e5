//! `changes` of a commit or an import: instructions of a Dockerfile that only change how an image is run.

use serde_json::{Map, Value, json};

use crate::error::{Failure, Result};

/// Applies instructions to a configuration in the image-spec's spelling.
///
/// # Errors
/// 400 with the instruction.
pub(crate) fn apply(config: &mut Map<String, Value>, changes: &[String]) -> Result<()> {
    for line in
        changes.iter().flat_map(|change| change.lines()).map(str::trim).filter(|line| !line.is_empty())
    {
        let (word, rest) = line.split_once(char::is_whitespace).unwrap_or((line, ""));
        one(config, &word.to_ascii_uppercase(), rest.trim()).map_err(|reason| {
            let line: String = line.chars().take(200).collect();
            Failure::bad(format!("invalid change {line:?}: {reason}"))
        })?;
    }
    Ok(())
}

fn one(config: &mut Map<String, Value>, word: &str, rest: &str) -> Result<(), &'static str> {
    if rest.is_empty() {
        return Err("it has no argument");
    }
    match word {
        "CMD" => drop(config.insert("Cmd".into(), command(rest))),
        "ENTRYPOINT" => drop(config.insert("Entrypoint".into(), command(rest))),
        "USER" => drop(config.insert("User".into(), rest.into())),
        "WORKDIR" => drop(config.insert("WorkingDir".into(), below(config.get("WorkingDir"), rest).into())),
        "STOPSIGNAL" => drop(config.insert("StopSignal".into(), rest.into())),
        "ENV" => {
            for (key, value) in pairs(rest)? {
                set_variable(config, &key, &value);
            }
        }
        "LABEL" => {
            for (key, value) in pairs(rest)? {
                object(config, "Labels").insert(key, value.into());
            }
        }
        "EXPOSE" => {
            for port in rest.split_whitespace() {
                let port = if port.contains('/') { port.to_ascii_lowercase() } else { format!("{port}/tcp") };
                object(config, "ExposedPorts").insert(port, json!({}));
            }
        }
        "VOLUME" => {
            let paths = match list(rest) {
                Some(paths) => paths,
                None => rest.split_whitespace().map(str::to_owned).collect(),
            };
            for path in paths {
                object(config, "Volumes").insert(path, json!({}));
            }
        }
        "ONBUILD" => match config.entry("OnBuild").or_insert_with(|| json!([])) {
            Value::Array(all) => all.push(rest.into()),
            other => *other = json!([rest]),
        },
        _ => {
            return Err(
                "only CMD, ENTRYPOINT, ENV, EXPOSE, LABEL, ONBUILD, STOPSIGNAL, USER, VOLUME and WORKDIR can be changed",
            );
        }
    }
    Ok(())
}

/// A JSON list of strings.
fn list(text: &str) -> Option<Vec<String>> {
    serde_json::from_str(text).ok()
}

/// The words of a command: as they are in a list, else for a shell.
fn command(text: &str) -> Value {
    match list(text) {
        Some(words) => json!(words),
        None => json!(["/bin/sh", "-c", text]),
    }
}

/// A relative directory is below the one there was.
fn below(current: Option<&Value>, path: &str) -> String {
    match current.and_then(Value::as_str) {
        Some(current) if !path.starts_with('/') => format!("{}/{path}", current.trim_end_matches('/')),
        _ if path.starts_with('/') => path.to_owned(),
        _ => format!("/{path}"),
    }
}

fn object<'a>(config: &'a mut Map<String, Value>, key: &str) -> &'a mut Map<String, Value> {
    let value = config.entry(key).or_insert_with(|| json!({}));
    if !value.is_object() {
        *value = json!({});
    }
    match value {
        Value::Object(object) => object,
        _ => unreachable!("an object was just put there"),
    }
}

fn set_variable(config: &mut Map<String, Value>, key: &str, value: &str) {
    let beginning = format!("{key}=");
    let variable = Value::from(format!("{key}={value}"));
    match config.entry("Env").or_insert_with(|| json!([])) {
        Value::Array(all) => {
            match all.iter_mut().find(|have| have.as_str().is_some_and(|have| have.starts_with(&beginning))) {
                Some(have) => *have = variable,
                None => all.push(variable),
            }
        }
        other => *other = json!([variable]),
    }
}

/// `key=value key="a value"`, or `key the whole rest`.
fn pairs(text: &str) -> Result<Vec<(String, String)>, &'static str> {
    let words = words(text)?;
    if words.first().is_some_and(|word| !word.contains('=')) {
        let (key, value) = text.split_once(char::is_whitespace).ok_or("it has a name and no value")?;
        return Ok(vec![(key.to_owned(), value.trim().to_owned())]);
    }
    let pair = |word: &String| {
        let (key, value) = word.split_once('=').ok_or("name=value is expected")?;
        if key.is_empty() { Err("a name is empty") } else { Ok((key.to_owned(), value.to_owned())) }
    };
    words.iter().map(pair).collect()
}

/// Words, split at white space that is neither quoted nor escaped.
fn words(text: &str) -> Result<Vec<String>, &'static str> {
    let (mut words, mut word, mut quote, mut in_word) = (Vec::new(), String::new(), None, false);
    let mut chars = text.chars();
    while let Some(c) = chars.next() {
        match (c, quote) {
            ('\\', None | Some('"')) => {
                word.push(chars.next().ok_or("a backslash at its end")?);
                in_word = true;
            }
            (c, Some(open)) if c == open => quote = None,
            (c, Some(_)) => word.push(c),
            ('"' | '\'', None) => {
                quote = Some(c);
                in_word = true;
            }
            (c, None) if c.is_whitespace() => {
                if std::mem::take(&mut in_word) {
                    words.push(std::mem::take(&mut word));
                }
            }
            (c, None) => {
                word.push(c);
                in_word = true;
            }
        }
    }
    if quote.is_some() {
        return Err("a quote is not closed");
    }
    if in_word {
        words.push(word);
    }
    Ok(words)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn applied(before: Value, changes: &[&str]) -> Result<Value> {
        let mut config = before.as_object().cloned().unwrap();
        let changes: Vec<String> = changes.iter().map(|change| (*change).to_owned()).collect();
        apply(&mut config, &changes).map(|()| config.into())
    }

    #[test]
    fn each_instruction_changes_what_it_names() {
        for (before, change, after) in [
            (json!({}), r#"CMD ["a","b c"]"#, json!({ "Cmd": ["a", "b c"] })),
            (json!({}), "cmd a b", json!({ "Cmd": ["/bin/sh", "-c", "a b"] })),
            (json!({ "Entrypoint": ["x"] }), r#"ENTRYPOINT ["y"]"#, json!({ "Entrypoint": ["y"] })),
            (
                json!({ "Env": ["A=1", "B=2"] }),
                "ENV A=3 C=\"x y\" D=a\\ b",
                json!({ "Env": ["A=3", "B=2", "C=x y", "D=a b"] }),
            ),
            (json!({ "Env": null }), "ENV GREETING hello world", json!({ "Env": ["GREETING=hello world"] })),
            (json!({}), "EXPOSE 80 53/UDP", json!({ "ExposedPorts": { "80/tcp": {}, "53/udp": {} } })),
            (json!({}), "LABEL a=b 'c d'=e", json!({ "Labels": { "a": "b", "c d": "e" } })),
            (json!({}), r#"VOLUME ["/a b"]"#, json!({ "Volumes": { "/a b": {} } })),
            (json!({ "WorkingDir": "/srv" }), "WORKDIR app", json!({ "WorkingDir": "/srv/app" })),
            (
                json!({}),
                "USER 1000:1000\nSTOPSIGNAL SIGINT",
                json!({ "User": "1000:1000", "StopSignal": "SIGINT" }),
            ),
            (json!({}), "ONBUILD RUN true", json!({ "OnBuild": ["RUN true"] })),
        ] {
            assert_eq!(applied(before, &[change]).unwrap(), after, "{change}");
        }
    }

    #[test]
    fn what_would_need_a_builder_or_is_none_is_refused() {
        for change in [
            "RUN true",
            "COPY a b",
            "FROM x",
            "CMD",
            "ENV A",
            "ENV A='x",
            "LABEL =x",
            "ENV A=1 B",
            "LABEL a\\",
        ] {
            assert_eq!(applied(json!({}), &[change]).unwrap_err().status(), 400, "{change}");
        }
    }
}
