//! The daemon's life: start-up in order, serving, a stop that leaves the pods running.

use std::{
    error::Error,
    sync::Arc,
    time::{Duration, Instant},
};

use husk_config::{Config, LogFormat, TracingConfig};
use husk_cri::StreamedContainers;
use husk_images::{ImageError, ImageStore};
use husk_model::{ContainerState, ContainerStatus, Door, PodState, PodStatus};
use husk_network::Network;
use husk_pods::{Engine, EngineConfig, Hang, MonitorConfig};
use husk_streaming::{StreamingConfig, StreamingServer, TlsFiles};
use husk_telemetry::{
    LogHandle, LogShape, Metrics,
    traces::{Exporter, TracesConfig, traces},
};
use tokio::{
    signal::unix::{SignalKind, signal},
    sync::watch,
};
use tracing::{info, warn};

use crate::{
    cgroup,
    cli::Cli,
    directories, docker,
    doctor::Doctor,
    images::StoreImages,
    nri,
    reload::Reload,
    serve,
    settings::{check, images_config, network_config},
    socket, systemd,
};

type Result<T> = std::result::Result<T, Box<dyn Error>>;

/// RPCs are short and I/O goes to blocking threads: two workers serve a full node.
const WORKERS: usize = 2;
/// A blocking thread that has had nothing to do for this long ends, and gives back its stack.
const THREAD_KEEP_ALIVE: Duration = Duration::from_secs(5);
/// How long the collector may take for what is left at the end: nobody answers the kubelet meanwhile.
const LAST_SPANS: Duration = Duration::from_secs(1);

/// Runs until SIGTERM or SIGINT.
pub(crate) fn run(cli: &Cli, config: Config) -> Result<()> {
    let shape = match config.log.format {
        LogFormat::Text => LogShape::Text,
        LogFormat::Json => LogShape::Json,
    };
    let metrics = Arc::new(Metrics::new(env!("CARGO_PKG_VERSION")));
    let traces = config.tracing.as_ref().map(|wanted| traces(&traces_config(wanted), &metrics.spans));
    let (recorder, exporter) = traces.transpose()?.unzip();
    let log = husk_telemetry::init(&config.log.level, shape, recorder)?;
    let threads = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(WORKERS)
        .thread_keep_alive(THREAD_KEEP_ALIVE)
        .enable_all()
        .build()?;
    threads.block_on(traced(exporter, serve(cli, config, log, metrics)))?;
    // Tasks in progress are cut off: what they had not finished, the next start finishes or undoes.
    threads.shutdown_background();
    Ok(())
}

/// Serves, with the spans of its calls on their way to the collector; those of the last calls have a moment.
async fn traced(exporter: Option<Exporter>, serving: impl Future<Output = Result<()>>) -> Result<()> {
    let flush = exporter.map(Exporter::start);
    let served = serving.await;
    if let Some(flush) = flush {
        flush.within(LAST_SPANS).await;
    }
    served
}

fn traces_config(wanted: &TracingConfig) -> TracesConfig {
    TracesConfig {
        endpoint: wanted.endpoint.clone(),
        ca: wanted.tls_ca.clone(),
        per_million: wanted.sampling_rate_per_million,
        version: env!("CARGO_PKG_VERSION"),
    }
}

