//! Image volumes (KEP-4639) through the CRI. The first five tests carry the sentences of critest's specs, which are newer
//! than its last release.

use husk_e2e::{Archive, BUSYBOX, Daemon, Layer, busybox_archive, container, eventually, pod, v1};
use serde_json::json;
use tonic::{Code, Status};

/// Where critest mounts its volumes.
const PLACE: &str = "/mnt/image-volume";
/// An image of data only, of two layers.
const DATA: &str = "registry.example/husk/data:e2e";

fn volume(image: &str, sub_path: &str) -> v1::Mount {
    v1::Mount {
        container_path: PLACE.to_owned(),
        readonly: true,
        image: Some(v1::ImageSpec { image: image.to_owned(), ..Default::default() }),
        image_sub_path: sub_path.to_owned(),
        ..Default::default()
    }
}

fn image_id(husk: &Daemon, name: &str) -> Option<String> {
    let image = Some(v1::ImageSpec { image: name.to_owned(), ..Default::default() });
    let status = husk.cri().image_status(v1::ImageStatusRequest { image, verbose: false }).unwrap();
    status.image.map(|image| image.id)
}

fn import(husk: &Daemon, name: &str, layers: Vec<Layer>) {
    let archive = Archive { tags: vec![name.to_owned()], config: json!({}), layers };
    let path = husk.path("image.tar");
    archive.write(&path);
    husk.husk(&["image", "import", &path.display().to_string()]).success();
}

fn data_image(husk: &Daemon) {
    let lower = Layer::new(&["data"], &[("data/a", 0o644, b"hidden"), ("data/b", 0o644, b"lower\n")], &[]);
    let upper = Layer::new(
        &["data"],
        &[("data/a", 0o644, b"upper\n")],
        &[("out", "/etc"), ("up", "../../../../etc"), ("inside", "/data")],
    );
    import(husk, DATA, vec![lower, upper]);
}

/// A pod with one more container than it has: returns the answer of its creation.
struct Pod<'a> {
    husk: &'a Daemon,
    id: String,
    config: v1::PodSandboxConfig,
}

impl<'a> Pod<'a> {
    fn run(husk: &'a Daemon) -> Self {
        let config = pod("volumes", &husk.path("logs"));
        Self { husk, id: husk.cri().run_pod(&config).unwrap(), config }
    }

    fn create(&self, name: &str, mounts: Vec<v1::Mount>) -> Result<String, Status> {
        let config = v1::ContainerConfig { mounts, ..container(name) };
        self.husk.cri().create(&self.id, &self.config, &config)
    }

    fn start(&self, name: &str, mounts: Vec<v1::Mount>) -> String {
        let id = self.create(name, mounts).expect("create the container");
        self.husk.cri().start(&id).unwrap();
        id
    }
}

#[test]
fn should_return_image_digest_in_container_status_mounts() {
    let husk = Daemon::start();
    let busybox = image_id(&husk, BUSYBOX).unwrap();
    let pod = Pod::run(&husk);
    for (name, reference) in [("tag", BUSYBOX), ("id", &busybox)] {
        let id = pod.create(name, vec![volume(reference, "etc")]).unwrap();
        let mounts = husk.cri().container(&id).unwrap().mounts;
        assert_eq!(mounts.len(), 1, "{mounts:?}");
        assert_eq!((mounts[0].container_path.as_str(), mounts[0].host_path.as_str()), (PLACE, ""));
        assert_eq!((mounts[0].readonly, mounts[0].image_sub_path.as_str()), (true, "etc"));
        let image = mounts[0].image.as_ref().unwrap();
        assert_eq!((image.image.as_str(), &image.image_ref), (reference, &busybox));
    }
}

