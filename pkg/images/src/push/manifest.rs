//! The manifest of a push.

use husk_model::ImageId;
use serde_json::{Value, json};

use crate::{
    manifest::{
        DOCKER_CONFIG, DOCKER_LAYER, DOCKER_MANIFEST, Declared, Document, OCI_CONFIG, OCI_LAYER, OCI_MANIFEST,
    },
    store::BlobSource,
};

/// How a blob is compressed, as its type tells.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Form {
    Plain,
    Gzip,
    Zstd,
}

impl Form {
    fn of(media_type: &str) -> Self {
        let media_type = media_type.to_ascii_lowercase();
        if media_type.contains("zstd") {
            Self::Zstd
        } else if media_type.ends_with(".tar") {
            Self::Plain
        } else {
            Self::Gzip
        }
    }

    fn of_oci(self) -> String {
        let suffix = match self {
            Self::Plain => "",
            Self::Gzip => "+gzip",
            Self::Zstd => "+zstd",
        };
        format!("{OCI_LAYER}{suffix}")
    }

    /// Docker's types have no zstd.
    fn of_docker(self) -> String {
        match self {
            Self::Plain => DOCKER_LAYER.to_owned(),
            _ => format!("{DOCKER_LAYER}.gzip"),
        }
    }
}

/// Media type and bytes of the manifest of `id` with these layers. `original` is the one that the image was pulled by: it goes as it is when
/// all that it names is what is there; else the new one is of its kind, and Docker's without one, which every registry takes.
pub(super) fn of(
    id: &ImageId,
    config_size: usize,
    layers: &[BlobSource],
    original: Option<&[u8]>,
) -> (String, Vec<u8>) {
    let media_type = original.map_or_else(|| DOCKER_MANIFEST.to_owned(), Declared::media_type_of);
    if let Some(original) = original
        && is_of(original, id, layers)
    {
        return (media_type, original.to_vec());
    }
    let is_docker =
        media_type == DOCKER_MANIFEST && layers.iter().all(|layer| Form::of(&layer.media_type) != Form::Zstd);
    let (manifest, config) =
        if is_docker { (DOCKER_MANIFEST, DOCKER_CONFIG) } else { (OCI_MANIFEST, OCI_CONFIG) };
    let layer = |layer: &BlobSource| -> Value {
        let form = Form::of(&layer.media_type);
        let media_type = if is_docker { form.of_docker() } else { form.of_oci() };
        json!({ "mediaType": media_type, "size": layer.size, "digest": layer.digest })
    };
    let document = json!({
        "schemaVersion": 2,
        "mediaType": manifest,
        "config": { "mediaType": config, "size": config_size, "digest": id },
        "layers": layers.iter().map(layer).collect::<Vec<_>>(),
    });
    (manifest.to_owned(), document.to_string().into_bytes())
}

/// Whether a manifest names just these.
fn is_of(manifest: &[u8], id: &ImageId, layers: &[BlobSource]) -> bool {
    match Document::parse(manifest, None) {
        Ok(Document::Manifest(manifest)) => {
            let same = |(named, layer): (&crate::manifest::Descriptor, &BlobSource)| {
                named.digest == layer.digest && named.size == layer.size
            };
            manifest.config.digest == *id.digest()
                && manifest.layers.len() == layers.len()
                && manifest.layers.iter().zip(layers).all(same)
        }
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use husk_model::Digest;

    use super::*;

    fn source(number: u8, media_type: &str) -> BlobSource {
        BlobSource {
            registry: String::new(),
            repository: String::new(),
            digest: Digest::from_sha256(&[number; 32]),
            size: 7,
            media_type: media_type.to_owned(),
        }
    }

    fn id() -> ImageId {
        ImageId::new(Digest::from_sha256(&[9; 32]))
    }

    #[test]
    fn the_manifest_of_the_pull_goes_as_it_is_when_it_names_what_is_there() {
        let layers = [source(1, "application/vnd.oci.image.layer.v1.tar+zstd")];
        let layer = json!({ "mediaType": "application/vnd.oci.image.layer.v1.tar+zstd", "digest": layers[0].digest, "size": 7,
            "annotations": { "a": "b" } });
        let original = json!({ "schemaVersion": 2, "mediaType": OCI_MANIFEST, "annotations": { "x": "y" },
            "config": { "mediaType": OCI_CONFIG, "digest": id(), "size": 2 }, "layers": [layer] })
        .to_string()
        .into_bytes();
        assert_eq!(of(&id(), 2, &layers, Some(&original)), (OCI_MANIFEST.to_owned(), original.clone()));
        for other in [vec![source(2, "")], vec![], vec![layers[0].clone(), layers[0].clone()]] {
            let (media_type, bytes) = of(&id(), 2, &other, Some(&original));
            assert_ne!(bytes, original);
            assert_eq!(media_type, OCI_MANIFEST, "of its kind");
        }
        assert_ne!(of(&ImageId::new(layers[0].digest.clone()), 2, &layers, Some(&original)).1, original);
    }

    #[test]
    fn an_image_made_here_is_dockers_unless_docker_has_no_type_for_a_layer() {
        for (layer, manifest, media_type) in [
            ("", DOCKER_MANIFEST, "application/vnd.docker.image.rootfs.diff.tar.gzip"),
            (
                "application/vnd.oci.image.layer.v1.tar",
                DOCKER_MANIFEST,
                "application/vnd.docker.image.rootfs.diff.tar",
            ),
            (
                "application/vnd.oci.image.layer.v1.tar+zstd",
                OCI_MANIFEST,
                "application/vnd.oci.image.layer.v1.tar+zstd",
            ),
        ] {
            let (told, bytes) = of(&id(), 2, &[source(1, layer)], None);
            let document: Value = serde_json::from_slice(&bytes).unwrap();
            assert_eq!((told.as_str(), &document["layers"][0]["mediaType"]), (manifest, &json!(media_type)));
            assert!(Document::parse(&bytes, Some(&told)).is_ok());
        }
    }
}
