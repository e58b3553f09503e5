//! What the tests' registry is asked, answers, and has.

use std::collections::HashMap;

use bytes::Bytes;
use hyper::{Method, header::HeaderMap};

/// A request as the registry saw it.
#[derive(Debug, Clone)]
pub struct Seen {
    pub method: Method,
    pub path: String,
    pub query: String,
    pub headers: HeaderMap,
    pub body: Bytes,
}

/// An answer.
#[derive(Debug, Clone, Default)]
pub struct Answer {
    pub status: u16,
    pub headers: Vec<(&'static str, String)>,
    pub body: Vec<u8>,
    /// Break the connection after this many bytes of the body.
    pub cut: Option<usize>,
}

impl Answer {
    pub fn status(status: u16) -> Self {
        Self { status, ..Self::default() }
    }
}

#[derive(Default)]
pub struct Content {
    /// `repository/manifests/<tag or digest>` and `repository/blobs/<digest>` to content type and bytes.
    pub files: HashMap<String, (String, Vec<u8>)>,
    /// Uploads under way, by their path.
    pub uploads: HashMap<String, Vec<u8>>,
    pub seen: Vec<Seen>,
    /// After how many bytes the connections of the next uploads break.
    pub cuts: Vec<usize>,
}
