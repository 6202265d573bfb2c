// SPDX-License-Identifier: MPL-2.0

//! Makes folders of axmodels for the stand-ins from checkpoints, with the tensors, groups and names
//! that Pulsar2's have. The nets are written here anew, from the classes of transformers, and share
//! no code with the engine.

mod vision;

use std::collections::HashMap;
use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;

use gstvlmcaption::backend::spec::{Head, Rope, TextSpec};
use half::bf16;
use safetensors::{Dtype, SafeTensors};

pub use self::vision::vision;
use crate::net::{Matrix, Net, Value};

/// What is built.
#[derive(Debug, Clone)]
pub struct Build {
    /// Rows of a chunk; 0: no prefill groups.
    pub chunk: usize,
    /// Prefill groups: with histories 0, 1, 2, ... chunks.
    pub chunks: usize,
    /// Rows of the cache of each decode group.
    pub contexts: Vec<usize>,
    /// Whether tensors stand in another order in every group, with the group's number in the name.
    pub shuffled: bool,
    /// Logits in f32.
    pub float_logits: bool,
    pub compiler: &'static str,
}

impl Default for Build {
    fn default() -> Self {
        Self {
            chunk: 16,
            chunks: 10,
            contexts: vec![255],
            shuffled: false,
            float_logits: false,
            compiler: "Pulsar2 5.1 standin",
        }
    }
}

impl Build {
    /// With room for windows of the demo model.
    pub fn for_windows() -> Self {
        Self {
            chunk: 32,
            chunks: 6,
            contexts: vec![383],
            ..Self::default()
        }
    }
}

/// The tensors of a checkpoint, in f32.
pub struct Weights(HashMap<String, (Vec<usize>, Vec<f32>)>);

impl Weights {
    pub fn read(folder: &Path) -> Self {
        let mut all = HashMap::new();
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.extension().is_none_or(|e| e != "safetensors") {
                continue;
            }
            let bytes = fs::read(&path).unwrap();
            for (name, tensor) in SafeTensors::deserialize(&bytes).unwrap().iter() {
                let data = tensor.data();
                let halves = || data.as_chunks::<2>().0.iter();
                let values = match tensor.dtype() {
                    Dtype::BF16 => halves().map(|&b| bf16::from_le_bytes(b).to_f32()).collect(),
                    Dtype::F16 => halves()
                        .map(|&b| half::f16::from_le_bytes(b).to_f32())
                        .collect(),
                    _ => {
                        let floats = data.as_chunks::<4>().0.iter();
                        floats.map(|&b| f32::from_le_bytes(b)).collect()
                    }
                };
                all.insert(name.to_owned(), (tensor.shape().to_vec(), values));
            }
        }
        Self(all)
    }

    fn has(&self, name: &str) -> bool {
        self.0.contains_key(name)
    }

    fn vector(&self, name: &str) -> Vec<f32> {
        let found = self.0.get(name);
        found.unwrap_or_else(|| panic!("no {name}")).1.clone()
    }

    /// A tensor as a matrix, its first dimension the rows.
    fn matrix(&self, name: &str) -> Matrix {
        let (shape, values) = &self.0.get(name).unwrap_or_else(|| panic!("no {name}"));
        let cols = shape[1..].iter().product();
        Matrix::new(shape[0], cols, values.clone())
    }

    /// The first of these beginnings that a tensor `name` has.
    fn prefix(&self, prefixes: &[&str], name: &str) -> String {
        let found = prefixes.iter().find(|p| self.has(&format!("{p}{name}")));
        (*found.unwrap_or_else(|| panic!("no {name}"))).to_owned()
    }

    /// `name.weight` and, if it is there, `name.bias`.
    fn linear(&self, net: &mut Net, x: Value, name: &str) -> Value {
        let bias = format!("{name}.bias");
        let bias = self.has(&bias).then(|| self.vector(&bias));
        net.linear(x, &self.matrix(&format!("{name}.weight")), bias.as_deref())
    }

    fn layer_norm(&self, net: &mut Net, x: Value, name: &str, eps: f32) -> Value {
        let (weight, bias) = (format!("{name}.weight"), format!("{name}.bias"));
        net.layer_norm(x, &self.vector(&weight), &self.vector(&bias), eps)
    }

    fn rms(&self, net: &mut Net, x: Value, name: &str, eps: f32, heads: usize) -> Value {
        net.rms(x, &self.vector(&format!("{name}.weight")), eps, heads)
    }
}

