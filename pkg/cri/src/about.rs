//! What the span of a call is about: ids and names of its objects, and nothing else of them.

use husk_model::{ContainerMetadata, PodMetadata};
use husk_pods::Engine;
use husk_telemetry::traces::{Description, describe};

/// A pod, by what the caller calls it.
pub(crate) fn pod_named(metadata: &PodMetadata) {
    describe(|about| pod_names(about, metadata));
}

/// A pod that there is, or was.
pub(crate) fn pod(engine: &Engine, id: &str) {
    describe(|about| {
        about.set("husk.pod.id", id);
        if let Ok(pod) = engine.pod_status(id) {
            pod_names(about, &pod.config.metadata);
        }
    });
}

/// The sandbox that was made.
pub(crate) fn pod_made(id: &str) {
    describe(|about| _ = about.set("husk.pod.id", id));
}

/// A container that there is, or was, and its pod.
pub(crate) fn container(engine: &Engine, id: &str) {
    describe(|about| {
        about.set("container.id", id);
        let Ok(container) = engine.container_status(id) else { return };
        container_names(about, &container.config.metadata);
        about.set("husk.pod.id", container.pod_id.as_str());
        if let Ok(pod) = engine.pod_status(container.pod_id.as_str()) {
            pod_names(about, &pod.config.metadata);
        }
    });
}

/// A container, by what the caller calls it.
pub(crate) fn container_named(metadata: &ContainerMetadata) {
    describe(|about| container_names(about, metadata));
}

/// The container that was made.
pub(crate) fn container_made(id: &str) {
    describe(|about| _ = about.set("container.id", id));
}

/// An image, as the caller names it.
pub(crate) fn image(name: &str) {
    describe(|about| _ = about.set("container.image.name", name));
}

// OpenTelemetry's names of attributes for resources of Kubernetes.
fn pod_names(about: &mut Description, metadata: &PodMetadata) {
    about
        .set("k8s.pod.name", &metadata.name)
        .set("k8s.namespace.name", &metadata.namespace)
        .set("k8s.pod.uid", &metadata.uid);
}

fn container_names(about: &mut Description, metadata: &ContainerMetadata) {
    about.set("k8s.container.name", &metadata.name);
}
