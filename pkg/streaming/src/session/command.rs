//! Exec and attach: a command's streams on the client's, a terminal's window, and the status at the end.
//!
//! When the client goes away, the command loses its streams (end of input, EPIPE, a hung-up terminal) and has
//! [`GRACE`] to end; then it is killed with all that it started. An attached container merely is let go.

use std::{future::Future, io, os::fd::OwnedFd, sync::Arc, time::Duration};

use husk_model::{ContainerId, Streams, chain};
use tokio::{
    sync::{mpsc, oneshot, watch},
    task::JoinSet,
};
use tracing::debug;

use super::{
    Context, Stop,
    copy::{self, Sizes},
};
use crate::{
    Wanted,
    channel::{Input, Output},
    facilities::Fault,
    fd::{Fd, pipe},
    link::Link,
    negotiate::Version,
    spdy::{Accepted, ResetReason},
    status::Outcome,
};

/// How long a command may outlive its client.
const GRACE: Duration = Duration::from_secs(10);
/// How long the first window size is waited for, so that a command finds it when it starts. Clients send it at once.
const FIRST_SIZE: Duration = Duration::from_millis(50);
/// How long the end of a container may come after the end of its output. Later, it was the client that was cut off.
const CUT_OFF: Duration = Duration::from_secs(2);

/// A client's streams of an exec or attach.
#[derive(Debug)]
pub(crate) struct Channels {
    pub(crate) stdin: Option<Input>,
    pub(crate) stdout: Option<Output>,
    pub(crate) stderr: Option<Output>,
    pub(crate) resize: Option<Input>,
    /// Where the outcome is said.
    pub(crate) error: Output,
    pub(crate) version: Version,
}

// === gathering SPDY streams ===

/// Waits for the streams that the request wants.
///
/// # Errors
/// What is missing when the time is over or the client is gone.
pub(crate) async fn gather(
    accepted: &mut mpsc::Receiver<Accepted>,
    wanted: Wanted,
    version: Version,
    limit: Duration,
) -> Result<Channels, String> {
    let mut parts = Parts::default();
    let gathered = tokio::time::timeout(limit, async {
        while parts.missing(wanted, version).is_some() {
            match accepted.recv().await {
                Some(stream) => parts.take(stream, wanted).await,
                None => return,
            }
        }
    });
    let _ = gathered.await;
    if let Some(missing) = parts.missing(wanted, version) {
        return Err(format!("the client did not open its {missing} stream"));
    }
    let Parts { stdin, stdout, stderr, resize, error } = parts;
    let error = error.ok_or("the client did not open its error stream")?;
    Ok(Channels { stdin, stdout, stderr, resize, error, version })
}

#[derive(Debug, Default)]
struct Parts {
    stdin: Option<Input>,
    stdout: Option<Output>,
    stderr: Option<Output>,
    resize: Option<Input>,
    error: Option<Output>,
}

impl Parts {
    fn missing(&self, wanted: Wanted, version: Version) -> Option<&'static str> {
        [
            ("error", self.error.is_none()),
            ("stdin", wanted.stdin && self.stdin.is_none()),
            ("stdout", wanted.stdout && self.stdout.is_none()),
            ("stderr", wanted.stderr && self.stderr.is_none()),
            ("resize", wanted.terminal && version.resizes() && self.resize.is_none()),
        ]
        .into_iter()
        .find_map(|(name, missing)| missing.then_some(name))
    }

    /// Puts a stream in its place; one that is unknown, unwanted or there already is refused.
    async fn take(&mut self, stream: Accepted, wanted: Wanted) {
        let Accepted { headers, input, output, .. } = stream;
        match headers.get("streamtype").map(String::as_str) {
            Some("error") if self.error.is_none() => self.error = Some(output),
            Some("stdin") if wanted.stdin && self.stdin.is_none() => self.stdin = Some(input),
            Some("stdout") if wanted.stdout && self.stdout.is_none() => self.stdout = Some(output),
            Some("stderr") if wanted.stderr && self.stderr.is_none() => self.stderr = Some(output),
            Some("resize") if wanted.terminal && self.resize.is_none() => self.resize = Some(input),
            other => {
                debug!(streamtype = other, "a client opened a stream that the request does not want");
                output.reset(ResetReason::Refused).await;
            }
        }
    }
}

