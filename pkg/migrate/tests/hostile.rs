//! Files that nobody should have written: errors that name them, soon.

use std::{
    fs,
    os::unix::fs::symlink,
    path::{Path, PathBuf},
    time::Instant,
};

use husk_migrate::{Peer, plan};

const MAIN: &str = "etc/containerd/config.toml";

fn write(root: &Path, path: &str, bytes: impl AsRef<[u8]>) -> PathBuf {
    let path = root.join(path);
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    fs::write(&path, bytes).unwrap();
    path
}

/// What is said of a node that `make` made, with everything that caused it.
fn said(peer: Peer, make: impl FnOnce(&Path)) -> String {
    let root = tempfile::tempdir().unwrap();
    make(root.path());
    let begun = Instant::now();
    let said = match plan(peer, root.path(), None) {
        Ok(_) => "a plan".to_owned(),
        Err(error) => {
            let cause =
                std::error::Error::source(&error).map(|cause| format!(": {cause}")).unwrap_or_default();
            format!("{error}{cause}")
        }
    };
    assert!(begun.elapsed().as_secs() < 60, "it took {:?}", begun.elapsed());
    said
}

fn check(peer: Peer, wanted: &[&str], make: impl FnOnce(&Path)) {
    let said = said(peer, make);
    for part in wanted {
        assert!(said.contains(part), "{part:?} is not in {said:?}");
    }
}

#[test]
fn a_huge_file_is_not_read() {
    check(Peer::Containerd, &["/etc/containerd/config.toml", "larger than 1048576 bytes"], |root| {
        write(root, MAIN, vec![b'\n'; 2 << 20]);
    });
    check(Peer::Crio, &["/etc/crio/crio.conf.d/1", "larger"], |root| {
        write(root, "etc/crio/crio.conf.d/1", vec![b'#'; 2 << 20]);
    });
}

#[test]
fn a_loop_of_links_is_an_error_that_says_so() {
    check(Peer::Containerd, &["/etc/containerd/config.toml", "Too many levels of symbolic links"], |root| {
        fs::create_dir_all(root.join("etc/containerd")).unwrap();
        symlink("config.toml", root.join(MAIN)).unwrap();
    });
    check(Peer::Containerd, &["/etc/loop/x.toml", "Too many levels"], |root| {
        write(root, MAIN, "version = 3\nimports = ['/etc/loop/x.toml']\n");
        symlink("loop", root.join("etc/loop")).unwrap();
    });
    check(Peer::Containerd, &["beyond 4096 files and directories"], |root| {
        write(
            root,
            MAIN,
            "version = 3\n[plugins.'io.containerd.cri.v1.images'.registry]\nconfig_path = '/certs'\n",
        );
        for name in 0..40 {
            write(root, &format!("certs/a.example/{name}.crt"), "x");
        }
        for name in ["a", "b", "c", "d", "e"] {
            symlink(".", root.join("certs/a.example").join(name)).unwrap();
        }
    });
}

#[test]
fn an_import_through_a_link_stays_inside_the_root() {
    check(
        Peer::Containerd,
        &["/etc/out.toml", "no such file", "imports of /etc/containerd/config.toml"],
        |root| {
            write(root, MAIN, "version = 3\nimports = ['/etc/out.toml']\n");
            symlink("/../../../../../../etc/hostname", root.join("etc/out.toml")).unwrap();
        },
    );
}

#[test]
fn bytes_that_are_no_text_are_named_by_their_place() {
    check(Peer::Containerd, &["/etc/containerd/config.toml", "not UTF-8 at byte 12"], |root| {
        write(root, MAIN, b"version = 3\n\xff\xfe");
    });
    check(Peer::Crio, &["/etc/containers/policy.json", "not UTF-8"], |root| {
        write(root, "etc/containers/policy.json", b"\x80");
    });
}

#[test]
fn what_nests_without_end_is_refused() {
    for text in [
        format!("{} = 1", vec!["a"; 100_000].join(".")),
        format!("[{}]", vec!["a"; 400].join(".")),
        format!("a = {}", "[".repeat(100_000)),
        format!("a = {}", "{a=".repeat(100_000)),
    ] {
        check(Peer::Containerd, &["/etc/containerd/config.toml"], |root| {
            write(root, MAIN, text);
        });
    }
    check(Peer::Crio, &["/etc/containers/policy.json", "recursion limit"], |root| {
        write(root, "etc/containers/policy.json", "{\"a\":".repeat(10_000));
    });
}

#[test]
fn imports_have_an_end() {
    check(Peer::Containerd, &["beyond 64 imported files"], |root| {
        for number in 0..100 {
            let next = number + 1;
            write(root, &format!("etc/containerd/{number}.toml"), format!("imports = ['{next}.toml']\n"));
        }
        write(root, MAIN, "version = 3\nimports = ['0.toml']\n");
    });
    check(Peer::Containerd, &["beyond 64 imported files"], |root| {
        for number in 0..100 {
            write(root, &format!("etc/containerd/conf.d/{number}.toml"), "version = 3\n");
        }
        write(root, MAIN, "version = 3\nimports = ['conf.d/*']\n");
    });
}

#[test]
fn very_many_keys_are_refused_and_many_are_read_soon() {
    let registries = |count: usize| {
        (0..count)
            .map(|n| format!("[[registry]]\nlocation='r{n}.example'\nblocked=true\n"))
            .collect::<String>()
    };
    check(Peer::Crio, &["/etc/containers/registries.conf", "beyond 20000 keys"], |root| {
        write(root, "etc/containers/registries.conf", registries(15_000));
    });
    check(Peer::Crio, &["a plan"], |root| {
        write(root, "etc/containers/registries.conf", registries(3_000));
    });
}

#[test]
fn a_registry_cannot_name_a_file_elsewhere() {
    let root = tempfile::tempdir().unwrap();
    write(
        root.path(),
        "etc/containers/registries.conf",
        "[[registry]]\nlocation = '../../../etc'\nblocked = true\n[[registry]]\nlocation = '..'\nblocked = \
         true\n",
    );
    let plan = plan(Peer::Crio, root.path(), None).unwrap();
    assert_eq!(plan.files, []);
    let root = tempfile::tempdir().unwrap();
    write(
        root.path(),
        MAIN,
        "version = 2\n[plugins.cri.registry.mirrors.'../../x']\nendpoint = ['http://a']\n\
         [plugins.cri.registry.configs.'../y'.tls]\ninsecure_skip_verify = true\n",
    );
    let plan = husk_migrate::plan(Peer::Containerd, root.path(), None).unwrap();
    assert_eq!(plan.files, []);
}
