//! `husk migrate` on a node of a peer: what it writes is what a huskd serves with, and an image comes by the peer's own mirror.

use std::{fs, path::Path, process::Command};

use husk_e2e::{
    BUSYBOX, Containerd, Daemon, FakeRegistry, Options, busybox_archive, container, pod, run, tool, v1,
};

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
    let name = format!("{REGISTRY}/library/busybox:1");
    let image = Some(v1::ImageSpec { image: name.clone(), ..Default::default() });
    let request = v1::PullImageRequest { image, ..Default::default() };
    husk.cri().pull_image(request).expect("the mirror has it");
    runs(husk, &name);
}

/// A pod runs on this image.
fn runs(husk: &Daemon, name: &str) {
    let image = Some(v1::ImageSpec { image: name.to_owned(), ..Default::default() });
    let config = pod("migrated", &husk.path("logs"));
    let pod_id = husk.cri().run_pod(&config).expect("a pod");
    let id = husk.cri().run(&pod_id, &config, &v1::ContainerConfig { image, ..container("main") });
    assert_eq!(husk.cri().exec(&id, &["echo", "alive"]).expect("a command").1, "alive\n");
    husk.crictl(&["rmp", "--force", &pod_id]).success();
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

/// What of a sample's configuration names things that this machine has not, or that other daemons here use too.
fn of_this_node(husk: &Daemon, root: &Path, output: &Path) -> String {
    let mut text = format!(
        "[cgroup]\ndriver = {:?}\n[nri]\nsocket = {:?}\n[streaming]\naddress = \"127.0.0.1:0\"\ntls_certificate = \"\"\ntls_key = \"\"\n\
         [metrics]\naddress = \"127.0.0.1:0\"\n",
        husk.cgroup_driver().name(),
        husk.path("nri.sock")
    );
    let credentials = [output.join("etc/husk/auth.json"), root.join("etc/crio/pull-secret.json")];
    if let Some(file) = credentials.iter().find(|file| file.exists()) {
        text.push_str(&format!("[images]\nauth_file = {file:?}\n"));
    }
    text
}

/// The configurations that pkg/migrate's own tests read: the peers' defaults, and nodes that people described in public issues.
#[test]
fn every_sample_of_a_peers_node_becomes_a_node_that_runs_pods() {
    let samples = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../pkg/migrate/tests/samples");
    let mut names: Vec<_> =
        fs::read_dir(samples).expect("the samples").map(|entry| entry.expect("a sample").path()).collect();
    names.sort();
    assert!(names.len() >= 8, "{names:?}");
    let mut husk = Daemon::start();

    for root in names {
        let name = root.file_name().expect("a name").to_string_lossy().into_owned();
        let peer = if name.starts_with("crio") { "crio" } else { "containerd" };
        let output = husk.path(&format!("migrated-{name}"));
        let [from, to] = [&root, &output].map(|path| path.display().to_string());
        husk.husk(&["migrate", peer, "--write", "--root", &from, "--output", &to]).success();
        husk.stop();
        let drop_ins = husk.path("husk.toml.d");
        let _ = fs::remove_dir_all(&drop_ins);
        let written = fs::read_to_string(output.join("etc/husk/husk.toml")).expect("a configuration");
        write(&drop_ins, "10-migrated.toml", &written);
        write(&drop_ins, "20-here.toml", &of_this_node(&husk, &root, &output));
        let registries = husk.path("certs.d");
        let _ = fs::remove_dir_all(&registries);
        if output.join("etc/husk/certs.d").exists() {
            fs::rename(output.join("etc/husk/certs.d"), &registries).expect("registries");
        }
        husk.spawn();
        println!("{name}");
        runs(&husk, BUSYBOX);
    }
}

/// A registry with one image; what is named after it can be pulled only while it lives.
fn registry() -> FakeRegistry {
    FakeRegistry::serve("library/busybox", "1", &busybox_archive(), |_| {})
}

fn pull(cri: &husk_e2e::Cri, name: &str) {
    let image = Some(v1::ImageSpec { image: name.to_owned(), ..Default::default() });
    cri.pull_image(v1::PullImageRequest { image, ..Default::default() }).expect("the registry has it");
}

#[test]
fn a_registries_conf_that_is_kept_is_what_huskd_pulls_by() {
    let mut husk = Daemon::with(Options { without_image: true, ..Options::default() });
    let registry = registry();
    // What migrate would write points to /etc/containers; the test has its own.
    let conf = husk.path("registries.conf");
    let text = format!(
        "unqualified-search-registries = [\"{REGISTRY}\"]\n[[registry]]\nprefix = \"{REGISTRY}\"\nlocation = \"{}/library\"\n\
         [[registry]]\nlocation = \"{REGISTRY}/secret\"\nblocked = true\n",
        registry.host()
    );
    fs::write(&conf, text).expect("write registries.conf");
    husk.stop();
    write(
        &husk.path("husk.toml.d"),
        "10-registries.toml",
        &format!("[images]\nregistries_conf = {:?}\n", conf.display().to_string()),
    );
    husk.spawn();
    // The short name is searched, found there, and reported by what was asked for.
    pull(husk.cri(), "busybox:1");
    let image = Some(v1::ImageSpec { image: "busybox:1".to_owned(), ..Default::default() });
    let status = husk.cri().image_status(v1::ImageStatusRequest { image, ..Default::default() });
    let found = status.expect("a status").image.expect("the image by its short name");
    assert_eq!(found.repo_tags, [format!("{REGISTRY}/busybox:1")]);
    let image = Some(v1::ImageSpec { image: format!("{REGISTRY}/secret/x:1"), ..Default::default() });
    let refused =
        husk.cri().pull_image(v1::PullImageRequest { image, ..Default::default() }).expect_err("blocked");
    assert!(refused.message().contains("is blocked by"), "{refused}");
    runs(&husk, "busybox:1");
}

#[test]
fn images_of_a_containerd_that_is_stopped_are_taken_over_and_run_without_a_registry() {
    let registry = registry();
    let host = registry.host();
    let name = format!("{host}/library/busybox:1");
    // It does not fetch a layer again that it has unpacked of another image.
    let mut containerd = Containerd::without_images();
    containerd.allow_plain(&host);
    pull(containerd.cri(), &name);
    let husk = Daemon::with(Options { without_image: true, ..Options::default() });
    let root = containerd.path("root").display().to_string();
    let arguments = ["image", "import", "--from", "containerd", "--root", &root];
    let refused = husk.husk(&arguments).failure();
    assert!(refused.contains("stop containerd"), "{refused}");
    containerd.stop();
    drop(registry);
    let taken = husk.husk(&[&arguments[..], &[&name]].concat()).success();
    assert!(taken.contains(&name), "{taken}");
    let listed = husk.crictl(&["images", "--digests"]).success();
    assert!(listed.contains(&format!("{host}/library/busybox")), "{listed}");
    runs(&husk, &name);
    containerd.spawn();
    let images = containerd.cri().list_images(v1::ListImagesRequest::default()).expect("its images").images;
    assert!(images.iter().any(|image| image.repo_tags.contains(&name)), "containerd has its image still");
}

#[test]
fn images_of_containers_storage_are_taken_over_and_run_without_a_registry() {
    let skopeo = tool("skopeo");
    let registry = registry();
    let name = format!("{}/library/busybox:1", registry.host());
    let husk = Daemon::with(Options { without_image: true, ..Options::default() });
    let (store, state) = (husk.path("cs"), husk.path("cs-run"));
    for driver in ["overlay", "vfs"] {
        let root = store.join(driver);
        let to = format!("containers-storage:[{driver}@{}+{}]{name}", root.display(), state.display());
        let mut command = Command::new(&skopeo);
        command.args([
            "--insecure-policy",
            "copy",
            "--src-tls-verify=false",
            &format!("docker://{name}"),
            &to,
        ]);
        run(&mut command).success();
    }
    drop(registry);
    // The library mounts the driver's directory on itself, privately, and leaves that to the next boot.
    run(Command::new("umount").arg(store.join("overlay/overlay"))).success();
    for driver in ["overlay", "vfs"] {
        let root = store.join(driver).display().to_string();
        let taken =
            husk.husk(&["image", "import", "--from", "containers-storage", "--root", &root]).success();
        assert!(taken.contains(&name), "{taken}");
        runs(&husk, &name);
        husk.husk(&["image", "rm", &name]).success();
    }
}