#[test]
fn should_correctly_mount_image_and_enforce_read_only() {
    let husk = Daemon::start();
    data_image(&husk);
    let pod = Pod::run(&husk);
    let id = pod.start("main", vec![volume(BUSYBOX, "")]);
    let exec = |command: &[&str]| husk.cri().exec(&id, command).unwrap();
    assert_eq!(exec(&["ls", "-A", "/mnt/image-volume/bin/sh"]).0, 0);
    let (code, _, stderr) = exec(&["touch", "/mnt/image-volume/x"]);
    assert!(code != 0 && stderr.contains("Read-only file system"), "{stderr}");
    let (code, listed, stderr) = exec(&["/mnt/image-volume/bin/ls", PLACE]);
    assert!(code == 0 && listed.contains("bin"), "not mounted noexec: {stderr}");

    let id = pod.start("layers", vec![volume(DATA, "")]);
    let (_, content, _) = husk.cri().exec(&id, &["sh", "-c", "cat /mnt/image-volume/data/*"]).unwrap();
    assert_eq!(content, "upper\nlower\n", "the upper layer's file hides the lower one's");
    // It can be had with options that only restrict.
    let noexec = v1::Mount { mount_options: vec!["noexec".into()], ..volume(BUSYBOX, "") };
    let id = pod.start("noexec", vec![noexec]);
    assert_ne!(husk.cri().exec(&id, &["/mnt/image-volume/bin/ls"]).map_or(126, |output| output.0), 0);
}

#[test]
fn should_reject_image_volume_with_readonly_set_to_false() {
    let husk = Daemon::start();
    let pod = Pod::run(&husk);
    let writable = v1::Mount { readonly: false, ..volume(BUSYBOX, "") };
    let status = pod.create("main", vec![writable]).unwrap_err();
    assert_eq!(status.code(), Code::InvalidArgument);
    assert!(status.message().contains("config.mounts[0].readonly"), "{status}");
}

#[test]
fn should_succeed_when_using_a_valid_sub_path() {
    let husk = Daemon::start();
    data_image(&husk);
    let pod = Pod::run(&husk);
    let id = pod.start("main", vec![volume(BUSYBOX, "etc")]);
    assert_eq!(husk.cri().exec(&id, &["ls", "/mnt/image-volume/passwd"]).unwrap().0, 0);
    assert_ne!(husk.cri().exec(&id, &["ls", "/mnt/image-volume/etc/passwd"]).unwrap().0, 0);
    for (name, sub_path, shown) in [("dir", "data", "a\nb\n"), ("link", "inside", "a\nb\n")] {
        let id = pod.start(name, vec![volume(DATA, sub_path)]);
        assert_eq!(husk.cri().exec(&id, &["ls", PLACE]).unwrap().1, shown, "{sub_path}");
    }
    let id = pod.start("file", vec![volume(DATA, "data/a")]);
    assert_eq!(husk.cri().exec(&id, &["cat", PLACE]).unwrap().1, "upper\n");
}

#[test]
fn should_fail_when_sub_path_does_not_exist_in_the_image() {
    let husk = Daemon::start();
    data_image(&husk);
    let pod = Pod::run(&husk);
    let status = pod.create("absent", vec![volume(BUSYBOX, "not-existing")]).unwrap_err();
    assert_eq!(status.code(), Code::FailedPrecondition, "{status}");
    for part in ["not-existing", PLACE, "the image has no such path"] {
        assert!(status.message().contains(part), "{status}");
    }
    // Links out of the image end inside of it, where there is no /etc.
    for escape in ["out/passwd", "up/passwd"] {
        let status = pod.create("escape", vec![volume(DATA, escape)]).unwrap_err();
        assert_eq!(status.code(), Code::FailedPrecondition, "{escape}: {status}");
    }
    for outside in ["../etc", "data/../../etc", "/etc"] {
        let status = pod.create("outside", vec![volume(DATA, outside)]).unwrap_err();
        assert_eq!(status.code(), Code::InvalidArgument, "{outside}: {status}");
        assert!(status.message().contains("config.mounts[0].image_sub_path"), "{status}");
    }
    let all = husk.cri().list_containers(v1::ListContainersRequest::default()).unwrap().containers;
    assert!(all.is_empty(), "nothing is left of them: {all:?}");
}

