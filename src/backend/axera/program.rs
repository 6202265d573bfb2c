// SPDX-License-Identifier: MPL-2.0

//! The models as a device program: chunks, counters, bindings, runs.
//!
//! A row's place in the cache and its rotary position are two numbers that have nothing to do with
//! each other: a picture of 256 tokens takes 256 rows and moves the position by 16. The vendor's
//! first programs took one for the other and wrote answers over the picture.

use std::sync::Arc;

use axera_sys::{Device, Kind, Mem, Model};
use half::bf16;

use super::error::Error;
use super::folder::Folder;
use super::layout::{Layout, Shape};
use super::options::Options;
use super::vision::{Tokens, VisionModel};
use crate::backend::embedding::Table;
use crate::backend::rows::{Batch, Row, Source};
use crate::backend::sequence::{Extension, Sequence};
use crate::backend::{
    self, Cancel, Features, Health, Limits, Next, Patches, Position, Program, Segment, SequenceId,
    VisualTokens,
};

/// What a mask holds where nothing is attended to, -65536 in bf16; the models know no other.
const MASKED: [u8; 2] = 0xc780u16.to_le_bytes();

/// Bytes of bf16.
const HALF: usize = 2;

/// Axmodels on a device.
pub struct Axera {
    device: Device,
    index: usize,
    names: Names,
    layout: Layout,
    limits: Limits,
    layers: Vec<Model>,
    /// Keys and values of each layer; every group reads the first rows that it has room for.
    caches: Vec<[Mem; 2]>,
    post: Post,
    vision: VisionModel,
    table: Table,
    shared: Shared,
    sequence: Sequence,
    logits: Vec<f32>,
    bytes: Vec<u8>,
}

/// Names of the files, for what goes wrong later.
struct Names {
    layers: Vec<String>,
    post: String,
    vision: String,
}

/// Memory that all layers share: one after the other they read the same positions and mask.
struct Shared {
    indices: Mem,
    mask: Mem,
    /// Hidden rows: each layer reads one and writes the other.
    hidden: [Mem; 2],
    /// Keys and values of the rows of a run.
    kv: [Mem; 2],
    /// What `mask` holds: the group, the rows seen, the rows computed.
    mask_for: Option<(usize, usize, usize)>,
}

/// The head.
struct Post {
    model: Model,
    input: Mem,
    outputs: Vec<Mem>,
    /// The output that holds the logits.
    logits: usize,
    /// In bf16, or in f32.
    is_half: bool,
}

impl Post {
    fn new(
        device: &mut Device,
        model: Model,
        file: &str,
        layout: &Layout,
        vocab_size: usize,
    ) -> Result<Self, Error> {
        let fail = |reason: String| Error::Unsupported {
            file: file.to_owned(),
            reason,
        };
        let Some(group) = model.groups.first() else {
            return Err(fail("it has no shape group".to_owned()));
        };
        let input = match &group.inputs[..] {
            [input] if input.size_bytes == layout.row_bytes() => input.size_bytes,
            _ => {
                let want = layout.row_bytes();
                return Err(fail(format!(
                    "want one input, a row of {want} bytes like the layers'"
                )));
            }
        };
        let sizes: Vec<usize> = group.outputs.iter().map(|o| o.size_bytes).collect();
        let find = |bytes: usize| sizes.iter().position(|&size| size == bytes);
        let found = find(HALF * vocab_size).map(|at| (at, true));
        let Some((logits, is_half)) = found.or_else(|| find(4 * vocab_size).map(|at| (at, false)))
        else {
            return Err(fail(format!(
                "none of its outputs ({sizes:?} bytes) has a logit for each of {vocab_size} tokens"
            )));
        };
        Ok(Self {
            input: device.alloc(input)?,
            outputs: sizes
                .iter()
                .map(|&size| device.alloc(size))
                .collect::<Result<_, _>>()?,
            logits,
            is_half,
            model,
        })
    }
}

/// Models that were loaded, in the folder's order.
pub(super) struct Loaded {
    pub layers: Vec<Model>,
    pub post: Model,
    pub vision: Model,
    pub layout: Layout,
    pub bytes: u64,
}

