// SPDX-License-Identifier: MPL-2.0

//! Vision nets.

use std::fs;
use std::path::Path;

use gstvlmcaption::backend::GridThw;
use gstvlmcaption::backend::spec::{Spec, Tower, VisionSpec};

use super::{Build, Weights, swiglu};
use crate::net::{Matrix, Net, Value};

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
    let levels: &[usize] = match &spec.tower {
        Tower::Qwen3Vl {
            deepstack_visual_indexes,
            ..
        } => deepstack_visual_indexes,
        _ => &[],
    };
    let mut net = qwen_net(spec, levels.len(), grid, build);
    let mut x = qwen_patches(&mut net, weights, spec, &visual);
    let mut order: Vec<usize> = (0..grid.n_patches() / 4).collect();
    let mut window_mask = None;
    if let Tower::Qwen25Vl { window, .. } = &spec.tower {
        let windows = windows(grid, *window);
        window_mask = Some(net.constant(&mask_of(&windows, grid.n_patches())));
        order = windows.concat();
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
    let tower = Qwen {
        weights,
        spec,
        visual: &visual,
        turn: vision_rotation(&mut net, &places, spec.hidden_size / spec.num_heads),
        window_mask,
    };
    let mut features = Vec::new();
    for i in 0..spec.depth {
        x = tower.block(&mut net, x, i);
        if let Some(level) = levels.iter().position(|&index| index == i) {
            features.push((level, tower.level(&mut net, x, level)));
        }
    }
    for (level, feature) in features {
        net.put(&format!("deepstack_feature_{level}"), feature);
    }
    let x = tower.merger(&mut net, x);
    let mut reverse = vec![0; order.len()];
    for (place, &block) in order.iter().enumerate() {
        reverse[block] = place;
    }
    let x = net.gather(x, &reverse);
    net.put("hidden_states_out", x);
    net
}

/// A net with inputs and outputs for this grid, and nothing between.
fn qwen_net(spec: &VisionSpec, n_levels: usize, grid: GridThw, build: &Build) -> Net {
    let n = grid.n_patches();
    let area = 2 * spec.patch_size * spec.patch_size;
    let features = [n / 4, spec.out_hidden_size];
    let mut net = Net::new(build.compiler);
    net.input(0, "hidden_states", "u8", &[1, n, area, 3]);
    net.output(0, "hidden_states_out", "f32", &features);
    for level in 0..n_levels {
        let name = format!("deepstack_feature_{level}");
        net.output(0, &name, "f32", &features);
    }
    net
}

/// The embedded patches. Mean and deviation are in the weights, channels stand last.
fn qwen_patches(net: &mut Net, weights: &Weights, spec: &VisionSpec, visual: &str) -> Value {
    let (hidden, area) = (spec.hidden_size, 2 * spec.patch_size * spec.patch_size);
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
    net.linear(x, &Matrix::new(hidden, 3 * area, folded), Some(&bias))
}

/// What hides the patches of other windows; `n` patches in all.
fn mask_of(windows: &[Vec<usize>], n: usize) -> Matrix {
    let mut mask = vec![-1e9; n * n];
    let mut first = 0;
    for blocks in windows {
        for i in first..first + 4 * blocks.len() {
            mask[i * n + first..][..4 * blocks.len()].fill(0.0);
        }
        first += 4 * blocks.len();
    }
    Matrix::new(n, n, mask)
}

/// A tower of Qwen's, and what its blocks share.
struct Qwen<'a> {
    weights: &'a Weights,
    spec: &'a VisionSpec,
    visual: &'a str,
    turn: [Value; 2],
    window_mask: Option<Value>,
}

