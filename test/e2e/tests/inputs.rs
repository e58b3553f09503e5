//! What clients and images bring, through the real runtime: names of images, users, bytes, mounts, the pod's own files.

use std::{
    ffi::OsStr,
    fs,
    os::unix::ffi::OsStrExt,
    path::{Path, PathBuf},
    process::Command,
};

use husk_e2e::{Archive, BUSYBOX, Layer, Subject, busybox_archive, container, pod, v1, with_command};
use serde_json::json;

fn image_id(subject: &Subject) -> String {
    let image = Some(v1::ImageSpec { image: BUSYBOX.to_owned(), ..Default::default() });
    let status = subject.cri().image_status(v1::ImageStatusRequest { image, verbose: false }).unwrap();
    status.image.expect("the image is here").id
}

#[test]
fn a_container_made_by_id_as_the_kubelet_does_is_shown_with_the_images_name() {
    let subject = Subject::start();
    let config = pod("named", &subject.path("logs"));
    let pod_id = subject.cri().run_pod(&config).unwrap();
    let id = image_id(&subject);
    let of = |name: &str, image: &str, specified: &str| {
        let mut request = container(name);
        request.image = Some(v1::ImageSpec {
            image: image.to_owned(),
            user_specified_image: specified.to_owned(),
            ..Default::default()
        });
        subject.cri().run(&pod_id, &config, &request)
    };
    for (name, specified) in [("kubelet", BUSYBOX), ("crictl", "")] {
        let container_id = of(name, &id, specified);
        let status = subject.cri().container(&container_id).unwrap();
        assert_eq!(status.image.unwrap().image, BUSYBOX, "{name}");
        assert_eq!(status.image_id, id);
        assert!(!status.image_ref.is_empty());
        if subject.is_husk() {
            let filter = v1::ContainerFilter { id: container_id, ..Default::default() };
            let request = v1::ListContainersRequest { filter: Some(filter) };
            let listed = subject.cri().list_containers(request).unwrap().containers.remove(0);
            assert_eq!(listed.image.unwrap().image, BUSYBOX, "{name}: in the list as well");
            assert_eq!(listed.image_id, id);
        }
    }
    if subject.is_husk() {
        // The user's own word, though the image has another tag.
        let container_id = of("other-name", &id, "busybox:1.36");
        assert_eq!(subject.cri().container(&container_id).unwrap().image.unwrap().image, "busybox:1.36");
    }
}

#[test]
fn somebody_elses_line_in_passwd_or_group_fails_nobody() {
    let subject = Subject::start();
    let base = busybox_archive();
    let passwd =
        b"\xff\xfe broken\nroot:x:0:0:r\too\tt:/root:/bin/sh\n+::::::\nshort:x:1001:1002\nnobody\n::::\n\
        app:x:1000:1000:caf\xe9:/home:/bin/sh\napp:x:0:0::/second:/bin/sh\nbig:x:99999999999:0::/:\n";
    let group = b"\xe9:x:7:app\nroot:x:0:\n:x\nnolist:x:8\nwheel:x:10:other,app\n+:::\n";
    let layer = Layer::new(&[], &[("etc/passwd", 0o644, passwd), ("etc/group", 0o644, group)], &[]);
    let tag = "registry.example/husk/lines:1";
    // runc starts no container with a variable that has no name.
    let odd = if subject.is_husk() { "=x" } else { "X=x" };
    let config = json!({ "Env": ["PATH=/bin", "UNSET", odd], "User": "app" });
    Archive { tags: vec![tag.into()], config, layers: vec![base.layers[0].clone(), layer] }
        .write(&subject.path("lines.tar"));
    subject.import(&subject.path("lines.tar"));
    let config = pod("lines", &subject.path("logs"));
    let pod_id = subject.cri().run_pod(&config).unwrap();
    let run = |name: &str, user: &str| {
        let mut request = container(name);
        request.image = Some(v1::ImageSpec { image: tag.to_owned(), ..Default::default() });
        if !user.is_empty() {
            request.linux.as_mut().unwrap().security_context = Some(v1::LinuxContainerSecurityContext {
                run_as_username: user.to_owned(),
                ..Default::default()
            });
        }
        let id = subject.cri().run(&pod_id, &config, &request);
        let script = "echo $(id -u):$(id -g):$HOME";
        let (_, shown, _) = subject.cri().exec(&id, &["sh", "-c", script]).unwrap();
        (shown.trim().to_owned(), subject.cri().container(&id).unwrap())
    };
    let (shown, status) = run("image-user", "");
    assert_eq!(shown, "1000:1000:/home");
    let user = status.user.unwrap().linux.unwrap();
    assert_eq!((user.uid, user.gid), (1000, 1000));
    if subject.is_husk() {
        assert_eq!(user.supplemental_groups, [7, 10, 1000]);
    }
    assert_eq!(run("short", "short").0.rsplit_once(':').unwrap().0, "1001:1002");
    // On containerd, an exec of this user has no HOME.
    let root = if subject.is_husk() { "0:0:/root" } else { "0:0:" };
    assert_eq!(run("root", "root").0, root);
}

