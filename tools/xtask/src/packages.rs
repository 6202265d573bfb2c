// SPDX-License-Identifier: MPL-2.0

//! What the sources name, the packages that hold it, and whether both agree with `setup.rs`.
//!
//! `packages.txt` says which package holds what. The tests below hold it against the sources, so
//! that no pipeline can name an element that nothing installs; [`check`] holds it against dpkg, so
//! that the list is true.

use std::process::Command;

use crate::setup::PYTHON;
use crate::{Outcome, shell};

const LIST: &str = include_str!("../packages.txt");

/// Where the names on a line come from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Source {
    /// A Debian package.
    Debian {
        package: &'static str,
        /// The package of `setup.rs` that it comes with: itself, or one that depends on it.
        need: &'static str,
        /// The first GStreamer that has it, as major and minor.
        from: Option<(u32, u32)>,
    },
    /// What a file of this repository gets from PyPI.
    Pip { file: &'static str },
    /// Nowhere: a test names what does not exist.
    Nothing,
}

struct Line {
    source: Source,
    names: Vec<&'static str>,
}

/// Reads the list.
///
/// # Errors
/// The line that is not as its first lines say.
fn lines(list: &'static str) -> Result<Vec<Line>, String> {
    let lines = list
        .lines()
        .filter(|l| !l.is_empty() && !l.starts_with('#'));
    lines
        .map(|line| {
            let read = || {
                let (head, names) = line.split_once(": ")?;
                let words: Vec<&str> = head.split(' ').collect();
                Some(Line {
                    source: source(&words)?,
                    names: names.split(' ').collect(),
                })
            };
            read().ok_or_else(|| format!("packages.txt: `{line}` is no line of it"))
        })
        .collect()
}

