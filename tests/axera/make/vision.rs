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
