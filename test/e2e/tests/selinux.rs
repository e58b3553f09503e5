//! SELinux through the CRI, on nodes with and without it.

use std::{fs, os::unix::fs::symlink, path::Path};

use husk_e2e::{Daemon, container, pod, v1};
use tonic::{Code, Status};

/// A policy is loaded that knows the types of containers.
fn node_has_selinux() -> bool {
    let known = "system_u:object_r:container_file_t:s0";
    fs::metadata("/sys/fs/selinux/enforce").is_ok() && fs::write("/sys/fs/selinux/context", known).is_ok()
}

fn options(level: &str) -> Option<v1::SeLinuxOption> {
    Some(v1::SeLinuxOption { level: level.to_owned(), ..Default::default() })
}

/// Runs a container in a pod, with these volumes at /0, /1 and so on, which are to be relabelled or not.
fn create(
    husk: &Daemon,
    config: &v1::PodSandboxConfig,
    pod_id: &str,
    name: &str,
    selinux_options: Option<v1::SeLinuxOption>,
    volumes: &[(&Path, bool)],
) -> Result<String, Status> {
    let mut request = container(name);
    request.linux.as_mut().unwrap().security_context =
        Some(v1::LinuxContainerSecurityContext { selinux_options, ..Default::default() });
    let mount = |(number, (path, selinux_relabel)): (usize, &(&Path, bool))| v1::Mount {
        container_path: format!("/{number}"),
        host_path: path.display().to_string(),
        selinux_relabel: *selinux_relabel,
        ..Default::default()
    };
    request.mounts = volumes.iter().enumerate().map(mount).collect();
    let id = husk.cri().create(pod_id, config, &request)?;
    husk.cri().start(&id).unwrap();
    Ok(id)
}

fn process_context(husk: &Daemon, id: &str) -> String {
    let text = husk.cri().exec(id, &["cat", "/proc/self/attr/current"]).unwrap().1;
    text.trim_end_matches(['\0', '\n']).to_owned()
}

fn file_context(path: &Path) -> String {
    let mut buffer = [0_u8; 256];
    let length = rustix::fs::lgetxattr(path, "security.selinux", &mut buffer[..]).unwrap();
    String::from_utf8_lossy(&buffer[..length]).trim_end_matches('\0').to_owned()
}

#[test]
fn without_selinux_options_and_relabelling_have_no_effect() {
    if node_has_selinux() {
        husk_test_support::skip("a node without SELinux");
        return;
    }
    let husk = Daemon::start();
    let config = pod("plain", &husk.path("logs"));
    let pod_id = husk.cri().run_pod(&config).unwrap();
    let volume = husk.path("volume");
    fs::create_dir(&volume).unwrap();
    create(&husk, &config, &pod_id, "main", options("s0:c4,c5"), &[(&volume, true)]).unwrap();
    let info = husk.cri().status(v1::StatusRequest { verbose: true }).unwrap().info;
    assert!(info["config"].contains("\"selinux\":\"absent\""), "{info:?}");
}

