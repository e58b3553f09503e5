//! Clients of exec, attach and port-forward.

use std::io::Write;

use super::input::{block_on, choice};

/// SPDY: a control frame of this kind.
fn control(kind: u16, flags: u8, body: &[u8]) -> Vec<u8> {
    let length = (body.len() as u32 | u32::from(flags) << 24).to_be_bytes();
    [&0x8003u16.to_be_bytes()[..], &kind.to_be_bytes(), &length, body].concat()
}

fn data(id: u32, fin: bool, bytes: &[u8]) -> Vec<u8> {
    let length = (bytes.len() as u32 | u32::from(fin) << 24).to_be_bytes();
    [&id.to_be_bytes()[..], &length, bytes].concat()
}

/// Talks with streams, data, pings and resets. The blocks of headers name no dictionary, which zlib allows.
pub(super) fn spdy_talks() -> Vec<Vec<u8>> {
    let mut zlib = flate2::write::ZlibEncoder::new(Vec::new(), flate2::Compression::fast());
    let plain = [&1u32.to_be_bytes()[..], &10u32.to_be_bytes(), b"streamtype", &5u32.to_be_bytes(), b"stdin"]
        .concat();
    let block = zlib.write_all(&plain).and_then(|()| zlib.flush()).map(|()| zlib.get_ref().clone());
    let block = block.expect("memory takes everything");
    let open = control(1, 0, &[&1u32.to_be_bytes()[..], &[0; 6], &block].concat());
    let ping = control(6, 0, &7u32.to_be_bytes());
    let reset = control(3, 0, &[&1u32.to_be_bytes()[..], &5u32.to_be_bytes()].concat());
    vec![
        [&open[..], &data(1, false, b"hello"), &ping, &data(1, true, b"bye")].concat(),
        [&open[..], &reset, &control(4, 0, &[0; 12]), &control(7, 0, &[0; 8])].concat(),
        data(9, true, &[5; 100]),
    ]
}

/// A talk in single bytes is the same as at once, and a server survives it.
pub(super) fn spdy(bytes: &[u8]) {
    let whole = husk_streaming::fuzzing::spdy_events(bytes, bytes.len());
    assert_eq!(whole, husk_streaming::fuzzing::spdy_events(bytes, 1), "the size of reads decides");
    block_on(husk_streaming::fuzzing::spdy(bytes));
}

fn message(opcode: u8, payload: &[u8]) -> Vec<u8> {
    let length = payload.len() as u8 & 0x7f;
    [&[0x80 | opcode, 0x80 | length, 0, 0, 0, 0][..], payload].concat()
}

/// Messages of each format: channels, channels in base64, channels that end, and a tunnel.
pub(super) fn websocket_talks() -> Vec<Vec<u8>> {
    let close = message(8, &1000u16.to_be_bytes());
    let talks = [
        [message(2, b"\0hello"), message(9, b"ping"), message(2, b"\x04{\"Width\":80}")].concat(),
        [message(1, b"0aGVsbG8="), message(1, b"0!")].concat(),
        [message(2, b"\0hello"), message(2, &[255, 0]), message(2, b"\0late")].concat(),
        message(2, &spdy_talks()[0]),
    ];
    (0u8..).zip(talks).map(|(format, talk)| [&[format][..], &talk, &close].concat()).collect()
}

/// A server survives it, and no more reaches a command than was sent.
pub(super) fn websocket(bytes: &[u8]) {
    let (format, talk) = choice(bytes);
    let heard = block_on(husk_streaming::fuzzing::websocket(talk, format));
    assert!(heard <= talk.len(), "{heard} bytes of {} were heard", talk.len());
}

/// Requests for an upgrade.
pub(super) fn upgrades() -> Vec<Vec<u8>> {
    vec![
        b"Connection: Upgrade\nUpgrade: SPDY/3.1\nX-Stream-Protocol-Version: v4.channel.k8s.io, channel.k8s.io".to_vec(),
        b"Connection: keep-alive, upgrade\nUpgrade: websocket\nSec-WebSocket-Version: 13\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\nSec-WebSocket-Protocol: v5.channel.k8s.io".to_vec(),
    ]
}

/// Whatever the headers are, there is an agreement or a refusal.
pub(super) fn upgrade(bytes: &[u8]) {
    husk_streaming::fuzzing::upgrade(bytes);
}
