//! Decompressing a layer, by what its bytes are. The media type is not asked: registries and builders mislabel layers, and
//! the diff id decides in the end.
//!
//! A zstd frame says how much of its past a decoder must keep, its window. Windows up to 8 MiB, which every decoder has to
//! take (RFC 8878) and every builder's default stays in, are for all; larger ones, up to the 128 MiB of `zstd --long`, are
//! for [`LARGE_AT_ONCE`] layers of the process at a time, so that layers in parallel do not multiply them.

use std::{
    io::{self, BufRead, Read},
    sync::{Condvar, Mutex, PoisonError},
    time::Duration,
};

use zstd::stream::raw::{DParameter, Decoder, InBuffer, Operation, OutBuffer};

use crate::stop::Stop;

/// Window for everybody, as a power of two.
const WINDOW_LOG: u32 = 23;
/// Largest window accepted.
const WINDOW_LOG_MAX: u32 = 27;
/// Layers that may have one above [`WINDOW_LOG`] at a time.
const LARGE_AT_ONCE: usize = 2;
/// Bytes that tell a format.
const MAGIC: usize = 4;
/// Longest header of a frame with its magic number.
const HEADER_MAX: usize = 18;
/// How often a waiting thread looks whether anybody waits for it.
const LOOK: Duration = Duration::from_millis(100);

/// The decoder for the bytes that are there.
///
/// # Errors
/// When the input cannot be read.
pub(crate) fn decoder<'a>(input: &'a mut dyn BufRead, stop: &Stop) -> io::Result<Box<dyn Read + 'a>> {
    // A download may come in pieces of any size, so the first one need not be the whole magic number.
    let magic = read_ahead(input, Vec::new(), MAGIC)?;
    let input = io::Cursor::new(magic.clone()).chain(input);
    if magic.starts_with(&[0x1f, 0x8b]) {
        return Ok(Box::new(flate2::bufread::MultiGzDecoder::new(input)));
    }
    if magic.starts_with(&[0x28, 0xb5, 0x2f, 0xfd])
        || (magic.len() >= 4 && magic[0] & 0xf0 == 0x50 && magic[1..4] == [0x2a, 0x4d, 0x18])
    {
        return Ok(Box::new(Frames::new(Box::new(input), stop.clone())?));
    }
    Ok(Box::new(input))
}

/// Appends what comes next to `head` until that has `length` bytes or the input ends.
fn read_ahead(input: &mut dyn BufRead, mut head: Vec<u8>, length: usize) -> io::Result<Vec<u8>> {
    while head.len() < length {
        let available = input.fill_buf()?;
        if available.is_empty() {
            break;
        }
        let take = available.len().min(length - head.len());
        head.extend_from_slice(&available[..take]);
        input.consume(take);
    }
    Ok(head)
}

/// Frames of zstd, one after the other.
struct Frames<'a> {
    input: Box<dyn BufRead + 'a>,
    decoder: Decoder<'static>,
    /// The beginning of a frame, read ahead.
    head: Vec<u8>,
    within: bool,
    large: Option<Large>,
    stop: Stop,
}

impl<'a> Frames<'a> {
    fn new(input: Box<dyn BufRead + 'a>, stop: Stop) -> io::Result<Self> {
        let mut decoder = Decoder::new()?;
        decoder.set_parameter(DParameter::WindowLogMax(WINDOW_LOG))?;
        Ok(Self { input, decoder, head: Vec::new(), within: false, large: None, stop })
    }

    /// Looks at the next frame; `false` at the end.
    fn begin(&mut self) -> io::Result<bool> {
        self.head = read_ahead(&mut *self.input, std::mem::take(&mut self.head), HEADER_MAX)?;
        if self.head.is_empty() {
            return Ok(false);
        }
        if self.large.is_none() && window(&self.head).is_some_and(|window| window > 1 << WINDOW_LOG) {
            self.large = Some(Large::wait(&self.stop)?);
            self.decoder.set_parameter(DParameter::WindowLogMax(WINDOW_LOG_MAX))?;
        }
        self.within = true;
        Ok(true)
    }
}

impl Read for Frames<'_> {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        if out.is_empty() {
            return Ok(0);
        }
        loop {
            if !self.within && !self.begin()? {
                return Ok(0);
            }
            let from_head = !self.head.is_empty();
            let mut input = InBuffer::around(if from_head { &self.head } else { self.input.fill_buf()? });
            let mut output = OutBuffer::around(&mut *out);
            let wanted = self.decoder.run(&mut input, &mut output)?;
            let (used, written) = (input.pos(), output.pos());
            if from_head {
                drop(self.head.drain(..used));
            } else {
                self.input.consume(used);
            }
            self.within = wanted != 0;
            if written > 0 {
                return Ok(written);
            }
            if used == 0 && self.within {
                return Err(io::Error::new(io::ErrorKind::UnexpectedEof, "the zstd stream is cut off"));
            }
        }
    }
}

