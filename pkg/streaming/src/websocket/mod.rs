//! WebSocket: the handshake's part that depends on the key, and two ways to use the messages.
//!
//! | module | concern |
//! | --- | --- |
//! | `channels` | a message's first byte is its channel (`*.channel.k8s.io`) |
//! | `tunnel` | binary messages are a byte stream that carries SPDY (`SPDY/3.1+portforward.k8s.io`) |

mod channels;
mod tunnel;

use tokio::io::{AsyncRead, AsyncWrite};
use tokio_tungstenite::{
    WebSocketStream,
    tungstenite::protocol::{Role, WebSocketConfig},
};

pub(crate) use channels::{Format, channels};
pub(crate) use tokio_tungstenite::tungstenite::handshake::derive_accept_key;
pub(crate) use tunnel::Tunnel;

/// Longest message. Clients send 32 KiB at once.
const MAX_MESSAGE: usize = 1 << 20;

/// Takes over a connection whose handshake is done.
pub(crate) async fn server<T: AsyncRead + AsyncWrite + Unpin>(io: T) -> WebSocketStream<T> {
    let config =
        WebSocketConfig::default().max_message_size(Some(MAX_MESSAGE)).max_frame_size(Some(MAX_MESSAGE));
    WebSocketStream::from_raw_socket(io, Role::Server, Some(config)).await
}
