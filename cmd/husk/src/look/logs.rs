//! `husk logs`.

use std::io::{self, Write};

use clap::Args;
use husk_node::now;
use husk_proto::admin::{LogsRequest, LogsResponse, logs_response::Output};
use serde_json::json;

use super::client;
use crate::{
    client::Result,
    text::{self, Format, moment},
};

/// What is wanted.
#[derive(Debug, Args)]
pub(crate) struct Logs {
    /// A container, or a pod with one: as in husk inspect
    name: String,
    /// Go on until the container has ended
    #[arg(long, short)]
    follow: bool,
    /// Only so many lines of the end
    #[arg(long, value_name = "LINES")]
    tail: Option<u64>,
    /// Nothing older: 10s, 5m, 2h, 1d, a time of RFC 3339, or seconds since 1970
    #[arg(long, value_name = "TIME")]
    since: Option<String>,
    /// Put its time before each line
    #[arg(long, short)]
    timestamps: bool,
    /// Table is what the container wrote, as it wrote it
    #[arg(long, short, value_enum, default_value = "table")]
    output: Format,
}

/// Prints a container's log: its standard error on ours.
pub(crate) async fn run(address: &str, options: Logs) -> Result<()> {
    let since = options.since.as_deref().map(|text| text::since(text, now())).transpose()?.unwrap_or(0);
    let request = LogsRequest { name: options.name, follow: options.follow, tail: options.tail, since };
    let mut lines = client(address).await?.logs(request).await?.into_inner();
    // Of each output, whether a line of it goes on.
    let mut goes_on = [false; 2];
    while let Some(line) = lines.message().await? {
        let is_error = line.output() == Output::Stderr;
        let within = std::mem::replace(&mut goes_on[usize::from(is_error)], line.partial);
        let bytes = match options.output {
            Format::Table => plain(&line, options.timestamps && !within),
            Format::Json => document(&line, is_error),
        };
        let written = match is_error && options.output == Format::Table {
            true => put(&mut io::stderr().lock(), &bytes),
            false => put(&mut io::stdout().lock(), &bytes),
        };
        match written {
            // Whoever read it has read enough.
            Err(error) if error.kind() == io::ErrorKind::BrokenPipe => return Ok(()),
            written => written?,
        }
    }
    Ok(())
}

fn put(to: &mut impl Write, bytes: &[u8]) -> io::Result<()> {
    to.write_all(bytes)?;
    to.flush()
}

fn plain(line: &LogsResponse, timestamp: bool) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(line.line.len() + 32);
    if timestamp {
        bytes.extend(moment(line.at).as_bytes());
        bytes.push(b' ');
    }
    bytes.extend(&line.line);
    if !line.partial {
        bytes.push(b'\n');
    }
    bytes
}

fn document(line: &LogsResponse, is_error: bool) -> Vec<u8> {
    let value = json!({
        "at": line.at,
        "stream": if is_error { "stderr" } else { "stdout" },
        "partial": line.partial,
        "line": String::from_utf8_lossy(&line.line),
    });
    (text::json(&value) + "\n").into_bytes()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_that_goes_on_has_no_end_and_no_second_time() {
        let line = |partial| LogsResponse {
            at: 1_000_000_000,
            line: b"a\x1b".to_vec(),
            partial,
            ..Default::default()
        };
        assert_eq!(plain(&line(true), true), b"1970-01-01T00:00:01Z a\x1b");
        assert_eq!(plain(&line(false), false), b"a\x1b\n");
        assert_eq!(
            String::from_utf8(document(&line(false), true)).unwrap(),
            "{\"at\":1000000000,\"line\":\"a\\u001b\",\"partial\":false,\"stream\":\"stderr\"}\n"
        );
    }
}
