//! No circle of modules within any crate of the workspace.

use husk_tidy::{Tree, circles, workspace::packages};

#[test]
fn no_crate_has_a_circle_of_modules() {
    let tree = Tree::of_the_repository().unwrap();
    let mut offenders = Vec::new();
    for package in packages().unwrap() {
        for entry in &package.entries {
            offenders.extend(circles::of_crate(&tree, entry).unwrap_or_else(|error| vec![error]));
        }
    }
    assert!(offenders.is_empty(), "circles of modules:\n  {}", offenders.join("\n  "));
}
