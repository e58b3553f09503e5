//! AppArmor: whether the node has it, which profiles are loaded, and loading our own.
//!
//! The kernel takes compiled profiles only, so loading needs `apparmor_parser` (package apparmor), as with every runtime.

use std::{
    fs, io,
    path::{Path, PathBuf},
    process::Stdio,
    time::Duration,
};

use husk_model::AppArmor as Wish;
use tokio::{io::AsyncWriteExt, process::Command, sync::OnceCell};
use tracing::{info, warn};

use crate::{LsmError, profile};

/// `Y` when the kernel enforces AppArmor.
const ENABLED: &str = "sys/module/apparmor/parameters/enabled";
/// One `name (mode)` a line; securityfs must be mounted.
const PROFILES: &str = "sys/kernel/security/apparmor/profiles";
/// Where distributions put the parser, below the root.
const PARSERS: [&str; 3] = ["usr/sbin/apparmor_parser", "sbin/apparmor_parser", "usr/bin/apparmor_parser"];
/// Compiling takes half a second; under emulation some.
const LOAD_LIMIT: Duration = Duration::from_secs(60);

/// What the node can do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Availability {
    /// The kernel does not enforce it.
    Absent,
    /// It does, but nothing can load the default profile: `apparmor_parser` is missing and nobody else has loaded it.
    NoParser,
    /// It does.
    Enabled,
}

impl Availability {
    /// For people.
    pub fn as_str(self) -> &'static str {
        match self {
            Availability::Absent => "absent",
            Availability::NoParser => {
                "enabled, but apparmor_parser is missing: containers without a profile of their own run unconfined"
            }
            Availability::Enabled => "enabled",
        }
    }
}

/// The node's AppArmor.
#[derive(Debug)]
pub struct AppArmor {
    root: PathBuf,
    loaded: OnceCell<()>,
}

impl Default for AppArmor {
    fn default() -> Self {
        Self::below(Path::new("/"))
    }
}

impl AppArmor {
    /// That of a node whose files are below `root`.
    pub fn below(root: &Path) -> Self {
        Self { root: root.to_owned(), loaded: OnceCell::new() }
    }

    /// What the node can do now.
    pub fn availability(&self) -> Availability {
        if !fs::read(self.root.join(ENABLED)).is_ok_and(|text| text.starts_with(b"Y")) {
            Availability::Absent
        } else if self.parser().is_none() && !self.is_loaded(profile::NAME) {
            Availability::NoParser
        } else {
            Availability::Enabled
        }
    }

    /// The profile a container gets; `None` leaves it unconfined. The default one is loaded first, once per daemon, so that an
    /// upgrade brings its own text.
    ///
    /// # Errors
    /// [`LsmError`] for a profile by name that the node cannot apply, and for a default one that was asked for and cannot be
    /// loaded. A request that says nothing gets less with a warning, where the node cannot give more.
    pub async fn profile(&self, wish: &Wish, privileged: bool) -> Result<Option<String>, LsmError> {
        let availability = self.availability();
        match (wish, availability) {
            (Wish::Unconfined, _) => Ok(None),
            (Wish::Localhost(profile), Availability::Absent) => {
                Err(LsmError::NoAppArmor { profile: profile.clone() })
            }
            (Wish::Localhost(profile), _) if self.is_loaded(profile) => Ok(Some(profile.clone())),
            (Wish::Localhost(profile), _) => Err(LsmError::NotLoaded { profile: profile.clone() }),
            (Wish::Unset, _) if privileged => Ok(None),
            (Wish::Unset | Wish::RuntimeDefault, Availability::Absent) => Ok(None),
            (Wish::Unset, Availability::NoParser) => {
                warn!(
                    "a container runs without AppArmor: apparmor_parser, which loads husk's profile, is missing"
                );
                Ok(None)
            }
            (Wish::Unset | Wish::RuntimeDefault, _) => {
                self.loaded.get_or_try_init(|| self.load()).await?;
                Ok(Some(profile::NAME.to_owned()))
            }
        }
    }

    fn parser(&self) -> Option<PathBuf> {
        PARSERS.iter().map(|path| self.root.join(path)).find(|path| path.is_file())
    }

    /// Whether the kernel has a profile of this name.
    fn is_loaded(&self, name: &str) -> bool {
        let list = fs::read_to_string(self.root.join(PROFILES)).unwrap_or_default();
        list.lines().any(|line| line.rsplit_once(" (").is_some_and(|(loaded, _)| loaded == name))
    }

    async fn load(&self) -> Result<(), LsmError> {
        let failed = |reason: String| LsmError::Load { profile: profile::NAME, reason };
        let Some(parser) = self.parser() else {
            if self.is_loaded(profile::NAME) {
                return Ok(());
            }
            let reason = "apparmor_parser is missing on this node; install the package apparmor";
            return Err(failed(reason.to_owned()));
        };
        let output = tokio::time::timeout(LOAD_LIMIT, feed(&parser))
            .await
            .map_err(|_| failed(format!("apparmor_parser did not end within {} s", LOAD_LIMIT.as_secs())))?
            .map_err(|error| failed(format!("run {}: {error}", parser.display())))?;
        if !output.status.success() {
            let words = String::from_utf8_lossy(&output.stderr);
            return Err(failed(format!("apparmor_parser ended with {}: {}", output.status, words.trim())));
        }
        info!(profile = profile::NAME, "loaded the default AppArmor profile");
        Ok(())
    }
}

