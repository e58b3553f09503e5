//! A FUSE filesystem that stops answering: the dead NFS server of a test. Only what the kernel asks of it first is served
//! (linux/fuse.h, protocol 7.31).

use std::{
    ffi::CString,
    fs::{self, File, OpenOptions},
    io::{Read, Write},
    os::fd::AsRawFd,
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
};

use rustix::mount::{MountFlags, UnmountFlags, mount, unmount};

const LOOKUP: u32 = 1;
const GETATTR: u32 = 3;
const STATFS: u32 = 17;
const INIT: u32 = 26;
const ENOSYS: i32 = -38;

/// From when on it does not answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DeadAt {
    /// Nothing is answered at all.
    Once,
    /// The root directory is there; whoever looks into it waits, unkillable, since the request was taken.
    Lookups,
}

/// The mounted filesystem.
pub struct Dead {
    path: PathBuf,
    asked: Arc<AtomicBool>,
}

impl Dead {
    /// Mounts it, or says why the test is skipped.
    pub fn mount(path: &Path, dead_at: DeadAt) -> Option<Self> {
        fs::create_dir_all(path).expect("make the mount point");
        let device = match OpenOptions::new().read(true).write(true).open("/dev/fuse") {
            Ok(device) => device,
            Err(error) => {
                println!("/dev/fuse: {error}");
                husk_test_support::skip("FUSE");
                return None;
            }
        };
        let options = format!("fd={},rootmode=40755,user_id=0,group_id=0,allow_other", device.as_raw_fd());
        let options = CString::new(options).expect("options");
        if let Err(error) = mount("dead", path, "fuse", MountFlags::empty(), options.as_c_str()) {
            println!("mount: {error}");
            husk_test_support::skip("FUSE");
            return None;
        }
        let asked = Arc::new(AtomicBool::new(false));
        let seen = Arc::clone(&asked);
        std::thread::spawn(move || serve(device, dead_at, &seen));
        Some(Self { path: path.to_owned(), asked })
    }

    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Whether somebody waits for an answer.
    pub fn was_asked(&self) -> bool {
        self.asked.load(Ordering::SeqCst)
    }

    /// Aborts the connection: whoever waits gets an error.
    pub fn unmount(&mut self) {
        let _ = unmount(&self.path, UnmountFlags::FORCE | UnmountFlags::DETACH);
    }
}

impl Drop for Dead {
    fn drop(&mut self) {
        self.unmount();
    }
}

/// Takes requests until the connection ends.
fn serve(mut device: File, dead_at: DeadAt, asked: &AtomicBool) {
    let mut buffer = vec![0; 1 << 17];
    while let Ok(length) = device.read(&mut buffer) {
        let word = |at: usize| u32::from_le_bytes(buffer[at..at + 4].try_into().expect("four bytes"));
        if length < 40 {
            return;
        }
        let (opcode, unique) = (word(4), buffer[8..16].to_vec());
        let answer = match (dead_at, opcode) {
            // The kernel waits with everything else until this is answered.
            (_, INIT) => Some((0, init())),
            (DeadAt::Once, _) | (DeadAt::Lookups, LOOKUP) => None,
            (DeadAt::Lookups, GETATTR) => Some((0, root_attributes())),
            (DeadAt::Lookups, STATFS) => Some((0, vec![0; 80])),
            _ => Some((ENOSYS, Vec::new())),
        };
        match answer {
            None => asked.store(true, Ordering::SeqCst),
            Some((error, body)) => {
                let mut frame = ((16 + body.len()) as u32).to_le_bytes().to_vec();
                frame.extend(i32::to_le_bytes(error));
                frame.extend(unique);
                frame.extend(body);
                // A request without an answer (FORGET) is refused by the kernel, which is fine.
                let _ = device.write(&frame);
            }
        }
    }
}

/// `struct fuse_init_out`.
fn init() -> Vec<u8> {
    let mut body = Vec::new();
    for word in [7u32, 31, 1 << 17, 0, 0x000c_000c, 1 << 16, 1] {
        body.extend(word.to_le_bytes());
    }
    body.resize(64, 0);
    body
}

/// `struct fuse_attr_out` of a directory.
fn root_attributes() -> Vec<u8> {
    let mut body = vec![0; 16];
    for long in [1u64, 0, 0, 0, 0, 0] {
        body.extend(long.to_le_bytes());
    }
    for word in [0u32, 0, 0, 0o040_755, 2, 0, 0, 0, 4096, 0] {
        body.extend(word.to_le_bytes());
    }
    body
}
