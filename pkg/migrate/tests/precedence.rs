//! Of two files that set a key, the one counts that counts for the peer.

use std::{fs, path::Path};

use husk_config::Config;
use husk_migrate::{Kind, Peer, Plan, plan};

fn node(files: &[(&str, &str)]) -> tempfile::TempDir {
    let root = tempfile::tempdir().unwrap();
    for (path, text) in files {
        let path = root.path().join(path.trim_start_matches('/'));
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }
    root
}

fn made(peer: Peer, files: &[(&str, &str)]) -> (Plan, Config) {
    let root = node(files);
    let plan = plan(peer, root.path(), None).unwrap();
    let config = husk_config::parse(Path::new("planned"), &plan.config).unwrap();
    (plan, config)
}

fn kind(plan: &Plan, file: &str, key: &str) -> Kind {
    let found: Vec<_> =
        plan.findings.iter().filter(|finding| finding.file == file && finding.key == key).collect();
    assert_eq!(found.len(), 1, "{file} {key}: {:?}", plan.findings);
    found[0].kind
}

const MAIN: &str = "/etc/containerd/config.toml";
const ONE: &str = "/etc/containerd/conf.d/10.toml";
const TWO: &str = "/etc/containerd/conf.d/20.toml";

#[test]
fn imports_of_containerd_2_are_merged_key_by_key_and_the_last_wins() {
    let section = "[plugins.'io.containerd.cri.v1.runtime'.cni]\n";
    let (plan, config) = made(
        Peer::Containerd,
        &[
            (
                MAIN,
                &format!(
                    "version = 3\nimports = ['conf.d/*.toml']\nroot = '/a/c'\n{section}conf_dir = \
                     '/a'\nbin_dir = '/a'\n"
                ),
            ),
            (TWO, &format!("version = 3\nroot = ''\n{section}conf_dir = '/c'\n")),
            (ONE, &format!("version = 3\nroot = '/b/c'\n{section}conf_dir = '/b'\n")),
        ],
    );
    assert_eq!(config.network.cni_conf_dir, Path::new("/c"));
    assert_eq!(config.network.cni_bin_dir, Path::new("/a"), "a key that no import sets stays");
    assert_eq!(config.root, Path::new("/b/husk"), "what is empty at the top changes nothing");
    let key = "plugins.\"io.containerd.cri.v1.runtime\".cni.conf_dir";
    assert_eq!([MAIN, ONE].map(|file| kind(&plan, file, key)), [Kind::Overridden; 2]);
    assert_eq!(kind(&plan, TWO, key), Kind::Taken);
    assert_eq!(kind(&plan, TWO, "root"), Kind::NotNeeded);
}

#[test]
fn an_import_of_containerd_1_replaces_the_section_of_a_plugin() {
    let section = "[plugins.\"io.containerd.grpc.v1.cri\"";
    let (plan, config) = made(
        Peer::Containerd,
        &[
            (
                MAIN,
                &format!(
                    "version = 2\nimports = [\"{ONE}\"]\n{section}.cni]\nbin_dir = \
                     \"/a\"\n[plugins.\"io.containerd.nri.v1.nri\"]\ndisable = false\n"
                ),
            ),
            (
                ONE,
                &format!("version = 2\n{section}.containerd.runtimes.runc.options]\nSystemdCgroup = true\n"),
            ),
        ],
    );
    assert_eq!(config.network.cni_bin_dir, Path::new("/opt/cni/bin"), "it was in the section that is gone");
    assert!(config.nri.is_some(), "another plugin's section stays");
    assert_eq!(kind(&plan, MAIN, "plugins.\"io.containerd.grpc.v1.cri\".cni.bin_dir"), Kind::Overridden);
}

#[test]
fn files_that_import_each_other_are_read_once() {
    let (plan, config) = made(
        Peer::Containerd,
        &[
            (
                MAIN,
                "version = 3\nimports = ['conf.d/10.toml', \
                 '/etc/containerd/../containerd/config.toml']\n[debug]\nlevel = 'warn'\n",
            ),
            (ONE, "version = 3\nimports = ['../config.toml', '10.toml', './20.toml']\n"),
            (TWO, "version = 3\n[debug]\nlevel = 'error'\n"),
        ],
    );
    assert_eq!(config.log.level, "error");
    assert_eq!(kind(&plan, MAIN, "debug.level"), Kind::Overridden);
}

