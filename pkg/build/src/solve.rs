//! A client's build: what is changed of it. Everything else stays as the client wrote it, also what husk does not know.
//!
//! | of the request | becomes |
//! | --- | --- |
//! | exporters `moby` and `image`, but for one that pushes by itself | `image`, pushed to husk's own registry, without compression |
//! | the source policy | the client's, or else husk's: every image is asked of husk's own registry |
//! | of the answer | |
//! | `containerimage.digest`, `containerimage.config.digest` | the image's id, as dockerd has them |
//! | `image.name` | the names that were asked for |

use std::{collections::BTreeMap, sync::Arc};

use bytes::Bytes;
use husk_images::Platform;
use husk_model::ImageId;
use husk_proto::buildkit::Exporter;

use crate::{
    error::{BuildError, Result},
    registry::{Credentials, Order, Registry, Ticket, rules},
    wire::{self, Field},
};

/// Fields of a SolveRequest.
mod request {
    pub(super) const EXPORTER: u32 = 3;
    pub(super) const EXPORTER_ATTRS: u32 = 4;
    pub(super) const SESSION: u32 = 5;
    pub(super) const FRONTEND_ATTRS: u32 = 7;
    pub(super) const SOURCE_POLICY: u32 = 12;
    pub(super) const EXPORTERS: u32 = 13;
}

/// The field of a SolveResponse.
const RESPONSE: u32 = 1;

/// Names that one build may give.
const NAMES_MAX: usize = 256;

/// A build on its way to buildkitd.
#[derive(Debug)]
pub(crate) struct Rewritten {
    /// The request as buildkitd gets it.
    pub(crate) message: Vec<u8>,
    /// The build, as husk's registry knows it.
    pub(crate) ticket: Arc<Ticket>,
    /// Whether it shall make an image of the store.
    pub(crate) makes_image: bool,
}

/// What is changed of a request. `credentials` are asked of the session that it names.
///
/// # Errors
/// [`BuildError::Request`] for what is no request; [`BuildError::File`].
pub(crate) fn rewrite(
    message: &Bytes,
    registry: &Registry,
    credentials: impl FnOnce(String) -> Credentials,
) -> Result<Rewritten> {
    let wrong = |error: prost::DecodeError| BuildError::Request(format!("the build's request: {error}"));
    let fields = wire::fields(message).map_err(wrong)?;
    let exporters = exporters(&fields).map_err(wrong)?;
    let attributes = wire::map(&fields, request::FRONTEND_ATTRS).map_err(wrong)?;
    let ours: Vec<&Exporter> = exporters.iter().filter(|exporter| is_ours(exporter)).collect();
    let mut names: Vec<String> = ours.iter().flat_map(|exporter| names_of(exporter)).collect();
    names.sort();
    names.dedup();
    if names.len() > NAMES_MAX {
        return Err(BuildError::Request(format!("a build can give {NAMES_MAX} names")));
    }
    let makes_image = !ours.is_empty();
    if makes_image {
        check_platform(&attributes)?;
    }
    let order = Order {
        names,
        pull: attributes.get("image-resolve-mode").is_some_and(|mode| mode == "pull"),
        credentials: credentials(wire::text(&fields, request::SESSION)),
        context: None,
    };
    let ticket = registry.admit(order)?;
    let mut changed: Vec<Field> = fields
        .into_iter()
        .filter(|field| {
            !matches!(field.tag, request::EXPORTER | request::EXPORTER_ATTRS | request::EXPORTERS)
        })
        .collect();
    for exporter in &exporters {
        let exporter =
            if is_ours(exporter) { &to_registry(exporter, registry.port, &ticket) } else { exporter };
        changed.push(wire::embedded(request::EXPORTERS, exporter));
    }
    // A client's own rules are not to be got round by ours.
    if changed.iter().all(|field| field.tag != request::SOURCE_POLICY) {
        changed.push(wire::embedded(request::SOURCE_POLICY, &rules(registry.port, &ticket.token)));
    }
    Ok(Rewritten { message: wire::join(&changed), ticket, makes_image })
}

