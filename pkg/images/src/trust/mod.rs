//! Which images may be pulled: a policy in the format of containers-policy.json(5), and the signatures that it asks for.
//!
//! Read in this order: `policy` (rules and which of them hold for a reference), `read` (the file, strictly), `load` (from disk), `admit` (one pull
//! against its rules), `payload` and `identity` (what a signature says and whom it may be about), `key` (cryptography, which is
//! ring's). Signatures are strangers' bytes: each is bounded before it is fetched, and nothing in it is looked at before a key of
//! the policy has verified it. The policy is the operator's: whatever is not understood in it is an error, never an acceptance.

mod admit;
mod identity;
mod key;
mod load;
mod payload;
mod policy;
mod read;
mod refusal;
mod strict;

pub(crate) use admit::Trust;
pub(crate) use policy::Policy;
pub use refusal::Refusal;
#[cfg(feature = "fuzzing")]
pub(crate) use {payload::Payload, read::policy as read_policy};
