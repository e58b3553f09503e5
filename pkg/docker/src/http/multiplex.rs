//! The frames by which output and errors share a stream: one byte that says which, three that are zero, the length as four
//! bytes (big endian), and the bytes (Docker Engine API, "Attach to a container", stream format).

use tokio::io::{AsyncWrite, AsyncWriteExt};

/// Whose bytes a frame has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Output {
    /// Standard output.
    Out,
    /// Standard error.
    Err,
}

/// The head of a frame with `length` bytes.
pub(crate) fn frame(output: Output, length: u32) -> [u8; 8] {
    let which = match output {
        Output::Out => 1,
        Output::Err => 2,
    };
    let [a, b, c, d] = length.to_be_bytes();
    [which, 0, 0, 0, a, b, c, d]
}

/// Writes frames, or the bare bytes where a terminal has joined both outputs already.
#[derive(Debug)]
pub(crate) struct Frames<W> {
    to: W,
    multiplexed: bool,
}

impl<W: AsyncWrite + Unpin> Frames<W> {
    /// Writes to `to`; without `multiplexed`, bytes as they are.
    pub(crate) fn new(to: W, multiplexed: bool) -> Self {
        Self { to, multiplexed }
    }

    /// Writes bytes and flushes them. Not cancel-safe: half a frame makes the rest of the stream unreadable.
    ///
    /// # Errors
    /// When the client is gone.
    pub(crate) async fn write(&mut self, output: Output, bytes: &[u8]) -> std::io::Result<()> {
        // A frame's length has 32 bits.
        for piece in bytes.chunks(1 << 30) {
            if self.multiplexed {
                self.to.write_all(&frame(output, piece.len() as u32)).await?;
            }
            self.to.write_all(piece).await?;
        }
        self.to.flush().await
    }

    /// Says that nothing more will come; the client may still write.
    ///
    /// # Errors
    /// When the client is gone.
    pub(crate) async fn end(&mut self) -> std::io::Result<()> {
        self.to.shutdown().await
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn bytes_are_framed_unless_a_terminal_has_joined_them() {
        let mut framed = Frames::new(Vec::new(), true);
        framed.write(Output::Out, b"hi").await.unwrap();
        framed.write(Output::Err, b"x").await.unwrap();
        assert_eq!(framed.to, b"\x01\0\0\0\0\0\0\x02hi\x02\0\0\0\0\0\0\x01x");
        let mut raw = Frames::new(Vec::new(), false);
        raw.write(Output::Err, b"hi").await.unwrap();
        assert_eq!(raw.to, b"hi");
        assert_eq!(frame(Output::Err, 0x0102_0304), [2, 0, 0, 0, 1, 2, 3, 4]);
    }
}
