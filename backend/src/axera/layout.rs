// SPDX-License-Identifier: MPL-2.0

//! What the models say of their sizes. Nothing here is configured: every number follows from the
//! bytes of named tensors.

use axera_sys::{Group, Tensor};

use super::error::Error;
use crate::rows::Row;
use crate::sequence::Reuse;

/// Bytes of bf16.
pub(super) const HALF: usize = 2;

/// One shape of a decoder layer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Shape {
    /// Number of the shape group.
    pub group: usize,
    /// Rows that a run computes: 1 in a decode group.
    pub rows: usize,
    /// Rows of the cache that a run sees.
    pub history: usize,
    /// Places of `K_cache`, `V_cache`, `indices`, `input`, `mask` among the inputs.
    pub inputs: [usize; 5],
    /// Places of `K_cache_out`, `V_cache_out`, `output` among the outputs.
    pub outputs: [usize; 3],
    /// Bytes of the inputs, in the order above.
    pub input_bytes: [usize; 5],
}

/// The decoder.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Layout {
    /// Width of a row.
    pub hidden_size: usize,
    /// Width of a row of keys, or of values.
    pub kv_size: usize,
    /// Axes of a position: 3, or 1.
    pub position_rows: usize,
    /// Groups that compute one row, by the rows they see, the shortest first.
    pub decode: Vec<Shape>,
    /// Groups that compute a chunk, by the rows they see, the shortest first; may be none.
    pub prefill: Vec<Shape>,
}

impl Layout {
    /// Understands the groups of a layer.
    ///
    /// # Errors
    /// [`Error::Unsupported`] with the tensor that is not as it should be.
    pub fn of(groups: &[Group], file: &str) -> Result<Self, Error> {
        let fail = |reason: String| Error::Unsupported {
            file: file.to_owned(),
            reason,
        };
        let mut sizes = None;
        let mut shapes = Vec::new();
        // A decode group tells the widths that the others are measured by.
        for (index, group) in groups.iter().enumerate() {
            let names = TensorIndices::find(group, index).map_err(fail)?;
            if names.elements_of_indices(group) == 1 {
                let hidden = group.inputs[names.inputs[3]].size_bytes / HALF;
                let kv = group.outputs[names.outputs[0]].size_bytes / HALF;
                sizes.get_or_insert((hidden, kv));
            }
            shapes.push((index, names));
        }
        let Some((hidden_size, kv_size)) = sizes.filter(|&(hidden, kv)| hidden > 0 && kv > 0)
        else {
            return Err(fail(
                "it has no shape group for one token (indices of one element); convert it with \
                 pulsar2 llm_build"
                    .to_owned(),
            ));
        };
        let mut layout = Self {
            hidden_size,
            kv_size,
            position_rows: 1,
            decode: Vec::new(),
            prefill: Vec::new(),
        };
        for (index, names) in shapes {
            let (shape, axes) = names
                .shape(&groups[index], index, hidden_size, kv_size)
                .map_err(fail)?;
            if shape.rows == 1 && axes == 1 {
                layout.decode.push(shape);
            } else {
                layout.position_rows = axes;
                layout.prefill.push(shape);
            }
        }
        for shapes in [&mut layout.decode, &mut layout.prefill] {
            shapes.sort_by_key(|shape| shape.history);
            shapes.dedup_by_key(|shape| shape.history);
        }
        if let [first, rest @ ..] = &layout.prefill[..]
            && let Some(other) = rest.iter().find(|shape| shape.rows != first.rows)
        {
            let (a, b) = (first.rows, other.rows);
            return Err(fail(format!(
                "its chunks have {a} and {b} rows; want one length"
            )));
        }
        Ok(layout)
    }

    /// Rows of the cache.
    pub fn context(&self) -> usize {
        self.decode.last().map_or(0, |shape| shape.history)
    }

    /// Rows of a chunk; 1 in a build without prefill groups.
    pub fn chunk(&self) -> usize {
        self.prefill.first().map_or(1, |shape| shape.rows)
    }

    /// Rows that a prompt may have: what the largest prefill group sees and computes, or all that
    /// the cache holds if there is none.
    pub fn max_prompt(&self) -> usize {
        let most = self.prefill.last().map(|shape| shape.history + shape.rows);
        most.unwrap_or(usize::MAX).min(self.context())
    }

    /// Bytes of a row.
    pub fn row_bytes(&self) -> usize {
        self.hidden_size * HALF
    }

    /// Bytes of a row of keys.
    pub fn kv_bytes(&self) -> usize {
        self.kv_size * HALF
    }

