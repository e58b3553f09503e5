//! Devices by the Container Device Interface, through the CRI.

use std::fs;

use husk_e2e::{Archive, Daemon, Options, busybox_archive, container, pod, v1};
use serde_json::json;
use tonic::{Code, Status};

/// A daemon whose CDI directories are its own, with one vendor's spec.
fn daemon() -> Daemon {
    let dirs = tempfile::Builder::new().prefix("husk-cdi-").tempdir_in("/tmp").unwrap().keep();
    let config = format!("[runtime]\ncdi_dirs = [{:?}, {:?}]\n", dirs.join("etc"), dirs.join("run"));
    let husk = Daemon::with(Options { config, ..Default::default() });
    fs::create_dir_all(dirs.join("etc")).unwrap();
    fs::write(dirs.join("library"), "of the vendor\n").unwrap();
    let spec = format!(
        "cdiVersion: 0.6.0\nkind: vendor.example/gpu\ncontainerEdits:\n  env: [\"VENDOR=example\"]\n\
         devices:\n\
         - name: \"0\"\n  containerEdits:\n    env: [\"GPU=0\", \"PATH=/vendor:/bin\"]\n    additionalGids: [4242]\n\
         \x20   deviceNodes:\n    - {{path: /dev/vendor0, hostPath: /dev/zero, permissions: rw}}\n\
         \x20   mounts:\n    - {{hostPath: {}, containerPath: /usr/lib/vendor, options: [ro, bind]}}\n\
         - name: hooked\n  containerEdits:\n    hooks:\n    - {{hookName: createContainer, path: /usr/bin/vendor-hook}}\n",
        dirs.join("library").display()
    );
    fs::write(dirs.join("etc/vendor.yaml"), spec).unwrap();
    husk
}

fn create(
    husk: &Daemon,
    name: &str,
    change: impl FnOnce(&mut v1::ContainerConfig),
) -> Result<String, Status> {
    let config = pod(name, &husk.path("logs"));
    let pod_id = husk.cri().run_pod(&config).unwrap();
    let mut request = container(name);
    change(&mut request);
    let id = husk.cri().create(&pod_id, &config, &request)?;
    husk.cri().start(&id).unwrap();
    Ok(id)
}

fn with_device(name: &str) -> impl FnOnce(&mut v1::ContainerConfig) {
    move |config| config.cdi_devices.push(v1::CdiDevice { name: name.to_owned() })
}

#[test]
fn a_device_brings_its_node_mounts_variables_and_groups() {
    let husk = daemon();
    let id = create(&husk, "gpu", with_device("vendor.example/gpu=0")).unwrap();
    let exec = |script: &str| husk.cri().exec(&id, &["sh", "-c", script]).unwrap();
    let (_, shown, _) =
        exec("echo $VENDOR $GPU $PATH; cat /usr/lib/vendor; id -G; stat -c '%t:%T %a' /dev/vendor0");
    assert_eq!(shown, "example 0 /vendor:/bin\nof the vendor\n0 4242\n1:5 666\n");
    assert_eq!(exec("head -c 3 /dev/vendor0 | wc -c").1.trim(), "3", "the device cgroup lets it");
    assert_ne!(exec("echo x > /usr/lib/vendor").0, 0, "read-only");
    let status = husk.cri().container(&id).unwrap();
    assert!(status.mounts.is_empty(), "only the request's own mounts are echoed");
}

#[test]
fn a_device_that_cannot_be_given_fails_the_create_with_its_name() {
    let husk = daemon();
    for (device, code, part) in [
        ("vendor.example/gpu=1", Code::NotFound, "no CDI spec on this node has this device"),
        ("other.example/gpu=0", Code::NotFound, "no CDI spec"),
        ("gpu0", Code::InvalidArgument, "config.CDI_devices[0].name"),
        ("vendor.example/gpu=../0", Code::InvalidArgument, "config.CDI_devices[0].name"),
        ("vendor.example/gpu=hooked", Code::Unimplemented, "the createContainer hook /usr/bin/vendor-hook"),
    ] {
        let status = create(&husk, &format!("bad{}", device.len()), with_device(device)).unwrap_err();
        assert_eq!(status.code(), code, "{status}");
        assert!(status.message().contains(part) && status.message().contains(device), "{status}");
    }
    let all = husk.cri().list_containers(v1::ListContainersRequest::default()).unwrap().containers;
    assert!(all.is_empty(), "{all:?}");
}

#[test]
fn cve_2026_53492_no_image_gets_itself_a_device() {
    let husk = daemon();
    let archive = Archive {
        tags: vec!["registry.example/husk/greedy:1".into()],
        config: json!({
            "Labels": { "cdi.k8s.io/x": "vendor.example/gpu=0" },
            "Annotations": { "cdi.k8s.io/x": "vendor.example/gpu=0" },
            "Env": ["PATH=/bin", "NVIDIA_VISIBLE_DEVICES=all"],
        }),
        ..busybox_archive()
    };
    archive.write(&husk.path("greedy.tar"));
    husk.husk(&["image", "import", &husk.path("greedy.tar").display().to_string()]).success();
    let id = create(&husk, "greedy", |config| {
        config.image.as_mut().unwrap().image = "registry.example/husk/greedy:1".into();
    })
    .unwrap();
    assert_ne!(husk.cri().exec(&id, &["ls", "/dev/vendor0"]).unwrap().0, 0);
    // Nor does an annotation of the pod, which its user writes.
    let mut config = pod("pod-annotation", &husk.path("logs"));
    config.annotations.insert("cdi.k8s.io/x".into(), "vendor.example/gpu=0".into());
    let pod_id = husk.cri().run_pod(&config).unwrap();
    let id = husk.cri().run(&pod_id, &config, &container("plain"));
    assert_ne!(husk.cri().exec(&id, &["ls", "/dev/vendor0"]).unwrap().0, 0);
}

#[test]
fn a_device_plugin_of_before_the_field_names_devices_by_annotation() {
    let husk = daemon();
    let annotated = |value: &str| {
        let value = value.to_owned();
        move |config: &mut v1::ContainerConfig| {
            config.annotations.insert("cdi.k8s.io/vendor-plugin_1".into(), value);
        }
    };
    let id = create(&husk, "annotated", annotated("vendor.example/gpu=0")).unwrap();
    let (_, shown, _) = husk.cri().exec(&id, &["sh", "-c", "echo $GPU; ls /dev/vendor0"]).unwrap();
    assert_eq!(shown, "0\n/dev/vendor0\n");
    // One that says it both ways gets it once.
    let both = |config: &mut v1::ContainerConfig| {
        annotated("vendor.example/gpu=0")(config);
        with_device("vendor.example/gpu=0")(config);
    };
    let id = create(&husk, "twice", both).unwrap();
    assert_eq!(husk.cri().exec(&id, &["ls", "/dev/vendor0"]).unwrap().0, 0);
    for (value, code) in [
        ("", Code::InvalidArgument),
        ("vendor.example/gpu=0,", Code::InvalidArgument),
        ("gpu0", Code::InvalidArgument),
        ("vendor.example/gpu=0,vendor.example/gpu=9", Code::NotFound),
    ] {
        let status = create(&husk, &format!("bad{}", value.len()), annotated(value)).unwrap_err();
        assert_eq!(status.code(), code, "{value:?}: {status}");
    }
}
