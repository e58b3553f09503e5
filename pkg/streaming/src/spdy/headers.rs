//! Header blocks: one zlib stream a direction for the life of the connection, flushed at the end of each block.

use std::collections::BTreeMap;

use flate2::{Compress, Compression, Decompress, FlushCompress, FlushDecompress, Status};

use super::{dictionary::dictionary, error::SpdyError};

/// Most headers in a block. Clients send three.
const MAX_HEADERS: usize = 64;
/// Longest block once it is inflated: a few bytes can inflate a thousandfold.
const MAX_BLOCK: usize = 32 << 10;

/// Names in lower case and their values.
pub(crate) type Headers = BTreeMap<String, String>;

/// Reads the blocks of one direction, in their order.
#[derive(Debug)]
pub(super) struct Reader(Decompress);

impl Reader {
    pub(super) fn new() -> Self {
        Self(Decompress::new(true))
    }

    /// Reads a block.
    ///
    /// # Errors
    /// When it is no such block or exceeds a limit. The stream's state is lost then, and so is the connection.
    pub(super) fn read(&mut self, block: &[u8]) -> Result<Headers, SpdyError> {
        parse(&self.inflate(block)?)
    }

    fn inflate(&mut self, mut block: &[u8]) -> Result<Vec<u8>, SpdyError> {
        let mut out = Vec::new();
        let mut chunk = [0; 2048];
        loop {
            let (read, written) = (self.0.total_in(), self.0.total_out());
            let outcome = self.0.decompress(block, &mut chunk, FlushDecompress::Sync);
            block = &block[(self.0.total_in() - read) as usize..];
            let produced = (self.0.total_out() - written) as usize;
            out.extend_from_slice(&chunk[..produced]);
            if out.len() > MAX_BLOCK {
                return Err(SpdyError::TooMuch("a header block"));
            }
            match outcome {
                Ok(Status::StreamEnd) => return Err(SpdyError::Malformed("the header stream ends")),
                // A full chunk may have more behind it even when all input is taken.
                Ok(_) if block.is_empty() && produced < chunk.len() => return Ok(out),
                Ok(Status::BufError) if produced == 0 => return Ok(out),
                Ok(_) => {}
                Err(error) if error.needs_dictionary().is_some() => {
                    self.0
                        .set_dictionary(dictionary())
                        .map_err(|_| SpdyError::Malformed("the header stream has another dictionary"))?;
                }
                Err(_) => return Err(SpdyError::Malformed("the header stream is no zlib stream")),
            }
        }
    }
}

fn parse(block: &[u8]) -> Result<Headers, SpdyError> {
    let mut rest = block;
    let count = number(&mut rest)?;
    if count > MAX_HEADERS {
        return Err(SpdyError::TooMuch("the number of headers"));
    }
    let mut headers = Headers::new();
    for _ in 0..count {
        let name = text(&mut rest)?;
        let value = text(&mut rest)?;
        if name.is_empty() || name.bytes().any(|byte| byte.is_ascii_uppercase()) {
            return Err(SpdyError::Malformed("a header's name is empty or not in lower case"));
        }
        if headers.insert(name, value).is_some() {
            return Err(SpdyError::Malformed("a header comes twice"));
        }
    }
    if rest.is_empty() { Ok(headers) } else { Err(SpdyError::Malformed("a header block is too long")) }
}

fn number(rest: &mut &[u8]) -> Result<usize, SpdyError> {
    let (bytes, after) =
        rest.split_first_chunk::<4>().ok_or(SpdyError::Malformed("a header block is too short"))?;
    *rest = after;
    Ok(u32::from_be_bytes(*bytes) as usize)
}

fn text(rest: &mut &[u8]) -> Result<String, SpdyError> {
    let length = number(rest)?;
    let (bytes, after) =
        rest.split_at_checked(length).ok_or(SpdyError::Malformed("a header block is too short"))?;
    *rest = after;
    String::from_utf8(bytes.to_vec()).map_err(|_| SpdyError::Malformed("a header is not UTF-8"))
}

/// Writes blocks.
#[derive(Debug)]
pub(super) struct Writer {
    stream: Compress,
    begun: bool,
}