    /// Bytes that input `which` has in the group where it is largest.
    pub fn max_input_bytes(&self, which: usize) -> usize {
        let all = self.decode.iter().chain(&self.prefill);
        all.map(|shape| shape.input_bytes[which]).max().unwrap_or(0)
    }

    /// The shortest prefill group that sees so many rows.
    pub fn prefill_for(&self, past: usize) -> Option<&Shape> {
        self.prefill.iter().find(|shape| shape.history >= past)
    }

    /// The shortest decode group that sees so many rows.
    pub fn decode_for(&self, past: usize) -> Option<&Shape> {
        self.decode.iter().find(|shape| shape.history >= past)
    }
}

impl Reuse for Layout {
    /// Whole chunks, since a part of one costs as much, and no more than the chunks see.
    fn reusable(&self, _rows: &[Row], n_equal: usize) -> usize {
        let most = match self.prefill.last() {
            Some(shape) => shape.history,
            None => self.context(),
        };
        n_equal.min(most) / self.chunk() * self.chunk()
    }

    /// All: the chunks see what is before them, whether it is computed again or not.
    fn prompt_rows(&self, n: usize, _n_reused: usize) -> usize {
        n
    }
}

/// Where the tensors of a group are.
struct TensorIndices {
    inputs: [usize; 5],
    outputs: [usize; 3],
}

impl TensorIndices {
    fn find(group: &Group, index: usize) -> Result<Self, String> {
        let input = |name| index_of(&group.inputs, name, index);
        let output = |name| index_of(&group.outputs, name, index);
        Ok(Self {
            inputs: [
                input("K_cache")?,
                input("V_cache")?,
                input("indices")?,
                input("input")?,
                input("mask")?,
            ],
            outputs: [
                output("K_cache_out")?,
                output("V_cache_out")?,
                output("output")?,
            ],
        })
    }

    fn elements_of_indices(&self, group: &Group) -> usize {
        group.inputs[self.inputs[2]].size_bytes / 4
    }

    /// The shape, and the axes of its positions.
    fn shape(
        &self,
        group: &Group,
        index: usize,
        hidden: usize,
        kv: usize,
    ) -> Result<(Shape, usize), String> {
        let input_bytes = self.inputs.map(|place| group.inputs[place].size_bytes);
        let output_bytes = self.outputs.map(|place| group.outputs[place].size_bytes);
        let [k, v, indices, input, mask] = input_bytes;
        let rows = input / (hidden * HALF);
        let wrong = |what: &str, got: usize| {
            Err(format!(
                "{what} of group {index} has {got} bytes, which fits no number of rows"
            ))
        };
        if rows == 0 || !input.is_multiple_of(hidden * HALF) {
            return wrong("input", input);
        }
        let axes = indices / 4 / rows;
        if !matches!(axes, 1 | 3) || indices != 4 * rows * axes {
            return wrong("indices", indices);
        }
        let columns = mask / HALF / rows;
        if mask != HALF * rows * columns || columns < rows {
            return wrong("mask", mask);
        }
        let history = columns - rows;
        // Without history the cache is a dummy of any size.
        if history > 0 && (k < history * kv * HALF || v < history * kv * HALF) {
            return wrong("K_cache", k);
        }
        for (what, got, want) in [
            ("K_cache_out", output_bytes[0], rows * kv * HALF),
            ("V_cache_out", output_bytes[1], rows * kv * HALF),
            ("output", output_bytes[2], input),
        ] {
            if got != want {
                return wrong(what, got);
            }
        }
        let shape = Shape {
            group: index,
            rows,
            history,
            inputs: self.inputs,
            outputs: self.outputs,
            input_bytes,
        };
        Ok((shape, axes))
    }
}

