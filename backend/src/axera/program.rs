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
use super::head::Head;
use super::layout::{HALF, Layout, Shape};
use super::options::Options;
use super::vision::{HostFeatures, VisionModel};
use crate::embedding::Table;
use crate::rows::{Batch, Row, Source, VisualRun};
use crate::sequence::{Extension, Sequence, not_at_once};
use crate::{
    Arithmetic, Cancel, Features, Health, Launch, Limits, Next, Patches, Position, Program,
    Segment, SequenceId, VisualTokens,
};

/// What a mask holds where nothing is attended to, -65536 in bf16; the models know no other.
const MASKED: [u8; 2] = 0xc780u16.to_le_bytes();

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
    head: Head,
    vision: VisionModel,
    table: Table,
    buffers: LayerBuffers,
    sequence: Sequence,
    logits: Vec<f32>,
    bytes: Vec<u8>,
}

/// Names of the files, for what goes wrong later.
struct Names {
    layers: Vec<String>,
    head: String,
    vision: String,
}

/// Memory that all layers share: one after the other they read the same positions and mask.
struct LayerBuffers {
    indices: Mem,
    mask: Mem,
    /// Hidden rows: each layer reads one and writes the other.
    hidden: [Mem; 2],
    /// Keys and values of the rows of a run.
    kv: [Mem; 2],
    /// What `mask` holds: the group, the rows seen, the rows computed.
    mask_for: Option<(usize, usize, usize)>,
}

impl LayerBuffers {
    fn new(device: &mut Device, layout: &Layout) -> Result<Self, Error> {
        let rows = layout.chunk();
        let (row_bytes, kv_bytes) = (rows * layout.row_bytes(), rows * layout.kv_bytes());
        Ok(Self {
            indices: device.alloc(layout.max_input_bytes(2))?,
            mask: device.alloc(layout.max_input_bytes(4))?,
            hidden: [device.alloc(row_bytes)?, device.alloc(row_bytes)?],
            kv: [device.alloc(kv_bytes)?, device.alloc(kv_bytes)?],
            mask_for: None,
        })
    }
}