#[test]
fn an_environment_value_is_bytes_for_the_container_and_its_execs() {
    let subject = Subject::start();
    if !subject.is_husk() {
        // containerd 2.4 puts U+FFFD in the place of such bytes.
        husk_test_support::skip("husk as the subject");
        return;
    }
    let config = pod("bytes", &subject.path("logs"));
    let pod_id = subject.cri().run_pod(&config).unwrap();
    let mut request =
        with_command("main", "cat /proc/self/environ >/own.new; mv /own.new /own; exec sleep 1000000");
    request.envs.push(v1::KeyValue { key: "LATIN".into(), value: b"caf\xe9\xff".to_vec().into() });
    request.envs.push(v1::KeyValue { key: "TEXT".into(), value: "café".as_bytes().to_vec().into() });
    let id = subject.cri().run(&pod_id, &config, &request);
    for source in ["/own", "/proc/self/environ"] {
        let script = format!(
            "until [ -e /own ]; do :; done; cat {source} | tr '\\0' '\\n' | sed -n 's/^LATIN=//p' | wc -c; echo $TEXT"
        );
        let (_, shown, _) = subject.cri().exec(&id, &["sh", "-c", &script]).unwrap();
        assert_eq!(shown.lines().map(str::trim).collect::<Vec<_>>(), ["6", "café"], "{source}");
    }
}

#[test]
fn cve_2020_8557_the_pods_files_can_be_written_and_fill_nothing() {
    let subject = Subject::start();
    if !subject.is_husk() {
        // containerd's are files of the node.
        husk_test_support::skip("husk as the subject");
        return;
    }
    let mut network = pod("node-network", &subject.path("logs"));
    network.linux.as_mut().unwrap().security_context = Some(v1::LinuxSandboxSecurityContext {
        namespace_options: Some(v1::NamespaceOption {
            network: v1::NamespaceMode::Node.into(),
            ..Default::default()
        }),
        ..Default::default()
    });
    for config in [pod("files", &subject.path("logs")), network] {
        let pod_id = subject.cri().run_pod(&config).unwrap();
        let first = subject.cri().run(&pod_id, &config, &container("first"));
        let second = subject.cri().run(&pod_id, &config, &container("second"));
        let exec = |id: &str, script: &str| subject.cri().exec(id, &["sh", "-c", script]).unwrap();
        let (code, shown, error) = exec(
            &first,
            "echo 10.9.9.9 added >> /etc/hosts && cat /etc/hosts | tail -n 1; cat /etc/hostname",
        );
        assert_eq!(code, 0, "{error}");
        assert!(shown.starts_with("10.9.9.9 added\n") && shown.lines().count() == 2, "{shown}");
        assert!(exec(&second, "cat /etc/hosts").1.ends_with("10.9.9.9 added\n"), "one file for the pod");
        let fill = "for f in hosts hostname resolv.conf; do dd if=/dev/zero of=/etc/$f bs=1M count=64 2>/dev/null; done; \
            stat -c %s /etc/hosts /etc/hostname /etc/resolv.conf";
        let sizes = exec(&first, fill).1;
        let total: u64 = sizes.lines().map(|size| size.parse::<u64>().unwrap()).sum();
        assert!(total <= 8 << 20, "{total} bytes of the node's memory");
        assert_eq!(exec(&second, "echo nameserver 127.0.0.1 > /etc/resolv.conf; cat /etc/resolv.conf").0, 0);
    }
}

