// SPDX-License-Identifier: MPL-2.0

//! Other programs: where this project is, what runs and what it says.

use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// The root of the repository, where every command runs.
pub fn root() -> PathBuf {
    // The manifest is `<root>/tools/xtask/Cargo.toml`; a checkout that was moved after the build
    // is found by where the user stands.
    let built_in = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    built_in
        .canonicalize()
        .or_else(|_| std::env::current_dir())
        .unwrap_or(built_in)
}

/// Cargo's output folder: the one that this program runs from.
pub fn target() -> PathBuf {
    std::env::current_exe()
        .ok()
        .and_then(|exe| Some(exe.parent()?.parent()?.to_owned()))
        .filter(|dir| dir.is_dir())
        .unwrap_or_else(|| root().join("target"))
}

/// The user's folder for what can be made again: `XDG_CACHE_HOME` where that is absolute, as its
/// specification says, else `~/.cache`. `None` for a user without a home.
pub fn cache() -> Option<PathBuf> {
    let absolute = |name| {
        let folder = PathBuf::from(std::env::var_os(name)?);
        folder.is_absolute().then_some(folder)
    };
    absolute("XDG_CACHE_HOME").or_else(|| Some(absolute("HOME")?.join(".cache")))
}

/// A program to be run in the root of the repository.
pub fn program(name: impl AsRef<std::ffi::OsStr>) -> Command {
    let mut command = Command::new(name);
    command.current_dir(root());
    command
}

/// The cargo that started this program.
pub fn cargo() -> Command {
    program(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()))
}

/// `cargo test` of the files of tests with these names (or patterns). In the selection of the whole run:
/// with another one cargo chooses other features of some dependencies, and compiles the plugin again.
pub fn tests<'a>(names: impl IntoIterator<Item = &'a str>) -> Command {
    let mut command = cargo();
    command.args(["test", "--workspace", "--locked"]);
    command.args(names.into_iter().flat_map(|name| ["--test", name]));
    command
}

/// The command as one would type it.
pub fn line(command: &Command) -> String {
    let program = Path::new(command.get_program());
    let name = match program.file_name() {
        Some(name) if program.is_absolute() => name,
        _ => program.as_os_str(),
    };
    let mut words = vec![name.to_string_lossy().into_owned()];
    for argument in command.get_args() {
        let word = argument.to_string_lossy();
        let plain = |c: char| c.is_ascii_alphanumeric() || "-_=./:+,@".contains(c);
        if !word.is_empty() && word.chars().all(plain) {
            words.push(word.into_owned());
        } else {
            words.push(format!("'{word}'"));
        }
    }
    words.join(" ")
}

/// Prints the command, runs it and lets it print.
///
/// # Errors
/// A sentence if it cannot start or does not end well.
pub fn run(command: &mut Command) -> Result<(), String> {
    println!("$ {}", line(command));
    let status = command
        .status()
        .map_err(|error| format!("{} does not start: {error}", line(command)))?;
    if status.success() {
        Ok(())
    } else {
        Err(format!("`{}` ended with {status}", line(command)))
    }
}

/// Like [`run`], and shows every line of its standard output to `see` as it comes.
///
/// # Errors
/// A sentence if it cannot start or does not end well.
pub fn run_watched(command: &mut Command, mut see: impl FnMut(&str)) -> Result<(), String> {
    println!("$ {}", line(command));
    let mut child = command
        .stdout(Stdio::piped())
        .spawn()
        .map_err(|error| format!("{} does not start: {error}", line(command)))?;
    if let Some(output) = child.stdout.take() {
        for text in BufReader::new(output).split(b'\n').map_while(Result::ok) {
            let text = String::from_utf8_lossy(&text);
            println!("{text}");
            see(&text);
        }
    }
    let status = child
        .wait()
        .map_err(|error| format!("{}: {error}", line(command)))?;
    if status.success() {
        Ok(())
    } else {
        Err(format!("`{}` ended with {status}", line(command)))
    }
}

/// Whether the command starts and ends well; prints nothing.
pub fn succeeds(command: &mut Command) -> bool {
    command
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status()
        .is_ok_and(|status| status.success())
}

/// What the command prints on its standard output.
///
/// # Errors
/// A sentence if it cannot start or does not end well.
pub fn output_of(command: &mut Command) -> Result<String, String> {
    let output = command
        .stderr(Stdio::inherit())
        .output()
        .map_err(|error| format!("{} does not start: {error}", line(command)))?;
    if output.status.success() {
        Ok(String::from_utf8_lossy(&output.stdout).into_owned())
    } else {
        Err(format!("`{}` ended with {}", line(command), output.status))
    }
}

/// Whether a program of this name is on the search path.
pub fn on_path(name: &str) -> bool {
    std::env::var_os("PATH")
        .is_some_and(|path| std::env::split_paths(&path).any(|dir| dir.join(name).is_file()))
}

/// Whether nobody is there to answer a question.
pub fn unattended() -> bool {
    std::env::var_os("CI").is_some_and(|value| !value.is_empty() && value != "false")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_command_is_shown_as_one_would_type_it() {
        let mut command = Command::new("/usr/bin/apt-get");
        command.args(["install", "--yes", "two words"]);
        assert_eq!(line(&command), "apt-get install --yes 'two words'");
    }

    #[test]
    fn the_root_holds_the_workspace() {
        assert!(root().join("tools/xtask/Cargo.toml").is_file());
    }
}
