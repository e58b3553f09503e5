//! The monitor's own program, which its children are until they execute a container's (CVE-2019-5736).

use std::{
    fs,
    os::unix::fs::{MetadataExt, PermissionsExt, symlink},
    path::Path,
};

use husk_monitor::PidNamespace;
use husk_sys::mount;

use crate::world::{self, Pod, Wish};

/// Mode, owner and size of the node's file.
fn identity(path: &Path) -> (u32, u32, u64) {
    let metadata = fs::metadata(path).unwrap();
    (metadata.mode(), metadata.uid(), metadata.size())
}

/// A container of the image with something more in its writable layer.
fn with_files(pod: &Pod, args: &[&str]) -> Wish {
    let wish = pod.wish(args);
    let upper = &wish.request.rootfs.upper;
    fs::write(upper.join("script"), "#!/proc/self/exe\n").unwrap();
    fs::set_permissions(upper.join("script"), fs::Permissions::from_mode(0o755)).unwrap();
    symlink("/proc/self/exe", upper.join("link")).unwrap();
    wish
}

#[tokio::test]
async fn a_container_executes_the_monitors_program_by_no_link() {
    let Some(pod) = world::pod().await else { return };
    pod.run().await;
    for command in ["/proc/self/exe", "/script", "/link", "/proc/thread-self/exe"] {
        // If it ran, it would wait for the end of its input, which is there, and succeed.
        let wish = with_files(&pod, &[command, "--anchor"]);
        pod.monitor.create_container(wish.request).await.unwrap();
        let error = pod.monitor.start_container(&wish.id).await.expect_err(command).to_string();
        assert!(error.contains("ermission denied"), "{command}: {error}");
    }
    let id = pod.start_container(with_files(&pod, &["sleep", "1000"])).await;
    for command in ["/proc/self/exe", "/script", "/link"] {
        let argv = vec![command.to_owned(), "--anchor".to_owned()];
        let error = pod.monitor.exec_sync(&id, argv, None).await.expect_err(command).to_string();
        assert!(error.contains("ermission denied"), "{command}: {error}");
    }
    pod.finish().await;
}

#[tokio::test]
async fn a_tracer_in_the_pod_changes_nothing_of_the_nodes_program() {
    let Some(pod) = world::pod().await else { return };
    pod.run().await;
    let program = world::podmon();
    let before = identity(&program);
    let shared = |mut wish: Wish| {
        wish.request.pid = PidNamespace::Pod;
        wish
    };
    // At its gate, in the PID namespace of the other.
    let waiting = shared(pod.wish(&["sleep", "1000"]));
    pod.monitor.create_container(waiting.request).await.unwrap();
    let mut tracer = shared(pod.wish(&["sleep", "1000"]));
    tracer.request.spec_json = String::from_utf8(tracer.request.spec_json)
        .unwrap()
        .replace("\"CAP_KILL\"", "\"CAP_KILL\",\"CAP_SYS_PTRACE\",\"CAP_SYS_ADMIN\"")
        .into_bytes();
    let tracer = pod.start_container(tracer).await;
    let script = "for p in /proc/[0-9]*; do e=$p/exe; \
        head -c 4 $e >/dev/null && echo reached; chmod 0 $e; chown 1 $e; \
        echo x >$e; mount -o remount,rw $e; mount -o remount,bind,exec $e; $e --anchor; done";
    let argv = ["sh", "-c", script].map(str::to_owned).to_vec();
    let output = pod.monitor.exec_sync(&tracer, argv, None).await.unwrap();
    // Its own, pause's and the waiting one's at least: else the test has shown nothing.
    assert!(String::from_utf8_lossy(&output.stdout).matches("reached").count() >= 3, "{output:?}");
    assert_eq!(identity(&program), before);
    pod.finish().await;
}

/// What a privileged tracer could change the flags of is a mount that somebody still holds.
#[tokio::test]
async fn the_mount_that_the_monitor_was_started_from_is_gone_when_its_sandbox_runs() {
    let Some(pod) = world::pod().await else { return };
    pod.run().await;
    let link = format!("/proc/{}/exe", pod.monitor.process().pid);
    let program = fs::File::open(link).unwrap();
    let remount = mount::Change { clear: mount::Attr::MOUNT_ATTR_NOEXEC, ..Default::default() };
    let error = mount::change(&program, false, remount).unwrap_err();
    assert_eq!(error.errno(), rustix::io::Errno::INVAL, "{error}");
    pod.finish().await;
}
