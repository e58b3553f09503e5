//! `POST /commit`: an image of what a container is now.

use husk_images::{Author, CommitRequest, NewConfig};
use hyper::StatusCode;
use serde_json::{Map, Value, json};

use super::{files, record::Record, store::Store};
use crate::{
    api::container::Config,
    error::Result,
    http::{Answer, Call, json},
    images::MadeOf,
    instructions, threads, when,
};

impl Store {
    /// Makes an image.
    ///
    /// # Errors
    /// 404 without the container, 400 for a change or a name that is none.
    pub(super) async fn commit(&self, mut call: Call) -> Result<Answer> {
        let body: Option<Config> = call.json_if_any().await?;
        let query = &call.query;
        let container = self.find(query.need("container")?)?;
        let record = container.record();
        let mut config = match body {
            Some(asked) => image_config(&overlaid(record.config.clone(), asked)),
            None => image_config(&record.config),
        };
        let changes: Vec<String> = query.all("changes").map(str::to_owned).collect();
        instructions::apply(&mut config, &changes)?;
        let name = query.get("repo").map(|repo| match query.get("tag") {
            Some(tag) => format!("{repo}:{tag}"),
            None => repo.to_owned(),
        });
        let request = CommitRequest {
            parent: Some(record.image.clone()),
            upper: files::upper(&container.dir)?,
            mounts: files::places(&record),
            new: NewConfig {
                config: Some(config.into()),
                entry: Author {
                    created: when::text(husk_node::now()),
                    created_by: created_by(&record),
                    author: query.get("author").unwrap_or_default().to_owned(),
                    comment: query.get("comment").unwrap_or_default().to_owned(),
                },
                platform: None,
            },
            note: MadeOf { container: record.id.clone(), config: json!(record.config) }.note(),
            name: name.clone(),
        };
        let place = threads::place().await?;
        // Of one moment, unless the client wants it otherwise.
        let pause = query.flag_or("pause", true) && record.state.is_running() && !record.state.paused;
        let paused = pause && self.pause(&container).await.is_ok();
        let made = self.0.shared.images.commit(request).await;
        drop(place);
        if paused {
            // A conflict: it ended while it was being frozen.
            self.unpause(&container).await.or_else(|failure| match failure.status() {
                StatusCode::CONFLICT => Ok(()),
                _ => Err(failure),
            })?;
        }
        let id = made?;
        self.publish(
            &record,
            "commit",
            [("imageID", id.to_string()), ("imageRef", name.unwrap_or_default())],
        );
        json(StatusCode::CREATED, &json!({ "Id": id.as_str() }))
    }
}

fn created_by(record: &Record) -> String {
    super::merge::command(&record.config).unwrap_or_default().join(" ")
}

/// What a client sends with a commit replaces what it names.
fn overlaid(mut config: Config, asked: Config) -> Config {
    let texts = [
        (&mut config.user, asked.user),
        (&mut config.working_dir, asked.working_dir),
        (&mut config.stop_signal, asked.stop_signal),
    ];
    for (own, asked) in texts {
        if !asked.is_empty() {
            *own = asked;
        }
    }
    config.labels.extend(asked.labels);
    config.cmd = asked.cmd.or(config.cmd);
    config.entrypoint = asked.entrypoint.or(config.entrypoint);
    config.env = asked.env.or(config.env);
    config.exposed_ports = asked.exposed_ports.or(config.exposed_ports);
    config.volumes = asked.volumes.or(config.volumes);
    config.healthcheck = asked.healthcheck.or(config.healthcheck);
    config
}

/// What of a container's configuration is an image's, in the image-spec's spelling.
fn image_config(config: &Config) -> Map<String, Value> {
    const KEPT: [&str; 13] = [
        "User",
        "ExposedPorts",
        "Env",
        "Cmd",
        "Healthcheck",
        "Volumes",
        "WorkingDir",
        "Entrypoint",
        "OnBuild",
        "Labels",
        "StopSignal",
        "StopTimeout",
        "Shell",
    ];
    let Ok(Value::Object(fields)) = serde_json::to_value(config) else { return Map::new() };
    let is_empty = |value: &Value| match value {
        Value::Null => true,
        Value::String(text) => text.is_empty(),
        Value::Array(list) => list.is_empty(),
        Value::Object(map) => map.is_empty(),
        _ => false,
    };
    fields.into_iter().filter(|(name, value)| KEPT.contains(&name.as_str()) && !is_empty(value)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_image_gets_what_is_its_own_and_what_was_asked_for() {
        let config: Config = serde_json::from_str(
            r#"{"Hostname":"web","Cmd":["a"],"Env":["A=1"],"Tty":true,"Labels":{"x":"y"}}"#,
        )
        .unwrap();
        let asked: Config = serde_json::from_str(r#"{"Cmd":["b"],"Labels":{"z":"1"}}"#).unwrap();
        let made = Value::Object(image_config(&overlaid(config, asked)));
        assert_eq!(made, json!({ "Cmd": ["b"], "Env": ["A=1"], "Labels": { "x": "y", "z": "1" } }));
    }
}
