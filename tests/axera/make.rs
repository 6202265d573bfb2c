// SPDX-License-Identifier: MPL-2.0

//! Makes folders of axmodels for the stand-ins from checkpoints, with the tensors, groups and names
//! that Pulsar2's have. The nets are written here anew, from the classes of transformers, and share
//! no code with the engine.

use std::collections::HashMap;
use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;

use gstvlmcaption::backend::GridThw;
use gstvlmcaption::backend::cpu::{Head, Rope, Spec, TextSpec, Tower, VisionSpec};
use half::bf16;
use safetensors::{Dtype, SafeTensors};

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
    let (hidden, kv) = (spec.hidden_size, kv_heads * spec.head_dim);
    let eps = spec.rms_norm_eps;
    let mut net = Net::new(build.compiler);
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
    let [x, indices, mask] = ["input", "indices", "mask"].map(|name| net.get(name));
    let [k_cache, v_cache] = ["K_cache", "V_cache"].map(|name| net.get(name));
    let turn = net.rotary(indices, &frequencies, &Matrix::numbers((0..half).map(axis)));
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

fn swiglu(net: &mut Net, weights: &Weights, x: Value, name: &str) -> Value {
    let gate = weights.linear(net, x, &format!("{name}.gate_proj"));
    let up = weights.linear(net, x, &format!("{name}.up_proj"));
    let gate = net.op("silu", &gate.to_string());
    let inner = net.mul(gate, up);
    weights.linear(net, inner, &format!("{name}.down_proj"))
}

/// The vision model of a checkpoint for one size of images, and AXLLM's `config.json` that tells it.
pub fn vision(folder: &Path, weights: &Weights, spec: &Spec, grid: GridThw, build: &Build) {
    let net = match &spec.vision.tower {
        Tower::InternVl { .. } => internvl(weights, &spec.vision, build),
        _ => qwen(weights, &spec.vision, grid, build),
    };
    net.write(&folder.join("tiny_vision.axmodel"));
    let side = spec.vision.patch_size;
    let (width, height) = (grid.w * side, grid.h * side);
    let config = format!("{{\"vision_width\": {width}, \"vision_height\": {height}}}");
    fs::write(folder.join("config.json"), config).unwrap();
}

/// Row and column of each patch, merge blocks in raster order.
fn places(grid: GridThw) -> Vec<(usize, usize)> {
    let mut places = Vec::new();
    for (row, column) in (0..grid.h / 2).flat_map(|r| (0..grid.w / 2).map(move |c| (r, c))) {
        for inner in 0..4 {
            places.push((2 * row + inner / 2, 2 * column + inner % 2));
        }
    }
    places
}

