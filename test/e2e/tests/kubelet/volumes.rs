//! Volumes: emptyDir on disk and in memory, hostPath of every type, sub paths, propagation, fsGroup.

use std::{fs, os::unix::fs::MetadataExt, path::Path, process::Command, time::Duration};

use husk_e2e::{Archive, Layer, eventually_every, run};
use serde_json::{Value, json};

use crate::{Day, Gates, manifest, merge, mounts, shell};

const WAIT: &str = "trap 'exit 0' TERM; while :; do sleep 0.1; done";

/// Two containers see one volume; one in memory has its size and is lost with the pod.
fn empty_dirs() -> Value {
    let volumes = [("disk", "/disk"), ("memory", "/memory"), ("small", "/small")];
    let writer = "echo shared > /disk/file; echo fast > /memory/file; dd if=/dev/zero of=/small/fill bs=1M count=2 2>&1 | grep -i space";
    let reader = "cat /disk/file /memory/file; awk '$2 == \"/memory\" { print $3 }' /proc/mounts; \
        df -k /small | awk 'END { print $2 }'; stat -c %a /disk /memory";
    manifest(
        "empty",
        json!({
            "restartPolicy": "Never",
            "volumes": [
                { "name": "disk", "emptyDir": {} },
                { "name": "memory", "emptyDir": { "medium": "Memory" } },
                { "name": "small", "emptyDir": { "medium": "Memory", "sizeLimit": "1Mi" } },
            ],
            "initContainers": [mounts(shell("writer", writer), &volumes)],
            "containers": [mounts(shell("main", reader), &volumes)],
        }),
    )
}

/// hostPath of the types that are there, and of those that are made.
fn host_paths(dir: &Path) -> Value {
    let volume = |name: &str, path: &str, kind: &str| json!({ "name": name, "hostPath": { "path": dir.join(path), "type": kind } });
    let script = "cat /file /directory/inside /unchecked/inside; echo new > /made/file; echo more >> /made-file; \
        ls -l /device | cut -c1; ls -l /socket | cut -c1; touch /read-only/x 2>&1 | grep -o 'Read-only.*'";
    let paths = [
        ("file", "/file"),
        ("directory", "/directory"),
        ("unchecked", "/unchecked"),
        ("made", "/made"),
        ("made-file", "/made-file"),
        ("socket", "/socket"),
        ("device", "/device"),
        ("read-only", "/read-only"),
    ];
    let mut main = mounts(shell("main", script), &paths);
    main["volumeMounts"][7]["readOnly"] = json!(true);
    manifest(
        "host-path",
        json!({
            "restartPolicy": "Never",
            "volumes": [
                volume("file", "file", "File"),
                volume("directory", "directory", "Directory"),
                volume("unchecked", "directory", ""),
                volume("made", "made", "DirectoryOrCreate"),
                volume("made-file", "made-file", "FileOrCreate"),
                volume("socket", "socket", "Socket"),
                { "name": "device", "hostPath": { "path": "/dev/null", "type": "CharDevice" } },
                volume("read-only", "directory", "Directory"),
            ],
            "containers": [main],
        }),
    )
}

fn wrong_host_path(dir: &Path) -> Value {
    let volume = json!({ "name": "wrong", "hostPath": { "path": dir.join("file"), "type": "Directory" } });
    manifest(
        "wrong-type",
        json!({ "volumes": [volume], "containers": [mounts(shell("main", WAIT), &[("wrong", "/wrong")])] }),
    )
}