/// The window that a frame asks for, in bytes; `None` for what is no frame with data (RFC 8878, 3.1.1.1).
fn window(head: &[u8]) -> Option<u64> {
    let rest = head.strip_prefix(&[0x28, 0xb5, 0x2f, 0xfd])?;
    let (descriptor, rest) = rest.split_first()?;
    let single_segment = descriptor & 0x20 != 0;
    if !single_segment {
        let byte = u64::from(*rest.first()?);
        let base = 1u64 << (10 + (byte >> 3));
        return Some(base + base / 8 * (byte & 7));
    }
    // The whole content is the window.
    let dictionary = [0, 1, 2, 4][usize::from(descriptor & 3)];
    let length = [1, 2, 4, 8][usize::from(descriptor >> 6)];
    let field = rest.get(dictionary..dictionary + length)?;
    let size = field.iter().rev().fold(0, |size, byte| size << 8 | u64::from(*byte));
    Some(if length == 2 { size + 256 } else { size })
}

/// Leave to have a large window.
struct Large;

static LARGE: (Mutex<usize>, Condvar) = (Mutex::new(0), Condvar::new());

impl Large {
    fn wait(stop: &Stop) -> io::Result<Self> {
        let mut taken = LARGE.0.lock().unwrap_or_else(PoisonError::into_inner);
        while *taken >= LARGE_AT_ONCE {
            stop.check()?;
            taken = LARGE.1.wait_timeout(taken, LOOK).unwrap_or_else(PoisonError::into_inner).0;
        }
        *taken += 1;
        Ok(Self)
    }
}

impl Drop for Large {
    fn drop(&mut self) {
        *LARGE.0.lock().unwrap_or_else(PoisonError::into_inner) -= 1;
        LARGE.1.notify_one();
    }
}

#[cfg(test)]
mod tests {
    use std::io::{BufReader, Write};

    use super::*;

    fn frame(content: &[u8], window_log: u32) -> Vec<u8> {
        let mut encoder = zstd::stream::write::Encoder::new(Vec::new(), 1).unwrap();
        encoder.long_distance_matching(true).unwrap();
        encoder.window_log(window_log).unwrap();
        encoder.write_all(content).unwrap();
        encoder.finish().unwrap()
    }

    fn inflate(bytes: &[u8], chunk: usize) -> io::Result<Vec<u8>> {
        let mut input = BufReader::with_capacity(chunk, bytes);
        let mut out = Vec::new();
        decoder(&mut input, &Stop::default())?.read_to_end(&mut out)?;
        Ok(out)
    }

    #[test]
    fn frames_of_all_kinds_follow_each_other() {
        let skippable = [&[0x5a, 0x2a, 0x4d, 0x18, 3, 0, 0, 0][..], b"abc"].concat();
        let empty = zstd::encode_all(&b""[..], 1).unwrap();
        let (small, large) = (zstd::encode_all(&b"small "[..], 1).unwrap(), frame(b"large ", 27));
        assert!(window(&large).unwrap() > 1 << WINDOW_LOG);
        let all = [&skippable, &small, &empty, &large, &skippable, &small, &empty, &skippable];
        let all: Vec<u8> = all.into_iter().flatten().copied().collect();
        for chunk in [1, 2, 7, 18, 4096] {
            assert_eq!(inflate(&all, chunk).unwrap(), b"small large small ", "{chunk}");
        }
        for cut in 1..small.len() {
            let bytes = [&large[..], &small[..cut]].concat();
            assert!(inflate(&bytes, 16).is_err(), "{cut}");
        }
        assert!(inflate(&[&small[..], b"garbage that is no frame"].concat(), 64).is_err());
        assert!(inflate(&frame(b"x", 28), 64).is_err(), "a window above the largest");
    }

    #[test]
    fn large_windows_wait_for_each_other_and_end_when_nobody_waits_for_them() {
        let stop = Stop::default();
        let held: Vec<_> = (0..LARGE_AT_ONCE).map(|_| Large::wait(&stop).unwrap()).collect();
        // Small ones do not wait.
        assert_eq!(inflate(&zstd::encode_all(&b"x"[..], 1).unwrap(), 64).unwrap(), b"x");
        stop.set();
        assert!(Large::wait(&stop).is_err());
        drop(held);
        assert!(Large::wait(&Stop::default()).is_ok());
    }
}
