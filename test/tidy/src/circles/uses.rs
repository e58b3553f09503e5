//! Which file names what is defined in which other one.

use std::collections::HashMap;

use proc_macro2::{Delimiter, TokenStream, TokenTree};
use syn::{
    Attribute, ExprMethodCall, ImplItem, ImplItemFn, Item, ItemImpl, ItemMod, ItemUse, Macro, Path,
    Visibility,
    spanned::Spanned,
    visit::{self, Visit},
};

use super::{
    graph::{Graph, Step},
    names::{Meaning, meaning, spelled},
};
use crate::outline::{Leaf, ModuleId, Outline, attributes, is_export, is_for_tests, leaves};

/// Who stands on whom in a crate.
pub(super) fn between_files(outline: &Outline) -> Graph {
    let mut methods = Methods { outline, module: 0, by_name: HashMap::new() };
    for (module, file) in &outline.files {
        methods.module = *module;
        methods.visit_file(file);
    }
    let mut graph = Graph::new();
    for (module, file) in &outline.files {
        let mut reader =
            Reader { outline, methods: &methods.by_name, module: *module, of: None, graph: &mut graph };
        reader.visit_file(file);
    }
    graph
}

/// A type, by the module that defines it and its name.
type Type = (ModuleId, String);

/// A method of an `impl` block: whose it is (nothing for a trait's or a stranger's) and the module of the block.
type Method = (Option<Type>, ModuleId);

/// Collects every method of the crate.
struct Methods<'a> {
    outline: &'a Outline,
    module: ModuleId,
    by_name: HashMap<String, Vec<Method>>,
}

impl<'ast> Visit<'ast> for Methods<'_> {
    fn visit_item(&mut self, item: &'ast Item) {
        if !is_for_tests(attributes(item)) {
            visit::visit_item(self, item);
        }
    }

    fn visit_item_mod(&mut self, item: &'ast ItemMod) {
        in_child(self.outline, self.module, item, |child| {
            let around = std::mem::replace(&mut self.module, child);
            visit::visit_item_mod(self, item);
            self.module = around;
        });
    }

    fn visit_item_impl(&mut self, block: &'ast ItemImpl) {
        let owner = if block.trait_.is_none() { self_type(self.outline, self.module, block) } else { None };
        for item in &block.items {
            if let ImplItem::Fn(method) = item {
                let known = self.by_name.entry(method.sig.ident.to_string()).or_default();
                known.push((owner.clone(), self.module));
            }
        }
    }

    fn visit_trait_item_fn(&mut self, method: &'ast syn::TraitItemFn) {
        self.by_name.entry(method.sig.ident.to_string()).or_default().push((None, self.module));
    }
}

/// Notes every step out of one file.
struct Reader<'a> {
    outline: &'a Outline,
    methods: &'a HashMap<String, Vec<Method>>,
    module: ModuleId,
    /// The type of the `impl` block around.
    of: Option<Type>,
    graph: &'a mut Graph,
}

impl Reader<'_> {
    fn step(&mut self, to: ModuleId, line: usize, name: impl FnOnce() -> String) {
        let (from, to) = (&self.outline.modules[self.module].file, &self.outline.modules[to].file);
        if from != to {
            let steps = self.graph.entry(from.clone()).or_default();
            steps.entry(to.clone()).or_insert_with(|| Step { line, name: name() });
        }
    }

    fn path(&mut self, path: &[String], line: usize) {
        let outline = self.outline;
        if let [first, name, ..] = path
            && first == "Self"
            && let Some(owner) = self.of.clone()
        {
            self.method_of(&owner, name, line);
        }
        if let Some(Meaning::Item(module, item)) = meaning(outline, self.module, path) {
            self.step(module, line, || spelled(outline, module, &item));
            if let Some(place) = path.iter().position(|part| *part == item)
                && let Some(method) = path.get(place + 1)
            {
                self.method_of(&(module, item), method, line);
            }
        }
    }

    /// `owner::name`, when that method is neither in the module of its type nor below it.
    fn method_of(&mut self, owner: &Type, name: &str, line: usize) {
        let homes: Vec<ModuleId> = self
            .methods
            .get(name)
            .into_iter()
            .flatten()
            .filter(|(of, _)| of.as_ref() == Some(owner))
            .map(|(_, home)| *home)
            .collect();
        for home in homes {
            if !is_within(self.outline, home, owner.0) {
                self.step(home, line, || format!("{}::{name}", owner.1));
            }
        }
    }

    /// A method called on something whose type is not to be seen.
    fn method(&mut self, name: &str, line: usize) {
        if let Some([(Some(owner), _)]) = self.methods.get(name).map(Vec::as_slice) {
            let owner = owner.clone();
            self.method_of(&owner, name, line);
        }
    }

    fn tokens(&mut self, tokens: TokenStream) {
        let tokens: Vec<TokenTree> = tokens.into_iter().collect();
        let mut at = 0;
        while at < tokens.len() {
            match &tokens[at] {
                TokenTree::Group(group) => self.tokens(group.stream()),
                TokenTree::Ident(first) => {
                    let line = first.span().start().line;
                    let mut path = vec![first.to_string()];
                    let is_method = at > 0 && is(&tokens[at - 1], '.');
                    while let [a, b, TokenTree::Ident(next), ..] = &tokens[at + 1..]
                        && is(a, ':')
                        && is(b, ':')
                    {
                        path.push(next.to_string());
                        at += 3;
                    }
                    let is_called = matches!(tokens.get(at + 1), Some(TokenTree::Group(arguments)) if arguments.delimiter() == Delimiter::Parenthesis);
                    if is_method {
                        if is_called {
                            self.method(&path[0], line);
                        }
                    } else if path.len() > 1 || is_called || path[0].starts_with(char::is_uppercase) {
                        self.path(&path, line);
                    }
                }
                _ => {}
            }
            at += 1;
        }
    }
}

