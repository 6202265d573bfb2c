// SPDX-License-Identifier: MPL-2.0

//! Rust and C agree on sizes, alignments, offsets and values, and the bindings on `soc.h` and
//! `card.h`.
//!
//! The bindings state every layout as a constant that the Rust compiler checks. The same numbers,
//! taken from their text, are checked here by the C compiler: against our headers, and against the
//! vendor's own where `VLMCAPTION_AXERA_INCLUDE` (board) or `VLMCAPTION_AXCL_INCLUDE` (card) names
//! their folder.

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::path::Path;
use std::process::Command;
use std::{env, fs};

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
        let checks = checks(bindings);
        let n = checks.lines().count();
        assert!(n > least, "only {n} were found in {header}:\n{checks}");
        compile(&format!("#include \"{header}\"\n{checks}"), None).unwrap();
    }
}

#[test]
fn sizes_and_offsets_are_those_measured_on_the_vendors_headers() {
    for (header, measured) in [("soc.h", &MEASURED[..]), ("card.h", &MEASURED_CARD[..])] {
        let mut source = format!("#include \"{header}\"\n#include <stddef.h>\n");
        for condition in measured {
            writeln!(source, "_Static_assert({condition}, \"{condition}\");").unwrap();
        }
        compile(&source, None).unwrap();
    }
}

#[test]
fn every_function_of_the_headers_is_bound_and_no_other() {
    for (header, bindings, prefix) in [
        (include_str!("../soc.h"), SOC, "AX_"),
        (include_str!("../card.h"), CARD, "axcl"),
    ] {
        let (_, prototypes) = header
            .split_once("#endif /* VLMCAPTION_SDK_TYPES */")
            .unwrap();
        let declared: BTreeSet<&str> = prototypes
            .match_indices('(')
            .filter_map(|(at, _)| prototypes[..at].rsplit([' ', '*']).next())
            .filter(|name| name.starts_with(prefix))
            .collect();
        let bound: BTreeSet<&str> = bindings
            .split("get(b\"")
            .skip(1)
            .filter_map(|rest| rest.split('\\').next())
            .collect();
        assert!(declared.len() > 20);
        assert_eq!(declared, bound);
    }
}

/// What a library leaves in memory is any bytes: a `bool`, a `char`, an `enum` or a reference of Rust
/// may not hold them.
#[test]
fn every_byte_is_a_value_of_every_field() {
    for bindings in [SOC, CARD] {
        let fields: Vec<&str> = bindings
            .lines()
            .filter(|line| line.starts_with("    pub ") && !line.contains('('))
            .filter_map(|line| Some(line.split_once(": ")?.1.trim_end_matches(',')))
            .collect();
        assert!(fields.len() > 20, "only {fields:?}");
        for field in fields {
            let words = field.split(|c: char| !c.is_alphanumeric() && c != '_');
            let bad = words
                .into_iter()
                .any(|word| ["bool", "char", "NonNull"].contains(&word));
            assert!(!bad && !field.contains('&'), "a field is {field}");
        }
        assert!(!bindings.contains("pub enum "));
    }
}

#[test]
fn a_wrong_number_is_noticed() {
    let checks = checks(SOC).replace(
        "sizeof(struct AX_ENGINE_IO_T) == 128",
        "sizeof(struct AX_ENGINE_IO_T) == 136",
    );
    let complaint = compile(&format!("#include \"soc.h\"\n{checks}"), None).unwrap_err();
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
    compile(&source, Some(Path::new(&folder))).unwrap();
}

#[test]
#[ignore = "needs bindgen-cli 0.73.2 and libclang"]
fn the_bindings_are_those_of_the_headers() {
    let folder = tempfile::tempdir().unwrap();
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("bindgen.sh");
    let done = Command::new(script).arg(folder.path()).status().unwrap();
    assert!(done.success());
    for (name, committed) in [("soc.rs", SOC), ("card.rs", CARD)] {
        let made = fs::read_to_string(folder.path().join(name)).unwrap();
        let differs = made
            .lines()
            .zip(committed.lines())
            .position(|(new, old)| new != old);
        assert!(
            made == committed,
            "run bindgen.sh: line {differs:?} (from 0) of {name} differs"
        );
    }
}

/// Every layout and enumerator of the bindings as a C assertion.
fn checks(bindings: &str) -> String {
    let mut c = String::from("#include <stddef.h>\n");
    let mut check = |condition: String| {
        writeln!(c, "_Static_assert({condition}, \"{condition}\");").unwrap();
    };
    for statement in bindings.split("[\"").skip(1) {
        let Some((what, rest)) = statement.split_once("\"]") else {
            continue;
        };
        let number = rest
            .split_once("usize]")
            .and_then(|(head, _)| head.rsplit(' ').next());
        let (Some(number), Some((kind, name))) = (number, what.rsplit_once(' ')) else {
            continue;
        };
        let (type_name, field) = name.split_once("::").unwrap_or((name, ""));
        match kind {
            "Size of" => check(format!("sizeof(struct {type_name}) == {number}")),
            "Alignment of" => check(format!("_Alignof(struct {type_name}) == {number}")),
            "Offset of field:" => {
                check(format!("offsetof(struct {type_name}, {field}) == {number}"));
            }
            other => panic!("unknown kind of layout: {other}"),
        }
    }
    for line in bindings.lines().map(str::trim) {
        // `pub const NAME: TYPE = TYPE(number);`, which may be broken over lines.
        let Some(rest) = line.strip_prefix("pub const AX") else {
            continue;
        };
        let (name, rest) = rest.split_once(':').unwrap();
        let (kind, _) = rest.trim().split_once(' ').unwrap();
        let value = bindings
            .split_once(&format!("pub const AX{name}:"))
            .unwrap()
            .1;
        let (_, value) = value.split_once(&format!("{kind}(")).unwrap();
        let (number, _) = value.split_once(')').unwrap();
        check(format!("AX{name} == {number}"));
        check(format!("sizeof({kind}) == 4"));
    }
    c
}

fn compile(source: &str, include: Option<&Path>) -> Result<(), String> {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("layout.c");
    fs::write(&file, source).unwrap();
    let compiler = env::var_os("CC").unwrap_or_else(|| "cc".into());
    let mut command = Command::new(compiler);
    command.current_dir(env!("CARGO_MANIFEST_DIR")).args([
        "-std=c11",
        "-Wall",
        "-Werror",
        "-fsyntax-only",
        "-I.",
    ]);
    if let Some(include) = include {
        // The vendor's headers are not held to our warnings.
        command.arg("-isystem").arg(include);
    }
    let done = command.arg(file).output().expect("a C compiler");
    match done.status.success() {
        true => Ok(()),
        false => Err(String::from_utf8_lossy(&done.stderr).into_owned()),
    }
}
