// SPDX-License-Identifier: MPL-2.0

//! Which generation and variant a bmodel is, told from its nets and never from its name.
//!
//! `llm_convert.py` has given the same net names different signatures over time. A [`Layout`] can
//! only hold a combination that this backend runs; everything else is refused here, with the flag
//! that would make a file that runs.

use super::Error;
use super::bmodel::{Bmodel, DataType, Net, Stage, Tensor};
use super::half_type::HalfType;

/// A bmodel that can be run, and how.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Layout {
    /// Type of hidden states, masks and caches.
    pub half: HalfType,
    /// Width of a row.
    pub hidden_size: usize,
    /// Decoder layers.
    pub n_layers: usize,
    /// Key and value heads.
    pub n_kv_heads: usize,
    /// Width of a head.
    pub head_dim: usize,
    /// Rows of the KV cache; every position is below.
    pub context: usize,
    /// Numbers of a row's position: 3 (mrope) or 1.
    pub position_rows: usize,
    /// How the prompt runs.
    pub prefill: Prefill,
    /// Cache rows that each stage of the decode nets sees, longest first.
    pub decode_stages: Vec<usize>,
    /// Where token embeddings come from.
    pub embedding: Embedding,
    /// What the last net says.
    pub head: Head,
    /// The vision net.
    pub vision: Vision,
    /// Cores that the nets run on.
    pub core_num: u32,
}

/// How the prompt runs through `block_*`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Prefill {
    /// Rows of a launch, by stage, longest first.
    pub lengths: Vec<usize>,
    /// Whether launches may be shorter than compiled.
    pub is_dynamic: bool,
    /// Whether the host gives a causal mask; newer dynamic nets have it inside.
    pub has_mask: bool,
    /// How rows that are there already are seen.
    pub history: History,
}

/// How a launch sees rows of the cache.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum History {
    /// It does not: what comes after the first prefill is fed row by row.
    None,
    /// `block_*` has five inputs, two of them this many cache rows (until mid 2026).
    Inside(usize),
    /// Nets of their own, `block_kv_*`, that take up to this many cache rows (TPU-MLIR 1.30).
    Separate(usize),
}

/// Where token embeddings come from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Embedding {
    /// The net `embedding`, ids by stage, longest first; `embedding_cache` for one id.
    Nets(Vec<usize>),
    /// `embedding.bin` beside the bmodel (`--embedding_disk`).
    Disk,
}

/// What `lm_head` says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Head {
    /// The likeliest token.
    Greedy,
    /// F32 logits, this many.
    Logits(usize),
}

/// The net `vit`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Vision {
    /// Which family's.
    pub family: Family,
    /// Patches of a launch, by stage, longest first (InternVL3: those of a tile).
    pub patches: Vec<usize>,
    /// Numbers in a patch row (InternVL3: in a tile).
    pub row_len: usize,
    /// Whether launches may be smaller than compiled.
    pub is_dynamic: bool,
    /// Whether the host gives attention masks.
    pub has_mask: bool,
    /// Visual tokens of a launch of `patches[0]`.
    pub tokens: usize,
    /// Outputs that go to the first decoder layers.
    pub n_deepstack: usize,
    /// Whether `pos_idx` and `pos_weight` are `[4, patches]` instead of `[patches, 4]` (until
    /// TPU-MLIR 1.24).
    pub points_first: bool,
}

/// A model family, told from the vision net.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Family {
    /// Rows of 1536 numbers, an interpolated position table, deepstack.
    Qwen3Vl,
    /// Rows of 1176 numbers in window order.
    Qwen25Vl,
    /// Tiles of 448 x 448 pixels.
    InternVl3,
}

impl Family {
    /// As `model_type` of a `config.json` names it.
    pub fn model_type(self) -> &'static str {
        match self {
            Self::Qwen3Vl => "qwen3_vl",
            Self::Qwen25Vl => "qwen2_5_vl",
            Self::InternVl3 => "internvl_chat",
        }
    }
}

