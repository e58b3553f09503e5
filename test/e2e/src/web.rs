//! A registry that serves what a test tells it, broken content included.

use std::{
    collections::HashMap,
    io::{BufRead, BufReader, Write},
    net::{TcpListener, TcpStream},
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    thread,
};

use flate2::{Compression, write::GzEncoder};
use serde_json::json;

use crate::{Archive, Layer, images::digest};

/// A registry on a loopback port; it answers GET and HEAD of manifests and blobs.
#[derive(Debug)]
pub struct FakeRegistry {
    port: u16,
    left: Arc<AtomicUsize>,
}

/// What a [`FakeRegistry`] answers in place of what it has.
#[derive(Debug, Clone)]
pub enum Odd {
    /// These bytes, as they are, and the end of the connection.
    Raw(Vec<u8>),
    /// These bytes and nothing more until the client leaves; see [`FakeRegistry::left`].
    Silence(Vec<u8>),
}

/// Decides by path whether a [`FakeRegistry`] answers something odd.
pub type Oddity = dyn Fn(&str) -> Option<Odd> + Send + Sync;

#[derive(Debug, Clone)]
struct Resource {
    kind: &'static str,
    body: Vec<u8>,
}

const MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";

impl FakeRegistry {
    /// Serves `archive` as `name:tag`; `spoil` may change each compressed layer after its digest was taken.
    pub fn serve(name: &str, tag: &str, archive: &Archive, spoil: impl Fn(&mut Vec<u8>)) -> Self {
        let compress = |layer: &Layer| {
            let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
            encoder.write_all(&layer.0).expect("compress");
            encoder.finish().expect("compress")
        };
        let blobs = archive.layers.iter().map(compress).collect();
        Self::serve_blobs(name, tag, &archive.configuration(), blobs, spoil, |_| None)
    }

    /// Serves an image of `blobs`, whatever they are, and what `odd` says in its place.
    pub fn serve_blobs(
        name: &str,
        tag: &str,
        config: &[u8],
        blobs: Vec<Vec<u8>>,
        spoil: impl Fn(&mut Vec<u8>),
        odd: impl Fn(&str) -> Option<Odd> + Send + Sync + 'static,
    ) -> Self {
        let mut resources = HashMap::new();
        let mut layers = Vec::new();
        for mut blob in blobs {
            layers.push(json!({
                "mediaType": "application/vnd.oci.image.layer.v1.tar+gzip", "digest": digest(&blob), "size": blob.len(),
            }));
            let path = format!("/v2/{name}/blobs/{}", digest(&blob));
            spoil(&mut blob);
            resources.insert(path, Resource { kind: "application/octet-stream", body: blob });
        }
        let manifest = json!({
            "schemaVersion": 2,
            "mediaType": MANIFEST,
            "config": { "mediaType": "application/vnd.oci.image.config.v1+json", "digest": digest(config), "size": config.len() },
            "layers": layers,
        })
        .to_string()
        .into_bytes();
        resources.insert(
            format!("/v2/{name}/blobs/{}", digest(config)),
            Resource { kind: "application/octet-stream", body: config.to_vec() },
        );
        for reference in [tag.to_owned(), digest(&manifest)] {
            let resource = Resource { kind: MANIFEST, body: manifest.clone() };
            resources.insert(format!("/v2/{name}/manifests/{reference}"), resource);
        }
        resources.insert("/v2/".to_owned(), Resource { kind: "application/json", body: b"{}".to_vec() });

        let listener = TcpListener::bind("127.0.0.1:0").expect("bind a loopback port");
        let port = listener.local_addr().expect("the port").port();
        let (resources, odd): (_, Arc<Oddity>) = (Arc::new(resources), Arc::new(odd));
        let left = Arc::new(AtomicUsize::new(0));
        let leaving = Arc::clone(&left);
        thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let (resources, odd, left) = (Arc::clone(&resources), Arc::clone(&odd), Arc::clone(&leaving));
                // A client that goes away in the middle of an answer is its own business.
                thread::spawn(move || answer_all(stream, &resources, &*odd, &left));
            }
        });
        Self { port, left }
    }

    /// How many clients have left in the middle of a silence.
    pub fn left(&self) -> usize {
        self.left.load(Ordering::SeqCst)
    }

    /// `127.0.0.1:port`.
    pub fn host(&self) -> String {
        format!("127.0.0.1:{}", self.port)
    }
}

fn answer_all(
    stream: TcpStream,
    resources: &HashMap<String, Resource>,
    odd: &Oddity,
    left: &AtomicUsize,
) -> std::io::Result<()> {
    let mut reader = BufReader::new(stream.try_clone()?);
    let mut writer = stream;
    loop {
        let mut line = String::new();
        if reader.read_line(&mut line)? == 0 {
            return Ok(());
        }
        let mut words = line.split_whitespace();
        let method = words.next().unwrap_or_default().to_owned();
        let path = words.next().unwrap_or_default().split('?').next().unwrap_or_default().to_owned();
        loop {
            let mut header = String::new();
            if reader.read_line(&mut header)? <= 2 {
                break;
            }
        }
        match odd(&path) {
            None => {}
            Some(Odd::Raw(bytes)) => return writer.write_all(&bytes),
            Some(Odd::Silence(bytes)) => {
                writer.write_all(&bytes)?;
                // Whether it ends or breaks, it is the client's end.
                let _ended = reader.read_line(&mut String::new());
                left.fetch_add(1, Ordering::SeqCst);
                return Ok(());
            }
        }
        match resources.get(&path) {
            Some(resource) => {
                write!(
                    writer,
                    "HTTP/1.1 200 OK\r\nContent-Type: {}\r\nContent-Length: {}\r\nDocker-Content-Digest: {}\r\n\r\n",
                    resource.kind,
                    resource.body.len(),
                    digest(&resource.body),
                )?;
                if method != "HEAD" {
                    writer.write_all(&resource.body)?;
                }
            }
            None => write!(writer, "HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n")?,
        }
    }
}

/// What a daemon's metrics endpoint on this loopback port says.
pub fn metrics(port: u16) -> String {
    let mut stream = std::net::TcpStream::connect(("127.0.0.1", port)).expect("connect to the metrics");
    std::io::Write::write_all(&mut stream, b"GET /metrics HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
        .expect("ask for metrics");
    let mut text = String::new();
    std::io::Read::read_to_string(&mut stream, &mut text).expect("read metrics");
    text
}
