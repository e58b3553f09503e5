//! Image volumes (KEP-4639) through the CRI. The first five tests carry the sentences of critest's specs, which are newer
//! than its last release.

use husk_e2e::{Archive, BUSYBOX, Layer, Subject, busybox_archive, container, eventually, pod, v1};
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

fn image_id(runtime: &Subject, name: &str) -> Option<String> {
    let image = Some(v1::ImageSpec { image: name.to_owned(), ..Default::default() });
    let status = runtime.cri().image_status(v1::ImageStatusRequest { image, verbose: false }).unwrap();
    status.image.map(|image| image.id)
}

fn import(runtime: &Subject, name: &str, layers: Vec<Layer>) {
    let archive = Archive { tags: vec![name.to_owned()], config: json!({}), layers };
    let path = runtime.path("image.tar");
    archive.write(&path);
    runtime.import(&path);
}

fn data_image(runtime: &Subject) {
    let lower = Layer::new(&["data"], &[("data/a", 0o644, b"hidden"), ("data/b", 0o644, b"lower\n")], &[]);
    let upper = Layer::new(
        &["data"],
        &[("data/a", 0o644, b"upper\n")],
        &[("out", "/etc"), ("up", "../../../../etc"), ("inside", "/data")],
    );
    import(runtime, DATA, vec![lower, upper]);
}

/// A pod with one more container than it has: returns the answer of its creation.
struct Pod<'a> {
    runtime: &'a Subject,
    id: String,
    config: v1::PodSandboxConfig,
}

impl<'a> Pod<'a> {
    fn run(runtime: &'a Subject) -> Self {
        let config = pod("volumes", &runtime.path("logs"));
        Self { runtime, id: runtime.cri().run_pod(&config).unwrap(), config }
    }

    fn create(&self, name: &str, mounts: Vec<v1::Mount>) -> Result<String, Status> {
        let config = v1::ContainerConfig { mounts, ..container(name) };
        self.runtime.cri().create(&self.id, &self.config, &config)
    }

    fn start(&self, name: &str, mounts: Vec<v1::Mount>) -> String {
        let id = self.create(name, mounts).expect("create the container");
        self.runtime.cri().start(&id).unwrap();
        id
    }
}

#[test]
fn should_return_image_digest_in_container_status_mounts() {
    let runtime = Subject::start();
    let busybox = image_id(&runtime, BUSYBOX).unwrap();
    let pod = Pod::run(&runtime);
    for (name, reference) in [("tag", BUSYBOX), ("id", &busybox)] {
        let id = pod.create(name, vec![volume(reference, "etc")]).unwrap();
        let mounts = runtime.cri().container(&id).unwrap().mounts;
        assert_eq!(mounts.len(), 1, "{mounts:?}");
        assert_eq!(mounts[0].container_path, PLACE);
        if runtime.is_husk() {
            // The request named none. containerd answers where it mounted the image.
            assert_eq!(mounts[0].host_path, "");
        }
        assert_eq!((mounts[0].readonly, mounts[0].image_sub_path.as_str()), (true, "etc"));
        let image = mounts[0].image.as_ref().unwrap();
        assert_eq!(image.image, reference);
        if runtime.is_husk() {
            // containerd 2.4 leaves it empty.
            assert_eq!(image.image_ref, busybox);
        }
    }
}

#[test]
fn should_correctly_mount_image_and_enforce_read_only() {
    let runtime = Subject::start();
    data_image(&runtime);
    let pod = Pod::run(&runtime);
    let id = pod.start("main", vec![volume(BUSYBOX, "")]);
    let exec = |command: &[&str]| runtime.cri().exec(&id, command).unwrap();
    assert_eq!(exec(&["ls", "-A", "/mnt/image-volume/bin/sh"]).0, 0);
    let (code, _, stderr) = exec(&["touch", "/mnt/image-volume/x"]);
    assert!(code != 0 && stderr.contains("Read-only file system"), "{stderr}");
    let (code, listed, stderr) = exec(&["/mnt/image-volume/bin/ls", PLACE]);
    assert!(code == 0 && listed.contains("bin"), "not mounted noexec: {stderr}");

    let id = pod.start("layers", vec![volume(DATA, "")]);
    let (_, content, _) = runtime.cri().exec(&id, &["sh", "-c", "cat /mnt/image-volume/data/*"]).unwrap();
    assert_eq!(content, "upper\nlower\n", "the upper layer's file hides the lower one's");
    if runtime.is_husk() {
        // It can be had with options that only restrict; containerd takes them and mounts without.
        let noexec = v1::Mount { mount_options: vec!["noexec".into()], ..volume(BUSYBOX, "") };
        let id = pod.start("noexec", vec![noexec]);
        assert_ne!(runtime.cri().exec(&id, &["/mnt/image-volume/bin/ls"]).map_or(126, |output| output.0), 0);
    }
}

