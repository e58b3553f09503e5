//! A registry that serves what a test tells it, broken content included.

use std::{
    collections::HashMap,
    io::{BufRead, BufReader, Write},
    net::{TcpListener, TcpStream},
    sync::Arc,
    thread,
};

use flate2::{Compression, write::GzEncoder};
use serde_json::json;

use crate::{Archive, images::digest};

/// A registry on a loopback port; it answers GET and HEAD of manifests and blobs.
#[derive(Debug)]
pub struct FakeRegistry {
    port: u16,
}

#[derive(Debug, Clone)]
struct Resource {
    kind: &'static str,
    body: Vec<u8>,
}

const MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";

impl FakeRegistry {
    /// Serves `archive` as `name:tag`; `spoil` may change each compressed layer after its digest was taken.
    pub fn serve(name: &str, tag: &str, archive: &Archive, spoil: impl Fn(&mut Vec<u8>)) -> Self {
        let mut resources = HashMap::new();
        let config = archive.configuration();
        let mut layers = Vec::new();
        for layer in &archive.layers {
            let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
            encoder.write_all(&layer.0).expect("compress");
            let mut blob = encoder.finish().expect("compress");
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
            "config": { "mediaType": "application/vnd.oci.image.config.v1+json", "digest": digest(&config), "size": config.len() },
            "layers": layers,
        })
        .to_string()
        .into_bytes();
        resources.insert(
            format!("/v2/{name}/blobs/{}", digest(&config)),
            Resource { kind: "application/octet-stream", body: config },
        );
        for reference in [tag.to_owned(), digest(&manifest)] {
            let resource = Resource { kind: MANIFEST, body: manifest.clone() };
            resources.insert(format!("/v2/{name}/manifests/{reference}"), resource);
        }
        resources.insert("/v2/".to_owned(), Resource { kind: "application/json", body: b"{}".to_vec() });

        let listener = TcpListener::bind("127.0.0.1:0").expect("bind a loopback port");
        let port = listener.local_addr().expect("the port").port();
        let resources = Arc::new(resources);
        thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let resources = Arc::clone(&resources);
                // A client that goes away in the middle of an answer is its own business.
                thread::spawn(move || answer_all(stream, &resources));
            }
        });
        Self { port }
    }

    /// `127.0.0.1:port`.
    pub fn host(&self) -> String {
        format!("127.0.0.1:{}", self.port)
    }
}

fn answer_all(stream: TcpStream, resources: &HashMap<String, Resource>) -> std::io::Result<()> {
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
