// SPDX-License-Identifier: MPL-2.0

//! What the files of a crate import of each other.
//!
//! A file imports another one if its code names something that is defined there, by a `use` or by a
//! path. A module that re-exports what its own children define (`pub use child::Thing`) imports
//! nothing by that, and who takes `Thing` from it imports the child. Code under `#[cfg(test)]` does
//! not count.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use crate::names::{self, Named, Names};
use crate::sources;

/// The modules that a module is in, outermost first, and its own name; the crate's root has none.
pub type Module = Vec<String>;

/// Where a file names another one.
#[derive(Clone, Debug, PartialEq)]
pub struct Import {
    pub line: usize,
    /// The path as it is written, without the braces of a `use`.
    pub path: String,
}

/// What each module imports of the others: the first place in its file that says so.
pub type Imports = BTreeMap<Module, BTreeMap<Module, Import>>;

/// The names in every file below `src`, by module.
pub type Files = BTreeMap<Module, Names>;

/// Reads the files below `src`; those that are compiled for tests alone are left out.
///
/// # Errors
/// What the file system says.
pub fn read(src: &Path) -> std::io::Result<Files> {
    let mut files = Files::new();
    for file in sources::rust_files(src)? {
        let module = module_of(file.strip_prefix(src).unwrap_or(&file));
        let code = sources::without_comments_and_strings(&std::fs::read_to_string(&file)?);
        files.insert(module, names::scan(&code));
    }
    Ok(without_test_files(files))
}

/// The module of the file at this path below `src`.
fn module_of(path: &Path) -> Module {
    let path = path.with_extension("");
    let parts = path.iter().map(|part| part.to_string_lossy().into_owned());
    let mut module: Module = parts.collect();
    let last = module.last().map(String::as_str);
    if last == Some("mod") || module.len() == 1 && matches!(last, Some("lib" | "main")) {
        module.pop();
    }
    module
}

/// Leaves out the modules that are declared under `#[cfg(test)]`, and those inside them.
fn without_test_files(mut files: Files) -> Files {
    let tests: Vec<Module> = files
        .iter()
        .flat_map(|(module, names)| {
            let children = names.test_modules.iter();
            children.map(|child| [module.as_slice(), child].concat())
        })
        .collect();
    files.retain(|module, _| !tests.iter().any(|test| module.starts_with(test)));
    files
}

/// What each of the files imports of the others.
pub fn imports(files: &Files) -> Imports {
    let crate_ = Crate::new(files);
    let of = |(module, names): (&Module, &Names)| (module.clone(), crate_.imports(module, names));
    files.iter().map(of).collect()
}

/// What a path names: the module, and the names in it that are left.
#[derive(Clone)]
struct Target {
    module: Module,
    rest: Vec<String>,
}

/// What a module re-exports of its own children.
#[derive(Default)]
struct Exports {
    by_name: BTreeMap<String, Target>,
    globs: Vec<Target>,
}

struct Crate<'a> {
    files: &'a Files,
    exports: BTreeMap<&'a Module, Exports>,
}

impl<'a> Crate<'a> {
    fn new(files: &'a Files) -> Self {
        let mut this = Self {
            files,
            exports: BTreeMap::new(),
        };
        for (module, names) in files {
            let mut exports = Exports::default();
            for named in names.uses.iter().filter(|named| named.public) {
                let Some(target) = this.resolve(module, named, &BTreeMap::new()) else {
                    continue;
                };
                if !is_inside(&target.module, module) {
                    continue;
                }
                match named.alias.as_str() {
                    "*" => exports.globs.push(target),
                    name => drop(exports.by_name.insert(name.to_owned(), target)),
                }
            }
            this.exports.insert(module, exports);
        }
        this
    }

