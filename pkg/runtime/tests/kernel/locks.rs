//! What root of a user namespace, with CAP_SYS_ADMIN in it, can take back of the node's mounts: nothing.

use std::{fs, os::unix::fs::chown, path::PathBuf};

use husk_model::ImageVolume;
use serde_json::json;

use crate::{
    cases,
    world::{Container, Pod, World},
};

cases![
    a_read_only_volume_stays_so_whatever_root_of_the_pod_tries,
    a_file_and_the_mounts_below_a_volume_stay_read_only,
    an_image_volume_cannot_be_written_to_by_remounting,
    a_layer_is_not_poisoned_by_a_container_with_admin_on_the_node,
    noexec_and_nodev_of_a_volume_cannot_be_taken_back,
    a_device_of_an_image_stays_shut_after_a_remount,
    a_writable_volume_is_still_writable,
    no_device_is_made_in_a_volume_that_a_link_leads_to_dev,
    a_device_of_the_request_is_made_in_no_volume,
];

const HOST: u32 = 300_000;

/// Every way to make `/vol` writable that util-linux or busybox knows; then a write by each.
const ATTACK: &str = "mkdir -p /a /b /c; \
    mount -o remount,rw /vol; mount -o remount,bind,rw /vol; \
    mount --bind /vol /a; mount -o remount,bind,rw /a; \
    mount --rbind /vol /b; mount -o remount,bind,rw /b; \
    unshare -m sh -c 'mount -o remount,bind,rw /vol; echo x >/vol/unshared; echo x >/vol'; \
    for to in /vol /a /b; do echo x >$to/poison; mkdir $to/dir; cp /bin/busybox $to/suid; chmod 4755 $to/suid; done; \
    mount --move /vol /c; mount -o remount,bind,rw /c; echo x >/c/moved; umount /vol; echo x >/vol; echo done";

fn admin<'pod>(world: &World, pod: &'pod Pod, script: &str) -> Container<'pod> {
    let capabilities = json!([
        "CAP_SYS_ADMIN",
        "CAP_SYS_CHROOT",
        "CAP_DAC_OVERRIDE",
        "CAP_FOWNER",
        "CAP_CHOWN",
        "CAP_MKNOD"
    ]);
    let sets = json!({"bounding": capabilities, "effective": capabilities, "permitted": capabilities});
    world.container(pod, &["sh", "-c", script]).set(&["process", "capabilities"], sets)
}

/// A directory of the pod's root, with a file in it: only the mount keeps it from writing there.
fn directory(world: &World, name: &str) -> PathBuf {
    let dir = world.scratch(name);
    fs::write(dir.join("file"), "node").unwrap();
    for path in [&dir, &dir.join("file")] {
        chown(path, Some(HOST), Some(HOST)).unwrap();
    }
    dir
}

