//! A WebSocket client (RFC 6455) of the kubelet's streaming endpoints: messages of `*.channel.k8s.io`, whose first byte is
//! their channel.

use std::{
    io::{Read, Write},
    net::TcpStream,
    path::Path,
    sync::Arc,
    time::Duration,
};

use rustls::{
    ClientConfig, ClientConnection, RootCertStore, StreamOwned,
    crypto::ring,
    pki_types::{CertificateDer, ServerName, pem::PemObject},
};

use crate::patience;

const BINARY: u8 = 2;
const CLOSE: u8 = 8;
const PING: u8 = 9;
const PONG: u8 = 10;
/// The channel of `v5.channel.k8s.io` whose messages end others.
const ENDS: u8 = 255;

/// An open connection.
pub struct WebSocket {
    stream: StreamOwned<ClientConnection, TcpStream>,
}

/// What a stream said until it was closed.
#[derive(Debug, Default)]
pub struct Said {
    /// Bytes by channel.
    pub channels: std::collections::BTreeMap<u8, Vec<u8>>,
}

impl Said {
    /// A channel's bytes as text.
    pub fn text(&self, channel: u8) -> String {
        self.channels
            .get(&channel)
            .map(|bytes| String::from_utf8_lossy(bytes).into_owned())
            .unwrap_or_default()
    }
}

impl WebSocket {
    /// Opens `path` of a server at a loopback port, which has to prove that it is `name` by the certificates in `trusted`, and
    /// has to choose `protocol`.
    pub fn open(port: u16, name: &str, trusted: &Path, path: &str, protocol: &str) -> Self {
        let mut roots = RootCertStore::empty();
        for certificate in CertificateDer::pem_file_iter(trusted).expect("read the certificates") {
            roots.add(certificate.expect("a certificate")).expect("trust the certificate");
        }
        let config = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
            .with_safe_default_protocol_versions()
            .expect("TLS versions")
            .with_root_certificates(roots)
            .with_no_client_auth();
        let name = ServerName::try_from(name.to_owned()).expect("a server's name");
        let connection = ClientConnection::new(Arc::new(config), name).expect("a TLS client");
        let socket = TcpStream::connect(("127.0.0.1", port)).expect("connect");
        socket.set_read_timeout(Some(patience(Duration::from_secs(60)))).expect("set a timeout");
        let mut stream = StreamOwned::new(connection, socket);
        // The key only keeps proxies from answering from a cache; any will do.
        write!(
            stream,
            "GET {path} HTTP/1.1\r\nHost: node\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 13\r\n\
             Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Protocol: {protocol}\r\n\r\n"
        )
        .expect("send the request");
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            let mut byte = [0];
            stream.read_exact(&mut byte).expect("read the answer");
            head.push(byte[0]);
        }
        let head = String::from_utf8_lossy(&head).into_owned();
        assert!(head.starts_with("HTTP/1.1 101 "), "{path}: {head}");
        assert!(
            head.to_lowercase().contains(&format!("sec-websocket-protocol: {protocol}").to_lowercase()),
            "{head}"
        );
        Self { stream }
    }

    fn frame(&mut self, kind: u8, payload: &[u8]) {
        // One frame a message, masked with zeros.
        let mut frame = vec![0x80 | kind];
        match u8::try_from(payload.len()) {
            Ok(length) if length < 126 => frame.push(0x80 | length),
            _ => {
                frame.push(0x80 | 127);
                frame.extend((payload.len() as u64).to_be_bytes());
            }
        }
        frame.extend([0; 4]);
        frame.extend(payload);
        self.stream.write_all(&frame).and_then(|()| self.stream.flush()).expect("send a frame");
    }

    /// Sends bytes on a channel.
    pub fn send(&mut self, channel: u8, bytes: &[u8]) {
        self.frame(BINARY, &[&[channel], bytes].concat());
    }

    /// Ends a channel; only with `v5.channel.k8s.io`.
    pub fn end(&mut self, channel: u8) {
        self.send(ENDS, &[channel]);
    }

    /// The next message, (channel, bytes), or nothing when the stream was closed.
    pub fn receive(&mut self) -> Option<(u8, Vec<u8>)> {
        let mut message = Vec::new();
        loop {
            let mut head = [0; 2];
            // A server that goes without a word has closed the stream too.
            self.stream.read_exact(&mut head).ok()?;
            let mut length = u64::from(head[1] & 0x7f);
            if length >= 126 {
                let mut bytes = [0; 8];
                let width = if length == 126 { 2 } else { 8 };
                self.stream.read_exact(&mut bytes[8 - width..]).expect("read a length");
                length = u64::from_be_bytes(bytes);
            }
            let mut payload = vec![0; usize::try_from(length).expect("a length")];
            self.stream.read_exact(&mut payload).expect("read a payload");
            match head[0] & 0x0f {
                CLOSE => return None,
                PING => self.frame(PONG, &payload),
                PONG => {}
                _ => {
                    message.extend(payload);
                    if head[0] & 0x80 != 0 {
                        let (channel, bytes) = message.split_first().expect("a channel");
                        return Some((*channel, bytes.to_vec()));
                    }
                }
            }
        }
    }

    /// Reads until a channel has said `text`.
    pub fn hear(&mut self, channel: u8, text: &str) -> Said {
        let mut said = Said::default();
        while !said.text(channel).contains(text) {
            let (from, bytes) = self.receive().unwrap_or_else(|| panic!("closed before {text:?}: {said:?}"));
            said.channels.entry(from).or_default().extend(bytes);
        }
        said
    }

    /// Reads to the end.
    pub fn read_all(mut self) -> Said {
        let mut said = Said::default();
        while let Some((channel, bytes)) = self.receive() {
            said.channels.entry(channel).or_default().extend(bytes);
        }
        said
    }
}