    /// What the file of `module` imports of the other files.
    fn imports(&self, module: &Module, names: &Names) -> BTreeMap<Module, Import> {
        let mut modules = BTreeMap::new();
        let mut found = BTreeMap::new();
        let mut add = |target: Target, named: &Named| {
            if target.module != *module {
                found.entry(target.module).or_insert_with(|| Import {
                    line: named.line,
                    path: named.path.join("::"),
                });
            }
        };
        let begun: BTreeSet<&String> = names.paths.iter().map(|named| &named.path[0]).collect();
        for named in &names.uses {
            let Some(target) = self.resolve(module, named, &BTreeMap::new()) else {
                continue;
            };
            if named.public && is_inside(&target.module, module) {
                continue;
            }
            let target = self.origin(target);
            let is_module = target.rest.is_empty() && named.alias != "*";
            if is_module && begun.contains(&named.alias) {
                // What is imported is what the paths that begin with this name go on to.
                modules.insert(named.alias.clone(), target.module);
            } else {
                add(target, named);
            }
        }
        for named in &names.paths {
            if let Some(target) = self.resolve(module, named, &modules) {
                add(self.origin(target), named);
            }
        }
        found
    }

    /// What a path names as seen from where it stands; `None` if it is of another crate.
    fn resolve(
        &self,
        file: &Module,
        named: &Named,
        modules: &BTreeMap<String, Module>,
    ) -> Option<Target> {
        let mut module = [file.as_slice(), &named.inside].concat();
        let mut rest = named.path.as_slice();
        match rest.first()?.as_str() {
            "crate" => {
                module.clear();
                rest = &rest[1..];
            }
            "self" => rest = &rest[1..],
            "super" => {}
            first => match modules.get(first) {
                Some(imported) => {
                    module.clone_from(imported);
                    rest = &rest[1..];
                }
                None => {
                    let child = [module.as_slice(), &[first.to_owned()]].concat();
                    self.files.get(&child)?;
                }
            },
        }
        while let ["super", ..] = rest.iter().map(String::as_str).collect::<Vec<_>>()[..] {
            module.pop();
            rest = &rest[1..];
        }
        // An inline module is part of the file that it stands in.
        while !self.files.contains_key(&module) {
            module.pop()?;
        }
        Some(self.descend(module, rest))
    }

    /// Follows a path down as long as its parts are files.
    fn descend(&self, mut module: Module, mut rest: &[String]) -> Target {
        while let [child, tail @ ..] = rest {
            module.push(child.clone());
            if !self.files.contains_key(&module) {
                module.pop();
                break;
            }
            rest = tail;
        }
        let rest = rest.iter().filter(|name| *name != "self" && *name != "*");
        Target {
            module,
            rest: rest.cloned().collect(),
        }
    }

    /// Where the thing is defined that a path names: re-exports are followed.
    fn origin(&self, mut target: Target) -> Target {
        while let Some(next) = self.re_exported(&target) {
            target = next;
        }
        target
    }

    fn re_exported(&self, target: &Target) -> Option<Target> {
        let (name, tail) = target.rest.split_first()?;
        let exports = self.exports.get(&target.module)?;
        if let Some(exported) = exports.by_name.get(name) {
            let rest = [exported.rest.as_slice(), tail].concat();
            return Some(self.descend(exported.module.clone(), &rest));
        }
        if self.files[&target.module].defined.contains(name) {
            return None;
        }
        let globs = exports.globs.iter();
        let through = globs.map(|glob| {
            let rest = [glob.rest.as_slice(), &target.rest].concat();
            self.origin(self.descend(glob.module.clone(), &rest))
        });
        let mut defining = through.filter(|origin| match origin.rest.first() {
            Some(name) => self.files[&origin.module].defined.contains(name),
            None => true,
        });
        defining.next()
    }
}

