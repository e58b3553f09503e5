//! `husk migrate` on a node of a peer: what it writes is what a huskd serves with, and an image comes by the peer's own mirror.

use std::{fs, path::Path};

use husk_e2e::{Daemon, FakeRegistry, Options, busybox_archive, container, pod, v1};

/// A registry that nobody has: whoever pulls from it asks the mirror.
const REGISTRY: &str = "registry.example";

fn write(root: &Path, file: &str, text: &str) {
    let path = root.join(file);
    fs::create_dir_all(path.parent().expect("a parent")).expect("make a directory of the node");
    fs::write(path, text).expect("write a file of the node");
}

/// Migrates the node below `root` and gives the daemon what was written.
fn migrate(husk: &mut Daemon, peer: &str, root: &Path) {
    let output = husk.path("migrated");
    let [from, to] = [root, &output].map(|path| path.display().to_string());
    husk.husk(&["migrate", peer, "--write", "--root", &from, "--output", &to]).success();
    husk.stop();
    // Below `output` is what would be below `/`.
    let written = fs::read_to_string(output.join("etc/husk/husk.toml")).expect("a configuration");
    let drop_ins = husk.path("husk.toml.d");
    write(&drop_ins, "10-migrated.toml", &written);
    // The test's daemon has its registries here.
    fs::rename(output.join("etc/husk/certs.d"), husk.path("certs.d")).expect("registries");
    let driver = format!("[cgroup]\ndriver = {:?}\n", husk.cgroup_driver().name());
    write(&drop_ins, "20-here.toml", &driver);
    husk.spawn();
}

/// A pod runs on an image that only the mirror has.
fn works(husk: &Daemon) {
    let image = Some(v1::ImageSpec { image: format!("{REGISTRY}/library/busybox:1"), ..Default::default() });
    let request = v1::PullImageRequest { image: image.clone(), ..Default::default() };
    husk.cri().pull_image(request).expect("the mirror has it");
    let config = pod("migrated", &husk.path("logs"));
    let pod_id = husk.cri().run_pod(&config).expect("a pod");
    let id = husk.cri().run(&pod_id, &config, &v1::ContainerConfig { image, ..container("main") });
    assert_eq!(husk.cri().exec(&id, &["echo", "alive"]).expect("a command").1, "alive\n");
}

fn node_of(peer: &str, files: impl Fn(&str) -> Vec<(&'static str, String)>) {
    let mut husk = Daemon::with(Options { without_image: true, ..Options::default() });
    let registry = FakeRegistry::serve("library/busybox", "1", &busybox_archive(), |_| {});
    let root = husk.path("node");
    for (file, text) in files(&registry.host()) {
        write(&root, file, &text);
    }
    migrate(&mut husk, peer, &root);
    works(&husk);
}

#[test]
fn a_node_of_containerd_2_with_a_directory_of_registries() {
    node_of("containerd", |mirror| {
        let config = "version = 3\n[plugins.'io.containerd.cri.v1.images'.registry]\n  config_path = '/etc/containerd/certs.d'\n\
             [plugins.'io.containerd.cri.v1.runtime']\n  max_container_log_line_size = 16384\n";
        let hosts = format!(
            "server = \"https://{REGISTRY}\"\n[host.\"http://{mirror}\"]\n  capabilities = [\"pull\", \"resolve\"]\n"
        );
        vec![
            ("etc/containerd/config.toml", config.to_owned()),
            ("etc/containerd/certs.d/registry.example/hosts.toml", hosts),
        ]
    });
}

#[test]
fn a_node_of_containerd_1_with_mirrors_in_its_configuration() {
    node_of("containerd", |mirror| {
        let config = format!(
            "version = 2\n[plugins.\"io.containerd.grpc.v1.cri\".registry.mirrors.\"{REGISTRY}\"]\n  endpoint = [\"http://{mirror}\"]\n"
        );
        vec![("etc/containerd/config.toml", config)]
    });
}

#[test]
fn a_node_of_cri_o_with_mirrors_of_containers_registries_conf() {
    node_of("crio", |mirror| {
        let crio = "[crio.runtime]\ncgroup_manager = \"cgroupfs\"\nconmon_cgroup = \"pod\"\n[crio.image]\npause_image = \"registry.k8s.io/pause:3.10\"\n";
        let registries = format!(
            "[[registry]]\nlocation = \"{REGISTRY}\"\n[[registry.mirror]]\nlocation = \"{mirror}\"\ninsecure = true\n"
        );
        vec![
            ("etc/crio/crio.conf", crio.to_owned()),
            ("etc/containers/registries.conf", registries),
            (
                "etc/containers/policy.json",
                "{\"default\": [{\"type\": \"insecureAcceptAnything\"}]}".to_owned(),
            ),
        ]
    });
}
