// SPDX-License-Identifier: MPL-2.0

//! Nothing by default: the files of `src/bindings` are committed, and nothing is looked for.
//!
//! With the feature `bindgen`, bindings are made into cargo's output folder, for `tests/layout.rs` to
//! compare: `soc.rs` and `card.rs` from our headers, and `sdk_soc.rs` and `sdk_card.rs` from those of
//! the vendor where `VLMCAPTION_AXERA_INCLUDE` (board) or `VLMCAPTION_AXCL_INCLUDE` (card) names
//! their folder. What is compiled are the committed files all the same.

fn main() {
    println!("cargo::rerun-if-changed=build.rs");
    #[cfg(feature = "bindgen")]
    for api in APIS {
        api.make();
    }
}

#[cfg(feature = "bindgen")]
const APIS: [vendor_library::bindings::Bindings<'_>; 2] = {
    use vendor_library::bindings::Bindings;
    let soc = Bindings {
        header: "soc.h",
        allow: "AX_.*",
        allow_var: None,
        names: "non_camel_case_types, non_snake_case",
        include: "VLMCAPTION_AXERA_INCLUDE",
        sdk_headers: &["ax_sys_api.h", "ax_engine_api.h"],
        ours: "soc.rs",
        theirs: "sdk_soc.rs",
    };
    let card = Bindings {
        header: "card.h",
        allow: "axcl.*",
        include: "VLMCAPTION_AXCL_INCLUDE",
        sdk_headers: &["axcl.h"],
        ours: "card.rs",
        theirs: "sdk_card.rs",
        ..soc
    };
    [soc, card]
};
