//! Habits that a reviewer would otherwise have to remember.

use std::path::Path;

use husk_tidy::{Tree, bans, layers, machines, rooms, skips, tree::root, workspace::packages, wrappers};

/// The only places where `unsafe` may stand.
const UNSAFE_HOMES: [&str; 2] = ["pkg/sys/", "cmd/pause/"];

fn tree() -> Tree {
    Tree::of_the_repository().unwrap()
}

fn report(what: &str, offenders: Vec<String>) {
    assert!(offenders.is_empty(), "{what}:\n  {}", offenders.join("\n  "));
}

#[test]
fn every_crate_depends_only_on_layers_below_its_own() {
    report("the layers of ARCHITECTURE.md are broken", layers::broken(&packages().unwrap()));
}

#[test]
fn the_monitor_links_nothing_asynchronous() {
    let output = std::process::Command::new(env!("CARGO"))
        .args(["tree", "--offline", "--prefix=none", "--edges=normal", "-p", "husk-podmon"])
        .current_dir(root())
        .output()
        .unwrap();
    let tree = String::from_utf8(output.stdout).unwrap();
    assert!(tree.contains("husk-podmon"), "cargo tree printed nothing");
    let offenders = tree
        .lines()
        .filter(|line| ["tokio ", "tonic ", "hyper ", "tracing "].iter().any(|name| line.starts_with(name)))
        .map(str::to_owned)
        .collect();
    report("husk-podmon must stay small: it may not link", offenders);
}

#[test]
fn every_module_says_what_it_is_for() {
    let offenders = tree()
        .ending_in(".rs")
        .filter(|(_, text)| !text.starts_with("//!"))
        .map(|(path, _)| path.display().to_string())
        .collect();
    report("these files do not start with a //! module doc", offenders);
}

#[test]
fn unsafe_code_stays_at_the_kernel_edge() {
    let mut offenders = Vec::new();
    for (path, text) in tree().ending_in(".rs") {
        let name = path.display().to_string();
        if UNSAFE_HOMES.iter().any(|home| name.starts_with(home)) {
            continue;
        }
        let is_root = name.ends_with("src/lib.rs") || name.ends_with("src/main.rs");
        if is_root && !text.contains("#![forbid(unsafe_code)]") {
            offenders.push(format!("{name} lacks #![forbid(unsafe_code)]"));
        }
    }
    report("unsafe code is only allowed in pkg/sys and cmd/pause", offenders);
}

#[test]
fn the_code_map_has_every_crate_in_its_layer() {
    let tree = tree();
    let page = tree.get("ARCHITECTURE.md").unwrap();
    report("ARCHITECTURE.md and the crates disagree", layers::not_as_on_the_page(page, &packages().unwrap()));
}

#[test]
fn types_of_a_protocol_stay_in_their_room() {
    report("types of a protocol outside of its room", rooms::strays(&tree()).unwrap());
}

#[test]
fn nobody_reaches_into_a_state_machine() {
    report("fields of state machines that others see", machines::open_fields(&tree()).unwrap());
}

#[test]
fn what_is_dangerous_is_called_at_home_only() {
    let mut entries = Vec::new();
    for package in packages().unwrap() {
        let suites = ["test", "proto"].map(Path::new);
        if !suites.iter().any(|suite| package.folder.starts_with(suite)) {
            entries.extend(
                package.entries.into_iter().filter(|entry| entry.starts_with(package.folder.join("src"))),
            );
        }
    }
    report("calls that have a better way", bans::calls(&tree(), &entries).unwrap());
}

#[test]
fn a_library_with_a_home_is_wrapped_there() {
    report("dependencies that go around their wrapper", wrappers::bypassed(&packages().unwrap()));
}

#[test]
fn every_skip_is_on_the_list() {
    report("skips that docs/testing.md does not know", skips::undocumented(&tree()).unwrap());
}

#[test]
fn scripts_stop_at_the_first_error() {
    let offenders = tree()
        .ending_in("")
        .filter(|(path, text)| path.starts_with("hack") && text.starts_with("#!/usr/bin/env bash"))
        .filter(|(_, text)| !text.contains("set -euo pipefail"))
        .map(|(path, _)| path.display().to_string())
        .collect();
    report("these scripts lack set -euo pipefail", offenders);
}

#[test]
fn links_between_the_pages_lead_somewhere() {
    let mut offenders = Vec::new();
    for (page, text) in tree().ending_in(".md") {
        for link in text.split("](").skip(1).filter_map(|rest| rest.split(')').next()) {
            let target = link.split('#').next().unwrap_or_default();
            if target.is_empty() || target.contains("://") {
                continue;
            }
            let folder = page.parent().unwrap_or(Path::new(""));
            if !root().join(folder).join(target).exists() {
                offenders.push(format!("{}: {link}", page.display()));
            }
        }
    }
    report("dead links", offenders);
}
