//! A huskd with an open Docker door, and what most tests of it do there.

use std::path::PathBuf;

use serde_json::{Value, json};
use tempfile::TempDir;

use crate::{Daemon, Docker, Options, busybox_archive};

/// A daemon with an open door.
#[derive(Debug)]
pub struct World {
    /// The daemon.
    pub husk: Daemon,
    /// A client of its door.
    pub docker: Docker,
    /// Where that is.
    pub socket: PathBuf,
    _dir: TempDir,
}

impl Default for World {
    fn default() -> Self {
        Self::new()
    }
}

impl World {
    /// One without an image.
    pub fn new() -> Self {
        let dir = tempfile::tempdir().expect("a directory");
        let socket = dir.path().join("docker.sock");
        let flags = vec!["--docker-address".to_owned(), socket.display().to_string()];
        let husk = Daemon::with(Options { flags, without_image: true, ..Options::default() });
        Self { husk, docker: Docker::new(&socket), socket, _dir: dir }
    }

    /// One with the image `files:1`, which has a busybox.
    pub fn with_image() -> Self {
        let world = Self::new();
        let layer = &busybox_archive().layers[0].0;
        let path = "/images/create?fromSrc=-&repo=files&tag=1";
        world.docker.send("POST", path, &[], layer).documents();
        world
    }

    /// Makes a container that runs a shell script; `more` goes into the request. Returns its id.
    pub fn create(&self, name: &str, script: &str, more: Value) -> String {
        let mut wanted = json!({ "Image": "files:1", "Cmd": ["sh", "-c", script] });
        let fields = wanted.as_object_mut().expect("an object");
        fields.extend(more.as_object().expect("an object").clone());
        let made = self.docker.post(&format!("/containers/create?name={name}"), &wanted).json(201);
        made["Id"].as_str().expect("an id").to_owned()
    }

    /// Makes and starts one.
    pub fn run(&self, name: &str, script: &str, more: Value) -> String {
        let id = self.create(name, script, more);
        let started = self.docker.send("POST", &format!("/containers/{name}/start"), &[], b"");
        assert_eq!(started.status, 204, "{}", started.text());
        id
    }

    /// Runs one to its end, takes what it said, and removes it.
    pub fn output(&self, script: &str, more: Value) -> String {
        let mut more = more;
        more.as_object_mut().expect("an object").insert("Tty".to_owned(), true.into());
        self.run("short", script, more);
        let code = self.wait("short");
        let said = self.docker.get("/containers/short/logs?stdout=1&stderr=1").text().replace('\r', "");
        self.remove("short");
        assert_eq!(code, 0, "{said}");
        said.trim_end().to_owned()
    }

    /// Its state, as inspection shows it.
    pub fn state(&self, name: &str) -> Value {
        self.docker.get(&format!("/containers/{name}/json")).json(200)["State"].clone()
    }

    /// Its exit code, when it has ended.
    pub fn wait(&self, name: &str) -> Value {
        self.docker.send("POST", &format!("/containers/{name}/wait"), &[], b"").json(200)["StatusCode"]
            .clone()
    }

    /// Removes it, running or not.
    pub fn remove(&self, name: &str) {
        assert_eq!(self.docker.delete(&format!("/containers/{name}?force=1&v=1")).status, 204);
    }
}
