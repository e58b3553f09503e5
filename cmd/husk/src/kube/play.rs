//! `husk kube play` and `husk kube down`.

use std::process::ExitCode;

use husk_proto::cri::v1;

use super::{
    manifest::Manifest,
    names,
    plan::{GRACE, Plan},
    session::Session,
    types::RestartPolicy,
    volumes::Places,
};
use crate::client::Result;

/// Makes and starts pods; prints the id of each. If one fails, all that were made here are removed again. With `replaced`, those of an
/// earlier play are removed first.
pub(super) async fn play(
    address: &str,
    plans: &[Plan],
    replaced: Option<(&Manifest, &Places)>,
) -> Result<ExitCode> {
    let mut session = Session::new(address).await?;
    for plan in plans {
        if matches!(plan.restart, Some(RestartPolicy::Always | RestartPolicy::OnFailure)) {
            eprintln!("husk: warning: pod {}: restartPolicy: nobody restarts its containers", plan.name);
        }
        session.pull_all(plan).await?;
    }
    if let Some((manifest, places)) = replaced {
        remove(&mut session, manifest, places, false).await?;
    }
    let mut made = Vec::new();
    for plan in plans {
        match Box::pin(one(&mut session, plan)).await {
            Ok(id) => made.push((plan, id)),
            Err(error) => {
                for (plan, id) in made.iter().rev() {
                    session.undo(plan, id).await;
                }
                return Err(error);
            }
        }
    }
    for (plan, id) in made {
        println!("{id} {}", plan.name);
    }
    Ok(ExitCode::SUCCESS)
}

async fn one(session: &mut Session, plan: &Plan) -> Result<String> {
    let pod = session.sandbox(plan).await?;
    let started = async {
        Box::pin(session.init(plan, &pod)).await?;
        for planned in &plan.containers {
            Box::pin(session.start(plan, &pod, planned, 0)).await?;
        }
        Ok(())
    };
    match started.await {
        Ok(()) => Ok(pod),
        Err(error) => {
            session.undo(plan, &pod).await;
            Err(error)
        }
    }
}

/// Removes the pods of a file's documents, or all that we made; prints each.
pub(super) async fn down(address: &str, manifest: Option<&Manifest>, places: &Places) -> Result<ExitCode> {
    let mut session = Session::new(address).await?;
    match manifest {
        Some(manifest) => remove(&mut session, manifest, places, true).await?,
        None => {
            let pods = session.all().await?;
            remove_pods(&mut session, pods, GRACE, places, true).await?;
        }
    }
    Ok(ExitCode::SUCCESS)
}

async fn remove(session: &mut Session, manifest: &Manifest, places: &Places, tell: bool) -> Result<()> {
    for owner in &manifest.owners {
        let grace = manifest
            .pods
            .iter()
            .find(|pod| pod.owner == *owner)
            .and_then(|pod| pod.spec.termination_grace_period_seconds)
            .unwrap_or(GRACE);
        let pods = session.of_owner(owner).await?;
        remove_pods(session, pods, grace, places, tell).await?;
    }
    // Of pods that went away without us, such as with a reboot.
    for pod in &manifest.pods {
        let uid = format!("{}_{}", pod.namespace, pod.name);
        places.of(&uid).remove().map_err(|reason| format!("pod {}: volumes: {reason}", pod.name))?;
    }
    Ok(())
}

async fn remove_pods(
    session: &mut Session,
    pods: Vec<v1::PodSandbox>,
    grace: u32,
    places: &Places,
    tell: bool,
) -> Result<()> {
    let stops = pods.iter().map(|pod| {
        let mut session = session.clone();
        async move { session.stop(&pod.id, grace).await }
    });
    futures_util::future::join_all(stops).await.into_iter().collect::<Result<Vec<()>>>()?;
    for pod in pods {
        session.remove(&pod.id).await?;
        let Some((name, uid)) = ours(&pod) else { continue };
        places.of(&uid).remove().map_err(|reason| format!("pod {name}: volumes: {reason}"))?;
        if tell {
            println!("{} {name}", pod.id);
        }
    }
    Ok(())
}

/// A pod's name and uid, if they are such as we give: the uid is the name of its directories.
fn ours(pod: &v1::PodSandbox) -> Option<(String, String)> {
    let metadata = pod.metadata.as_ref()?;
    names::label("namespace", &metadata.namespace).and(names::label("name", &metadata.name)).ok()?;
    let uid = format!("{}_{}", metadata.namespace, metadata.name);
    (uid == metadata.uid).then(|| (format!("{}/{}", metadata.namespace, metadata.name), uid))
}
