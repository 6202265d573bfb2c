// SPDX-License-Identifier: MPL-2.0

//! Matrices in the format `pack-quantized` of compressed-tensors (W4A16, W8A16), back to f32.
//!
//! ```text
//! weight_packed      i32 [out, in / n]        n = 32 / bits inputs of one output in a word
//! weight_scale       [out, groups]            a group is `group_size` inputs
//! weight_zero_point  i32 [out / n, groups]    n outputs' zero points in a word; if not symmetric
//! weight_shape       i64 [2]                  out, in
//! weight_g_idx       i32 [in]                 the group of each input, if they are not in order
//! ```
//!
//! A weight is `(q - zero) * scale`; all numbers are kept without a sign, with half their range
//! added, and the lowest bits of a word are the first number.

use safetensors::Dtype;

use super::tensors::{InWords, Shapes, groups, numbers, words};
use crate::Error;
use crate::cpu::weights::Reader;

/// The tensors of a matrix `[out_features, in_features]`.
pub(super) fn shapes(
    bits: u32,
    group_size: Option<usize>,
    [out_features, in_features]: [usize; 2],
) -> Shapes {
    let words = InWords { bits };
    let (group_size, n_groups) = Shapes::groups(group_size, in_features);
    Shapes {
        group_size,
        packed: [out_features, words.n_words(in_features)],
        zeros: [words.n_words(out_features), n_groups],
        scales: [out_features, n_groups],
        names: ["weight_packed", "weight_zero_point", "weight_scale"],
        needs_zeros: false,
    }
}

/// Reads `{prefix}weight_packed` and what belongs to it and hands the matrix
/// `[out_features, in_features]` on in pieces of whole rows, as f32.
///
/// # Errors
/// Those of [`Reader::rows`] and [`groups`]; [`Error::WeightShape`] if `weight_shape` is another.
pub(super) fn rows(
    bits: u32,
    group_size: Option<usize>,
    reader: &mut Reader<'_>,
    prefix: &str,
    shape: [usize; 2],
    take: &mut dyn FnMut(&[f32]),
) -> Result<(), Error> {
    let in_words = InWords { bits };
    let shapes = shapes(bits, group_size, shape);
    let (per_word, n_groups) = (in_words.per_word(), shapes.scales[1]);
    check_shape(reader, prefix, shape)?;
    let scales = numbers(reader, &format!("{prefix}weight_scale"), &shapes.scales)?;
    let zeros = format!("{prefix}weight_zero_point");
    let zeros = match reader.has(&zeros) {
        true => Some(words(reader, &zeros, &shapes.zeros)?),
        false => None,
    };
    let groups = groups(
        reader,
        &format!("{prefix}weight_g_idx"),
        shape[1],
        shapes.group_size,
    )?;
    let (mut out, mut zero_points, mut rows) = (0, vec![0; n_groups], Vec::new());
    let name = format!("{prefix}weight_packed");
    reader.pieces(&name, &shapes.packed, Dtype::I32, &mut |bytes| {
        rows.clear();
        for row in bytes.chunks_exact(4 * shapes.packed[1]) {
            for (group, zero) in zero_points.iter_mut().enumerate() {
                *zero = match &zeros {
                    Some(zeros) => in_words.number(zeros[out / per_word * n_groups + group], out),
                    None => 1 << (bits - 1),
                };
            }
            let scales = &scales[out * n_groups..][..n_groups];
            let (row, _) = row.as_chunks::<4>();
            rows.extend(groups.iter().enumerate().map(|(input, &group)| {
                let q = in_words.number(u32::from_le_bytes(row[input / per_word]), input);
                (q as i32 - zero_points[group] as i32) as f32 * scales[group]
            }));
            out += 1;
        }
        take(&rows);
    })
}

/// That `{prefix}weight_shape` is this one.
fn check_shape(reader: &mut Reader<'_>, prefix: &str, shape: [usize; 2]) -> Result<(), Error> {
    let name = format!("{prefix}weight_shape");
    let mut said = Vec::new();
    reader.pieces(&name, &[2], Dtype::I64, &mut |bytes| {
        let (items, _) = bytes.as_chunks::<8>();
        said.extend(items.iter().map(|&b| u64::from_le_bytes(b) as usize));
    })?;
    if said != shape {
        return Err(Error::WeightShape {
            name: format!("{prefix}weight_packed"),
            want: shape.to_vec(),
            got: said,
        });
    }
    Ok(())
}
