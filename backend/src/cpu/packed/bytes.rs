// SPDX-License-Identifier: MPL-2.0

//! Matrices of one byte a weight with scales, back to f32: FP8 as transformers (`quant_method` `fp8`)
//! and compressed-tensors (`float-quantized`) keep it, and the latter's `int-quantized`.
//!
//! ```text
//! weight             f8_e4m3 or i8 [out, in]
//! weight_scale       [rows, columns] of blocks; `weight_scale_inv` in transformers' own
//! weight_zero_point  i8 [rows, columns], if not symmetric
//! ```
//!
//! A weight is `(q - zero) * scale`. A block is `block[0]` outputs of `block[1]` inputs, or all of
//! them, and then the scales may lack that dimension.

use std::sync::LazyLock;

use safetensors::Dtype;

use super::tensors::numbers;
use crate::Error;
use crate::cpu::weights::{Reader, wrong_type};

/// What each of the 256 codes of E4M3 stands for (Micikevicius et al., 2022, "FP8 formats for deep
/// learning": no infinities, NaN is all ones).
static E4M3: LazyLock<[f32; 256]> = LazyLock::new(|| std::array::from_fn(|code| e4m3(code as u8)));

fn e4m3(code: u8) -> f32 {
    let (exponent, mantissa) = (code >> 3 & 15, f32::from(code & 7));
    let size = match (exponent, code & 7) {
        (15, 7) => f32::NAN,
        (0, _) => mantissa / 8.0 * 2f32.powi(-6),
        _ => (1.0 + mantissa / 8.0) * 2f32.powi(i32::from(exponent) - 7),
    };
    if code >> 7 == 1 { -size } else { size }
}

/// How the scales of the matrix under `prefix` are called, if it has any.
pub(super) fn scale_name(reader: &Reader<'_>, prefix: &str) -> Option<String> {
    let names = ["weight_scale", "weight_scale_inv"].map(|name| format!("{prefix}{name}"));
    names.into_iter().find(|name| reader.has(name))
}

/// Blocks of a matrix.
struct Blocks {
    /// Outputs and inputs of one.
    size: [usize; 2],
    /// How many there are.
    n: [usize; 2],
}

impl Blocks {
    fn new(block: [Option<usize>; 2], shape: [usize; 2]) -> Self {
        let size = [0, 1].map(|axis| block[axis].unwrap_or(shape[axis]));
        Self {
            size,
            n: [0, 1].map(|axis| shape[axis].div_ceil(size[axis])),
        }
    }

    /// The shape that the tensor `name` of them has: both numbers, or without those that are 1 at
    /// the end.
    fn shape_of(&self, reader: &Reader<'_>, name: &str) -> Vec<usize> {
        let whole = self.n.to_vec();
        let Some(found) = reader.shape(name) else {
            return whole;
        };
        let left_out = whole.get(found.len()..).unwrap_or_default();
        match whole.starts_with(found) && left_out.iter().all(|&n| n == 1) {
            true => found.to_vec(),
            false => whole,
        }
    }
}

/// That the tensors of a matrix `[out_features, in_features]` are there in their shapes.
pub(super) fn expect(
    block: [Option<usize>; 2],
    reader: &Reader<'_>,
    prefix: &str,
    shape: [usize; 2],
) -> Result<(), Error> {
    let blocks = Blocks::new(block, shape);
    reader.expect(&format!("{prefix}weight"), &shape)?;
    let scales = scale_name(reader, prefix).unwrap_or_else(|| format!("{prefix}weight_scale"));
    reader.expect(&scales, &blocks.shape_of(reader, &scales))?;
    let zeros = format!("{prefix}weight_zero_point");
    if reader.has(&zeros) {
        reader.expect(&zeros, &blocks.shape_of(reader, &zeros))?;
    }
    Ok(())
}

/// Reads `{prefix}weight` with its scales and hands the matrix `[out_features, in_features]` on in
/// pieces of whole rows, as f32.
///
/// # Errors
/// Those of [`Reader::rows`].
pub(super) fn rows(
    block: [Option<usize>; 2],
    reader: &mut Reader<'_>,
    prefix: &str,
    shape: [usize; 2],
    take: &mut dyn FnMut(&[f32]),
) -> Result<(), Error> {
    let blocks = Blocks::new(block, shape);
    let [out_size, in_size] = blocks.size;
    let name = format!("{prefix}weight_scale");
    let name = scale_name(reader, prefix).unwrap_or(name);
    let scales = numbers(reader, &name, &blocks.shape_of(reader, &name))?;
    let zeros = zero_points(reader, prefix, &blocks)?;
    let name = format!("{prefix}weight");
    let dtype = reader.dtype(&name).unwrap_or(Dtype::F8_E4M3);
    let decode: fn(u8) -> f32 = match dtype {
        Dtype::I8 => |code| f32::from(code.cast_signed()),
        Dtype::F8_E4M3 => |code| E4M3[usize::from(code)],
        other => return Err(wrong_type(&name, other, "f8_e4m3 and i8")),
    };
    let (mut out, mut rows) = (0, Vec::new());
    reader.pieces(&name, &shape, dtype, &mut |bytes| {
        rows.clear();
        for row in bytes.chunks_exact(shape[1]) {
            let first = out / out_size * blocks.n[1];
            for (block, codes) in row.chunks(in_size).enumerate() {
                let scale = scales[first + block];
                let zero = zeros
                    .get(first + block)
                    .map_or(0.0, |&zero| f32::from(zero));
                rows.extend(codes.iter().map(|&code| (decode(code) - zero) * scale));
            }
            out += 1;
        }
        take(&rows);
    })
}

/// The zero points of all blocks; empty if they are 0.
fn zero_points(reader: &mut Reader<'_>, prefix: &str, blocks: &Blocks) -> Result<Vec<i8>, Error> {
    let name = format!("{prefix}weight_zero_point");
    let mut zeros = Vec::new();
    if reader.has(&name) {
        let shape = blocks.shape_of(reader, &name);
        reader.pieces(&name, &shape, Dtype::I8, &mut |bytes| {
            zeros.extend(bytes.iter().map(|byte| byte.cast_signed()));
        })?;
    }
    Ok(zeros)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_of_e4m3_are_those_of_the_paper() {
        for (code, value) in [
            (0x00, 0.0),
            (0x01, 2f32.powi(-9)),
            (0x07, 0.875 * 2f32.powi(-6)),
            (0x08, 2f32.powi(-6)),
            (0x38, 1.0),
            (0xb9, -1.125),
            (0x7e, 448.0),
            (0xfe, -448.0),
        ] {
            assert_eq!(e4m3(code), value, "{code:#x}");
        }
        assert!(e4m3(0x7f).is_nan() && e4m3(0xff).is_nan());
    }
}