#[test]
fn should_reject_image_volume_with_readonly_set_to_false() {
    let runtime = Subject::start();
    let pod = Pod::run(&runtime);
    let writable = v1::Mount { readonly: false, ..volume(BUSYBOX, "") };
    let status = pod.create("main", vec![writable]).unwrap_err();
    if runtime.is_husk() {
        // containerd refuses it without a code.
        assert_eq!(status.code(), Code::InvalidArgument);
        assert!(status.message().contains("config.mounts[0].readonly"), "{status}");
    }
}

#[test]
fn should_succeed_when_using_a_valid_sub_path() {
    let runtime = Subject::start();
    data_image(&runtime);
    let pod = Pod::run(&runtime);
    let id = pod.start("main", vec![volume(BUSYBOX, "etc")]);
    assert_eq!(runtime.cri().exec(&id, &["ls", "/mnt/image-volume/passwd"]).unwrap().0, 0);
    assert_ne!(runtime.cri().exec(&id, &["ls", "/mnt/image-volume/etc/passwd"]).unwrap().0, 0);
    // A link in the image is one of the image's root. containerd refuses it: "path escapes from parent".
    let paths = [("dir", "data", "a\nb\n"), ("link", "inside", "a\nb\n")];
    for (name, sub_path, shown) in &paths[..if runtime.is_husk() { 2 } else { 1 }] {
        let id = pod.start(name, vec![volume(DATA, sub_path)]);
        assert_eq!(runtime.cri().exec(&id, &["ls", PLACE]).unwrap().1, *shown, "{sub_path}");
    }
    if runtime.is_husk() {
        // containerd: "only directory subpath is supported".
        let id = pod.start("file", vec![volume(DATA, "data/a")]);
        assert_eq!(runtime.cri().exec(&id, &["cat", PLACE]).unwrap().1, "upper\n");
    }
}

#[test]
fn should_fail_when_sub_path_does_not_exist_in_the_image() {
    let runtime = Subject::start();
    data_image(&runtime);
    let pod = Pod::run(&runtime);
    let expect = |status: Status, code: Code, parts: &[&str]| {
        // containerd refuses without a code, in other words.
        if runtime.is_husk() {
            assert_eq!(status.code(), code, "{status}");
            assert!(parts.iter().all(|part| status.message().contains(part)), "{status}");
        }
    };
    let status = pod.create("absent", vec![volume(BUSYBOX, "not-existing")]).unwrap_err();
    assert!(status.message().contains("not-existing"), "{status}");
    expect(status, Code::FailedPrecondition, &[PLACE, "the image has no such path"]);
    // Links out of the image end inside of it, where there is no /etc.
    for escape in ["out/passwd", "up/passwd"] {
        let status = pod.create("escape", vec![volume(DATA, escape)]).unwrap_err();
        expect(status, Code::FailedPrecondition, &[escape]);
    }
    for outside in ["../etc", "data/../../etc", "/etc"] {
        let status = pod.create("outside", vec![volume(DATA, outside)]).unwrap_err();
        expect(status, Code::InvalidArgument, &["config.mounts[0].image_sub_path"]);
    }
    let all = runtime.cri().list_containers(v1::ListContainersRequest::default()).unwrap().containers;
    assert!(all.is_empty(), "nothing is left of them: {all:?}");
}

