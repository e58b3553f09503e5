//! A state machine changes by its events alone: nobody outside reaches into it.

use std::path::Path;

use syn::{
    Fields, ItemStruct, Visibility,
    spanned::Spanned,
    visit::{self, Visit},
};

use crate::Tree;

/// Where the machines live.
const HOME: &str = "pkg/life/src";

/// What the machines hand out, and a row of their page: neither has a life of its own.
const OUTCOMES: [&str; 2] = ["Refusal", "Row"];

/// Every field of a machine that others can see: the fields of all structs of the home but those that are handed out. (What
/// an enum's variant carries cannot be hidden, nor changed without the enum.)
///
/// # Errors
/// When a file cannot be parsed, in words.
pub fn open_fields(tree: &Tree) -> Result<Vec<String>, String> {
    let mut reader = Reader { path: Path::new(""), open: Vec::new() };
    for (path, text) in tree.ending_in(".rs").filter(|(path, _)| path.starts_with(HOME)) {
        reader.path = path;
        reader.visit_file(&syn::parse_file(text).map_err(|error| format!("{}: {error}", path.display()))?);
    }
    Ok(reader.open)
}

struct Reader<'a> {
    path: &'a Path,
    open: Vec<String>,
}

impl<'ast> Visit<'ast> for Reader<'_> {
    fn visit_item_struct(&mut self, item: &'ast ItemStruct) {
        let fields = match &item.fields {
            Fields::Unit => return,
            _ if OUTCOMES.iter().any(|name| item.ident == name) => return,
            fields => fields,
        };
        for (place, field) in fields.iter().enumerate() {
            if !matches!(field.vis, Visibility::Inherited) {
                let name = field.ident.as_ref().map_or_else(|| place.to_string(), ToString::to_string);
                let line = field.span().start().line;
                self.open.push(format!("{}:{line} {}.{name}", self.path.display(), item.ident));
            }
        }
        visit::visit_item_struct(self, item);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn open(text: &str) -> Vec<String> {
        open_fields(&Tree::made_up(&[
            ("pkg/life/src/pod.rs", text),
            ("pkg/spec/src/a.rs", "struct S { pub a: u8 }"),
        ]))
        .unwrap()
    }

    #[test]
    fn a_machine_has_no_field_that_others_see() {
        assert!(open("pub struct Pod { state: u8 } pub enum Life { Up { since: u8 }, Down(u8) } pub struct Refusal { pub state: u8 }").is_empty());
        assert_eq!(
            open("pub struct Pod {\n pub(crate) state: u8,\n pub since: u8 }\nstruct Pid(pub u32);"),
            [
                "pkg/life/src/pod.rs:2 Pod.state",
                "pkg/life/src/pod.rs:3 Pod.since",
                "pkg/life/src/pod.rs:4 Pid.0"
            ]
        );
    }
}
