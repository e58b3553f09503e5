//! Security contexts: users and groups, capabilities, seccomp, read-only roots, privilege, sysctls.

use std::{fs, os::unix::fs::MetadataExt};

use serde_json::{Value, json};

use crate::{Day, Gates, manifest, merge, mounts, shell};

/// Capabilities that containers have unless they ask otherwise (the OCI default set), and NET_BIND_SERVICE alone.
const DEFAULT_CAPABILITIES: &str = "00000000a80425fb";
const BIND_ONLY: &str = "0000000000000400";

fn status(line: &str) -> String {
    format!("awk '/^{line}:/ {{ print $2 }}' /proc/self/status")
}

fn secured(name: &str, script: &str, context: Value) -> Value {
    merge(shell(name, script), json!({ "securityContext": context }))
}

fn users() -> Value {
    let who = "id -u; id -g; id -G";
    manifest(
        "users",
        json!({
            "restartPolicy": "Never",
            "securityContext": { "supplementalGroups": [4000, 5000] },
            "containers": [
                shell("root", who),
                // The image's /etc/group makes user 1000 a member of 50000.
                secured("user", who, json!({ "runAsUser": 1000 })),
                secured("both", who, json!({ "runAsUser": 1234, "runAsGroup": 4321 })),
                secured("refused", who, json!({ "runAsNonRoot": true })),
            ],
        }),
    )
}

fn strict_groups() -> Value {
    manifest(
        "strict",
        json!({
            "restartPolicy": "Never",
            "securityContext": { "runAsUser": 1000, "supplementalGroups": [4000], "supplementalGroupsPolicy": "Strict" },
            "containers": [shell("main", "id -G")],
        }),
    )
}

fn capabilities() -> Value {
    let effective = status("CapEff");
    manifest(
        "capabilities",
        json!({
            "restartPolicy": "Never",
            "containers": [
                shell("default", &effective),
                secured("one", &effective, json!({ "capabilities": { "drop": ["ALL"], "add": ["NET_BIND_SERVICE"] } })),
                secured("user", &effective, json!({ "runAsUser": 1000 })),
                secured("all", &effective, json!({ "capabilities": { "add": ["ALL"] } })),
                secured("privileged", &format!("{effective}; ls /dev/kmsg; mount -t tmpfs x /tmp && echo mounted"), json!({ "privileged": true })),
                secured("unprivileged", "mount -t tmpfs x /tmp 2>&1 | grep -o 'permission denied'; ls /dev", json!({})),
            ],
        }),
    )
}

/// The node's own effective capabilities bound those of a privileged container.
fn own_capabilities() -> String {
    let status = fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("CapEff:")).expect("CapEff");
    line.trim().to_owned()
}

fn confined() -> Value {
    let mode = format!("{}; {}", status("Seccomp"), status("NoNewPrivs"));
    let read_only = "touch /x 2>&1 | grep -o 'Read-only.*'; touch /tmp/x && echo a volume is not";
    let masked = "for file in kcore keys timer_list; do [ ! -e /proc/$file ] || head -c 10 /proc/$file; done; \
        ls -A /proc/acpi /sys/firmware 2>/dev/null | grep -v :; (echo 1 > /proc/sys/vm/drop_caches) 2>&1 | grep -o 'Read-only.*'";
    manifest(
        "confined",
        json!({
            "restartPolicy": "Never",
            "volumes": [{ "name": "tmp", "emptyDir": {} }],
            "containers": [
                secured("default", &mode, json!({ "seccompProfile": { "type": "RuntimeDefault" } })),
                secured("unconfined", &mode, json!({ "seccompProfile": { "type": "Unconfined" }, "allowPrivilegeEscalation": false })),
                secured("profile", &format!("{mode}; mkdir /tmp/x 2>&1"), json!({ "seccompProfile": { "type": "Localhost", "localhostProfile": "no-mkdir.json" } })),
                mounts(secured("read-only", read_only, json!({ "readOnlyRootFilesystem": true })), &[("tmp", "/tmp")]),
                shell("masked", masked),
            ],
        }),
    )
}

fn sysctls() -> Value {
    manifest(
        "sysctls",
        json!({
            "restartPolicy": "Never",
            "securityContext": { "sysctls": [
                { "name": "net.ipv4.ip_unprivileged_port_start", "value": "123" },
                { "name": "kernel.shm_rmid_forced", "value": "1" },
                { "name": "kernel.msgmax", "value": "65000" },
            ] },
            "containers": [shell("main", "cd /proc/sys; cat net/ipv4/ip_unprivileged_port_start kernel/shm_rmid_forced kernel/msgmax")],
        }),
    )
}