/// Models that were loaded, in the folder's order.
pub(super) struct Loaded {
    pub layers: Vec<Model>,
    pub head: Model,
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
            head,
            vision,
            layout,
            bytes,
        } = loaded;
        let name = |path: &std::path::Path| path.display().to_string();
        let names = Names {
            layers: folder.layers.iter().map(|path| name(path)).collect(),
            head: name(&folder.post),
            vision: name(&folder.vision),
        };
        let table = Table::open(&folder.embedding, options.vocab_size, layout.hidden_size)?;
        let buffers = LayerBuffers::new(&mut device, &layout)?;
        let mut caches = Vec::with_capacity(layers.len());
        for _ in &layers {
            // A masked row must be a number, and memory begins as zeroes.
            caches.push([
                device.alloc(layout.max_input_bytes(0))?,
                device.alloc(layout.max_input_bytes(1))?,
            ]);
        }
        let head = Head::new(&mut device, head, &names.head, &layout, options.vocab_size)?;
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
            head,
            vision,
            table,
            buffers,
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
        extension: &Extension<HostFeatures>,
        cancel: &Cancel,
    ) -> Result<Mem, crate::Error> {
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
                    return Err(crate::Error::Shape {
                        what: "visual tokens".into(),
                        want: format!(
                            "to begin in the first {most} rows, which the chunks of this build see; \
                             convert it with prefill groups of a longer history"
                        ),
                        got: format!("after {at} rows"),
                    });
                }
            };
            let m = left.min(shape.rows);
            let all = self.launch(batch, &shape, done, m, at, cancel)?;
            hidden = Some(self.hidden_row(all, m - 1)?);
            done += m;
        }
        hidden.ok_or_else(|| crate::Error::Shape {
            what: "rows of a sequence".into(),
            want: "at least one".to_owned(),
            got: "none".to_owned(),
        })
    }

    /// Row `i` of hidden rows.
    fn hidden_row(&self, hidden: Mem, i: usize) -> Result<Mem, Error> {
        let row_bytes = self.layout.row_bytes();
        Ok(hidden.part(i * row_bytes, row_bytes)?)
    }

    /// Rows `from .. from + m` of a batch through all layers, into rows `at ..` of the cache; their
    /// hidden rows.
    fn launch(
        &mut self,
        batch: &Batch<HostFeatures>,
        shape: &Shape,
        from: usize,
        m: usize,
        at: usize,
        cancel: &Cancel,
    ) -> Result<Mem, crate::Error> {
        let rows = &batch.rows[from..from + m];
        let runs = batch.visual_runs(from, m);
        // What does not depend on the layer.
        self.send_positions(shape, rows)?;
        self.send_mask(shape, at, m)?;
        self.send_states(shape, rows, &runs)?;
        let levels = runs.iter().map(|run| run.features.deepstack.len()).max();
        let levels = levels.unwrap_or(0);
        for i in 0..self.layers.len() {
            cancel.check()?;
            let hidden = self.layer(i, shape, at, m)?;
            if i < levels {
                for run in &runs {
                    self.add_deepstack(hidden, i, run)?;
                }
            }
        }
        let rows = self.buffers.hidden[self.layers.len() % 2];
        let rows = rows.part(0, m * self.layout.row_bytes());
        Ok(rows.map_err(Error::from)?)
    }

    /// Embeddings and visual tokens of the rows; zero behind the last row.
    fn send_states(
        &mut self,
        shape: &Shape,
        rows: &[Row],
        runs: &[VisualRun<'_, HostFeatures>],
    ) -> Result<(), Error> {
        let row_bytes = self.layout.row_bytes();
        let mut input = vec![0; shape.rows * row_bytes];
        for (place, row) in input.chunks_exact_mut(row_bytes).zip(rows) {
            if let Source::Token(id) = row.source {
                self.table.row(id, place)?;
            }
        }
        for run in runs {
            let features = &run.features.embeds[run.first * row_bytes..][..run.len * row_bytes];
            input[run.row * row_bytes..][..features.len()].copy_from_slice(features);
        }
        self.device.write(self.buffers.hidden[0], 0, &input)?;
        Ok(())
    }

    /// One layer over `m` rows, whose keys and values become rows `at ..` of its cache; where its
    /// hidden rows are.
    fn layer(&mut self, i: usize, shape: &Shape, at: usize, m: usize) -> Result<Mem, Error> {
        let (source, result) = (self.buffers.hidden[i % 2], self.buffers.hidden[(i + 1) % 2]);
        let [k, v] = self.caches[i];
        let (indices, mask) = (self.buffers.indices, self.buffers.mask);
        let mut inputs = vec![k; 5];
        for ((mem, &place), &bytes) in [k, v, indices, source, mask]
            .iter()
            .zip(&shape.inputs)
            .zip(&shape.input_bytes)
        {
            inputs[place] = mem.part(0, bytes)?;
        }
        let [new_k, new_v] = self.buffers.kv;
        let mut outputs = vec![result; 3];
        for (mem, &place) in [new_k, new_v, result].into_iter().zip(&shape.outputs) {
            outputs[place] = mem;
        }
        let done = self
            .device
            .run(&self.layers[i], shape.group, &inputs, &outputs);
        done.map_err(|source| failed(&self.names.layers[i], self.index, source))?;
        // Exactly the rows that were computed enter the cache.
        let kv_bytes = self.layout.kv_bytes();
        for (cache, new) in [k, v].into_iter().zip(self.buffers.kv) {
            let to = cache.part(at * kv_bytes, m * kv_bytes)?;
            self.device.copy(to, new.part(0, m * kv_bytes)?)?;
        }
        Ok(result)
    }

    /// Adds the features of a level to hidden rows. The layers do not do it themselves.
    fn add_deepstack(
        &mut self,
        hidden: Mem,
        level: usize,
        run: &VisualRun<'_, HostFeatures>,
    ) -> Result<(), Error> {
        let Some(features) = run.features.deepstack.get(level) else {
            return Ok(());
        };
        let len = run.len;
        let row_bytes = self.layout.row_bytes();
        let width = self.layout.hidden_size;
        let rows = hidden.part(run.row * row_bytes, len * row_bytes)?;
        self.bytes.resize(len * row_bytes, 0);
        self.device.read(rows, 0, &mut self.bytes)?;
        let features = &features[run.first * width..][..len * width];
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
        self.device.write(self.buffers.indices, 0, &bytes)?;
        Ok(())
    }

    /// The mask of a run, sent if it is not there: of a decode step that follows another only the
    /// row that became visible.
    fn send_mask(&mut self, shape: &Shape, past: usize, m: usize) -> Result<(), Error> {
        let want = (shape.group, past, m);
        let before = self.buffers.mask_for.take();
        if before != Some(want) {
            match before {
                Some((group, seen, 1))
                    if group == shape.group && shape.rows == 1 && seen < past =>
                {
                    let opened = vec![0; (past - seen) * HALF];
                    self.device.write(self.buffers.mask, seen * HALF, &opened)?;
                }
                _ => {
                    let mask = mask(shape.rows, shape.history, past, m);
                    self.device.write(self.buffers.mask, 0, &mask)?;
                }
            }
        }
        self.buffers.mask_for = Some(want);
        Ok(())
    }

    /// What follows a hidden row.
    fn head(&mut self, hidden: Mem) -> Result<Next<'_>, crate::Error> {
        self.head
            .run(&mut self.device, hidden, &mut self.logits)
            .map_err(|source| failed(&self.names.head, self.index, source))?;
        Ok(Next::Logits(&self.logits))
    }
}

