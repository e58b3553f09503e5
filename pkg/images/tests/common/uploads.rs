//! The registry's side of a push (OCI distribution-spec, "Push").

use hyper::Method;
use serde_json::Value;

use super::{
    sha256,
    talk::{Answer, Content, Seen},
};

/// Answers what concerns uploads and manifests that come; `None` for everything else.
pub fn answer(content: &mut Content, seen: &Seen) -> Option<Answer> {
    let path = seen.path.strip_prefix("/v2/")?;
    if seen.method == Method::PUT
        && let Some((repository, name)) = path.split_once("/manifests/")
    {
        return Some(manifest(content, seen, repository, name));
    }
    let (repository, upload) = path.split_once("/blobs/uploads/")?;
    match (&seen.method, upload) {
        (&Method::POST, "") => Some(begin(content, seen, repository)),
        _ if !content.uploads.contains_key(&seen.path) => Some(Answer::status(404)),
        (&Method::PATCH, _) => Some(match take(content, seen) {
            true => under_way(content, &seen.path, 202),
            false => Answer::status(416),
        }),
        (&Method::GET, _) => Some(under_way(content, &seen.path, 204)),
        (&Method::PUT, _) => Some(finish(content, seen, repository)),
        _ => Some(Answer::status(405)),
    }
}

/// Takes the bytes of a request, unless they are for another place.
pub fn take(content: &mut Content, seen: &Seen) -> bool {
    let Some(bytes) = content.uploads.get_mut(&seen.path) else { return false };
    let range = seen.headers.get("content-range").and_then(|value| value.to_str().ok());
    if range.is_some_and(|range| !range.starts_with(&format!("{}-", bytes.len()))) {
        return false;
    }
    bytes.extend_from_slice(&seen.body);
    true
}

fn parameter<'a>(seen: &'a Seen, name: &str) -> Option<String> {
    let pairs = seen.query.split('&').filter_map(|pair| pair.split_once('='));
    let found: Option<&'a str> = pairs.filter(|(key, _)| *key == name).map(|(_, value)| value).next();
    found.map(|value| value.replace("%3A", ":").replace("%2F", "/"))
}

fn begin(content: &mut Content, seen: &Seen, repository: &str) -> Answer {
    if let (Some(digest), Some(from)) = (parameter(seen, "mount"), parameter(seen, "from"))
        && let Some(blob) = content.files.get(&format!("{from}/blobs/{digest}")).cloned()
    {
        content.files.insert(format!("{repository}/blobs/{digest}"), blob);
        return Answer::status(201);
    }
    let path = format!("/v2/{repository}/blobs/uploads/{}", content.uploads.len() + 1);
    content.uploads.insert(path.clone(), Vec::new());
    under_way(content, &path, 202)
}

fn under_way(content: &Content, path: &str, status: u16) -> Answer {
    let last = content.uploads[path].len().saturating_sub(1);
    Answer {
        headers: vec![("location", format!("{path}?_state=x")), ("range", format!("0-{last}"))],
        ..Answer::status(status)
    }
}

fn finish(content: &mut Content, seen: &Seen, repository: &str) -> Answer {
    take(content, seen);
    let bytes = content.uploads.remove(&seen.path).unwrap_or_default();
    let digest = parameter(seen, "digest").unwrap_or_default();
    if sha256(&bytes) != digest || parameter(seen, "_state").is_none() {
        return Answer::status(400);
    }
    let blob = ("application/octet-stream".to_owned(), bytes);
    content.files.insert(format!("{repository}/blobs/{digest}"), blob);
    Answer::status(201)
}

fn manifest(content: &mut Content, seen: &Seen, repository: &str, name: &str) -> Answer {
    let Ok(manifest) = serde_json::from_slice::<Value>(&seen.body) else { return Answer::status(400) };
    let layers = manifest["layers"].as_array().cloned().unwrap_or_default();
    for blob in layers.iter().chain([&manifest["config"]]) {
        let digest = blob["digest"].as_str().unwrap_or_default();
        let known = content.files.get(&format!("{repository}/blobs/{digest}"));
        if known.is_none_or(|(_, bytes)| Some(bytes.len() as u64) != blob["size"].as_u64()) {
            return Answer::status(400);
        }
    }
    let media_type = seen.headers["content-type"].to_str().unwrap().to_owned();
    for name in [name, &sha256(&seen.body)] {
        let path = format!("{repository}/manifests/{name}");
        content.files.insert(path, (media_type.clone(), seen.body.to_vec()));
    }
    Answer::status(201)
}