#[test]
fn security_contexts_are_what_containers_run_with() {
    let day = Day::with(Gates::On, &json!({ "allowedUnsafeSysctls": ["kernel.msg*"] }));
    let profiles = day.kubelet.dir().join("root/seccomp");
    fs::create_dir_all(&profiles).unwrap();
    let profile = json!({
        "defaultAction": "SCMP_ACT_ALLOW",
        "syscalls": [{ "names": ["mkdir", "mkdirat"], "action": "SCMP_ACT_ERRNO" }],
    });
    fs::write(profiles.join("no-mkdir.json"), profile.to_string()).unwrap();
    day.apply_all(&[users(), strict_groups(), capabilities(), confined(), sysctls()]);

    assert_eq!(day.printed("users", "root"), "0\n0\n0 4000 5000\n");
    assert_eq!(day.printed("users", "user"), "1000\n1000\n1000 4000 5000 50000\n");
    assert_eq!(day.printed("users", "both"), "1234\n4321\n4321 4000 5000\n");
    let refused = day.wait_container("it is refused", "users", "refused", |status| {
        let waiting = status["state"].get("waiting")?;
        (waiting["reason"] == "CreateContainerConfigError").then(|| waiting["message"].to_string())
    });
    assert!(refused.contains("runAsNonRoot"), "{refused}");
    assert_eq!(day.printed("strict", "main"), "1000 4000\n");

    let all = own_capabilities();
    assert_eq!(day.printed("capabilities", "default").trim(), DEFAULT_CAPABILITIES);
    assert_eq!(day.printed("capabilities", "one").trim(), BIND_ONLY);
    assert_eq!(day.printed("capabilities", "user").trim(), "0000000000000000");
    assert_eq!(day.printed("capabilities", "all").trim(), all);
    assert_eq!(day.printed("capabilities", "privileged"), format!("{all}\n/dev/kmsg\nmounted\n"));
    let shown = day.printed("capabilities", "unprivileged");
    assert!(shown.starts_with("permission denied\n") && !shown.contains("kmsg"), "{shown}");

    assert_eq!(day.printed("confined", "default"), "2\n0\n");
    assert_eq!(day.printed("confined", "unconfined"), "0\n1\n");
    let shown = day.printed("confined", "profile");
    assert!(shown.starts_with("2\n") && shown.contains("Operation not permitted"), "{shown}");
    assert_eq!(day.printed("confined", "read-only"), "Read-only file system\na volume is not\n");
    assert_eq!(day.printed("confined", "masked").trim(), "Read-only file system");
    assert_eq!(day.printed("sysctls", "main"), "123\n1\n65000\n");
    day.end();
}

/// Root of a pod without the host's users: what it writes to a volume is root's for the node too, through an id-mapped mount.
fn without_host_users() -> Value {
    let script = "id -u; awk '{ print $1, ($2 != 0), $3 }' /proc/self/uid_map; echo mine > /data/file; stat -c '%u:%g' /data/file; \
        touch /made && stat -c %u /made; hostname changed && echo its own";
    manifest(
        "users",
        json!({
            "restartPolicy": "Never",
            "hostUsers": false,
            "volumes": [{ "name": "data", "emptyDir": {} }],
            "containers": [mounts(secured("main", script, json!({ "capabilities": { "add": ["SYS_ADMIN"] } })), &[("data", "/data")])],
        }),
    )
}

#[test]
fn a_pod_without_the_hosts_users_has_ids_of_its_own_and_keeps_those_of_its_volumes() {
    let day = Day::start(Gates::On);
    day.kubelet.apply(&without_host_users());
    assert_eq!(day.printed("users", "main"), "0\n0 1 65536\n0:0\n0\nits own\n");
    let volume = format!("{}/volumes/kubernetes.io~empty-dir/data/file", pod_directory(&day, "users"));
    let owner = fs::metadata(&volume).unwrap_or_else(|error| panic!("{volume}: {error}"));
    assert_eq!((owner.uid(), owner.gid()), (0, 0));
    day.end();
}

fn pod_directory(day: &Day, pod: &str) -> String {
    let pod = day.pod(pod).expect("the pod");
    let hash =
        pod["metadata"]["annotations"]["kubernetes.io/config.hash"].as_str().expect("its hash").to_owned();
    day.kubelet.dir().join("root/pods").join(hash).display().to_string()
}
