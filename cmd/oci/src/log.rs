//! The log: one line an event, as text or JSON, on standard error or in the file that `--log` names, in logrus' form, which callers of
//! runc read.

use std::{fs::File, io::Write as _, path::Path};

use husk_node::Stamp;
use serde_json::json;

use crate::cli::LogFormat;

/// How much an event matters.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Level {
    Debug,
    Warning,
    Error,
}

/// Where events go.
#[derive(Debug)]
pub(crate) struct Log {
    file: Option<File>,
    format: LogFormat,
    debug: bool,
}

impl Log {
    /// # Errors
    /// The file cannot be opened.
    pub(crate) fn open(path: Option<&Path>, format: LogFormat, debug: bool) -> std::io::Result<Self> {
        let open = |path: &Path| File::options().append(true).create(true).open(path);
        Ok(Self { file: path.map(open).transpose()?, format, debug })
    }

    /// Whether an error has to be said on standard error as well.
    pub(crate) fn is_elsewhere(&self) -> bool {
        self.file.is_some()
    }

    /// Writes an event. One that cannot be written is lost: there is nobody to tell.
    pub(crate) fn say(&self, level: Level, message: &str) {
        if level == Level::Debug && !self.debug {
            return;
        }
        let line = self.line(level, message);
        let _ = match &self.file {
            Some(file) => (&*file).write_all(line.as_bytes()),
            None => std::io::stderr().write_all(line.as_bytes()),
        };
    }

    fn line(&self, level: Level, message: &str) -> String {
        let level = match level {
            Level::Debug => "debug",
            Level::Warning => "warning",
            Level::Error => "error",
        };
        let mut stamp = Stamp::default();
        // Down to the second, as logrus has it.
        let time = String::from_utf8_lossy(&stamp.now()[..19]).into_owned() + "Z";
        match self.format {
            LogFormat::Json => format!("{}\n", json!({ "level": level, "msg": message, "time": time })),
            LogFormat::Text => format!("time={time:?} level={level} msg={message:?}\n"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_forms_are_one_line_whatever_is_said() {
        let log = |format| Log { file: None, format, debug: true };
        let message = "a \"b\"\nc";
        let json = log(LogFormat::Json).line(Level::Error, message);
        let parsed: serde_json::Value = serde_json::from_str(&json).unwrap();
        assert_eq!((parsed["level"].as_str(), parsed["msg"].as_str()), (Some("error"), Some(message)));
        for line in [json, log(LogFormat::Text).line(Level::Warning, message)] {
            assert_eq!(line.matches('\n').count(), 1, "{line}");
        }
    }
}