fn source(words: &[&'static str]) -> Option<Source> {
    let debian = |package, need, from| Source::Debian {
        package,
        need,
        from,
    };
    match *words {
        ["pip", file] => Some(Source::Pip { file }),
        ["nothing"] => Some(Source::Nothing),
        [package] => Some(debian(package, package, None)),
        [package, "with", need] => Some(debian(package, need, None)),
        [package, "from", since] => Some(debian(package, package, Some(version(since)?))),
        _ => None,
    }
}

/// `1.26.2` as 1 and 26.
fn version(text: &str) -> Option<(u32, u32)> {
    let mut parts = text.trim().split('.').map(str::parse);
    Some((parts.next()?.ok()?, parts.next()?.ok()?))
}

/// Compares the list with what dpkg says of the files on this machine.
///
/// # Errors
/// Each name that another package holds, or none.
pub fn check() -> Outcome {
    if !shell::on_path("dpkg") {
        println!("This system has no dpkg; packages.txt is about Debian's packages.");
        return Ok(());
    }
    let modversion = shell::program("pkg-config")
        .args(["--modversion", "gstreamer-1.0"])
        .output();
    let here = modversion
        .ok()
        .and_then(|output| version(&String::from_utf8_lossy(&output.stdout)))
        .ok_or("pkg-config does not know which GStreamer is here")?;
    let (mut wrong, mut n_right) = (Vec::new(), 0);
    for line in lines(LIST)? {
        let Source::Debian {
            package,
            need,
            from,
        } = line.source
        else {
            continue;
        };
        if from.is_some_and(|from| here < from) {
            continue;
        }
        if package != need && !depends(need, package)? {
            wrong.push(format!("{need} does not depend on {package}"));
        }
        for name in line.names {
            match holder(package, name) {
                Some(found) if found == package => n_right += 1,
                Some(found) => wrong.push(format!("{name} is in {found}, not in {package}")),
                None => wrong.push(format!("{name} is not there, or in no package")),
            }
        }
    }
    if wrong.is_empty() {
        println!("{n_right} elements and modules are in the packages of tools/xtask/packages.txt.");
        Ok(())
    } else {
        Err(format!(
            "tools/xtask/packages.txt is wrong here:\n{}",
            wrong.join("\n")
        ))
    }
}

/// Whether a package that is installed asks for another one.
fn depends(package: &str, on: &str) -> Result<bool, String> {
    let depends = ["--show", "--showformat", "${Depends}", package];
    let depends = shell::output_of(shell::program("dpkg-query").args(depends))?;
    Ok(depends
        .split([',', '|'])
        .filter_map(|word| word.trim().split([' ', ':']).next())
        .any(|name| name == on))
}

/// The package that holds an element or a module on this machine.
fn holder(package: &str, name: &str) -> Option<String> {
    if package == "python3" {
        let code = format!("import sys; sys.exit('{name}' not in sys.stdlib_module_names)");
        let standard = shell::succeeds(shell::program(PYTHON).args(["-c", &code]));
        return standard.then(|| package.to_owned());
    }
    let pattern = if let Some(space) = name.strip_prefix("gi.repository.") {
        format!("*/girepository-1.0/{space}-?.0.typelib")
    } else if package.starts_with("python3-") {
        format!("/usr/lib/python3/dist-packages/{name}/__init__.py")
    } else {
        let inspect = shell::output_of(shell::program("gst-inspect-1.0").arg(name)).ok()?;
        let file = inspect
            .lines()
            .find_map(|line| line.trim().strip_prefix("Filename"))?;
        format!("*/gstreamer-1.0/{}", file.trim().rsplit('/').next()?)
    };
    let found = Command::new("dpkg").args(["-S", &pattern]).output().ok()?;
    let found = String::from_utf8_lossy(&found.stdout).into_owned();
    Some(found.lines().next()?.split(':').next()?.to_owned())
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::fs;
    use std::path::{Path, PathBuf};

    use super::*;
    use crate::named::{self, Language};
    use crate::setup::{self, Level};

    /// The element that this project makes.
    const OURS: &str = "vlmcaption";

    fn collect(folder: &Path, files: &mut Vec<PathBuf>) {
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                collect(&path, files);
            } else {
                files.push(path);
            }
        }
    }

    /// Each name in the sources, with the files that have it.
    fn named() -> BTreeMap<String, Vec<PathBuf>> {
        let mut files = Vec::new();
        for folder in ["benches", "examples", "pipelines", "src", "tests", "tools"] {
            collect(&shell::root().join(folder), &mut files);
        }
        let mut found = BTreeMap::<String, Vec<PathBuf>>::new();
        for file in files {
            let Some(language) = Language::of(&file.to_string_lossy()) else {
                continue;
            };
            // Its tests name elements that nobody runs.
            if file.ends_with("xtask/src/named.rs") {
                continue;
            }
            let text = fs::read_to_string(&file).unwrap();
            let mut names = named::factories(language, &text);
            names.remove(OURS);
            if language == Language::Python {
                names.extend(named::modules(&text));
            }
            for name in names {
                if !file.with_file_name(format!("{name}.py")).is_file() {
                    found.entry(name).or_default().push(file.clone());
                }
            }
        }
        found
    }

    /// The name of a module, of `cv2=opencv-python-headless`.
    fn module(name: &str) -> &str {
        name.split('=').next().unwrap()
    }

    #[test]
    fn every_element_and_module_that_is_named_has_a_need_whose_package_holds_it() {
        let lines = lines(LIST).unwrap();
        let needs = setup::packages(Level::Test);
        for (name, files) in named() {
            let line = lines
                .iter()
                .find(|line| line.names.iter().any(|n| module(n) == name));
            let line = line.unwrap_or_else(|| {
                panic!("`{name}` is not in tools/xtask/packages.txt; it is named by {files:?}")
            });
            if let Source::Debian { need, .. } = line.source {
                assert!(
                    needs.contains(&need),
                    "nothing in setup.rs installs {need}, which `{name}` is in; named by {files:?}"
                );
            }
        }
    }

    #[test]
    fn the_demo_needs_no_more_than_its_level_installs() {
        let needs = setup::packages(Level::Demo);
        let lines = lines(LIST).unwrap();
        for (name, files) in named() {
            if !files
                .iter()
                .any(|file| file.to_string_lossy().contains("tools/demo/src"))
            {
                continue;
            }
            let line = lines
                .iter()
                .find(|line| line.names.contains(&name.as_str()));
            let Some(Source::Debian { need, .. }) = line.map(|line| line.source) else {
                panic!("`{name}` is no element of a Debian package");
            };
            assert!(needs.contains(&need), "`{name}` is in {need}");
        }
    }

    #[test]
    fn modules_from_pypi_are_installed_by_the_file_that_is_said_to() {
        for line in lines(LIST).unwrap() {
            let Source::Pip { file } = line.source else {
                continue;
            };
            let text = fs::read_to_string(shell::root().join(file)).unwrap();
            for name in line.names {
                let package = name.rsplit('=').next().unwrap();
                assert!(text.contains(package), "{file} does not install {package}");
            }
        }
    }

    #[test]
    fn a_line_that_cannot_be_read_is_refused() {
        assert!(lines("gstreamer1.0-x textoverlay").is_err());
        assert!(lines("gstreamer1.0-x since 1.24: textoverlay").is_err());
        assert_eq!(version("1.26.2\n"), Some((1, 26)));
    }
}
