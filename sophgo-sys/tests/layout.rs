// SPDX-License-Identifier: MPL-2.0

//! Rust and C agree on sizes, alignments, offsets and values, and `bindings.rs` on `wrapper.h`.
//!
//! `bindings.rs` states every layout as a constant that the Rust compiler checks. The same numbers,
//! taken from its text, are checked here by the C compiler: against `wrapper.h`, and against the
//! vendor's own headers where `VLMCAPTION_SOPHON_INCLUDE` names their folder.

mod common;

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::path::Path;
use std::process::Command;
use std::{env, fs};

use common::cc;

const BINDINGS: &str = include_str!("../src/bindings.rs");

/// Types that the vendor has without a name; the offsets of what is in them are checked from the
/// type around.
const OURS: [&str; 3] = ["bm_mem_device", "bm_mem_place", "bm_mem_flags"];

#[test]
fn the_c_compiler_sees_the_layouts_that_rust_sees() {
    let checks = checks(&[]);
    assert!(
        checks.lines().count() > 100,
        "only these were found:\n{checks}"
    );
    compile(&format!("#include \"wrapper.h\"\n{checks}"), None).unwrap();
}

/// What a library leaves in memory is any bytes: a `bool`, a `char`, an `enum` or a reference of Rust
/// may not hold them.
#[test]
fn every_byte_is_a_value_of_every_field() {
    let fields: Vec<&str> = BINDINGS
        .lines()
        .filter(|line| line.starts_with("    pub ") && !line.contains('('))
        .filter_map(|line| Some(line.split_once(": ")?.1.trim_end_matches(',')))
        .collect();
    assert!(fields.len() > 50, "only {fields:?}");
    for field in fields {
        let words = field.split(|c: char| !c.is_alphanumeric() && c != '_');
        let bad = words
            .into_iter()
            .any(|word| ["bool", "char", "NonNull"].contains(&word));
        assert!(!bad && !field.contains('&'), "a field is {field}");
    }
    assert!(!BINDINGS.contains("pub enum "));
}

#[test]
fn every_function_of_the_wrapper_is_bound_and_no_other() {
    let wrapper = include_str!("../wrapper.h");
    let (_, prototypes) = wrapper
        .split_once("#endif /* VLMCAPTION_SDK_TYPES */")
        .unwrap();
    let declared: BTreeSet<&str> = prototypes
        .match_indices('(')
        .filter_map(|(at, _)| prototypes[..at].rsplit([' ', '*']).next())
        .filter(|name| name.starts_with("bm") || name.starts_with("libbm"))
        .collect();
    let bound: BTreeSet<&str> = BINDINGS
        .split("get(b\"")
        .skip(1)
        .filter_map(|rest| rest.split('\\').next())
        .collect();
    assert!(declared.len() > 30);
    assert_eq!(declared, bound);
}

#[test]
fn a_wrong_number_is_noticed() {
    let checks = checks(&[]).replace(
        "sizeof(struct bm_tensor_s) == 72",
        "sizeof(struct bm_tensor_s) == 80",
    );
    let complaint = compile(&format!("#include \"wrapper.h\"\n{checks}"), None).unwrap_err();
    assert!(complaint.contains("bm_tensor_s"), "{complaint}");
}

#[test]
#[ignore = "needs the headers of libsophon; set VLMCAPTION_SOPHON_INCLUDE"]
fn the_headers_of_the_sdk_agree() {
    let folder =
        env::var_os("VLMCAPTION_SOPHON_INCLUDE").expect("VLMCAPTION_SOPHON_INCLUDE is not set");
    let source = format!(
        "#include <stdbool.h>\n#include <bmruntime_interface.h>\n#define VLMCAPTION_SDK_TYPES\n\
         #include \"wrapper.h\"\n{}",
        checks(&OURS)
    );
    compile(&source, Some(Path::new(&folder))).unwrap();
}

#[test]
#[ignore = "needs bindgen-cli 0.73.2 and libclang"]
fn the_bindings_are_those_of_the_wrapper() {
    let folder = tempfile::tempdir().unwrap();
    let made = folder.path().join("bindings.rs");
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("bindgen.sh");
    let done = Command::new(script).arg(&made).status().unwrap();
    assert!(done.success());
    let made = fs::read_to_string(made).unwrap();
    let differs = made
        .lines()
        .zip(BINDINGS.lines())
        .position(|(new, old)| new != old);
    assert!(
        made == BINDINGS,
        "run bindgen.sh: line {differs:?} (from 0) differs"
    );
}

/// Every layout and constant of the bindings as a C assertion, those of `except` left out.
fn checks(except: &[&str]) -> String {
    let mut c = String::from("#include <stddef.h>\n");
    let mut check = |condition: String| {
        let quoted = condition.replace('"', "");
        writeln!(c, "_Static_assert({condition}, \"{quoted}\");").unwrap();
    };
    for statement in BINDINGS.split("[\"").skip(1) {
        let Some((what, rest)) = statement.split_once("\"]") else {
            continue;
        };
        let Some(number) = rest
            .split_once("usize]")
            .and_then(|(head, _)| head.rsplit(' ').next())
        else {
            continue;
        };
        let Some((kind, name)) = what.rsplit_once(' ') else {
            continue;
        };
        let (type_name, field) = name.split_once("::").unwrap_or((name, ""));
        if except.contains(&type_name) {
            continue;
        }
        match kind {
            "Size of" => check(format!("sizeof(struct {type_name}) == {number}")),
            "Alignment of" => check(format!("_Alignof(struct {type_name}) == {number}")),
            "Offset of field:" => {
                check(format!("offsetof(struct {type_name}, {field}) == {number}"))
            }
            other => panic!("unknown kind of layout: {other}"),
        }
    }
    for (field, offset) in [("device_addr", 0), ("reserved", 8), ("dmabuf_fd", 12)] {
        check(format!(
            "offsetof(struct bm_mem_desc, u.device.{field}) == {offset}"
        ));
    }
    check("sizeof(((struct bm_mem_desc *)0)->flags) == 4".to_owned());
    for name in [
        "bm_status_t",
        "bm_data_type_t",
        "bm_store_mode_t",
        "bm_runtime_flag_t",
    ] {
        check(format!("sizeof({name}) == 4"));
    }
    for line in BINDINGS
        .lines()
        .filter_map(|line| line.trim().strip_prefix("pub const BM_"))
    {
        let (name, rest) = line.split_once(':').unwrap();
        let number: String = rest
            .rsplit(['(', ' '])
            .next()
            .unwrap()
            .chars()
            .filter(char::is_ascii_digit)
            .collect();
        check(format!("BM_{name} == {number}"));
    }
    c
}

fn compile(source: &str, include: Option<&Path>) -> Result<(), String> {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("layout.c");
    fs::write(&file, source).unwrap();
    let mut arguments = vec!["-fsyntax-only".into(), "-I.".into(), file.into_os_string()];
    if let Some(include) = include {
        // The vendor's headers are not held to our warnings.
        arguments.extend(["-isystem".into(), include.as_os_str().to_owned()]);
    }
    cc(arguments)
}
