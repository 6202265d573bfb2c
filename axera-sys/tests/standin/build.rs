// SPDX-License-Identifier: MPL-2.0

//! Builds the stand-ins; included by the tests that use them.

use std::path::{Path, PathBuf};
use std::process::Command;

/// Where the stand-ins' sources are.
fn sources() -> PathBuf {
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    let inside = here.join("tests/standin");
    match inside.join("net.c").is_file() {
        true => inside,
        false => here.join("axera-sys/tests/standin"),
    }
}

fn cc(out: &Path, soname: &str, arguments: &[&str]) {
    let compiler = std::env::var_os("CC").unwrap_or_else(|| "cc".into());
    let sources = sources();
    let mut command = Command::new(&compiler);
    command
        .args(["-std=c11", "-Wall", "-Wextra", "-Werror", "-O2", "-shared"])
        .args(["-fPIC", "-pthread", "-x", "c", "-I../.."])
        .arg("-I.")
        .arg(format!("-Wl,-soname,{soname}"))
        .current_dir(&sources)
        .env_remove("LD_PRELOAD")
        .args(arguments)
        .arg("-o")
        .arg(out)
        .arg("-lm");
    // What `tests/axera/sanitize.sh` asks for.
    if let Some(flags) = std::env::var_os("STANDIN_CFLAGS") {
        let flags = flags.into_string().expect("flags in UTF-8");
        command.args(flags.split_whitespace());
    }
    let done = command.output().expect("a C compiler");
    let complaint = String::from_utf8_lossy(&done.stderr);
    assert!(done.status.success(), "{complaint}");
}

/// Builds a board's three libraries into a folder. The loader opens a name only once in a process:
/// `tag` goes into theirs.
pub fn build_soc(folder: &Path, tag: &str, defines: &[&str]) {
    let sys = folder.join("libax_sys.so");
    let empty = folder.join("libax_interpreter.so");
    let mut arguments = vec!["net.c", "soc.c"];
    arguments.extend(defines);
    cc(&sys, &format!("{tag}-sys.so"), &arguments);
    cc(&empty, &format!("{tag}-interpreter.so"), &["/dev/null"]);
    let name = sys.display().to_string();
    let link = ["/dev/null", "-x", "none", "-Wl,--no-as-needed", &name];
    cc(
        &folder.join("libax_engine.so"),
        &format!("{tag}-engine.so"),
        &link,
    );
}

/// Builds a card's library into a folder.
pub fn build_card(folder: &Path, tag: &str, defines: &[&str]) {
    let mut arguments = vec!["net.c", "card.c"];
    arguments.extend(defines);
    cc(
        &folder.join("libaxcl_rt.so"),
        &format!("{tag}-axcl.so"),
        &arguments,
    );
}
