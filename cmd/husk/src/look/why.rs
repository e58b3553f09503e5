//! `husk why`.

use clap::Args;
use husk_node::now;
use husk_proto::admin as v1;

use super::{client, door, json};
use crate::{
    client::Result,
    text::{self, Format, moment, shown, took},
};

const HELP: &str = "\
Phases are those of huskd: what runs in the container after its command began is the container's. Of a container that an earlier huskd \
started, the phases up to CREATED are known; who asked for an end is known to the huskd that was asked.";

/// A step that took less than this is not worth a line, in nanoseconds.
const WORTH: u64 = 20_000;

/// What is wanted.
#[derive(Debug, Args)]
#[command(after_help = HELP)]
pub(crate) struct Why {
    /// A pod or container, as in husk inspect; also one that is being made, or failed to be
    name: String,
    /// For people or for programs
    #[arg(long, short, value_enum, default_value = "table")]
    output: Format,
}

/// Tells how something came to be, what it waits for, and what ended it.
pub(crate) async fn run(address: &str, options: Why) -> Result<()> {
    let request = v1::WhyRequest { name: options.name };
    let accounts = client(address).await?.why(request).await?.into_inner().accounts;
    match options.output {
        Format::Json => println!("{}", text::json(&json::accounts(&accounts))),
        Format::Table => {
            accounts.iter().flat_map(|account| lines(account, now())).for_each(|line| println!("{line}"))
        }
    }
    Ok(())
}

fn lines(account: &v1::Account, now: i64) -> Vec<String> {
    let id = match account.id.as_str() {
        "" => String::new(),
        id => format!(" ({})", text::short(id)),
    };
    let door = door(account.door());
    let mut lines = vec![format!(
        "{} {}{id}, door {door}: {}",
        json::kind(account.kind()),
        shown(&account.name),
        shown(&account.state)
    )];
    let mut time = format!("  began {}", moment(account.began));
    let after = |at: i64| took(u64::try_from(at.saturating_sub(account.began)).unwrap_or(0));
    if account.up != 0 {
        time.push_str(&format!(", up after {}", after(account.up)));
    }
    if account.ended != 0 {
        time.push_str(&format!(", ended {} ({} ago)", moment(account.ended), text::age(account.ended, now)));
    }
    lines.push(time);
    lines.extend(phases(&account.phases));
    let waits = account.phases.iter().filter(|phase| phase.going_on).max_by_key(|phase| phase.depth);
    if let Some(phase) = waits {
        lines.push(format!(
            "  is in {:?} for {}{}",
            shown(&phase.name),
            took(phase.took),
            meaning(&phase.name)
        ));
    }
    if !account.progress.is_empty() && account.ended == 0 {
        lines.push(format!("  is at {}", shown(&account.progress)));
    }
    for wish in &account.wishes {
        lines.push(format!("  {} {}", moment(wish.at), shown(&wish.what)));
    }
    if !account.cause.is_empty() {
        lines.push(format!("  because: {}", shown(&account.cause)));
    }
    lines
}

fn phases(phases: &[v1::Phase]) -> Vec<String> {
    let worth = phases.iter().filter(|phase| phase.took >= WORTH || phase.failed || phase.going_on);
    let name =
        |phase: &v1::Phase| format!("{}{}", "  ".repeat(phase.depth.min(8) as usize), shown(&phase.name));
    let wide = worth.clone().map(|phase| name(phase).chars().count()).max().unwrap_or(0);
    let line = |phase: &v1::Phase| {
        let state = match (phase.going_on, phase.failed) {
            (true, _) => ", goes on",
            (false, true) => ", failed",
            (false, false) => "",
        };
        format!("    {:<wide$}  {}{state}", name(phase), took(phase.took))
    };
    worth.map(line).collect()
}

/// What a step waits for, where its name does not say it.
fn meaning(name: &str) -> &'static str {
    match name {
        "network" => ": the pod network (CNI plugins, or husk's bridge)",
        "monitor" => ": husk-podmon of the pod to answer",
        "unit" => ": systemd to make the pod's scope",
        "plugins" => ": NRI plugins to answer",
        "init" => ": the monitor to build the container's root and clone its first process",
        "mount sources and devices" => ": the node's files; a filesystem may hang",
        "exec" => ": the command to be executed",
        "stop container" => ": its processes to end, or its grace to pass",
        "resolve" => ": the registry to say what the name means",
        "layer" => ": bytes of a layer from the registry, and their unpacking",
        _ => "",
    }
}

#[cfg(test)]
mod tests {
    use husk_proto::admin::account::Kind;

    use super::*;

    #[test]
    fn what_goes_on_is_told_with_the_innermost_step_and_texts_of_others_are_written_out() {
        let phase = |name: &str, depth, took, going_on| v1::Phase {
            name: name.to_owned(),
            depth,
            took,
            going_on,
            ..Default::default()
        };
        let account = v1::Account {
            kind: Kind::Pod.into(),
            name: "n/p\u{1b}".to_owned(),
            state: "being made".to_owned(),
            began: 1,
            cause: "line\nbreak".to_owned(),
            phases: vec![
                phase("network namespace", 0, 3_000_000, false),
                phase("short", 0, 5, false),
                phase("network", 0, 5_000_000_000, true),
                phase("CNI plugin slow ADD", 1, 4_900_000_000, true),
            ],
            ..Default::default()
        };
        let told = lines(&account, 2).join("\n");
        for part in [
            "pod n/p\\u{1b}, door -: being made",
            "network namespace      3.00 ms",
            "  CNI plugin slow ADD  4.90 s, goes on",
            "is in \"CNI plugin slow ADD\" for 4.90 s",
            "because: line\\nbreak",
        ] {
            assert!(told.contains(part), "{part:?} in {told}");
        }
        assert!(!told.contains("short"), "{told}");
    }
}
