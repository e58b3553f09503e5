//! A registry that answers in raw bytes, so that it can break every rule of HTTP, and counts what was taken from it.

use std::{
    collections::HashMap,
    io::{BufRead, BufReader, ErrorKind, Write},
    net::{Shutdown, SocketAddr, TcpListener, TcpStream},
    sync::{
        Arc, Mutex,
        atomic::{AtomicU64, Ordering},
    },
    thread,
    time::Duration,
};

use super::Image;

/// A request.
#[derive(Debug, Clone, Default)]
pub struct Asked {
    /// `/v2/r/manifests/1`, without the query.
    pub path: String,
    /// First byte of a range, if one was asked for.
    pub from: Option<usize>,
    /// How many requests for this path came before.
    pub before: usize,
    pub authorized: bool,
}

/// A step of an answer.
#[derive(Debug, Clone)]
pub enum Step {
    Send(Vec<u8>),
    /// Again and again, until the client leaves; with a pause in between.
    Endless(Vec<u8>, Duration),
    /// Nothing more, until the client leaves.
    Silence,
    /// An end in the middle of things, with RST.
    Reset,
}

type Script = dyn Fn(&Asked, Vec<u8>) -> Option<Vec<Step>> + Send + Sync;

/// What came and went.
#[derive(Debug, Default)]
pub struct Counted {
    pub requests: AtomicU64,
    pub bytes: AtomicU64,
}

/// The registry; its threads end with the test.
pub struct Raw {
    pub address: SocketAddr,
    pub counted: Arc<Counted>,
    shared: Arc<Shared>,
}

#[derive(Default)]
struct Shared {
    files: Mutex<HashMap<String, (String, Vec<u8>)>>,
    asked: Mutex<HashMap<String, usize>>,
    script: Mutex<Option<Arc<Script>>>,
}

/// A head with a length.
pub fn head(status: &str, media_type: &str, length: usize) -> Vec<u8> {
    format!("HTTP/1.1 {status}\r\nContent-Type: {media_type}\r\nContent-Length: {length}\r\n\r\n")
        .into_bytes()
}

/// A whole answer.
pub fn answer(status: &str, headers: &str, body: &[u8]) -> Vec<Step> {
    let head = format!("HTTP/1.1 {status}\r\nContent-Length: {}\r\n{headers}\r\n", body.len());
    vec![Step::Send([head.as_bytes(), body].concat())]
}

impl Raw {
    pub fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let raw =
            Self { address: listener.local_addr().unwrap(), counted: Arc::default(), shared: Arc::default() };
        let (counted, shared) = (Arc::clone(&raw.counted), Arc::clone(&raw.shared));
        thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let (counted, shared) = (Arc::clone(&counted), Arc::clone(&shared));
                // The end of a connection is part of most tests.
                thread::spawn(move || serve(stream, &shared, &counted));
            }
        });
        raw
    }

    pub fn put(&self, path: &str, media_type: &str, bytes: &[u8]) {
        self.shared.files.lock().unwrap().insert(path.into(), (media_type.into(), bytes.into()));
    }

    pub fn push(&self, repository: &str, image: &Image) {
        for name in ["1", &image.digest()] {
            self.put(&format!("/v2/{repository}/manifests/{name}"), image.media_type, &image.manifest);
        }
        for (digest, blob) in &image.blobs {
            self.put(&format!("/v2/{repository}/blobs/{digest}"), "application/octet-stream", blob);
        }
    }

    /// From now on `script` may answer, which gets the honest answer's body.
    pub fn script(&self, script: impl Fn(&Asked, Vec<u8>) -> Option<Vec<Step>> + Send + Sync + 'static) {
        self.shared.asked.lock().unwrap().clear();
        *self.shared.script.lock().unwrap() = Some(Arc::new(script));
    }

    /// From now on it is a good registry.
    pub fn mend(&self) {
        *self.shared.script.lock().unwrap() = None;
    }
}

fn serve(stream: TcpStream, shared: &Shared, counted: &Counted) -> std::io::Result<()> {
    let mut reader = BufReader::new(stream.try_clone()?);
    let mut writer = stream;
    while let Some(mut asked) = request(&mut reader)? {
        counted.requests.fetch_add(1, Ordering::SeqCst);
        {
            let mut known = shared.asked.lock().unwrap();
            let before = known.entry(asked.path.clone()).or_default();
            asked.before = *before;
            *before += 1;
        }
        let file = shared.files.lock().unwrap().get(&asked.path).cloned();
        let script = shared.script.lock().unwrap().clone();
        let body = file.as_ref().map(|(_, body)| body.clone()).unwrap_or_default();
        let steps = script.and_then(|script| script(&asked, body)).unwrap_or_else(|| match &file {
            None => answer("404 Not Found", "", b""),
            Some((media_type, body)) => match asked.from {
                Some(from) => {
                    let range = format!("Content-Range: bytes {from}-{}/{}\r\n", body.len() - 1, body.len());
                    answer("206 Partial Content", &range, &body[from.min(body.len())..])
                }
                None => answer("200 OK", &format!("Content-Type: {media_type}\r\n"), body),
            },
        });
        for step in steps {
            play(step, &mut writer, &mut reader, counted)?;
        }
    }
    Ok(())
}

fn play(
    step: Step,
    writer: &mut TcpStream,
    reader: &mut BufReader<TcpStream>,
    counted: &Counted,
) -> std::io::Result<()> {
    let send = |writer: &mut TcpStream, bytes: &[u8]| {
        writer.write_all(bytes)?;
        counted.bytes.fetch_add(bytes.len() as u64, Ordering::SeqCst);
        Ok::<_, std::io::Error>(())
    };
    match step {
        Step::Send(bytes) => send(writer, &bytes),
        Step::Endless(bytes, pause) => loop {
            send(writer, &bytes)?;
            // A pause that is an event: the client's end of the connection.
            if !pause.is_zero() {
                wait_for_end(reader, Some(pause))?;
            }
        },
        Step::Silence => wait_for_end(reader, None),
        Step::Reset => {
            rustix::net::sockopt::set_socket_linger(&*writer, Some(Duration::ZERO))?;
            writer.shutdown(Shutdown::Read)?;
            Err(ErrorKind::ConnectionAborted.into())
        }
    }
}

/// Waits until the client has left, or for `limit`.
fn wait_for_end(reader: &mut BufReader<TcpStream>, limit: Option<Duration>) -> std::io::Result<()> {
    reader.get_ref().set_read_timeout(limit)?;
    let ended = match reader.fill_buf() {
        Ok([]) => Err(ErrorKind::UnexpectedEof.into()),
        Ok(_) => Ok(()),
        Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => Ok(()),
        Err(error) => Err(error),
    };
    reader.get_ref().set_read_timeout(None)?;
    ended
}

fn request(reader: &mut impl BufRead) -> std::io::Result<Option<Asked>> {
    let mut line = String::new();
    if reader.read_line(&mut line)? == 0 {
        return Ok(None);
    }
    let target = line.split(' ').nth(1).unwrap_or_default();
    let mut asked =
        Asked { path: target.split('?').next().unwrap_or_default().to_owned(), ..Asked::default() };
    loop {
        let mut header = String::new();
        if reader.read_line(&mut header)? <= 2 {
            return Ok(Some(asked));
        }
        let header = header.to_ascii_lowercase();
        asked.authorized |= header.starts_with("authorization:");
        if let Some(range) = header.strip_prefix("range: bytes=") {
            asked.from = range.trim().trim_end_matches('-').parse().ok();
        }
    }
}