fn names(dir: &std::path::Path) -> Vec<String> {
    let mut names: Vec<_> =
        fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

fn a_read_only_volume_stays_so_whatever_root_of_the_pod_tries(world: &World) {
    let pod = world.mapped_pod(HOST);
    for options in
        [&["rbind", "ro", "rprivate"][..], &["rbind", "rro", "rprivate"], &["bind", "ro", "rslave"]]
    {
        let dir = directory(world, "locked");
        let output = admin(world, &pod, ATTACK).mount("bind", &dir, "/vol", options).run();
        assert!(output.stdout.ends_with("done\n"), "{output:?}");
        assert_eq!(names(&dir), ["file"], "{options:?}: {output:?}");
    }
}

fn a_file_and_the_mounts_below_a_volume_stay_read_only(world: &World) {
    let pod = world.mapped_pod(HOST);
    let dir = directory(world, "file");
    let script = "mount -o remount,bind,rw /vol; echo x >/vol; \
        mount --bind /vol /tmp/x; mount -o remount,bind,rw /tmp/x; echo x >/tmp/x; echo done";
    let container = admin(world, &pod, &format!("touch /tmp/x; {script}"));
    let output = container.mount("bind", dir.join("file"), "/vol", &["bind", "ro"]).run();
    assert_eq!(fs::read_to_string(dir.join("file")).unwrap(), "node", "{output:?}");
}

fn an_image_volume_cannot_be_written_to_by_remounting(world: &World) {
    let pod = world.mapped_pod(HOST);
    poison(world, &pod);
}

fn a_layer_is_not_poisoned_by_a_container_with_admin_on_the_node(world: &World) {
    let pod = world.pod();
    poison(world, &pod);
}

fn poison(world: &World, pod: &Pod) {
    for layers in [1, 2] {
        let base = world.scratch(&format!("image-{layers}"));
        let lowers: Vec<String> = (0..layers).map(|layer| layer.to_string()).collect();
        for layer in &lowers {
            fs::create_dir_all(base.join(layer)).unwrap();
            fs::write(base.join(layer).join("file"), "image").unwrap();
        }
        let mut container = admin(world, pod, ATTACK).mount("image", "0", "/vol", &["rprivate", "ro"]);
        container.image_volumes =
            vec![ImageVolume { base: base.clone(), lowers: lowers.clone(), sub_path: "".into() }];
        let output = container.run();
        assert!(output.stdout.ends_with("done\n"), "{output:?}");
        for layer in &lowers {
            assert_eq!(names(&base.join(layer)), ["file"], "{layers} layers: {output:?}");
        }
    }
}

fn noexec_and_nodev_of_a_volume_cannot_be_taken_back(world: &World) {
    let pod = world.mapped_pod(HOST);
    let dir = directory(world, "noexec");
    fs::copy(world.dir.join("layers/base/bin/busybox"), dir.join("busybox")).unwrap();
    let script = "mount -o remount,bind,rw,exec,dev,suid /vol; mkdir /a; mount --bind /vol /a; \
        mount -o remount,bind,exec,dev,suid /a; /vol/busybox echo ran; /a/busybox echo ran; echo done";
    let container = admin(world, &pod, script);
    let output = container.mount("bind", &dir, "/vol", &["bind", "noexec", "nodev", "nosuid"]).run();
    assert_eq!(output.stdout, "done\n", "{output:?}");
}

fn a_device_of_an_image_stays_shut_after_a_remount(world: &World) {
    let pod = world.mapped_pod(HOST);
    let container =
        admin(world, &pod, "mount -o remount,bind,dev /; mount -o remount,dev /; cat /device; echo $?");
    let device = container.rootfs.upper.join("device");
    let mode = rustix::fs::Mode::from_raw_mode(0o666);
    let zero = rustix::fs::makedev(1, 3);
    rustix::fs::mknodat(rustix::fs::CWD, &device, rustix::fs::FileType::CharacterDevice, mode, zero).unwrap();
    chown(&device, Some(HOST), Some(HOST)).unwrap();
    let output = container.run();
    assert_eq!(output.stdout, "1\n", "{output:?}");
}

fn a_writable_volume_is_still_writable(world: &World) {
    let pod = world.mapped_pod(HOST);
    let dir = directory(world, "writable");
    let output = admin(world, &pod, "echo x >/vol/new").mount("bind", &dir, "/vol", &["rbind", "rw"]).run();
    assert_eq!((output.code, names(&dir)), (0, vec!["file".to_owned(), "new".to_owned()]), "{output:?}");
}

/// A directory that the image has a link to under another name.
fn linked<'pod>(world: &World, pod: &'pod Pod, link: &str, to: &str) -> (Container<'pod>, PathBuf) {
    let container = world.container(pod, &["true"]);
    std::os::unix::fs::symlink(to, container.rootfs.upper.join(link)).unwrap();
    (container, directory(world, "linked"))
}

fn no_device_is_made_in_a_volume_that_a_link_leads_to_dev(world: &World) {
    for pod in [world.pod(), world.mapped_pod(HOST)] {
        for (link, to) in [("data", "/dev"), ("data", "dev"), ("data", "/proc/../dev/.")] {
            let (container, dir) = linked(world, &pod, link, to);
            let Err(failure) = container.mount("bind", &dir, "/data", &["rbind", "rw"]).create() else {
                panic!("{to}: taken")
            };
            // Before the first device is tried.
            assert!(failure.to_string().contains("a mount lies on it"), "{failure}");
            assert_eq!(names(&dir), ["file"], "{to}");
        }
        // A link to another place of the image is followed inside it.
        let (container, dir) = linked(world, &pod, "data", "/tmp");
        assert_eq!(container.mount("bind", &dir, "/data", &["rbind", "rw"]).run().code, 0);
    }
}

fn a_device_of_the_request_is_made_in_no_volume(world: &World) {
    let pod = world.pod();
    let dir = directory(world, "device");
    let device = json!([{"path": "/dev/volume/null", "type": "c", "major": 1, "minor": 3}]);
    let container = world.container(&pod, &["true"]).set(&["linux", "devices"], device);
    assert!(container.mount("bind", &dir, "/dev/volume", &["rbind", "rw"]).create().is_err());
    assert_eq!(names(&dir), ["file"]);
}
