//! `huskd uninstall`, by the program itself, in a network namespace of its own.

use std::{
    fs,
    path::{Path, PathBuf},
    process::{Command, Output},
};

use rustix::fs::{FlockOperation, fcntl_lock};
use tempfile::TempDir;

/// Configuration, root and state of a huskd that was used and is stopped, with a stranger's file in the root.
struct Node {
    dir: TempDir,
}

impl Node {
    fn used() -> Self {
        let node = Self { dir: tempfile::tempdir().unwrap() };
        for made in ["root/images/layers/1", "root/containers/c/upper", "root/network/ipam", "state/pods"] {
            fs::create_dir_all(node.path(made)).unwrap();
        }
        for file in ["root/lock", "state/lock", "root/images/layers/1/file", "root/theirs"] {
            fs::write(node.path(file), "x").unwrap();
        }
        let config = "[network]\nbridge = \"huskuni0\"\nnft_table = \"huskuni\"\n[cgroup]\nparent = \"/husk-uninstall\"\n";
        fs::write(node.path("husk.toml"), config).unwrap();
        node
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// Runs the program after `before` and prints the links and tables after it, all in a namespace that ends with it.
    fn uninstall(&self, before: &str, flags: &str) -> Output {
        let dir = self.dir.path().display();
        let huskd = env!("CARGO_BIN_EXE_huskd");
        let paths = format!(
            "--config {dir}/husk.toml --root {dir}/root --state {dir}/state --address {dir}/state/husk.sock --cni-conf-dir {dir}/net.d"
        );
        let script = format!(
            "{before} {huskd} {paths} uninstall {flags}; code=$?; ip -o link; nft list tables; exit $code"
        );
        Command::new("unshare").args(["--net", "--mount", "sh", "-c", &script]).output().unwrap()
    }
}

fn texts(output: &Output) -> (String, String) {
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    (text(&output.stdout), text(&output.stderr))
}

/// False, and said so, where namespaces cannot be made.
fn is_root() -> bool {
    let root = rustix::process::geteuid().is_root();
    if !root {
        husk_test_support::skip("root");
    }
    root
}

fn exists(path: &Path) -> bool {
    path.symlink_metadata().is_ok()
}

#[test]
fn what_husk_made_goes_and_what_is_not_husks_stays() {
    if !is_root() {
        return;
    }
    let node = Node::used();
    let before =
        "ip link add huskuni0 type bridge && nft add table inet huskuni && nft add table inet other &&";
    let output = node.uninstall(before, "--yes");
    let (stdout, stderr) = texts(&output);
    assert!(output.status.success(), "{stdout}{stderr}");
    assert!(!stdout.contains("huskuni0:") && stdout.contains("table inet other"), "{stdout}");
    assert!(!stdout.lines().any(|line| line == "table inet huskuni"), "{stdout}");
    assert!(!exists(&node.path("state")), "{stdout}");
    let left: Vec<_> =
        fs::read_dir(node.path("root")).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    assert_eq!(left, ["theirs"], "{stdout}");
}

#[test]
fn without_yes_it_only_says_what_would_go() {
    if !is_root() {
        return;
    }
    let node = Node::used();
    let output = node.uninstall("", "");
    let (stdout, stderr) = texts(&output);
    assert!(output.status.success(), "{stderr}");
    assert!(stdout.contains("root/images") && stdout.contains("huskuni0"), "{stdout}");
    assert!(exists(&node.path("root/images/layers/1/file")) && exists(&node.path("state/lock")));
    assert!(!stdout.contains("huskuni0:"), "no bridge was made to be removed: {stdout}");
}

#[test]
fn it_is_refused_while_a_huskd_has_the_directories() {
    if !is_root() {
        return;
    }
    let node = Node::used();
    let lock = fs::File::options().write(true).open(node.path("root/lock")).unwrap();
    fcntl_lock(&lock, FlockOperation::NonBlockingLockExclusive).unwrap();
    let output = node.uninstall("", "--yes");
    let (stdout, stderr) = texts(&output);
    assert!(!output.status.success() && stderr.contains("huskd runs"), "{stdout}{stderr}");
    assert!(exists(&node.path("root/images/layers/1/file")));
}

#[test]
fn it_is_refused_while_pods_are_on_record() {
    if !is_root() {
        return;
    }
    let node = Node::used();
    fs::create_dir(node.path("state/pods").join("ab".repeat(32))).unwrap();
    let output = node.uninstall("", "--yes");
    let (stdout, stderr) = texts(&output);
    assert!(!output.status.success() && stderr.contains("1 pods are in"), "{stdout}{stderr}");
    assert!(exists(&node.path("root/images/layers/1/file")));
}
