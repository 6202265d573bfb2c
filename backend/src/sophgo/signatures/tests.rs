// SPDX-License-Identifier: MPL-2.0

//! Files that are understood, and what is said of the others.

use super::*;
use crate::sophgo::bmodel::tests::parsed;
use crate::sophgo::layout::Layout;

/// What is said of a file after `change`.
fn refusal(name: &str, change: impl FnOnce(&mut Bmodel)) -> String {
    let mut model = parsed(name);
    change(&mut model);
    Layout::of(&model, "x.bmodel").unwrap_err().to_string()
}

fn stage<'a>(model: &'a mut Bmodel, net: &str) -> &'a mut Stage {
    &mut model.nets.get_mut(net).unwrap().stages[0]
}

#[test]
fn what_cannot_run_is_refused_with_the_flag_to_change() {
    let got = refusal("q3_static", |m| m.device_num = 2);
    assert!(
        got.contains("2 devices together") && got.contains("--num_device 1"),
        "{got}"
    );
    let got = refusal("q3_static", |m| {
        let add = m.nets["add"].clone();
        m.nets.insert("embedding_lora".into(), add);
    });
    assert!(got.contains("--lora_max_rank"), "{got}");
    let got = refusal("q3_static", |m| {
        for input in &mut stage(m, "block_cache_0").inputs {
            input.shape[0] = 4;
        }
    });
    assert!(
        got.contains("batch of 4") && got.contains("--batch 1"),
        "{got}"
    );
    let got = refusal("q3_static", |m| {
        for input in &mut stage(m, "block_cache_0").inputs {
            input.dtype = DataType::F32;
        }
    });
    assert!(got.contains("neither bf16 nor f16"), "{got}");
}

#[test]
fn parts_of_a_model_are_refused() {
    let without = |net: &str| {
        refusal("q3_kv", |m| {
            m.nets.remove(net);
        })
    };
    for net in ["vit", "lm_head", "add", "embedding_cache"] {
        assert!(without(net).contains(&format!("it has no net {net}")));
    }
    assert!(without("block_0").contains("no language model"));
    assert!(without("block_cache_2").contains("3 nets block_* and 2 nets block_cache_*"));
    assert!(without("block_kv_1").contains("3 nets block_* and 1 nets block_kv_*"));
    let got = refusal("q3_static", |m| {
        let add = stage(m, "add");
        for tensor in add.inputs.iter_mut().chain(&mut add.outputs) {
            tensor.shape = vec![64];
        }
    });
    assert!(
        got.contains("takes 64 numbers where its blocks have 24576"),
        "{got}"
    );
    let got = refusal("q3_static", |m| {
        stage(m, "vit").outputs[0].shape = vec![16, 64]
    });
    assert!(
        got.contains("rows of 64 numbers for blocks of 128"),
        "{got}"
    );
    let got = refusal("q3_static", |m| {
        stage(m, "vit").inputs[0].shape = vec![64, 588]
    });
    assert!(
        got.contains("input_states [64, 588]") && got.contains("no family"),
        "{got}"
    );
    let got = refusal("q3_static", |m| {
        stage(m, "block_0").inputs.pop();
        stage(m, "block_0").inputs.pop();
    });
    assert!(got.contains("block_0 has 1 inputs"), "{got}");
}

#[test]
fn layers_that_differ_are_refused() {
    for (name, net) in [
        ("q3_static", "block_1"),
        ("q3_static", "block_cache_2"),
        ("q3_kv", "block_kv_1"),
    ] {
        let got = refusal(name, |m| stage(m, net).inputs[0].shape[2] = 64);
        assert!(got.contains("differ from layer to layer"), "{net}: {got}");
        let got = refusal(name, |m| {
            stage(m, net).outputs.pop();
        });
        assert!(got.contains("differ from layer to layer"), "{net}: {got}");
    }
    let got = refusal("q3_kv", |m| {
        m.nets.get_mut("block_cache_1").unwrap().stages.pop();
    });
    assert!(got.contains("differ from layer to layer"), "{got}");
}

#[test]
fn decode_and_history_nets_of_other_kinds_are_refused() {
    let got = refusal("q3_static", |m| {
        m.nets.get_mut("block_cache_0").unwrap().io_alone = false;
    });
    assert!(
        got.contains("no memory of their own for the cache"),
        "{got}"
    );
    let got = refusal("q3_static", |m| {
        stage(m, "block_cache_0").inputs.pop();
    });
    assert!(
        got.contains("block_cache_0 has 4 inputs where five"),
        "{got}"
    );
    for change in [
        |stage: &mut Stage| stage.inputs[2].shape[3] = 256,
        |stage: &mut Stage| stage.inputs[4].shape[1] = 255,
        |stage: &mut Stage| stage.inputs[1].shape = vec![2, 1],
        |stage: &mut Stage| stage.outputs.truncate(1),
    ] {
        let got = refusal("q3_static", |m| change(stage(m, "block_cache_0")));
        assert!(got.contains("block_cache_0 has a signature"), "{got}");
    }
    let got = refusal("q3_kv", |m| {
        for i in 0..3 {
            stage(m, &format!("block_kv_{i}")).is_dynamic = false;
        }
    });
    assert!(got.contains("block_kv_0 has a signature"), "{got}");
}

