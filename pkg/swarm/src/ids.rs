//! Ids, tokens and keys: made of the kernel's randomness.

use base64::{Engine as _, engine::general_purpose::STANDARD_NO_PAD};

use crate::error::{Result, SwarmError, cut};

/// Characters of an id: 25 of base 36 hold 128 bits, as swarm's ids do.
const ID: usize = 25;
/// Characters of a token's first half: 256 bits.
const DIGEST: usize = 50;
const LETTERS: &[u8; 36] = b"0123456789abcdefghijklmnopqrstuvwxyz";
/// What an unlock key begins with.
const UNLOCK: &str = "SWMKEY-1-";
/// Bytes of a key.
pub(crate) const KEY: usize = 32;

/// Random bytes of the kernel.
pub(crate) fn random<const N: usize>() -> [u8; N] {
    let mut bytes = [0; N];
    // getrandom(2) with a buffer this small fails on no kernel that husk runs on.
    getrandom::fill(&mut bytes).expect("the kernel gives random bytes");
    bytes
}

/// An id that nothing else has.
pub fn id() -> String {
    base36(ID)
}

/// What names the root of trust in a join token.
pub(crate) fn digest() -> String {
    base36(DIGEST)
}

/// A join token of a root.
pub(crate) fn token(digest: &str) -> String {
    format!("SWMTKN-1-{digest}-{}", base36(ID))
}

fn base36(length: usize) -> String {
    // 252 is 7 times 36: what is above would make some letters likelier.
    let even = std::iter::repeat_with(random::<64>).flatten().filter(|byte| *byte < 252);
    even.take(length).map(|byte| char::from(LETTERS[usize::from(byte % 36)])).collect()
}

/// The form in which people keep a key.
pub(crate) fn unlock_key(key: &[u8; KEY]) -> String {
    format!("{UNLOCK}{}", STANDARD_NO_PAD.encode(key))
}

/// The key of what somebody typed.
///
/// # Errors
/// [`SwarmError::Wrong`] for what has not the form of one.
pub(crate) fn parse_unlock_key(text: &str) -> Result<[u8; KEY]> {
    let wrong = || SwarmError::wrong(format!("invalid unlock key {:?}: {UNLOCK}... is expected", cut(text)));
    let text = text.trim();
    let bytes = STANDARD_NO_PAD.decode(text.strip_prefix(UNLOCK).ok_or_else(wrong)?).map_err(|_| wrong())?;
    bytes.try_into().map_err(|_| wrong())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_are_25_letters_of_base_36_and_never_the_same() {
        let (one, other) = (id(), id());
        assert_eq!(one.len(), 25);
        assert!(one.bytes().all(|byte| LETTERS.contains(&byte)));
        assert_ne!(one, other);
        assert_eq!(token(&digest()).len(), "SWMTKN-1-".len() + 50 + 1 + 25);
    }

    #[test]
    fn an_unlock_key_is_read_as_it_was_written() {
        let key = random();
        assert_eq!(parse_unlock_key(&format!(" {}\n", unlock_key(&key))).unwrap(), key);
        for text in ["", "SWMKEY-1-", "SWMKEY-1-AAAA", "abc"] {
            assert!(parse_unlock_key(text).is_err(), "{text}");
        }
    }
}