impl Qwen<'_> {
    fn is_qwen3(&self) -> bool {
        matches!(self.spec.tower, Tower::Qwen3Vl { .. })
    }

    fn block(&self, net: &mut Net, x: Value, i: usize) -> Value {
        let (weights, spec) = (self.weights, self.spec);
        let name = format!("{}blocks.{i}.", self.visual);
        let norm = |net: &mut Net, x, part: &str| match self.is_qwen3() {
            true => weights.layer_norm(net, x, &format!("{name}{part}"), 1e-6),
            false => weights.rms(net, x, &format!("{name}{part}"), 1e-6, 1),
        };
        let mask = match &spec.tower {
            Tower::Qwen25Vl {
                fullatt_block_indexes,
                ..
            } if !fullatt_block_indexes.contains(&i) => self.window_mask,
            _ => None,
        };
        let (hidden, heads) = (spec.hidden_size, spec.num_heads);
        let normed = norm(net, x, "norm1");
        let qkv = weights.linear(net, normed, &format!("{name}attn.qkv"));
        let seen = self_attention(net, qkv, hidden, heads, Some(self.turn), mask);
        let seen = weights.linear(net, seen, &format!("{name}attn.proj"));
        let x = net.add(x, seen);
        let normed = norm(net, x, "norm2");
        let inner = match self.is_qwen3() {
            true => {
                let inner = weights.linear(net, normed, &format!("{name}mlp.linear_fc1"));
                let inner = net.op("gelu_tanh", &inner.to_string());
                weights.linear(net, inner, &format!("{name}mlp.linear_fc2"))
            }
            false => swiglu(net, weights, normed, &format!("{name}mlp")),
        };
        net.add(x, inner)
    }

    /// The features of a deepstack level.
    fn level(&self, net: &mut Net, x: Value, level: usize) -> Value {
        let name = format!("{}deepstack_merger_list.{level}.", self.visual);
        let joined = net.op("join", &format!("{x} 4"));
        let joined = self
            .weights
            .layer_norm(net, joined, &format!("{name}norm"), 1e-6);
        let names = [format!("{name}linear_fc1"), format!("{name}linear_fc2")];
        projected(net, self.weights, joined, &names)
    }

    fn merger(&self, net: &mut Net, x: Value) -> Value {
        let merger = format!("{}merger.", self.visual);
        let (x, fc1, fc2) = match self.is_qwen3() {
            true => {
                let x = self
                    .weights
                    .layer_norm(net, x, &format!("{merger}norm"), 1e-6);
                (x, "linear_fc1", "linear_fc2")
            }
            false => {
                let x = self.weights.rms(net, x, &format!("{merger}ln_q"), 1e-6, 1);
                (x, "mlp.0", "mlp.2")
            }
        };
        let x = net.op("join", &format!("{x} 4"));
        let names = [format!("{merger}{fc1}"), format!("{merger}{fc2}")];
        projected(net, self.weights, x, &names)
    }
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
    let is_published = weights.has("vision_model.embeddings.class_embedding");
    let tower = InternVl {
        weights,
        spec,
        side,
        eps,
        is_published,
        prefix: match is_published {
            true => "vision_model.".to_owned(),
            false => weights.prefix(
                &["model.vision_tower.", "vision_tower."],
                "embeddings.cls_token",
            ),
        },
    };
    let mut net = Net::new(build.compiler);
    let pixels = side * spec.patch_size;
    let tokens = side * side / 4;
    net.input(0, "image", "f32", &[1, 3, pixels, pixels]);
    net.output(0, "output", "f32", &[1, tokens, spec.out_hidden_size]);
    let mut x = tower.patches(&mut net);
    for i in 0..spec.depth {
        x = tower.block(&mut net, x, i);
    }
    let rows: Vec<usize> = (1..=side * side).collect();
    let x = net.gather(x, &rows);
    let x = tower.projector(&mut net, x);
    net.put("output", x);
    net
}

/// A tower of InternVL's.
struct InternVl<'a> {
    weights: &'a Weights,
    spec: &'a VisionSpec,
    side: usize,
    eps: f32,
    /// Whether its tensors have the names that OpenGVLab gives them, or those of transformers.
    is_published: bool,
    prefix: String,
}

