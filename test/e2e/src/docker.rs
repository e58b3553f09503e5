//! A client of the Docker Engine API over a unix socket, with nothing between the test and the bytes.

use std::{
    io::{BufRead, BufReader, ErrorKind, Read, Write},
    os::unix::net::UnixStream,
    path::{Path, PathBuf},
    time::Duration,
};

use serde_json::Value;

/// How long an answer may take.
const LIMIT: Duration = Duration::from_secs(60);

/// The client.
#[derive(Debug, Clone)]
pub struct Docker {
    socket: PathBuf,
}

/// An answer, with all of its body.
#[derive(Debug, Clone)]
pub struct Answer {
    /// The status.
    pub status: u16,
    /// Headers, their names in lower case.
    pub headers: Vec<(String, String)>,
    /// The body, without its chunks.
    pub body: Vec<u8>,
}

/// A connection whose head was answered; the rest is the test's to read.
#[derive(Debug)]
pub struct Open {
    /// The answer's head; its body is empty.
    pub head: Answer,
    /// The connection behind it.
    pub stream: BufReader<UnixStream>,
}

impl Docker {
    /// Of this socket.
    pub fn new(socket: &Path) -> Self {
        Self { socket: socket.to_owned() }
    }

    /// A request without a body.
    pub fn get(&self, path: &str) -> Answer {
        self.send("GET", path, &[], b"")
    }

    /// Sends JSON.
    pub fn post(&self, path: &str, body: &Value) -> Answer {
        self.send("POST", path, &[("Content-Type", "application/json")], body.to_string().as_bytes())
    }

    /// Deletes.
    pub fn delete(&self, path: &str) -> Answer {
        self.send("DELETE", path, &[], b"")
    }

    /// A request with these headers and this body.
    pub fn send(&self, method: &str, path: &str, headers: &[(&str, &str)], body: &[u8]) -> Answer {
        let Open { mut head, stream } = self.open(method, path, headers, body);
        if method != "HEAD" {
            head.body = read_body(stream, &head);
        }
        head
    }

    /// As [`Self::send`], up to the end of the answer's head.
    pub fn open(&self, method: &str, path: &str, headers: &[(&str, &str)], body: &[u8]) -> Open {
        let mut stream = UnixStream::connect(&self.socket).expect("connect to the Docker socket");
        stream.set_read_timeout(Some(crate::patience(LIMIT))).expect("a limit");
        let mut request =
            format!("{method} {path} HTTP/1.1\r\nHost: docker\r\nContent-Length: {}\r\n", body.len());
        for (name, value) in headers {
            request.push_str(&format!("{name}: {value}\r\n"));
        }
        request.push_str("\r\n");
        stream.write_all(request.as_bytes()).expect("send the head");
        match stream.write_all(body) {
            // Whoever refuses a request need not read all of it: the answer is there.
            Err(error) if error.kind() == ErrorKind::BrokenPipe => {}
            sent => sent.expect("send the body"),
        }
        let mut stream = BufReader::new(stream);
        let head = read_head(&mut stream);
        Open { head, stream }
    }
}

impl Answer {
    /// A header's value.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(have, _)| have == name).map(|(_, value)| value.as_str())
    }

    /// The body as text.
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    /// The body as JSON, when the status is this one.
    pub fn json(&self, status: u16) -> Value {
        assert_eq!(self.status, status, "{}", self.text());
        serde_json::from_slice(&self.body).unwrap_or_else(|error| panic!("{error}: {}", self.text()))
    }

    /// The JSON documents of a stream, when the status is 200.
    pub fn documents(&self) -> Vec<Value> {
        assert_eq!(self.status, 200, "{}", self.text());
        self.text().lines().map(|line| serde_json::from_str(line).expect("a document a line")).collect()
    }

    /// The message of a failure, when the status is this one.
    pub fn message(&self, status: u16) -> String {
        self.json(status)["message"].as_str().expect("a message").to_owned()
    }
}

fn read_head(stream: &mut impl BufRead) -> Answer {
    let mut line = || {
        let mut line = String::new();
        stream.read_line(&mut line).expect("an answer in time");
        line.trim_end().to_owned()
    };
    let first = line();
    let status = first.split(' ').nth(1).and_then(|status| status.parse().ok());
    let mut headers = Vec::new();
    loop {
        let line = line();
        let Some((name, value)) = line.split_once(':') else { break };
        headers.push((name.to_ascii_lowercase(), value.trim().to_owned()));
    }
    Answer { status: status.unwrap_or_else(|| panic!("no status in {first:?}")), headers, body: Vec::new() }
}

fn read_body(mut stream: impl BufRead, head: &Answer) -> Vec<u8> {
    let mut body = Vec::new();
    if head.header("transfer-encoding") == Some("chunked") {
        loop {
            let mut size = String::new();
            stream.read_line(&mut size).expect("a chunk in time");
            let size = usize::from_str_radix(size.trim(), 16).expect("the size of a chunk");
            let mut chunk = vec![0; size + 2];
            stream.read_exact(&mut chunk).expect("a chunk");
            if size == 0 {
                return body;
            }
            body.extend_from_slice(&chunk[..size]);
        }
    }
    let length: Option<u64> = head.header("content-length").map(|length| length.parse().expect("a length"));
    match length {
        Some(length) => stream.take(length).read_to_end(&mut body),
        None if head.status == 204 || head.status == 304 => Ok(0),
        None => stream.read_to_end(&mut body),
    }
    .expect("the body");
    body
}
