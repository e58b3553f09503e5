//! What a registry answered, in words for the user who waits for the pod.

use std::{fmt, time::Duration};

use husk_model::{Digest, Kind};

/// Why one host did not serve a request.
#[derive(Debug, Clone, thiserror::Error)]
pub enum RegistryError {
    /// No connection, or it broke.
    #[error("{0}")]
    Connect(String),
    /// TLS could not be set up.
    #[error("TLS: {0}; if the registry's certificate is private, name its CA in hosts.toml (ca = ...)")]
    Tls(String),
    /// No byte of a layer came for the progress timeout, or no whole document.
    #[error("no progress within {:?}; the registry or the network is too slow", .0)]
    Stalled(Duration),
    /// 404.
    #[error("not found")]
    NotFound,
    /// 401, after the credentials there are were tried.
    #[error("unauthorized{0}; check the pull secret, or the node's credentials (images.auth_file)")]
    Unauthorized(String),
    /// The credentials of the node cannot be read.
    #[error("credentials of {file}: {reason}")]
    Credentials {
        /// Where they are.
        file: String,
        /// What is wrong, without a secret.
        reason: String,
    },
    /// 403.
    #[error("access denied{0}; the credentials do not allow it, or the repository does not exist")]
    Denied(String),
    /// 429 that did not end.
    #[error("too many requests{0}; the registry limits the rate of this node or account")]
    TooMany(String),
    /// Any other status.
    #[error("HTTP status {status}{detail}")]
    Status {
        /// The code.
        status: u16,
        /// The registry's message.
        detail: String,
    },
    /// The token service answered something else than a token.
    #[error("token service {realm}: {reason}")]
    Token {
        /// Its address, without the query.
        realm: String,
        /// What went wrong.
        reason: String,
        /// What that means.
        kind: Kind,
    },
    /// What a token service answered is no token.
    #[error("{0}")]
    NoToken(String),
    /// An answer that is not what was asked for.
    #[error("its answer cannot be read: {0}")]
    Malformed(String),
    /// A redirect that may not or cannot be followed.
    #[error("redirect refused: {0}")]
    Redirect(String),
    /// The host named another one that this node does not go to.
    #[error("address refused: {0}; a registry may not send this node there")]
    Address(String),
    /// The answer to a request for a part is another part.
    #[error("asked for bytes from {wanted} on, it sent {sent}; the registry or a cache before it is broken")]
    Range {
        /// First byte asked for.
        wanted: u64,
        /// What it says to have sent.
        sent: String,
    },
    /// A document came compressed.
    #[error("content encoded as {0:?}, which was not asked for; turn compression off before the registry")]
    Encoding(String),
    /// More bytes than such a document may have.
    #[error("more than {limit} bytes")]
    TooLarge {
        /// The bound.
        limit: u64,
    },
    /// The length of what comes is not the declared one.
    #[error("{actual} bytes where {expected} were declared")]
    Length {
        /// As declared.
        expected: u64,
        /// As received.
        actual: u64,
    },
    /// The content is not what its digest says.
    #[error("content with digest {actual} instead of {expected}")]
    Digest {
        /// As asked.
        expected: Digest,
        /// As received.
        actual: Digest,
    },
}

impl RegistryError {
    /// What it means to the caller of a pull.
    pub(crate) fn kind(&self) -> Kind {
        match self {
            Self::Connect(_) | Self::Tls(_) | Self::Stalled(_) => Kind::Unavailable,
            Self::Redirect(_) | Self::Address(_) | Self::Credentials { .. } => Kind::FailedPrecondition,
            Self::NotFound => Kind::NotFound,
            Self::Unauthorized(_) => Kind::Unauthenticated,
            Self::Denied(_) => Kind::PermissionDenied,
            Self::TooMany(_) => Kind::Unavailable,
            Self::Status { status, .. } if *status >= 500 => Kind::Unavailable,
            Self::Status { .. } => Kind::FailedPrecondition,
            Self::Token { kind, .. } => *kind,
            Self::NoToken(_) | Self::Malformed(_) => Kind::FailedPrecondition,
            Self::TooLarge { .. }
            | Self::Length { .. }
            | Self::Digest { .. }
            | Self::Range { .. }
            | Self::Encoding(_) => Kind::DataLoss,
        }
    }

    /// Whether the same request may succeed a moment later.
    pub(crate) fn is_transient(&self) -> bool {
        match self {
            Self::Connect(_) | Self::TooMany(_) => true,
            Self::Status { status, .. } => matches!(status, 408 | 500 | 502 | 503 | 504),
            _ => false,
        }
    }

    pub(crate) fn from_reqwest(error: &reqwest::Error) -> Self {
        // The URL may carry a signature of the storage behind the registry, so only the causes are told.
        let mut text = String::new();
        let mut tls = false;
        let mut source = std::error::Error::source(error);
        while let Some(cause) = source {
            if let Some(refused) = cause.downcast_ref::<Refused>() {
                return Self::Address(refused.to_string());
            }
            let part = cause.to_string();
            tls |=
                cause.downcast_ref::<rustls::Error>().is_some() || part.contains("invalid peer certificate");
            // The client library's name for its own step tells a user nothing.
            if !text.contains(&part) && !part.starts_with("client error (") {
                if !text.is_empty() {
                    text.push_str(": ");
                }
                text.push_str(&part);
            }
            source = cause.source();
        }
        if error.is_timeout() && text.is_empty() {
            text.push_str("timed out");
        }
        if text.is_empty() {
            text.push_str("the connection failed");
        }
        if tls { Self::Tls(text) } else { Self::Connect(text) }
    }
}

/// An address that may not be followed to, and why.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Refused {
    pub(super) host: String,
    pub(super) reason: &'static str,
}

impl fmt::Display for Refused {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} is {}", self.host, self.reason)
    }
}

impl std::error::Error for Refused {}

/// The hosts that were asked and what each answered.
#[derive(Debug, Clone, Default)]
pub struct Attempts(pub(crate) Vec<(String, RegistryError)>);

impl Attempts {
    pub(crate) fn add(&mut self, host: &str, error: RegistryError) {
        self.0.push((host.to_owned(), error));
    }

    /// The kind of the answer that counts: the registry's own, which is asked last.
    pub(crate) fn kind(&self) -> Kind {
        self.0.last().map_or(Kind::FailedPrecondition, |(_, error)| error.kind())
    }
}

impl fmt::Display for Attempts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.0.is_empty() {
            return f.write_str("no host of its hosts.toml may serve this (capabilities)");
        }
        for (at, (host, error)) in self.0.iter().enumerate() {
            let separator = if at == 0 { "" } else { "; " };
            write!(f, "{separator}{host}: {error}")?;
        }
        Ok(())
    }
}
