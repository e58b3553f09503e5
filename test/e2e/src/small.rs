//! A small filesystem that can be filled to the last byte.

use std::{
    ffi::CStr,
    fs,
    io::Write,
    path::{Path, PathBuf},
};

use rustix::mount::{MountFlags, UnmountFlags, mount, unmount};

/// A small filesystem; unmounted when dropped.
#[derive(Debug)]
pub struct Small(PathBuf);

impl Small {
    /// Mounts one; `options` are a tmpfs's (`size=1m`).
    pub fn mount(path: &Path, options: &CStr) -> Self {
        fs::create_dir_all(path).expect("make the mount's place");
        mount("small", path, "tmpfs", MountFlags::empty(), options).expect("mount a tmpfs");
        Self(path.to_owned())
    }

    /// Writes a file until there is no room for a single byte more.
    pub fn fill(&self) {
        let mut ballast = fs::File::create(self.0.join("ballast")).expect("begin to fill");
        for size in [65_536, 4096, 1] {
            while ballast.write_all(&vec![b'x'; size]).is_ok() {}
        }
    }

    /// Makes room again.
    pub fn free(&self) {
        fs::remove_file(self.0.join("ballast")).expect("make room");
    }
}

impl Drop for Small {
    fn drop(&mut self) {
        let _ = unmount(&self.0, UnmountFlags::DETACH);
    }
}