impl Axera {
    /// Binds loaded models.
    pub(super) fn new(
        mut device: Device,
        loaded: Loaded,
        folder: &Folder,
        options: &Options,
    ) -> Result<Self, Error> {
        let Loaded {
            layers,
            post,
            vision,
            layout,
            bytes,
        } = loaded;
        let name = |path: &std::path::Path| path.display().to_string();
        let names = Names {
            layers: folder.layers.iter().map(|path| name(path)).collect(),
            post: name(&folder.post),
            vision: name(&folder.vision),
        };
        let table = Table::open(&folder.embedding, options.vocab_size, layout.hidden_size)?;
        let rows = layout.chunk();
        let shared = Shared {
            indices: device.alloc(layout.most(2))?,
            mask: device.alloc(layout.most(4))?,
            hidden: [
                device.alloc(rows * layout.row_bytes())?,
                device.alloc(rows * layout.row_bytes())?,
            ],
            kv: [
                device.alloc(rows * layout.kv_bytes())?,
                device.alloc(rows * layout.kv_bytes())?,
            ],
            mask_for: None,
        };
        let mut caches = Vec::with_capacity(layers.len());
        for _ in &layers {
            // A masked row must be a number, and memory begins as zeroes.
            caches.push([device.alloc(layout.most(0))?, device.alloc(layout.most(1))?]);
        }
        let post = Post::new(&mut device, post, &names.post, &layout, options.vocab_size)?;
        let vision = VisionModel::new(
            &mut device,
            vision,
            &names.vision,
            layout.hidden_size,
            options,
        )?;
        Ok(Self {
            limits: Limits {
                context: layout.context(),
                prompt: layout.max_prompt(),
                vocab_size: options.vocab_size,
                weight_bytes: bytes,
            },
            device,
            index: options.device,
            names,
            layout,
            layers,
            caches,
            post,
            vision,
            table,
            shared,
            sequence: Sequence::default(),
            logits: vec![0.0; options.vocab_size],
            bytes: Vec::new(),
        })
    }

    /// What the models say of their sizes.
    pub fn layout(&self) -> &Layout {
        &self.layout
    }

    /// Bytes of the NPU's memory beside the models.
    pub fn buffer_bytes(&self) -> u64 {
        self.device.allocated()
    }

    /// Computes the rows of an extension that are not in the cache; the last hidden row.
    fn run(
        &mut self,
        extension: &Extension<Tokens>,
        cancel: &Cancel,
    ) -> Result<Mem, backend::Error> {
        let Extension { batch, done, base } = extension;
        let mut done = *done;
        let n = batch.rows.len();
        let mut hidden = None;
        while done < n {
            cancel.check()?;
            let at = base + done;
            let left = n - done;
            let [t, h, w] = batch.rows[done].position;
            let is_flat = t == h && h == w;
            let prefill = match left {
                // A decode run costs a fraction of a chunk.
                1 if is_flat => None,
                _ => self.layout.prefill_for(at),
            };
            // A decode group has one number for all axes.
            let decode = match is_flat {
                true => self.layout.decode_for(at),
                false => None,
            };
            let shape = match prefill.or(decode) {
                Some(shape) => shape.clone(),
                None => {
                    let most = self.layout.prefill.last().map_or(0, |shape| shape.history);
                    return Err(backend::Error::Shape {
                        what: "visual tokens",
                        want: format!(
                            "to begin in the first {most} rows, which the chunks of this build see; \
                             convert it with prefill groups of a longer history"
                        ),
                        got: format!("after {at} rows"),
                    });
                }
            };
            let m = left.min(shape.rows);
            hidden = Some(self.launch(batch, &shape, done, m, at, cancel)?);
            done += m;
        }
        hidden.ok_or_else(|| backend::Error::Shape {
            what: "rows of a sequence",
            want: "at least one".to_owned(),
            got: "none".to_owned(),
        })
    }

