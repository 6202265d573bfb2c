// SPDX-License-Identifier: MPL-2.0

//! `quantization_config`: AWQ as AutoAWQ and lmdeploy write it is read, all else is refused.

use crate::backend::spec::Awq;
use crate::vlm::error::Error;
use crate::vlm::json::Section;

const KEY: &str = "quantization_config";

/// What takes the place of a checkpoint that is not read.
const INSTEAD: &str = "take the checkpoint that is not quantised (precision=int8 quantises it while it loads), or \
     one of AWQ with version gemm and 4 bits";

/// How the matrices of the decoder `text` are packed; the key is `root`'s, or the decoder's.
///
/// Which matrices those are (`modules_to_not_convert`) the names of the tensors say.
///
/// # Errors
/// [`Error::Config`] for any packing but AWQ's `gemm` of 4 bits with zero points.
pub(super) fn quantization(root: &Section<'_>, text: &Section<'_>) -> Result<Option<Awq>, Error> {
    let (owner, section) = match root.section(KEY)? {
        Some(section) => (root, section),
        None => match text.section(KEY)? {
            Some(section) => (text, section),
            None => return Ok(None),
        },
    };
    match section.text("quant_method")? {
        Some("awq") => {}
        method => {
            let method = method.unwrap_or("nothing");
            return Err(owner.complain(KEY, format!("says {method}; {INSTEAD}")));
        }
    }
    if let Some(version) = section.text("version")?
        && !version.eq_ignore_ascii_case("gemm")
    {
        return Err(section.complain("version", format!("is {version:?}; {INSTEAD}")));
    }
    // Some writers say `w_bit` and `q_group_size`, as AutoAWQ's own file does.
    let bits_key = either(&section, "bits", "w_bit");
    let bits = section.size_or(bits_key, 4)?;
    if bits != 4 {
        return Err(section.complain(bits_key, format!("is {bits}; {INSTEAD}")));
    }
    if !section.flag_or("zero_point", true)? {
        return Err(section.complain("zero_point", format!("is false; {INSTEAD}")));
    }
    let group_key = either(&section, "group_size", "q_group_size");
    let group_size = match section.value(group_key) {
        Some(all) if *all == -1 => None,
        _ => Some(section.size_or(group_key, 128)?),
    };
    Ok(Some(Awq { group_size }))
}

fn either(section: &Section<'_>, key: &'static str, other: &'static str) -> &'static str {
    match section.value(key) {
        None if section.value(other).is_some() => other,
        _ => key,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;
    use crate::vlm::json::Document;

    fn read(config: Value) -> Result<Option<Awq>, String> {
        let text = config.to_string();
        let document = Document::parse("config.json".to_owned(), text.as_bytes()).unwrap();
        let root = document.root();
        let text = root.require_section("text_config").unwrap();
        quantization(&root, &text).map_err(|error| error.to_string())
    }

    fn root(quantization: Value) -> Result<Option<Awq>, String> {
        read(json!({"text_config": {}, "quantization_config": quantization}))
    }

    #[test]
    fn awq_is_read_wherever_it_stands() {
        // As Qwen2.5-VL-3B-Instruct-AWQ has it.
        let published = json!({
            "bits": 4, "group_size": 128, "modules_to_not_convert": ["visual"],
            "quant_method": "awq", "version": "gemm", "zero_point": true
        });
        let want = Ok(Some(Awq {
            group_size: Some(128),
        }));
        assert_eq!(root(published.clone()), want);
        let inner = json!({"text_config": {"quantization_config": published}});
        assert_eq!(read(inner), want);
        let own = json!({"quant_method": "awq", "version": "GEMM", "w_bit": 4, "q_group_size": -1});
        assert_eq!(root(own), Ok(Some(Awq { group_size: None })));
        assert_eq!(read(json!({"text_config": {}})), Ok(None));
    }

    #[test]
    fn what_is_not_read_is_refused_with_what_is() {
        for (config, word) in [
            (json!({"quant_method": "gptq", "bits": 4}), "says gptq"),
            (json!({"quant_method": "fp8"}), "says fp8"),
            (
                json!({"quant_method": "compressed-tensors"}),
                "says compressed-tensors",
            ),
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
        ] {
            let said = root(config).unwrap_err();
            assert!(said.contains(word), "{said}");
            let names_the_fix = said.contains("not quantised") || said.contains("want a whole");
            assert!(names_the_fix, "{said}");
        }
    }
}