impl<'ast> Visit<'ast> for Reader<'_> {
    fn visit_item(&mut self, item: &'ast Item) {
        if !is_for_tests(attributes(item)) {
            visit::visit_item(self, item);
        }
    }

    fn visit_item_mod(&mut self, item: &'ast ItemMod) {
        let outline = self.outline;
        in_child(outline, self.module, item, |child| {
            let around = std::mem::replace(&mut self.module, child);
            visit::visit_item_mod(self, item);
            self.module = around;
        });
    }

    fn visit_item_use(&mut self, item: &'ast ItemUse) {
        if is_export(item) || item.leading_colon.is_some() {
            return;
        }
        let line = item.span().start().line;
        leaves(&item.tree, &mut Vec::new(), &mut |path, leaf| {
            if let Leaf::Name(_) = leaf {
                self.path(path, line);
            }
        });
    }

    fn visit_item_impl(&mut self, block: &'ast ItemImpl) {
        let around = std::mem::replace(&mut self.of, self_type(self.outline, self.module, block));
        visit::visit_item_impl(self, block);
        self.of = around;
    }

    fn visit_impl_item_fn(&mut self, method: &'ast ImplItemFn) {
        if !is_for_tests(&method.attrs) {
            visit::visit_impl_item_fn(self, method);
        }
    }

    fn visit_visibility(&mut self, _: &'ast Visibility) {}

    fn visit_path(&mut self, path: &'ast Path) {
        if path.leading_colon.is_none() {
            let names: Vec<String> = path.segments.iter().map(|segment| segment.ident.to_string()).collect();
            self.path(&names, path.span().start().line);
        }
        visit::visit_path(self, path);
    }

    fn visit_expr_method_call(&mut self, call: &'ast ExprMethodCall) {
        let (name, line) = (call.method.to_string(), call.method.span().start().line);
        match (&*call.receiver, self.of.clone()) {
            (syn::Expr::Path(receiver), Some(owner)) if receiver.path.is_ident("self") => {
                self.method_of(&owner, &name, line)
            }
            _ => self.method(&name, line),
        }
        visit::visit_expr_method_call(self, call);
    }

    fn visit_macro(&mut self, call: &'ast Macro) {
        self.tokens(call.tokens.clone());
    }

    fn visit_attribute(&mut self, attribute: &'ast Attribute) {
        let syn::Meta::List(list) = &attribute.meta else { return };
        for token in list.tokens.clone() {
            if let TokenTree::Literal(literal) = token
                && let Ok(text) = syn::parse_str::<syn::LitStr>(&literal.to_string())
                && let Ok(path) = text.parse::<Path>()
            {
                let names: Vec<String> =
                    path.segments.iter().map(|segment| segment.ident.to_string()).collect();
                self.path(&names, attribute.span().start().line);
            }
        }
    }
}

/// Whether `module` is `above` or lies below it.
fn is_within(outline: &Outline, module: ModuleId, above: ModuleId) -> bool {
    module == above || outline.modules[module].parent.is_some_and(|parent| is_within(outline, parent, above))
}

fn is(token: &TokenTree, wanted: char) -> bool {
    matches!(token, TokenTree::Punct(punct) if punct.as_char() == wanted)
}

/// Calls `inside` with the module that `item` spells out in this file.
fn in_child(outline: &Outline, module: ModuleId, item: &ItemMod, inside: impl FnOnce(ModuleId)) {
    if item.content.is_some()
        && let Some(&child) = outline.modules[module].children.get(&item.ident.to_string())
    {
        inside(child);
    }
}

/// The type of an `impl` block, when it is one of this crate.
fn self_type(outline: &Outline, module: ModuleId, block: &ItemImpl) -> Option<Type> {
    let syn::Type::Path(path) = &*block.self_ty else { return None };
    let names: Vec<String> = path.path.segments.iter().map(|segment| segment.ident.to_string()).collect();
    match meaning(outline, module, &names)? {
        Meaning::Item(module, name) => Some((module, name)),
        Meaning::Module(_) => None,
    }
}
