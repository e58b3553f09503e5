//! `husk top`.

use std::io::{self, IsTerminal as _, Write as _};

use clap::{Args, ValueEnum};
use husk_proto::admin as v1;

use super::{client, door, json, keys::Keys};
use crate::{
    client::Result,
    table,
    text::{self, Format, shown},
};

/// What is wanted.
#[derive(Debug, Args)]
pub(crate) struct Top {
    /// Seconds between two measurements, at least 0.2
    #[arg(long, short, value_name = "SECONDS", default_value = "2")]
    interval: f64,
    /// Measure once and end
    #[arg(long)]
    once: bool,
    /// What the table is sorted by, the largest first
    #[arg(long, value_enum, default_value = "cpu")]
    sort: Sort,
    /// For people or for programs
    #[arg(long, short, value_enum, default_value = "table")]
    output: Format,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum Sort {
    Cpu,
    Memory,
    Pids,
    Name,
}

/// Shows what containers use, again and again; q or Ctrl-C ends it.
pub(crate) async fn run(address: &str, options: Top) -> Result<()> {
    let interval_ms = match options.once {
        true => 0,
        false => milliseconds(options.interval)?,
    };
    let mut answers = client(address).await?.top(v1::TopRequest { interval_ms }).await?.into_inner();
    let live = !options.once && options.output == Format::Table && io::stdout().is_terminal();
    let keys = if live { Keys::of_stdin() } else { None };
    let mut interrupt = tokio::signal::unix::signal(tokio::signal::unix::SignalKind::interrupt())?;
    loop {
        let quit = async {
            match &keys {
                Some(keys) => keys.quit().await,
                None => std::future::pending().await,
            }
        };
        let answer = tokio::select! {
            answer = answers.message() => answer?,
            quit = quit => return Ok(quit?),
            // Ended here, so that the terminal gets its modes back.
            _ = interrupt.recv() => return Ok(()),
        };
        let Some(mut answer) = answer else { return Ok(()) };
        sort(&mut answer.usages, options.sort);
        match options.output {
            Format::Json => println!("{}", text::json(&json::usages(&answer))),
            Format::Table => {
                if live {
                    print!("\x1b[H\x1b[2J");
                    println!("{}  {} containers  q ends\n", text::moment(answer.at), answer.usages.len());
                }
                table::print(&rows(&answer.usages));
            }
        }
        io::stdout().flush()?;
    }
}

fn milliseconds(seconds: f64) -> Result<u32> {
    match seconds {
        0.2..=86_400.0 => Ok((seconds * 1000.0) as u32),
        _ => Err(format!("--interval {seconds}: is not between 0.2 and 86400 seconds").into()),
    }
}

fn sort(usages: &mut [v1::Usage], by: Sort) {
    let name = |usage: &v1::Usage| (usage.namespace.clone(), usage.pod_name.clone(), usage.name.clone());
    usages.sort_by_key(name);
    match by {
        Sort::Cpu => usages.sort_by_key(|usage| std::cmp::Reverse(usage.millicores)),
        Sort::Memory => usages.sort_by_key(|usage| std::cmp::Reverse(usage.memory)),
        Sort::Pids => usages.sort_by_key(|usage| std::cmp::Reverse(usage.processes)),
        Sort::Name => {}
    }
}

fn rows(usages: &[v1::Usage]) -> Vec<[String; 8]> {
    let titles = ["POD", "CONTAINER", "DOOR", "CPU", "MEMORY", "LIMIT", "PIDS", "READ/WRITTEN"];
    let mut rows = vec![titles.map(str::to_owned)];
    let none = || "-".to_owned();
    rows.extend(usages.iter().map(|usage| {
        let io = usage.read.zip(usage.written);
        [
            shown(&format!("{}/{}", usage.namespace, usage.pod_name)),
            shown(&usage.name),
            door(usage.door()).to_owned(),
            usage.millicores.map_or_else(none, |millis| format!("{millis}m")),
            table::size(usage.memory),
            if usage.memory_limit == 0 { none() } else { table::size(usage.memory_limit) },
            usage.processes.to_string(),
            io.map_or_else(none, |(read, written)| format!("{}/{}", table::size(read), table::size(written))),
        ]
    }));
    rows
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_hungriest_comes_first_and_what_is_not_known_is_a_dash() {
        let usage = |name: &str, millicores, memory| v1::Usage {
            name: name.to_owned(),
            millicores,
            memory,
            ..Default::default()
        };
        let mut usages = vec![usage("a", None, 3), usage("b", Some(5), 1), usage("c", Some(1500), 2)];
        let mut order = |by| {
            sort(&mut usages, by);
            usages.iter().map(|usage| usage.name.clone()).collect::<String>()
        };
        assert_eq!([order(Sort::Cpu), order(Sort::Memory), order(Sort::Name)], ["cba", "acb", "abc"]);
        let rows = rows(&usages);
        assert_eq!((&*rows[1][3], &*rows[3][3], &*rows[1][7]), ("-", "1500m", "-"));
        for bad in [f64::NAN, -1.0, 0.0, f64::INFINITY] {
            assert!(milliseconds(bad).is_err(), "{bad}");
        }
    }
}