/// Gives the parser the profile: replace a loaded one, keep no cache.
async fn feed(parser: &Path) -> io::Result<std::process::Output> {
    let mut child = Command::new(parser)
        .args(["--replace", "--skip-cache"])
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .kill_on_drop(true)
        .spawn()?;
    if let Some(mut stdin) = child.stdin.take() {
        // One that does not read it says why on its own.
        let _ = stdin.write_all(profile::TEXT.as_bytes()).await;
    }
    child.wait_with_output().await
}

#[cfg(test)]
mod tests {
    use std::{
        os::unix::fs::PermissionsExt,
        sync::{Mutex, MutexGuard, PoisonError},
    };

    use husk_model::{Classify, Kind};

    use super::*;

    /// A script that is open for writing in a child that another test has just cloned cannot be executed: one at a time.
    static ALONE: Mutex<()> = Mutex::new(());

    struct Node(tempfile::TempDir, #[expect(dead_code, reason = "held")] MutexGuard<'static, ()>);

    impl Node {
        fn new(files: &[(&str, &str)]) -> Self {
            let alone = ALONE.lock().unwrap_or_else(PoisonError::into_inner);
            let node = Self(tempfile::tempdir().unwrap(), alone);
            for (path, text) in files {
                let path = node.0.path().join(path);
                fs::create_dir_all(path.parent().unwrap()).unwrap();
                fs::write(&path, text).unwrap();
                fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
            }
            node
        }

        fn profile(&self, wish: &Wish, privileged: bool) -> Result<Option<String>, LsmError> {
            let threads = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            threads.block_on(AppArmor::below(self.0.path()).profile(wish, privileged))
        }
    }

    const PARSER: &str = "#!/bin/sh\nprintf '%s ' \"$@\" > $0.log\ncat >> $0.log\n";

    fn named(name: &str) -> Wish {
        Wish::Localhost(name.to_owned())
    }

    #[test]
    fn without_apparmor_the_default_is_nothing_and_a_name_is_refused() {
        for files in [&[][..], &[(ENABLED, "N\n")]] {
            let node = Node::new(files);
            for wish in [Wish::Unset, Wish::RuntimeDefault, Wish::Unconfined] {
                assert_eq!(node.profile(&wish, false).unwrap(), None, "{wish:?}");
            }
            let error = node.profile(&named("mine"), false).unwrap_err();
            assert_eq!(error.kind(), Kind::InvalidArgument);
            assert!(
                error.to_string().contains("mine") && error.to_string().contains("no AppArmor"),
                "{error}"
            );
        }
    }

    #[test]
    fn the_default_profile_is_loaded_before_it_is_used() {
        let node = Node::new(&[(ENABLED, "Y\n"), (PROFILES, ""), (PARSERS[1], PARSER)]);
        assert_eq!(node.profile(&Wish::Unset, false).unwrap().as_deref(), Some("husk-default"));
        let log = fs::read_to_string(node.0.path().join("sbin/apparmor_parser.log")).unwrap();
        assert!(log.starts_with("--replace --skip-cache") && log.contains("profile husk-default"), "{log}");
        assert_eq!(node.profile(&Wish::RuntimeDefault, false).unwrap().as_deref(), Some("husk-default"));
    }

    #[test]
    fn privileged_containers_are_unconfined_unless_a_profile_is_named() {
        let node = Node::new(&[(ENABLED, "Y\n"), (PROFILES, "mine (enforce)\n"), (PARSERS[0], PARSER)]);
        assert_eq!(node.profile(&Wish::Unset, true).unwrap(), None);
        assert_eq!(node.profile(&Wish::Unconfined, true).unwrap(), None);
        assert_eq!(node.profile(&named("mine"), true).unwrap().as_deref(), Some("mine"));
        assert_eq!(node.profile(&Wish::RuntimeDefault, true).unwrap().as_deref(), Some("husk-default"));
    }

    #[test]
    fn a_named_profile_must_be_loaded_under_that_very_name() {
        let list = "mine (enforce)\nmine//child (complain)\nwith (brackets) (enforce)\n";
        let node = Node::new(&[(ENABLED, "Y\n"), (PROFILES, list)]);
        for name in ["mine", "mine//child", "with (brackets)"] {
            assert_eq!(node.profile(&named(name), false).unwrap().as_deref(), Some(name));
        }
        for name in ["min", "mine ", "min*", "child", ""] {
            let error = node.profile(&named(name), false).unwrap_err();
            assert!(error.to_string().contains("is not loaded"), "{name}: {error}");
        }
    }

    #[test]
    fn a_missing_parser_fails_who_asked_and_warns_who_did_not() {
        let node = Node::new(&[(ENABLED, "Y\n"), (PROFILES, "")]);
        assert_eq!(AppArmor::below(node.0.path()).availability(), Availability::NoParser);
        assert_eq!(node.profile(&Wish::Unset, false).unwrap(), None);
        let error = node.profile(&Wish::RuntimeDefault, false).unwrap_err();
        assert!(error.to_string().contains("apparmor_parser is missing"), "{error}");
        drop(node);
        // Somebody else may have loaded it.
        let node = Node::new(&[(ENABLED, "Y\n"), (PROFILES, "husk-default (enforce)\n")]);
        assert_eq!(node.profile(&Wish::Unset, false).unwrap().as_deref(), Some("husk-default"));
    }

    #[test]
    fn a_parser_that_refuses_is_quoted() {
        let parser = "#!/bin/sh\ncat > /dev/null\necho 'syntax error in line 3' >&2\nexit 1\n";
        let node = Node::new(&[(ENABLED, "Y\n"), (PROFILES, ""), (PARSERS[0], parser)]);
        let error = node.profile(&Wish::Unset, false).unwrap_err();
        assert_eq!(error.kind(), Kind::FailedPrecondition);
        assert!(error.to_string().contains("syntax error in line 3"), "{error}");
    }
}
