// SPDX-License-Identifier: MPL-2.0

//! int8 on the demo model and on random weights of its shape, with and without outliers planted in
//! them as real models have them: channels 50 to 1,000 times the others, and tokens with one massive
//! activation.
//!
//! The channels are planted so that f32 says what it said: what a norm or a projection makes larger,
//! the matrix behind it makes smaller. `tools/golden/plant.py` does the same to a checkpoint on disk.

#[path = "common/golden.rs"]
#[allow(dead_code, reason = "each test file uses its own part")]
mod golden;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use golden::{Case, argmax, begin, cases, data, demo, int8_bound, spec, weight_files};
use gstvlmcaption::backend::cpu::{self, Options, Precision, Weights};
use gstvlmcaption::backend::spec::Head;
use gstvlmcaption::backend::{Cancel, Program};
use half::bf16;
use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::{RngCore, SeedableRng};
use safetensors::tensor::{Dtype, SafeTensors, TensorView, serialize_to_file};

/// A tensor in f32 with its shape.
struct Tensor {
    shape: Vec<usize>,
    values: Vec<f32>,
}

impl Tensor {
    fn scale_row(&mut self, row: usize, factor: f32) {
        let width = self.values.len() / self.shape[0];
        let row = &mut self.values[row * width..][..width];
        row.iter_mut().for_each(|value| *value *= factor);
    }

    fn scale_column(&mut self, column: usize, factor: f32) {
        let width = self.values.len() / self.shape[0];
        let column = self.values.iter_mut().skip(column).step_by(width);
        column.for_each(|value| *value *= factor);
    }
}

type Tensors = BTreeMap<String, Tensor>;

fn read(folder: &Path) -> Tensors {
    let bytes = std::fs::read(&weight_files(folder)[0]).expect("weights");
    let file = SafeTensors::deserialize(&bytes).expect("a safetensors file");
    let tensors = file.iter().map(|(name, view)| {
        let values = match view.dtype() {
            Dtype::BF16 => {
                let words = view.data().as_chunks::<2>().0.iter();
                words
                    .map(|&word| bf16::from_le_bytes(word).to_f32())
                    .collect()
            }
            Dtype::F16 => {
                let words = view.data().as_chunks::<2>().0.iter();
                words
                    .map(|&word| half::f16::from_le_bytes(word).to_f32())
                    .collect()
            }
            _ => {
                let words = view.data().as_chunks::<4>().0.iter();
                words.map(|&word| f32::from_le_bytes(word)).collect()
            }
        };
        let shape = view.shape().to_vec();
        (name.to_owned(), Tensor { shape, values })
    });
    tensors.collect()
}

fn write(tensors: &Tensors, folder: &Path) -> PathBuf {
    let path = folder.join("model.safetensors");
    let bytes: BTreeMap<&String, Vec<u8>> = tensors
        .iter()
        .map(|(name, tensor)| {
            let values = tensor.values.iter();
            (name, values.flat_map(|value| value.to_le_bytes()).collect())
        })
        .collect();
    let views = tensors.iter().map(|(name, tensor)| {
        let view = TensorView::new(Dtype::F32, tensor.shape.clone(), &bytes[name]);
        (name.clone(), view.expect("a good tensor"))
    });
    serialize_to_file(views, None, &path).expect("a writable folder");
    path
}

