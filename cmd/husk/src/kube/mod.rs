//! `husk run`, `husk kube play` and `husk kube down`: pods from Kubernetes' YAML, without a kubelet.
//!
//! | module | concern |
//! | --- | --- |
//! | `yaml`, `types`, `manifest`, `names`, `quantity` | a file as pods, with what their data comes from |
//! | `environment`, `volumes`, `plan` | a pod as what the CRI is asked for |
//! | `session` | asking for it, through husk's own door, which no kubelet sees |
//! | `run`, `play` | the commands |

mod environment;
mod manifest;
mod names;
mod plan;
mod play;
mod quantity;
mod run;
mod session;
mod types;
mod volumes;
mod yaml;

use std::{
    path::{Path, PathBuf},
    process::ExitCode,
};

use clap::{Args, Subcommand};

use self::{manifest::Manifest, plan::Plan, volumes::Places};
use crate::client::Result;

const RUN_HELP: &str = "\
The exit code is that of the pod's last container. Ctrl-C stops the pod, a second one ends it at once. Without a restartPolicy \
in the manifest no container is run again.

  husk run pod.yaml
  husk run --detach pod.yaml && husk logs -f default/web";

const KUBE_HELP: &str = "\
What is read are documents of kind Pod, Deployment, ConfigMap and Secret. Nobody restarts what ends: that is a kubelet's work.

  husk kube play app.yaml
  husk kube down app.yaml";

/// What `husk run` is asked for.
#[derive(Debug, Args)]
#[command(after_help = RUN_HELP)]
pub(crate) struct Run {
    /// A manifest with one pod; - reads standard input
    file: PathBuf,
    /// Leave the pod running and print its id; `husk kube down FILE` removes it
    #[arg(long, short)]
    detach: bool,
    /// Keep the pod when it has ended; `husk kube down FILE` removes it
    #[arg(long, conflicts_with = "detach")]
    keep: bool,
    #[command(flatten)]
    common: Common,
}

/// What `husk kube` can do.
#[derive(Debug, Subcommand)]
#[command(after_help = KUBE_HELP)]
pub(crate) enum Kube {
    /// Make and start the pods of a file
    Play {
        /// The manifest; - reads standard input
        file: PathBuf,
        /// Remove what an earlier play of the file made first
        #[arg(long)]
        replace: bool,
        #[command(flatten)]
        common: Common,
    },
    /// Stop and remove the pods that a play of the file made
    Down {
        /// The manifest; - reads standard input
        #[arg(required_unless_present = "all")]
        file: Option<PathBuf>,
        /// All pods that husk run and husk kube play made on this node
        #[arg(long, conflicts_with = "file")]
        all: bool,
        #[command(flatten)]
        common: Common,
    },
}

/// What all have.
#[derive(Debug, Args)]
pub(crate) struct Common {
    /// Where volumes and logs are kept [default: /var/lib/husk-kube, and /run/husk-kube for Secrets and ConfigMaps]
    #[arg(long, value_name = "DIR", env = "HUSK_KUBE_DIR")]
    dir: Option<PathBuf>,
}

/// Runs one pod.
pub(crate) async fn run(address: &str, options: Run) -> Result<ExitCode> {
    let (manifest, mut plans) = read(&options.file, &options.common)?;
    let plan = match (plans.pop(), plans.is_empty()) {
        (Some(plan), true) => plan,
        _ => {
            let count = manifest.pods.len();
            return Err(format!(
                "{} has {count} pods, and husk run is for one: `husk kube play` takes more",
                options.file.display()
            )
            .into());
        }
    };
    match options.detach {
        true => Box::pin(play::play(address, &[plan], None)).await,
        false => Box::pin(run::attached(address, &plan, options.keep)).await,
    }
}

/// Plays a file, or takes it down.
pub(crate) async fn kube(address: &str, command: Kube) -> Result<ExitCode> {
    match command {
        Kube::Play { file, replace, common } => {
            let (manifest, plans) = read(&file, &common)?;
            let places = Places::new(common.dir.as_deref());
            let replaced = replace.then_some((&manifest, &places));
            Box::pin(play::play(address, &plans, replaced)).await
        }
        Kube::Down { file, all: _, common } => {
            let manifest = file.as_deref().map(Manifest::read).transpose()?;
            play::down(address, manifest.as_ref(), &Places::new(common.dir.as_deref())).await
        }
    }
}

fn read(file: &Path, common: &Common) -> Result<(Manifest, Vec<Plan>)> {
    let manifest = Manifest::read(file)?;
    for warning in &manifest.warnings {
        eprintln!("husk: warning: {}: {}", file.display(), crate::text::shown(warning));
    }
    let places = Places::new(common.dir.as_deref().map(std::path::absolute).transpose()?.as_deref());
    let plan = |wanted| {
        plan::plan(wanted, &manifest.data, &places)
            .map_err(|reason| format!("{}: pod {}: {reason}", file.display(), wanted.name))
    };
    let plans = manifest.pods.iter().map(plan).collect::<std::result::Result<_, _>>()?;
    Ok((manifest, plans))
}