    /// Rows `from .. from + m` of a batch through all layers, into rows `at ..` of the cache; the
    /// last hidden row.
    fn launch(
        &mut self,
        batch: &Batch<Tokens>,
        shape: &Shape,
        from: usize,
        m: usize,
        at: usize,
        cancel: &Cancel,
    ) -> Result<Mem, backend::Error> {
        let rows = &batch.rows[from..from + m];
        let runs = batch.visual_runs(from, m);
        let (row_bytes, kv_bytes) = (self.layout.row_bytes(), self.layout.kv_bytes());

        // What does not depend on the layer.
        self.send_positions(shape, rows)?;
        self.send_mask(shape, at, m)?;
        let mut input = vec![0; shape.rows * row_bytes];
        for (place, row) in input.chunks_exact_mut(row_bytes).zip(rows) {
            if let Source::Token(id) = row.source {
                self.table.row(id, place).map_err(Error::from)?;
            }
        }
        for run in &runs {
            let features = &run.seen.embeds[run.feature * row_bytes..][..run.len * row_bytes];
            input[run.row * row_bytes..][..features.len()].copy_from_slice(features);
        }
        self.device
            .write(self.shared.hidden[0], 0, &input)
            .map_err(Error::from)?;

        let levels = runs.iter().map(|run| run.seen.deepstack.len()).max();
        let levels = levels.unwrap_or(0);
        let bound = |mems: [Mem; 5]| -> Result<Vec<Mem>, Error> {
            let mut inputs = vec![mems[0]; 5];
            for ((mem, &place), &bytes) in mems.iter().zip(&shape.inputs).zip(&shape.input_bytes) {
                inputs[place] = mem.part(0, bytes)?;
            }
            Ok(inputs)
        };
        for i in 0..self.layers.len() {
            cancel.check()?;
            let (source, result) = (self.shared.hidden[i % 2], self.shared.hidden[(i + 1) % 2]);
            let [k, v] = self.caches[i];
            let inputs = bound([k, v, self.shared.indices, source, self.shared.mask])?;
            let mut outputs = vec![result; 3];
            for (mem, &place) in [self.shared.kv[0], self.shared.kv[1], result]
                .iter()
                .zip(&shape.outputs)
            {
                outputs[place] = *mem;
            }
            let done = self
                .device
                .run(&self.layers[i], shape.group, &inputs, &outputs);
            done.map_err(|source| failed(&self.names.layers[i], self.index, source))?;
            // Exactly the rows that were computed enter the cache.
            for (cache, new) in [k, v].into_iter().zip(self.shared.kv) {
                let to = cache
                    .part(at * kv_bytes, m * kv_bytes)
                    .map_err(Error::from)?;
                let new = new.part(0, m * kv_bytes).map_err(Error::from)?;
                self.device.copy(to, new).map_err(Error::from)?;
            }
            if i < levels {
                for run in &runs {
                    self.add_deepstack(result, run.row, run.len, i, run.feature, run.seen)?;
                }
            }
        }
        let last = self.shared.hidden[self.layers.len() % 2];
        let last = last.part((m - 1) * row_bytes, row_bytes);
        Ok(last.map_err(Error::from)?)
    }

    /// Adds the features of a level to hidden rows. The layers do not do it themselves.
    fn add_deepstack(
        &mut self,
        hidden: Mem,
        row: usize,
        len: usize,
        level: usize,
        feature: usize,
        seen: &Tokens,
    ) -> Result<(), Error> {
        let Some(features) = seen.deepstack.get(level) else {
            return Ok(());
        };
        let row_bytes = self.layout.row_bytes();
        let width = self.layout.hidden_size;
        let rows = hidden.part(row * row_bytes, len * row_bytes)?;
        self.bytes.resize(len * row_bytes, 0);
        self.device.read(rows, 0, &mut self.bytes)?;
        let features = &features[feature * width..][..len * width];
        for (half, feature) in self.bytes.as_chunks_mut::<2>().0.iter_mut().zip(features) {
            let sum = bf16::from_le_bytes(*half).to_f32() + feature;
            *half = bf16::from_f32(sum).to_le_bytes();
        }
        self.device.write(rows, 0, &self.bytes)?;
        Ok(())
    }

    /// Positions `[axes, rows]`; zero behind the last row. A decode group has one number for all
    /// axes.
    fn send_positions(&mut self, shape: &Shape, rows: &[Row]) -> Result<(), Error> {
        let mut bytes = vec![0; shape.input_bytes[2]];
        let axes = bytes.chunks_exact_mut(4 * shape.rows).enumerate();
        for (axis, line) in axes {
            for (place, row) in line.as_chunks_mut::<4>().0.iter_mut().zip(rows) {
                *place = row.position[axis].to_le_bytes();
            }
        }
        self.device.write(self.shared.indices, 0, &bytes)?;
        Ok(())
    }

    /// The mask of a run, sent if it is not there: of a decode step that follows another only the
    /// row that became visible.
    fn send_mask(&mut self, shape: &Shape, past: usize, m: usize) -> Result<(), Error> {
        let want = (shape.group, past, m);
        let before = self.shared.mask_for.take();
        if before != Some(want) {
            match before {
                Some((group, seen, 1))
                    if group == shape.group && shape.rows == 1 && seen < past =>
                {
                    let opened = vec![0; (past - seen) * HALF];
                    self.device.write(self.shared.mask, seen * HALF, &opened)?;
                }
                _ => {
                    let mask = mask(shape.rows, shape.history, past, m);
                    self.device.write(self.shared.mask, 0, &mask)?;
                }
            }
        }
        self.shared.mask_for = Some(want);
        Ok(())
    }