#[test]
fn pods_are_kept_apart_by_levels_which_their_containers_share() {
    if !node_has_selinux() {
        husk_test_support::skip("SELinux");
        return;
    }
    let mut husk = Daemon::start();
    let (mut pods, mut contexts) = (Vec::new(), Vec::new());
    for name in ["one", "two"] {
        let config = pod(name, &husk.path("logs"));
        let pod_id = husk.cri().run_pod(&config).unwrap();
        let (first, second) = (
            create(&husk, &config, &pod_id, "first", None, &[]).unwrap(),
            create(&husk, &config, &pod_id, "second", None, &[]).unwrap(),
        );
        let context = process_context(&husk, &first);
        assert!(context.starts_with("system_u:system_r:container_t:s0:c"), "{context}");
        assert_eq!(process_context(&husk, &second), context);
        let level = context.splitn(4, ':').nth(3).unwrap();
        let (_, table, _) = husk.cri().exec(&first, &["cat", "/proc/self/mountinfo"]).unwrap();
        let label = format!("context=\"system_u:object_r:container_file_t:{level}\"");
        for place in [" / / ", " / /dev ", " / /dev/pts ", " / /dev/shm "] {
            let line =
                table.lines().find(|line| line.contains(place)).unwrap_or_else(|| panic!("{place}: {table}"));
            assert!(line.contains(&label), "{line}");
        }
        let own = create(&husk, &config, &pod_id, "own", options("s0:c4,c5"), &[]).unwrap();
        assert_eq!(process_context(&husk, &own), "system_u:system_r:container_t:s0:c4,c5");
        let status = create(&husk, &config, &pod_id, "bad", options("s0,c4,c5"), &[]).unwrap_err();
        assert_eq!(status.code(), Code::InvalidArgument);
        assert!(status.message().contains("selinux_options"), "{status}");
        contexts.push(context);
        pods.push((config, pod_id));
    }
    assert_ne!(contexts[0], contexts[1]);
    husk.kill();
    husk.spawn();
    for ((config, pod_id), context) in pods.iter().zip(&contexts) {
        let late = create(&husk, config, pod_id, "late", None, &[]).unwrap();
        assert_eq!(process_context(&husk, &late), *context, "the level of a pod is on record");
    }
}

#[test]
fn cve_2021_43816_a_volume_is_relabelled_as_asked_and_nothing_beside_it() {
    if !node_has_selinux() {
        husk_test_support::skip("SELinux");
        return;
    }
    let husk = Daemon::start();
    let config = pod("volumes", &husk.path("logs"));
    let pod_id = husk.cri().run_pod(&config).unwrap();
    let [asked, other, node] = ["asked", "other", "node"].map(|name| {
        let dir = husk.path(name);
        fs::create_dir_all(dir.join("below")).unwrap();
        fs::write(dir.join("below/file"), "x").unwrap();
        dir
    });
    symlink(&node, asked.join("link")).unwrap();
    let before = (file_context(&other.join("below/file")), file_context(&node.join("below/file")));
    let id = create(&husk, &config, &pod_id, "main", None, &[(&asked, true), (&other, false)]).unwrap();
    let level = process_context(&husk, &id).splitn(4, ':').nth(3).unwrap().to_owned();
    let label = format!("system_u:object_r:container_file_t:{level}");
    for path in ["", "below", "below/file", "link"] {
        assert_eq!(file_context(&asked.join(path)), label, "{path}");
    }
    let after = (file_context(&other.join("below/file")), file_context(&node.join("below/file")));
    assert_eq!(after, before);
    let etc = file_context(Path::new("/etc"));
    let status = create(&husk, &config, &pod_id, "etc", None, &[(Path::new("/etc"), true)]).unwrap_err();
    assert!(status.message().contains("cannot be relabelled"), "{status}");
    assert_eq!(file_context(Path::new("/etc")), etc);
}

#[test]
fn where_it_is_enforced_a_pod_cannot_read_anothers_volume() {
    if !node_has_selinux() || fs::read("/sys/fs/selinux/enforce").unwrap() != b"1" {
        husk_test_support::skip("SELinux in enforcing mode");
        return;
    }
    let husk = Daemon::start();
    let volume = husk.path("volume");
    fs::create_dir(&volume).unwrap();
    fs::write(volume.join("file"), "secret").unwrap();
    let read = |name: &str, relabel| {
        let config = pod(name, &husk.path("logs"));
        let pod_id = husk.cri().run_pod(&config).unwrap();
        let id = create(&husk, &config, &pod_id, name, None, &[(&volume, relabel)]).unwrap();
        let (code, stdout, stderr) = husk.cri().exec(&id, &["cat", "/0/file"]).unwrap();
        (code, stdout, stderr.to_lowercase().contains("denied"))
    };
    assert_eq!(read("owner", true), (0, "secret".to_owned(), false));
    assert_eq!(read("other", false), (1, String::new(), true));
}