/// Layers, head and table of embeddings of a checkpoint.
pub fn decoder(folder: &Path, weights: &Weights, spec: &TextSpec, build: &Build) {
    let text = weights.prefix(
        &[
            "model.language_model.",
            "language_model.model.",
            "model.",
            "language_model.",
        ],
        "embed_tokens.weight",
    );
    for i in 0..spec.num_hidden_layers {
        let p = build.chunk;
        let name = format!("tiny_p{p}_l{i}_together.axmodel");
        layer(weights, &format!("{text}layers.{i}."), spec, build).write(&folder.join(name));
    }
    let table = weights.matrix(&format!("{text}embed_tokens.weight"));
    let own = ["lm_head", "language_model.lm_head"].map(|head| format!("{head}.weight"));
    let own = own.iter().find(|name| weights.has(name));
    let head = match (spec.head, own) {
        (Head::Own | Head::AsFound, Some(name)) => weights.matrix(name),
        _ => table.clone(),
    };
    let mut net = Net::new(build.compiler);
    net.input(0, "input", "bf16", &[1, 1, spec.hidden_size]);
    let dtype = if build.float_logits { "f32" } else { "bf16" };
    net.output(0, "output", dtype, &[1, 1, spec.vocab_size]);
    let x = net.get("input");
    let x = weights.rms(&mut net, x, &format!("{text}norm"), spec.rms_norm_eps, 1);
    let x = net.linear(x, &head, None);
    net.put("output", x);
    net.write(&folder.join("tiny_post.axmodel"));
    let halves = table
        .values
        .iter()
        .map(|&x| bf16::from_f32(x).to_le_bytes());
    let bytes: Vec<u8> = halves.flatten().collect();
    fs::write(folder.join("model.embed_tokens.weight.bfloat16.bin"), bytes).unwrap();
}

fn layer(weights: &Weights, name: &str, spec: &TextSpec, build: &Build) -> Net {
    let (heads, kv_heads) = (spec.num_attention_heads, spec.num_key_value_heads);
    let eps = spec.rms_norm_eps;
    let mut net = Net::new(build.compiler);
    groups(&mut net, spec, build);
    let [x, indices, mask] = ["input", "indices", "mask"].map(|name| net.get(name));
    let [k_cache, v_cache] = ["K_cache", "V_cache"].map(|name| net.get(name));
    let turn = rotary(&mut net, indices, spec);
    let part = |part: &str| format!("{name}{part}");
    let normed = weights.rms(&mut net, x, &part("input_layernorm"), eps, 1);
    let mut q = weights.linear(&mut net, normed, &part("self_attn.q_proj"));
    let mut k = weights.linear(&mut net, normed, &part("self_attn.k_proj"));
    let v = weights.linear(&mut net, normed, &part("self_attn.v_proj"));
    if spec.qk_norm {
        q = weights.rms(&mut net, q, &part("self_attn.q_norm"), eps, heads);
        k = weights.rms(&mut net, k, &part("self_attn.k_norm"), eps, kv_heads);
    }
    let q = net.rope(q, turn, heads);
    let k = net.rope(k, turn, kv_heads);
    net.put("K_cache_out", k);
    net.put("V_cache_out", v);
    let k = net.op("history", &format!("{k_cache} {k} {mask}"));
    let v = net.op("history", &format!("{v_cache} {v} {mask}"));
    let seen = net.op(
        "attention",
        &format!("{q} {k} {v} {mask} {heads} {kv_heads}"),
    );
    let seen = weights.linear(&mut net, seen, &part("self_attn.o_proj"));
    let x = net.add(x, seen);
    let normed = weights.rms(&mut net, x, &part("post_attention_layernorm"), eps, 1);
    let inner = swiglu(&mut net, weights, normed, &part("mlp"));
    let x = net.add(x, inner);
    net.put("output", x);
    net
}