async fn serve(cli: &Cli, config: Config, log: LogHandle, metrics: Arc<Metrics>) -> Result<()> {
    let _lock = directories::prepare(&config)?;
    let listener = socket::listen(&config.address)?;
    for program in [&config.runtime.podmon, &config.runtime.pause] {
        std::fs::metadata(program).map_err(|error| format!("{}: {error}", program.display()))?;
    }
    let images = open_images(&config).await?;
    let network = Network::start(network_config(&config)).await?;
    let recovered = Engine::recover(
        engine_config(&config).await?,
        Arc::new(StoreImages(Arc::clone(&images))),
        Arc::clone(&network),
    )
    .await?;
    let collected = recovered.collect(images.collect()).await?;
    let engine = match &config.nri {
        Some(nri) => nri::start(nri, collected).await?,
        None => collected.without_plugins(),
    };
    let containers = Arc::new(StreamedContainers(engine.through(Door::Cri)));
    let streaming = Arc::new(StreamingServer::start(streaming_config(&config), containers).await?);
    if let Some(address) = config.metrics_address {
        let engine = Arc::clone(&engine);
        let refresh = move |metrics: &Metrics| {
            let ready = |pod: &&Arc<PodStatus>| pod.state == PodState::Ready;
            metrics.pods.set(engine.list_pods().iter().filter(ready).count() as u64);
            let running =
                |container: &&Arc<ContainerStatus>| matches!(container.state, ContainerState::Running { .. });
            metrics.containers.set(engine.list_containers().iter().filter(running).count() as u64);
        };
        husk_telemetry::serve(address, Arc::clone(&metrics), refresh)
            .await
            .map_err(|error| format!("metrics.address {address}: {error}"))?;
    }
    let doctor = Arc::new(Doctor::new(Arc::clone(&engine), Arc::clone(&images), Arc::clone(&metrics)));
    let (rounds, doctor_config) = watch::channel(config.doctor.clone());
    tokio::spawn(Arc::clone(&doctor).make_rounds(doctor_config));
    let (cli, images_again) = (cli.clone(), Arc::clone(&images));
    let stop =
        stop_signal(Reload { cli, config: config.clone(), log, images: images_again, doctor: rounds })?;
    let (docker, stop) = match &config.docker {
        Some(wanted) => {
            let parts = docker::parts(&config, wanted, (&engine, &images, &network));
            let (door, stop) = docker::open(wanted, parts, stop).await?;
            (Some(door), stop)
        }
        None => (None, Box::pin(stop) as docker::Stop),
    };
    let watched = Arc::clone(&engine);
    systemd::pat_watchdog(move || drop(watched.list_pods()));
    systemd::notify(sd_notify::NotifyState::Ready);
    info!(address = %config.address.display(), version = env!("CARGO_PKG_VERSION"), "husk serves");
    serve::serve(
        listener,
        &config,
        serve::Parts { engine, images, network: Arc::clone(&network), metrics, streaming, doctor },
        stop,
    )
    .await?;
    if let Some(door) = docker {
        // It was told together with the CRI's server, and has as long.
        let _ended = door.await;
    }
    systemd::notify(sd_notify::NotifyState::Stopping);
    network.shutdown();
    info!("huskd ends; pods keep running");
    Ok(())
}

/// How long a process that a killed daemon was starting may hold that daemon's descriptors, between its fork and its exec.
const HEIR_PATIENCE: Duration = Duration::from_secs(2);

/// Opens the images. That no other daemon has them is known from the lock on the directory; so whoever has them open is about to
/// let go. There is no event for that.
async fn open_images(config: &Config) -> Result<Arc<ImageStore>> {
    check(config)?;
    let deadline = Instant::now() + HEIR_PATIENCE;
    let images = images_config(config)?;
    loop {
        match ImageStore::open(&config.root, images.clone()) {
            Err(ImageError::Locked { .. }) if Instant::now() < deadline => {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
            opened => return Ok(opened?),
        }
    }
}

fn streaming_config(config: &Config) -> StreamingConfig {
    let wanted = &config.streaming;
    StreamingConfig {
        address: wanted.address,
        tls: wanted.tls.clone().map(|files| TlsFiles {
            certificate: files.certificate,
            key: files.key,
            client_ca: files.client_ca,
        }),
        idle_timeout: wanted.idle_timeout,
        creation_timeout: wanted.creation_timeout,
        max_sessions: wanted.max_sessions,
    }
}

async fn engine_config(config: &Config) -> Result<EngineConfig> {
    let cgroup_driver = cgroup::driver(config).await?;
    Ok(EngineConfig {
        root: config.root.clone(),
        state: config.state.clone(),
        monitor: MonitorConfig {
            podmon_path: config.runtime.podmon.clone(),
            pause_path: config.runtime.pause.clone(),
            nofile_soft: raise_open_files(),
        },
        cgroup_parent: cgroup::parent(config, &cgroup_driver)?,
        cgroup_driver,
        cdi_dirs: config.runtime.cdi_dirs.clone(),
        unprivileged_ports: config.runtime.unprivileged_ports,
        unprivileged_icmp: config.runtime.unprivileged_icmp,
        hang: Hang::default(),
    })
}

/// Raises our limit of open files to the hard one: a descriptor per pod and client does not fit into the usual 1024. Returns the
/// former soft limit, which is the containers' (programs that use select(2) cannot have more).
fn raise_open_files() -> Option<u64> {
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
    let limit = getrlimit(Resource::Nofile);
    if let Err(errno) = setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, maximum: limit.maximum })
    {
        warn!(%errno, "cannot raise the limit of open files");
    }
    limit.current
}

/// Resolves at SIGTERM or SIGINT; SIGHUP reads the configuration again and never ends the daemon.
fn stop_signal(mut reload: Reload) -> Result<impl Future<Output = ()> + Send + use<>> {
    let (mut terminate, mut interrupt, mut hang_up) =
        (signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?, signal(SignalKind::hangup())?);
    Ok(async move {
        loop {
            tokio::select! {
                _ = terminate.recv() => return,
                _ = interrupt.recv() => return,
                _ = hang_up.recv() => reload.run(),
            }
        }
    })
}