fn qwen(weights: &Weights, spec: &VisionSpec, grid: GridThw, build: &Build) -> Net {
    let visual = weights.prefix(&["model.visual.", "visual."], "patch_embed.proj.weight");
    let (hidden, heads, patch) = (spec.hidden_size, spec.num_heads, spec.patch_size);
    let area = 2 * patch * patch;
    let n = grid.n_patches();
    let mut net = Net::new(build.compiler);
    net.input(0, "hidden_states", "u8", &[1, n, area, 3]);
    let tokens = n / 4;
    net.output(
        0,
        "hidden_states_out",
        "f32",
        &[tokens, spec.out_hidden_size],
    );
    let levels: &[usize] = match &spec.tower {
        Tower::Qwen3Vl {
            deepstack_visual_indexes,
            ..
        } => deepstack_visual_indexes,
        _ => &[],
    };
    for level in 0..levels.len() {
        let name = format!("deepstack_feature_{level}");
        net.output(0, &name, "f32", &[tokens, spec.out_hidden_size]);
    }
    // Mean and deviation are in the weights, channels stand last.
    let (mean, std) = (0.5, 0.5);
    let published = weights.matrix(&format!("{visual}patch_embed.proj.weight"));
    let bias = format!("{visual}patch_embed.proj.bias");
    let mut bias = match weights.has(&bias) {
        true => weights.vector(&bias),
        false => vec![0.0; hidden],
    };
    let mut folded = Vec::with_capacity(published.values.len());
    for (row, bias) in published.values.chunks(3 * area).zip(&mut bias) {
        *bias -= row.iter().sum::<f32>() * mean / std;
        for at in 0..area {
            folded.extend((0..3).map(|c| row[c * area + at] / (255.0 * std)));
        }
    }
    let x = net.get("hidden_states");
    let x = net.op("join", &format!("{x} {area}"));
    let mut x = net.linear(x, &Matrix::new(hidden, 3 * area, folded), Some(&bias));

    let mut order: Vec<usize> = (0..n / 4).collect();
    let mut window_mask = None;
    if let Tower::Qwen25Vl { window, .. } = &spec.tower {
        let windows = windows(grid, *window);
        let mut mask = vec![-1e9; n * n];
        let mut first = 0;
        for blocks in &windows {
            for i in first..first + 4 * blocks.len() {
                mask[i * n + first..][..4 * blocks.len()].fill(0.0);
            }
            first += 4 * blocks.len();
        }
        order = windows.concat();
        window_mask = Some(net.constant(&Matrix::new(n, n, mask)));
        let rows: Vec<usize> = order.iter().flat_map(|b| 4 * b..4 * b + 4).collect();
        x = net.gather(x, &rows);
    }
    let raster = places(grid);
    let places: Vec<_> = order
        .iter()
        .flat_map(|b| raster[4 * b..4 * b + 4].to_vec())
        .collect();
    if let Tower::Qwen3Vl {
        num_position_embeddings,
        ..
    } = &spec.tower
    {
        let table = weights.matrix(&format!("{visual}pos_embed.weight"));
        let positions = interpolated(&table, num_position_embeddings.isqrt(), grid, &places);
        let positions = net.constant(&positions);
        x = net.add(x, positions);
    }
    let turn = vision_rotation(&mut net, &places, hidden / heads);
    let mut features = Vec::new();
    for i in 0..spec.depth {
        let name = format!("{visual}blocks.{i}.");
        let is_qwen3 = matches!(spec.tower, Tower::Qwen3Vl { .. });
        let norm = |net: &mut Net, x, part: &str| match is_qwen3 {
            true => weights.layer_norm(net, x, &format!("{name}{part}"), 1e-6),
            false => weights.rms(net, x, &format!("{name}{part}"), 1e-6, 1),
        };
        let mask = match &spec.tower {
            Tower::Qwen25Vl {
                fullatt_block_indexes,
                ..
            } if !fullatt_block_indexes.contains(&i) => window_mask,
            _ => None,
        };
        let normed = norm(&mut net, x, "norm1");
        let qkv = weights.linear(&mut net, normed, &format!("{name}attn.qkv"));
        let seen = self_attention(&mut net, qkv, hidden, heads, Some(turn), mask);
        let seen = weights.linear(&mut net, seen, &format!("{name}attn.proj"));
        x = net.add(x, seen);
        let normed = norm(&mut net, x, "norm2");
        let inner = match is_qwen3 {
            true => {
                let inner = weights.linear(&mut net, normed, &format!("{name}mlp.linear_fc1"));
                let inner = net.op("gelu_tanh", &inner.to_string());
                weights.linear(&mut net, inner, &format!("{name}mlp.linear_fc2"))
            }
            false => swiglu(&mut net, weights, normed, &format!("{name}mlp")),
        };
        x = net.add(x, inner);
        if let Some(level) = levels.iter().position(|&index| index == i) {
            let name = format!("{visual}deepstack_merger_list.{level}.");
            let joined = net.op("join", &format!("{x} 4"));
            let joined = weights.layer_norm(&mut net, joined, &format!("{name}norm"), 1e-6);
            let names = [format!("{name}linear_fc1"), format!("{name}linear_fc2")];
            features.push((level, projected(&mut net, weights, joined, &names)));
        }
    }
    for (level, feature) in features {
        net.put(&format!("deepstack_feature_{level}"), feature);
    }
    let merger = format!("{visual}merger.");
    let x = match spec.tower {
        Tower::Qwen3Vl { .. } => {
            let x = weights.layer_norm(&mut net, x, &format!("{merger}norm"), 1e-6);
            let x = net.op("join", &format!("{x} 4"));
            let names = [format!("{merger}linear_fc1"), format!("{merger}linear_fc2")];
            projected(&mut net, weights, x, &names)
        }
        _ => {
            let x = weights.rms(&mut net, x, &format!("{merger}ln_q"), 1e-6, 1);
            let x = net.op("join", &format!("{x} 4"));
            let names = [format!("{merger}mlp.0"), format!("{merger}mlp.2")];
            projected(&mut net, weights, x, &names)
        }
    };
    let mut reverse = vec![0; order.len()];
    for (place, &block) in order.iter().enumerate() {
        reverse[block] = place;
    }
    let x = net.gather(x, &reverse);
    net.put("hidden_states_out", x);
    net
}

