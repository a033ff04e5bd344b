//! The graph of which source file imports which, without test code.

use std::{
    collections::{BTreeMap, BTreeSet},
    path::{Path, PathBuf},
};

use super::tokens::{Import, SourceFile};

type Module = Vec<String>;

/// Import edges between files: from the importing file to the imported one.
pub struct FileGraph(BTreeMap<String, BTreeSet<String>>);

struct Modules {
    files: BTreeMap<Module, (String, SourceFile)>,
}

impl FileGraph {
    /// Builds the graph of `sources`: paths relative to `src`, and their text.
    pub fn new(sources: &[(PathBuf, String)]) -> Self {
        let modules = Modules::new(sources);
        let mut edges = BTreeMap::new();
        for (module, (file, source)) in &modules.files {
            let mut imported: BTreeSet<_> = source
                .imports
                .iter()
                .filter(|import| !(import.is_public && source.only_declares))
                .filter_map(|import| modules.resolve(module, &import.path, 0))
                .collect();
            imported.remove(file);
            edges.insert(file.clone(), imported);
        }
        Self(edges)
    }

    /// Returns the edges that lie on a circle.
    pub fn circular_edges(&self) -> Vec<(&str, &str)> {
        let mut circular = Vec::new();
        for (file, imported) in &self.0 {
            for other in imported.iter().filter(|other| self.reaches(other, file)) {
                circular.push((&**file, &**other));
            }
        }
        circular
    }

    fn reaches(&self, from: &str, to: &str) -> bool {
        let (mut seen, mut next) = (BTreeSet::new(), vec![from]);
        while let Some(file) = next.pop() {
            if file == to {
                return true;
            }
            if seen.insert(file) {
                next.extend(self.0.get(file).into_iter().flatten().map(String::as_str));
            }
        }
        false
    }
}

impl Modules {
    /// Reads all files that are not test code.
    fn new(sources: &[(PathBuf, String)]) -> Self {
        let mut files: BTreeMap<_, _> = sources
            .iter()
            .map(|(path, text)| {
                (module_of(path), (path.display().to_string(), SourceFile::parse(text)))
            })
            .collect();
        let tests: Vec<Module> = files
            .iter()
            .flat_map(|(module, (_, source))| {
                source.test_modules.iter().map(|name| [module, &vec![name.clone()][..]].concat())
            })
            .collect();
        files.retain(|module, _| !tests.iter().any(|test| module.starts_with(test)));
        Self { files }
    }

    /// Returns the file that defines what `path`, written in `module`, names. Follows re-exports.
    /// `None` for other crates and for names in scope.
    fn resolve(&self, module: &[String], path: &[String], depth: usize) -> Option<String> {
        let (first, rest) = path.split_first()?;
        let (mut module, mut rest) = match first.as_str() {
            "crate" => (Vec::new(), rest),
            "self" => (module.to_vec(), rest),
            "super" => (module.split_last()?.1.to_vec(), rest),
            child => ([module, &[child.to_owned()]].concat(), rest),
        };
        self.files.get(&module)?;
        while let Some((segment, after)) = rest.split_first() {
            let child = [&module[..], std::slice::from_ref(segment)].concat();
            if segment == "super" {
                module.pop();
            } else if self.files.contains_key(&child) {
                module = child;
            } else {
                let exported = |import: &&Import| import.is_public && import.name == *segment;
                let source = &self.files.get(&module)?.1;
                return match source.imports.iter().find(exported) {
                    Some(import) if depth < 8 => self.resolve(&module, &import.path, depth + 1),
                    _ => Some(self.files.get(&module)?.0.clone()),
                };
            }
            rest = after;
        }
        Some(self.files.get(&module)?.0.clone())
    }
}

fn module_of(path: &Path) -> Module {
    let mut module: Module =
        path.iter().map(|part| part.to_str().unwrap().trim_end_matches(".rs").to_owned()).collect();
    if matches!(module.last().map(String::as_str), Some("mod" | "lib")) {
        module.pop();
    }
    module
}

#[test]
fn circles_of_files_are_found_through_parents_siblings_and_re_exports() {
    let edges = |sources: &[(&str, &str)]| {
        let sources: Vec<_> =
            sources.iter().map(|(path, text)| (path.into(), (*text).to_owned())).collect();
        let graph = FileGraph::new(&sources);
        let edges = graph.circular_edges().into_iter();
        edges.map(|(from, to)| format!("{from} {to}")).collect::<Vec<_>>()
    };
    let root = ("lib.rs", "mod a; mod b;");
    let declares =
        ("a/mod.rs", "//! Docs.\nmod x;\nmod y;\n#[cfg(test)]\nmod tests;\npub use x::X;");
    // A module that only declares and re-exports is on no circle, and hides none.
    assert_eq!(
        edges(&[root, declares, ("a/x.rs", "pub struct X;"), ("a/y.rs", "use super::X;")]),
        [""; 0]
    );
    let both = ["a/x.rs a/y.rs", "a/y.rs a/x.rs"];
    for x in ["use super::y::Y;", "use super::{y::{self, Y}};", "fn f(_: crate::a::y::Y) {}"] {
        for y in ["use crate::a::X;", "fn f() -> super::X {}", "use super::x::*;"] {
            let x = format!("{x} pub struct X;");
            assert_eq!(edges(&[root, declares, ("a/x.rs", &x), ("a/y.rs", y)]), both, "{x} {y}");
        }
    }
    // A parent and its child.
    let parent = ("b.rs", "mod c; pub struct B(c::C);");
    assert_eq!(
        edges(&[root, parent, ("b/c.rs", "pub struct C; impl super::B {}")]),
        ["b.rs b/c.rs", "b/c.rs b.rs"]
    );
    // Test code, comments and strings import nothing.
    let test =
        "// super::B\nconst A: &str = \"super::B\"; #[cfg(test)] mod tests { use super::B; }";
    assert_eq!(edges(&[root, parent, ("b/c.rs", test)]), [""; 0]);
    assert_eq!(
        edges(&[
            root,
            declares,
            ("a/x.rs", "pub struct X; #[cfg(test)] use super::tests;"),
            ("a/tests.rs", "use super::X;")
        ]),
        [""; 0]
    );
}
