//! Attaching: `POST /containers/{id}/attach`, before the start or while it runs.

use std::sync::Arc;

use tokio::sync::oneshot;

use super::{
    container::Container,
    logs,
    record::Phase,
    store::Store,
    streams::{DetachKeys, Typed, Waiting, Wants, copy_input, copy_output, pipes},
};
use crate::{
    error::{Failure, Result},
    http::{Answer, Call, Frames, Hijacked, MULTIPLEXED, RAW, Version},
};

/// Clients that wait for one start.
const MOST_WAITING: usize = 16;

impl Store {
    /// Answers an attach.
    ///
    /// # Errors
    /// 409 when it is paused, 400 for keys that are none.
    pub(super) fn attach(&self, container: &Arc<Container>, call: &Call) -> Result<Answer> {
        let query = &call.query;
        let keys = query.get("detachKeys").unwrap_or_default();
        let keys = DetachKeys::parse(keys)
            .ok_or_else(|| Failure::bad(format!("Invalid detach keys ({keys}) provided")))?;
        let record = container.record();
        if record.state.paused {
            return Err(Failure::conflict(format!(
                "Container {} is paused, unpause the container before attach",
                container.id
            )));
        }
        let tty = record.config.tty;
        let wants = Wants {
            stdin: query.flag("stdin") && record.config.open_stdin,
            stdout: query.flag("stdout"),
            // A terminal has joined them.
            stderr: query.flag("stderr") && !tty,
        };
        let live = query.flag("stream");
        let wants_log = query.flag("logs").then(|| logs::Wanted::all(wants.stdout || tty, wants.stderr));
        let (ours, theirs) = pipes(wants).map_err(Failure::io("make pipes for a client"))?;
        let over = match live {
            true => Some(self.attach_now_or_later(container, theirs)?),
            false => None,
        };
        let (store, container) = (self.clone(), Arc::clone(container));
        let session = async move |io: Hijacked| {
            let Hijacked { reader, writer, presence } = io;
            let mut frames = Frames::new(writer, !tty);
            if let Some(wanted) = wants_log {
                let _ = logs::send_all(&container, wanted, &mut frames).await;
            }
            let Some(over) = over else { return drop(frames.end().await) };
            // Without a terminal nobody types, and bytes of a file may be any.
            let keys = tty.then_some(keys);
            let detached = {
                let input = copy_input(reader, ours.stdin, keys, &presence);
                let output = async {
                    let copied = copy_output(ours.stdout, ours.stderr, &mut frames).await;
                    if copied.is_ok() {
                        // One that watches nothing is attached until the end all the same.
                        let _ = over.await;
                    }
                };
                tokio::pin!(input, output);
                tokio::select! {
                    typed = &mut input => {
                        if typed == Typed::End {
                            tokio::select! {
                                () = &mut output => {}
                                () = presence.gone() => {}
                            }
                        }
                        typed == Typed::Detached
                    }
                    () = &mut output => false,
                }
            };
            let _ = frames.end().await;
            if detached {
                store.publish(&container.record(), "detach", []);
            }
        };
        self.publish(&record, "attach", []);
        let multiplexed = !tty && call.version >= Version::v1(42);
        Ok(call.hijack(if multiplexed { MULTIPLEXED } else { RAW }, session))
    }

    /// What resolves when everything has come.
    fn attach_now_or_later(
        &self,
        container: &Arc<Container>,
        theirs: husk_model::Streams<std::os::fd::OwnedFd>,
    ) -> Result<oneshot::Receiver<()>> {
        let (over, is_over) = oneshot::channel();
        let record = container.record();
        if record.state.phase == Phase::Running {
            let (_, id) = container.going()?;
            let engine = Arc::clone(&self.0.shared.engine);
            let mut over = over;
            tokio::spawn(async move {
                let attached = engine.attach_whole(id.as_str(), theirs);
                tokio::select! {
                    // An error: it ended in between, which the end of the streams tells.
                    _ = attached => {}
                    // The client went away; the monitor is told.
                    () = over.closed() => return,
                }
                let _ = over.send(());
            });
            return Ok(is_over);
        }
        let mut waiting = container.waiting();
        waiting.retain(|waiting| !waiting.over.is_closed());
        if waiting.len() == MOST_WAITING {
            return Err(Failure::conflict(format!("{MOST_WAITING} clients wait for the start already")));
        }
        waiting.push(Waiting { theirs, over });
        Ok(is_over)
    }
}
