//! The types of a protocol stop at the crate that converts them: no other names them, and none hands them on.

use std::path::Path;

use proc_macro2::{TokenStream, TokenTree};

use crate::Tree;

/// The modules of `husk_proto` and the folders that may name them. Suites speak the protocols from outside: they name all.
const ROOMS: [(&str, &[&str]); 8] = [
    // The operator's program is a client.
    ("cri", &["pkg/cri/", "cmd/husk/"]),
    ("nri", &["pkg/nri/"]),
    ("ttrpc", &["pkg/nri/"]),
    ("podmon", &["pkg/monitor/", "cmd/podmon/"]),
    ("admin", &["pkg/operator/", "cmd/huskd/", "cmd/husk/"]),
    // No protocol: what an error is in all of them.
    ("status", &["pkg/cri/", "pkg/operator/", "cmd/huskd/"]),
    ("otlp", &["pkg/telemetry/"]),
    ("buildkit", &["pkg/build/"]),
];
const EVERYWHERE: [&str; 2] = ["proto/", "test/"];

/// Every place that names a protocol outside its room, or hands its types on to other crates.
///
/// # Errors
/// When a file cannot be parsed, in words.
pub fn strays(tree: &Tree) -> Result<Vec<String>, String> {
    let mut strays = Vec::new();
    for (path, text) in tree.ending_in(".rs") {
        if text.contains("husk_proto") && !EVERYWHERE.iter().any(|folder| path.starts_with(folder)) {
            let tokens: TokenStream = text.parse().map_err(|error| format!("{}: {error}", path.display()))?;
            read(path, &tokens.into_iter().collect::<Vec<_>>(), &mut strays);
        }
    }
    Ok(strays)
}

fn read(path: &Path, tokens: &[TokenTree], strays: &mut Vec<String>) {
    for (place, token) in tokens.iter().enumerate() {
        match token {
            TokenTree::Group(group) => read(path, &group.stream().into_iter().collect::<Vec<_>>(), strays),
            TokenTree::Ident(name) if name == "husk_proto" => {
                let line = name.span().start().line;
                let at = format!("{}:{line}", path.display());
                let named = named(&tokens[place + 1..]);
                if named.is_empty() {
                    strays.push(format!("{at} names husk_proto as a whole"));
                }
                for module in &named {
                    if !is_room(module, path) {
                        strays.push(format!("{at} names husk_proto::{module}"));
                    }
                    if is_exported(&tokens[..place]) {
                        strays.push(format!("{at} hands husk_proto::{module} on"));
                    }
                }
            }
            _ => {}
        }
    }
}

/// The modules that stand after `husk_proto`: `::cri::v1::Version`, `::{cri, nri::Pod}`.
fn named(after: &[TokenTree]) -> Vec<String> {
    match after {
        [TokenTree::Punct(a), TokenTree::Punct(b), next, ..] if a.as_char() == ':' && b.as_char() == ':' => {
            match next {
                TokenTree::Ident(module) => vec![module.to_string()],
                TokenTree::Group(group) => {
                    let tokens: Vec<TokenTree> = group.stream().into_iter().collect();
                    let parts = tokens
                        .split(|token| matches!(token, TokenTree::Punct(comma) if comma.as_char() == ','));
                    parts.filter_map(|part| part.first().map(TokenTree::to_string)).collect()
                }
                _ => Vec::new(),
            }
        }
        _ => Vec::new(),
    }
}

fn is_room(module: &str, path: &Path) -> bool {
    ROOMS
        .iter()
        .any(|(name, folders)| *name == module && folders.iter().any(|folder| path.starts_with(folder)))
}

/// Whether the `use` before is a `pub use`; within the crate (`pub(crate) use`) it may go on.
fn is_exported(before: &[TokenTree]) -> bool {
    matches!(before, [.., TokenTree::Ident(public), TokenTree::Ident(keyword)] if public == "pub" && keyword == "use")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn strays_of(path: &str, text: &str) -> Vec<String> {
        strays(&Tree::made_up(&[(path, text)])).unwrap()
    }

    #[test]
    fn a_protocol_is_named_in_its_room_only() {
        let text = "use husk_proto::cri::v1::Version;";
        assert!(strays_of("pkg/cri/src/lib.rs", text).is_empty());
        assert!(strays_of("test/e2e/src/lib.rs", text).is_empty());
        assert_eq!(strays_of("pkg/pods/src/run.rs", text), ["pkg/pods/src/run.rs:1 names husk_proto::cri"]);
    }

    #[test]
    fn groups_bodies_and_macros_are_looked_into() {
        assert_eq!(
            strays_of("pkg/nri/src/a.rs", "use husk_proto::{nri, ttrpc::Request, cri::v1};"),
            ["pkg/nri/src/a.rs:1 names husk_proto::cri"]
        );
        assert_eq!(
            strays_of("pkg/pods/src/a.rs", "fn f() {\n assert!(husk_proto::podmon::X);\n}"),
            ["pkg/pods/src/a.rs:2 names husk_proto::podmon"]
        );
        assert_eq!(
            strays_of("pkg/cri/src/a.rs", "use husk_proto as p;"),
            ["pkg/cri/src/a.rs:1 names husk_proto as a whole"]
        );
    }

    #[test]
    fn a_room_keeps_its_types_to_itself() {
        assert!(strays_of("pkg/monitor/src/a.rs", "pub(crate) use husk_proto::podmon as proto;").is_empty());
        assert_eq!(
            strays_of("pkg/monitor/src/a.rs", "pub use husk_proto::podmon as proto;"),
            ["pkg/monitor/src/a.rs:1 hands husk_proto::podmon on"]
        );
    }
}
