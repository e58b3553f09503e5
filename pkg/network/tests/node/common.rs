//! A node to test on: a thread in a network and mount namespace of its own, so that nothing reaches the real one, with
//! directories that go away with the test.

use std::{
    future::Future,
    io::{Read, Write},
    net::{IpAddr, SocketAddr, TcpListener, TcpStream},
    os::fd::AsFd,
    path::{Path, PathBuf},
    process::Command,
    sync::Arc,
    thread::JoinHandle,
    time::Duration,
};

use husk_model::{HostPort, PodConfig, PodSandboxId, Protocol};
use husk_network::{Network, NetworkConfig, PodNetwork, PodNetworkRequest};

/// Patience of a test with what should take milliseconds.
pub const PATIENCE: Duration = Duration::from_secs(20);

/// Runs `test` on a fresh node, or skips loudly.
pub fn on_a_node<F, T>(test: F)
where
    F: FnOnce(Node) -> T + Send + 'static,
    T: Future<Output = ()>,
{
    if !rustix::process::geteuid().is_root() {
        husk_test_support::skip("root");
        return;
    }
    let (_ns, ()) = husk_sys::netns::create(|| {
        private_mounts();
        run("ip", &["link", "set", "lo", "up"]);
        // Threads of the runtime are made from this one and so live in its namespace.
        let runtime =
            tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
        let dir = tempfile::tempdir().unwrap();
        let node = Node { dir: dir.path().to_owned() };
        runtime.block_on(test(node));
        runtime.shutdown_timeout(Duration::from_secs(5));
        // A pin that a failed test left is busy until this mount namespace ends.
        unpin_all(&dir.path().join("state/netns"));
    })
    .unwrap();
}

fn unpin_all(dir: &Path) {
    for entry in std::fs::read_dir(dir).into_iter().flatten() {
        let _ = husk_sys::netns::unpin(&entry.unwrap().path());
    }
}

fn private_mounts() {
    use rustix::mount::{MountPropagationFlags, mount_change};
    // Deprecated for what CLONE_FILES would do; this is CLONE_NEWNS.
    #[allow(deprecated)]
    rustix::thread::unshare(rustix::thread::UnshareFlags::NEWNS).unwrap();
    mount_change("/", MountPropagationFlags::PRIVATE | MountPropagationFlags::REC).unwrap();
}

/// Hides a program of the real machine from this node.
pub fn hide(program: &str) {
    rustix::mount::mount_bind("/dev/null", program).unwrap();
}

/// The directories of the node under test.
pub struct Node {
    pub dir: PathBuf,
}

impl Node {
    pub fn config(&self) -> NetworkConfig {
        let mut config = NetworkConfig::new(self.dir.join("root"), self.dir.join("state"));
        config.cni_conf_dir = self.dir.join("net.d");
        config.cni_bin_dirs = vec![self.dir.join("bin")];
        config.bridge.name = "huskt0".into();
        config.bridge.subnet = "10.77.0.0/24".parse().unwrap();
        config.bridge.table = "husktest".into();
        config.netns_pool = 2;
        config
    }

    pub async fn network(&self) -> Arc<Network> {
        let network = Network::start(self.config()).await.unwrap();
        assert!(network.status().ready, "{:?}", network.status());
        network
    }

    pub fn netns(&self, id: &PodSandboxId) -> PathBuf {
        self.dir.join("state/netns").join(id.as_str())
    }

    pub fn request(&self, ports: &[HostPort]) -> PodNetworkRequest {
        let id = PodSandboxId::generate();
        let pod = PodConfig { host_ports: ports.to_vec(), ..husk_test_support::pod("pod") };
        PodNetworkRequest::new(id.clone(), self.netns(&id), &pod)
    }

    pub async fn pod(&self, network: &Arc<Network>, ports: &[HostPort]) -> Pod {
        let request = self.request(ports);
        network.create_netns(&request.netns).await.unwrap();
        let made = network.setup(&request).await.unwrap();
        Pod { request, network: made }
    }

