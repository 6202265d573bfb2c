// SPDX-License-Identifier: MPL-2.0

//! Rust and C agree on sizes, alignments, offsets and values, and `bindings.rs` on `wrapper.h`.
//!
//! The layouts that `bindings.rs` states are checked by the C compiler: against `wrapper.h`, and
//! against the vendor's own headers where `VLMCAPTION_SOPHON_INCLUDE` names their folder.

use std::env;
use std::path::Path;

use binding_checks::{
    assertions, bound_functions, compile, declared_functions, fields_of_few_values,
};

const HOME: &str = env!("CARGO_MANIFEST_DIR");
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
    wrapped(&checks).unwrap();
}

#[test]
fn every_byte_is_a_value_of_every_field() {
    let (n, bad) = fields_of_few_values(BINDINGS);
    assert!(n > 50, "only {n}");
    assert!(bad.is_empty(), "{bad:?}");
}

#[test]
fn every_function_of_the_wrapper_is_bound_and_no_other() {
    let declared = declared_functions(include_str!("../wrapper.h"), &["bm", "libbm"]);
    assert!(declared.len() > 30);
    assert_eq!(declared, bound_functions(BINDINGS));
}

#[test]
fn a_wrong_number_is_noticed() {
    let checks = checks(&[]).replace(
        "sizeof(struct bm_tensor_s) == 72",
        "sizeof(struct bm_tensor_s) == 80",
    );
    let complaint = wrapped(&checks).unwrap_err();
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
    compile(Path::new(HOME), &source, Some(Path::new(&folder))).unwrap();
}

#[cfg(feature = "bindgen")]
#[test]
fn the_committed_bindings_are_those_of_the_wrapper() {
    let made = concat!(env!("OUT_DIR"), "/bindings.rs");
    let committed = Path::new(HOME).join("src/bindings.rs");
    binding_checks::assert_committed(Path::new(made), &committed);
}

#[cfg(feature = "bindgen")]
#[test]
#[ignore = "needs the headers of libsophon; set VLMCAPTION_SOPHON_INCLUDE"]
fn bindings_of_the_sdk_have_the_same_layouts() {
    let made = std::fs::read_to_string(concat!(env!("OUT_DIR"), "/sdk.rs"));
    let made = made.expect("VLMCAPTION_SOPHON_INCLUDE is not set");
    binding_checks::assert_same_layouts(BINDINGS, &made, &OURS);
}

/// Every layout and constant of the bindings as a C assertion, those of `except` left out.
fn checks(except: &[&str]) -> String {
    let mut c = assertions(BINDINGS, "BM_", except);
    let mut check = |condition: &str| {
        c += &format!("_Static_assert({condition}, \"{condition}\");\n");
    };
    for (field, offset) in [("device_addr", 0), ("reserved", 8), ("dmabuf_fd", 12)] {
        check(&format!(
            "offsetof(struct bm_mem_desc, u.device.{field}) == {offset}"
        ));
    }
    check("sizeof(((struct bm_mem_desc *)0)->flags) == 4");
    for name in ["bm_data_type_t", "bm_store_mode_t", "bm_runtime_flag_t"] {
        check(&format!("sizeof({name}) == 4"));
    }
    c
}

/// Compiles checks behind our header.
fn wrapped(checks: &str) -> Result<(), String> {
    let source = format!("#include \"wrapper.h\"\n{checks}");
    compile(Path::new(HOME), &source, None)
}
