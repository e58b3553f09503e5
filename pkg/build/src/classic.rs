//! A build that huskd asks for, in place of a client that has only sent its files, or that follows it through the daemon (Docker before 23).

use std::{collections::BTreeMap, fs::File, sync::Arc};

use bytes::Bytes;
use futures_util::FutureExt;
use husk_images::Auth;
use husk_proto::buildkit::{
    CacheOptions, CacheOptionsEntry, Exporter, SolveRequest, SolveResponse, StatusRequest, StatusResponse,
    VertexLog,
};
use prost::Message;
use tokio::sync::mpsc;

use crate::{
    control::credentials_of,
    error::{BuildError, Result},
    grpc::{self, Caller},
    inputs,
    registry::{Credentials, Order, rules, shown},
    shown,
    site::{Builder, Built},
    solve::{check_platform, to_registry},
};

const SOLVE: &str = "/moby.buildkit.v1.Control/Solve";
const STATUS: &str = "/moby.buildkit.v1.Control/Status";

/// What to build.
#[derive(Debug, Clone)]
pub struct BuildRequest {
    /// Names of the result, with tags.
    pub names: Vec<String>,
    /// Attributes of BuildKit's Dockerfile frontend: `filename`, `target`, `build-arg:NAME`…
    pub attributes: BTreeMap<String, String>,
    /// What becomes of the result where it shall be no image of the store: type and attributes of an exporter (`local`, `tar`).
    pub elsewhere: Option<(String, BTreeMap<String, String>)>,
    /// Images of which the cache is taken.
    pub cache_from: Vec<String>,
    /// The files.
    pub source: Source,
    /// Files of an archive that are for the builder alone: it reads them, and the build has them not. Paths in the archive.
    pub left_out: Vec<String>,
    /// Credentials by registry, where no session has them.
    pub auths: BTreeMap<String, Auth>,
    /// What steps may do besides.
    pub entitlements: Vec<String>,
}

/// Where a build's files are.
#[derive(Debug, Clone)]
pub enum Source {
    /// An archive, plain or compressed.
    Archive(Arc<File>),
    /// The client's session of this id.
    Session(String),
    /// A URL, which buildkitd fetches.
    Remote(String),
}

/// News of a build.
#[derive(Debug, Clone, Default)]
pub struct BuildStep {
    /// As buildkitd says it: `moby.buildkit.v1.StatusResponse`.
    pub raw: Bytes,
    /// Steps that began or ended.
    pub steps: Vec<Step>,
    /// What programs wrote.
    pub logs: Vec<Log>,
    /// Warnings.
    pub warnings: Vec<String>,
}

/// What a program of a step wrote.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Log {
    /// The step's id.
    pub step: String,
    /// It is standard error.
    pub is_error: bool,
    /// As it was written.
    pub bytes: Bytes,
}

/// A step of a build.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Step {
    /// What names it in this build.
    pub id: String,
    /// As people read it: `[2/3] RUN make`.
    pub name: String,
    /// Nothing had to be done.
    pub cached: bool,
    /// It has begun.
    pub started: bool,
    /// It has ended.
    pub ended: bool,
}

