//! What the published description (moby's `api/swagger.yaml`, 1.56) requires of answers, for tests beside the code that answers.

use serde_json::Value;

/// Definitions with the fields that each must have. Where the description requires none and clients rely on them, it has all that dockerd
/// always sends.
const REQUIRED: [(&str, &[&str]); 16] = [
    ("AuthResponse", &["Status"]),
    ("ContainerCreateResponse", &["Id", "Warnings"]),
    ("ContainerWaitResponse", &["StatusCode"]),
    ("DistributionInspect", &["Descriptor", "Platforms"]),
    ("ErrorResponse", &["message"]),
    ("EventMessage", &["Type", "Action", "Actor", "scope", "time", "timeNano"]),
    ("FilesystemChange", &["Path", "Kind"]),
    ("IDResponse", &["Id"]),
    ("ImageHistoryResponseItem", &["Id", "Created", "CreatedBy", "Tags", "Size", "Comment"]),
    (
        "ImageInspect",
        &[
            "Id",
            "RepoTags",
            "RepoDigests",
            "Created",
            "Config",
            "Architecture",
            "Os",
            "Size",
            "GraphDriver",
            "RootFS",
            "Metadata",
        ],
    ),
    (
        "ImageSummary",
        &[
            "Id",
            "ParentId",
            "RepoTags",
            "RepoDigests",
            "Created",
            "Size",
            "SharedSize",
            "Labels",
            "Containers",
        ],
    ),
    (
        "NetworkInspect",
        &[
            "Name",
            "Id",
            "Created",
            "Scope",
            "Driver",
            "EnableIPv4",
            "EnableIPv6",
            "IPAM",
            "Internal",
            "Attachable",
            "Ingress",
            "ConfigFrom",
            "ConfigOnly",
            "Options",
            "Labels",
            "Containers",
        ],
    ),
    ("NetworkCreateResponse", &["Id", "Warning"]),
    ("PortSummary", &["PrivatePort", "Type"]),
    (
        "SystemVersion",
        &["Platform", "Components", "Version", "ApiVersion", "MinAPIVersion", "Os", "Arch", "KernelVersion"],
    ),
    ("Volume", &["Name", "Driver", "Mountpoint", "Labels", "Scope", "Options"]),
];

/// Panics with the fields that an answer of this kind lacks.
pub(crate) fn assert_whole(kind: &str, answer: &Value) {
    let (_, required) = REQUIRED.iter().find(|(name, _)| *name == kind).expect("a definition of the table");
    let missing: Vec<_> = required.iter().filter(|field| answer.get(field).is_none()).collect();
    assert!(missing.is_empty(), "{kind} lacks {missing:?}: {answer}");
}

#[test]
#[should_panic(expected = "lacks [\"message\"]")]
fn an_answer_that_lacks_a_field_is_found() {
    assert_whole("ErrorResponse", &serde_json::json!({ "Message": "x" }));
}