/// `[rows, history + rows]`, additive: row `r` of the first `m` sees the `past` first columns, itself
/// and the rows before it, which stand behind the whole history. The other rows are masked everywhere,
/// and their results are ignored.
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

    fn encode(&mut self, patches: &Patches, cancel: &Cancel) -> Result<VisualTokens, crate::Error> {
        cancel.check()?;
        let failed = |source| failed(&self.names.vision, self.index, source);
        let (tokens, n_tokens) = self.vision.encode(&mut self.device, patches, &failed)?;
        Ok(VisualTokens {
            grid: patches.grid,
            n_tokens,
            features: Features::Device(Arc::new(tokens)),
        })
    }

    fn open(&mut self) -> Result<SequenceId, crate::Error> {
        self.sequence.open()
    }

    fn extend(
        &mut self,
        sequence: SequenceId,
        segments: &[Segment<'_>],
        positions: &[Position],
        cancel: &Cancel,
    ) -> Result<Next<'_>, crate::Error> {
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
            .shared::<HostFeatures>(segments, positions, &self.limits, &self.layout)
    }

    fn verifies(&self, n_rows: usize) -> Vec<Launch> {
        let shape = self.layout.prefill_for(n_rows);
        shape.iter().map(|shape| Launch::of(shape.rows)).collect()
    }

    fn verify(
        &mut self,
        sequence: SequenceId,
        tokens: &[u32],
        positions: &[Position],
        cancel: &Cancel,
        take: &mut dyn FnMut(usize, Next<'_>),
    ) -> Result<(), crate::Error> {
        let segments = [Segment::Tokens(tokens)];
        let (limits, layout) = (&self.limits, &self.layout);
        let extension: Extension<HostFeatures> = self
            .sequence
            .begin(sequence, &segments, positions, limits, layout)?;
        let (at, m) = (extension.base, tokens.len());
        let shape = self.layout.prefill_for(at).cloned();
        let Some(shape) = shape.filter(|shape| m <= shape.rows) else {
            return Err(not_at_once(m, at));
        };
        let hidden = self.launch(&extension.batch, &shape, 0, m, at, cancel)?;
        for i in 0..m {
            let row = self.hidden_row(hidden, i)?;
            take(i, self.head(row)?);
        }
        self.sequence.finish(&extension);
        Ok(())
    }

    fn truncate(&mut self, sequence: SequenceId, n_rows: usize) {
        self.sequence.truncate(sequence, n_rows);
    }

    fn close(&mut self, sequence: SequenceId) {
        self.sequence.close(sequence);
    }

    fn arithmetic(&self) -> Arithmetic {
        Arithmetic {
            // The type of its weights is the compiler's affair, which axmodels do not tell.
            precision: None,
            kernels: Some(chip(self.device.kind()).to_owned()),
        }
    }

    fn health(&mut self) -> Health {
        let health = self.device.health();
        Health {
            chip: Some(chip(self.device.kind()).to_owned()),
            memory_used: health
                .memory
                .map(|(total, free)| total.saturating_sub(free)),
            memory_total: health.memory.map(|(total, _)| total),
            utilisation: health.utilisation,
            temperature: health.temperature,
        }
    }
}

fn chip(kind: Kind) -> &'static str {
    match kind {
        Kind::Soc => "AX650N",
        Kind::Card => "AX650 card",
    }
}

#[cfg(test)]
mod tests;