// === running ===

/// Runs a command for a client.
pub(crate) async fn exec(
    context: &Context,
    link: Link,
    streams: Channels,
    container: ContainerId,
    argv: Vec<String>,
    terminal: bool,
) {
    let (error, version) = (streams.error.clone(), streams.version);
    let outcome = if terminal {
        exec_terminal(context, &link, streams, &container, argv).await
    } else {
        exec_pipes(context, &link, streams, &container, argv).await
    };
    conclude(link, error, version, outcome).await;
}

/// Attaches a client to a container.
pub(crate) async fn attach(context: &Context, link: Link, streams: Channels, container: ContainerId) {
    let (error, version) = (streams.error.clone(), streams.version);
    let outcome = attach_pipes(context, &link, streams, &container).await;
    conclude(link, error, version, outcome).await;
}

/// Says the outcome, if anybody is there, and leaves.
async fn conclude(link: Link, error: Output, version: Version, outcome: Option<Outcome>) {
    let Some(outcome) = outcome else { return };
    debug!(?outcome, "a session ends");
    let status = outcome.encode(version);
    if status.is_empty() || error.send(status.into()).await.is_ok() {
        error.end().await;
        link.finish().await;
    }
}

async fn exec_pipes(
    context: &Context,
    link: &Link,
    streams: Channels,
    container: &ContainerId,
    argv: Vec<String>,
) -> Option<Outcome> {
    let (theirs, copies) = match pipes(streams) {
        Ok(made) => made,
        Err(error) => return Some(Outcome::Failed(format!("make pipes: {error}"))),
    };
    let command = context.containers.exec(container, argv, theirs);
    tokio::pin!(command);
    attend(context, link, command, copies).await
}

async fn exec_terminal(
    context: &Context,
    link: &Link,
    streams: Channels,
    container: &ContainerId,
    argv: Vec<String>,
) -> Option<Outcome> {
    let mut sizes = streams.resize.map(Sizes::new);
    let first = match &mut sizes {
        Some(sizes) => tokio::time::timeout(FIRST_SIZE, sizes.next()).await.ok().flatten(),
        None => None,
    };
    let (on_master, mut master) = oneshot::channel();
    let on_master = Box::new(move |fd| drop(on_master.send(fd)));
    let command = context.containers.exec_terminal(container, argv, first, on_master);
    tokio::pin!(command);
    // A command may be over as soon as its terminal is here; what it wrote is still in there.
    let mut over = None;
    let master = tokio::select! {
        biased;
        master = &mut master => master.ok(),
        ended = &mut command => {
            over = Some(ended);
            master.try_recv().ok()
        }
        stop = context.stop(link) => return stopped(stop),
    };
    let command = async move {
        match over {
            Some(ended) => ended,
            None => command.await,
        }
    };
    tokio::pin!(command);
    let Some(Ok(master)) = master.map(Fd::new) else {
        // Without a terminal it could not be executed, and says why.
        return Some(outcome(command.await));
    };
    let master = Arc::new(master);
    let mut copies = Copies::default();
    if let Some(stdin) = streams.stdin {
        copies.helpers.spawn(copy::input(stdin, Arc::clone(&master)));
    }
    if let Some(stdout) = streams.stdout {
        copies.output(Arc::clone(&master), stdout);
    }
    if let Some(mut sizes) = sizes {
        let master = Arc::clone(&master);
        copies.helpers.spawn(async move {
            while let Some(size) = sizes.next().await {
                let _ = master.resize(size);
            }
        });
    }
    if copies.outputs.is_empty() {
        // Somebody must keep the terminal open.
        copies.keep = Some(master);
    }
    attend(context, link, command, copies).await
}

