// SPDX-License-Identifier: MPL-2.0

//! Each way of packing, by numbers that are written by hand.

use half::{bf16, f16};
use safetensors::Dtype;
use safetensors::tensor::{TensorView, serialize};

use super::*;
use crate::Cancel;
use crate::cpu::Weights;

/// Name, type, shape and bytes.
type Tensor<'a> = (&'a str, Dtype, &'a [usize], &'a [u8]);

/// A file of these tensors in memory.
fn file_of(tensors: &[Tensor<'_>]) -> Weights {
    let views = tensors.iter().map(|&(name, dtype, shape, data)| {
        let view = TensorView::new(dtype, shape.to_vec(), data).expect("a good tensor");
        (name.to_owned(), view)
    });
    let bytes = serialize(views, None).expect("a good file");
    Weights::Bytes(bytes.leak())
}

/// What becomes of the matrix `m.weight` of this shape.
fn unpacked(
    packing: Packing,
    shape: [usize; 2],
    tensors: &[Tensor<'_>],
) -> Result<Vec<f32>, Error> {
    let (weights, cancel, mut ignore) = (file_of(tensors), Cancel::default(), |_| ());
    let mut reader = Reader::open(&weights, &mut ignore, &cancel).expect("a good file");
    let matrix = PackedMatrix::find(packing, &reader, "m.weight", &shape).expect("a packed matrix");
    let mut rows = Vec::new();
    matrix.rows(&mut reader, &mut |piece| rows.extend_from_slice(piece))?;
    Ok(rows)
}

fn le(words: &[u32]) -> Vec<u8> {
    words.iter().flat_map(|word| word.to_le_bytes()).collect()
}

mod awq {
    use super::*;

    #[test]
    fn a_word_written_by_hand_is_unpacked() {
        // Outputs 0..8 of input 0 are 1..=8, in the order of the nibbles 1 3 5 7 2 4 6 8; those of
        // input 1 are all 15, in a group of their own. Zero points are 1 and 15, scales 0.5 and 2.
        let packed = le(&[0x8642_7531, 0xffff_ffff]);
        let zeros = le(&[0x1111_1111, 0xfff0_ffff]);
        let scales: Vec<u8> = [[0.5; 8], [2.0; 8]]
            .as_flattened()
            .iter()
            .flat_map(|&scale| f16::from_f32(scale).to_le_bytes())
            .collect();
        let tensors: [Tensor<'_>; 3] = [
            ("m.qweight", Dtype::I32, &[2, 1], &packed),
            ("m.qzeros", Dtype::I32, &[2, 1], &zeros),
            ("m.scales", Dtype::F16, &[2, 8], &scales),
        ];
        let awq = |group_size| Packing::Awq { group_size };
        let rows = unpacked(awq(Some(1)), [8, 2], &tensors).expect("a readable matrix");
        // Zero point 0 of input 1 is that of nibble 4, which is output 1.
        let want = [
            [0.0, 0.0],
            [0.5, 30.0],
            [1.0, 0.0],
            [1.5, 0.0],
            [2.0, 0.0],
            [2.5, 0.0],
            [3.0, 0.0],
            [3.5, 0.0],
        ];
        assert_eq!(rows, want.as_flattened());

        let error = unpacked(awq(None), [8, 2], &tensors);
        assert!(matches!(
            error,
            Err(Error::WeightShape { name, .. }) if name == "m.qzeros"
        ));
    }
}

mod gptq {
    use super::*;

    const LEGACY: Packing = Packing::Gptq {
        bits: 8,
        group_size: Some(2),
        zeros: GptqZeros::LessOne,
    };

    /// Two outputs of four inputs in two groups, inputs 0 and 3 in the second.
    fn matrix(g_idx: [i32; 4], packing: Packing) -> Result<Vec<f32>, Error> {
        let packed: Vec<u8> = [[10u8, 20, 30, 40], [1, 2, 3, 255]].concat();
        // Four zero points in a word; the file has one less than they are, and -1 for 0.
        let zeros: Vec<u8> = [[9u8, 0, 0, 0], [19, 255, 0, 0]].concat();
        let scales: Vec<u8> = [1.0, 2.0, 0.5, 4.0]
            .iter()
            .flat_map(|&scale| f16::from_f32(scale).to_le_bytes())
            .collect();
        let g_idx: Vec<u8> = g_idx.iter().flat_map(|group| group.to_le_bytes()).collect();
        unpacked(
            packing,
            [2, 4],
            &[
                ("m.qweight", Dtype::I32, &[1, 2], &packed),
                ("m.qzeros", Dtype::I32, &[2, 1], &zeros),
                ("m.scales", Dtype::F16, &[2, 2], &scales),
                ("m.g_idx", Dtype::I32, &[4], &g_idx),
            ],
        )
    }

    #[test]
    fn words_written_by_hand_are_unpacked() {
        let rows = matrix([1, 0, 0, 1], LEGACY).expect("a readable matrix");
        let want = [
            // Zero points 20 and 10, scales 0.5 and 1.
            [-5.0, 10.0, 20.0, 10.0],
            // Zero points 0 and 1, scales 4 and 2.
            [4.0, 2.0, 4.0, 1020.0],
        ];
        assert_eq!(rows, want.as_flattened());
        let second = Packing::Gptq {
            bits: 8,
            group_size: Some(2),
            zeros: GptqZeros::AsTheyAre,
        };
        let rows = matrix([1, 0, 0, 1], second).expect("a readable matrix");
        assert_eq!(rows[..4], [-4.5, 11.0, 21.0, 10.5]);
    }

    #[test]
    fn a_group_that_there_is_not_is_told() {
        for wrong in [2, -1] {
            let error = matrix([0, 0, wrong, 1], LEGACY).expect_err("a wrong group");
            let said = error.to_string();
            assert!(
                said.contains("m.g_idx") && said.contains(&wrong.to_string()),
                "{said}"
            );
        }
    }
}

mod pack_quantized {
    use super::*;

    const FOUR_BITS: Packing = Packing::PackQuantized {
        bits: 4,
        group_size: Some(2),
    };

    fn bf16s(numbers: &[f32]) -> Vec<u8> {
        let bytes = numbers.iter().map(|&n| bf16::from_f32(n).to_le_bytes());
        bytes.flatten().collect()
    }

    /// Two outputs of three inputs, in groups of two.
    fn matrix(more: &[Tensor<'_>], shape: [u64; 2]) -> Result<Vec<f32>, Error> {
        let packed = le(&[0x0f98, 0x0123]);
        let scales = bf16s(&[1.0, 2.0, 0.5, 4.0]);
        let shape = shape.map(u64::to_le_bytes).concat();
        let tensors: [Tensor<'_>; 3] = [
            ("m.weight_packed", Dtype::I32, &[2, 1], &packed),
            ("m.weight_scale", Dtype::BF16, &[2, 2], &scales),
            ("m.weight_shape", Dtype::I64, &[2], &shape),
        ];
        unpacked(FOUR_BITS, [2, 3], &[&tensors, more].concat())
    }

    #[test]
    fn words_written_by_hand_are_unpacked() {
        let symmetric = matrix(&[], [2, 3]).expect("a readable matrix");
        assert_eq!(symmetric, [0.0, 1.0, 14.0, -2.5, -3.0, -28.0]);
        // Zero points of the two outputs: 1 and 2 of the first group, 15 and 0 of the second.
        let zeros = le(&[0x21, 0x0f]);
        let zeros: Tensor<'_> = ("m.weight_zero_point", Dtype::I32, &[1, 2], &zeros);
        let rows = matrix(&[zeros], [2, 3]).expect("a readable matrix");
        assert_eq!(rows, [7.0, 8.0, 0.0, 0.5, 0.0, 4.0]);
        let order = le(&[1, 0, 0]);
        let order: Tensor<'_> = ("m.weight_g_idx", Dtype::I32, &[3], &order);
        let rows = matrix(&[order], [2, 3]).expect("a readable matrix");
        assert_eq!(rows, [0.0, 1.0, 7.0, -20.0, -3.0, -3.5]);
    }

    #[test]
    fn another_shape_and_a_wrong_group_are_told() {
        let error = matrix(&[], [2, 4]);
        assert!(matches!(error, Err(Error::WeightShape { got, .. }) if got == [2, 4]));
        let order = le(&[0, 0, 2]);
        let order: Tensor<'_> = ("m.weight_g_idx", Dtype::I32, &[3], &order);
        let error = matrix(&[order], [2, 3]);
        assert!(matches!(error, Err(Error::PackedIndex { index: 2, .. })));
    }
}

mod bytes {
    use super::*;

    fn f32s(numbers: &[f32]) -> Vec<u8> {
        numbers.iter().flat_map(|n| n.to_le_bytes()).collect()
    }

    #[test]
    fn blocks_have_their_scales() {
        // Three outputs of three inputs, in blocks of two by two.
        let codes = [0x38, 0x38, 0x40, 0x38, 0x38, 0x40, 0xb8, 0xb8, 0xc0];
        let scales = f32s(&[1.0, 2.0, 3.0, 4.0]);
        let rows = unpacked(
            Packing::Bytes {
                block: [Some(2), Some(2)],
            },
            [3, 3],
            &[
                ("m.weight", Dtype::F8_E4M3, &[3, 3], &codes),
                ("m.weight_scale_inv", Dtype::F32, &[2, 2], &scales),
            ],
        );
        let want = [1.0, 1.0, 4.0, 1.0, 1.0, 4.0, -3.0, -3.0, -8.0];
        assert_eq!(rows.expect("a readable matrix"), want);
    }

    #[test]
    fn rows_and_whole_matrices_have_one_scale_in_any_shape() {
        let codes = [1, 2, 255, 4];
        let (rows, whole) = (f32s(&[2.0, 10.0]), f32s(&[3.0]));
        let zeros = [1, 255];
        let by_row = Packing::Bytes {
            block: [Some(1), None],
        };
        for shape in [&[2, 1][..], &[2]] {
            let tensors: [Tensor<'_>; 3] = [
                ("m.weight", Dtype::I8, &[2, 2], &codes),
                ("m.weight_scale", Dtype::F32, shape, &rows),
                ("m.weight_zero_point", Dtype::I8, shape, &zeros),
            ];
            let plain = unpacked(by_row, [2, 2], &tensors[..2]).expect("a readable matrix");
            assert_eq!(plain, [2.0, 4.0, -10.0, 40.0]);
            let moved = unpacked(by_row, [2, 2], &tensors).expect("a readable matrix");
            assert_eq!(moved, [0.0, 2.0, 0.0, 50.0]);
        }
        let one = Packing::Bytes {
            block: [None, None],
        };
        for shape in [&[1, 1][..], &[1], &[]] {
            let tensors: [Tensor<'_>; 2] = [
                ("m.weight", Dtype::I8, &[2, 2], &codes),
                ("m.weight_scale", Dtype::F32, shape, &whole),
            ];
            let rows = unpacked(one, [2, 2], &tensors).expect("a readable matrix");
            assert_eq!(rows, [3.0, 6.0, -3.0, 12.0]);
        }
    }

    #[test]
    fn another_type_and_another_shape_are_told() {
        let scales = f32s(&[1.0, 1.0, 1.0]);
        let tensors: [Tensor<'_>; 2] = [
            ("m.weight", Dtype::F8_E5M2, &[2, 2], &[0; 4]),
            ("m.weight_scale", Dtype::F32, &[3, 1], &scales),
        ];
        let by_row = Packing::Bytes {
            block: [Some(1), None],
        };
        let error = unpacked(by_row, [2, 2], &tensors).expect_err("three scales of two rows");
        assert!(matches!(error, Error::WeightShape { .. }), "{error}");
        let two = f32s(&[1.0, 1.0]);
        let tensors = [tensors[0], ("m.weight_scale", Dtype::F32, &[2, 1], &two)];
        let error = unpacked(by_row, [2, 2], &tensors).expect_err("E5M2");
        assert!(error.to_string().contains("F8_E5M2"), "{error}");
    }
}