#[test]
fn mount_paths_are_taken_as_the_peers_take_them() {
    let subject = Subject::start();
    let config = pod("mounts", &subject.path("logs"));
    let pod_id = subject.cri().run_pod(&config).unwrap();
    let source = subject.path("made/on/demand");
    let mut request = container("main");
    for path in ["data", "/a/../climbed"] {
        request.mounts.push(v1::Mount {
            container_path: path.to_owned(),
            host_path: source.display().to_string(),
            ..Default::default()
        });
    }
    let id = subject.cri().run(&pod_id, &config, &request);
    let (code, _, error) =
        subject.cri().exec(&id, &["sh", "-c", "echo x > /data/file && cat /climbed/file"]).unwrap();
    assert_eq!(code, 0, "{error}");
    assert_eq!(fs::read_to_string(source.join("file")).unwrap(), "x\n");
    let shown: Vec<_> = subject.cri().container(&id).unwrap().mounts;
    assert_eq!(
        shown.iter().map(|mount| mount.container_path.as_str()).collect::<Vec<_>>(),
        ["data", "/a/../climbed"]
    );
}

#[test]
fn what_people_read_of_an_end_is_what_the_peers_write() {
    let subject = Subject::start();
    let config = pod("ends", &subject.path("logs"));
    let pod_id = subject.cri().run_pod(&config).unwrap();
    for (name, script, code, reason) in [
        ("fine", "exit 0", 0, "Completed"),
        ("failed", "exit 7", 7, "Error"),
        ("killed", "kill -9 $$", 137, "Error"),
        ("absent", "nosuchcommand", 127, "Error"),
    ] {
        let id = subject.cri().run(&pod_id, &config, &with_command(name, script));
        let status = subject.cri().wait_exit(&id);
        assert_eq!(
            (status.exit_code, status.reason.as_str(), status.message.as_str()),
            (code, reason, ""),
            "{name}"
        );
        assert!(status.created_at <= status.started_at, "{name}");
        if subject.is_husk() {
            // containerd notes the start when its call is over: a quick end may have an earlier time.
            assert!(status.started_at <= status.finished_at, "{name}");
        }
        assert_eq!(status.image.unwrap().user_specified_image, "", "what was not said is not answered");
    }
    for (name, command, message) in [
        ("no-file", "/no/such", "exec: \"/no/such\": stat /no/such: no such file or directory"),
        ("no-name", "nosuch", "exec: \"nosuch\": executable file not found in $PATH"),
        ("directory", "/etc", "exec: \"/etc\": is a directory"),
        ("no-program", "/etc/passwd", "exec: \"/etc/passwd\": permission denied"),
    ] {
        let request = v1::ContainerConfig { command: vec![command.to_owned()], ..container(name) };
        let id = subject.cri().create(&pod_id, &config, &request).unwrap();
        let refused = subject.cri().start(&id).unwrap_err();
        assert!(refused.message().contains(message), "{refused}");
        let status = subject.cri().container(&id).unwrap();
        assert_eq!(
            (status.exit_code, status.reason.as_str(), status.started_at),
            (128, "StartError", 0),
            "{name}"
        );
        assert!(
            status.message.contains(message) && status.finished_at > status.created_at,
            "{}",
            status.message
        );
    }
    let waiting = subject.cri().create(&pod_id, &config, &container("waiting")).unwrap();
    let status = subject.cri().container(&waiting).unwrap();
    assert_eq!((status.started_at, status.finished_at, status.reason.as_str()), (0, 0, ""));
}

/// A tmpfs; unmounted when dropped.
struct Tmpfs(PathBuf);

impl Tmpfs {
    fn at(path: &Path) -> Self {
        fs::create_dir(path).unwrap();
        let mounted = Command::new("mount").args(["-t", "tmpfs", "husk-e2e"]).arg(path).status().unwrap();
        assert!(mounted.success());
        Self(path.to_owned())
    }
}

impl Drop for Tmpfs {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg(&self.0).status();
    }
}

#[test]
fn a_mount_of_the_node_whose_name_is_no_text_is_in_nobodys_way() {
    let dir = tempfile::tempdir().unwrap();
    let _other = Tmpfs::at(&dir.path().join(OsStr::from_bytes(b"caf\xe9")));
    // Finding the cgroups, the filesystem of an image and the propagation of a volume: all read the mount table.
    let subject = Subject::start();
    let config = pod("table", &subject.path("logs"));
    let pod_id = subject.cri().run_pod(&config).unwrap();
    let id = subject.cri().run(&pod_id, &config, &container("main"));
    assert_eq!(subject.cri().exec(&id, &["true"]).unwrap().0, 0);
}
