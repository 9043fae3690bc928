//! A crate read as syntax: its modules, the names that each defines or imports, and which file uses which.
//!
//! Only production code counts: `#[cfg(test)]` items and `#[test]` functions are skipped.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::LazyLock;

use anyhow::{Context, Result, anyhow};
use proc_macro2::{TokenStream, TokenTree};
use syn::visit::{self, Visit};
use syn::{Attribute, ImplItem, Item, UseTree, Visibility};

use crate::{crate_roots, read};

/// How many imports a name may lead through.
const MAX_DEPTH: usize = 24;

/// The modules of one crate, by their path from the crate's root.
#[derive(Default)]
pub(crate) struct SourceCrate {
    root: String,
    modules: BTreeMap<Vec<String>, Module>,
    uses: Vec<Use>,
    methods: Vec<Use>,
    types: Vec<TypeName>,
}

/// From one file to another, with the names of what is used there.
pub(crate) type Arrows = BTreeMap<(String, String), BTreeSet<String>>;

/// A struct, enum, union or trait and the file that defines it.
pub(crate) struct TypeName {
    pub(crate) name: String,
    pub(crate) file: String,
}

#[derive(Default)]
struct Module {
    file: String,
    names: BTreeMap<String, Vec<Name>>,
    globs: Vec<Vec<String>>,
}

/// What a name in a module stands for. One name can stand for several things: a module and a function.
#[derive(Clone)]
enum Name {
    Module,
    /// A type, which may be followed by more segments.
    Type,
    /// A function, a constant or a static.
    Value,
    Import(Vec<String>),
}

/// A path as written in `file`, in the module `module`.
struct Use {
    file: String,
    module: Vec<String>,
    segments: Vec<String>,
}

/// Every crate of the workspace, parsed once.
///
/// # Errors
///
/// If a file is missing or is not Rust.
pub(crate) fn crates() -> Result<&'static [SourceCrate]> {
    static CRATES: LazyLock<Result<Vec<SourceCrate>>> = LazyLock::new(|| {
        crate_roots()?.iter().map(|root| SourceCrate::read(root, &read)).collect()
    });
    CRATES.as_deref().map_err(|error| anyhow!("{error:#}"))
}

impl Use {
    /// The type that a path names, else its last segment.
    fn name(&self) -> Option<&str> {
        let mut names = self.segments.iter().map(String::as_str);
        let is_type = |name: &&str| name.starts_with(|first: char| first.is_ascii_uppercase());
        names.clone().find(is_type).or_else(|| names.next_back())
    }
}

impl SourceCrate {
    /// Reads the crate whose root is the file `root`, and the files that `mod` declarations name.
    ///
    /// # Errors
    ///
    /// If a file is missing or is not Rust.
    pub(crate) fn read(root: &str, text_of: &dyn Fn(&str) -> Result<String>) -> Result<Self> {
        let folder = root.rsplit_once('/').map_or("", |(folder, _)| folder).to_owned();
        let mut read = Self { root: root.to_owned(), ..Self::default() };
        let mut unread = vec![(Vec::new(), root.to_owned(), folder)];
        while let Some((module, path, folder)) = unread.pop() {
            let text = text_of(&path)?;
            let syntax = syn::parse_file(&text).with_context(|| format!("cannot parse {path}"))?;
            let mut reader = FileReader {
                read: &mut read,
                file: path,
                module: module.clone(),
                children: Vec::new(),
                depth_in_bodies: 0,
            };
            reader.enter_module();
            reader.visit_file(&syntax);
            for child in reader.children {
                let below: Vec<_> = child[module.len()..].to_vec();
                let stem = join(&folder, &below.join("/"));
                unread.push((child, format!("{stem}.rs"), stem));
            }
        }
        Ok(read)
    }

