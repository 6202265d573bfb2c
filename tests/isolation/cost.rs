// SPDX-License-Identifier: MPL-2.0

//! What a process between the application and the device costs, on a program that does nothing and on one
//! that computes.

use gstvlmcaption::backend::cpu;
use gstvlmcaption::backend::mock::Script;
use gstvlmcaption::backend::{GridThw, Patches, Recipe};
use gstvlmcaption::vlm::Checkpoint;
use gstvlmcaption::vlm::files::ModelFiles;

use crate::common::cost::{Asked, compare, is_little};
use crate::impostors::recipe;

/// Pairs of frames, no two alike.
fn pairs(n: u8, side: usize, patch_size: usize) -> Vec<Patches> {
    let grid = GridThw {
        t: 1,
        h: side / patch_size,
        w: side / patch_size,
    };
    let bytes = side * side * 3 * 2;
    let pair = |n: u8| Patches {
        grid,
        pixels: (0..bytes).map(|at| (at % 251) as u8 ^ n).collect(),
        mean: [0.5; 3],
        std: [0.5; 3],
    };
    (0..n).map(pair).collect()
}

/// Eight pairs of two frames of 448 x 448, and a vocabulary of Qwen3-VL's size.
#[test]
fn a_call_costs_microseconds_and_a_pair_less_than_a_frame_of_video() {
    const VOCAB: usize = 151_936;
    let _turn = crate::turn();
    let script = crate::common::script(r#"[{"probabilities": {"y": 0.5}}]"#);
    let recipe = recipe(VOCAB, Script::read(script.path()).unwrap());
    let patches = pairs(8, 448, 16);
    let asked = Asked {
        patches: &patches,
        tokens: 50,
        calls: 2000,
        pairs: 200,
        captions: 20,
    };
    let ([here, there], line) = compare("mock", &recipe, &asked);
    println!("{line}");
    // Loosely, since other programs run beside it.
    assert!(there.pair - here.pair < 30_000.0);
}

#[test]
#[ignore = "measures: run it alone"]
fn beside_a_model_that_computes_it_is_little() {
    let _turn = crate::turn();
    let checkpoint = Checkpoint::open(ModelFiles::demo()).unwrap();
    let options = cpu::Options {
        threads: Some(1),
        ..cpu::Options::default()
    };
    let recipe = checkpoint.recipe(&options).unwrap();
    let Recipe::Cpu { spec, .. } = &recipe else {
        unreachable!("a checkpoint is the cpu's");
    };
    let patches = pairs(4, 128, spec.vision.patch_size);
    println!("{}", is_little("cpu, the demo model", &recipe, &patches));
}