/// The tensor of a name, or of the name with the group's number behind it: some compilers add it.
pub(super) fn index_of(tensors: &[Tensor], name: &str, group: usize) -> Result<usize, String> {
    let numbered = format!("{name}_{group}");
    let find = |name: &str| tensors.iter().position(|tensor| tensor.name == name);
    find(name).or_else(|| find(&numbered)).ok_or_else(|| {
        let names: Vec<&str> = tensors.iter().map(|tensor| tensor.name.as_str()).collect();
        format!(
            "group {group} has no tensor {name} (it has {})",
            names.join(", ")
        )
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use axera_sys::DataType;

    fn tensor(name: &str, size_bytes: usize) -> Tensor {
        Tensor {
            name: name.to_owned(),
            dtype: DataType::Unknown,
            // Nobody looks at it: some builds do not tell the truth here.
            shape: Vec::new(),
            size_bytes,
        }
    }

    /// A group of a layer with rows of 2048 and keys of 256.
    fn group(rows: usize, history: usize, axes: usize) -> Group {
        let cache = 2 * if history == 0 { 2048 } else { history * 256 };
        Group {
            inputs: vec![
                tensor("K_cache", cache),
                tensor("V_cache", cache),
                tensor("indices", 4 * rows * axes),
                tensor("input", 2 * rows * 2048),
                tensor("mask", 2 * rows * (history + rows)),
            ],
            outputs: vec![
                tensor("K_cache_out", 2 * rows * 256),
                tensor("V_cache_out", 2 * rows * 256),
                tensor("output", 2 * rows * 2048),
            ],
        }
    }

    fn published() -> Vec<Group> {
        let chunks = (0..5).map(|i| group(128, 128 * i, 3));
        std::iter::once(group(1, 1023, 1)).chain(chunks).collect()
    }

    #[test]
    fn the_published_sizes_of_qwen25_vl_3b_are_found() {
        let layout = Layout::of(&published(), "l0").unwrap();
        assert_eq!((layout.hidden_size, layout.kv_size), (2048, 256));
        assert_eq!((layout.chunk(), layout.position_rows), (128, 3));
        assert_eq!((layout.context(), layout.max_prompt()), (1023, 640));
        assert_eq!(layout.max_input_bytes(0), 1023 * 512);
        let group = |past| layout.prefill_for(past).map(|shape| shape.group);
        let got = [0, 1, 128, 129, 512, 513].map(group);
        assert_eq!(got, [Some(1), Some(2), Some(2), Some(3), Some(5), None]);
        assert!(layout.decode_for(1023).is_some() && layout.decode_for(1024).is_none());
    }

    #[test]
    fn whole_chunks_are_found_again_as_far_as_the_chunks_see() {
        let layout = Layout::of(&published(), "l0").unwrap();
        let reusable = [127, 128, 300, 512, 640].map(|n| layout.reusable(&[], n));
        assert_eq!(reusable, [0, 128, 256, 512, 512]);
        assert_eq!(layout.prompt_rows(600, 512), 600);
        let decode_only = Layout::of(&[group(1, 1023, 1)], "l0").unwrap();
        assert_eq!(decode_only.reusable(&[], 77), 77);
    }

    #[test]
    fn tensors_are_found_by_name_in_any_order_and_with_the_groups_number() {
        let mut groups = published();
        for (index, group) in groups.iter_mut().enumerate() {
            group.inputs.rotate_left(index % 5);
            group.outputs.reverse();
            for tensor in group.inputs.iter_mut().chain(&mut group.outputs) {
                tensor.name = format!("{}_{index}", tensor.name);
            }
        }
        let layout = Layout::of(&groups, "l0").unwrap();
        assert_eq!((layout.context(), layout.max_prompt()), (1023, 640));
        assert_eq!(layout.prefill[1].inputs[3], 1);
        groups[2].inputs[0].name = "other".to_owned();
        let text = Layout::of(&groups, "l0").unwrap_err().to_string();
        assert!(text.contains("group 2 has no tensor"), "{text}");
    }

    #[test]
    fn several_decode_groups_stand_in_the_order_of_their_rows() {
        let groups = [group(1, 2047, 1), group(1, 511, 1), group(128, 0, 1)];
        let layout = Layout::of(&groups, "l0").unwrap();
        assert_eq!(layout.decode_for(100).unwrap().group, 1);
        assert_eq!(layout.decode_for(511).unwrap().group, 1);
        assert_eq!(layout.decode_for(512).unwrap().group, 0);
        assert_eq!((layout.context(), layout.max_prompt()), (2047, 128));
    }

    #[test]
    fn a_build_without_prefill_groups_takes_as_long_a_prompt_as_its_cache() {
        let layout = Layout::of(&[group(1, 1023, 1)], "l0").unwrap();
        assert_eq!((layout.chunk(), layout.max_prompt()), (1, 1023));
    }

    #[test]
    fn tensors_that_fit_no_number_of_rows_are_named() {
        for (input, size, words) in [
            (3, 2 * 2048 * 128 + 2, "input of group 1"),
            (2, 4 * 128 * 2, "indices of group 1"),
            (4, 2 * 128 * 100, "mask of group 1"),
        ] {
            let mut groups = published();
            groups[1].inputs[input].size_bytes = size;
            let text = Layout::of(&groups, "l0").unwrap_err().to_string();
            assert!(text.contains(words), "{text}");
        }
        let text = Layout::of(&published()[1..], "l0").unwrap_err().to_string();
        assert!(text.contains("no shape group for one token"), "{text}");
    }
}