/// Draws all weights anew, so that hidden states keep their size from layer to layer and logits have a
/// standard deviation of 2, about that of trained models: `fill` of `tools/golden/checkpoints.py`,
/// and its table as `tools/golden/plant.py` scales it.
fn randomize(tensors: &mut Tensors, seed: u64) {
    let mut random = ChaCha8Rng::seed_from_u64(seed);
    let mut uniform = move || (f64::from(random.next_u32()) + 0.5) / 2f64.powi(32);
    // Box and Muller's.
    let mut noise = move || {
        let size = (-2.0 * uniform().ln()).sqrt();
        (size * (std::f64::consts::TAU * uniform()).cos()) as f32
    };
    for (name, tensor) in tensors {
        let fan_in = (tensor.values.len() / tensor.shape[0]) as f32;
        let is_norm = ["norm.weight", "layernorm", "norm1.weight", "norm2.weight"];
        let (middle, size) = if name.ends_with("bias") {
            (0.0, 0.2)
        } else if is_norm.iter().any(|part| name.contains(part)) {
            (1.0, 0.2)
        } else if name.contains("embed_tokens") {
            (0.0, 2.0 / fan_in.sqrt())
        } else if name.contains("pos_embed") {
            (0.0, 0.5)
        } else {
            (0.0, 1.4 / fan_in.sqrt())
        };
        let values = tensor.values.iter_mut();
        values.for_each(|value| *value = middle + size * noise());
    }
}

/// Makes channels of norms and projections 50, 300 and 1,000 times larger.
fn plant_channels(tensors: &mut Tensors) {
    let text = spec(&demo()).text;
    let group = text.num_attention_heads / text.num_key_value_heads;
    let get = |tensors: &mut Tensors, name: String, change: &dyn Fn(&mut Tensor)| {
        let tensor = tensors.get_mut(&name);
        change(tensor.unwrap_or_else(|| panic!("no tensor {name}")));
    };
    for (n, factor) in [50.0, 300.0, 1000.0].into_iter().enumerate() {
        for layer in 0..text.num_hidden_layers {
            let at = |width: usize| (n * 37 + layer * 11 + 5) % width;
            let name = |part: &str| format!("model.language_model.layers.{layer}.{part}.weight");
            let column = at(text.hidden_size);
            for (norm, behind) in [
                (
                    "input_layernorm",
                    &["self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj"][..],
                ),
                (
                    "post_attention_layernorm",
                    &["mlp.gate_proj", "mlp.up_proj"],
                ),
            ] {
                get(tensors, name(norm), &|norm| norm.values[column] *= factor);
                for part in behind {
                    get(tensors, name(part), &|part| {
                        part.scale_column(column, 1.0 / factor)
                    });
                }
            }
            let inner = at(text.intermediate_size);
            get(tensors, name("mlp.up_proj"), &|up| {
                up.scale_row(inner, factor)
            });
            get(tensors, name("mlp.down_proj"), &|down| {
                down.scale_column(inner, 1.0 / factor)
            });
            let value = at(text.num_key_value_heads * text.head_dim);
            get(tensors, name("self_attn.v_proj"), &|v| {
                v.scale_row(value, factor)
            });
            let (head, channel) = (value / text.head_dim, value % text.head_dim);
            for query in 0..group {
                let column = (head * group + query) * text.head_dim + channel;
                get(tensors, name("self_attn.o_proj"), &|o| {
                    o.scale_column(column, 1.0 / factor);
                });
            }
        }
        let vision = spec(&demo()).vision;
        for block in 0..vision.depth {
            let column = (n * 13 + block * 7 + 2) % vision.hidden_size;
            for (norm, behind) in [("norm1", "attn.qkv"), ("norm2", "mlp.linear_fc1")] {
                let name = |part: &str| format!("model.visual.blocks.{block}.{part}");
                for part in ["weight", "bias"] {
                    let norm = name(&format!("{norm}.{part}"));
                    get(tensors, norm, &|norm| norm.values[column] *= factor);
                }
                let behind = name(&format!("{behind}.weight"));
                get(tensors, behind, &|part| {
                    part.scale_column(column, 1.0 / factor)
                });
            }
        }
    }
}