/// Inputs and outputs of a layer: a group of shapes for one token and each context, and one for each
/// chunk of a prompt.
fn groups(net: &mut Net, spec: &TextSpec, build: &Build) {
    let (hidden, kv) = (spec.hidden_size, spec.num_key_value_heads * spec.head_dim);
    let axes = if spec.rope == Rope::Plain { 1 } else { 3 };
    let p = build.chunk;
    let mut groups: Vec<(usize, usize)> = build.contexts.iter().map(|&l| (1, l)).collect();
    if p > 0 {
        groups.extend((0..build.chunks).map(|i| (p, i * p)));
    }
    for (g, &(rows, history)) in groups.iter().enumerate() {
        // The dummy of the first chunk is as wide as the hidden rows.
        let cache = match history {
            0 => [1, 1, hidden],
            _ => [1, history, kv],
        };
        let indices = match rows {
            1 => [1, 1],
            _ => [axes, rows],
        };
        let mut inputs = vec![
            ("K_cache", "bf16", cache.to_vec()),
            ("V_cache", "bf16", cache.to_vec()),
            ("indices", "u32", indices.to_vec()),
            ("input", "bf16", vec![1, rows, hidden]),
            ("mask", "bf16", vec![1, rows, history + rows]),
        ];
        let mut outputs = vec![
            ("K_cache_out", vec![1, rows, kv]),
            ("V_cache_out", vec![1, rows, kv]),
            ("output", vec![1, rows, hidden]),
        ];
        if build.shuffled {
            inputs.rotate_left(g % 5);
            outputs.rotate_left(g % 3);
        }
        let named = |name: &str| match build.shuffled {
            true => format!("{name}_{g}"),
            false => name.to_owned(),
        };
        for (name, dtype, dims) in inputs {
            net.input(g, &named(name), dtype, &dims);
        }
        for (name, dims) in outputs {
            net.output(g, &named(name), "bf16", &dims);
        }
    }
}

/// Cosines and sines of the positions `indices`.
fn rotary(net: &mut Net, indices: Value, spec: &TextSpec) -> [Value; 2] {
    let half = spec.head_dim / 2;
    let exponent = |j: usize| -2.0 * j as f64 / spec.head_dim as f64;
    let frequencies = (0..half).map(|j| spec.rope_theta.powf(exponent(j)) as f32);
    let frequencies = Matrix::row(frequencies.collect());
    let axis = |j: usize| match spec.rope {
        Rope::Plain => 0,
        Rope::Contiguous([t, h, _]) => usize::from(j >= t) + usize::from(j >= t + h),
        Rope::Interleaved([_, h, w]) => match j % 3 {
            1 if j < 3 * h => 1,
            2 if j < 3 * w => 2,
            _ => 0,
        },
    };
    net.rotary(indices, &frequencies, &Matrix::numbers((0..half).map(axis)))
}

fn swiglu(net: &mut Net, weights: &Weights, x: Value, name: &str) -> Value {
    let gate = weights.linear(net, x, &format!("{name}.gate_proj"));
    let up = weights.linear(net, x, &format!("{name}.up_proj"));
    let gate = net.op("silu", &gate.to_string());
    let inner = net.mul(gate, up);
    weights.linear(net, inner, &format!("{name}.down_proj"))
}

/// A folder with the files of another, and room for a vision model of its own.
pub fn link(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let path = entry.unwrap().path();
        symlink(&path, to.join(path.file_name().unwrap())).unwrap();
    }
}
