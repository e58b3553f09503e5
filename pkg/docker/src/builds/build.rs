//! `POST /build`: an archive of files becomes an image, or files of a client's session (`version=2`).

use std::{collections::BTreeMap, sync::Arc};

use base64::{
    Engine as _,
    engine::general_purpose::{STANDARD, URL_SAFE},
};
use husk_build::{Aside, BuildRequest, Builder, Built, Source};
use husk_images::Auth;
use hyper::header::HeaderName;
use tokio::sync::mpsc;

use super::{
    ignored,
    told::{Told, Words, classic_failure, exit_code},
    wanted::{Wanted, wanted},
};
use crate::{
    api::{auth::AuthConfig, from_slice},
    door::Parts,
    error::{Failure, Result},
    http::{Answer, Call},
    images::names::familiar,
    networks::which::{Which, find},
    progress::{Progress, progress},
};

/// Credentials of registries, by host.
const AUTHS: HeaderName = HeaderName::from_static("x-registry-config");
/// Longest such header.
const AUTHS_MAX: usize = 256 << 10;
/// News that may wait for a slow client.
const BACKLOG: usize = 64;

pub(super) async fn build(door: &Arc<Parts>, call: Call) -> Result<Answer> {
    let words = match (call.query.get("version"), call.query.flag("q")) {
        (Some("2"), _) => Words::BuildKit,
        (_, true) => Words::Quiet,
        _ => Words::Classic,
    };
    let gateway = match call.query.all("extrahosts").any(|host| host.ends_with("host-gateway")) {
        true => {
            let bridge = door.network.user().default_bridge().await?;
            bridge.subnets.first().map(|subnet| subnet.gateway.to_string())
        }
        false => None,
    };
    let wanted = wanted(&call.query, gateway.as_deref())?;
    let auths = auths(&call)?;
    // Before the client's files are taken, and while a failure still has a status of its own.
    let place = Place::of(door, wanted.network.as_deref(), words).await?;
    let awake = place.builder(door).wake().await?;
    let dockerfile = call.query.get("dockerfile").unwrap_or("Dockerfile").to_owned();
    let source = source(door, call, words).await?;
    let left_out = match &source {
        // BuildKit's own clients leave these out themselves.
        Source::Archive(archive) if words != Words::BuildKit => ignored::of(archive, &dockerfile).await,
        _ => Vec::new(),
    };
    let Wanted { names, attributes, cache_from, elsewhere, host_network, .. } = wanted;
    let entitlements = if host_network { vec!["network.host".to_owned()] } else { Vec::new() };
    let request =
        BuildRequest { names, attributes, elsewhere, cache_from, source, left_out, auths, entitlements };
    let (progress, answer) = progress();
    let door = Arc::clone(door);
    tokio::spawn(async move {
        let _awake = awake;
        let closed = progress.clone();
        tokio::select! {
            () = run(&door, place, request, words, progress) => {}
            // As dockerd: a build ends with its client.
            () = closed.closed() => {}
            () = door.closed() => {}
        }
    });
    Ok(answer)
}

/// Where a build is.
enum Place {
    /// With all others.
    Common,
    /// In a network of a user.
    Aside(Aside),
}

impl Place {
    async fn of(door: &Parts, network: Option<&str>, words: Words) -> Result<Self> {
        let Some(name) = network else { return Ok(Self::Common) };
        if words == Words::BuildKit {
            let name: String = name.chars().take(80).collect();
            return Err(Failure::bad(format!("network mode {name:?} not supported by buildkit")));
        }
        let which = find(door, name).await?;
        match &which {
            Which::None => Err(Failure::bad("networkmode: call the network without any \"none\"")),
            which if which.is_predefined() => Ok(Self::Common),
            which => Ok(Self::Aside(door.builder.aside(which.id().to_owned()).await?)),
        }
    }

    async fn close(self) {
        if let Self::Aside(aside) = self {
            aside.close().await;
        }
    }

    fn builder<'own>(&'own self, door: &'own Parts) -> &'own Arc<Builder> {
        match self {
            Self::Common => &door.builder,
            Self::Aside(aside) => aside.builder(),
        }
    }
}

async fn run(door: &Parts, place: Place, request: BuildRequest, words: Words, progress: Progress) {
    let (sender, mut news) = mpsc::channel(BACKLOG);
    let mut told = Told::new(words, progress.clone());
    let telling = async {
        while let Some(news) = news.recv().await {
            told.tell(news).await;
        }
    };
    let (built, ()) = tokio::join!(place.builder(door).build(request, sender), telling);
    // Before the client hears of the end: it may remove the network next.
    place.close().await;
    match built {
        Ok(Some(built)) => tell(&built, words, &progress).await,
        Ok(None) => {}
        Err(error) => {
            let failure = Failure::from(error);
            match exit_code(failure.message()) {
                Some(code) => {
                    let classic =
                        if words == Words::BuildKit { None } else { classic_failure(failure.message()) };
                    progress.broken(classic.as_deref().unwrap_or(failure.message()), code).await;
                }
                None => progress.broken(failure.message(), 1).await,
            }
        }
    }
}

async fn tell(built: &Built, words: Words, progress: &Progress) {
    let id = built.id.to_string();
    let result = serde_json::json!({ "ID": id });
    match words {
        Words::BuildKit => progress.trace("moby.image.id", result).await,
        Words::Quiet => progress.text(&format!("{id}\n")).await,
        Words::Classic => {
            progress.aux(result).await;
            let short: String = built.id.digest().hex().chars().take(12).collect();
            progress.text(&format!("Successfully built {short}\n")).await;
            for name in &built.names {
                progress.text(&format!("Successfully tagged {}\n", familiar(name))).await;
            }
        }
    }
}

/// The build's files.
async fn source(door: &Parts, mut call: Call, words: Words) -> Result<Source> {
    let remote = call.query.get("remote").unwrap_or_default().to_owned();
    let session = call.query.get("session").unwrap_or_default().to_owned();
    match remote.as_str() {
        "client-session" if words == Words::BuildKit && !session.is_empty() => Ok(Source::Session(session)),
        "client-session" => Err(Failure::bad("remote=client-session: the session is missing")),
        "" => {
            let mut spool = door.builder.spool()?;
            while let Some(piece) = call.content.next().await? {
                // Short writes into the page cache.
                spool.write(&piece)?;
            }
            Ok(Source::Archive(spool.finish()?))
        }
        _ => Ok(Source::Remote(remote)),
    }
}

/// Credentials that came along. They are not quoted in errors.
fn auths(call: &Call) -> Result<BTreeMap<String, Auth>> {
    let Some(header) = call.headers.get(&AUTHS).map(|header| header.as_bytes()) else {
        return Ok(BTreeMap::new());
    };
    if header.is_empty() {
        return Ok(BTreeMap::new());
    }
    let wrong = |what: &str| Failure::bad(format!("invalid X-Registry-Config header: {what}"));
    if header.len() > AUTHS_MAX {
        return Err(wrong("it is too long"));
    }
    let decoded = URL_SAFE.decode(header).or_else(|_| STANDARD.decode(header));
    let decoded = decoded.map_err(|_| wrong("it is not base64"))?;
    let all: Option<BTreeMap<String, AuthConfig>> =
        from_slice(&decoded).map_err(|_| wrong("it is no JSON of credentials"))?;
    let all = all.unwrap_or_default().into_iter();
    Ok(all.map(|(host, auth)| (host, Auth { server_address: String::new(), ..Auth::from(auth) })).collect())
}
