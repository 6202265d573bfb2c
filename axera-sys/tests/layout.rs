// SPDX-License-Identifier: MPL-2.0

//! Rust and C agree on sizes, alignments, offsets and values, and the bindings on `soc.h` and
//! `card.h`.
//!
//! The layouts that the bindings state are checked by the C compiler: against our headers, and
//! against the vendor's own where `VLMCAPTION_AXERA_INCLUDE` (board) or `VLMCAPTION_AXCL_INCLUDE`
//! (card) names their folder.

use std::env;
use std::fmt::Write as _;
use std::path::Path;

use binding_checks::{
    assertions, bound_functions, compile, declared_functions, fields_of_few_values,
};

const HOME: &str = env!("CARGO_MANIFEST_DIR");
const SOC: &str = include_str!("../src/bindings/soc.rs");
const CARD: &str = include_str!("../src/bindings/card.rs");

/// Sizes and offsets that were measured on the vendor's headers, as a table of its own: a mistake in
/// our header would otherwise be in the bindings, too.
const MEASURED: [&str; 30] = [
    "sizeof(AX_ENGINE_IOMETA_T) == 128",
    "offsetof(AX_ENGINE_IOMETA_T, nShapeSize) == 16",
    "offsetof(AX_ENGINE_IOMETA_T, eDataType) == 28",
    "offsetof(AX_ENGINE_IOMETA_T, nSize) == 40",
    "offsetof(AX_ENGINE_IOMETA_T, pStride) == 48",
    "sizeof(AX_ENGINE_IO_INFO_T) == 128",
    "offsetof(AX_ENGINE_IO_INFO_T, pOutputs) == 16",
    "offsetof(AX_ENGINE_IO_INFO_T, nMaxBatchSize) == 28",
    "offsetof(AX_ENGINE_IO_INFO_T, u64Reserved) == 40",
    "sizeof(AX_ENGINE_IO_BUFFER_T) == 128",
    "offsetof(AX_ENGINE_IO_BUFFER_T, nSize) == 16",
    "offsetof(AX_ENGINE_IO_BUFFER_T, pStride) == 24",
    "offsetof(AX_ENGINE_IO_BUFFER_T, nStrideSize) == 32",
    "offsetof(AX_ENGINE_IO_BUFFER_T, u64Reserved) == 40",
    "sizeof(AX_ENGINE_IO_T) == 128",
    "offsetof(AX_ENGINE_IO_T, nBatchSize) == 28",
    "offsetof(AX_ENGINE_IO_T, pIoSetting) == 32",
    "offsetof(AX_ENGINE_IO_T, nParallelRun) == 40",
    "offsetof(AX_ENGINE_IO_T, u64Reserved) == 48",
    "sizeof(AX_ENGINE_NPU_ATTR_T) == 36",
    "sizeof(AX_ENGINE_HANDLE_EXTRA_T) == 48",
    "offsetof(AX_ENGINE_HANDLE_EXTRA_T, pName) == 8",
    "sizeof(AX_ENGINE_CMM_INFO) == 4",
    "sizeof(AX_PARTITION_INFO_T) == 48",
    "offsetof(AX_PARTITION_INFO_T, Name) == 12",
    "sizeof(AX_CMM_PARTITION_INFO_T) == 776",
    "sizeof(AX_CMM_STATUS_T) == 792",
    "offsetof(AX_CMM_STATUS_T, Partition) == 16",
    "AX_ENGINE_DT_BFLOAT16 == 9",
    "AX_ENGINE_DT_FLOAT32 == 3",
];

const MEASURED_CARD: [&str; 10] = [
    "sizeof(axclrtDeviceList) == 1028",
    "sizeof(axclrtDeviceProperties) == 240",
    "offsetof(axclrtDeviceProperties, uid) == 64",
    "offsetof(axclrtDeviceProperties, temperature) == 84",
    "offsetof(axclrtDeviceProperties, freeCmmSize) == 100",
    "offsetof(axclrtDeviceProperties, npuLoading) == 108",
    "offsetof(axclrtDeviceProperties, reserved) == 112",
    "sizeof(axclrtEngineIODims) == 132",
    "AXCL_DATA_TYPE_BF16 == 14",
    "AXCL_DATA_TYPE_FP32 == 15",
];

#[test]
fn the_c_compiler_sees_the_layouts_that_rust_sees() {
    for (header, bindings, least) in [("soc.h", SOC, 60), ("card.h", CARD, 40)] {
        let checks = assertions(bindings, "AX", &[]);
        let n = checks.lines().count();
        assert!(n > least, "only {n} were found in {header}:\n{checks}");
        with(header, &checks).unwrap();
    }
}