#[test]
fn drop_ins_of_crio_win_by_name_with_empty_values_too_and_replace_a_handler_as_a_whole() {
    let (plan, config) = made(
        Peer::Crio,
        &[
            (
                "/etc/crio/crio.conf",
                "[crio.runtime]\nlog_level = 'debug'\nhooks_dir = \
                 ['/x']\n[crio.runtime.runtimes.crun]\nallowed_annotations = ['a']\n",
            ),
            ("/etc/crio/crio.conf.d/99", "[crio.runtime]\nlog_level = 'warn'\nhooks_dir = []\n"),
            (
                "/etc/crio/crio.conf.d/10.conf.bak",
                "[crio.runtime]\nlog_level = 'error'\n[crio.runtime.runtimes.crun]\nruntime_path = '/crun'\n",
            ),
        ],
    );
    assert_eq!(config.log.level, "warn");
    let main = "/etc/crio/crio.conf";
    assert_eq!(kind(&plan, main, "crio.runtime.hooks_dir"), Kind::Overridden);
    assert_eq!(kind(&plan, main, "crio.runtime.runtimes.crun.allowed_annotations"), Kind::Overridden);
    assert_eq!(kind(&plan, "/etc/crio/crio.conf.d/10.conf.bak", "crio.runtime.log_level"), Kind::Overridden);
}

#[test]
fn a_registry_of_a_later_file_replaces_that_of_the_same_prefix_as_a_whole() {
    let later = "/etc/containers/registries.conf.d/9.conf";
    let (plan, _) = made(
        Peer::Crio,
        &[
            (
                "/etc/containers/registries.conf",
                "[[registry]]\nlocation = 'quay.io'\ninsecure = true\n[[registry]]\nlocation = \
                 'a.example'\nblocked = true\n",
            ),
            (later, "[[registry]]\nprefix = 'quay.io'\nlocation = 'm.example/quay'\n"),
            ("/etc/containers/registries.conf.d/8.txt", "[[registry]]\nlocation = 'not.read'\n"),
        ],
    );
    assert_eq!(kind(&plan, "/etc/containers/registries.conf", "registry[0].insecure"), Kind::Overridden);
    let file = |host: &str| {
        let path = format!("/etc/husk/certs.d/{host}/hosts.toml");
        let found =
            plan.files.iter().find(|file| file.path == Path::new(&path)).map(|file| file.contents.clone());
        found.map(|bytes| String::from_utf8(bytes).unwrap())
    };
    assert_eq!(
        file("quay.io").unwrap(),
        "# Written by `husk migrate`.\nserver = \"https://m.example/v2/quay\"\noverride_path = true\n"
    );
    assert!(file("a.example").unwrap().contains("capabilities = [\"push\"]"));
    assert_eq!(file("not.read"), None);
}

#[test]
fn what_husk_would_not_start_with_is_left_out_and_named() {
    let long = format!("/{}/containerd.sock", "x".repeat(200));
    let (plan, config) = made(
        Peer::Containerd,
        &[(
            MAIN,
            &format!(
                "version = 3\n[grpc]\naddress = '{long}'\n[metrics]\naddress = \
                 'metrics.example:1'\n[debug]\nlevel = 'loud'\n"
            ),
        )],
    );
    assert_eq!(config.address, Path::new("/run/husk/husk.sock"));
    for key in ["grpc.address", "metrics.address", "debug.level"] {
        assert_eq!(kind(&plan, MAIN, key), Kind::NoCounterpart, "{key}");
    }
}

#[test]
fn without_a_file_it_is_the_peers_default() {
    let (plan, config) = made(Peer::Containerd, &[]);
    assert_eq!(config.cgroup.driver, husk_config::CgroupDriver::Cgroupfs);
    assert!(plan.findings.is_empty() && plan.notes[0].contains("is not there"), "{:?}", plan.notes);
    let root = node(&[]);
    let error = husk_migrate::plan(Peer::Crio, root.path(), Some(Path::new("/etc/x.conf"))).unwrap_err();
    assert_eq!(error.to_string(), "/etc/x.conf: there is no such file, and --config wants it");
}

