//! A client's session: buildkitd calls the client by it, for files, secrets and keys, and husk for credentials.
//!
//! The client's connection carries HTTP/2 with the client as its server. buildkitd takes the same in pieces, as a call of its own
//! (`Control.Session`). husk stands between the two as a server to buildkitd and a caller of the client, so that it can call the client, too.

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use futures_util::{FutureExt, stream};
use http_body_util::{BodyExt, StreamBody};
use husk_images::Auth;
use husk_model::chain;
use husk_proto::buildkit::{BytesMessage, CredentialsRequest, CredentialsResponse};
use hyper::{
    HeaderMap,
    body::{Frame, Incoming},
    header::HeaderName,
};
use prost::Message;
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, DuplexStream, ReadHalf},
    sync::mpsc,
};
use tracing::debug;

use crate::{
    error::{BuildError, Result},
    grpc::{self, AnyBody, Caller, Frames},
    proxy::{forward, serve},
    site::{Builder, Visit},
};

const SESSION: &str = "/moby.buildkit.v1.Control/Session";
const CREDENTIALS: &str = "/moby.filesync.v1.Auth/Credentials";

/// Headers by which a session says what it is, and what it can be asked for.
const EXPOSED: &str = "x-docker-expose-session-";
const ID: HeaderName = HeaderName::from_static("x-docker-expose-session-uuid");
/// Longest id of a session.
const ID_MAX: usize = 256;
/// Bytes of the session under way.
const BUFFER: usize = 64 << 10;
/// Pieces that may wait.
const BACKLOG: usize = 8;
/// How long a client may think about credentials; it may have to ask a helper.
const PATIENCE: Duration = Duration::from_secs(30);

/// A session that has been let in.
#[derive(Debug)]
pub struct Session {
    visit: Visit,
    buildkitd: Caller,
    id: String,
    headers: HeaderMap,
}

impl Builder {
    /// Lets a client's session in; `headers` are those of its request.
    ///
    /// # Errors
    /// [`BuildError::Request`] for one without an id; what could not be started.
    pub async fn session(self: &Arc<Self>, headers: &HeaderMap) -> Result<Session> {
        let id = headers.get(&ID).and_then(|id| id.to_str().ok()).unwrap_or_default().to_owned();
        if id.is_empty() || id.len() > ID_MAX {
            return Err(BuildError::Request("a session needs an X-Docker-Expose-Session-Uuid".to_owned()));
        }
        let mut exposed = HeaderMap::new();
        for (name, value) in headers.iter().filter(|(name, _)| name.as_str().starts_with(EXPOSED)) {
            exposed.append(name.clone(), value.clone());
        }
        let visit = self.enter().await?;
        let buildkitd = visit.site.running.connect().await?;
        Ok(Session { visit, buildkitd, id, headers: exposed })
    }
}

impl Session {
    /// Leads buildkitd to the client until one of them ends the session.
    pub async fn attend(self, io: impl AsyncRead + AsyncWrite + Unpin + Send + 'static) {
        let (client, gone) = match grpc::connect(io).await {
            Ok(connected) => connected,
            Err(error) => return debug!(%error, "a session of a build's client broke off"),
        };
        let builder = &self.visit.builder;
        builder.sessions().insert(self.id.clone(), client.clone());
        let _listed = Listed { builder: Arc::clone(builder), id: self.id.clone() };
        let (ours, theirs) = tokio::io::duplex(BUFFER);
        let serving = serve(ours, move |request| forward(client.clone(), request).boxed());
        let led = lead(&self.buildkitd, &self.headers, theirs);
        tokio::select! {
            () = serving => {}
            led = led => if let Err(error) = led {
                debug!(%error, "a session with buildkitd broke off");
            },
            _ = gone => {}
        }
    }
}

/// An entry in the list of sessions.
struct Listed {
    builder: Arc<Builder>,
    id: String,
}

impl Drop for Listed {
    fn drop(&mut self) {
        self.builder.sessions().remove(&self.id);
    }
}

/// Carries the bytes of `io` in a call to buildkitd.
async fn lead(buildkitd: &Caller, headers: &HeaderMap, io: DuplexStream) -> Result<()> {
    let broken = |error: hyper::Error| BuildError::Broken { call: SESSION, reason: chain(&error) };
    let (reader, mut writer) = tokio::io::split(io);
    let mut request = grpc::request(SESSION, pieces(reader));
    request.headers_mut().extend(headers.clone());
    let mut buildkitd = buildkitd.clone();
    buildkitd.ready().await.map_err(broken)?;
    let answer = buildkitd.send_request(request).await.map_err(broken)?;
    let (mut body, mut frames): (Incoming, Frames) = (answer.into_body(), Frames::default());
    while let Some(frame) = body.frame().await {
        let Ok(data) = frame.map_err(broken)?.into_data() else { continue };
        frames.push(&data);
        let torn = |reason: &str| BuildError::Broken { call: SESSION, reason: reason.to_owned() };
        while let Some(message) = frames.next().map_err(torn)? {
            let piece = BytesMessage::decode(message).map_err(|error| torn(&error.to_string()))?;
            if writer.write_all(&piece.data).await.is_err() {
                return Ok(());
            }
        }
    }
    Ok(())
}

/// What is read, as messages.
fn pieces(mut reader: ReadHalf<DuplexStream>) -> AnyBody {
    let (sender, received) = mpsc::channel::<Bytes>(BACKLOG);
    tokio::spawn(async move {
        let mut buffer = vec![0; BUFFER / 2];
        loop {
            let length = tokio::select! {
                read = reader.read(&mut buffer) => read.unwrap_or(0),
                () = sender.closed() => 0,
            };
            let message = BytesMessage { data: Bytes::copy_from_slice(&buffer[..length]) };
            if length == 0 || sender.send(grpc::frame(&message.encode_to_vec())).await.is_err() {
                return;
            }
        }
    });
    let frames = stream::unfold(received, async |mut received| {
        let piece = received.recv().await?;
        Some((Ok(Frame::data(piece)), received))
    });
    StreamBody::new(frames).boxed_unsync()
}

/// Asks a client for credentials of a registry. One that has none, or does not answer, leaves it to the node's own.
pub(crate) async fn credentials(client: &Caller, host: String) -> Option<Auth> {
    let request = CredentialsRequest { host };
    let asked = grpc::ask::<CredentialsResponse>(client, CREDENTIALS, &request);
    let found = match tokio::time::timeout(PATIENCE, asked).await {
        Ok(Ok(found)) => found,
        Ok(Err(error)) => {
            debug!(%error, "a build's client has no credentials");
            return None;
        }
        Err(_) => return None,
    };
    match (found.username.is_empty(), found.secret.is_empty()) {
        (_, true) => None,
        // A token without a name (BuildKit's auth provider).
        (true, false) => Some(Auth { identity_token: found.secret, ..Auth::default() }),
        (false, false) => Some(Auth { username: found.username, password: found.secret, ..Auth::default() }),
    }
}
