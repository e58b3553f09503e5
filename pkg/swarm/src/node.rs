//! The one node.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::{
    error::{Result, SwarmError},
    object::{Meta, check_labels, check_name},
};

/// What the node may be.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Role {
    /// It runs tasks alone. A swarm of one node has none.
    Worker,
    /// It decides, too.
    #[default]
    Manager,
}

/// Whether the node gets tasks.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Availability {
    /// It does.
    #[default]
    Active,
    /// It keeps those that it has.
    Pause,
    /// It gives up those that it has.
    Drain,
}

/// What a client wants of the node.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct NodeSpec {
    /// A name of its own.
    #[serde(
        default,
        deserialize_with = "crate::spec::null_is_absent",
        skip_serializing_if = "String::is_empty"
    )]
    pub name: String,
    /// Labels.
    #[serde(default, deserialize_with = "crate::spec::null_is_absent")]
    pub labels: BTreeMap<String, String>,
    /// What it may be.
    pub role: Role,
    /// Whether it gets tasks.
    pub availability: Availability,
}

/// The node.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Node {
    /// Id and version.
    pub meta: Meta,
    /// What it shall be.
    pub spec: NodeSpec,
}

/// Checks what a client wants of the node.
///
/// # Errors
/// [`SwarmError::Wrong`].
pub(crate) fn check(spec: &NodeSpec) -> Result<()> {
    if spec.role == Role::Worker {
        return Err(SwarmError::wrong("attempting to demote the last manager of the swarm"));
    }
    if !spec.name.is_empty() {
        check_name(&spec.name)?;
    }
    check_labels(&spec.labels)
}
