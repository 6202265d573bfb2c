// SPDX-License-Identifier: MPL-2.0

//! The rule of the cargo feature `openai`: without it the plugin has no network code.

use crate::{Outcome, shell};

/// Crates that open a connection or are there for what goes over one.
const NETWORK: [&str; 5] = ["jpeg-encoder", "openai-client", "ring", "rustls", "ureq"];

const PLUGIN: [&str; 3] = ["--package", "gst-plugin-vlmcaption", "--locked"];

/// Checks that the plugin builds without its features, and what of.
///
/// # Errors
/// A crate that is there for the network alone, or the compiler's.
pub fn check() -> Outcome {
    let tree = ["tree", "--edges", "normal", "--prefix", "none"];
    let tree = |more: &[&str]| {
        let command = &mut shell::cargo();
        shell::output_of(command.args(tree).args(PLUGIN).args(more))
    };
    let with = network_of(&tree(&[])?);
    if with.len() != NETWORK.len() {
        return Err(format!(
            "of {} the plugin has only {} with its features; has a crate another name now?",
            NETWORK.join(", "),
            with.join(", ")
        ));
    }
    let without = network_of(&tree(&["--no-default-features"])?);
    if !without.is_empty() {
        return Err(format!(
            "without the feature openai the plugin still has {}",
            without.join(", ")
        ));
    }
    let build = ["check", "--lib", "--no-default-features"];
    shell::run(shell::cargo().args(build).args(PLUGIN))
}

/// The crates of [`NETWORK`] that a tree of dependencies has.
fn network_of(tree: &str) -> Vec<&'static str> {
    let has = |name: &&&str| {
        tree.lines()
            .any(|line| line.split(' ').next() == Some(**name))
    };
    NETWORK.iter().filter(has).copied().collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_crate_is_known_by_its_whole_name() {
        assert_eq!(network_of("ureq v3.5.2\nserde v1.0.0 (*)\n"), ["ureq"]);
        assert!(network_of("ureq-proto v0.5.0\nstring v1.0.0\n").is_empty());
    }
}