fn sub_paths(dir: &Path) -> Value {
    let script = "cat /inside /one/from-init /named/expanded; echo kept > /one/kept; ls /one";
    let main = merge(
        shell("main", script),
        json!({
            "env": [{ "name": "POD", "valueFrom": { "fieldRef": { "fieldPath": "metadata.namespace" } } }],
            "volumeMounts": [
                { "name": "tree", "mountPath": "/inside", "subPath": "directory/inside", "readOnly": true },
                { "name": "data", "mountPath": "/one", "subPath": "deep/one" },
                { "name": "data", "mountPath": "/named", "subPathExpr": "of-$(POD)" },
            ],
        }),
    );
    let init = "mkdir -p /data/deep/one /data/of-default; echo init > /data/deep/one/from-init; echo expanded > /data/of-default/expanded";
    manifest(
        "sub-path",
        json!({
            "restartPolicy": "Never",
            "volumes": [{ "name": "tree", "hostPath": { "path": dir } }, { "name": "data", "emptyDir": {} }],
            "initContainers": [mounts(shell("prepare", init), &[("data", "/data")])],
            "containers": [main],
        }),
    )
}

/// A link out of the volume must not lead a sub path out of it.
fn escape() -> Value {
    let main = merge(
        shell("main", "cat /out/hostname"),
        json!({ "volumeMounts": [{ "name": "data", "mountPath": "/out", "subPath": "link" }] }),
    );
    manifest(
        "escape",
        json!({
            "volumes": [{ "name": "data", "emptyDir": {} }],
            "initContainers": [mounts(shell("prepare", "ln -s /etc /data/link"), &[("data", "/data")])],
            "containers": [main],
        }),
    )
}

/// One container mounts for the node and the others; one only sees what is mounted; one sees nothing new.
fn propagation(dir: &Path) -> Value {
    let of = |name: &str, script: &str, propagation: &str| {
        merge(
            shell(name, script),
            json!({ "volumeMounts": [{ "name": "tree", "mountPath": "/tree", "mountPropagation": propagation }] }),
        )
    };
    let mounter =
        merge(of("mounter", WAIT, "Bidirectional"), json!({ "securityContext": { "privileged": true } }));
    manifest(
        "propagation",
        json!({
            "volumes": [{ "name": "tree", "hostPath": { "path": dir } }],
            "containers": [mounter, of("receiver", WAIT, "HostToContainer"), of("private", WAIT, "None")],
        }),
    )
}

/// The image's /etc/group makes user 1000 a member of 50000 besides.
fn fs_group() -> Value {
    let script =
        "id -u; id -g; id -G; echo mine > /data/file; stat -c '%g %a' /data; stat -c '%u:%g' /data/file";
    let main = mounts(shell("main", script), &[("data", "/data")]);
    manifest(
        "fs-group",
        json!({
            "restartPolicy": "Never",
            "securityContext": { "runAsUser": 1000, "runAsGroup": 3000, "fsGroup": 2000 },
            "volumes": [{ "name": "data", "emptyDir": {} }],
            "containers": [main],
        }),
    )
}

/// An image's files as a volume, whole and below a path, and nothing that can be written to.
fn image_volumes() -> Value {
    let script = "cat /whole/data/file /part/file; touch /part/new 2>&1 | grep -o 'Read-only.*'";
    let main = merge(
        shell("main", script),
        json!({ "volumeMounts": [
            { "name": "data", "mountPath": "/whole" },
            { "name": "data", "mountPath": "/part", "subPath": "data" },
        ] }),
    );
    let image = json!({ "reference": DATA, "pullPolicy": "Never" });
    manifest(
        "image",
        json!({ "restartPolicy": "Never", "volumes": [{ "name": "data", "image": image }], "containers": [main] }),
    )
}

const DATA: &str = "registry.example/husk/data:e2e";

fn import_data(day: &Day) {
    let layer = Layer::new(&["data"], &[("data/file", 0o644, b"of an image\n")], &[]);
    let archive = day.runtime.path("data.tar");
    Archive { tags: vec![DATA.to_owned()], config: json!({}), layers: vec![layer] }.write(&archive);
    day.runtime.import(&archive);
}

fn prepare(dir: &Path) {
    fs::create_dir_all(dir.join("directory")).unwrap();
    fs::write(dir.join("file"), "a file\n").unwrap();
    fs::write(dir.join("directory/inside"), "inside\n").unwrap();
}

