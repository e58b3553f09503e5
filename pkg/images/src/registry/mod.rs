//! The registry side: which hosts to ask (mirrors, then the registry), how to log in, how to fetch and repeat.

mod challenge;
mod clients;
mod config;
mod credentials;
mod error;
#[cfg(feature = "fuzzing")]
mod fuzzing;
mod hosts;
mod keyring;
mod proxy;
mod reach;
mod session;

pub(crate) use clients::Clients;
pub(crate) use config::{Places, RegistryConfig};
pub use credentials::Auth;
pub use error::{Attempts, RegistryError};
#[cfg(feature = "fuzzing")]
pub(crate) use fuzzing::{challenges, credentials, hosts_of};
pub(crate) use hosts::Endpoint;
pub use session::SearchResult;
pub(crate) use session::{Begun, Blob, Content, Fetched, Session, Upload};
