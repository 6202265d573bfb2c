// SPDX-License-Identifier: MPL-2.0

//! Which weights are loaded, and how.

use std::path::PathBuf;

/// Bytes of this program. By its own name serde would have them borrowed from what it reads.
type Static = &'static [u8];

/// Weight files in the order of the index.
#[derive(Debug, Clone, serde::Serialize, serde::Deserialize)]
pub enum Weights {
    /// Safetensors files on disk; one, or the shards of `model.safetensors.index.json`.
    Files(Vec<PathBuf>),
    /// One safetensors file in memory.
    Bytes(#[serde(with = "for_good")] Static),
}

/// Bytes that another process is given stay there as long as it runs, as they do here.
mod for_good {
    use serde::de::Error;
    use serde::{Deserializer, Serializer};

    pub fn serialize<S: Serializer>(bytes: &[u8], to: S) -> Result<S::Ok, S::Error> {
        to.serialize_bytes(bytes)
    }

    pub fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<&'static [u8], D::Error> {
        struct Bytes;
        impl serde::de::Visitor<'_> for Bytes {
            type Value = &'static [u8];
            fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str("bytes")
            }
            fn visit_bytes<E: Error>(self, bytes: &[u8]) -> Result<Self::Value, E> {
                Ok(bytes.to_vec().leak())
            }
        }
        from.deserialize_bytes(Bytes)
    }
}

/// Number type that the large matrices are multiplied in.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, Hash, Default, serde::Serialize, serde::Deserialize,
)]
pub enum Precision {
    /// f32 below 100 M parameters, int8 above.
    #[default]
    Auto,
    /// The reference.
    F32,
    /// Weights, and where the processor multiplies it the activations, in bf16.
    Bf16,
    /// W8A8: a scale per weight column and per activation row and K-slice; the first block of the
    /// tower and the first layer of the decoder, where errors weigh most, in bf16.
    Int8,
}

/// What a user may choose.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Default, serde::Serialize, serde::Deserialize)]
pub struct Options {
    /// Number type of the large matrices.
    pub precision: Precision,
    /// Threads of the engine; `None` takes all cores but one.
    pub threads: Option<usize>,
    /// Folder in which int8 matrices are kept for the next start; `None` keeps none. What cannot be
    /// kept is no error.
    pub cache: Option<PathBuf>,
}
