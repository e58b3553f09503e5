//! A private dbus-daemon.

use std::{
    fs, io,
    io::Read as _,
    path::PathBuf,
    process::{Child, Command, Stdio},
};

/// A bus; ended when dropped.
pub struct Bus {
    pub dir: tempfile::TempDir,
    daemon: Child,
}

impl Bus {
    /// `None`, loudly, where dbus-daemon is not installed.
    pub fn start() -> Option<Self> {
        let dir = tempfile::tempdir().unwrap();
        let config = format!(
            "<busconfig><type>session</type><listen>unix:path={}</listen><auth>EXTERNAL</auth>\
             <policy context=\"default\"><allow send_destination=\"*\"/><allow eavesdrop=\"true\"/><allow own=\"*\"/>\
             </policy></busconfig>",
            dir.path().join("bus").display(),
        );
        fs::write(dir.path().join("bus.conf"), config).unwrap();
        match spawn(&dir) {
            Ok(daemon) => Some(Self { dir, daemon }),
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                husk_test_support::skip("dbus-daemon");
                None
            }
            Err(error) => panic!("start dbus-daemon: {error}"),
        }
    }

    pub fn socket(&self) -> PathBuf {
        self.dir.path().join("bus")
    }

    pub fn address(&self) -> String {
        format!("unix:path={}", self.socket().display())
    }

    /// Every connection breaks, and the same address answers again.
    pub fn restart(&mut self) {
        self.end();
        let _ = fs::remove_file(self.socket());
        self.daemon = spawn(&self.dir).unwrap();
    }

    /// Every connection breaks.
    pub fn end(&mut self) {
        self.daemon.kill().unwrap();
        self.daemon.wait().unwrap();
    }
}

impl Drop for Bus {
    fn drop(&mut self) {
        let _ = self.daemon.kill();
        let _ = self.daemon.wait();
    }
}

fn spawn(dir: &tempfile::TempDir) -> io::Result<Child> {
    let mut daemon = Command::new("dbus-daemon")
        .arg("--nofork")
        .arg("--print-address")
        .arg(format!("--config-file={}", dir.path().join("bus.conf").display()))
        .stdout(Stdio::piped())
        // It complains about the limit of open files where it may not raise it.
        .stderr(Stdio::null())
        .spawn()?;
    // It prints its address when it listens.
    let mut first = [0];
    daemon.stdout.as_mut().unwrap().read_exact(&mut first)?;
    Ok(daemon)
}
