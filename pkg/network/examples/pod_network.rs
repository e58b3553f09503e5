//! Measures the embedded network: namespace, setup and teardown of pods one after another, on a node made of a private
//! network namespace. Run as root: `cargo run --release -p husk-network --example pod_network [pods]`.
#![forbid(unsafe_code)]

use std::{
    collections::BTreeMap,
    path::Path,
    time::{Duration, Instant},
};

use husk_model::PodSandboxId;
use husk_network::{Network, NetworkConfig, PodNetworkRequest};

/// Between pods, so that the pool and the kernel's clean-up keep pace, as they do on a node that is not a benchmark.
const PACE: Duration = Duration::from_millis(40);

fn main() -> Result<(), Box<dyn std::error::Error + Send + Sync>> {
    let pods = std::env::args().nth(1).map_or(Ok(200), |text| text.parse())?;
    // As on a node: what is short-lived on tmpfs, what outlives a reboot on the disk.
    let name = format!("husk-network-{}", std::process::id());
    let (root, state) = (std::env::temp_dir().join(&name), Path::new("/run").join(&name));
    let (_ns, measured) = husk_sys::netns::create(|| {
        let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
        runtime.block_on(measure(&root, &state, pods))
    })?;
    std::fs::remove_dir_all(&root)?;
    std::fs::remove_dir_all(&state)?;
    measured
}

async fn measure(
    root: &Path,
    state: &Path,
    pods: usize,
) -> Result<(), Box<dyn std::error::Error + Send + Sync>> {
    let mut config = NetworkConfig::new(root, state);
    config.cni_conf_dir = root.join("net.d");
    let netns_dir = config.netns_dir();
    let network = Network::start(config).await?;
    let mut figures: BTreeMap<&str, Vec<Duration>> = BTreeMap::new();
    for _ in 0..pods {
        tokio::time::sleep(PACE).await;
        let id = PodSandboxId::generate();
        let netns = netns_dir.join(id.as_str());
        let request = PodNetworkRequest::new(id, netns, &husk_test_support::pod("pod"));
        let mut record = |what, since: Instant| figures.entry(what).or_default().push(since.elapsed());
        let begin = Instant::now();
        network.create_netns(&request.netns).await?;
        record("1 create_netns", begin);
        let setup = Instant::now();
        network.setup(&request).await?;
        record("2 setup", setup);
        record("3 create_netns + setup", begin);
        let begin = Instant::now();
        network.teardown(&request.id).await?;
        record("4 teardown", begin);
        let unpin = Instant::now();
        network.remove_netns(&request.netns).await?;
        record("5 remove_netns", unpin);
        record("6 teardown + remove_netns", begin);
    }
    println!("{pods} pods, microseconds          p50     p95     max");
    for (what, mut durations) in figures {
        durations.sort();
        let at = |percent: usize| durations[(durations.len() - 1) * percent / 100].as_micros();
        println!("{:<28}{:>7}{:>8}{:>8}", &what[2..], at(50), at(95), at(100));
    }
    Ok(())
}
