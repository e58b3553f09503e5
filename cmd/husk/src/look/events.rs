//! `husk events`.

use clap::Args;
use husk_proto::admin as v1;

use super::{client, door, json, state};
use crate::{
    client::Result,
    text::{self, Format, moment, shown},
};

/// What is wanted.
#[derive(Debug, Args)]
pub(crate) struct Events {
    /// Begin with what ended in the last minutes
    #[arg(long)]
    recent: bool,
    /// For people or for programs
    #[arg(long, short, value_enum, default_value = "table")]
    output: Format,
}

/// Prints what happens, until huskd ends or this is ended.
pub(crate) async fn run(address: &str, options: Events) -> Result<()> {
    let request = v1::EventsRequest { recent: options.recent };
    let mut events = client(address).await?.events(request).await?.into_inner();
    while let Some(event) = events.message().await? {
        match options.output {
            Format::Json => println!("{}", text::json(&json::event(&event))),
            Format::Table => println!("{}", line(&event)),
        }
    }
    Ok(())
}

fn line(event: &v1::EventsResponse) -> String {
    let pod = event.pod.clone().unwrap_or_default();
    let name = shown(&format!("{}/{}", pod.namespace, pod.name));
    let (at, what, door) = (moment(event.at), shown(&event.what), door(pod.door()));
    if event.container_id.is_empty() {
        return format!("{at} {door} pod {what} {name} {}", text::short(&pod.id));
    }
    let container = pod.containers.iter().find(|container| container.id == event.container_id);
    let (own, now) =
        container.map_or_else(Default::default, |container| (shown(&container.name), state(container)));
    let told =
        format!("{at} {door} container {what} {name}/{own} {} {now}", text::short(&event.container_id));
    told.trim_end().to_owned()
}