impl Layout {
    /// Tells what a bmodel is.
    ///
    /// # Errors
    /// [`Error::Unsupported`] with the reason, and what to compile instead.
    pub fn of(model: &Bmodel, file: &str) -> Result<Self, Error> {
        let reader = Reader { model, file };
        reader.single_device()?;
        let n_layers = reader.count("block_");
        if n_layers == 0 {
            return reader.no("it has no net block_0: it is no language model of llm_convert.py");
        }
        reader.same_count("block_cache_", n_layers)?;
        let cache = reader.net("block_cache_0")?;
        let decode = reader.decode(cache)?;
        let first = &cache.stages[0];
        let half = match HalfType::of(first.inputs[0].dtype) {
            Some(half) => half,
            None => {
                return reader.no(
                    "its hidden states are neither bf16 nor f16; compile with -q w4bf16, bf16 or f16",
                );
            }
        };
        let hidden_size = last(&first.inputs[0]);
        for i in 1..n_layers {
            if reader.net(&format!("block_cache_{i}"))?.stages.len() != cache.stages.len()
                || reader.net(&format!("block_cache_{i}"))?.stages[0].inputs[3].shape
                    != first.inputs[3].shape
            {
                return reader.no("its decode nets differ from layer to layer");
            }
        }
        let prefill = reader.prefill(n_layers)?;
        let embedding = reader.embedding()?;
        let head = reader.head()?;
        let vision = reader.vision(hidden_size)?;
        if vision.n_deepstack > 0 {
            let add = reader.net("add")?;
            let want = prefill.lengths[0] * hidden_size;
            let got = elements(&add.stages[0].inputs[0]);
            if got != want {
                return reader.no(&format!(
                    "its net add takes {got} numbers where its blocks have {want}: parts of two \
                     models are mixed in it"
                ));
            }
        }
        let cores = model.nets.values().flat_map(|net| &net.stages);
        Ok(Self {
            half,
            hidden_size,
            n_layers,
            n_kv_heads: first.inputs[3].shape[2],
            head_dim: first.inputs[3].shape[3],
            context: decode[0],
            position_rows: elements(&first.inputs[1]),
            prefill,
            decode_stages: decode,
            embedding,
            head,
            vision,
            core_num: cores.map(|stage| stage.core_num).max().unwrap_or(1),
        })
    }

    /// Bytes of one row of one layer's K (or V) cache.
    pub fn kv_row_bytes(&self) -> usize {
        self.n_kv_heads * self.head_dim * HalfType::BYTES
    }

    /// Bytes of one row of hidden states.
    pub fn row_bytes(&self) -> usize {
        self.hidden_size * HalfType::BYTES
    }

    /// Rows that the first prefill of a sequence may have.
    pub fn max_prompt(&self) -> usize {
        match self.prefill.history {
            History::None => self.prefill.lengths[0],
            // Chunk after chunk, as long as what is there fits the nets' history.
            History::Inside(rows) => (rows + self.prefill.lengths[0]).min(self.context),
            History::Separate(rows) => (rows + self.prefill.lengths[0]).min(self.context),
        }
    }
}

struct Reader<'a> {
    model: &'a Bmodel,
    file: &'a str,
}

impl<'a> Reader<'a> {
    fn no<T>(&self, reason: &str) -> Result<T, Error> {
        Err(Error::Unsupported {
            file: self.file.to_owned(),
            reason: reason.to_owned(),
        })
    }