#[test]
fn of_two_directories_of_registries_the_first_has_the_last_word_and_a_default_ends_the_search() {
    let hosts = |server: &str| format!("server = \"https://{server}\"\n");
    let (a, b) = (hosts("a.example"), hosts("b.example"));
    let main = "version = 2\n[plugins.'io.containerd.grpc.v1.cri'.registry]\nconfig_path = '/one:/two'\n";
    let read = |first: &str| {
        let first = format!("/one/{first}/hosts.toml");
        let files = [
            (MAIN, main),
            (&first, a.as_str()),
            ("/two/x.example/hosts.toml", &b),
            ("/two/y.example/hosts.toml", &b),
        ];
        let (plan, _) = made(Peer::Containerd, &files);
        let mut names: Vec<_> = plan
            .files
            .iter()
            .map(|file| {
                (
                    file.path.display().to_string(),
                    String::from_utf8_lossy(&file.contents).contains("a.example"),
                )
            })
            .collect();
        names.sort();
        names
    };
    let in_husk = |host: &str, is_first: bool| (format!("/etc/husk/certs.d/{host}/hosts.toml"), is_first);
    assert_eq!(read("x.example"), [in_husk("x.example", true), in_husk("y.example", false)]);
    assert_eq!(read("_default"), [in_husk("_default", true)]);
}

#[test]
fn what_stays_on_the_node_is_not_insecure_and_credentials_leave_it_encrypted_alone() {
    let (plan, _) = made(
        Peer::Containerd,
        &[(
            MAIN,
            "version = 2\n[plugins.'io.containerd.grpc.v1.cri'.registry]\n\
             mirrors.'a.example'.endpoint = ['http://127.0.0.1:30020']\n\
             mirrors.'b.example'.endpoint = ['http://m.example']\n\
             configs.'m.example'.auth.auth = 'eDp5'\n",
        )],
    );
    let registry = "plugins.\"io.containerd.grpc.v1.cri\".registry";
    assert_eq!(kind(&plan, MAIN, &format!("{registry}.mirrors.\"a.example\".endpoint")), Kind::Taken);
    assert_eq!(kind(&plan, MAIN, &format!("{registry}.mirrors.\"b.example\".endpoint")), Kind::Insecure);
    let hosts = plan.files.iter().filter(|file| file.path.ends_with("hosts.toml"));
    assert!(hosts.clone().count() == 2 && hosts.into_iter().all(|file| !file.secret), "{:?}", plan.files);
}

#[test]
fn where_images_can_be_taken_over_from_is_said_by_the_file_that_counts() {
    const STORAGE: &str = "/etc/containers/storage.conf";
    let storage = "[storage]\ndriver = \"overlay\"\ngraphroot = \"/data/cs\"\n[storage.options]\nadditionalimagestores = [\"/mnt/x\"]\n";
    let files = [
        (STORAGE, storage),
        ("/usr/share/containers/storage.conf", "[storage]\ngraphroot = \"/usr-is-not-read\"\n"),
    ];
    let note =
        |plan: &Plan| plan.notes.iter().find(|note| note.contains("--from containers-storage")).cloned();
    let (plan, _) = made(Peer::Crio, &files);
    assert!(note(&plan).unwrap().ends_with("--root /data/cs"), "{:?}", plan.notes);
    assert_eq!(kind(&plan, STORAGE, "storage.driver"), Kind::Default);
    assert_eq!(kind(&plan, STORAGE, "storage.options.additionalimagestores"), Kind::NoCounterpart);
    let crio = ("/etc/crio/crio.conf", "[crio]\nroot = \"/data/crio\"\n");
    let (plan, _) = made(Peer::Crio, &[files[0], crio]);
    assert!(note(&plan).unwrap().ends_with("--root /data/crio"), "{:?}", plan.notes);
    assert_eq!(note(&made(Peer::Crio, &[]).0), None);
}