#[test]
fn volumes_of_a_kubelet_are_what_its_pods_asked_for() {
    let day = Day::start(Gates::Off);
    let dir = day.shared("volumes");
    prepare(&dir);
    import_data(&day);
    let _socket = std::os::unix::net::UnixListener::bind(dir.join("socket")).unwrap();
    // Shared on purpose, whatever the node's root is.
    let tree = day.shared("tree");
    run(Command::new("mount").arg("--bind").args([&tree, &tree])).success();
    run(Command::new("mount").arg("--make-shared").arg(&tree)).success();
    fs::create_dir(tree.join("by-container")).unwrap();
    fs::create_dir(tree.join("by-node")).unwrap();
    day.apply_all(&[
        empty_dirs(),
        host_paths(&dir),
        wrong_host_path(&dir),
        sub_paths(&dir),
        escape(),
        propagation(&tree),
        fs_group(),
        image_volumes(),
    ]);

    assert!(day.printed("empty", "writer").contains("No space left"), "the size limit is kept");
    assert_eq!(day.printed("empty", "main"), "shared\nfast\ntmpfs\n1024\n777\n1777\n");
    assert_eq!(day.printed("host-path", "main"), "a file\ninside\ninside\nc\ns\nRead-only file system\n");
    assert_eq!(fs::read_to_string(dir.join("made/file")).unwrap(), "new\n");
    assert_eq!(fs::read_to_string(dir.join("made-file")).unwrap(), "more\n");
    assert_eq!(day.printed("sub-path", "main"), "inside\ninit\nexpanded\nfrom-init\nkept\n");
    assert_eq!(day.printed("fs-group", "main"), "1000\n3000\n3000 2000 50000\n2000 2777\n1000:2000\n");
    assert_eq!(day.printed("image", "main"), "of an image\nof an image\nRead-only file system\n");
    day.wait_container("the kubelet refuses the link", "escape", "main", |status| {
        (status["state"]["waiting"]["reason"] == "CreateContainerConfigError").then_some(())
    });
    let wrong = day.container("wrong-type", "main").unwrap();
    assert_eq!(wrong["state"]["waiting"]["reason"], json!("ContainerCreating"), "{wrong}");

    day.wait_ready("propagation");
    // Now that all of them run: what is mounted while a container is being made, its copy of the tree can miss.
    day.run("propagation", "mounter", "mount -t tmpfs by-container /tree/by-container");
    day.run("propagation", "mounter", "touch /tree/by-container/seen");
    eventually_every(
        Duration::from_millis(20),
        "the node has the container's mount",
        Duration::from_secs(30),
        || tree.join("by-container/seen").exists().then_some(()),
    );
    run(Command::new("mount").args(["-t", "tmpfs", "by-node"]).arg(tree.join("by-node"))).success();
    fs::write(tree.join("by-node/seen"), "").unwrap();
    let found =
        |container: &str, path: &str| day.run("propagation", container, &format!("find /tree/{path}"));
    let sees = |container: &str, path: &str| found(container, path).contains("seen");
    for (container, path) in [("mounter", "by-node"), ("receiver", "by-node"), ("receiver", "by-container")] {
        let found = found(container, path);
        assert!(found.contains("seen"), "{container} finds in {path}: {found:?}");
    }
    assert!(!sees("private", "by-node"), "without propagation nothing new is seen");
    for made in ["by-node", "by-container"] {
        run(Command::new("umount").arg(tree.join(made))).success();
    }
    eventually_every(Duration::from_millis(20), "unmounting is seen too", Duration::from_secs(30), || {
        (!sees("receiver", "by-node")).then_some(())
    });
    assert_eq!(fs::metadata(dir.join("directory")).unwrap().uid(), 0);
    day.drain();
    run(Command::new("umount").arg(&tree)).success();
    day.end();
}
