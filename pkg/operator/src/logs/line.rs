//! A line of a log in the CRI's form: `<time> <stdout|stderr> <P|F> <bytes>`, where P goes on in the next line.

use husk_model::UnixNanos;
use husk_proto::admin::{LogsResponse, logs_response::Output};
use time::{OffsetDateTime, format_description::well_known::Rfc3339};

/// Reads a line without its line feed. What is no line of a log is shown whole, as of the standard output: somebody wrote it there.
pub(super) fn parse(line: &[u8]) -> LogsResponse {
    well_formed(line).unwrap_or_else(|| LogsResponse {
        output: Output::Stdout.into(),
        at: 0,
        line: line.to_owned(),
        partial: false,
    })
}

fn well_formed(line: &[u8]) -> Option<LogsResponse> {
    let mut parts = line.splitn(4, |byte| *byte == b' ');
    let at = nanos(std::str::from_utf8(parts.next()?).ok()?)?;
    let output = match parts.next()? {
        b"stdout" => Output::Stdout,
        b"stderr" => Output::Stderr,
        _ => return None,
    };
    // A tag may have more after a colon.
    let partial = parts.next()?.split(|byte| *byte == b':').next()? == b"P";
    let line = parts.next().unwrap_or_default().to_owned();
    Some(LogsResponse { output: output.into(), at, line, partial })
}

fn nanos(text: &str) -> Option<UnixNanos> {
    UnixNanos::try_from(OffsetDateTime::parse(text, &Rfc3339).ok()?.unix_timestamp_nanos()).ok()
}

/// Where the last lines begin in the end of a file, and whether they all do. What goes on in the next line is one with it.
pub(super) fn last_lines(bytes: &[u8], lines: u64) -> (bool, usize) {
    let (mut count, mut end) = (0, bytes.len());
    while let Some(feed) = bytes[..end].iter().rposition(|byte| *byte == b'\n') {
        let begin = bytes[..feed].iter().rposition(|byte| *byte == b'\n').map_or(0, |at| at + 1);
        // The very last may go on for ever.
        if end == bytes.len() || !parse(&bytes[begin..feed]).partial {
            count += 1;
            if count > lines {
                return (true, feed + 1);
            }
        }
        end = begin;
    }
    (false, 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_read_as_the_monitor_writes_them_and_others_are_shown_whole() {
        let line = parse(b"1970-01-01T00:00:01.5+00:00 stderr P a  b ");
        assert_eq!(
            (line.at, line.output(), line.partial, &line.line[..]),
            (1_500_000_000, Output::Stderr, true, b"a  b ".as_slice())
        );
        for text in [&b"nonsense"[..], b"1970-01-01T00:00:01Z stdin F x", b"", b"\xff \xff \xff"] {
            let line = parse(text);
            assert_eq!((line.at, &line.line[..], line.partial), (0, text, false));
        }
    }

    #[test]
    fn the_tail_is_counted_in_whole_lines() {
        let log = b"1970-01-01T00:00:01Z stdout F one\n1970-01-01T00:00:01Z stdout P tw\n\
            1970-01-01T00:00:01Z stdout F o\n1970-01-01T00:00:01Z stdout F three\n";
        let of = |lines| {
            let (found, at) = last_lines(log, lines);
            (found, log[at..].iter().filter(|byte| **byte == b'\n').count())
        };
        assert_eq!([of(0), of(1), of(2), of(3)], [(true, 0), (true, 1), (true, 3), (false, 4)]);
    }
}