/// The exporters of a request; older clients name one in fields of its own, and newer ones say the same there again.
fn exporters(fields: &[Field]) -> Result<Vec<Exporter>, prost::DecodeError> {
    let named = fields.iter().filter(|field| field.tag == request::EXPORTERS);
    let named: Vec<Exporter> = named
        .filter_map(|field| field.content.as_ref())
        .map(|content| {
            let parts = wire::fields(content)?;
            Ok(Exporter { r#type: wire::text(&parts, 1), attrs: wire::map(&parts, 2)? })
        })
        .collect::<Result<_, prost::DecodeError>>()?;
    let old = wire::text(fields, request::EXPORTER);
    if !named.is_empty() || old.is_empty() {
        return Ok(named);
    }
    Ok(vec![Exporter { r#type: old, attrs: wire::map(fields, request::EXPORTER_ATTRS)? }])
}

/// Sees that an image for this platform can be the store's, before it is built. None is this node's.
///
/// # Errors
/// [`BuildError::Refused`] with what to do instead.
pub(crate) fn check_platform(attributes: &BTreeMap<String, String>) -> Result<()> {
    let wanted = attributes.get("platform").map(String::as_str).unwrap_or_default();
    let host = Platform::host().normalized();
    let runs_here = |name: &str| {
        let mut parts = name.trim().split('/').map(str::to_owned);
        let (os, architecture) = (parts.next().unwrap_or_default(), parts.next().unwrap_or_default());
        // An architecture alone is one of Linux.
        let (os, architecture) =
            if architecture.is_empty() { ("linux".to_owned(), os) } else { (os, architecture) };
        host.suits(&Platform { os, architecture, variant: parts.next(), ..Platform::default() }.normalized())
    };
    match wanted.split(',').find(|name| !name.is_empty() && !runs_here(name)) {
        None => Ok(()),
        Some(other) => Err(BuildError::Refused {
            // UNIMPLEMENTED
            code: 12,
            message: format!(
                "images of this node are for {}/{}, and {:?} is another platform: build for it with --output to files, where the kernel can run its programs (binfmt_misc with QEMU)",
                host.os,
                host.architecture,
                other.chars().take(80).collect::<String>()
            ),
        }),
    }
}

/// Whether what it makes is for the store.
fn is_ours(exporter: &Exporter) -> bool {
    match exporter.r#type.as_str() {
        "moby" => true,
        // buildkitd pushes it where the client says.
        "image" => !exporter.attrs.get("push").is_some_and(|push| matches!(push.as_str(), "true" | "1" | "")),
        _ => false,
    }
}

fn names_of(exporter: &Exporter) -> impl Iterator<Item = String> + use<> {
    let names = exporter.attrs.get("name").cloned().unwrap_or_default();
    let names: Vec<String> = names.split(',').filter(|name| !name.is_empty()).map(str::to_owned).collect();
    names.into_iter()
}

/// Attributes that mean something where an image is kept by buildkitd itself, or pushed elsewhere.
const DROPPED: [&str; 9] = [
    "push-by-digest",
    "unpack",
    "store",
    "store-allow-incomplete",
    "name-canonical",
    "dangling-name-prefix",
    "danglingempty",
    "dest",
    "context",
];

/// An image that goes to husk's own registry: plain layers have the digests that the store knows them by.
pub(crate) fn to_registry(exporter: &Exporter, port: u16, ticket: &Ticket) -> Exporter {
    let mut attrs = exporter.attrs.clone();
    for name in DROPPED {
        attrs.remove(name);
    }
    for (name, value) in [
        ("name", format!("127.0.0.1:{port}/{}/out:built", ticket.token)),
        ("push", "true".to_owned()),
        ("registry.insecure", "true".to_owned()),
        ("compression", "uncompressed".to_owned()),
        ("force-compression", "true".to_owned()),
        ("oci-mediatypes", "true".to_owned()),
    ] {
        attrs.insert(name.to_owned(), value);
    }
    Exporter { r#type: "image".to_owned(), attrs }
}

/// What is changed of the answer to a build that has made `id`.
///
/// # Errors
/// When it is no answer.
pub(crate) fn answered(
    message: &Bytes,
    id: &ImageId,
    names: &[String],
) -> Result<Vec<u8>, prost::DecodeError> {
    let fields = wire::fields(message)?;
    let mut response = wire::map(&fields, RESPONSE)?;
    describe(&mut response, id, names);
    let mut changed: Vec<Field> = fields.into_iter().filter(|field| field.tag != RESPONSE).collect();
    changed.extend(wire::of_map(RESPONSE, &response));
    Ok(wire::join(&changed))
}

fn describe(response: &mut BTreeMap<String, String>, id: &ImageId, names: &[String]) {
    // It tells of the manifest in husk's own registry.
    response.remove("containerimage.descriptor");
    response.remove("image.name");
    response.insert("containerimage.digest".to_owned(), id.to_string());
    response.insert("containerimage.config.digest".to_owned(), id.to_string());
    if !names.is_empty() {
        response.insert("image.name".to_owned(), names.join(","));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_image_for_another_platform_is_refused_before_it_is_built() {
        let check = |platform: &str| check_platform(&[("platform".to_owned(), platform.to_owned())].into());
        let own = Platform::host();
        for platform in ["", &format!("linux/{}", own.architecture), &own.architecture] {
            check(platform).unwrap();
        }
        check_platform(&BTreeMap::new()).unwrap();
        for platform in
            ["linux/s390x", "s390x", &format!("linux/{},linux/s390x", own.architecture), "windows/amd64"]
        {
            let error = check(platform).unwrap_err().to_string();
            assert!(error.contains("binfmt_misc"), "{platform}: {error}");
        }
    }
}
