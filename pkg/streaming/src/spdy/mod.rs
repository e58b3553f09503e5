//! SPDY/3.1, the server's side: what the clients' library (moby/spdystream) speaks of it.
//!
//! | module | concern |
//! | --- | --- |
//! | `frame` | bytes to events and back, without I/O |
//! | `headers` | header blocks and their limits |
//! | `dictionary` | the preset dictionary of their compression |
//! | `connection` | streams on a socket |
//! | `error` | why a connection cannot go on |

mod connection;
mod dictionary;
mod error;
mod frame;
mod headers;

pub(crate) use connection::{Accepted, serve};
pub(crate) use frame::ResetReason;

/// The events in `bytes`, given to the decoder in pieces, in words; pieces of data that follow each other are one.
#[cfg(feature = "fuzzing")]
pub(crate) fn events(bytes: &[u8], piece: usize) -> Vec<String> {
    // No payload has a line break once it is escaped.
    const FIN: &str = "\nfin";
    let mut decoder = frame::Decoder::new();
    let mut events: Vec<(Option<u32>, String)> = Vec::new();
    for piece in bytes.chunks(piece.max(1)) {
        decoder.buffer.extend_from_slice(piece);
        loop {
            match decoder.next() {
                Ok(None) => break,
                Ok(Some(frame::Event::Data { id, bytes, fin })) => {
                    let text = format!("{}{}", bytes.escape_ascii(), if fin { FIN } else { "" });
                    match events.last_mut() {
                        Some((Some(last), data)) if *last == id && !data.ends_with(FIN) => {
                            data.push_str(&text);
                        }
                        _ => events.push((Some(id), text)),
                    }
                }
                Ok(Some(event)) => events.push((None, format!("{event:?}"))),
                Err(error) => {
                    events.push((None, error.to_string()));
                    return events.into_iter().map(|(_, text)| text).collect();
                }
            }
        }
    }
    events.into_iter().map(|(_, text)| text).collect()
}
