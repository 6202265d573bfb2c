// SPDX-License-Identifier: MPL-2.0

//! What the configuration classes of transformers take for keys that are not in a file.
//!
//! `save_pretrained` of 4.49 wrote the inner configurations as their difference from the
//! class's defaults, and other releases leave out what the family's own code would. The numbers are
//! those of the classes' constructors, which did not change from 4.49 to 5.0.

use std::sync::LazyLock;

use serde_json::{Map, Value};

type Defaults = LazyLock<Map<String, Value>>;

/// `Qwen2_5_VLVisionConfig`, but for `in_channels`, which has two names.
pub(super) static QWEN2_5_VL_VISION: Defaults = LazyLock::new(|| {
    object(
        r#"{
        "depth": 32, "hidden_size": 3584, "hidden_act": "silu", "intermediate_size": 3420,
        "num_heads": 16, "patch_size": 14, "spatial_merge_size": 2, "temporal_patch_size": 2,
        "tokens_per_second": 4, "window_size": 112, "out_hidden_size": 3584,
        "fullatt_block_indexes": [7, 15, 23, 31]
    }"#,
    )
});

/// `Qwen2_5_VLTextConfig`, and the decoder's keys of `Qwen2_5_VLConfig` before it.
pub(super) static QWEN2_5_VL_TEXT: Defaults = LazyLock::new(|| {
    object(
        r#"{
        "vocab_size": 152064, "max_position_embeddings": 32768, "hidden_size": 8192,
        "intermediate_size": 29568, "num_hidden_layers": 80, "num_attention_heads": 64,
        "num_key_value_heads": 8, "hidden_act": "silu", "rms_norm_eps": 1e-5,
        "rope_theta": 1000000.0, "use_sliding_window": false
    }"#,
    )
});

/// `Qwen3VLVisionConfig`.
pub(super) static QWEN3_VL_VISION: Defaults = LazyLock::new(|| {
    object(
        r#"{
        "depth": 27, "hidden_size": 1152, "hidden_act": "gelu_pytorch_tanh",
        "intermediate_size": 4304, "num_heads": 16, "in_channels": 3, "patch_size": 16,
        "spatial_merge_size": 2, "temporal_patch_size": 2, "out_hidden_size": 3584,
        "num_position_embeddings": 2304, "deepstack_visual_indexes": [8, 16, 24]
    }"#,
    )
});

/// `Qwen3VLTextConfig`, but for `rope_theta`, which is another in 4.57 than in 5.0.
pub(super) static QWEN3_VL_TEXT: Defaults = LazyLock::new(|| {
    object(
        r#"{
        "vocab_size": 151936, "max_position_embeddings": 128000, "hidden_size": 4096,
        "intermediate_size": 22016, "num_hidden_layers": 32, "num_attention_heads": 32,
        "num_key_value_heads": 32, "head_dim": 128, "hidden_act": "silu", "rms_norm_eps": 1e-6,
        "attention_bias": false
    }"#,
    )
});

/// `InternVLVisionConfig`.
pub(super) static INTERNVL_VISION: Defaults = LazyLock::new(|| {
    object(
        r#"{
        "hidden_size": 1024, "num_hidden_layers": 24, "num_attention_heads": 16,
        "attention_bias": false, "use_qk_norm": false, "intermediate_size": 4096,
        "hidden_act": "gelu", "norm_type": "layer_norm", "layer_norm_eps": 1e-6,
        "image_size": [448, 448], "patch_size": [14, 14], "num_channels": 3,
        "use_absolute_position_embeddings": true, "use_mean_pooling": true
    }"#,
    )
});

/// `Qwen2Config`.
pub(super) static QWEN2: Defaults = LazyLock::new(|| {
    object(
        r#"{
        "vocab_size": 151936, "max_position_embeddings": 32768, "hidden_size": 4096,
        "intermediate_size": 22016, "num_hidden_layers": 32, "num_attention_heads": 32,
        "num_key_value_heads": 32, "hidden_act": "silu", "rms_norm_eps": 1e-6,
        "rope_theta": 10000.0, "use_sliding_window": false
    }"#,
    )
});

/// `Qwen3Config`.
pub(super) static QWEN3: Defaults = LazyLock::new(|| {
    object(
        r#"{
        "vocab_size": 151936, "max_position_embeddings": 32768, "hidden_size": 4096,
        "intermediate_size": 22016, "num_hidden_layers": 32, "num_attention_heads": 32,
        "num_key_value_heads": 32, "head_dim": 128, "hidden_act": "silu", "rms_norm_eps": 1e-6,
        "rope_theta": 10000.0, "attention_bias": false, "use_sliding_window": false
    }"#,
    )
});

/// A table above; a test reads them all.
fn object(text: &str) -> Map<String, Value> {
    serde_json::from_str(text).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::path::{Path, PathBuf};

    use super::*;
    use crate::vlm::config::{internvl, model_type, qwen3vl, qwen25vl};
    use crate::vlm::json::Document;

    /// All that is read of a configuration.
    fn read(path: &Path) -> String {
        let bytes = fs::read(path).unwrap();
        let document = Document::parse(path.display().to_string(), &bytes).unwrap();
        match model_type(&document).unwrap() {
            "qwen2_5_vl" => format!("{:?}", qwen25vl::read(&document).unwrap()),
            "qwen3_vl" => format!("{:?}", qwen3vl::read(&document).unwrap()),
            _ => format!("{:?}", internvl::read(&document).unwrap()),
        }
    }

    fn golden() -> Vec<PathBuf> {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/config");
        let entries = fs::read_dir(folder).unwrap();
        let mut paths: Vec<PathBuf> = entries.map(|entry| entry.unwrap().path()).collect();
        paths.retain(|path| path.extension().is_some_and(|e| e == "json"));
        paths.sort();
        paths
    }

    #[test]
    fn every_table_is_an_object() {
        let tables = [
            &QWEN2_5_VL_VISION,
            &QWEN2_5_VL_TEXT,
            &QWEN3_VL_VISION,
            &QWEN3_VL_TEXT,
            &INTERNVL_VISION,
            &QWEN2,
            &QWEN3,
        ];
        for table in tables {
            assert!(table.contains_key("hidden_size"));
        }
    }

    #[test]
    fn every_release_s_file_says_what_the_full_one_does() {
        let (mut full, mut n) = (String::new(), 0);
        // Sorted, a model's full file comes after those of the releases.
        for path in golden().iter().rev() {
            let name = path.file_name().unwrap().to_string_lossy();
            if name.ends_with("-full.json") {
                full = read(path);
                continue;
            }
            assert_eq!(read(path), full, "{name}");
            n += 1;
        }
        assert_eq!(n, 18);
    }
}
