// SPDX-License-Identifier: MPL-2.0

//! `quantization_config`: what AutoAWQ, GPTQModel, transformers (FP8) and compressed-tensors write.
//!
//! All of it is unpacked while it is read, so nothing of how activations would be rounded is looked
//! at: here they are not rounded that way, or not at all.

use serde_json::Value;

use crate::backend::spec::{GptqZeros, Packing};
use crate::vlm::error::Error;
use crate::vlm::json::Section;

const KEY: &str = "quantization_config";

/// What takes the place of a checkpoint that is not read.
const INSTEAD: &str = "take the checkpoint that is not quantised (precision=int8 quantises it while it loads), or \
     one of AWQ (gemm, 4 bits), GPTQ (4 or 8 bits), FP8, or compressed-tensors of 4 or 8 bits";

/// How the matrices of a checkpoint are packed; the key is `root`'s, or that of the decoder `text`.
///
/// Which matrices those are (`modules_to_not_convert`, `ignore`) the names of the tensors say.
///
/// # Errors
/// [`Error::Config`] for any packing but those of [`Packing`].
pub(super) fn quantization(
    root: &Section<'_>,
    text: &Section<'_>,
) -> Result<Option<Packing>, Error> {
    let (owner, section) = match root.section(KEY)? {
        Some(section) => (root, section),
        None => match text.section(KEY)? {
            Some(section) => (text, section),
            None => return Ok(None),
        },
    };
    match section.text("quant_method")? {
        Some("awq") => awq(&section),
        Some("gptq") => gptq(&section),
        Some("fp8") => fp8(&section),
        Some("compressed-tensors") => compressed(&section),
        method => {
            let method = method.unwrap_or("nothing");
            Err(owner.complain(KEY, format!("says {method}; {INSTEAD}")))
        }
    }
    .map(Some)
}

fn awq(section: &Section<'_>) -> Result<Packing, Error> {
    if let Some(version) = section.text("version")?
        && !version.eq_ignore_ascii_case("gemm")
    {
        return Err(section.complain("version", format!("is {version:?}; {INSTEAD}")));
    }
    // Some writers say `w_bit` and `q_group_size`, as AutoAWQ's own file does.
    bits(section, either(section, "bits", "w_bit"), &[4])?;
    if !section.flag_or("zero_point", true)? {
        return Err(section.complain("zero_point", format!("is false; {INSTEAD}")));
    }
    let group_size = group_size(section, either(section, "group_size", "q_group_size"), 128)?;
    Ok(Packing::Awq { group_size })
}

/// As GPTQModel and AutoGPTQ write it: `desc_act` and `sym` change numbers and not how they are kept.
fn gptq(section: &Section<'_>) -> Result<Packing, Error> {
    let bits = bits(section, "bits", &[4, 8])?;
    let format_key = either(section, "checkpoint_format", "format");
    let zeros = match section.text(format_key)? {
        None | Some("gptq") => GptqZeros::LessOne,
        Some("gptq_v2") => GptqZeros::AsTheyAre,
        Some(format) => {
            return Err(section.complain(format_key, format!("is {format:?}; {INSTEAD}")));
        }
    };
    // A rule of `dynamic` gives some matrices other numbers, unless it begins with a minus: those
    // are not packed.
    if let Some(rules) = section.value("dynamic").and_then(Value::as_object)
        && let Some(rule) = rules.keys().find(|rule| !rule.starts_with('-'))
    {
        let reason = format!("has a rule of its own for {rule:?}; {INSTEAD}");
        return Err(section.complain("dynamic", reason));
    }
    Ok(Packing::Gptq {
        bits,
        group_size: group_size(section, "group_size", 128)?,
        zeros,
    })
}

/// `FineGrainedFP8Config` of transformers.
fn fp8(section: &Section<'_>) -> Result<Packing, Error> {
    if let Some(format) = section.text("fmt")?
        && format != "e4m3"
    {
        return Err(section.complain("fmt", format!("is {format:?}; {INSTEAD}")));
    }
    let block = match section.value("weight_block_size") {
        None => [None; 2],
        Some(_) => block(section, "weight_block_size")?,
    };
    Ok(Packing::Bytes { block })
}

