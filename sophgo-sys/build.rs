// SPDX-License-Identifier: MPL-2.0

//! Nothing by default: `src/bindings.rs` is committed, and nothing is looked for.
//!
//! With the feature `bindgen`, bindings are made into cargo's output folder, for `tests/layout.rs` to
//! compare: `bindings.rs` from `wrapper.h`, and `sdk.rs` from the headers of an SDK if
//! `VLMCAPTION_SOPHON_INCLUDE` names their folder. What is compiled is the committed file all the
//! same.

fn main() {
    println!("cargo::rerun-if-changed=build.rs");
    #[cfg(feature = "bindgen")]
    vendor_library::bindings::Bindings {
        header: "wrapper.h",
        allow: "(lib)?bm.*",
        allow_var: Some("BM_.*"),
        names: "non_camel_case_types",
        include: "VLMCAPTION_SOPHON_INCLUDE",
        sdk_headers: &["stdbool.h", "bmruntime_interface.h"],
        ours: "bindings.rs",
        theirs: "sdk.rs",
    }
    .make();
}
