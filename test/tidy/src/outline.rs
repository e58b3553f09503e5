//! A crate's modules as its source declares them: files, items, imports.

use std::{
    collections::{HashMap, HashSet},
    path::{Path, PathBuf},
};

use syn::{
    Attribute, Item, ItemImpl, ItemUse, UseTree, Visibility,
    visit::{self, Visit},
};

use crate::Tree;

/// A place among [`Outline::modules`].
pub(crate) type ModuleId = usize;

/// What a crate is made of, tests left out.
#[derive(Default)]
pub(crate) struct Outline {
    pub(crate) modules: Vec<Module>,
    /// Every file with the module that it is.
    pub(crate) files: Vec<(ModuleId, syn::File)>,
    /// Macros that are to be found at the crate's root, wherever they are written.
    pub(crate) macros: HashMap<String, ModuleId>,
}

/// A module, with a file of its own or within its parent's.
pub(crate) struct Module {
    pub(crate) name: String,
    pub(crate) parent: Option<ModuleId>,
    pub(crate) file: PathBuf,
    pub(crate) children: HashMap<String, ModuleId>,
    pub(crate) items: HashSet<String>,
    /// What `use` brings in, by the name it has here.
    pub(crate) imports: HashMap<String, Vec<String>>,
    /// Modules whose names are all brought in.
    pub(crate) globs: Vec<Vec<String>>,
}

impl Outline {
    pub(crate) fn read(tree: &Tree, entry: &Path) -> Result<Self, String> {
        let mut outline = Self::default();
        let folder = entry.parent().unwrap_or(Path::new("")).to_owned();
        outline.file(tree, entry, &folder, String::new(), None)?;
        Ok(outline)
    }

    /// Adds the module that `file` is; its children are in `folder`.
    fn file(
        &mut self,
        tree: &Tree,
        file: &Path,
        folder: &Path,
        name: String,
        parent: Option<ModuleId>,
    ) -> Result<ModuleId, String> {
        let text = tree.get(file).ok_or_else(|| format!("{} is not there", file.display()))?;
        let parsed = syn::parse_file(text).map_err(|error| format!("{}: {error}", file.display()))?;
        let id = self.module(tree, file, folder, name, parent, &parsed.items)?;
        self.files.push((id, parsed));
        Ok(id)
    }

    fn module(
        &mut self,
        tree: &Tree,
        file: &Path,
        folder: &Path,
        name: String,
        parent: Option<ModuleId>,
        items: &[Item],
    ) -> Result<ModuleId, String> {
        let id = self.modules.len();
        let mut module = Module {
            name,
            parent,
            file: file.to_owned(),
            children: HashMap::new(),
            items: HashSet::new(),
            imports: HashMap::new(),
            globs: Vec::new(),
        };
        for item in items.iter().filter(|item| !is_for_tests(attributes(item))) {
            module.items.extend(defined(item));
            if let Item::Macro(rules) = item
                && let Some(name) = &rules.ident
                && rules.attrs.iter().any(|attribute| attribute.path().is_ident("macro_export"))
            {
                self.macros.insert(name.to_string(), id);
            }
            Imports(&mut module).visit_item(item);
        }
        self.modules.push(module);
        for item in items {
            let Item::Mod(child) = item else { continue };
            if is_for_tests(&child.attrs) {
                continue;
            }
            let name = child.ident.to_string();
            let below = folder.join(&name);
            let child_id = match &child.content {
                Some((_, items)) => self.module(tree, file, &below, name.clone(), Some(id), items)?,
                None => {
                    let (path, below) = home(tree, file, folder, &name, &child.attrs);
                    self.file(tree, &path, &below, name.clone(), Some(id))?
                }
            };
            self.modules[id].children.insert(name, child_id);
        }
        Ok(id)
    }
}

/// Where `mod name;` lies, and where the modules below it do.
fn home(tree: &Tree, file: &Path, folder: &Path, name: &str, attributes: &[Attribute]) -> (PathBuf, PathBuf) {
    for attribute in attributes.iter().filter(|attribute| attribute.path().is_ident("path")) {
        if let syn::Meta::NameValue(pair) = &attribute.meta
            && let syn::Expr::Lit(literal) = &pair.value
            && let syn::Lit::Str(path) = &literal.lit
        {
            let path = normal(&file.parent().unwrap_or(Path::new("")).join(path.value()));
            let below = path.parent().unwrap_or(Path::new("")).to_owned();
            return (path, below);
        }
    }
    let below = folder.join(name);
    let inside = below.join("mod.rs");
    if tree.get(&inside).is_some() { (inside, below) } else { (folder.join(format!("{name}.rs")), below) }
}

