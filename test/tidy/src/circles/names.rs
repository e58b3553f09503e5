//! What a path means: the module that defines the item it names.

use std::collections::HashSet;

use crate::outline::{ModuleId, Outline};

/// What a path leads to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Meaning {
    Module(ModuleId),
    /// An item, or what a macro makes under that name.
    Item(ModuleId, String),
}

/// Names that are being looked up: an import of its own name leads out of the crate.
type Asked = HashSet<(ModuleId, String)>;

enum Found {
    It(Meaning),
    Outside,
}

/// The meaning of `path` in module `from`; nothing when it leads out of the crate or is a local name.
pub(super) fn meaning(outline: &Outline, from: ModuleId, path: &[String]) -> Option<Meaning> {
    walk(outline, from, path, &mut Asked::new())
}

/// `crate::b::B` without the `crate`, for people.
pub(super) fn spelled(outline: &Outline, module: ModuleId, item: &str) -> String {
    let mut parts = vec![item];
    let mut at = module;
    while let Some(parent) = outline.modules[at].parent {
        parts.push(&outline.modules[at].name);
        at = parent;
    }
    parts.reverse();
    parts.join("::")
}

fn walk(outline: &Outline, from: ModuleId, path: &[String], asked: &mut Asked) -> Option<Meaning> {
    let (mut at, mut rest) = start(outline, from, path)?;
    let has_anchor = rest.len() < path.len();
    while let Some((name, more)) = rest.split_first() {
        match lookup(outline, at, name, !more.is_empty(), asked) {
            Some(Found::It(Meaning::Module(module))) => at = module,
            Some(Found::It(item)) => return Some(item),
            Some(Found::Outside) => return None,
            None if at == 0 && outline.macros.contains_key(name) => {
                return Some(Meaning::Item(outline.macros[name], name.clone()));
            }
            // Within the crate but nowhere to be seen: a macro made it.
            None if has_anchor || at != from => return Some(Meaning::Item(at, name.clone())),
            None => return None,
        }
        rest = more;
    }
    Some(Meaning::Module(at))
}

/// Takes `crate`, `self` and `super` off the path.
fn start<'p>(outline: &Outline, from: ModuleId, path: &'p [String]) -> Option<(ModuleId, &'p [String])> {
    match path.first()?.as_str() {
        "crate" => Some((0, &path[1..])),
        "self" => Some((from, &path[1..])),
        "super" => {
            let (mut at, mut rest) = (from, path);
            while rest.first().is_some_and(|first| first == "super") {
                at = outline.modules[at].parent?;
                rest = &rest[1..];
            }
            Some((at, rest))
        }
        _ => Some((from, path)),
    }
}

/// `name` in module `at`. Modules come first where more of the path follows, because only they have names of their own.
fn lookup(outline: &Outline, at: ModuleId, name: &str, more: bool, asked: &mut Asked) -> Option<Found> {
    let module = &outline.modules[at];
    if !asked.insert((at, name.to_owned())) {
        return Some(Found::Outside);
    }
    let child = || module.children.get(name).map(|&child| Found::It(Meaning::Module(child)));
    let item = || module.items.contains(name).then(|| Found::It(Meaning::Item(at, name.to_owned())));
    let first = if more { child() } else { item() };
    if first.is_some() {
        return first;
    }
    if let Some(path) = module.imports.get(name) {
        return Some(walk(outline, at, path, asked).map_or(Found::Outside, Found::It));
    }
    let second = if more { item() } else { child() };
    second.or_else(|| {
        module.globs.iter().find_map(|glob| match walk(outline, at, glob, asked)? {
            Meaning::Module(all) => match lookup(outline, all, name, more, asked)? {
                Found::It(meaning) => Some(Found::It(meaning)),
                Found::Outside => None,
            },
            Meaning::Item(..) => None,
        })
    })
}
