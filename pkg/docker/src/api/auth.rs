//! Credentials for a registry.

use husk_images::Auth;

use super::request;

request! {
    /// Credentials, in the spelling of Docker's clients.
    struct AuthConfig {
        /// User name.
        username: String = "username",
        /// Password.
        password: String = "password",
        /// Base 64 of both.
        auth: String = "auth",
        /// The registry.
        server_address: String = "serveraddress",
        /// A refresh token.
        identity_token: String = "identitytoken",
        /// A bearer token.
        registry_token: String = "registrytoken",
    }
}

impl From<AuthConfig> for Auth {
    fn from(config: AuthConfig) -> Self {
        let AuthConfig { username, password, auth, server_address, identity_token, registry_token } = config;
        Self { username, password, auth, server_address, identity_token, registry_token }
    }
}
