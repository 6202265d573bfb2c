// SPDX-License-Identifier: MPL-2.0

//! What the nets of a bmodel take and give, and what of that is known.
//!
//! The generation and variant of a bmodel are told from its nets and never from its name. What this
//! backend does not run is refused here, with the flag that would make a file that runs.
//!
//! A net of several stages has the longest first, and the stages differ in lengths only. The nets of
//! one kind are alike from layer to layer. Both are checked here, so that the
//! first can stand for all when they are bound.

use super::bmodel::{Bmodel, DataType, Net, Stage, Tensor};
use super::error::Error;
use super::half_type::HalfType;
use super::layout::{Embedding, Family, Head, History, Layout, Prefill, Vision};

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
        reader.alike("block_cache_", n_layers)?;
        let prefill = reader.prefill(n_layers)?;
        reader.cache_types(first.inputs[3].dtype)?;
        let embedding = reader.embedding()?;
        let head = reader.head()?;
        let vision = reader.vision(hidden_size)?;
        if vision.n_deepstack > 0 {
            reader.add(prefill.lengths[0] * hidden_size)?;
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
}

/// Reads the nets of a file.
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

    /// That nets `prefix0` to `prefix(n - 1)` take and give the same.
    fn alike(&self, prefix: &str, n: usize) -> Result<(), Error> {
        let first = self.net(&format!("{prefix}0"))?;
        for i in 1..n {
            let net = self.net(&format!("{prefix}{i}"))?;
            let same = net.io_alone == first.io_alone
                && net.stages.len() == first.stages.len()
                && net.stages.iter().zip(&first.stages).all(same_signature);
            if !same {
                return self.no(&format!(
                    "its nets {prefix}* differ from layer to layer: parts of two models are mixed \
                     in it"
                ));
            }
        }
        Ok(())
    }

    /// That the stages of a net have as many inputs and outputs, and are dynamic or not together.
    fn uniform(&self, name: &str, net: &Net) -> Result<(), Error> {
        let form = |stage: &Stage| (stage.is_dynamic, stage.inputs.len(), stage.outputs.len());
        match net
            .stages
            .iter()
            .all(|stage| form(stage) == form(&net.stages[0]))
        {
            true => Ok(()),
            false => self.no(&format!("its net {name} has stages of different kinds")),
        }
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

    /// That keys and values have the type of the cache wherever they come from.
    fn cache_types(&self, cache: DataType) -> Result<(), Error> {
        for name in ["block_cache_0", "block_0", "block_kv_0"] {
            let stages = self.model.nets.get(name).map_or(&[][..], |net| &net.stages);
            let mut rows = stages.iter().flat_map(|stage| stage.outputs.iter().skip(1));
            if let Some(rows) = rows.find(|rows| rows.dtype != cache) {
                return self.no(&format!(
                    "its net {name} gives keys or values as {:?} for a cache of {cache:?} (TPU-MLIR \
                     1.26 compiled Qwen2.5-VL so); compile it with a current llm_convert.py",
                    rows.dtype
                ));
            }
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
                || keys.shape[2..] != net.stages[0].inputs[3].shape[2..]
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
        self.uniform("block_0", net)?;
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
            5 => {
                let rows = |stage: &Stage| stage.inputs[3].shape.get(1).copied();
                match rows(first) {
                    Some(n) if net.stages.iter().all(|stage| rows(stage) == Some(n)) => {
                        (true, History::Inside(n))
                    }
                    _ => return unknown(),
                }
            }
            _ => return unknown(),
        };
        if !has_mask && !first.is_dynamic {
            return unknown();
        }
        self.alike("block_", n_layers)?;
        let history = if self.has("block_kv_0") {
            self.same_count("block_kv_", n_layers)?;
            self.alike("block_kv_", n_layers)?;
            let stage = &self.net("block_kv_0")?.stages[0];
            match (&stage.inputs[..], stage.outputs.len(), stage.is_dynamic) {
                ([_, _, keys, _], 3, true) if keys.shape.len() == 4 => {
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
                self.uniform("embedding", net)?;
                let one = &self.net("embedding_cache")?.stages[0];
                let form = |stage: &Stage| (stage.inputs.len(), stage.outputs.len());
                if form(one) != (1, 1) || form(&net.stages[0]) != (1, 1) {
                    return self.no("its embedding nets have a signature that is not known");
                }
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

    /// That the net `add` adds `want` numbers in its longest stage.
    fn add(&self, want: usize) -> Result<(), Error> {
        let net = self.net("add")?;
        let lengths = descending(net, |stage| match (&stage.inputs[..], &stage.outputs[..]) {
            ([a, b], [sum]) if a.shape == b.shape && a.shape == sum.shape => Some(elements(a)),
            _ => None,
        });
        match lengths.as_deref() {
            Some([got, ..]) if *got != want => self.no(&format!(
                "its net add takes {got} numbers where its blocks have {want}: parts of two models \
                 are mixed in it"
            )),
            Some(_) => Ok(()),
            None => self.no("its net add has a signature that is not known"),
        }
    }

    fn vision(&self, hidden_size: usize) -> Result<Vision, Error> {
        let net = self.net("vit")?;
        self.uniform("vit", net)?;
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

/// Whether two stages take and give tensors of the same types and shapes.
fn same_signature((a, b): (&Stage, &Stage)) -> bool {
    let same = |a: &[Tensor], b: &[Tensor]| {
        let pairs = a.iter().zip(b);
        a.len() == b.len()
            && pairs.fold(true, |same, (a, b)| {
                same && (a.dtype, &a.shape) == (b.dtype, &b.shape)
            })
    };
    a.is_dynamic == b.is_dynamic && same(&a.inputs, &b.inputs) && same(&a.outputs, &b.outputs)
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
mod tests;