#[test]
fn sizes_and_offsets_are_those_measured_on_the_vendors_headers() {
    for (header, measured) in [("soc.h", &MEASURED[..]), ("card.h", &MEASURED_CARD[..])] {
        let mut checks = String::from("#include <stddef.h>\n");
        for condition in measured {
            writeln!(checks, "_Static_assert({condition}, \"{condition}\");").unwrap();
        }
        with(header, &checks).unwrap();
    }
}

#[test]
fn every_function_of_the_headers_is_bound_and_no_other() {
    for (header, bindings, prefix) in [
        (include_str!("../soc.h"), SOC, "AX_"),
        (include_str!("../card.h"), CARD, "axcl"),
    ] {
        let declared = declared_functions(header, &[prefix]);
        assert!(declared.len() > 20);
        assert_eq!(declared, bound_functions(bindings));
    }
}

#[test]
fn every_byte_is_a_value_of_every_field() {
    for bindings in [SOC, CARD] {
        let (n, bad) = fields_of_few_values(bindings);
        assert!(n > 20, "only {n}");
        assert!(bad.is_empty(), "{bad:?}");
    }
}

#[test]
fn a_wrong_number_is_noticed() {
    let checks = assertions(SOC, "AX", &[]).replace(
        "sizeof(struct AX_ENGINE_IO_T) == 128",
        "sizeof(struct AX_ENGINE_IO_T) == 136",
    );
    let complaint = with("soc.h", &checks).unwrap_err();
    assert!(complaint.contains("AX_ENGINE_IO_T"), "{complaint}");
}

#[test]
#[ignore = "needs the headers of the board's SDK; set VLMCAPTION_AXERA_INCLUDE"]
fn the_headers_of_the_sdk_agree() {
    vendor(
        "VLMCAPTION_AXERA_INCLUDE",
        "soc.h",
        &MEASURED,
        &["ax_sys_api.h", "ax_engine_api.h"],
    );
}

#[test]
#[ignore = "needs the headers of axclhost; set VLMCAPTION_AXCL_INCLUDE"]
fn the_headers_of_the_card_agree() {
    vendor(
        "VLMCAPTION_AXCL_INCLUDE",
        "card.h",
        &MEASURED_CARD,
        &["axcl.h"],
    );
}

/// The prototypes of ours after the vendor's headers, and the measured numbers; those of enumerators
/// that older headers lack are left out.
fn vendor(variable: &str, ours: &str, measured: &[&str], headers: &[&str]) {
    let folder = env::var_os(variable).unwrap_or_else(|| panic!("{variable} is not set"));
    let mut source = String::from("#include <stddef.h>\n");
    for header in headers {
        writeln!(source, "#include <{header}>").unwrap();
    }
    writeln!(source, "#define VLMCAPTION_SDK_TYPES\n#include \"{ours}\"").unwrap();
    for condition in measured.iter().filter(|c| c.contains('(')) {
        writeln!(source, "_Static_assert({condition}, \"{condition}\");").unwrap();
    }
    compile(Path::new(HOME), &source, Some(Path::new(&folder))).unwrap();
}

#[cfg(feature = "bindgen")]
#[test]
fn the_committed_bindings_are_those_of_the_headers() {
    for name in ["soc", "card"] {
        let made = Path::new(env!("OUT_DIR")).join(format!("{name}.rs"));
        let committed = Path::new(HOME).join(format!("src/bindings/{name}.rs"));
        binding_checks::assert_committed(&made, &committed);
    }
}

#[cfg(feature = "bindgen")]
#[test]
#[ignore = "needs the vendor's headers; set VLMCAPTION_AXERA_INCLUDE, VLMCAPTION_AXCL_INCLUDE or both"]
fn bindings_of_the_sdks_have_the_same_layouts() {
    let mut n = 0;
    for (name, committed) in [("soc", SOC), ("card", CARD)] {
        let made = Path::new(env!("OUT_DIR")).join(format!("sdk_{name}.rs"));
        if let Ok(made) = std::fs::read_to_string(made) {
            binding_checks::assert_same_layouts(committed, &made, &[]);
            n += 1;
        }
    }
    assert!(n > 0, "neither variable is set");
}

/// Compiles checks behind one of our headers.
fn with(header: &str, checks: &str) -> Result<(), String> {
    let source = format!("#include \"{header}\"\n{checks}");
    compile(Path::new(HOME), &source, None)
}