/// `QuantizationConfig` of compressed-tensors.
fn compressed(section: &Section<'_>) -> Result<Packing, Error> {
    let format = section.text("format")?.unwrap_or("nothing");
    let in_words = match format {
        "pack-quantized" => true,
        "float-quantized" | "int-quantized" | "naive-quantized" => false,
        _ => return Err(section.complain("format", format!("is {format:?}; {INSTEAD}"))),
    };
    for (key, reason) in [
        ("sparsity_config", "leaves weights out"),
        ("transform_config", "turns weights"),
    ] {
        let is_empty = match section.section(key)? {
            None => true,
            Some(inner) if key == "sparsity_config" => {
                matches!(inner.text("format")?, None | Some("dense"))
            }
            Some(inner) => inner
                .value("config_groups")
                .and_then(Value::as_object)
                .is_none_or(serde_json::Map::is_empty),
        };
        if !is_empty {
            return Err(section.complain(key, format!("{reason}; {INSTEAD}")));
        }
    }
    let groups = section.require_section("config_groups")?;
    let mut packing = None;
    for name in groups.keys() {
        let group = groups.require_section(name)?;
        if let Some(own) = group.text("format")?
            && own != format
        {
            return Err(
                group.complain("format", format!("is {own:?} beside {format:?}; {INSTEAD}"))
            );
        }
        let one = compressed_weights(&group.require_section("weights")?, in_words)?;
        if packing.is_some_and(|other| other != one) {
            let reason = format!("pack their weights in different ways; {INSTEAD}");
            return Err(section.complain("config_groups", reason));
        }
        packing = Some(one);
    }
    packing.ok_or_else(|| section.complain("config_groups", format!("has no group; {INSTEAD}")))
}

/// `QuantizationArgs` of compressed-tensors.
fn compressed_weights(weights: &Section<'_>, in_words: bool) -> Result<Packing, Error> {
    let bits = bits(weights, "num_bits", if in_words { &[4, 8] } else { &[8] })?;
    let strategy = weights.text("strategy")?;
    let strategy = strategy.unwrap_or(match weights.value("group_size") {
        Some(_) => "group",
        None => "tensor",
    });
    let block = match strategy {
        "tensor" if !in_words => [None; 2],
        "channel" => [Some(1), None],
        "group" => [Some(1), group_size(weights, "group_size", 128)?],
        "block" if !in_words => block(weights, "block_structure")?,
        _ => return Err(weights.complain("strategy", format!("is {strategy:?}; {INSTEAD}"))),
    };
    Ok(match in_words {
        true => Packing::PackQuantized {
            bits,
            group_size: block[1],
        },
        false => Packing::Bytes { block },
    })
}

