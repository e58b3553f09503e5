//! What the name of a network means.

use std::sync::Arc;

use husk_network::{NetworkError, UserNetwork};

use crate::{error::Result, shared::Shared};

/// The network namespace of the node: 64 hex characters, like every id; the first spell its name.
const HOST: &str = "686f737400000000000000000000000000000000000000000000000000000000";
/// A network namespace with nothing but loopback.
const NONE: &str = "6e6f6e6500000000000000000000000000000000000000000000000000000000";
/// The user network of containers that ask for none.
pub(super) const BRIDGE: &str = "bridge";

/// A network.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Which {
    /// That of the node.
    Host,
    /// Nothing but loopback.
    None,
    /// A bridge of its own, or the default one.
    User(Arc<UserNetwork>),
}

impl Which {
    /// 64 hex characters.
    pub(crate) fn id(&self) -> &str {
        match self {
            Self::Host => HOST,
            Self::None => NONE,
            Self::User(network) => &network.id,
        }
    }

    /// Its name.
    pub(crate) fn name(&self) -> &str {
        match self {
            Self::Host => "host",
            Self::None => "none",
            Self::User(network) => &network.name,
        }
    }

    /// `bridge`, `overlay`, `host` or `null`.
    pub(crate) fn driver(&self) -> &'static str {
        match self {
            Self::Host => "host",
            Self::None => "null",
            Self::User(network) if network.overlay.is_some() => "overlay",
            Self::User(_) => "bridge",
        }
    }

    /// `swarm` or `local`.
    pub(crate) fn scope(&self) -> &'static str {
        match self {
            Self::User(network) if network.overlay.is_some() => "swarm",
            Self::Host | Self::None | Self::User(_) => "local",
        }
    }

    /// Whether it is always there.
    pub(crate) fn is_predefined(&self) -> bool {
        match self {
            Self::Host | Self::None => true,
            Self::User(network) => network.name == BRIDGE,
        }
    }
}

/// The network of a name, an id or the beginning of one; `default` is `bridge`, which is made when it is first asked for.
///
/// # Errors
/// 404 and 400 of an ambiguous beginning; those of making the bridge.
pub(crate) async fn find(shared: &Shared, name: &str) -> Result<Which> {
    match name {
        "host" | HOST => return Ok(Which::Host),
        "none" | NONE => return Ok(Which::None),
        "default" | BRIDGE => return Ok(Which::User(shared.network.user().default_bridge().await?)),
        _ => {}
    }
    match shared.network.user().find(name) {
        Ok(network) => Ok(Which::User(network)),
        Err(error @ NetworkError::NoNetwork { .. }) => {
            let begins = |id: &str| name.len() >= 8 && id.starts_with(name);
            let fixed = [Which::Host, Which::None].into_iter().find(|which| begins(which.id()));
            fixed.ok_or_else(|| error.into())
        }
        Err(error) => Err(error.into()),
    }
}

/// All networks, the three that are always there first.
pub(super) async fn all(shared: &Shared) -> Vec<Which> {
    let user = shared.network.user();
    if let Err(error) = user.default_bridge().await {
        tracing::warn!(
            error = husk_model::chain(&error),
            "the network bridge cannot be made; containers can have others"
        );
    }
    let mut networks: Vec<Which> = user.list().into_iter().map(Which::User).collect();
    networks.sort_by_key(|network| network.name() != BRIDGE);
    networks.extend([Which::Host, Which::None]);
    networks
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_ids_of_networks_that_are_always_there_spell_their_names() {
        for which in [Which::Host, Which::None] {
            let hex: String = which.name().bytes().map(|byte| format!("{byte:02x}")).collect();
            assert_eq!(which.id(), format!("{hex:0<64}"));
        }
    }
}
