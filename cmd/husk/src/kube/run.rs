//! `husk run` in the foreground: what the pod writes is printed, and when it has ended it is removed.

use std::{
    io::{self, Write},
    process::ExitCode,
};

use futures_util::future::join_all;
use husk_proto::admin::LogsResponse;
use tokio::signal::unix::{SignalKind, signal};

use super::{
    plan::{Plan, Planned},
    session::{Exit, Session, pause},
    types::RestartPolicy,
};
use crate::client::Result;

/// The exit code of a pod that the user ended: 128 and SIGINT.
const INTERRUPTED: u8 = 130;

/// Runs a pod until its containers have ended.
pub(super) async fn attached(address: &str, plan: &Plan, keep: bool) -> Result<ExitCode> {
    let mut session = Session::new(address).await?;
    let mut interrupts = Interrupts::new()?;
    session.pull_all(plan).await?;
    let pod = session.sandbox(plan).await?;
    let outcome = tokio::select! {
        outcome = whole(session.clone(), plan, &pod) => outcome,
        () = interrupts.next() => {
            tokio::select! {
                stopped = session.stop(&pod, plan.grace) => stopped?,
                () = interrupts.next() => {}
            }
            Ok(ExitCode::from(INTERRUPTED))
        }
    };
    if keep && outcome.is_ok() {
        eprintln!("husk: pod {} is kept as {pod}; `husk kube down` with its file removes it", plan.name);
    } else {
        session.undo(plan, &pod).await;
    }
    outcome
}

/// SIGINT and SIGTERM.
struct Interrupts(tokio::signal::unix::Signal, tokio::signal::unix::Signal);

impl Interrupts {
    fn new() -> io::Result<Self> {
        Ok(Self(signal(SignalKind::interrupt())?, signal(SignalKind::terminate())?))
    }

    async fn next(&mut self) {
        tokio::select! {
            _ = self.0.recv() => {}
            _ = self.1.recv() => {}
        }
    }
}

async fn whole(mut session: Session, plan: &Plan, pod: &str) -> Result<ExitCode> {
    let named = plan.init.len() + plan.containers.len() > 1;
    for planned in &plan.init {
        let id = Box::pin(session.start(plan, pod, planned, 0)).await?;
        let exit = followed(&mut session, planned, &id, named).await?;
        if exit.code != 0 {
            return Err(format!("init container {}/{} {}", plan.name, planned.name, told(&exit)).into());
        }
    }
    let mut started = Vec::new();
    for planned in &plan.containers {
        started.push((planned, Box::pin(session.start(plan, pod, planned, 0)).await?));
    }
    let runs = started.into_iter().map(|(planned, id)| again(session.clone(), plan, pod, planned, id, named));
    let mut code = 0;
    for exit in join_all(runs).await {
        code = exit?.code;
    }
    Ok(ExitCode::from(u8::try_from(code).unwrap_or(u8::MAX)))
}

/// Follows a container until it has ended for good, running it again as its pod wants.
async fn again(
    mut session: Session,
    plan: &Plan,
    pod: &str,
    planned: &Planned,
    mut id: String,
    named: bool,
) -> Result<Exit> {
    for attempt in 0.. {
        let exit = followed(&mut session, planned, &id, named).await?;
        if !runs_again(plan.restart, exit.code) {
            if exit.code != 0 {
                eprintln!("husk: container {}/{} {}", plan.name, planned.name, told(&exit));
            }
            return Ok(exit);
        }
        eprintln!("husk: container {}/{} {}; it runs again", plan.name, planned.name, told(&exit));
        tokio::time::sleep(pause(attempt)).await;
        session.remove_container(&id).await?;
        id = Box::pin(session.start(plan, pod, planned, attempt + 1)).await?;
    }
    Err("a container ran too often".into())
}

fn runs_again(policy: Option<RestartPolicy>, code: i32) -> bool {
    match policy {
        Some(RestartPolicy::Always) => true,
        Some(RestartPolicy::OnFailure) => code != 0,
        Some(RestartPolicy::Never) | None => false,
    }
}

fn told(Exit { code, reason, message }: &Exit) -> String {
    let mut told = format!("ended with exit code {code} ({})", crate::text::shown(reason));
    if !message.is_empty() {
        told = format!("{told}: {}", crate::text::shown(message));
    }
    told
}

/// Prints what a container writes until it has ended.
async fn followed(session: &mut Session, planned: &Planned, id: &str, named: bool) -> Result<Exit> {
    session
        .logs(id, |is_error, line| {
            let name = named.then_some(planned.name.as_str());
            // Whoever closed our output is told by the exit code.
            let _ = match is_error {
                true => print(&mut io::stderr().lock(), name, line),
                false => print(&mut io::stdout().lock(), name, line),
            };
        })
        .await?;
    session.ended(id).await
}

fn print(to: &mut impl Write, name: Option<&str>, line: &LogsResponse) -> io::Result<()> {
    if let Some(name) = name {
        write!(to, "{name} | ")?;
    }
    to.write_all(&line.line)?;
    if !line.partial || name.is_some() {
        to.write_all(b"\n")?;
    }
    to.flush()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_policy_decides_by_the_exit_code() {
        let of = |policy| [0, 1].map(|code| runs_again(policy, code));
        assert_eq!(of(None), [false, false]);
        assert_eq!(of(Some(RestartPolicy::Never)), [false, false]);
        assert_eq!(of(Some(RestartPolicy::OnFailure)), [false, true]);
        assert_eq!(of(Some(RestartPolicy::Always)), [true, true]);
    }
}
