//! A bundle, a state directory, and the program.

use std::{
    fs,
    os::unix::fs::symlink,
    path::{Path, PathBuf},
    process::{Child, Command, Output, Stdio},
};

use serde_json::{Value, json};

/// Where Debian's busybox-static is.
const BUSYBOX: &str = "/bin/busybox";

/// One test's own; everything goes with it.
pub struct World {
    dir: tempfile::TempDir,
    id: String,
}

impl World {
    /// `None` where the tests cannot run. `name` is the container's.
    pub fn new(name: &str) -> Option<Self> {
        if !rustix::process::geteuid().is_root() {
            husk_test_support::skip("root");
            return None;
        }
        if !Path::new(BUSYBOX).exists() {
            husk_test_support::skip("busybox");
            return None;
        }
        let dir = tempfile::tempdir().unwrap();
        let world = Self { id: format!("husk-oci-test-{name}-{}", std::process::id()), dir };
        let root = world.rootfs();
        for name in ["bin", "dev", "etc", "proc", "sys", "tmp", "root"] {
            fs::create_dir_all(root.join(name)).unwrap();
        }
        fs::copy(BUSYBOX, root.join("bin/busybox")).unwrap();
        for applet in
            ["sh", "cat", "echo", "id", "ls", "sleep", "true", "false", "env", "hostname", "touch", "mount"]
        {
            symlink("busybox", root.join("bin").join(applet)).unwrap();
        }
        fs::write(root.join("etc/passwd"), "root:x:0:0::/root:/bin/sh\n").unwrap();
        let spec = world.command(&["spec", "--bundle"]).arg(world.bundle()).output().unwrap();
        assert!(spec.status.success(), "{spec:?}");
        world.change(|config| config["process"]["terminal"] = json!(false));
        Some(world)
    }

    pub fn id(&self) -> &str {
        &self.id
    }

    pub fn bundle(&self) -> &Path {
        self.dir.path()
    }

    pub fn rootfs(&self) -> PathBuf {
        self.dir.path().join("rootfs")
    }

    /// The container's directory of state.
    pub fn state_dir(&self) -> PathBuf {
        self.dir.path().join("state").join(&self.id)
    }

    /// Changes the config.
    pub fn change(&self, change: impl FnOnce(&mut Value)) {
        let path = self.bundle().join("config.json");
        let mut config: Value = serde_json::from_slice(&fs::read(&path).unwrap()).unwrap();
        change(&mut config);
        fs::write(path, config.to_string()).unwrap();
    }

    /// Has the container run this.
    pub fn args(&self, args: &[&str]) {
        self.change(|config| config["process"]["args"] = json!(args));
    }

    pub fn command(&self, words: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_husk-oci"));
        command.arg("--root").arg(self.dir.path().join("state")).args(words).stdin(Stdio::null());
        command
    }

    /// A verb, its flags, and the container.
    pub fn verb(&self, words: &[&str]) -> Command {
        let mut command = self.command(words);
        if matches!(words[0], "create" | "run") {
            command.arg("--bundle").arg(self.bundle());
        }
        command.arg(&self.id);
        command
    }

    /// Runs a verb that works, and returns what it printed. What a container keeps open is not waited for.
    pub fn good(&self, words: &[&str]) -> String {
        let output = self.output(&mut self.verb(words));
        assert!(output.status.success(), "{words:?}: {output:?}");
        String::from_utf8(output.stdout).unwrap()
    }

    /// Runs a verb that fails, and returns why.
    pub fn bad(&self, words: &[&str]) -> String {
        let output = self.output(&mut self.verb(words));
        assert!(!output.status.success(), "{words:?}: {output:?}");
        String::from_utf8_lossy(&output.stderr).into_owned()
    }

    /// Runs something to its end, into files: a container that runs on has the streams of whoever created it.
    pub fn output(&self, command: &mut Command) -> Output {
        let [out, err] = [(); 2].map(|()| tempfile::NamedTempFile::new_in(self.dir.path()).unwrap());
        let status = command.stdout(out.reopen().unwrap()).stderr(err.reopen().unwrap()).status().unwrap();
        let read = |file: &tempfile::NamedTempFile| fs::read(file.path()).unwrap();
        Output { status, stdout: read(&out), stderr: read(&err) }
    }

    /// A command in the running container.
    pub fn exec(&self, words: &[&str]) -> Output {
        let mut command = self.command(&["exec", &self.id]);
        self.output(command.args(words))
    }

    /// Starts a verb and does not wait for it.
    pub fn begin(&self, words: &[&str]) -> Child {
        self.verb(words).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap()
    }

    /// What `state` says of the container.
    pub fn state(&self) -> Value {
        serde_json::from_str(&self.good(&["state"])).unwrap()
    }

    pub fn status(&self) -> String {
        self.state()["status"].as_str().unwrap().to_owned()
    }

    /// Directories of the container's cgroup, in all hierarchies.
    pub fn cgroups(&self) -> Vec<PathBuf> {
        let roots = fs::read_dir("/sys/fs/cgroup").unwrap().map(|entry| entry.unwrap().path());
        let roots = roots.chain([PathBuf::from("/sys/fs/cgroup")]);
        roots.map(|root| root.join(&self.id)).filter(|group| group.exists()).collect()
    }
}

impl Drop for World {
    fn drop(&mut self) {
        let _ = self.output(&mut self.verb(&["delete", "--force"]));
    }
}
