//! Names of containers.

use crate::error::{Failure, Result};

const ADJECTIVES: [&str; 32] = [
    "brave", "bright", "calm", "clear", "clever", "cosy", "deft", "eager", "early", "fair", "fleet", "frank",
    "gentle", "glad", "grand", "happy", "keen", "kind", "light", "lively", "merry", "mild", "neat", "noble",
    "plain", "proud", "quick", "quiet", "ready", "sound", "steady", "sunny",
];
const NOUNS: [&str; 32] = [
    "acorn", "almond", "barley", "beech", "berry", "birch", "cedar", "cherry", "chestnut", "clover", "cob",
    "elder", "fern", "grain", "hazel", "husk", "ivy", "kernel", "larch", "linden", "maize", "maple",
    "millet", "oak", "oat", "pea", "pine", "rye", "seed", "walnut", "wheat", "willow",
];

/// A name for a container that was given none, by its id: two of them rarely have the same, and then the id is taken.
pub(super) fn made_up(id: &str) -> String {
    let number =
        |at: usize| id.get(at..at + 4).and_then(|hex| usize::from_str_radix(hex, 16).ok()).unwrap_or(0);
    let (adjective, noun) = (ADJECTIVES[number(0) % ADJECTIVES.len()], NOUNS[number(4) % NOUNS.len()]);
    format!("{adjective}_{noun}{}", number(8) % 100)
}

/// Whether a text can be a name (dockerd's `[a-zA-Z0-9][a-zA-Z0-9_.-]+`).
///
/// # Errors
/// 400.
pub(super) fn check(name: &str) -> Result<()> {
    let mut bytes = name.bytes();
    let first = bytes.next().is_some_and(|byte| byte.is_ascii_alphanumeric());
    let rest = bytes.len() > 0 && bytes.all(|byte| byte.is_ascii_alphanumeric() || b"_.-".contains(&byte));
    if first && rest && name.len() <= 253 {
        return Ok(());
    }
    let shown: String = name.chars().take(80).collect();
    Err(Failure::bad(format!("Invalid container name ({shown}), only [a-zA-Z0-9][a-zA-Z0-9_.-] are allowed")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_made_up_name_is_one() {
        check(&made_up(&"0123456789abcdef".repeat(4))).unwrap();
        assert_ne!(made_up("00010002aaaa"), made_up("00020002aaaa"));
    }

    #[test]
    fn what_could_be_a_path_or_an_option_is_no_name() {
        for name in ["", "a", "-x", "../x", "a/b", "a b", "ä1", ".x"] {
            assert_eq!(check(name).unwrap_err().status(), 400, "{name:?}");
        }
        check("web-1_a.b").unwrap();
    }
}
