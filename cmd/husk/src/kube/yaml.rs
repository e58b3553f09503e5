//! YAML and JSON as values. Bounded: a file, its nesting and its number of values; aliases are refused, because a few lines of them grow
//! without bound.

use std::{fs::File, io::Read, path::Path};

use serde_json::{Map, Number, Value};
use yaml_rust2::{
    Yaml,
    parser::{Event, Parser},
    scanner::TScalarStyle,
};

/// Bytes of a file.
const MAX_FILE: u64 = 1 << 20;
/// Levels of lists and maps.
const MAX_DEPTH: usize = 64;
/// Documents of a file.
const MAX_DOCUMENTS: usize = 256;

/// Reads a file; `-` is the standard input.
///
/// # Errors
/// In words, with the file's name.
pub(super) fn read(path: &Path) -> Result<String, String> {
    let failed = |error: std::io::Error| format!("read {}: {error}", path.display());
    let mut text = String::new();
    let source: Box<dyn Read> = match path == Path::new("-") {
        true => Box::new(std::io::stdin().lock()),
        false => Box::new(File::open(path).map_err(failed)?),
    };
    source.take(MAX_FILE + 1).read_to_string(&mut text).map_err(failed)?;
    match text.len() as u64 > MAX_FILE {
        true => Err(format!("{} is larger than {MAX_FILE} bytes; split it", path.display())),
        false => Ok(text),
    }
}

/// The documents of a text, those left out that say nothing.
///
/// # Errors
/// In words, with the line.
pub(super) fn documents(text: &str) -> Result<Vec<Value>, String> {
    let mut parser = Parser::new_from_str(text);
    let mut documents = Vec::new();
    let mut open = Vec::new();
    loop {
        let (event, mark) = parser.next_token().map_err(|error| error.to_string())?;
        let at = |reason: &str| format!("line {}: {reason}", mark.line());
        let whole = match event {
            Event::StreamEnd => return Ok(documents),
            Event::Nothing | Event::StreamStart | Event::DocumentStart | Event::DocumentEnd => None,
            Event::Alias(_) => return Err(at("aliases (*name) are not read; write out what it stands for")),
            Event::SequenceStart(..) | Event::MappingStart(..) if open.len() == MAX_DEPTH => {
                return Err(at("is nested too deeply"));
            }
            Event::SequenceStart(..) => {
                open.push(Open::List(Vec::new()));
                None
            }
            Event::MappingStart(..) => {
                open.push(Open::Map(Map::new(), None));
                None
            }
            Event::Scalar(text, style, ..) => {
                let value = scalar(text, style).map_err(|reason| at(&reason))?;
                close(&mut open, value).map_err(|reason| at(&reason))?
            }
            Event::SequenceEnd | Event::MappingEnd => {
                let value = match open.pop() {
                    Some(Open::List(items)) => Value::Array(items),
                    Some(Open::Map(map, _)) => Value::Object(map),
                    None => return Err(at("ends what did not begin")),
                };
                close(&mut open, value).map_err(|reason| at(&reason))?
            }
        };
        documents.extend(whole.filter(|value| !value.is_null()));
        if documents.len() > MAX_DOCUMENTS {
            return Err(format!("has more than {MAX_DOCUMENTS} documents; split it"));
        }
    }
}

/// A list or map that goes on.
enum Open {
    List(Vec<Value>),
    Map(Map<String, Value>, Option<String>),
}

/// Puts a value where it belongs. Given back is one that belongs nowhere: a document.
fn close(open: &mut [Open], value: Value) -> Result<Option<Value>, String> {
    match open.last_mut() {
        None => return Ok(Some(value)),
        Some(Open::List(items)) => items.push(value),
        Some(Open::Map(map, key @ None)) => match value {
            Value::String(text) if map.contains_key(&text) => return Err(format!("{text:?} is there twice")),
            Value::String(text) => *key = Some(text),
            other => return Err(format!("the key {other} is not text; put it in quotes")),
        },
        Some(Open::Map(map, key)) => {
            map.insert(key.take().unwrap_or_default(), value);
        }
    }
    Ok(None)
}

fn scalar(text: String, style: TScalarStyle) -> Result<Value, String> {
    if style != TScalarStyle::Plain {
        return Ok(Value::String(text));
    }
    // YAML 1.1, which Kubernetes' files are in, has octal numbers so: the modes of files.
    let is_octal =
        text.len() > 1 && text.starts_with('0') && text.bytes().all(|byte| matches!(byte, b'0'..=b'7'));
    if is_octal && let Ok(number) = i64::from_str_radix(&text, 8) {
        return Ok(number.into());
    }
    Ok(match Yaml::from_str(&text) {
        Yaml::Null => Value::Null,
        Yaml::Boolean(value) => Value::Bool(value),
        Yaml::Integer(value) => value.into(),
        Yaml::Real(text) => {
            let number = text.parse().ok().and_then(Number::from_f64);
            Value::Number(number.ok_or_else(|| format!("{text} is not a number"))?)
        }
        _ => Value::String(text),
    })
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn documents_are_read_as_kubectl_reads_them() {
        let text = "# c\n---\na: 1\nb: [x, 'y', \"1\", null, true, 1.5]\nmode: 0644\n---\n---\n{\"c\": {\"d\": []}}\n...\n";
        assert_eq!(
            documents(text).unwrap(),
            [json!({"a": 1, "b": ["x", "y", "1", null, true, 1.5], "mode": 0o644}), json!({"c": {"d": []}})]
        );
        assert_eq!(documents("").unwrap(), [] as [Value; 0]);
        assert_eq!(documents("a: |\n  two\n  lines\n").unwrap(), [json!({"a": "two\nlines\n"})]);
    }

    #[test]
    fn what_grows_or_is_ambiguous_is_refused_by_its_line() {
        let deep = "[".repeat(100_000);
        for (text, reason) in [
            ("a: &a [1]\nb: *a\n", "line 2: aliases"),
            ("a: 1\na: 2\n", "twice"),
            ("1: a\n", "not text"),
            ("a: [1\n", "line"),
            (deep.as_str(), ""),
            (&"---\nx\n".repeat(300), "more than 256"),
            (&"- ".repeat(100_000), ""),
        ] {
            let error = documents(text).unwrap_err();
            assert!(error.contains(reason), "{error}");
        }
    }

    #[test]
    fn an_endless_file_is_read_up_to_the_bound() {
        assert!(read(Path::new("/dev/zero")).unwrap_err().contains("larger than"));
        assert!(read(Path::new("/nonexistent")).unwrap_err().contains("/nonexistent"));
    }
}
