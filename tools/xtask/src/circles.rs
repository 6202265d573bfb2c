// SPDX-License-Identifier: MPL-2.0

//! The rule within a crate: no two of its files import each other, directly or through others.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use crate::Outcome;
use crate::imports::{self, Imports, Module};

/// Folders whose files still import each other in circles. A folder leaves this list with its last
/// circle; none comes in.
const KNOWN: &[&str] = &[];

/// The modules of a crate that reach each other by their imports.
type Circle<'a> = BTreeSet<&'a Module>;

/// Checks every crate of the workspace at `root`.
///
/// # Errors
/// Each circle, with the places where its files import each other; each of [`KNOWN`] without one.
pub fn check(root: &Path) -> Outcome {
    let mut found = Vec::new();
    let mut n_files = 0;
    for folder in members(root)? {
        let src = folder.join("src");
        let files = imports::read(&root.join(&src))
            .map_err(|error| format!("{}: {error}", src.display()))?;
        n_files += files.len();
        let imports = imports::imports(&files);
        let circles = circles(&imports);
        found.extend(circles.iter().map(|circle| {
            Found {
                files: circle
                    .iter()
                    .map(|module| file(root, &src, module))
                    .collect(),
                text: describe(root, &src, circle, &imports),
            }
        }));
    }
    let errors = judge(&found, KNOWN);
    if errors.is_empty() {
        match KNOWN {
            [] => println!("No two of {n_files} files import each other."),
            _ => println!(
                "No two of {n_files} files import each other, but in {}.",
                KNOWN.join(", ")
            ),
        }
        Ok(())
    } else {
        Err(errors.join("\n"))
    }
}

/// The folders of the workspace's crates, as its `Cargo.toml` lists them.
fn members(root: &Path) -> Result<Vec<PathBuf>, String> {
    let path = root.join("Cargo.toml");
    let text =
        std::fs::read_to_string(&path).map_err(|error| format!("{}: {error}", path.display()))?;
    let list = text
        .split_once("members = [")
        .and_then(|(_, rest)| rest.split_once(']'));
    let (list, _) = list.ok_or_else(|| format!("{}: no list of members", path.display()))?;
    let names = list.split(',').map(|name| name.trim().trim_matches('"'));
    let folder = |name: &str| {
        if name == "." {
            PathBuf::new()
        } else {
            PathBuf::from(name)
        }
    };
    Ok(names.filter(|name| !name.is_empty()).map(folder).collect())
}

/// A circle: its files by their paths from the workspace's root, and what is said of it.
struct Found {
    files: Vec<PathBuf>,
    text: String,
}

/// The circles outside the known folders, and the known folders without a circle.
fn judge(found: &[Found], known: &[&str]) -> Vec<String> {
    let is_in = |circle: &Found, folder: &str| circle.files.iter().all(|f| f.starts_with(folder));
    let new = found
        .iter()
        .filter(|circle| !known.iter().any(|folder| is_in(circle, folder)));
    let gone = known
        .iter()
        .filter(|folder| !found.iter().any(|circle| is_in(circle, folder)));
    let gone = gone.map(|folder| {
        format!(
            "{folder} has no circle any more: take it out of KNOWN in tools/xtask/src/circles.rs"
        )
    });
    new.map(|circle| circle.text.clone()).chain(gone).collect()
}

/// The sets of modules that reach each other.
fn circles(imports: &Imports) -> Vec<Circle<'_>> {
    let reached: Vec<(&Module, Circle)> = imports
        .keys()
        .map(|module| (module, reached(imports, module)))
        .collect();
    let mut circles: Vec<Circle> = Vec::new();
    for (module, others) in &reached {
        if !others.contains(module) || circles.iter().any(|circle| circle.contains(module)) {
            continue;
        }
        let back = reached
            .iter()
            .filter(|(other, back)| others.contains(other) && back.contains(module));
        circles.push(back.map(|(other, _)| *other).collect());
    }
    circles
}

/// The modules that `from` imports, and those that they import, and so on.
fn reached<'a>(imports: &'a Imports, from: &'a Module) -> Circle<'a> {
    let (mut seen, mut left) = (Circle::new(), vec![from]);
    while let Some(module) = left.pop() {
        left.extend(imports[module].keys().filter(|next| seen.insert(*next)));
    }
    seen
}