/// Without `..`: the paths of a tree have none.
fn normal(path: &Path) -> PathBuf {
    path.components().fold(PathBuf::new(), |mut normal, part| {
        if part.as_os_str() == ".." {
            normal.pop();
        } else {
            normal.push(part);
        }
        normal
    })
}

/// Whether what has these attributes is compiled for tests only.
pub(crate) fn is_for_tests(attributes: &[Attribute]) -> bool {
    attributes.iter().any(|attribute| {
        let path = attribute.path();
        let is_test = path.segments.last().is_some_and(|last| last.ident == "test");
        is_test
            || path.is_ident("cfg")
                && attribute.meta.require_list().is_ok_and(|list| {
                    let condition = list.tokens.to_string();
                    condition == "test" || condition.starts_with("all (test")
                })
    })
}

/// The attributes of an item; none for the kinds that can name nothing.
pub(crate) fn attributes(item: &Item) -> &[Attribute] {
    match item {
        Item::Const(it) => &it.attrs,
        Item::Enum(it) => &it.attrs,
        Item::Fn(it) => &it.attrs,
        Item::Impl(it) => &it.attrs,
        Item::Macro(it) => &it.attrs,
        Item::Mod(it) => &it.attrs,
        Item::Static(it) => &it.attrs,
        Item::Struct(it) => &it.attrs,
        Item::Trait(it) => &it.attrs,
        Item::Type(it) => &it.attrs,
        Item::Union(it) => &it.attrs,
        Item::Use(it) => &it.attrs,
        _ => &[],
    }
}

fn defined(item: &Item) -> Option<String> {
    let name = match item {
        Item::Const(it) => &it.ident,
        Item::Enum(it) => &it.ident,
        Item::Fn(it) => &it.sig.ident,
        Item::Macro(it) => it.ident.as_ref()?,
        Item::Static(it) => &it.ident,
        Item::Struct(it) => &it.ident,
        Item::Trait(it) => &it.ident,
        Item::Type(it) => &it.ident,
        Item::Union(it) => &it.ident,
        _ => return None,
    };
    Some(name.to_string())
}

/// Every `use` of a module, those within functions too: what they bring in is taken as known in the whole module.
struct Imports<'a>(&'a mut Module);

impl<'ast> Visit<'ast> for Imports<'_> {
    fn visit_item_mod(&mut self, _: &'ast syn::ItemMod) {}

    fn visit_item_impl(&mut self, block: &'ast ItemImpl) {
        visit::visit_item_impl(self, block);
    }

    fn visit_item_use(&mut self, item: &'ast ItemUse) {
        if item.leading_colon.is_some() {
            return;
        }
        leaves(&item.tree, &mut Vec::new(), &mut |path, leaf| match leaf {
            Leaf::Glob => self.0.globs.push(path.to_vec()),
            Leaf::Name(name) => {
                self.0.imports.insert(name, path.to_vec());
            }
        });
    }
}

/// What a path of a `use` ends in.
pub(crate) enum Leaf {
    Glob,
    /// The name under which it is known here.
    Name(String),
}

/// Calls `each` with every path that a `use` spells out.
pub(crate) fn leaves(tree: &UseTree, path: &mut Vec<String>, each: &mut dyn FnMut(&[String], Leaf)) {
    let mut ending = |path: &mut Vec<String>, name: String, known: String| {
        if name == "self" {
            let known = if known == "self" { path.last().cloned().unwrap_or_default() } else { known };
            each(path, Leaf::Name(known));
        } else {
            path.push(name);
            each(path, Leaf::Name(known));
            path.pop();
        }
    };
    match tree {
        UseTree::Path(step) => {
            path.push(step.ident.to_string());
            leaves(&step.tree, path, each);
            path.pop();
        }
        UseTree::Name(name) => ending(path, name.ident.to_string(), name.ident.to_string()),
        UseTree::Rename(name) => ending(path, name.ident.to_string(), name.rename.to_string()),
        UseTree::Glob(_) => each(path, Leaf::Glob),
        UseTree::Group(group) => group.items.iter().for_each(|tree| leaves(tree, path, each)),
    }
}

/// Whether a `use` only hands on what others are to find here.
pub(crate) fn is_export(item: &ItemUse) -> bool {
    !matches!(item.vis, Visibility::Inherited)
}