    /// Every arrow from a file to another one that defines what it uses.
    ///
    /// Re-exports are resolved: an arrow leads to the file that defines the item. So neither a `mod` declaration
    /// nor a re-export makes an arrow; using a re-exported name does.
    pub(crate) fn arrows(&self) -> Arrows {
        let mut arrows = Arrows::new();
        for used in &self.uses {
            for target in self.definers(&used.module, &used.segments, 0) {
                if target != used.file {
                    let names = arrows.entry((used.file.clone(), target)).or_default();
                    names.extend(used.name().map(ToOwned::to_owned));
                }
            }
        }
        arrows
    }

    /// Inherent methods outside of the file that defines their type: the type, its file, and the other file.
    pub(crate) fn scattered_methods(&self) -> BTreeSet<(String, String, String)> {
        let mut scattered = BTreeSet::new();
        for methods in &self.methods {
            for definer in self.definers(&methods.module, &methods.segments, 0) {
                if definer != methods.file {
                    let name = methods.segments.last().cloned().unwrap_or_default();
                    scattered.insert((name, definer, methods.file.clone()));
                }
            }
        }
        scattered
    }

    /// The crate's root file.
    pub(crate) fn root(&self) -> &str {
        &self.root
    }

    /// Every struct, enum, union and trait.
    pub(crate) fn types(&self) -> &[TypeName] {
        &self.types
    }

    /// The files that define what `segments` means in `module`. None for another crate's items and for modules.
    fn definers(&self, module: &[String], segments: &[String], depth: usize) -> BTreeSet<String> {
        let mut start = module.to_vec();
        let mut rest = segments;
        while let Some((first, others)) = rest.split_first() {
            match first.as_str() {
                "crate" => start.clear(),
                "self" => {}
                "super" => drop(start.pop()),
                _ => break,
            }
            rest = others;
        }
        self.below(&start, rest, depth)
    }

    fn below(&self, module: &[String], segments: &[String], depth: usize) -> BTreeSet<String> {
        let mut definers = BTreeSet::new();
        let (Some(known), Some((name, rest))) = (self.modules.get(module), segments.split_first())
        else {
            return definers;
        };
        if depth > MAX_DEPTH {
            return definers;
        }
        let meanings = known.names.get(name).map(Vec::as_slice).unwrap_or_default();
        for meaning in meanings {
            match meaning {
                Name::Module => {
                    let child: Vec<_> = module.iter().chain([name]).cloned().collect();
                    definers.extend(self.below(&child, rest, depth + 1));
                }
                Name::Type => drop(definers.insert(known.file.clone())),
                Name::Value if rest.is_empty() => drop(definers.insert(known.file.clone())),
                Name::Value => {}
                // `use clap;` beside a path `clap::Parser` names another crate, not itself.
                Name::Import(path) if path.first() == Some(name) && meanings.len() == 1 => {}
                Name::Import(path) => {
                    let path: Vec<_> = path.iter().chain(rest).cloned().collect();
                    definers.extend(self.definers(module, &path, depth + 1));
                }
            }
        }
        if meanings.is_empty() {
            for glob in &known.globs {
                let path: Vec<_> = glob.iter().chain(segments).cloned().collect();
                definers.extend(self.definers(module, &path, depth + 1));
            }
        }
        definers
    }
}

fn join(folder: &str, name: &str) -> String {
    if folder.is_empty() { name.to_owned() } else { format!("{folder}/{name}") }
}

/// Reads one file into the crate.
struct FileReader<'a> {
    read: &'a mut SourceCrate,
    file: String,
    module: Vec<String>,
    /// Modules that the file declares and that have files of their own.
    children: Vec<Vec<String>>,
    /// Items in function bodies are not the module's.
    depth_in_bodies: usize,
}