fn either(section: &Section<'_>, key: &'static str, other: &'static str) -> &'static str {
    match section.value(key) {
        None if section.value(other).is_some() => other,
        _ => key,
    }
}

/// Bits of a number, one of `known`; the first of them if nothing is said.
fn bits(section: &Section<'_>, key: &str, known: &[u32]) -> Result<u32, Error> {
    let said = section.size_or(key, known[0] as usize)?;
    let found = known.iter().find(|&&bits| bits as usize == said);
    found
        .copied()
        .ok_or_else(|| section.complain(key, format!("is {said}; {INSTEAD}")))
}

/// Inputs of a group; -1 is all of them.
fn group_size(section: &Section<'_>, key: &str, default: usize) -> Result<Option<usize>, Error> {
    match section.value(key) {
        Some(all) if *all == -1 => Ok(None),
        _ => section.size_or(key, default).map(Some),
    }
}

/// Outputs and inputs of a block.
fn block(section: &Section<'_>, key: &str) -> Result<[Option<usize>; 2], Error> {
    let sides = section.indexes(key)?;
    match sides.as_slice() {
        &[out, input] if out > 0 && input > 0 => Ok([Some(out), Some(input)]),
        _ => Err(section.complain(key, format!("is {sides:?}; want two whole numbers above 0"))),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;
    use crate::vlm::json::Document;

    fn read(config: Value) -> Result<Option<Packing>, String> {
        let text = config.to_string();
        let document = Document::parse("config.json".to_owned(), text.as_bytes()).unwrap();
        let root = document.root();
        let text = root.require_section("text_config").unwrap();
        quantization(&root, &text).map_err(|error| error.to_string())
    }

    fn root(quantization: Value) -> Result<Option<Packing>, String> {
        read(json!({"text_config": {}, "quantization_config": quantization}))
    }

    #[test]
    fn awq_is_read_wherever_it_stands() {
        // As Qwen2.5-VL-3B-Instruct-AWQ has it.
        let published = json!({
            "bits": 4, "group_size": 128, "modules_to_not_convert": ["visual"],
            "quant_method": "awq", "version": "gemm", "zero_point": true
        });
        let want = Ok(Some(Packing::Awq {
            group_size: Some(128),
        }));
        assert_eq!(root(published.clone()), want);
        let inner = json!({"text_config": {"quantization_config": published}});
        assert_eq!(read(inner), want);
        let own = json!({"quant_method": "awq", "version": "GEMM", "w_bit": 4, "q_group_size": -1});
        assert_eq!(root(own), Ok(Some(Packing::Awq { group_size: None })));
        assert_eq!(read(json!({"text_config": {}})), Ok(None));
    }

    #[test]
    fn gptq_is_read_in_both_formats() {
        let gptq = |zeros, bits, group_size| {
            Ok(Some(Packing::Gptq {
                bits,
                group_size,
                zeros,
            }))
        };
        let published = json!({
            "bits": 4, "group_size": 128, "damp_percent": 0.1, "desc_act": false, "sym": true,
            "quant_method": "gptq", "static_groups": false, "true_sequential": true
        });
        assert_eq!(root(published), gptq(GptqZeros::LessOne, 4, Some(128)));
        let second = json!({
            "bits": 8, "group_size": -1, "desc_act": true, "quant_method": "gptq",
            "checkpoint_format": "gptq_v2", "dynamic": {"-:.*visual.*": {}}
        });
        assert_eq!(root(second), gptq(GptqZeros::AsTheyAre, 8, None));
    }

    #[test]
    fn fp8_is_read_as_published() {
        // As Qwen3-VL-4B-Instruct-FP8 has it, and without blocks.
        let published = json!({
            "activation_scheme": "dynamic", "fmt": "e4m3", "quant_method": "fp8",
            "modules_to_not_convert": ["lm_head"], "weight_block_size": [128, 128]
        });
        let block = [Some(128), Some(128)];
        assert_eq!(root(published), Ok(Some(Packing::Bytes { block })));
        let whole = json!({"quant_method": "fp8", "weight_block_size": null});
        let block = [None, None];
        assert_eq!(root(whole), Ok(Some(Packing::Bytes { block })));
    }

    /// A configuration of compressed-tensors.
    fn compressed(format: &str, weights: Value) -> Value {
        json!({
            "quant_method": "compressed-tensors", "format": format, "ignore": ["lm_head"],
            "config_groups": {"group_0": {"targets": ["Linear"], "weights": weights}},
            "kv_cache_scheme": null, "sparsity_config": {}, "transform_config": {}
        })
    }

    #[test]
    fn compressed_tensors_are_read_as_their_tools_write_them() {
        let w4a16 = json!({
            "actorder": "group", "num_bits": 4, "group_size": 128, "strategy": "group",
            "symmetric": true, "type": "int"
        });
        let want = Packing::PackQuantized {
            bits: 4,
            group_size: Some(128),
        };
        assert_eq!(root(compressed("pack-quantized", w4a16)), Ok(Some(want)));
        for (format, weights, block) in [
            (
                "float-quantized",
                json!({"num_bits": 8, "strategy": "channel", "group_size": null, "type": "float"}),
                [Some(1), None],
            ),
            (
                "float-quantized",
                json!({"num_bits": 8, "strategy": "block", "block_structure": [128, 64]}),
                [Some(128), Some(64)],
            ),
            (
                "int-quantized",
                json!({"num_bits": 8, "strategy": "tensor"}),
                [None, None],
            ),
            (
                "naive-quantized",
                json!({"num_bits": 8, "strategy": "group", "group_size": 32}),
                [Some(1), Some(32)],
            ),
        ] {
            let said = root(compressed(format, weights));
            assert_eq!(said, Ok(Some(Packing::Bytes { block })), "{format}");
        }
    }

    #[test]
    fn what_is_not_read_is_refused_with_what_is() {
        let four = json!({"num_bits": 4, "strategy": "group", "group_size": 32});
        let mut mixed = compressed("pack-quantized", four.clone());
        mixed["config_groups"]["group_1"] = json!({"weights": {"num_bits": 8, "group_size": 32}});
        let mut sparse = compressed("pack-quantized", four.clone());
        sparse["sparsity_config"] = json!({"format": "sparse-24-bitmask"});
        let mut turned = compressed("pack-quantized", four.clone());
        turned["transform_config"] = json!({"config_groups": {"R1": {}}});
        for (config, word) in [
            (json!({"quant_method": "bitsandbytes"}), "says bitsandbytes"),
            (json!({}), "says nothing"),
            (
                json!({"quant_method": "awq", "version": "gemv"}),
                "version is \"gemv\"",
            ),
            (json!({"quant_method": "awq", "bits": 8}), "bits is 8"),
            (
                json!({"quant_method": "awq", "zero_point": false}),
                "zero_point is false",
            ),
            (
                json!({"quant_method": "awq", "group_size": 0}),
                "group_size is 0",
            ),
            (json!({"quant_method": "gptq", "bits": 3}), "bits is 3"),
            (
                json!({"quant_method": "gptq", "checkpoint_format": "marlin"}),
                "checkpoint_format is \"marlin\"",
            ),
            (
                json!({"quant_method": "gptq", "dynamic": {"+:.*down.*": {"bits": 8}}}),
                "has a rule of its own",
            ),
            (json!({"quant_method": "fp8", "fmt": "e5m2"}), "fmt is"),
            (
                compressed("nvfp4-pack-quantized", four.clone()),
                "format is \"nvfp4-pack-quantized\"",
            ),
            (compressed("float-quantized", four), "num_bits is 4"),
            (
                compressed(
                    "pack-quantized",
                    json!({"num_bits": 4, "strategy": "tensor"}),
                ),
                "strategy is \"tensor\"",
            ),
            (mixed, "in different ways"),
            (sparse, "leaves weights out"),
            (turned, "turns weights"),
        ] {
            let said = root(config).unwrap_err();
            assert!(said.contains(word), "{said}");
            let names_the_fix = said.contains("not quantised") || said.contains("want a whole");
            assert!(names_the_fix, "{said}");
        }
    }
}