/// The file of a module, by its path from the workspace's root.
fn file(root: &Path, src: &Path, module: &Module) -> PathBuf {
    let mut folder = src.to_owned();
    folder.extend(module);
    let candidates = match module.last() {
        None => [folder.join("lib.rs"), folder.join("main.rs")],
        Some(_) => [folder.with_extension("rs"), folder.join("mod.rs")],
    };
    let [first, second] = candidates;
    if root.join(&first).exists() {
        first
    } else {
        second
    }
}

/// A circle for the reader: which files, and where each imports another.
fn describe(root: &Path, src: &Path, circle: &Circle, imports: &Imports) -> String {
    let mut text = format!("{} files import each other in a circle:", circle.len());
    for module in circle {
        let path = file(root, src, module);
        for (other, import) in imports[*module]
            .iter()
            .filter(|(other, _)| circle.contains(other))
        {
            text += &format!(
                "\n  {}:{} imports {} ({})",
                path.display(),
                import.line,
                file(root, src, other).display(),
                import.path
            );
        }
    }
    text + "\n  What several files need goes down into a file of its own; what mounts them all goes up."
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::imports::Import;

    fn module(path: &str) -> Module {
        path.split('/').map(str::to_owned).collect()
    }

    fn import(path: &str) -> Import {
        let path = path.to_owned();
        Import { line: 7, path }
    }

    /// The imports that pairs of modules say.
    fn imports(pairs: &[(&str, &str)]) -> Imports {
        let mut imports = Imports::new();
        for (from, to) in pairs {
            imports.entry(module(to)).or_default();
            let others = imports.entry(module(from)).or_default();
            others.insert(module(to), import(to));
        }
        imports
    }

    fn circle(files: &[&str]) -> Found {
        Found {
            files: files.iter().map(PathBuf::from).collect(),
            text: files.join(" "),
        }
    }

    #[test]
    fn files_that_import_each_other_through_a_third_are_a_circle() {
        let imports = imports(&[("a", "b"), ("b", "c"), ("c", "a"), ("d", "a")]);
        let all = ["a", "b", "c"].map(module);
        assert_eq!(circles(&imports), [all.iter().collect()]);
    }

    #[test]
    fn two_circles_are_told_apart() {
        let imports = imports(&[("a", "b"), ("b", "a"), ("b", "c"), ("c", "d"), ("d", "c")]);
        let n_files = circles(&imports)
            .iter()
            .map(BTreeSet::len)
            .collect::<Vec<_>>();
        assert_eq!(n_files, [2, 2]);
    }

    #[test]
    fn one_way_is_none() {
        let imports = imports(&[("a", "b"), ("a", "c"), ("b", "c")]);
        assert!(circles(&imports).is_empty());
    }

    #[test]
    fn a_circle_is_told_with_its_files_and_lines() {
        let imports = imports(&[("a", "b"), ("b", "a")]);
        let text = describe(
            Path::new("/none"),
            Path::new("x/src"),
            &circles(&imports)[0],
            &imports,
        );
        assert!(text.starts_with("2 files"), "{text}");
        assert!(
            text.contains("x/src/a/mod.rs:7 imports x/src/b/mod.rs (b)"),
            "{text}"
        );
    }

    #[test]
    fn a_circle_is_known_where_all_its_files_are_in_a_known_folder() {
        let inside = circle(&["src/a/b.rs", "src/a/c/d.rs"]);
        let across = circle(&["src/a/b.rs", "src/e.rs"]);
        let name_alike = circle(&["src/ab/c.rs", "src/ab/d.rs"]);
        assert_eq!(judge(&[inside, across, name_alike], &["src/a"]).len(), 2);
    }

    #[test]
    fn a_known_folder_without_a_circle_is_an_error() {
        let errors = judge(
            &[circle(&["src/a/b.rs", "src/a/c.rs"])],
            &["src/a", "src/d"],
        );
        assert_eq!(errors.len(), 1);
        assert!(errors[0].contains("src/d"), "{}", errors[0]);
    }

    #[test]
    fn every_member_of_the_workspace_is_read() {
        let members = members(&crate::shell::root()).unwrap();
        assert!(members.contains(&PathBuf::new()));
        assert!(members.contains(&PathBuf::from("tools/xtask")));
        assert!(
            members
                .iter()
                .all(|m| crate::shell::root().join(m).join("src").is_dir())
        );
    }
}