#[test]
fn an_absent_image_and_a_contradiction_name_the_field() {
    let husk = Daemon::start();
    let pod = Pod::run(&husk);
    let status = pod.create("absent", vec![volume("registry.example/absent:1", "")]).unwrap_err();
    assert_eq!(status.code(), Code::NotFound);
    for part in ["config.mounts[0].image.image", "registry.example/absent:1"] {
        assert!(status.message().contains(part), "{status}");
    }
    let both = v1::Mount { host_path: "/tmp".into(), ..volume(BUSYBOX, "") };
    let status = pod.create("both", vec![both]).unwrap_err();
    assert!(status.message().contains("config.mounts[0].host_path"), "{status}");
    let alone = v1::Mount { image: None, host_path: "/tmp".into(), ..volume(BUSYBOX, "etc") };
    let status = pod.create("alone", vec![alone]).unwrap_err();
    assert!(status.message().contains("config.mounts[0].image_sub_path"), "{status}");
}

#[test]
fn an_image_in_use_as_a_volume_can_be_removed_and_keeps_its_layers_across_restarts() {
    let mut husk = Daemon::start();
    data_image(&husk);
    let layers =
        |husk: &Daemon| std::fs::read_dir(husk.path("root/images/layers")).map_or(0, Iterator::count);
    assert_eq!(layers(&husk), 3);
    let pod = Pod::run(&husk);
    let id = pod.start("main", vec![volume(DATA, "data")]);
    let (pod_id, config) = (pod.id.clone(), pod.config.clone());
    let data = image_id(&husk, DATA).unwrap();
    let read = |husk: &Daemon| husk.cri().exec(&id, &["cat", "/mnt/image-volume/a"]).unwrap().1;

    let image = Some(v1::ImageSpec { image: DATA.to_owned(), ..Default::default() });
    husk.cri().remove_image(v1::RemoveImageRequest { image }).unwrap();
    assert_eq!(image_id(&husk, DATA), None, "removed for everybody else");
    assert_eq!(read(&husk), "upper\n");
    husk.kill();
    husk.spawn();
    assert_eq!(read(&husk), "upper\n");
    assert_eq!(layers(&husk), 3, "the restarted daemon holds them again");
    let mounts = husk.cri().container(&id).unwrap().mounts;
    assert_eq!(mounts[0].image.as_ref().unwrap().image_ref, data);
    let again = v1::ContainerConfig { mounts: vec![volume(DATA, "")], ..container("again") };
    assert_eq!(husk.cri().create(&pod_id, &config, &again).unwrap_err().code(), Code::NotFound);

    husk.cri().remove_container(v1::RemoveContainerRequest { container_id: id }).unwrap();
    eventually("the layers go with the last user", std::time::Duration::from_secs(10), || {
        (layers(&husk) == 1).then_some(())
    });
}

#[test]
fn an_image_of_many_layers_is_one_volume() {
    let husk = Daemon::start();
    let layer = |number: usize| {
        Layer::new(
            &["d"],
            &[(&format!("d/{number}"), 0o644, b""), ("d/last", 0o644, number.to_string().as_bytes())],
            &[],
        )
    };
    import(&husk, DATA, (0..120).map(layer).collect());
    let pod = Pod::run(&husk);
    let id = pod.start("main", vec![volume(DATA, "d")]);
    let command = "ls /mnt/image-volume | wc -l; cat /mnt/image-volume/last";
    assert_eq!(husk.cri().exec(&id, &["sh", "-c", command]).unwrap().1, "121\n119");
}

#[test]
fn an_image_volume_follows_a_link_of_the_containers_image_inside_its_root_only() {
    let husk = Daemon::start();
    let mut layers = busybox_archive().layers;
    layers.push(Layer::new(&["mnt"], &[], &[("mnt/image-volume", "/../../../../var/www")]));
    import(&husk, "registry.example/husk/linked:e2e", layers);
    let pod = Pod::run(&husk);
    let mut config = v1::ContainerConfig { mounts: vec![volume(BUSYBOX, "etc")], ..container("main") };
    config.image.as_mut().unwrap().image = "registry.example/husk/linked:e2e".into();
    let id = husk.cri().run(&pod.id, &pod.config, &config);
    assert_eq!(husk.cri().exec(&id, &["ls", "/var/www"]).unwrap().1, "group\npasswd\n");
    assert!(!std::path::Path::new("/var/www/passwd").exists());
}
