// SPDX-License-Identifier: MPL-2.0

//! What a process of its own costs a device whose library is the stand-in.

use gstvlmcaption::backend::{GridThw, Patches, Recipe};

use crate::both;
use crate::common::cost::is_little;
use crate::compare::Folders;
use crate::golden::demo;
use crate::make::Build;

#[test]
#[ignore = "measures: run it alone"]
fn a_worker_costs_a_stand_in_little() {
    both("worker::cost");
}

#[test]
#[ignore = "called by another"]
fn cost() {
    let mut folders = Folders::new(&demo(), Build::for_windows());
    let grid = GridThw { t: 1, h: 8, w: 8 };
    let recipe = Recipe::Axera {
        model: folders.folder(grid),
        options: folders.options(grid),
    };
    let vision = &folders.spec.vision;
    let bytes = grid.n_patches() * 3 * vision.temporal_patch_size * vision.patch_size.pow(2);
    let pair = |n: u8| Patches {
        grid,
        pixels: (0..bytes).map(|at| (at % 251) as u8 ^ n).collect(),
        mean: [0.5; 3],
        std: [0.5; 3],
    };
    let patches: Vec<_> = (0..4).map(pair).collect();
    println!("{}", is_little("stand-in", &recipe, &patches));
}
