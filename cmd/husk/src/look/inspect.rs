//! `husk inspect`.

use clap::Args;
use husk_node::now;
use husk_proto::admin as v1;

use super::{client, door, state};
use crate::{
    client::Result,
    table,
    text::{self, Format, moment, shown},
};

/// What is wanted.
#[derive(Debug, Args)]
pub(crate) struct Inspect {
    /// A pod or container: its id, the beginning of that, its name, NAMESPACE/POD or POD/CONTAINER
    name: String,
    /// JSON has all that is known
    #[arg(long, short, value_enum, default_value = "json")]
    output: Format,
}

/// Shows one pod or container.
pub(crate) async fn run(address: &str, options: Inspect) -> Result<()> {
    let request = v1::InspectRequest { name: options.name };
    let answer = client(address).await?.inspect(request).await?.into_inner();
    match options.output {
        Format::Json => println!("{}", text::json(&serde_json::from_str(&answer.json)?)),
        Format::Table => table::print(&rows(&answer, now())),
    }
    Ok(())
}

fn rows(answer: &v1::InspectResponse, now: i64) -> Vec<[String; 2]> {
    let mut rows = Vec::new();
    let mut row = |key: &str, value: String| {
        if !value.is_empty() {
            rows.push([key.to_owned(), shown(&value)]);
        }
    };
    let Some(pod) = &answer.pod else { return rows };
    row("pod", format!("{}/{}", pod.namespace, pod.name));
    row("pod id", pod.id.clone());
    row("door", door(pod.door()).to_owned());
    row("pod state", if pod.ready { "ready" } else { "not ready" }.to_owned());
    row("message", pod.message.clone());
    row("addresses", pod.ips.join(" "));
    for container in &pod.containers {
        row("container", container.name.clone());
        row("  id", container.id.clone());
        row("  image", container.image.clone());
        row("  state", state(container));
        row("  reason", container.reason.clone());
        row("  message", container.message.clone());
        row(
            "  created",
            format!("{} ({} ago)", moment(container.created_at), text::age(container.created_at, now)),
        );
        row("  started", moment(container.started_at));
        row("  finished", moment(container.finished_at));
        row("  pid", if container.pid == 0 { String::new() } else { container.pid.to_string() });
        row("  log", container.log_path.clone());
    }
    let mut tags: Vec<_> = pod.labels.iter().collect();
    tags.sort();
    tags.into_iter().for_each(|(key, value)| row("label", format!("{key}={value}")));
    rows
}
