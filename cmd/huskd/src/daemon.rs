//! The daemon's life: start-up in order, serving, a stop that leaves the pods running.

use std::{
    error::Error,
    sync::Arc,
    time::{Duration, Instant},
};

use husk_config::{Config, LogFormat};
use husk_cri::StreamedContainers;
use husk_images::{ImageError, ImageStore, RegistriesConf};
use husk_model::{ContainerState, ContainerStatus, PodState, PodStatus};
use husk_network::Network;
use husk_pods::{Engine, EngineConfig, Hang, MonitorConfig};
use husk_streaming::{StreamingConfig, StreamingServer, TlsFiles};
use husk_telemetry::{LogHandle, LogShape, Metrics};
use tokio::{
    signal::unix::{SignalKind, signal},
    sync::watch,
};
use tracing::{info, warn};

use crate::{
    cgroup, cli::Cli, directories, doctor::Doctor, images::StoreImages, nri, reload::Reload, serve, socket,
    systemd,
};

type Result<T> = std::result::Result<T, Box<dyn Error>>;

/// RPCs are short and I/O goes to blocking threads: two workers serve a full node.
const WORKERS: usize = 2;
/// A blocking thread that has had nothing to do for this long ends, and gives back its stack.
const THREAD_KEEP_ALIVE: Duration = Duration::from_secs(5);

/// Runs until SIGTERM or SIGINT.
pub(crate) fn run(cli: &Cli, config: Config) -> Result<()> {
    let shape = match config.log.format {
        LogFormat::Text => LogShape::Text,
        LogFormat::Json => LogShape::Json,
    };
    let log = husk_telemetry::init(&config.log.level, shape)?;
    let threads = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(WORKERS)
        .thread_keep_alive(THREAD_KEEP_ALIVE)
        .enable_all()
        .build()?;
    threads.block_on(serve(cli, config, log))?;
    // Tasks in progress are cut off: what they had not finished, the next start finishes or undoes.
    threads.shutdown_background();
    Ok(())
}

async fn serve(cli: &Cli, config: Config, log: LogHandle) -> Result<()> {
    let _lock = directories::prepare(&config)?;
    let listener = socket::listen(&config.address)?;
    for program in [&config.runtime.podmon, &config.runtime.pause] {
        std::fs::metadata(program).map_err(|error| format!("{}: {error}", program.display()))?;
    }
    let metrics = Arc::new(Metrics::new(env!("CARGO_PKG_VERSION")));
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
    let containers = Arc::new(StreamedContainers(Arc::clone(&engine)));
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
    systemd::notify(sd_notify::NotifyState::Stopping);
    network.shutdown();
    info!("huskd ends; pods keep running");
    Ok(())
}

/// How long a process that a killed daemon was starting may hold that daemon's descriptors, between its fork and its exec.
const HEIR_PATIENCE: Duration = Duration::from_secs(2);

/// Checks the files that the configuration names and that huskd reads later.
pub(crate) fn check(config: &Config) -> Result<()> {
    registries(config)?;
    match &config.images.signature_policy {
        Some(policy) => Ok(ImageStore::check_policy(policy)?),
        None => Ok(()),
    }
}

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

pub(crate) fn images_config(config: &Config) -> Result<husk_images::ImagesConfig> {
    Ok(husk_images::ImagesConfig {
        registry_config_dir: config.images.registry_config_dir.clone(),
        registries: registries(config)?,
        max_parallel_layers: config.images.max_parallel_layers,
        pull_progress_timeout: config.images.pull_progress_timeout,
        signature_policy: config.images.signature_policy.clone(),
        auth_file: config.images.auth_file.clone(),
        credential_helper_dir: config.images.credential_helper_dir.clone(),
        pinned_images: config.images.pinned_images.clone(),
    })
}

/// The registries.conf that the configuration names, if any, with its mistakes.
pub(crate) fn registries(config: &Config) -> Result<Option<Arc<RegistriesConf>>> {
    let path = config.images.registries_conf.as_deref();
    Ok(path.map(RegistriesConf::load).transpose()?.map(Arc::new))
}

/// The pod network that the configuration asks for.
pub(crate) fn network_config(config: &Config) -> husk_network::NetworkConfig {
    let wanted = &config.network;
    let mut network = husk_network::NetworkConfig::new(&config.root, &config.state);
    let default = husk_network::BridgeConfig::default().subnet;
    network.choose_subnet = wanted.subnet.is_none();
    network.bridge = husk_network::BridgeConfig {
        name: wanted.bridge.clone(),
        subnet: wanted.subnet.unwrap_or(default),
        subnet6: wanted.subnet6,
        mtu: wanted.mtu,
        table: wanted.nft_table.clone(),
        former: Vec::new(),
    };
    network.cni_conf_dir.clone_from(&wanted.cni_conf_dir);
    network.cni_bin_dirs = vec![wanted.cni_bin_dir.clone()];
    network.netns_pool = wanted.netns_pool;
    network
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
fn stop_signal(mut reload: Reload) -> Result<impl Future<Output = ()> + use<>> {
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
