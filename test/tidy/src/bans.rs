//! Calls that are made in few places, because elsewhere there is a better way.
//!
//! clippy's `disallowed-methods` cannot tell tests from what ships, and tests start programs and write files as they like; so
//! what only shipped code may not do is found here, and what nobody may is in clippy.toml.

use std::path::{Path, PathBuf};

use syn::{
    ImplItemFn, Item,
    spanned::Spanned,
    visit::{self, Visit},
};

use crate::{
    Tree,
    outline::{Outline, attributes, is_for_tests},
};

/// A call, by the last two names of its path.
struct Ban {
    call: [&'static str; 2],
    instead: &'static str,
    /// Where it is at home.
    homes: &'static [&'static str],
}

const BANS: [Ban; 2] = [
    Ban {
        call: ["Command", "new"],
        instead: "huskd starts monitors (husk_monitor), CNI plugins (husk_network), NRI plugins (husk_nri), credential helpers \
                  (husk_images), BuildKit's daemon (husk_build) and few tools of the node (ps for Docker); what runs in a pod is started by its monitor (husk_runtime); husk-oci starts the hooks of a bundle and ps",
        homes: &[
            "cmd/oci/src/show.rs",
            "pkg/build/src/program/launch.rs",
            "pkg/build/src/program/running.rs",
            "pkg/docker/src/containers/running.rs",
            "pkg/images/src/registry/keyring/helper.rs",
            "pkg/lsm/src/apparmor.rs",
            "pkg/monitor/src/spawn.rs",
            "pkg/network/src/cni/exec.rs",
            "pkg/network/src/embedded/nft.rs",
            "pkg/nri/src/launch.rs",
            "pkg/runtime/src/hook.rs",
            "pkg/systemd/src/anchor.rs",
        ],
    },
    Ban {
        call: ["File", "create"],
        instead: "a file that somebody reads is written whole under another name and renamed",
        homes: &[
            "cmd/husk/src/image.rs",
            "pkg/images/src/archive/export.rs",
            "pkg/images/src/archive/members.rs",
        ],
    },
];

/// Every banned call in what ships of the crates that begin at `entries`, and homes where none is made any more.
///
/// # Errors
/// When a file is missing or cannot be parsed, in words.
pub fn calls(tree: &Tree, entries: &[PathBuf]) -> Result<Vec<String>, String> {
    let mut found = Vec::new();
    for entry in entries {
        let outline = Outline::read(tree, entry)?;
        for (module, file) in &outline.files {
            let mut reader = Reader { path: &outline.modules[*module].file, found: &mut found };
            reader.visit_file(file);
        }
    }
    let mut offenders = Vec::new();
    for Ban { call, instead, homes } in BANS {
        let name = call.join("::");
        let (at_home, strays): (Vec<_>, Vec<_>) = found
            .iter()
            .filter(|(_, _, of)| *of == call)
            .partition(|(path, ..)| homes.iter().any(|home| path == Path::new(home)));
        offenders.extend(
            strays.iter().map(|(path, line, _)| format!("{}:{line} calls {name}: {instead}", path.display())),
        );
        let deserted = homes.iter().filter(|home| {
            tree.get(home).is_some() && !at_home.iter().any(|(path, ..)| path == Path::new(home))
        });
        offenders.extend(
            deserted.map(|home| format!("{home} does not call {name} any more: it is no home of it")),
        );
    }
    Ok(offenders)
}

struct Reader<'a> {
    path: &'a Path,
    found: &'a mut Vec<(PathBuf, usize, [&'static str; 2])>,
}

impl<'ast> Visit<'ast> for Reader<'_> {
    fn visit_item(&mut self, item: &'ast Item) {
        if !is_for_tests(attributes(item)) {
            visit::visit_item(self, item);
        }
    }

    fn visit_impl_item_fn(&mut self, method: &'ast ImplItemFn) {
        if !is_for_tests(&method.attrs) {
            visit::visit_impl_item_fn(self, method);
        }
    }

    fn visit_path(&mut self, path: &'ast syn::Path) {
        let names: Vec<String> = path.segments.iter().map(|segment| segment.ident.to_string()).collect();
        if let [.., of, name] = names.as_slice()
            && let Some(ban) = BANS.iter().find(|ban| ban.call[0] == of && ban.call[1] == name)
        {
            self.found.push((self.path.to_owned(), path.span().start().line, ban.call));
        }
        visit::visit_path(self, path);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn calls_of(path: &str, text: &str) -> Vec<String> {
        calls(&Tree::made_up(&[(path, text)]), &[PathBuf::from(path)]).unwrap()
    }

    #[test]
    fn a_banned_call_is_found_outside_of_its_home_and_tests() {
        let text = "fn f() {\n std::process::Command::new(\"sh\"); }";
        assert!(calls_of("pkg/monitor/src/spawn.rs", text).is_empty());
        let [stray] = &calls_of("pkg/pods/src/lib.rs", text)[..] else { panic!("one call") };
        assert!(stray.starts_with("pkg/pods/src/lib.rs:2 calls Command::new: huskd starts"), "{stray}");
        assert!(calls_of("pkg/pods/src/lib.rs", &format!("#[cfg(test)] mod tests {{ {text} }}")).is_empty());
    }

    #[test]
    fn a_home_without_the_call_is_none() {
        assert_eq!(
            calls_of("pkg/monitor/src/spawn.rs", ""),
            ["pkg/monitor/src/spawn.rs does not call Command::new any more: it is no home of it"]
        );
    }
}