#[test]
fn keys_of_another_type_than_the_cache_are_refused() {
    for (name, prefix) in [
        ("q3_static", "block_cache_"),
        ("q3_static", "block_"),
        ("q3_kv", "block_kv_"),
    ] {
        let got = refusal(name, |m| {
            for i in 0..3 {
                for stage in &mut m.nets.get_mut(&format!("{prefix}{i}")).unwrap().stages {
                    stage.outputs[1].dtype = DataType::F32;
                }
            }
        });
        let words = format!("net {prefix}0 gives keys or values as F32 for a cache of Bf16");
        assert!(got.contains(&words), "{got}");
    }
}

#[test]
fn nets_without_what_is_bound_are_refused() {
    for (net, words) in [
        ("add", "its net add has a signature"),
        ("embedding", "its embedding nets have a signature"),
        ("embedding_cache", "its embedding nets have a signature"),
        ("lm_head", "lm_head has a signature"),
        ("vit", "no family that is known"),
    ] {
        let got = refusal("q3_static", |m| stage(m, net).inputs.clear());
        assert!(got.contains(words), "{net}: {got}");
        let got = refusal("q3_static", |m| stage(m, net).outputs.clear());
        assert!(got.contains(words), "{net}: {got}");
    }
}

/// A file with a shorter stage of each net of the prompt.
fn staged(change: impl FnOnce(&mut Bmodel)) -> Result<Layout, Error> {
    let mut model = parsed("q3_static");
    let shorter = |model: &mut Bmodel, net: &str, from: usize, to: usize| {
        let net = model.nets.get_mut(net).unwrap();
        let mut stage = net.stages[0].clone();
        let tensors = stage.inputs.iter_mut().chain(&mut stage.outputs);
        for dim in tensors.flat_map(|tensor| &mut tensor.shape) {
            if *dim == from {
                *dim = to;
            }
        }
        net.stages.push(stage);
    };
    for net in ["block_0", "block_1", "block_2", "embedding"] {
        shorter(&mut model, net, 192, 96);
    }
    shorter(&mut model, "vit", 64, 32);
    change(&mut model);
    Layout::of(&model, "x.bmodel")
}

#[test]
fn several_stages_of_the_prompt_are_found() {
    let layout = staged(|_| {}).unwrap();
    assert_eq!(layout.prefill.lengths, [192, 96]);
    assert_eq!(layout.embedding, Embedding::Nets(vec![192, 96]));
    assert_eq!(layout.vision.patches, [64, 32]);
    assert_eq!((layout.max_prompt(), layout.context), (192, 256));
}

#[test]
fn stages_that_do_not_go_together_are_refused() {
    let says = |words: &str, change: fn(&mut Bmodel)| {
        let got = staged(change).unwrap_err().to_string();
        assert!(got.contains(words), "{got}");
    };
    says("block_0 has stages that are not sorted", |m| {
        for i in 0..3 {
            m.nets
                .get_mut(&format!("block_{i}"))
                .unwrap()
                .stages
                .reverse();
        }
    });
    says("vit has stages that are not sorted", |m| {
        m.nets.get_mut("vit").unwrap().stages.reverse();
    });
    says("embedding has stages that are not sorted", |m| {
        m.nets.get_mut("embedding").unwrap().stages.reverse();
    });
    says("differ from layer to layer", |m| {
        m.nets.get_mut("block_2").unwrap().stages.pop();
    });
    says("its net vit has stages of different kinds", |m| {
        m.nets.get_mut("vit").unwrap().stages[1].inputs.pop();
    });
    says("its net block_0 has stages of different kinds", |m| {
        for i in 0..3 {
            let net = m.nets.get_mut(&format!("block_{i}")).unwrap();
            net.stages[1].is_dynamic = true;
        }
    });
}

#[test]
fn transposed_points_of_older_compilers_are_seen() {
    let mut model = parsed("q3_kv");
    stage(&mut model, "vit").inputs[2].shape = vec![4, 64];
    assert!(Layout::of(&model, "x").unwrap().vision.points_first);
    let layout = Layout::of(&parsed("q3_kv"), "x").unwrap();
    assert!(!layout.vision.points_first);
}
