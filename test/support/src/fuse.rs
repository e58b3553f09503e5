//! A filesystem whose answers a test holds back (fuse(4)): whatever looks at it stands still in the middle of what it does, for as long
//! as the test wants.
//!
//! It has a root, and in every directory a directory of each name that is asked for. The test opens `/dev/fuse`, mounts a `fuse`
//! filesystem with [`OPTIONS`] and the descriptor, and has a process or a thread of its own [`serve`] it.

use std::{
    fs::File,
    io::{self, Read as _, Write as _},
};

/// What it is mounted with, besides `fd`: a root that is a directory of root's, for everybody.
pub const OPTIONS: &[(&str, &str)] = &[("rootmode", "40000"), ("user_id", "0"), ("group_id", "0")];

/// What somebody asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Asked {
    /// What a name in a directory is (FUSE_LOOKUP).
    Name,
    /// Attributes (FUSE_GETATTR).
    Attributes,
    /// Anything else.
    Other,
}

/// Smallest buffer that the kernel takes for a request (FUSE_MIN_READ_BUFFER), and more than any of these needs.
const BUFFER: usize = 64 << 10;
/// Of a request: length, number of what is asked, its own number, file, ids, lengths (`fuse_in_header`).
const HEADER: usize = 40;
/// `ENODEV`: it is not mounted any more.
const UNMOUNTED: i32 = 19;
/// `ENOENT`: the one who asked has gone.
const GONE: i32 = 2;
/// `-ENOSYS`.
const UNKNOWN: i32 = -38;

/// Answers whoever asks, until the filesystem is unmounted. `before` is called before each answer is given, and may take its time.
///
/// # Errors
/// Those of the device.
pub fn serve(mut device: &File, mut before: impl FnMut(Asked)) -> io::Result<()> {
    let mut buffer = vec![0; BUFFER];
    let mut names = 1_u64;
    loop {
        let length = match device.read(&mut buffer) {
            Ok(length) => length,
            Err(error) if error.raw_os_error() == Some(UNMOUNTED) => return Ok(()),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            Err(error) if error.raw_os_error() == Some(GONE) => continue,
            Err(error) => return Err(error),
        };
        let Some(request) = buffer[..length].first_chunk::<HEADER>() else { continue };
        let (opcode, unique) = (number(request, 4), &request[8..16]);
        let node = u64::from_ne_bytes([16, 17, 18, 19, 20, 21, 22, 23].map(|at| request[at]));
        before(match opcode {
            1 => Asked::Name,
            3 => Asked::Attributes,
            _ => Asked::Other,
        });
        let answer = match opcode {
            // FUSE_FORGET, FUSE_INTERRUPT, FUSE_BATCH_FORGET have no answer.
            2 | 36 | 42 => continue,
            1 => {
                names += 1;
                Ok([&names.to_ne_bytes()[..], &[0; 32], &attributes(names)].concat())
            }
            3 => Ok([&[0; 16][..], &attributes(node)].concat()),
            17 => Ok(vec![0; 80]),
            26 => Ok(greeting()),
            38 => Ok(Vec::new()),
            _ => Err(UNKNOWN),
        };
        let (error, body) = answer.map_or_else(|error| (error, Vec::new()), |body| (0, body));
        let length = u32::try_from(16 + body.len()).unwrap_or(u32::MAX);
        let whole = [&length.to_ne_bytes()[..], &error.to_ne_bytes(), unique, &body].concat();
        match device.write(&whole) {
            Err(error) if error.raw_os_error() == Some(GONE) => {}
            written => drop(written?),
        }
    }
}

fn number(request: &[u8; HEADER], at: usize) -> u32 {
    u32::from_ne_bytes([0, 1, 2, 3].map(|byte| request[at + byte]))
}

/// `fuse_init_out` of version 7.31.
fn greeting() -> Vec<u8> {
    let mut answer: Vec<u8> = [7_u32, 31, 0, 0, 0, 4096].into_iter().flat_map(u32::to_ne_bytes).collect();
    answer.resize(64, 0);
    answer
}

/// `fuse_attr` of a directory of root's.
fn attributes(node: u64) -> Vec<u8> {
    let mut attributes = node.to_ne_bytes().to_vec();
    attributes.resize(60, 0);
    attributes.extend([0o040_755_u32, 2, 0, 0, 0, 4096, 0].into_iter().flat_map(u32::to_ne_bytes));
    attributes
}