/// Whether `module` is inside `parent`.
fn is_inside(module: &Module, parent: &Module) -> bool {
    module.len() > parent.len() && module.starts_with(parent)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn module(path: &str) -> Module {
        let parts = path.split('/').filter(|part| !part.is_empty());
        parts.map(str::to_owned).collect()
    }

    /// "importer > imported", of files given by module and code.
    fn imported(files: &[(&str, &str)]) -> Vec<String> {
        let files = files.iter().map(|(path, code)| {
            let code = sources::without_comments_and_strings(code);
            (module(path), names::scan(&code))
        });
        let files = without_test_files(files.collect());
        let imports = imports(&files);
        let pairs = imports.iter().flat_map(|(from, to)| {
            let pair = move |to: &Module| format!("{} > {}", from.join("/"), to.join("/"));
            to.keys().map(pair)
        });
        pairs.collect()
    }

    #[test]
    fn a_use_and_a_path_in_code_both_import() {
        let files = [
            ("", ""),
            (
                "a",
                "use super::b::{self, Thing};\nuse crate::c::{X, d::Y};",
            ),
            ("b", "fn f() -> crate::a::Thing {}"),
            ("c", ""),
            ("c/d", ""),
        ];
        assert_eq!(imported(&files), ["a > b", "a > c", "a > c/d", "b > a"]);
    }

    #[test]
    fn a_parent_imports_a_child_that_it_names_by_a_path() {
        let files = [("", "mod a;\nfn f() { a::run() }"), ("a", "")];
        assert_eq!(imported(&files), [" > a"]);
    }

    #[test]
    fn what_is_imported_by_a_module_is_what_its_paths_go_on_to() {
        let files = [
            ("", ""),
            ("a", ""),
            ("a/b", ""),
            ("c", "use crate::a;\nfn f() { a::b::run() }"),
        ];
        assert_eq!(imported(&files), ["c > a/b"]);
    }

    #[test]
    fn what_a_module_re_exports_is_its_childs() {
        let files = [
            (
                "m",
                "mod a;\npub(crate) use a::Thing as Renamed;\npub(in crate::m) use c::d;",
            ),
            ("m/a", "pub struct Thing;"),
            ("m/b", "use super::Renamed;\nuse super::d::Deep;"),
            ("m/c", ""),
            ("m/c/d", ""),
        ];
        assert_eq!(imported(&files), ["m/b > m/a", "m/b > m/c/d"]);
    }

    #[test]
    fn what_a_glob_re_exports_is_its_childs() {
        let files = [
            ("m", "mod a;\npub use a::*;\npub struct Own;"),
            ("m/a", "pub struct Thing;"),
            ("m/b", "use super::Thing;"),
            ("m/c", "use super::Own;"),
        ];
        assert_eq!(imported(&files), ["m/b > m/a", "m/c > m"]);
    }

    #[test]
    fn what_a_module_takes_from_elsewhere_is_not_its_own_to_hand_on() {
        let files = [
            ("", ""),
            ("m", "mod a;\npub use crate::n::Thing;"),
            ("m/a", "use super::Thing;"),
            ("n", ""),
        ];
        assert_eq!(imported(&files), ["m > n", "m/a > m"]);
    }

    #[test]
    fn super_inside_an_inline_module_is_the_file() {
        let files = [
            ("", ""),
            (
                "a",
                "struct A;\nmod inner { use super::A; use super::super::b::B; }",
            ),
            ("b", "mod inner { pub struct B; }\nfn f() { inner::g() }"),
        ];
        assert_eq!(imported(&files), ["a > b"]);
    }

    #[test]
    fn tests_comments_and_strings_import_nothing() {
        let files = [
            ("", ""),
            (
                "a",
                "// use crate::b::B;\nconst S: &str = \"crate::b\";\n\
                 #[cfg(test)]\nuse crate::b::C;\n\
                 #[cfg(test)]\n#[allow(dead_code)]\nmod tests { use crate::b::B; }\n\
                 #[cfg(test)]\nmod fakes;",
            ),
            ("a/fakes", "use crate::b::B;"),
            ("b", ""),
        ];
        assert_eq!(imported(&files), [""; 0]);
    }

    #[test]
    fn other_crates_are_no_files_of_ours() {
        let files = [
            ("", ""),
            ("a", "use std::fmt;\nuse ::b::B;\nfn f() { fmt::g() }"),
            ("b", ""),
            ("fmt", ""),
        ];
        assert_eq!(imported(&files), [""; 0]);
    }

    #[test]
    fn the_first_place_is_told() {
        let files = [
            (
                module("a"),
                names::scan("\nuse super::{\n    c::X,\n    b::B,\n};\nfn f() { super::b::g() }"),
            ),
            (module("b"), names::scan("")),
            (module(""), names::scan("")),
        ];
        let imports = imports(&files.into_iter().collect());
        let place = Import {
            line: 4,
            path: "super::b::B".to_owned(),
        };
        assert_eq!(imports[&module("a")][&module("b")], place);
    }
}