impl Writer {
    pub(super) fn new() -> Self {
        Self { stream: Compress::new(Compression::fast(), true), begun: false }
    }

    /// A compressed block.
    ///
    /// # Errors
    /// None that zlib knows for these arguments.
    pub(super) fn write(&mut self, headers: &Headers) -> Result<Vec<u8>, SpdyError> {
        let failed = |_| SpdyError::Malformed("headers cannot be compressed");
        if !std::mem::replace(&mut self.begun, true) {
            self.stream.set_dictionary(dictionary()).map_err(failed)?;
        }
        let mut plain = (headers.len() as u32).to_be_bytes().to_vec();
        for part in headers.iter().flat_map(|(name, value)| [name, value]) {
            plain.extend_from_slice(&(part.len() as u32).to_be_bytes());
            plain.extend_from_slice(part.as_bytes());
        }
        let mut block = Vec::with_capacity(plain.len() + 128);
        let begin = self.stream.total_in();
        loop {
            let done = (self.stream.total_in() - begin) as usize;
            self.stream.compress_vec(&plain[done..], &mut block, FlushCompress::Sync).map_err(failed)?;
            // With room left the flush is complete.
            if block.len() < block.capacity() {
                return Ok(block);
            }
            block.reserve(1024);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(pairs: &[(&str, &str)]) -> Headers {
        pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
    }

    #[test]
    fn blocks_of_one_connection_share_their_zlib_stream() {
        let (mut writer, mut reader) = (Writer::new(), Reader::new());
        let long = "x".repeat(5000);
        for pairs in [
            headers(&[("streamtype", "error"), ("port", "80")]),
            headers(&[]),
            headers(&[("streamtype", "data"), ("long", &long)]),
        ] {
            let block = writer.write(&pairs).unwrap();
            assert_eq!(reader.read(&block).unwrap(), pairs);
        }
    }

    /// A block with `plain` inside.
    fn deflated(plain: &[u8]) -> Vec<u8> {
        let mut stream = Compress::new(Compression::best(), true);
        stream.set_dictionary(dictionary()).unwrap();
        let mut block = Vec::with_capacity(plain.len() + 4096);
        stream.compress_vec(plain, &mut block, FlushCompress::Sync).unwrap();
        block
    }

    #[test]
    fn a_block_that_inflates_to_gigabytes_is_cut_off_early() {
        let block = deflated(&vec![b'a'; 8 << 20]);
        assert!(block.len() < 16 << 10, "{}", block.len());
        assert!(matches!(Reader::new().read(&block), Err(SpdyError::TooMuch(_))));
    }

    #[test]
    fn lengths_and_counts_of_a_block_are_not_believed() {
        let refused = |plain: &[u8]| Reader::new().read(&deflated(plain)).unwrap_err();
        let flood = [&(MAX_HEADERS as u32 + 1).to_be_bytes()[..], &[0; 1024]].concat();
        assert!(matches!(refused(&flood), SpdyError::TooMuch(_)));
        for plain in [
            &[][..],
            &[0, 0, 0],
            &[0, 0, 0, 1, 0xff, 0xff, 0xff, 0xff, b'a'],
            &[0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0],
            &[0, 0, 0, 1, 0, 0, 0, 1, b'A', 0, 0, 0, 0],
            &[0, 0, 0, 1, 0, 0, 0, 1, 0xff, 0, 0, 0, 0],
            &[0, 0, 0, 0, 7],
            &[0, 0, 0, 2, 0, 0, 0, 1, b'a', 0, 0, 0, 0, 0, 0, 0, 1, b'a', 0, 0, 0, 0],
        ] {
            assert!(matches!(refused(plain), SpdyError::Malformed(_)), "{plain:?}");
        }
    }

    #[test]
    fn bytes_that_are_no_zlib_stream_are_an_error() {
        assert!(Reader::new().read(b"GET / HTTP/1.1").is_err());
        let mut other = Compress::new(Compression::fast(), true);
        other.set_dictionary(b"another dictionary").unwrap();
        let mut block = Vec::with_capacity(64);
        other.compress_vec(&[0; 4], &mut block, FlushCompress::Sync).unwrap();
        assert!(Reader::new().read(&block).is_err());
    }
}
