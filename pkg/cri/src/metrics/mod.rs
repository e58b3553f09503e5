//! Metrics of pods and containers (KEP-2371): the families that cAdvisor has, under its names and labels, so that dashboards
//! made for the one work with the other.
//!
//! [`family`] is the list of them, [`values`] fills it. A family that this node's kernel does not count is not in the list.

mod family;
mod values;

pub(crate) use family::descriptors;
pub(crate) use values::pod_metrics;