/// Merge blocks, window by window.
fn windows(grid: GridThw, side: usize) -> Vec<Vec<usize>> {
    let (rows, columns) = (grid.h / 2, grid.w / 2);
    let mut windows = Vec::new();
    for top in (0..rows).step_by(side) {
        for left in (0..columns).step_by(side) {
            let inside = (top..rows.min(top + side)).flat_map(|row| {
                (left..columns.min(left + side)).map(move |column| row * columns + column)
            });
            windows.push(inside.collect());
        }
    }
    windows
}

/// The learned table at the grid's points, bilinear.
fn interpolated(table: &Matrix, side: usize, grid: GridThw, places: &[(usize, usize)]) -> Matrix {
    let point = |i: usize, n: usize| {
        let at = match n {
            1 => 0.0,
            _ => i as f64 * (side - 1) as f64 / (n - 1) as f64,
        };
        let below = (at.floor() as usize).min(side - 1);
        (below, (below + 1).min(side - 1), (at - below as f64) as f32)
    };
    let mut values = Vec::with_capacity(places.len() * table.cols);
    for &(row, column) in places {
        let (top, bottom, dh) = point(row, grid.h);
        let (left, right, dw) = point(column, grid.w);
        let corner = |r: usize, c: usize, j: usize| table.values[(r * side + c) * table.cols + j];
        values.extend((0..table.cols).map(|j| {
            (1.0 - dh) * ((1.0 - dw) * corner(top, left, j) + dw * corner(top, right, j))
                + dh * ((1.0 - dw) * corner(bottom, left, j) + dw * corner(bottom, right, j))
        }));
    }
    Matrix::new(places.len(), table.cols, values)
}

/// Cosines and sines of patches' rows (first half of the angles) and columns (second half).
fn vision_rotation(net: &mut Net, places: &[(usize, usize)], head_dim: usize) -> [Value; 2] {
    let quarter = head_dim / 4;
    let angle =
        |at: usize, j: usize| at as f64 * 10_000f64.powf(-2.0 * j as f64 / (head_dim / 2) as f64);
    let table = |f: fn(f64) -> f64| {
        let rows = places.iter().flat_map(|&(row, column)| {
            let both = [row, column].into_iter();
            let half: Vec<f32> = both
                .flat_map(|at| (0..quarter).map(move |j| f(angle(at, j)) as f32))
                .collect();
            [half.clone(), half].concat()
        });
        Matrix::new(places.len(), head_dim, rows.collect())
    };
    let (cos, sin) = (table(f64::cos), table(f64::sin));
    [net.constant(&cos), net.constant(&sin)]
}

fn self_attention(
    net: &mut Net,
    qkv: Value,
    hidden: usize,
    heads: usize,
    turn: Option<[Value; 2]>,
    mask: Option<Value>,
) -> Value {
    let [mut q, mut k, v] =
        [0, 1, 2].map(|i| net.op("columns", &format!("{qkv} {} {hidden}", i * hidden)));
    if let Some(turn) = turn {
        q = net.rope(q, turn, heads);
        k = net.rope(k, turn, heads);
    }
    let mask = mask.map_or("-1".to_owned(), |mask| mask.to_string());
    net.op("attention", &format!("{q} {k} {v} {mask} {heads} {heads}"))
}

fn projected(net: &mut Net, weights: &Weights, x: Value, names: &[String; 2]) -> Value {
    let x = weights.linear(net, x, &names[0]);
    let x = net.op("gelu", &x.to_string());
    weights.linear(net, x, &names[1])
}

