// SPDX-License-Identifier: MPL-2.0

//! `gst-inspect-1.0 vlmcaption` says everything about the element wherever it runs: without a vendor's
//! library, with those of each, and with broken ones. It opens none of them, so a driver that hangs or
//! aborts cannot make GStreamer forget the plugin.

#[path = "../axera-sys/tests/standin/build.rs"]
mod axera;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

const ROOT: &str = env!("CARGO_MANIFEST_DIR");

/// All libraries that the vendors' parts look for.
const LIBRARIES: [&str; 8] = [
    "libbmlib.so.0",
    "libbmlib.so",
    "libbmrt.so.1.0",
    "libbmrt.so",
    "libax_sys.so",
    "libax_interpreter.so",
    "libax_engine.so",
    "libaxcl_rt.so",
];

/// The plugin alone in a folder: beside it cargo has libraries that are no plugins.
fn plugin() -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    let exe = std::env::current_exe().unwrap();
    let built = exe.with_file_name("libgstvlmcaption.so");
    fs::copy(&built, folder.path().join("libgstvlmcaption.so"))
        .unwrap_or_else(|error| panic!("{}: {error}", built.display()));
    folder
}

/// What `gst-inspect-1.0` says with the vendors' libraries in `libraries`, by a GStreamer that has not
/// seen the plugin before.
fn inspect(plugin: &Path, libraries: Option<&Path>) -> String {
    let registry = tempfile::tempdir().unwrap();
    let mut command = Command::new("gst-inspect-1.0");
    command
        .args(["--no-colors", "vlmcaption"])
        .env("GST_PLUGIN_PATH", plugin)
        .env("GST_REGISTRY", registry.path().join("registry.bin"));
    for variable in [
        "LD_LIBRARY_PATH",
        "VLMCAPTION_SOPHON_LIB",
        "VLMCAPTION_AXERA_LIB",
    ] {
        match libraries {
            Some(folder) => command.env(variable, folder),
            None => command.env_remove(variable),
        };
    }
    let output = command.output().unwrap();
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success() && errors.is_empty(), "{errors}");
    String::from_utf8(output.stdout).unwrap()
}

/// Compiles a C file into libraries of these names.
fn compile(source: &Path, options: &[&str], names: &[&str], folder: &Path) {
    for name in names {
        let done = Command::new(std::env::var_os("CC").unwrap_or_else(|| "cc".into()))
            .args(["-std=c11", "-shared", "-fPIC"])
            .args(options)
            .arg(source)
            .arg("-o")
            .arg(folder.join(name))
            .status();
        assert!(done.unwrap().success(), "{name} does not compile");
    }
}

#[track_caller]
fn says_the_same_with(prepare: impl FnOnce(&Path)) {
    let plugin = plugin();
    let libraries = tempfile::tempdir().unwrap();
    prepare(libraries.path());
    let without = inspect(plugin.path(), None);
    assert_eq!(inspect(plugin.path(), Some(libraries.path())), without);
}

#[test]
fn without_any_library_every_documented_property_is_listed() {
    let said = inspect(plugin().path(), None);
    let cache = fs::read(format!("{ROOT}/docs/plugins/gst_plugins_cache.json")).unwrap();
    let cache: serde_json::Value = serde_json::from_slice(&cache).unwrap();
    let element = &cache["vlmcaption"]["elements"]["vlmcaption"];
    let documented = element["properties"].as_object().unwrap();
    assert!(documented.len() > 20, "{} properties", documented.len());
    for name in documented.keys() {
        // A long name leaves no blank before the colon.
        let listed = [' ', ':'].map(|end| format!("\n  {name}{end}"));
        assert!(
            listed.iter().any(|line| said.contains(line)),
            "no {name} in:\n{said}"
        );
    }
    for pad in ["'sink'", "'src'", "'text_src'"] {
        assert!(said.contains(pad), "no {pad}");
    }
}

#[test]
fn sophgos_libraries_change_nothing() {
    says_the_same_with(|folder| {
        let fake = PathBuf::from(format!("{ROOT}/tests/refusals/fake.c"));
        let include = format!("-I{ROOT}/sophgo-sys");
        compile(&fake, &[&include], &LIBRARIES[..4], folder);
    });
}

#[test]
fn axeras_libraries_change_nothing() {
    says_the_same_with(|folder| {
        axera::build_soc(folder, "inspect", &[]);
        axera::build_card(folder, "inspect", &[]);
    });
}

#[test]
fn files_that_are_no_libraries_change_nothing() {
    says_the_same_with(|folder| {
        for name in LIBRARIES {
            fs::write(folder.join(name), "\x7fELF, and then no more").unwrap();
        }
    });
}

#[test]
fn libraries_that_abort_whoever_opens_them_change_nothing() {
    says_the_same_with(|folder| {
        let source = folder.join("aborts.c");
        let text =
            "#include <stdlib.h>\n__attribute__((constructor)) static void f(void) { abort(); }\n";
        fs::write(&source, text).unwrap();
        compile(&source, &[], &LIBRARIES, folder);
        let mut opens = Command::new("true");
        opens.env("LD_PRELOAD", folder.join(LIBRARIES[0]));
        assert!(!opens.status().unwrap().success(), "it aborts nobody");
    });
}