/// Waits for a command and its output. `None` when the client is gone.
async fn attend(
    context: &Context,
    link: &Link,
    mut command: impl Future<Output = Result<i32, Fault>> + Unpin,
    copies: Copies,
) -> Option<Outcome> {
    let ended = tokio::select! {
        ended = &mut command => outcome(ended),
        stop = context.stop(link) => {
            drop(copies);
            if stop == Stop::Gone && tokio::time::timeout(GRACE, command).await.is_err() {
                debug!("a command outlived its client and is killed");
            }
            return stopped(stop);
        }
    };
    tokio::select! {
        () = copies.drain() => Some(ended),
        stop = context.stop(link) => stopped(stop),
    }
}

async fn attach_pipes(
    context: &Context,
    link: &Link,
    mut streams: Channels,
    container: &ContainerId,
) -> Option<Outcome> {
    let resize = streams.resize.take();
    let watches = streams.stdout.is_some() || streams.stderr.is_some();
    let (theirs, mut copies) = match pipes(streams) {
        Ok(made) => made,
        Err(error) => return Some(Outcome::Failed(format!("make pipes: {error}"))),
    };
    if let Some(resize) = resize {
        let (containers, container) = (Arc::clone(&context.containers), container.clone());
        copies.helpers.spawn(async move {
            let mut sizes = Sizes::new(resize);
            while let Some(size) = sizes.next().await {
                if let Err(error) = containers.resize(&container, size).await {
                    debug!(error = chain(error.as_ref()), "a window size was not set");
                }
            }
        });
    }
    let attached = context.containers.attach(container, theirs);
    tokio::pin!(attached);
    let ended = tokio::select! {
        ended = &mut attached => ended,
        () = copies.outputs_end(), if watches => {
            match tokio::time::timeout(CUT_OFF, attached).await {
                Ok(ended) => ended,
                Err(_) => Err("the client was too slow for the container's output and was cut off".into()),
            }
        }
        stop = context.stop(link) => return stopped(stop),
    };
    tokio::select! {
        () = copies.drain() => Some(outcome(ended.map(|()| 0))),
        stop = context.stop(link) => stopped(stop),
    }
}

fn outcome(ended: Result<i32, Fault>) -> Outcome {
    match ended {
        Ok(code) => Outcome::Exited(code),
        Err(fault) => Outcome::Failed(chain(fault.as_ref())),
    }
}

fn stopped(stop: Stop) -> Option<Outcome> {
    (stop != Stop::Gone).then(|| Outcome::Failed(stop.reason().to_owned()))
}

// === impl Copies ===

/// The tasks that copy. Dropped, they end, and with them our ends of pipes and terminal.
#[derive(Debug)]
struct Copies {
    outputs: JoinSet<()>,
    /// Input and window sizes: nobody waits for their end.
    helpers: JoinSet<()>,
    keep: Option<Arc<Fd>>,
    over: watch::Sender<bool>,
}

impl Default for Copies {
    fn default() -> Self {
        Self { outputs: JoinSet::new(), helpers: JoinSet::new(), keep: None, over: watch::channel(false).0 }
    }
}

impl Copies {
    fn output(&mut self, from: Arc<Fd>, to: Output) {
        self.outputs.spawn(copy::output(from, to, self.over.subscribe()));
    }

    /// Takes what is still in the pipes.
    async fn drain(mut self) {
        self.over.send_replace(true);
        self.outputs_end().await;
    }

    /// Resolves when all output has come to its end. Cancel-safe.
    async fn outputs_end(&mut self) {
        while self.outputs.join_next().await.is_some() {}
    }
}

/// Pipes for a client's streams: the ends for the command or monitor, and the tasks at ours.
fn pipes(streams: Channels) -> io::Result<(Streams<OwnedFd>, Copies)> {
    let mut copies = Copies::default();
    let mut theirs = Streams::default();
    if let Some(stdin) = streams.stdin {
        let (read, write) = pipe()?;
        copies.helpers.spawn(copy::input(stdin, Arc::new(Fd::new(write)?)));
        theirs.stdin = Some(read);
    }
    for (output, end) in [(streams.stdout, &mut theirs.stdout), (streams.stderr, &mut theirs.stderr)] {
        if let Some(output) = output {
            let (read, write) = pipe()?;
            copies.output(Arc::new(Fd::new(read)?), output);
            *end = Some(write);
        }
    }
    Ok((theirs, copies))
}
