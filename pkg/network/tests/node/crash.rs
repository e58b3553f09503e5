//! kill -9 at any moment: a child sets pods up and tears them down as fast as it can until it is killed; whoever comes
//! next must find and free everything.

use std::{
    collections::HashSet,
    path::PathBuf,
    process::{Child, Command, Stdio},
    time::Duration,
};

use husk_network::Network;

use crate::common::{Node, eventually, host_port, list, on_a_node};

const DIR: &str = "HUSK_TEST_CRASH_DIR";

/// Moments of death after the child's first pod, spread over several rounds of its work.
const MOMENTS: [u64; 10] = [0, 1, 2, 3, 5, 7, 11, 17, 29, 43];

/// This binary again, running [`child`] in the namespaces of the caller.
fn spawn(node: &Node) -> Child {
    Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "crash::child", "--ignored", "--test-threads=1"])
        .env(DIR, &node.dir)
        .stdout(Stdio::null())
        .spawn()
        .unwrap()
}

#[test]
#[ignore = "run by the test below, in a process of its own that gets killed"]
fn child() {
    let Some(dir) = std::env::var_os(DIR) else { return };
    let node = Node { dir: PathBuf::from(dir) };
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    runtime.block_on(async {
        let network = Network::start(node.config()).await.unwrap();
        let worker = async |number: u16| loop {
            let pod = node.pod(&network, &[host_port(12000 + number, 80)]).await;
            pod.remove(&network).await;
        };
        tokio::join!(worker(0), worker(1), worker(2));
    });
}

#[test]
fn whatever_the_moment_of_death_gc_frees_everything() {
    on_a_node(|node| async move {
        for moment in MOMENTS {
            let mut child = spawn(&node);
            eventually("the child works", || !node.records().is_empty()).await;
            // The moment of death itself: no event would be as careless of what the child is about to do.
            tokio::time::sleep(Duration::from_millis(moment)).await;
            child.kill().unwrap();
            child.wait().unwrap();

            let network = node.network().await;
            let report = network.gc(&HashSet::new()).await;
            assert_eq!(report.failures, Vec::<String>::new(), "killed after {moment} ms");
            assert_eq!(node.reservations(), Vec::<String>::new(), "killed after {moment} ms");
            assert_eq!(node.records(), Vec::<String>::new(), "killed after {moment} ms");
            assert_eq!(list(&node.dir.join("state/netns")), Vec::<String>::new(), "killed after {moment} ms");
            assert_eq!(node.elements(), 0, "killed after {moment} ms");
            eventually("no veth is left", || node.veths() == 0).await;
            let pod = node.pod(&network, &[host_port(12000, 80)]).await;
            pod.remove(&network).await;
        }
    });
}