fn internvl(weights: &Weights, spec: &VisionSpec, build: &Build) -> Net {
    let Tower::InternVl {
        side,
        layer_norm_eps: eps,
        ..
    } = spec.tower
    else {
        panic!("another tower");
    };
    let (hidden, heads, patch) = (spec.hidden_size, spec.num_heads, spec.patch_size);
    let theirs = weights.has("vision_model.embeddings.class_embedding");
    let pick = |published: &'static str, transformers: &'static str| match theirs {
        true => published,
        false => transformers,
    };
    let stem = match theirs {
        true => "vision_model.".to_owned(),
        false => weights.prefix(
            &["model.vision_tower.", "vision_tower."],
            "embeddings.cls_token",
        ),
    };
    let mut net = Net::new(build.compiler);
    let pixels = side * patch;
    let tokens = side * side / 4;
    net.input(0, "image", "f32", &[1, 3, pixels, pixels]);
    net.output(0, "output", "f32", &[1, tokens, spec.out_hidden_size]);
    let grid = GridThw {
        t: 1,
        h: side,
        w: side,
    };
    let order: Vec<usize> = places(grid).iter().map(|(r, c)| r * side + c).collect();
    let x = net.get("image");
    let x = net.op("cut", &format!("{x} {patch}"));
    let name = pick(
        "embeddings.patch_embedding",
        "embeddings.patch_embeddings.projection",
    );
    let x = weights.linear(&mut net, x, &format!("{stem}{name}"));
    let x = net.gather(x, &order);
    let name = pick(
        "embeddings.position_embedding",
        "embeddings.position_embeddings",
    );
    let table = weights.vector(&format!("{stem}{name}"));
    let positions = order
        .iter()
        .flat_map(|i| &table[(1 + i) * hidden..][..hidden]);
    let positions = Matrix::new(side * side, hidden, positions.copied().collect());
    let positions = net.constant(&positions);
    let x = net.add(x, positions);
    let name = pick("embeddings.class_embedding", "embeddings.cls_token");
    let class = weights.vector(&format!("{stem}{name}"));
    let class = class.iter().zip(&table).map(|(a, b)| a + b).collect();
    let class = net.constant(&Matrix::row(class));
    let mut x = net.op("append", &format!("{class} {x}"));
    for i in 0..spec.depth {
        let name = format!("{stem}{}.{i}.", pick("encoder.layers", "encoder.layer"));
        let part = |published, transformers| format!("{name}{}", pick(published, transformers));
        let scale = |net: &mut Net, x, published, transformers| {
            let scale = weights.vector(&part(published, transformers));
            let scale = net.constant(&Matrix::row(scale));
            net.mul(x, scale)
        };
        let normed = weights.layer_norm(&mut net, x, &part("norm1", "layernorm_before"), eps);
        let seen = match theirs {
            true => {
                let qkv = weights.linear(&mut net, normed, &format!("{name}attn.qkv"));
                self_attention(&mut net, qkv, hidden, heads, None, None)
            }
            false => {
                let [q, k, v] = ["q", "k", "v"].map(|part| {
                    weights.linear(&mut net, normed, &format!("{name}attention.{part}_proj"))
                });
                net.op("attention", &format!("{q} {k} {v} -1 {heads} {heads}"))
            }
        };
        let proj = part("attn.proj", "attention.projection_layer");
        let seen = weights.linear(&mut net, seen, &proj);
        let seen = scale(&mut net, seen, "ls1", "lambda_1");
        x = net.add(x, seen);
        let normed = weights.layer_norm(&mut net, x, &part("norm2", "layernorm_after"), eps);
        let inner = weights.linear(&mut net, normed, &format!("{name}mlp.fc1"));
        let inner = net.op("gelu", &inner.to_string());
        let inner = weights.linear(&mut net, inner, &format!("{name}mlp.fc2"));
        let inner = scale(&mut net, inner, "ls2", "lambda_2");
        x = net.add(x, inner);
    }
    let rows: Vec<usize> = (1..=side * side).collect();
    let x = net.gather(x, &rows);
    let x = net.op("join", &format!("{x} 4"));
    let projector = match theirs {
        true => "mlp1.".to_owned(),
        false => weights.prefix(
            &["model.multi_modal_projector.", "multi_modal_projector."],
            "linear_1.weight",
        ),
    };
    let [norm, fc1, fc2] = match theirs {
        true => ["0", "1", "3"],
        false => ["layer_norm", "linear_1", "linear_2"],
    };
    let x = weights.layer_norm(&mut net, x, &format!("{projector}{norm}"), 1e-5);
    let names = [format!("{projector}{fc1}"), format!("{projector}{fc2}")];
    let x = projected(&mut net, weights, x, &names);
    net.put("output", x);
    net
}

/// A folder with the files of another, and room for a vision model of its own.
pub fn link(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let path = entry.unwrap().path();
        symlink(&path, to.join(path.file_name().unwrap())).unwrap();
    }
}