impl FileReader<'_> {
    fn enter_module(&mut self) -> &mut Module {
        let module = self.read.modules.entry(self.module.clone()).or_default();
        module.file.clone_from(&self.file);
        module
    }

    fn define(&mut self, name: &impl ToString, meaning: Name) {
        let names = &mut self.enter_module().names;
        names.entry(name.to_string()).or_default().push(meaning);
    }

    fn define_type(&mut self, name: &impl ToString) {
        self.define(name, Name::Type);
        self.read.types.push(TypeName { name: name.to_string(), file: self.file.clone() });
    }

    fn use_path(&mut self, segments: Vec<String>) {
        let module = self.module.clone();
        self.read.uses.push(Use { file: self.file.clone(), module, segments });
    }

    /// Takes a `use` apart into the paths that it imports.
    fn import(&mut self, tree: &UseTree, prefix: &[String], is_private: bool) {
        let with = |name: String| [prefix, &[name]].concat();
        let (name, path) = match tree {
            UseTree::Path(path) => {
                return self.import(&path.tree, &with(path.ident.to_string()), is_private);
            }
            UseTree::Group(group) => {
                for tree in &group.items {
                    self.import(tree, prefix, is_private);
                }
                return;
            }
            UseTree::Glob(_) => {
                if is_private {
                    self.use_path(prefix.to_vec());
                }
                return self.enter_module().globs.push(prefix.to_vec());
            }
            UseTree::Name(name) if name.ident == "self" => {
                (prefix.last().cloned().unwrap_or_default(), prefix.to_vec())
            }
            UseTree::Name(name) => (name.ident.to_string(), with(name.ident.to_string())),
            UseTree::Rename(renamed) if renamed.ident == "self" => {
                (renamed.rename.to_string(), prefix.to_vec())
            }
            UseTree::Rename(renamed) => {
                (renamed.rename.to_string(), with(renamed.ident.to_string()))
            }
        };
        if is_private {
            self.use_path(path.clone());
        }
        self.define(&name, Name::Import(path));
    }

    /// Finds paths, and definitions after a keyword, in what a macro is given.
    fn scan(&mut self, tokens: TokenStream, with_definitions: bool) {
        let mut path: Vec<String> = Vec::new();
        let mut colons = 0;
        let mut is_field = false;
        let mut keyword = String::new();
        for token in tokens {
            match token {
                TokenTree::Ident(ident) => {
                    let name = ident.to_string();
                    if with_definitions {
                        match keyword.as_str() {
                            "struct" | "enum" | "union" | "trait" => self.define_type(&name),
                            "fn" => self.define(&name, Name::Value),
                            _ => {}
                        }
                    }
                    keyword.clone_from(&name);
                    if colons != 2 {
                        self.end_path(&mut path);
                    }
                    if !is_field {
                        path.push(name);
                    }
                    (colons, is_field) = (0, false);
                }
                TokenTree::Punct(punct) if punct.as_char() == ':' => colons += 1,
                other => {
                    self.end_path(&mut path);
                    (colons, is_field) = (0, false);
                    keyword.clear();
                    match other {
                        TokenTree::Group(group) => self.scan(group.stream(), with_definitions),
                        TokenTree::Punct(punct) => is_field = punct.as_char() == '.',
                        // `#[serde(with = "crate::text")]`
                        TokenTree::Literal(literal) => self.use_text(&literal.to_string()),
                        TokenTree::Ident(_) => {}
                    }
                }
            }
        }
        self.end_path(&mut path);
    }

    fn end_path(&mut self, path: &mut Vec<String>) {
        if !path.is_empty() {
            let path = std::mem::take(path);
            self.use_path(path);
        }
    }

    fn use_text(&mut self, literal: &str) {
        let text = literal.trim_matches('"');
        let segments: Vec<_> = text.split("::").map(ToOwned::to_owned).collect();
        let is_name = |name: &String| {
            !name.is_empty() && name.chars().all(|letter| letter.is_alphanumeric() || letter == '_')
        };
        if segments.len() > 1 && segments.iter().all(is_name) {
            self.use_path(segments);
        }
    }
}