    /// What follows a hidden row.
    fn head(&mut self, hidden: Mem) -> Result<Next<'_>, backend::Error> {
        let post = &self.post;
        let source = |source| failed(&self.names.post, self.index, source);
        self.device.copy(post.input, hidden).map_err(source)?;
        self.device
            .run(&post.model, 0, &[post.input], &post.outputs)
            .map_err(source)?;
        let output = post.outputs[post.logits];
        self.bytes.resize(output.size_bytes(), 0);
        self.device
            .read(output, 0, &mut self.bytes)
            .map_err(source)?;
        if post.is_half {
            let halves = self.bytes.as_chunks::<2>().0.iter();
            for (logit, &bytes) in self.logits.iter_mut().zip(halves) {
                *logit = bf16::from_le_bytes(bytes).to_f32();
            }
        } else {
            let floats = self.bytes.as_chunks::<4>().0.iter();
            for (logit, &bytes) in self.logits.iter_mut().zip(floats) {
                *logit = f32::from_le_bytes(bytes);
            }
        }
        Ok(Next::Logits(&self.logits))
    }
}

/// `[rows, history + rows]`, additive: row `r` of the first `m` sees the `past` first columns, itself
/// and the rows before it, which stand behind the whole history. The others see nothing and compute
/// what nobody reads.
fn mask(rows: usize, history: usize, past: usize, m: usize) -> Vec<u8> {
    let columns = history + rows;
    let mut mask = MASKED.repeat(rows * columns);
    for (r, line) in mask.chunks_exact_mut(columns * HALF).take(m).enumerate() {
        line[..past * HALF].fill(0);
        line[history * HALF..][..(r + 1) * HALF].fill(0);
    }
    mask
}

/// A run that failed, with what to do about it.
pub(super) fn failed(file: &str, device: usize, source: axera_sys::Error) -> Error {
    Error::Run {
        file: file.to_owned(),
        device,
        hint: match source.is_out_of_memory() {
            true => "the NPU's memory is used up: end other programs that hold it",
            false => {
                "if it happens again, look at the kernel's log (dmesg) and reset the card \
                 (axcl-smi reboot) or the board"
            }
        },
        source: Box::new(source),
    }
}

impl Program for Axera {
    fn limits(&self) -> &Limits {
        &self.limits
    }

    fn encode(
        &mut self,
        patches: &Patches,
        cancel: &Cancel,
    ) -> Result<VisualTokens, backend::Error> {
        cancel.check()?;
        let failed = |source| failed(&self.names.vision, self.index, source);
        let (tokens, n_tokens) = self.vision.encode(&mut self.device, patches, &failed)?;
        Ok(VisualTokens {
            grid: patches.grid,
            n_tokens,
            features: Features::Device(Arc::new(tokens)),
        })
    }

    fn open(&mut self) -> Result<SequenceId, backend::Error> {
        self.sequence.open()
    }

    fn extend(
        &mut self,
        sequence: SequenceId,
        segments: &[Segment<'_>],
        positions: &[Position],
        cancel: &Cancel,
    ) -> Result<Next<'_>, backend::Error> {
        let (limits, layout) = (&self.limits, &self.layout);
        let extension = self
            .sequence
            .begin(sequence, segments, positions, limits, layout)?;
        let hidden = self.run(&extension, cancel)?;
        self.sequence.finish(&extension);
        self.head(hidden)
    }

    fn shared(&mut self, segments: &[Segment<'_>], positions: &[Position]) -> usize {
        self.sequence
            .shared::<Tokens>(segments, positions, &self.limits, &self.layout)
    }

    fn truncate(&mut self, sequence: SequenceId, n_rows: usize) {
        self.sequence.truncate(sequence, n_rows);
    }

    fn close(&mut self, sequence: SequenceId) {
        self.sequence.close(sequence);
    }

    fn health(&mut self) -> Health {
        let health = self.device.health();
        Health {
            chip: Some(
                match self.device.kind() {
                    Kind::Soc => "AX650N",
                    Kind::Card => "AX650 card",
                }
                .to_owned(),
            ),
            memory_used: health
                .memory
                .map(|(total, free)| total.saturating_sub(free)),
            memory_total: health.memory.map(|(total, _)| total),
            utilisation: health.utilisation,
            temperature: health.temperature,
        }
    }
}

#[cfg(test)]
mod tests;
