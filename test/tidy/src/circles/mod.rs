//! No circle of modules within a crate: whoever reads a file can read what it stands on first.
//!
//! The rule, over files:
//!
//! - A file stands on another one when it names an item that is defined there: in a `use`, in a path, in the tokens of a
//!   macro, in a path within an attribute's string. What a module re-exports counts as of the file that defines it.
//! - So does one that calls a method from an `impl` block that lies apart from its type: on `self` by the type, otherwise by
//!   the method's name when nothing else in the crate has that name. Files below the type's own are not apart: a type may be
//!   spread over the children of its module.
//! - `mod x;`, `pub use` and `pub(crate) use` are declarations: they alone make nobody stand on anything. So a `mod.rs` that
//!   only declares and re-exports is never part of a circle, and one that has items of its own is either above or below its
//!   children, not both.
//! - What is compiled for tests only does not count.
//!
//! What it cannot see: names that only a macro of another crate puts together, and calls through a trait.

mod graph;
mod names;
mod uses;

use std::path::Path;

use crate::{Tree, outline::Outline};

/// The circles of the crate that begins at `entry`, each as the shortest way around with the lines that lead on.
///
/// # Errors
/// When a file of the crate is missing or cannot be parsed, in words.
pub fn of_crate(tree: &Tree, entry: &Path) -> Result<Vec<String>, String> {
    let outline = Outline::read(tree, entry)?;
    Ok(graph::circles(&uses::between_files(&outline)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn circles(files: &[(&str, &str)]) -> Vec<String> {
        of_crate(&Tree::made_up(files), Path::new("src/lib.rs")).unwrap()
    }

    const NONE: [&str; 0] = [];

    #[test]
    fn two_modules_that_name_each_other_are_a_circle() {
        assert_eq!(
            circles(&[
                ("src/lib.rs", "mod a;\nmod b;"),
                ("src/a.rs", "\nuse crate::b::B;\npub struct A(B);"),
                ("src/b.rs", "pub struct B;\nfn f(_: &super::a::A) {}"),
            ]),
            ["src/a.rs:2 names b::B, src/b.rs:2 names a::A"]
        );
    }

    #[test]
    fn the_shortest_way_around_is_reported_once() {
        assert_eq!(
            circles(&[
                ("src/lib.rs", "mod a; mod b; mod c;"),
                ("src/a.rs", "use crate::b::B; pub struct A;"),
                ("src/b.rs", "use crate::c::C; pub struct B;"),
                ("src/c.rs", "use crate::{a::A, b::B}; pub struct C;"),
            ]),
            [
                "src/b.rs:1 names c::C, src/c.rs:1 names b::B",
                "src/a.rs:1 names b::B, src/b.rs:1 names c::C, src/c.rs:1 names a::A",
            ]
        );
    }

    #[test]
    fn a_module_that_only_declares_and_exports_is_on_no_circle() {
        assert_eq!(
            circles(&[
                ("src/lib.rs", "mod a; mod b; pub use a::A; pub(crate) use b::B;"),
                ("src/a.rs", "use crate::B; pub struct A(B);"),
                ("src/b.rs", "pub struct B;"),
            ]),
            NONE
        );
    }

    #[test]
    fn what_is_exported_counts_where_it_is_defined() {
        assert_eq!(
            circles(&[
                ("src/lib.rs", "mod a; mod b; pub use a::*; pub use b::inner::B;"),
                ("src/a.rs", "use crate::B; pub struct A(B);"),
                ("src/b.rs", "pub mod inner { pub struct B(crate::A); }"),
            ]),
            ["src/a.rs:1 names b::inner::B, src/b.rs:1 names a::A"]
        );
    }

    #[test]
    fn a_parent_with_items_of_its_own_is_above_or_below_its_children() {
        let parent = ("src/lib.rs", "mod a; use a::A; pub struct Top(A);");
        assert_eq!(circles(&[parent, ("src/a.rs", "pub struct A;")]), NONE);
        assert_eq!(
            circles(&[parent, ("src/a.rs", "pub struct A; fn f(_: super::Top) {}")]),
            ["src/a.rs:1 names Top, src/lib.rs:1 names a::A"]
        );
    }

    #[test]
    fn an_export_that_its_own_file_uses_is_a_use() {
        assert_eq!(
            circles(&[
                ("src/lib.rs", "mod a; pub use a::A;\npub fn top(_: A) {}"),
                ("src/a.rs", "pub struct A; fn f() { crate::top(A) }")
            ]),
            ["src/a.rs:1 names top, src/lib.rs:2 names a::A"]
        );
    }

    #[test]
    fn macros_and_attributes_are_looked_into() {
        assert_eq!(
            circles(&[
                ("src/lib.rs", "mod a; mod b;"),
                ("src/a.rs", "pub fn a() { assert!(crate::b::is_b()); }"),
                (
                    "src/b.rs",
                    "#[serde(with = \"crate::a\")] pub struct X; #[serde(default = \"crate::a::a\")] pub struct B;"
                ),
            ]),
            ["src/a.rs:1 names b::is_b, src/b.rs:1 names a::a"]
        );
    }

    #[test]
    fn a_method_lives_in_the_file_of_its_impl_block() {
        assert_eq!(
            circles(&[
                ("src/lib.rs", "mod engine; mod run;"),
                ("src/engine.rs", "pub struct Engine; impl Engine { pub fn go(&self) {\n self.run() } }"),
                ("src/run.rs", "use crate::engine::Engine;\nimpl Engine { pub fn run(&self) {} }"),
            ]),
            ["src/engine.rs:2 names Engine::run, src/run.rs:1 names engine::Engine"]
        );
    }

    #[test]
    fn a_type_may_be_spread_over_the_children_of_its_module() {
        assert_eq!(
            circles(&[
                ("src/lib.rs", "mod engine;"),
                (
                    "src/engine.rs",
                    "mod run; pub struct Engine; impl Engine { pub fn go(&self) { self.run() } }"
                ),
                ("src/engine/run.rs", "use super::Engine; impl Engine { pub fn run(&self) {} }"),
            ]),
            NONE
        );
    }

    #[test]
    fn tests_may_look_back() {
        assert_eq!(
            circles(&[
                ("src/lib.rs", "mod a; mod b;"),
                ("src/a.rs", "use crate::b::B; pub struct A(B);"),
                (
                    "src/b.rs",
                    "pub struct B; #[cfg(test)] mod tests { use crate::a::A; } #[test] fn f() { crate::a::A; }"
                ),
            ]),
            NONE
        );
    }
}