    /// Names of all links of the node.
    pub fn links(&self) -> Vec<String> {
        output("ip", &["-o", "link"])
            .lines()
            .filter_map(|line| Some(line.split(": ").nth(1)?.split('@').next()?.to_owned()))
            .collect()
    }

    pub fn veths(&self) -> usize {
        self.links().iter().filter(|name| name.starts_with("husk") && name.len() == 15).count()
    }

    /// Files in the reservations directory that are addresses.
    pub fn reservations(&self) -> Vec<String> {
        list(&self.dir.join("root/network/ipam/huskt0"))
            .into_iter()
            .filter(|name| name.parse::<IpAddr>().is_ok())
            .collect()
    }

    pub fn records(&self) -> Vec<String> {
        list(&self.dir.join("root/network/pods"))
    }

    pub fn elements(&self) -> usize {
        output("nft", &["list", "table", "inet", "husktest"]).matches(" : 10.77.").count()
    }
}

pub fn list(dir: &Path) -> Vec<String> {
    let mut names: Vec<String> = std::fs::read_dir(dir)
        .into_iter()
        .flatten()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort();
    names
}

/// A pod that has its network.
#[derive(Debug)]
pub struct Pod {
    pub request: PodNetworkRequest,
    pub network: PodNetwork,
}

impl Pod {
    pub fn id(&self) -> &PodSandboxId {
        &self.request.id
    }

    pub fn ip(&self) -> IpAddr {
        self.network.ips[0]
    }

    /// Runs `work` inside.
    pub fn inside<T: Send>(&self, work: impl FnOnce() -> T + Send) -> T {
        let ns = husk_sys::netns::open(&self.request.netns).unwrap();
        husk_sys::netns::with(ns.as_fd(), work).unwrap()
    }

    /// Serves one connection: answers with the address of the caller, then ends.
    pub fn serve(&self, address: &str) -> JoinHandle<()> {
        let listener = self.inside(|| bind(address));
        std::thread::spawn(move || {
            let (mut stream, peer) = listener.accept().unwrap();
            stream.write_all(peer.ip().to_string().as_bytes()).unwrap();
        })
    }

    pub fn call(&self, address: SocketAddr) -> std::io::Result<String> {
        self.inside(|| call(address))
    }

    pub async fn remove(&self, network: &Arc<Network>) {
        network.teardown(self.id()).await.unwrap();
        network.remove_netns(&self.request.netns).await.unwrap();
    }
}

/// Listens on `address`. A program that another test starts holds our descriptors between its fork and its exec, so the port
/// of a listener that was just dropped may be taken for a moment longer.
fn bind(address: &str) -> TcpListener {
    husk_test_support::eventually("the address is free", PATIENCE, || match TcpListener::bind(address) {
        Err(error) if error.kind() == std::io::ErrorKind::AddrInUse => None,
        result => Some(result.unwrap()),
    })
}

/// Connects and returns what the server says: the address it sees the caller under.
pub fn call(address: SocketAddr) -> std::io::Result<String> {
    let mut stream = TcpStream::connect_timeout(&address, Duration::from_secs(3))?;
    stream.set_read_timeout(Some(Duration::from_secs(3)))?;
    let mut text = String::new();
    stream.read_to_string(&mut text)?;
    Ok(text)
}

pub fn host_port(host_port: u16, container_port: u16) -> HostPort {
    HostPort { protocol: Protocol::Tcp, container_port, host_port, host_ip: None }
}

pub fn run(program: &str, args: &[&str]) {
    let status = Command::new(program).args(args).status().unwrap();
    assert!(status.success(), "{program} {args:?}: {status}");
}

pub fn output(program: &str, args: &[&str]) -> String {
    String::from_utf8(Command::new(program).args(args).output().unwrap().stdout).unwrap()
}

/// Waits until `done` holds, which the kernel or a background task brings about in its own time.
pub async fn eventually(what: &str, mut done: impl FnMut() -> bool) {
    let done = || done().then_some(());
    husk_test_support::eventually_with(tokio::time::sleep, what, PATIENCE, done).await;
}