/// Gives the special tokens an embedding with one value 1,000 times the others' size.
fn plant_tokens(tensors: &mut Tensors) {
    let name = "model.language_model.embed_tokens.weight";
    let table = tensors.get_mut(name).expect("an embedding table");
    let (rows, n) = (table.shape[0], table.values.len());
    let head = Tensor {
        shape: table.shape.clone(),
        values: table.values.clone(),
    };
    let square = table.values.iter().map(|value| value * value).sum::<f32>();
    let size = (square / n as f32).sqrt();
    let width = n / rows;
    for row in rows - 8..rows {
        table.values[row * width + row * 29 % width] = 1000.0 * size;
    }
    // A table with such rows is no head.
    tensors.insert("lm_head.weight".to_owned(), head);
}

fn load(path: &Path, head: Head, precision: Precision) -> Box<dyn Program> {
    let options = Options {
        precision,
        threads: Some(2),
        ..Options::default()
    };
    let weights = Weights::Files(vec![path.to_owned()]);
    let (cancel, mut ignore) = (Cancel::default(), |_| ());
    let mut spec = spec(&demo());
    spec.text.head = head;
    cpu::load(&spec, &weights, &options, &mut ignore, &cancel).expect("a model")
}

/// Logits of the first token.
fn first(program: &mut dyn Program, case: &Case) -> Vec<f32> {
    let (sequence, logits) = begin(program, case);
    program.close(sequence);
    logits
}

fn log_softmax(logits: &[f32]) -> Vec<f64> {
    let max = logits.iter().fold(f32::MIN, |a, &b| a.max(b));
    let sum: f64 = logits.iter().map(|l| f64::from(l - max).exp()).sum();
    let shift = f64::from(max) + sum.ln();
    logits.iter().map(|&l| f64::from(l) - shift).collect()
}

/// Of the demo model's first tokens, nats, whatever the processor: 0.0088 at most where activations
/// have 7 bits.
const TRAINED: f64 = 0.01;

/// Holds the divergence of first tokens in int8 from those in f32 against the bound.
fn compare(path: &Path, head: Head, bound: f64, check: impl Fn(&Case, &[f32])) {
    let cases = cases(&data().join("logits"), &demo());
    let (mut f32, mut int8) = (
        load(path, head, Precision::F32),
        load(path, head, Precision::Int8),
    );
    for case in &cases {
        let (want, got) = (first(&mut *f32, case), first(&mut *int8, case));
        check(case, &want);
        let (p, q) = (log_softmax(&want), log_softmax(&got));
        let kl: f64 = p.iter().zip(&q).map(|(p, q)| p.exp() * (p - q)).sum();
        eprintln!("{}: KL {kl:.6}", case.name);
        assert!(kl < bound, "{}: KL {kl}", case.name);
    }
}

#[test]
fn planted_channels_do_not_spoil_the_first_token() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let mut tensors = read(&demo());
    plant_channels(&mut tensors);
    let path = write(&tensors, folder.path());
    compare(&path, Head::AsFound, TRAINED, |case, logits| {
        // The planting is right: f32 says what it said.
        assert_eq!(argmax(logits), case.greedy[0], "{}", case.name);
    });
}

#[test]
fn planted_massive_tokens_do_not_spoil_the_first_token() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let mut tensors = read(&demo());
    plant_channels(&mut tensors);
    plant_tokens(&mut tensors);
    let path = write(&tensors, folder.path());
    compare(&path, Head::Own, TRAINED, |_, _| ());
}

#[test]
fn random_weights_keep_their_first_token_planted_or_not() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    for seed in 1..=2 {
        let mut tensors = read(&demo());
        randomize(&mut tensors, seed);
        let path = write(&tensors, folder.path());
        compare(&path, Head::AsFound, int8_bound(), |_, _| ());
        plant_channels(&mut tensors);
        let path = write(&tensors, folder.path());
        compare(&path, Head::AsFound, int8_bound(), |_, _| ());
        plant_tokens(&mut tensors);
        let path = write(&tensors, folder.path());
        compare(&path, Head::Own, int8_bound(), |_, _| ());
    }
}
