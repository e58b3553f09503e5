//! `husk ps`.

use clap::Args;
use husk_node::now;
use husk_proto::admin as v1;
use serde_json::Value;

use super::{client, door, json, state};
use crate::{
    client::Result,
    table,
    text::{self, Format, shown},
};

/// What is wanted.
#[derive(Debug, Args)]
pub(crate) struct Ps {
    /// Those that have ended, too
    #[arg(long, short)]
    all: bool,
    /// Only ids of containers
    #[arg(long, short, conflicts_with = "output")]
    quiet: bool,
    /// For people or for programs
    #[arg(long, short, value_enum, default_value = "table")]
    output: Format,
}

/// Lists pods and containers of every door.
pub(crate) async fn run(address: &str, options: Ps) -> Result<()> {
    let mut answers = client(address).await?.list(v1::ListRequest {}).await?.into_inner();
    let mut pods = Vec::new();
    while let Some(mut answer) = answers.message().await? {
        pods.append(&mut answer.pods);
    }
    if !options.all {
        pods.iter_mut().for_each(|pod| pod.containers.retain(is_alive));
        pods.retain(|pod| pod.ready || !pod.containers.is_empty());
    }
    pods.sort_by(|a, b| (a.created_at, &a.id).cmp(&(b.created_at, &b.id)));
    match options.output {
        _ if options.quiet => {
            pods.iter()
                .flat_map(|pod| &pod.containers)
                .for_each(|container| println!("{}", shown(&container.id)));
        }
        Format::Json => println!("{}", text::json(&Value::Array(pods.iter().map(json::pod).collect()))),
        Format::Table => table::print(&rows(&pods, now())),
    }
    Ok(())
}

fn is_alive(container: &v1::Container) -> bool {
    matches!(container.state(), v1::State::Created | v1::State::Running)
}

fn rows(pods: &[v1::Pod], now: i64) -> Vec<[String; 7]> {
    let mut rows = vec![["POD", "CONTAINER", "ID", "DOOR", "STATE", "AGE", "IMAGE"].map(str::to_owned)];
    for pod in pods {
        let name = shown(&format!("{}/{}", pod.namespace, pod.name));
        let door = door(pod.door()).to_owned();
        let (ready, age) = (if pod.ready { "ready" } else { "not ready" }, text::age(pod.created_at, now));
        rows.push([
            name.clone(),
            "-".to_owned(),
            text::short(&pod.id),
            door.clone(),
            ready.to_owned(),
            age,
            "-".to_owned(),
        ]);
        rows.extend(pod.containers.iter().map(|container| {
            [
                name.clone(),
                shown(&container.name),
                text::short(&container.id),
                door.clone(),
                state(container),
                text::age(container.created_at, now),
                shown(&container.image),
            ]
        }));
    }
    rows
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_others_are_written_out_and_every_pod_has_a_row() {
        let container = v1::Container {
            name: "c\u{1b}[31m".to_owned(),
            state: v1::State::Exited.into(),
            exit_code: 3,
            ..Default::default()
        };
        let pod = v1::Pod {
            name: "p\n".to_owned(),
            namespace: "n".to_owned(),
            door: v1::Door::Docker.into(),
            containers: vec![container],
            ..Default::default()
        };
        let rows = rows(&[pod], 0);
        assert_eq!((rows.len(), &*rows[1][0], &*rows[1][3]), (3, "n/p\\n", "docker"));
        assert_eq!((&*rows[2][1], &*rows[2][4]), ("c\\u{1b}[31m", "exited (3)"));
    }
}
