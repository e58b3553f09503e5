//! What `state`, `list`, `ps` and `events` print.

use std::{
    io::{self, Write as _},
    process::{Command, Stdio},
    time::Duration,
};

use husk_oci::{Container, Error, Result, Store, memory_kills, out_of_memory, pids, stats};
use rustix::{
    event::{PollFd, PollFlags, Timespec, poll},
    io::Errno,
};

use crate::cli::{Events, Format, List, Ps};

/// Prints the state of a container.
pub(crate) fn state(container: &Container) -> Result<()> {
    print(&(pretty(&container.shown()?)? + "\n"))
}

/// Prints all of them.
pub(crate) fn list(store: &Store, options: &List, default_root: bool) -> Result<()> {
    let ids = match store.ids() {
        // Nothing was created here yet.
        Err(Error::Io { source, .. }) if default_root && source.kind() == io::ErrorKind::NotFound => {
            Vec::new()
        }
        ids => ids?,
    };
    let mut shown = Vec::new();
    for id in ids {
        // One that is being deleted, or that a killed creator left.
        match store.open(&id).and_then(|container| container.shown()) {
            Ok(container) => shown.push(container),
            Err(Error::NotFound(_)) if options.quiet => print(&format!("{id}\n"))?,
            Err(error) => eprintln!("load container {id}: {}", husk_model::chain(&error)),
        }
    }
    if options.quiet {
        return shown.iter().try_for_each(|container| print(&format!("{}\n", container.id)));
    }
    match options.format {
        Format::Json => print(&(text(&shown)? + "\n")),
        Format::Table => {
            let mut rows = vec![["ID", "PID", "STATUS", "BUNDLE", "CREATED", "OWNER"].map(str::to_owned)];
            rows.extend(shown.iter().map(|container| {
                [
                    container.id.clone(),
                    container.pid.to_string(),
                    container.status.to_owned(),
                    container.bundle.display().to_string(),
                    container.created.clone(),
                    container.owner.clone(),
                ]
            }));
            print(&table(&rows))
        }
    }
}

fn table<const N: usize>(rows: &[[String; N]]) -> String {
    let width =
        |column: usize| rows.iter().map(|row| row[column].chars().count()).max().unwrap_or(0).max(9) + 3;
    let widths: [usize; N] = std::array::from_fn(width);
    let line = |row: &[String; N]| {
        let cells = row.iter().zip(widths).map(|(cell, width)| format!("{cell:<width$}"));
        cells.collect::<String>().trim_end().to_owned() + "\n"
    };
    rows.iter().map(line).collect()
}

/// Prints the processes of a container, as numbers or by ps(1) of the node.
pub(crate) fn ps(container: &Container, options: &Ps) -> Result<()> {
    let pids = pids(container)?;
    if options.format == Format::Json {
        return print(&(text(&pids)? + "\n"));
    }
    let mut words: Vec<&str> = options.words[1..].iter().map(String::as_str).collect();
    if words.is_empty() {
        words.push("-ef");
    }
    let output = Command::new("ps").args(words).stdin(Stdio::null()).output();
    let output = output.map_err(|error| Error::Invalid(format!("start ps(1) of the node: {error}")))?;
    if !output.status.success() {
        return Err(Error::Invalid(format!("ps: {}", String::from_utf8_lossy(&output.stderr).trim())));
    }
    let listed = String::from_utf8_lossy(&output.stdout);
    let mut lines = listed.lines();
    let head = lines.next().unwrap_or_default();
    let column = head.split_whitespace().position(|name| name == "PID");
    let column = column.ok_or_else(|| Error::Invalid("couldn't find PID field in ps output".into()))?;
    let ours = |line: &&str| {
        let pid = line.split_whitespace().nth(column).and_then(|pid| pid.parse().ok());
        pid.is_some_and(|pid: u32| pids.contains(&pid))
    };
    let shown: String =
        std::iter::once(head).chain(lines.filter(ours)).map(|line| format!("{line}\n")).collect();
    print(&shown)
}

/// Prints what a container uses, once or again and again until it ends.
pub(crate) fn events(container: &Container, options: &Events) -> Result<()> {
    let interval = interval(&options.interval)?;
    let init = container.init()?;
    print(&(text(&stats(container)?)? + "\n"))?;
    if options.stats {
        return Ok(());
    }
    let mut kills = memory_kills(container)?;
    loop {
        let timeout = Timespec {
            tv_sec: i64::try_from(interval.as_secs()).unwrap_or(i64::MAX),
            tv_nsec: i64::from(interval.subsec_nanos()),
        };
        let ended = match poll(&mut [PollFd::new(&init, PollFlags::IN)], Some(&timeout)) {
            Err(Errno::INTR) => continue,
            polled => polled != Ok(0),
        };
        let killed = memory_kills(container)?;
        if killed > std::mem::replace(&mut kills, killed) {
            print(&(text(&out_of_memory(container))? + "\n"))?;
        }
        match stats(container) {
            Err(Error::NotRunning | Error::WrongState(_)) => break,
            now if !ended => print(&(text(&now?)? + "\n"))?,
            _ => break,
        }
    }
    Ok(())
}

/// A length of time as Go writes it: `500ms`, `5s`, `1m`.
fn interval(text: &str) -> Result<Duration> {
    let refuse = || Error::Invalid(format!("interval {text:?}: as 500ms, 5s or 1m, and more than none"));
    let (number, unit) = text.split_at(text.find(|c: char| c.is_ascii_alphabetic()).unwrap_or(text.len()));
    let seconds = match unit {
        "ms" => 0.001,
        "s" => 1.0,
        "m" => 60.0,
        "h" => 3600.0,
        _ => return Err(refuse()),
    };
    let number: f64 = number.parse().map_err(|_| refuse())?;
    let interval = Duration::try_from_secs_f64(number * seconds).map_err(|_| refuse())?;
    if interval.is_zero() { Err(refuse()) } else { Ok(interval) }
}

/// As JSON.
fn text(value: &impl serde::Serialize) -> Result<String> {
    serde_json::to_string(value).map_err(|source| Error::Json { path: "output".into(), source })
}

/// As JSON for people.
pub(crate) fn pretty(value: &impl serde::Serialize) -> Result<String> {
    serde_json::to_string_pretty(value).map_err(|source| Error::Json { path: "output".into(), source })
}

/// Writes to standard output. A reader that has gone has read enough.
pub(crate) fn print(text: &str) -> Result<()> {
    match io::stdout().write_all(text.as_bytes()) {
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => {
            Err(Error::Invalid(format!("write to standard output: {error}")))
        }
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn intervals_are_as_go_writes_them() {
        for (text, millis) in [("500ms", 500), ("5s", 5000), ("1m", 60_000), ("0.5s", 500)] {
            assert_eq!(interval(text).unwrap(), Duration::from_millis(millis), "{text}");
        }
        for bad in ["", "5", "0s", "-1s", "5 s", "1e30s"] {
            assert!(interval(bad).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn a_table_has_columns() {
        let rows = [["ID", "PID"].map(str::to_owned), ["a-long-name", "1"].map(str::to_owned)];
        assert_eq!(table(&rows), "ID            PID\na-long-name   1\n");
    }
}
