//! `X-Registry-Auth`: credentials that come with a request, as JSON in base64url.

use base64::{
    Engine as _,
    alphabet::{STANDARD, URL_SAFE},
    engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig},
};
use husk_images::Auth;
use hyper::header::HeaderName;

use crate::{
    api::{auth::AuthConfig, from_slice},
    error::{Failure, Result},
    http::Call,
};

/// Longest header: tokens have some KiB.
const MAX: usize = 64 << 10;

const HEADER: HeaderName = HeaderName::from_static("x-registry-auth");

/// The credentials of a request, if it has any.
///
/// # Errors
/// 400 for a header that cannot be read. It is not quoted.
pub(super) fn auth(call: &Call) -> Result<Option<Auth>> {
    let Some(header) = call.headers.get(&HEADER) else { return Ok(None) };
    parse(header.as_bytes()).map(|auth| auth.filter(|auth| *auth != Auth::default()))
}

fn parse(header: &[u8]) -> Result<Option<Auth>> {
    if header.is_empty() {
        return Ok(None);
    }
    if header.len() > MAX {
        return Err(Failure::bad(format!("invalid X-Registry-Auth header: it has more than {MAX} bytes")));
    }
    // Go's clients send the alphabet for URLs with padding; others the usual one, or none.
    let settings = GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent);
    let decoded = [URL_SAFE, STANDARD]
        .iter()
        .find_map(|alphabet| GeneralPurpose::new(alphabet, settings).decode(header).ok())
        .ok_or_else(|| Failure::bad("invalid X-Registry-Auth header: it is not base64url"))?;
    let config: Option<AuthConfig> = from_slice(&decoded).map_err(|error| {
        // The error could quote a secret.
        Failure::bad(format!(
            "invalid X-Registry-Auth header: no JSON of credentials at column {}",
            error.column()
        ))
    })?;
    Ok(config.map(Auth::from))
}

#[cfg(test)]
mod tests {
    use base64::engine::general_purpose::{STANDARD as PLAIN, URL_SAFE as URL, URL_SAFE_NO_PAD as BARE};

    use super::*;

    #[test]
    fn credentials_are_read_in_every_alphabet() {
        // Has both characters that the alphabets differ in.
        let json = "{\"username\":\"u\",\"password\":\"\u{fb}\u{3ff}~~~???>>>\",\"serveraddress\":null}";
        for header in [PLAIN.encode(json), URL.encode(json), BARE.encode(json)] {
            let auth = parse(header.as_bytes()).unwrap().unwrap();
            assert_eq!((auth.username.as_str(), auth.server_address.as_str()), ("u", ""));
            assert!(auth.password.ends_with("~~~???>>>"));
        }
    }

    #[test]
    fn nothing_is_no_credentials_and_nonsense_is_refused_without_being_quoted() {
        assert_eq!(parse(b"").unwrap(), None);
        assert_eq!(parse(PLAIN.encode("null").as_bytes()).unwrap(), None);
        assert_eq!(parse(b"e30=").unwrap(), Some(Auth::default()));
        for header in ["!!!".to_owned(), PLAIN.encode("{\"password\":[\"secret\"]}"), "a".repeat(MAX + 1)] {
            let failure = parse(header.as_bytes()).unwrap_err();
            assert_eq!(failure.status(), 400);
            assert!(!failure.message().contains("secret"), "{}", failure.message());
        }
    }
}