impl InternVl<'_> {
    fn pick(&self, published: &'static str, transformers: &'static str) -> &'static str {
        match self.is_published {
            true => published,
            false => transformers,
        }
    }

    /// The class token and the embedded patches, at their positions.
    fn patches(&self, net: &mut Net) -> Value {
        let (weights, prefix, side) = (self.weights, &self.prefix, self.side);
        let hidden = self.spec.hidden_size;
        let grid = GridThw {
            t: 1,
            h: side,
            w: side,
        };
        let order: Vec<usize> = places(grid).iter().map(|(r, c)| r * side + c).collect();
        let x = net.get("image");
        let x = net.op("cut", &format!("{x} {}", self.spec.patch_size));
        let name = self.pick(
            "embeddings.patch_embedding",
            "embeddings.patch_embeddings.projection",
        );
        let x = weights.linear(net, x, &format!("{prefix}{name}"));
        let x = net.gather(x, &order);
        let name = self.pick(
            "embeddings.position_embedding",
            "embeddings.position_embeddings",
        );
        let table = weights.vector(&format!("{prefix}{name}"));
        let positions = order
            .iter()
            .flat_map(|i| &table[(1 + i) * hidden..][..hidden]);
        let positions = Matrix::new(side * side, hidden, positions.copied().collect());
        let positions = net.constant(&positions);
        let x = net.add(x, positions);
        let name = self.pick("embeddings.class_embedding", "embeddings.cls_token");
        let class = weights.vector(&format!("{prefix}{name}"));
        let class = class.iter().zip(&table).map(|(a, b)| a + b).collect();
        let class = net.constant(&Matrix::row(class));
        net.op("append", &format!("{class} {x}"))
    }

    fn block(&self, net: &mut Net, x: Value, i: usize) -> Value {
        let (weights, eps) = (self.weights, self.eps);
        let (hidden, heads) = (self.spec.hidden_size, self.spec.num_heads);
        let layers = self.pick("encoder.layers", "encoder.layer");
        let name = format!("{}{layers}.{i}.", self.prefix);
        let part =
            |published, transformers| format!("{name}{}", self.pick(published, transformers));
        let scale = |net: &mut Net, x, published, transformers| {
            let scale = weights.vector(&part(published, transformers));
            let scale = net.constant(&Matrix::row(scale));
            net.mul(x, scale)
        };
        let normed = weights.layer_norm(net, x, &part("norm1", "layernorm_before"), eps);
        let seen = match self.is_published {
            true => {
                let qkv = weights.linear(net, normed, &format!("{name}attn.qkv"));
                self_attention(net, qkv, hidden, heads, None, None)
            }
            false => {
                let [q, k, v] = ["q", "k", "v"].map(|part| {
                    weights.linear(net, normed, &format!("{name}attention.{part}_proj"))
                });
                net.op("attention", &format!("{q} {k} {v} -1 {heads} {heads}"))
            }
        };
        let seen = weights.linear(net, seen, &part("attn.proj", "attention.projection_layer"));
        let seen = scale(net, seen, "ls1", "lambda_1");
        let x = net.add(x, seen);
        let normed = weights.layer_norm(net, x, &part("norm2", "layernorm_after"), eps);
        let inner = weights.linear(net, normed, &format!("{name}mlp.fc1"));
        let inner = net.op("gelu", &inner.to_string());
        let inner = weights.linear(net, inner, &format!("{name}mlp.fc2"));
        let inner = scale(net, inner, "ls2", "lambda_2");
        net.add(x, inner)
    }

    fn projector(&self, net: &mut Net, x: Value) -> Value {
        let weights = self.weights;
        let x = net.op("join", &format!("{x} 4"));
        let projector = match self.is_published {
            true => "mlp1.".to_owned(),
            false => weights.prefix(
                &["model.multi_modal_projector.", "multi_modal_projector."],
                "linear_1.weight",
            ),
        };
        let [norm, fc1, fc2] = match self.is_published {
            true => ["0", "1", "3"],
            false => ["layer_norm", "linear_1", "linear_2"],
        };
        let x = weights.layer_norm(net, x, &format!("{projector}{norm}"), 1e-5);
        let names = [format!("{projector}{fc1}"), format!("{projector}{fc2}")];
        projected(net, weights, x, &names)
    }
}
