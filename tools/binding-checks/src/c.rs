// SPDX-License-Identifier: MPL-2.0

//! The C compiler, and what is asserted with it.

use std::env;
use std::ffi::OsStr;
use std::fmt::Write as _;
use std::fs;
use std::path::Path;
use std::process::Command;

use crate::read::{Layout, constants, layouts};

/// Every layout of bindings, and every constant whose name begins with `prefix`, as a C assertion;
/// those of the structures `except` are left out.
pub fn assertions(bindings: &str, prefix: &str, except: &[&str]) -> String {
    let mut c = String::from("#include <stddef.h>\n");
    let mut check = |condition: String| {
        writeln!(c, "_Static_assert({condition}, \"{condition}\");").expect("text");
    };
    for (layout, bytes) in layouts(bindings) {
        if except.contains(&layout.structure()) {
            continue;
        }
        check(match layout {
            Layout::Size(name) => format!("sizeof(struct {name}) == {bytes}"),
            Layout::Alignment(name) => format!("_Alignof(struct {name}) == {bytes}"),
            Layout::Offset { of, field } => format!("offsetof(struct {of}, {field}) == {bytes}"),
        });
    }
    for [name, kind, value] in constants(bindings, prefix) {
        check(format!("{name} == {value}"));
        // `_e` is the tag of an enum, which has a typedef beside it.
        if kind != "u32" && !kind.ends_with("_e") {
            check(format!("sizeof({kind}) == 4"));
        }
    }
    c
}

/// Compiles a source that includes headers of the folder `home`; the complaints if there are any.
/// Headers of `vendor`'s folder are not held to our warnings.
///
/// # Errors
/// What the compiler says.
pub fn compile(home: &Path, source: &str, vendor: Option<&Path>) -> Result<(), String> {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let file = folder.path().join("layout.c");
    fs::write(&file, source).expect("a file in it");
    let mut arguments = vec!["-fsyntax-only".into(), "-I.".into(), file.into_os_string()];
    if let Some(vendor) = vendor {
        arguments.extend(["-isystem".into(), vendor.as_os_str().to_owned()]);
    }
    cc(home, arguments)
}

/// Runs the C compiler (`CC`, else `cc`) in the folder `home`.
///
/// # Errors
/// What the compiler says.
pub fn cc<I, S>(home: &Path, arguments: I) -> Result<(), String>
where
    I: IntoIterator<Item = S>,
    S: AsRef<OsStr>,
{
    let compiler = env::var_os("CC").unwrap_or_else(|| "cc".into());
    let done = Command::new(&compiler)
        .current_dir(home)
        .args(["-std=c11", "-Wall", "-Werror"])
        .args(arguments)
        .output()
        .unwrap_or_else(|error| panic!("{}: {error}", Path::new(&compiler).display()));
    match done.status.success() {
        true => Ok(()),
        false => Err(String::from_utf8_lossy(&done.stderr).into_owned()),
    }
}