impl Builder {
    /// Builds, and tells of it in `news`; when nobody takes those any more, or the caller goes away, the build ends.
    ///
    /// # Errors
    /// What could not be started; what is wrong with the request; why the build failed.
    pub async fn build(
        self: &Arc<Self>,
        request: BuildRequest,
        news: mpsc::Sender<BuildStep>,
    ) -> Result<Option<Built>> {
        if request.elsewhere.is_none() {
            check_platform(&request.attributes)?;
        }
        let visit = self.enter().await?;
        let buildkitd = visit.site.running.connect().await?;
        let (session, context) = match &request.source {
            Source::Session(id) => (id.clone(), None),
            Source::Archive(file) => (String::new(), Some(Arc::clone(file))),
            Source::Remote(_) => (String::new(), None),
        };
        let credentials: Credentials = match &request.source {
            Source::Session(_) => credentials_of(self, session.clone()),
            _ => fixed(request.auths.clone()),
        };
        let order = Order {
            names: request.names.clone(),
            pull: request.attributes.get("image-resolve-mode").is_some_and(|mode| mode == "pull"),
            credentials,
            context,
        };
        let registry = &visit.site.registry;
        let ticket = registry.admit(order)?;
        let (mut attributes, mut inputs) = (request.attributes, BTreeMap::new());
        match request.source {
            Source::Archive(_) => {
                let address = format!("http://127.0.0.1:{}/context/{}", registry.port, ticket.token);
                if request.left_out.is_empty() {
                    attributes.insert("context".to_owned(), address);
                } else {
                    inputs = inputs::of_archive(address, &request.left_out);
                }
            }
            Source::Remote(address) => drop(attributes.insert("context".to_owned(), address)),
            Source::Session(_) => {}
        }
        let makes_image = request.elsewhere.is_none();
        let exporter = match request.elsewhere {
            Some((kind, attrs)) => Exporter { r#type: kind, attrs },
            None => to_registry(&Exporter::default(), registry.port, &ticket),
        };
        let import = |image: String| CacheOptionsEntry {
            r#type: "registry".to_owned(),
            attrs: [("ref".to_owned(), image)].into(),
        };
        let name = format!("husk-{}-{}", std::process::id(), self.next());
        let solve = SolveRequest {
            r#ref: name.clone(),
            session,
            frontend: "dockerfile.v0".to_owned(),
            frontend_attrs: attributes,
            cache: Some(CacheOptions {
                exports: Vec::new(),
                imports: request.cache_from.into_iter().map(import).collect(),
            }),
            entitlements: request.entitlements,
            frontend_inputs: inputs,
            source_policy: Some(rules(registry.port, &ticket.token)),
            exporters: vec![exporter],
        };
        let solving = grpc::ask::<SolveResponse>(&buildkitd, SOLVE, &solve);
        let following = follow(&buildkitd, name, &news, registry.port);
        tokio::pin!(solving, following);
        let mut followed = false;
        let solved = loop {
            tokio::select! {
                solved = &mut solving => break solved,
                _ = &mut following, if !followed => followed = true,
                () = news.closed() => {
                    return Err(BuildError::Refused { code: 1, message: "the client has gone".to_owned() });
                }
            }
        };
        if !followed {
            // It ends with the build; what is left of it is what was said last.
            let _ended = following.await;
        }
        if let Err(BuildError::Refused { code, message }) = solved {
            let message = match ticket.trouble() {
                Some(trouble) => format!("{message}: {trouble}"),
                None => message,
            };
            let message = shown(&message, registry.port);
            return Err(BuildError::Refused { code, message });
        }
        solved?;
        if !makes_image {
            return Ok(None);
        }
        let lost = || BuildError::Broken {
            call: SOLVE,
            reason: "the image did not come to husk's store".to_owned(),
        };
        let built = Built { id: ticket.built().ok_or_else(lost)?, names: request.names };
        self.tell(&built);
        Ok(Some(built))
    }
}

/// Tells of a build until it ends.
async fn follow(buildkitd: &Caller, name: String, news: &mpsc::Sender<BuildStep>, port: u16) -> Result<()> {
    let mut answers = grpc::call(buildkitd, STATUS, &StatusRequest { r#ref: name }).await?;
    while let Some(raw) = answers.message().await? {
        let raw = shown::status(&raw, port);
        let broken =
            |error: prost::DecodeError| BuildError::Broken { call: STATUS, reason: error.to_string() };
        let status = StatusResponse::decode(raw.clone()).map_err(broken)?;
        if news.send(step_of(raw, status)).await.is_err() {
            break;
        }
    }
    Ok(())
}

fn step_of(raw: Bytes, status: StatusResponse) -> BuildStep {
    let steps = status.vertexes.into_iter().map(|vertex| Step {
        id: vertex.digest,
        name: vertex.name,
        cached: vertex.cached,
        started: vertex.started.is_some(),
        ended: vertex.completed.is_some(),
    });
    BuildStep {
        raw,
        steps: steps.collect(),
        logs: status.logs.into_iter().map(log_of).collect(),
        warnings: status
            .warnings
            .iter()
            .map(|warning| String::from_utf8_lossy(&warning.short).into_owned())
            .collect(),
    }
}

fn log_of(log: VertexLog) -> Log {
    Log { step: log.vertex, is_error: log.stream == 2, bytes: log.msg }
}

/// Credentials that came with the request, by registry. Docker Hub has several names.
fn fixed(auths: BTreeMap<String, Auth>) -> Credentials {
    let hub = |host: &str| host == "docker.io" || host.ends_with(".docker.io");
    let host_of = |address: &str| {
        let address = address.split_once("://").map_or(address, |(_, rest)| rest);
        address.split('/').next().unwrap_or_default().to_owned()
    };
    let auths: Vec<(String, Auth)> =
        auths.into_iter().map(|(address, auth)| (host_of(&address), auth)).collect();
    Arc::new(move |wanted| {
        let found = auths.iter().find(|(host, _)| *host == wanted || (hub(host) && hub(&wanted)));
        let found = found.map(|(_, auth)| auth.clone());
        async move { found }.boxed()
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn credentials_are_for_the_registry_that_they_name() {
        let auth = |username: &str| Auth { username: username.to_owned(), ..Auth::default() };
        let all = [
            ("https://index.docker.io/v1/".to_owned(), auth("hub")),
            ("http://127.0.0.1:5000".to_owned(), auth("own")),
        ];
        let credentials = fixed(all.into());
        for (host, name) in [
            ("docker.io", Some("hub")),
            ("127.0.0.1:5000", Some("own")),
            ("127.0.0.1", None),
            ("quay.io", None),
        ] {
            let found = credentials(host.to_owned()).await;
            assert_eq!(found.map(|auth| auth.username).as_deref(), name, "{host}");
        }
    }
}