    fn net(&self, name: &str) -> Result<&'a Net, Error> {
        match self.model.nets.get(name) {
            Some(net) => Ok(net),
            None => self.no(&format!("it has no net {name}")),
        }
    }

    fn has(&self, name: &str) -> bool {
        self.model.nets.contains_key(name)
    }

    /// Nets `prefix0`, `prefix1`, ... without a gap.
    fn count(&self, prefix: &str) -> usize {
        (0..)
            .take_while(|i| self.has(&format!("{prefix}{i}")))
            .count()
    }

    fn same_count(&self, prefix: &str, want: usize) -> Result<(), Error> {
        let got = self.count(prefix);
        if got == want {
            return Ok(());
        }
        self.no(&format!(
            "it has {want} nets block_* and {got} nets {prefix}*: it is a part of a model, or not \
             whole"
        ))
    }

    fn single_device(&self) -> Result<(), Error> {
        let cascade = self.model.nets.values().any(|net| net.is_cascade);
        if self.model.device_num > 1 || cascade {
            return self.no(&format!(
                "it was compiled for {} devices together; compile it with --num_device 1",
                self.model.device_num.max(2)
            ));
        }
        if self.has("embedding_lora") || self.has("lm_head_lora") {
            return self.no("it has LoRA nets; compile it without --lora_max_rank");
        }
        Ok(())
    }

    /// Cache rows of each decode stage.
    fn decode(&self, net: &Net) -> Result<Vec<usize>, Error> {
        let mut lengths: Vec<usize> = Vec::new();
        for stage in &net.stages {
            let [states, positions, mask, keys, values] = &stage.inputs[..] else {
                return self.no(&format!(
                    "block_cache_0 has {} inputs where five are known",
                    stage.inputs.len()
                ));
            };
            if states.shape.first().is_some_and(|&batch| batch > 1) {
                return self.no(&format!(
                    "it was compiled for a batch of {}; compile it with --batch 1",
                    states.shape[0]
                ));
            }
            let (&[1, rows, _, _], 3) = (&keys.shape[..], stage.outputs.len()) else {
                return self.no("block_cache_0 has a signature that is not known");
            };
            if keys.shape != values.shape
                || elements(mask) != rows + 1
                || ![1, 3].contains(&elements(positions))
                || states.shape.len() != 3
                || lengths.last().is_some_and(|&longer| rows >= longer)
            {
                return self.no("block_cache_0 has a signature that is not known");
            }
            lengths.push(rows);
        }
        if !net.io_alone {
            return self.no(
                "its decode nets have no memory of their own for the cache; compile it with a \
                 current llm_convert.py",
            );
        }
        Ok(lengths)
    }

    fn prefill(&self, n_layers: usize) -> Result<Prefill, Error> {
        let net = self.net("block_0")?;
        let first = &net.stages[0];
        let lengths = descending(net, |stage| stage.inputs.first()?.shape.get(1).copied());
        let Some(lengths) = lengths else {
            return self.no("block_0 has stages that are not sorted by length");
        };
        let unknown = || {
            self.no(&format!(
                "block_0 has {} inputs and {} outputs, a signature that is not known",
                first.inputs.len(),
                first.outputs.len()
            ))
        };
        if first.outputs.len() != 3 {
            return unknown();
        }
        let (has_mask, history) = match first.inputs.len() {
            2 => (false, History::None),
            3 => (true, History::None),
            5 => match first.inputs[3].shape.get(1) {
                Some(&rows) => (true, History::Inside(rows)),
                None => return unknown(),
            },
            _ => return unknown(),
        };
        if !has_mask && !first.is_dynamic {
            return unknown();
        }
        let history = if self.has("block_kv_0") {
            self.same_count("block_kv_", n_layers)?;
            let stage = &self.net("block_kv_0")?.stages[0];
            match (&stage.inputs[..], stage.is_dynamic) {
                ([_, _, keys, _], true) if keys.shape.len() == 4 => {
                    History::Separate(keys.shape[1])
                }
                _ => return self.no("block_kv_0 has a signature that is not known"),
            }
        } else {
            history
        };
        Ok(Prefill {
            lengths,
            is_dynamic: first.is_dynamic,
            has_mask,
            history,
        })
    }

    fn embedding(&self) -> Result<Embedding, Error> {
        match self.model.nets.get("embedding") {
            None => Ok(Embedding::Disk),
            Some(net) => {
                self.net("embedding_cache")?;
                let lengths = descending(net, |stage| Some(elements(stage.inputs.first()?)));
                match lengths {
                    Some(lengths) => Ok(Embedding::Nets(lengths)),
                    None => self.no("its net embedding has stages that are not sorted by length"),
                }
            }
        }
    }

    fn head(&self) -> Result<Head, Error> {
        let stage = &self.net("lm_head")?.stages[0];
        let ([_], [out]) = (&stage.inputs[..], &stage.outputs[..]) else {
            return self.no("lm_head has a signature that is not known");
        };
        match (elements(out), out.dtype) {
            (1, DataType::I32) => Ok(Head::Greedy),
            (n, DataType::F32) if n > 1 => Ok(Head::Logits(n)),
            _ => self.no("lm_head has a signature that is not known"),
        }
    }

    fn vision(&self, hidden_size: usize) -> Result<Vision, Error> {
        let net = self.net("vit")?;
        let first = &net.stages[0];
        let unknown = || {
            let shapes = first.inputs.iter().map(|input| {
                let dims: Vec<String> = input.shape.iter().map(usize::to_string).collect();
                format!("{} [{}]", input.name, dims.join(", "))
            });
            let shapes: Vec<String> = shapes.collect();
            self.no(&format!(
                "its vision net takes {}, which is of no family that is known (Qwen3-VL, \
                 Qwen2.5-VL, InternVL3)",
                shapes.join(", ")
            ))
        };
        let (Some(pixels), Some(out)) = (first.inputs.first(), first.outputs.first()) else {
            return unknown();
        };
        if last(out) != hidden_size {
            return self.no(&format!(
                "its vision net makes rows of {} numbers for blocks of {hidden_size}: parts of two \
                 models are mixed in it",
                last(out)
            ));
        }
        let tokens = elements(out) / hidden_size;
        let (family, has_mask, points_first) = match (&pixels.shape[..], first.inputs.len()) {
            (&[_, 1536], n @ (4 | 5)) => {
                let points = &first.inputs[2].shape;
                let (rows, wide) = (pixels.shape[0], points.len() == 2 && points[1] == 4);
                let points_first = !wide && points[..] == [4, rows];
                if !wide && !points_first {
                    return unknown();
                }
                (Family::Qwen3Vl, n == 5, points_first)
            }
            (&[_, 1176], 5) => (Family::Qwen25Vl, true, false),
            (&[1, 3, 448, 448], 1) => (Family::InternVl3, false, false),
            _ => return unknown(),
        };
        let (patches, row_len) = match family {
            // A tile of 32 x 32 patches.
            Family::InternVl3 => (vec![1024], elements(pixels)),
            _ => match descending(net, |stage| stage.inputs.first()?.shape.first().copied()) {
                Some(patches) => (patches, pixels.shape[1]),
                None => {
                    return self.no("its net vit has stages that are not sorted by size");
                }
            },
        };
        Ok(Vision {
            family,
            patches,
            row_len,
            is_dynamic: first.is_dynamic,
            has_mask,
            tokens,
            n_deepstack: first.outputs.len() - 1,
            points_first,
        })
    }
}

