// SPDX-License-Identifier: MPL-2.0

//! The C compiler.

use std::ffi::OsStr;
use std::path::Path;
use std::process::Command;

/// Runs the C compiler (`CC`, else `cc`) in this crate's folder; its complaints if there are any.
pub fn cc<I, S>(arguments: I) -> Result<(), String>
where
    I: IntoIterator<Item = S>,
    S: AsRef<OsStr>,
{
    let compiler = std::env::var_os("CC").unwrap_or_else(|| "cc".into());
    let done = Command::new(&compiler)
        .current_dir(Path::new(env!("CARGO_MANIFEST_DIR")))
        .args(["-std=c11", "-Wall", "-Werror"])
        .args(arguments)
        .output()
        .unwrap_or_else(|error| panic!("{}: {error}", Path::new(&compiler).display()));
    if done.status.success() {
        Ok(())
    } else {
        Err(String::from_utf8_lossy(&done.stderr).into_owned())
    }
}