impl<'ast> Visit<'ast> for FileReader<'_> {
    fn visit_item(&mut self, item: &'ast Item) {
        if attributes(item).iter().any(is_for_tests) {
            return;
        }
        if self.depth_in_bodies == 0 {
            match item {
                Item::Const(item) => self.define(&item.ident, Name::Value),
                Item::Fn(item) => self.define(&item.sig.ident, Name::Value),
                Item::Static(item) => self.define(&item.ident, Name::Value),
                Item::Type(item) => self.define(&item.ident, Name::Type),
                Item::Struct(item) => self.define_type(&item.ident),
                Item::Enum(item) => self.define_type(&item.ident),
                Item::Union(item) => self.define_type(&item.ident),
                Item::Trait(item) => self.define_type(&item.ident),
                _ => {}
            }
        }
        match item {
            Item::Macro(item) if item.ident.is_some() => self.scan(item.mac.tokens.clone(), true),
            _ => visit::visit_item(self, item),
        }
    }

    fn visit_item_mod(&mut self, item: &'ast syn::ItemMod) {
        self.define(&item.ident, Name::Module);
        self.module.push(item.ident.to_string());
        if item.content.is_some() {
            self.enter_module();
            visit::visit_item_mod(self, item);
        } else {
            self.children.push(self.module.clone());
        }
        self.module.pop();
    }

    fn visit_item_use(&mut self, item: &'ast syn::ItemUse) {
        self.import(&item.tree, &[], matches!(item.vis, Visibility::Inherited));
    }

    fn visit_item_impl(&mut self, item: &'ast syn::ItemImpl) {
        if let (None, syn::Type::Path(named)) = (&item.trait_, &*item.self_ty) {
            let module = self.module.clone();
            let segments = segments(&named.path);
            self.read.methods.push(Use { file: self.file.clone(), module, segments });
        }
        visit::visit_item_impl(self, item);
    }

    fn visit_impl_item(&mut self, item: &'ast ImplItem) {
        let is_for_tests = match item {
            ImplItem::Fn(item) => item.attrs.iter().any(is_for_tests),
            ImplItem::Const(item) => item.attrs.iter().any(is_for_tests),
            _ => false,
        };
        if !is_for_tests {
            visit::visit_impl_item(self, item);
        }
    }

    fn visit_block(&mut self, block: &'ast syn::Block) {
        self.depth_in_bodies += 1;
        visit::visit_block(self, block);
        self.depth_in_bodies -= 1;
    }

    fn visit_path(&mut self, path: &'ast syn::Path) {
        if path.leading_colon.is_none() {
            self.use_path(segments(path));
        }
        visit::visit_path(self, path);
    }

    /// A path in `pub(in …)` says who may see an item and uses nothing.
    fn visit_visibility(&mut self, _: &'ast Visibility) {}

    fn visit_macro(&mut self, called: &'ast syn::Macro) {
        self.visit_path(&called.path);
        self.scan(called.tokens.clone(), false);
    }

    fn visit_attribute(&mut self, attribute: &'ast Attribute) {
        if let syn::Meta::List(list) = &attribute.meta {
            self.scan(list.tokens.clone(), false);
        }
    }
}

fn segments(path: &syn::Path) -> Vec<String> {
    path.segments.iter().map(|segment| segment.ident.to_string()).collect()
}

fn attributes(item: &Item) -> &[Attribute] {
    match item {
        Item::Const(item) => &item.attrs,
        Item::Enum(item) => &item.attrs,
        Item::ExternCrate(item) => &item.attrs,
        Item::Fn(item) => &item.attrs,
        Item::ForeignMod(item) => &item.attrs,
        Item::Impl(item) => &item.attrs,
        Item::Macro(item) => &item.attrs,
        Item::Mod(item) => &item.attrs,
        Item::Static(item) => &item.attrs,
        Item::Struct(item) => &item.attrs,
        Item::Trait(item) => &item.attrs,
        Item::TraitAlias(item) => &item.attrs,
        Item::Type(item) => &item.attrs,
        Item::Union(item) => &item.attrs,
        Item::Use(item) => &item.attrs,
        _ => &[],
    }
}

/// Whether the attribute is `#[cfg(test)]`, `#[cfg(all(test, …))]`, or marks a test.
fn is_for_tests(attribute: &Attribute) -> bool {
    if attribute.path().is_ident("test") {
        return true;
    }
    let syn::Meta::List(list) = &attribute.meta else { return false };
    if !list.path.is_ident("cfg") {
        return false;
    }
    let text = list.tokens.to_string();
    text == "test" || text.starts_with("all (test")
}
