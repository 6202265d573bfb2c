// SPDX-License-Identifier: MPL-2.0

//! The rule of programs beside the plugin: they use it as any application does, through GStreamer.
//! Neither depends on the other, so a program's dependencies are never the plugin's.

use std::path::Path;

use crate::Outcome;

/// Programs beside the plugin: their folders and packages.
const PROGRAMS: &[(&str, &str)] = &[("watch", "vlmcaption-watch")];

/// What of the plugin a program may not depend on: it, and all that it is made of.
const PLUGIN: &[&str] = &[
    "axera-sys",
    "gst-plugin-vlmcaption",
    "openai-client",
    "sophgo-sys",
    "vendor-library",
    "vlmcaption-backend",
];

/// The folders of the plugin's crates.
const PLUGIN_FOLDERS: &[&str] = &[
    ".",
    "axera-sys",
    "backend",
    "openai-client",
    "sophgo-sys",
    "vendor-library",
];

/// Checks the manifests of both sides.
///
/// # Errors
/// Each dependency that must not be there.
pub fn check(root: &Path) -> Outcome {
    let mut found = Vec::new();
    let mut look = |folder: &str, forbidden: &[&str]| -> Outcome {
        let path = root.join(folder).join("Cargo.toml");
        let text = std::fs::read_to_string(&path)
            .map_err(|error| format!("{}: {error}", path.display()))?;
        for name in depended_on(&text, forbidden) {
            found.push(format!("{} depends on {name}", path.display()));
        }
        Ok(())
    };
    for (folder, _) in PROGRAMS {
        look(folder, PLUGIN)?;
    }
    let programs: Vec<&str> = PROGRAMS.iter().map(|(_, package)| *package).collect();
    for folder in PLUGIN_FOLDERS {
        look(folder, &programs)?;
    }
    if found.is_empty() {
        println!("The plugin and {} stand apart.", programs.join(", "));
        Ok(())
    } else {
        Err(found.join("\n"))
    }
}

/// Which of these packages a manifest depends on, under their own names or others.
fn depended_on<'a>(manifest: &str, packages: &[&'a str]) -> Vec<&'a str> {
    let mut inside = false;
    let mut found = Vec::new();
    for line in manifest.lines().map(str::trim) {
        if let Some(section) = line.strip_prefix('[') {
            inside = section.contains("dependencies") && !section.starts_with("workspace");
        }
        let names = |package: &&&str| {
            let quoted = format!("package = \"{package}\"");
            let key = line.split(['=', '.', ' ']).next().unwrap_or_default();
            let section = format!("dependencies.{package}]");
            key == **package || line.contains(&quoted) || line.ends_with(&section)
        };
        if inside {
            found.extend(packages.iter().filter(names).copied());
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_dependency_is_found_however_it_is_written() {
        for manifest in [
            "[dependencies]\nvlmcaption-watch = { path = \"watch\" }",
            "[dev-dependencies]\nvlmcaption-watch.workspace = true",
            "[target.'cfg(unix)'.dependencies]\nwatch = { package = \"vlmcaption-watch\" }",
            "[dependencies.vlmcaption-watch]\npath = \"watch\"",
        ] {
            let found = depended_on(manifest, &["vlmcaption-watch"]);
            assert_eq!(found, ["vlmcaption-watch"], "{manifest}");
        }
    }

    #[test]
    fn a_name_elsewhere_is_no_dependency() {
        let manifest = "[package]\nname = \"vlmcaption-watch\"\n[dependencies]\nserde = \"1\"\n\
                        [workspace.dependencies]\nvlmcaption-watch = { path = \"watch\" }";
        assert!(depended_on(manifest, &["vlmcaption-watch"]).is_empty());
    }

    #[test]
    fn the_workspace_keeps_the_rule() {
        check(&crate::shell::root()).unwrap();
    }
}
