//! Doors for test/fuzz: what reads requests, one function each.

use husk_model::{ContainerConfig, PodConfig, Resources};
use husk_proto::cri::v1;
use prost::Message as _;

use crate::{Rewriter, convert};

/// The pod that RunPodSandbox asks for; `None` when it is refused.
pub fn pod(request: &[u8]) -> Option<PodConfig> {
    let request = v1::RunPodSandboxRequest::decode(request).ok()?;
    convert::pod_config(request.config, request.runtime_handler).ok()
}

/// The container that CreateContainer asks for; `None` when it is refused.
pub fn container(request: &[u8]) -> Option<ContainerConfig> {
    let request = v1::CreateContainerRequest::decode(request).ok()?;
    convert::container_request(request.config).ok().map(convert::ContainerRequest::of_no_pod)
}

/// The limits that UpdateContainerResources asks for; `None` when they are refused.
pub fn limits(request: &[u8]) -> Option<Resources> {
    let request = v1::UpdateContainerResourcesRequest::decode(request).ok()?;
    convert::resources("linux", request.linux?).ok()
}

/// What a client's bytes on the socket become on their way to the server, when they come in pieces of `piece` bytes. It is as
/// long as what was sent, and does not depend on the pieces.
pub fn rewritten(client: &[u8], piece: usize) -> Vec<u8> {
    let (mut rewriter, mut held, mut out) = (Rewriter::default(), Vec::new(), Vec::new());
    for piece in client.chunks(piece.max(1)) {
        held.extend_from_slice(piece);
        let done = rewriter.walk(&mut held);
        out.extend(held.drain(..done));
    }
    out.append(&mut held);
    out
}