/// A length of every stage; `None` if one has none, or they do not get shorter.
fn descending(net: &Net, length: impl Fn(&Stage) -> Option<usize>) -> Option<Vec<usize>> {
    let lengths: Option<Vec<usize>> = net.stages.iter().map(length).collect();
    lengths.filter(|l| l.is_sorted_by(|a, b| a > b) && l.iter().all(|&n| n > 0))
}

/// Numbers in a tensor.
fn elements(tensor: &Tensor) -> usize {
    tensor.shape.iter().product()
}

fn last(tensor: &Tensor) -> usize {
    tensor.shape.last().copied().unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::super::bmodel::tests::parsed;
    use super::*;

    fn of(name: &str) -> Layout {
        Layout::of(&parsed(name), name).unwrap()
    }

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
    fn a_static_model_is_told_from_its_nets() {
        let layout = of("q3_static");
        assert_eq!(layout.half, HalfType::Bf16);
        assert_eq!((layout.hidden_size, layout.n_layers), (128, 3));
        assert_eq!((layout.n_kv_heads, layout.head_dim), (2, 32));
        assert_eq!((layout.context, layout.position_rows), (256, 3));
        let want = Prefill {
            lengths: vec![192],
            is_dynamic: false,
            has_mask: true,
            history: History::None,
        };
        assert_eq!(layout.prefill, want);
        assert_eq!(layout.max_prompt(), 192);
        assert_eq!(layout.decode_stages, [256]);
        assert_eq!(layout.embedding, Embedding::Nets(vec![192]));
        assert_eq!(layout.head, Head::Greedy);
        assert_eq!(layout.vision.family, Family::Qwen3Vl);
        assert_eq!((layout.vision.tokens, layout.vision.n_deepstack), (16, 2));
        assert!(layout.vision.has_mask && !layout.vision.is_dynamic);
    }

    #[test]
    fn history_nets_and_decode_stages_are_found() {
        let layout = of("q3_kv");
        assert_eq!(layout.prefill.history, History::Separate(256));
        assert!(layout.prefill.is_dynamic && !layout.prefill.has_mask);
        assert_eq!(layout.decode_stages, [256, 128, 64]);
        assert_eq!(layout.max_prompt(), 256);
    }

    #[test]
    fn every_variant_is_what_it_was_compiled_for() {
        assert_eq!(of("q3_sample").head, Head::Logits(2048));
        assert_eq!(of("q3_embdisk").embedding, Embedding::Disk);
        assert_eq!(of("q3_1688").core_num, 2);
        assert_eq!(of("q25_static").vision.family, Family::Qwen25Vl);
        let internvl = of("iv3_static");
        assert_eq!(internvl.vision.family, Family::InternVl3);
        assert_eq!((internvl.position_rows, internvl.vision.tokens), (1, 256));
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
        let got = refusal("q3_static", |m| stage(m, "add").inputs[0].shape = vec![64]);
        assert!(got.contains("parts of two models"), "{got}");
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
    fn transposed_points_of_older_compilers_are_seen() {
        let mut model = parsed("q3_kv");
        stage(&mut model, "vit").inputs[2].shape = vec![4, 64];
        assert!(Layout::of(&model, "x").unwrap().vision.points_first);
        assert!(!of("q3_kv").vision.points_first);
    }
}