#[test]
fn an_absent_image_and_a_contradiction_name_the_field() {
    let runtime = Subject::start();
    let pod = Pod::run(&runtime);
    let status = pod.create("absent", vec![volume("registry.example/absent:1", "")]).unwrap_err();
    assert_eq!(status.code(), Code::NotFound);
    assert!(status.message().contains("registry.example/absent:1"), "{status}");
    let names = |status: Status, field: &str| {
        // containerd refuses it in words of its own.
        if runtime.is_husk() {
            assert!(status.message().contains(field), "{status}");
        }
    };
    names(status, "config.mounts[0].image.image");
    let both = v1::Mount { host_path: "/tmp".into(), ..volume(BUSYBOX, "") };
    let status = pod.create("both", vec![both]).unwrap_err();
    names(status, "config.mounts[0].host_path");
    // The kubelet sets the path in the image for volumes that are none, too.
    let alone = v1::Mount { image: None, host_path: "/tmp".into(), ..volume(BUSYBOX, "etc") };
    pod.create("alone", vec![alone]).unwrap();
}

#[test]
fn an_image_in_use_as_a_volume_can_be_removed_and_keeps_its_layers_across_restarts() {
    let mut runtime = Subject::start();
    data_image(&runtime);
    // Of husk's directory; where containerd is the subject, there is none to count in.
    let layers = |runtime: &Subject| {
        let kept = std::fs::read_dir(runtime.path("root/images/layers")).map(Iterator::count);
        kept.ok()
    };
    let is_husk = runtime.is_husk();
    let husks = |count: usize| is_husk.then_some(count);
    assert_eq!(layers(&runtime), husks(3));
    let pod = Pod::run(&runtime);
    let id = pod.start("main", vec![volume(DATA, "data")]);
    let (pod_id, config) = (pod.id.clone(), pod.config.clone());
    let data = image_id(&runtime, DATA).unwrap();
    let read = |runtime: &Subject| runtime.cri().exec(&id, &["cat", "/mnt/image-volume/a"]).unwrap().1;

    let image = Some(v1::ImageSpec { image: DATA.to_owned(), ..Default::default() });
    runtime.cri().remove_image(v1::RemoveImageRequest { image }).unwrap();
    assert_eq!(image_id(&runtime, DATA), None, "removed for everybody else");
    assert_eq!(read(&runtime), "upper\n");
    runtime.kill();
    runtime.spawn();
    assert_eq!(read(&runtime), "upper\n");
    assert_eq!(layers(&runtime), husks(3), "the restarted daemon holds them again");
    let mounts = runtime.cri().container(&id).unwrap().mounts;
    if is_husk {
        assert_eq!(mounts[0].image.as_ref().unwrap().image_ref, data);
    }
    let again = v1::ContainerConfig { mounts: vec![volume(DATA, "")], ..container("again") };
    assert_eq!(runtime.cri().create(&pod_id, &config, &again).unwrap_err().code(), Code::NotFound);

    runtime.cri().remove_container(v1::RemoveContainerRequest { container_id: id }).unwrap();
    eventually("the layers go with the last user", std::time::Duration::from_secs(10), || {
        (layers(&runtime) == husks(1)).then_some(())
    });
}

#[test]
fn an_image_of_many_layers_is_one_volume() {
    let runtime = Subject::start();
    let layer = |number: usize| {
        Layer::new(
            &["d"],
            &[(&format!("d/{number}"), 0o644, b""), ("d/last", 0o644, number.to_string().as_bytes())],
            &[],
        )
    };
    import(&runtime, DATA, (0..120).map(layer).collect());
    let pod = Pod::run(&runtime);
    let id = pod.start("main", vec![volume(DATA, "d")]);
    let command = "ls /mnt/image-volume | wc -l; cat /mnt/image-volume/last";
    assert_eq!(runtime.cri().exec(&id, &["sh", "-c", command]).unwrap().1, "121\n119");
}

#[test]
fn an_image_volume_follows_a_link_of_the_containers_image_inside_its_root_only() {
    let runtime = Subject::start();
    let mut layers = busybox_archive().layers;
    layers.push(Layer::new(&["mnt"], &[], &[("mnt/image-volume", "/../../../../var/www")]));
    import(&runtime, "registry.example/husk/linked:e2e", layers);
    let pod = Pod::run(&runtime);
    let mut config = v1::ContainerConfig { mounts: vec![volume(BUSYBOX, "etc")], ..container("main") };
    config.image.as_mut().unwrap().image = "registry.example/husk/linked:e2e".into();
    let id = runtime.cri().run(&pod.id, &pod.config, &config);
    assert_eq!(runtime.cri().exec(&id, &["ls", "/var/www"]).unwrap().1, "group\npasswd\n");
    assert!(!std::path::Path::new("/var/www/passwd").exists());
}
