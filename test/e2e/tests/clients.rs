//! gRPC clients that are not Go's: what they send as `:authority` is the socket's path.

use std::{
    io::{Read, Write},
    os::unix::net::UnixStream,
    process::Command,
    time::Duration,
};

use husk_e2e::{Daemon, Options, root, run, tool};

/// Frames of HTTP/2 (RFC 9113, 6).
const DATA: u8 = 0;
const HEADERS: u8 = 1;
const RST_STREAM: u8 = 3;
const SETTINGS: u8 = 4;
const GOAWAY: u8 = 7;
const END_STREAM: u8 = 1;
const END_HEADERS: u8 = 4;

#[test]
fn python_and_all_that_shares_its_core_are_served() {
    let husk = Daemon::with(Options::default());
    let script = root().join("test/e2e/tests/clients/grpcio.py");
    let mut command = Command::new("python3");
    command.arg(script).arg(husk.address()).arg(root().join("proto/cri/v1"));
    run(command.env("PYTHONPATH", tool("grpcio"))).success();
}

/// A client by hand.
struct Client {
    stream: UnixStream,
    id: u32,
}

impl Client {
    fn connect(husk: &Daemon) -> Self {
        let mut stream = UnixStream::connect(husk.address()).unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(60))).unwrap();
        stream.write_all(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n").unwrap();
        let mut client = Self { stream, id: 0 };
        client.send(SETTINGS, 0, &[]);
        client.id = 1;
        client
    }

    fn send(&mut self, kind: u8, flags: u8, payload: &[u8]) {
        let mut frame = (payload.len() as u32).to_be_bytes()[1..].to_vec();
        frame.extend([kind, flags]);
        frame.extend(self.id.to_be_bytes());
        frame.extend(payload);
        self.stream.write_all(&frame).unwrap();
    }

    /// Calls Version with this field as the authority; true when it was answered.
    fn version(&mut self, authority: &[u8]) -> bool {
        let mut block = vec![0x83, 0x86];
        for (name, value) in [
            (":path", "/runtime.v1.RuntimeService/Version"),
            ("content-type", "application/grpc"),
            ("te", "trailers"),
        ] {
            block.push(0);
            for text in [name, value] {
                block.push(text.len() as u8);
                block.extend(text.as_bytes());
            }
            if name == ":path" {
                block.extend(authority);
            }
        }
        self.send(HEADERS, END_HEADERS, &block);
        self.send(DATA, END_STREAM, &[0; 5]);
        let answered = self.answer();
        self.id += 2;
        answered
    }

    fn answer(&mut self) -> bool {
        let mut body = Vec::new();
        loop {
            let mut head = [0; 9];
            self.stream.read_exact(&mut head).unwrap();
            let mut payload = vec![0; u32::from_be_bytes([0, head[0], head[1], head[2]]) as usize];
            self.stream.read_exact(&mut payload).unwrap();
            let ours = head[5..] == self.id.to_be_bytes();
            match head[3] {
                DATA if ours => body.extend(payload),
                HEADERS if ours && head[4] & END_STREAM != 0 => {
                    return body.windows(4).any(|word| word == b"husk");
                }
                RST_STREAM if ours => return false,
                GOAWAY => return false,
                _ => {}
            }
        }
    }
}

fn field(kind: u8, text: &[u8]) -> Vec<u8> {
    let mut field = vec![kind, text.len() as u8];
    field.extend(text);
    field
}

#[test]
fn a_path_as_authority_is_served_in_every_form() {
    let husk = Daemon::with(Options::default());
    // With indexing as Java's and Swift's libraries send it, then without, and never indexed.
    for kind in [0x41, 0x01, 0x11] {
        for path in
            ["/run/husk/husk.sock", "%2Frun%2Fhusk%2Fhusk.sock", "/a b/\u{fc}", "localhost", "[::1]:80"]
        {
            let mut client = Client::connect(&husk);
            assert!(client.version(&field(kind, path.as_bytes())), "{kind:#x} {path}");
            // The same again, by its index if it has one.
            let again = if kind == 0x41 { vec![0xbe] } else { field(kind, path.as_bytes()) };
            assert!(client.version(&again), "{kind:#x} {path}, again");
            // Another on the same connection.
            assert!(client.version(&field(kind, b"/another")));
        }
        let mut client = Client::connect(&husk);
        // "/run/a" in Huffman's code, which is 011000 101100 101101 101010 011000 00011.
        assert!(client.version(&[kind, 0x85, 0x62, 0xcb, 0x6a, 0x60, 0x7f]), "{kind:#x}");
    }
    // A name of its own instead of the static table's.
    let mut client = Client::connect(&husk);
    let mut named = vec![0x40, 10];
    named.extend(b":authority");
    named.extend(&field(0, b"/run/husk/husk.sock")[1..]);
    assert!(client.version(&named));
    assert!(client.version(&[0xbe]));
    // None at all.
    assert!(client.version(&[]));
}

#[test]
fn thousands_of_silent_clients_hold_up_nobody() {
    husk_e2e::raise_open_files();
    let husk = Daemon::with(Options::default());
    let silent: Vec<UnixStream> = (0..2000).map(|_| UnixStream::connect(husk.address()).unwrap()).collect();
    let mut client = Client::connect(&husk);
    assert!(client.version(&field(0x41, b"localhost")));
    drop(silent);
    assert!(client.version(&field(0x41, b"localhost")));
}
