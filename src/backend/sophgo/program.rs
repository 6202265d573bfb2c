// SPDX-License-Identifier: MPL-2.0

//! The bmodel as a device program: counters, bindings, launches.

use super::board::Board;
use super::embedding::Table;
use super::layout::{Embedding, Head, History, Layout};
use super::prefill::{DecodeMasks, Scratch};
use super::tensor::{LoadedNet, Mem};
use super::vision::{Slot, VisionNet};
use super::{Described, Error, Options};
use crate::backend::kept::Kept;
use crate::backend::rows::{Batch, Row, Source};
use crate::backend::{
    self, Cancel, Features, Health, Limits, Next, Patches, Position, Program, Segment, SequenceId,
    VisualTokens,
};

use std::sync::Arc;

/// Hears the output of a block: its name, and its rows `[rows, hidden_size]`.
pub type Tap = Box<dyn FnMut(&str, &[f32]) + Send>;

/// Rows that are fed one by one rather than computing all again, where a bmodel cannot continue
/// from rows: a step costs about a thirtieth of a prefill.
const MAX_FED_ROWS: usize = 8;

/// Rows that a question after another is fed one by one, where the prefill nets cannot see the rows
/// that the two have in common; with more, its prompt is computed anew.
const MAX_CONTINUED_ROWS: usize = 24;

/// A bmodel on a device.
pub struct Sophgo {
    board: Board,
    layout: Layout,
    limits: Limits,
    nets: Nets,
    vision: VisionNet,
    table: Option<Table>,
    scratch: Scratch,
    masks: DecodeMasks,
    decode: DecodeMems,
    /// K and V of each layer, `[context, n_kv_heads, head_dim]`.
    caches: Vec<[Mem; 2]>,
    kept: Kept,
    logits: Vec<f32>,
    bytes: Vec<u8>,
    tap: Option<Tap>,
}

struct Nets {
    embedding: Option<(LoadedNet, LoadedNet)>,
    blocks: Vec<LoadedNet>,
    blocks_kv: Vec<LoadedNet>,
    caches: Vec<LoadedNet>,
    head: LoadedNet,
    add: Option<LoadedNet>,
}

/// Own memory of a decode step.
struct DecodeMems {
    /// One id, for a token that the head did not just choose.
    id: Mem,
    position: Mem,
    /// One row, for embeddings on disk.
    row: Mem,
    /// What the head says.
    head: Mem,
    /// The token in `head`, if it is one.
    token: Option<u32>,
}

impl Sophgo {
    /// Binds the nets of a loaded bmodel.
    pub(super) fn new(
        mut board: Board,
        described: &Described,
        options: &Options,
    ) -> Result<Self, Error> {
        let layout = described.layout.clone();
        let list = |board: &Board, prefix: &str| -> Result<Vec<LoadedNet>, Error> {
            let names = (0..layout.n_layers).map(|i| format!("{prefix}{i}"));
            names.map(|name| board.net(&name)).collect()
        };
        let nets = Nets {
            embedding: match layout.embedding {
                Embedding::Nets(_) => {
                    Some((board.net("embedding")?, board.net("embedding_cache")?))
                }
                Embedding::Disk => None,
            },
            blocks: list(&board, "block_")?,
            blocks_kv: match layout.prefill.history {
                History::Separate(_) => list(&board, "block_kv_")?,
                History::None | History::Inside(_) => Vec::new(),
            },
            caches: list(&board, "block_cache_")?,
            head: board.net("lm_head")?,
            add: match layout.vision.n_deepstack {
                0 => None,
                _ => Some(board.net("add")?),
            },
        };
        let table = match (&layout.embedding, &options.embedding) {
            (Embedding::Nets(_), _) => None,
            (Embedding::Disk, Some(path)) => {
                Some(Table::open(path, layout.hidden_size, options.vocab_size)?)
            }
            (Embedding::Disk, None) => {
                return Err(Error::Unsupported {
                    file: described.path.display().to_string(),
                    reason: "it has no embedding nets, and there is no embedding.bin in its \
                             config folder or beside it; copy the one that llm_convert.py wrote"
                        .to_owned(),
                });
            }
        };
        let caches: Vec<[Mem; 2]> = nets
            .caches
            .iter()
            .map(|net| [net.stages[0].inputs[3].mem, net.stages[0].inputs[4].mem])
            .collect();
        // A masked row must be a number: its weight is zero, and zero times NaN is not.
        for mem in caches.iter().flatten() {
            board.clear(*mem)?;
        }
        let vocab_size = match layout.head {
            Head::Greedy => options.vocab_size,
            Head::Logits(n) => n,
        };
        let decode = DecodeMems {
            id: board.alloc_zeroed(4)?,
            position: board.alloc_zeroed(4 * layout.position_rows)?,
            row: board.alloc_zeroed(layout.row_bytes())?,
            head: match layout.head {
                Head::Greedy => board.alloc_zeroed(4)?,
                Head::Logits(n) => board.alloc_zeroed(4 * n)?,
            },
            token: None,
        };
        let vision = VisionNet::new(&mut board, &layout, options.tables)?;
        let scratch = Scratch::new(&mut board, &layout)?;
        let masks = DecodeMasks::new(&mut board, &layout)?;
        self_test(&mut board, decode.id, decode.position)?;
        Ok(Self {
            limits: Limits {
                context: layout.context,
                prompt: layout.max_prompt(),
                vocab_size,
                weight_bytes: described.model.weight_bytes,
            },
            logits: match layout.head {
                Head::Greedy => Vec::new(),
                Head::Logits(n) => vec![0.0; n],
            },
            board,
            layout,
            nets,
            vision,
            table,
            scratch,
            masks,
            decode,
            caches,
            kept: Kept::default(),
            bytes: Vec::new(),
            tap: None,
        })
    }

    /// Lets `tap` hear the output of every block of the prompt, to compare it with a reference. It
    /// costs a transfer per block.
    pub fn watch(&mut self, tap: Tap) {
        self.tap = Some(tap);
    }

    /// Ends [`watch`](Self::watch).
    pub fn unwatch(&mut self) {
        self.tap = None;
    }

    /// Bytes of device memory beside weights and nets.
    pub fn buffer_bytes(&self) -> u64 {
        self.board.allocated() + self.vision.slot_bytes()
    }

    /// Computes the rows of a batch from `done` on; its first row is row `base` of the cache. The
    /// last hidden row.
    fn run(
        &mut self,
        batch: &Batch<Slot>,
        mut done: usize,
        base: usize,
        cancel: &Cancel,
    ) -> Result<Mem, backend::Error> {
        let n = batch.rows.len();
        // Rows in the cache that the prefill nets can see.
        let visible = match self.layout.prefill.history {
            History::None => 0,
            History::Inside(rows) | History::Separate(rows) => rows,
        };
        let longest = self.layout.prefill.lengths[0];
        let mut hidden = None;
        while done < n {
            cancel.check()?;
            let at = base + done;
            let left = n - done;
            let visual = matches!(batch.rows[done].source, Source::Visual(..));
            let m = if at > visible || left == 1 && !visual {
                let row = batch.rows[done];
                let Source::Token(id) = row.source else {
                    return Err(backend::Error::Shape {
                        what: "rows of a sequence",
                        want: "visual tokens at its beginning only: this bmodel has no history \
                               (compile it with --use_history_kv)"
                            .to_owned(),
                        got: format!("visual tokens after {at} rows"),
                    });
                };
                hidden = Some(self.step(id, row.position, at)?);
                1
            } else {
                let m = left.min(longest);
                hidden = Some(self.prefill(batch, done, m, at, cancel)?);
                m
            };
            done += m;
        }
        hidden.ok_or_else(|| backend::Error::Shape {
            what: "rows of a sequence",
            want: "at least one".to_owned(),
            got: "none".to_owned(),
        })
    }

    /// Rows `from .. from + m` of a batch through the prefill nets, into rows `at ..` of the cache.
    fn prefill(
        &mut self,
        batch: &Batch<Slot>,
        from: usize,
        m: usize,
        at: usize,
        cancel: &Cancel,
    ) -> Result<Mem, backend::Error> {
        let layout = &self.layout;
        let row_bytes = layout.row_bytes();
        let rows = &batch.rows[from..from + m];
        // The shortest stage that holds them.
        let stage = layout.prefill.lengths.iter().rposition(|&len| len >= m);
        let stage = stage.unwrap_or(0);
        let dynamic = layout.prefill.is_dynamic;
        let n = if dynamic {
            m
        } else {
            layout.prefill.lengths[stage]
        };
        let (nets, past) = match layout.prefill.history {
            History::Separate(_) if at > 0 => (&self.nets.blocks_kv, at),
            _ => (&self.nets.blocks, at),
        };
        let separate = std::ptr::eq(nets, &self.nets.blocks_kv);
        let stage = if separate { 0 } else { stage };

        // What does not depend on the layer.
        let positions: Vec<Position> = rows.iter().map(|row| row.position).collect();
        self.scratch
            .send_positions(&mut self.board, layout, &positions, n)?;
        let mask = match separate {
            true => None,
            false => self.scratch.mask(&mut self.board, layout, stage, n, past)?,
        };
        embed(
            &mut self.board,
            &self.nets,
            self.table.as_ref(),
            layout,
            &self.scratch,
            rows,
        )?;
        let runs = batch.visual_runs(from, m).into_iter().map(|run| {
            let (at, bytes) = (run.feature * row_bytes, run.len * row_bytes);
            let levels = run.seen.levels.iter().map(|level| level.part(at, bytes));
            Ok((run.row, run.len, levels.collect::<Result<Vec<_>, Error>>()?))
        });
        let runs = runs.collect::<Result<Vec<_>, Error>>()?;
        for (row, len, features) in &runs {
            let to = self.scratch.x.part(row * row_bytes, len * row_bytes)?;
            self.board.copy(to, features[0])?;
        }
        let levels: Vec<_> = runs
            .into_iter()
            .map(|(row, len, features)| (row, len, features[1..].to_vec()))
            .collect();
        let levels = self
            .scratch
            .send_deepstack(&mut self.board, row_bytes, &levels)?;

        let kv = layout.kv_row_bytes();
        let heads = |rows: usize| [1, rows, layout.n_kv_heads, layout.head_dim];
        let mut hidden = self.scratch.x;
        for (i, net) in nets.iter().enumerate() {
            cancel.check()?;
            let ports = &net.stages[stage];
            let [input, position] = [&ports.inputs[0], &ports.inputs[1]];
            let [k_cache, v_cache] = self.caches[i];
            let mut inputs = vec![
                input.shaped(hidden, &[1, n, layout.hidden_size])?,
                position.shaped(self.scratch.positions, &[layout.position_rows, n])?,
            ];
            if let Some(mask) = mask {
                let columns = n + match layout.prefill.history {
                    History::Inside(rows) => rows,
                    History::None | History::Separate(_) => 0,
                };
                inputs.push(ports.inputs[2].shaped(mask, &[1, 1, n, columns])?);
            }
            let history = match layout.prefill.history {
                History::Inside(rows) => Some((3, rows)),
                History::Separate(_) if separate => Some((2, past)),
                History::None | History::Separate(_) => None,
            };
            if let Some((index, rows)) = history {
                for (port, cache) in ports.inputs[index..].iter().zip([k_cache, v_cache]) {
                    // The nets do not take the cache itself (the emulator's results are not
                    // numbers then), as the vendor's programs never gave it.
                    self.board.copy(port.mem, cache.part(0, rows * kv)?)?;
                    inputs.push(port.shaped(port.mem, &heads(rows))?);
                }
            }
            // A dynamic launch writes its rows where they belong, as long as the library sees room
            // there for all it might write; a static one writes padding too.
            let most = ports.outputs[1].size_bytes();
            let direct = dynamic && k_cache.size_bytes() - at * kv >= most;
            let kv_outs = match direct {
                true => [k_cache.part(at * kv, most)?, v_cache.part(at * kv, most)?],
                false => [ports.outputs[1].mem, ports.outputs[2].mem],
            };
            // A dynamic launch reads its input where it is, so what the last one left in the region
            // that all nets share would be overwritten while it is read.
            let out = match (dynamic, i % 2) {
                (false, _) => ports.outputs[0].mem,
                (true, 0) => self.scratch.y,
                (true, _) => self.scratch.x,
            };
            let outputs = [
                ports.outputs[0].shaped(out, &[1, n, layout.hidden_size])?,
                ports.outputs[1].shaped(kv_outs[0], &heads(n))?,
                ports.outputs[2].shaped(kv_outs[1], &heads(n))?,
            ];
            self.board.launch(net, stage, &inputs, &outputs)?;
            if !direct {
                for (cache, out) in [k_cache, v_cache].into_iter().zip(kv_outs) {
                    let rows = cache.part(at * kv, m * kv)?;
                    self.board.copy(rows, out.part(0, m * kv)?)?;
                }
            }
            hidden = out;
            if let Some(tap) = &mut self.tap {
                let mut bytes = vec![0; m * row_bytes];
                self.board
                    .download(hidden.part(0, m * row_bytes)?, &mut bytes)?;
                tap(&format!("block_{i}"), &layout.half.to_f32(&bytes));
            }
            if let (Some(level), Some(add)) = (levels.get(i), &self.nets.add) {
                let ports = &add.stages[0];
                // Until TPU-MLIR 1.24 it is dynamic.
                let numbers = match add.is_dynamic() {
                    true => [m * layout.hidden_size],
                    false => [ports.inputs[0].elements()],
                };
                let inputs = [
                    ports.inputs[0].shaped(hidden, &numbers)?,
                    ports.inputs[1].shaped(*level, &numbers)?,
                ];
                let output = ports.outputs[0].shaped(ports.outputs[0].mem, &numbers)?;
                self.board.launch(add, 0, &inputs, &[output])?;
                hidden = ports.outputs[0].mem;
            }
            // So that a cancelled prompt ends within a layer.
            self.board.sync()?;
        }
        Ok(hidden.part((m - 1) * row_bytes, row_bytes)?)
    }

    /// One token through the decode nets, into row `at` of the cache.
    fn step(&mut self, id: u32, position: Position, at: usize) -> Result<Mem, backend::Error> {
        let layout = &self.layout;
        let board = &mut self.board;
        let position_bytes: Vec<u8> = position[..layout.position_rows]
            .iter()
            .flat_map(|p| p.to_le_bytes())
            .collect();
        board.upload(self.decode.position, 0, &position_bytes)?;
        // The shortest stage that holds the rows that are there and this one.
        let stage = layout.decode_stages.iter().rposition(|&len| len > at);
        let stage = stage.unwrap_or(0);
        let len = layout.decode_stages[stage];
        let mask = self.masks.open(board, stage, at)?;
        let mut hidden = match (&self.nets.embedding, &self.table) {
            (Some((_, net)), _) => {
                let ids = if self.decode.token == Some(id) {
                    self.decode.head
                } else {
                    board.upload(self.decode.id, 0, &id.to_le_bytes())?;
                    self.decode.id
                };
                let ports = &net.stages[0];
                let out = ports.outputs[0].whole()?;
                board.launch(net, 0, &[ports.inputs[0].bound(ids)?], &[out])?;
                out.mem
            }
            (None, Some(table)) => {
                board.upload(self.decode.row, 0, &table.rows(&[id])?)?;
                self.decode.row
            }
            (None, None) => self.decode.row,
        };
        let kv = layout.kv_row_bytes();
        for (net, [k_cache, v_cache]) in self.nets.caches.iter().zip(&self.caches) {
            let ports = &net.stages[stage];
            let inputs = [
                ports.inputs[0].bound(hidden)?,
                ports.inputs[1].bound(self.decode.position)?,
                ports.inputs[2].bound(mask)?,
                ports.inputs[3].bound(k_cache.part(0, len * kv)?)?,
                ports.inputs[4].bound(v_cache.part(0, len * kv)?)?,
            ];
            let outputs = [
                ports.outputs[0].whole()?,
                ports.outputs[1].bound(k_cache.part(at * kv, kv)?)?,
                ports.outputs[2].bound(v_cache.part(at * kv, kv)?)?,
            ];
            board.launch(net, stage, &inputs, &outputs)?;
            hidden = outputs[0].mem;
        }
        Ok(hidden.part(0, layout.row_bytes())?)
    }

    /// What follows a hidden row.
    fn head(&mut self, hidden: Mem) -> Result<Next<'_>, backend::Error> {
        let ports = &self.nets.head.stages[0];
        self.decode.token = None;
        let inputs = [ports.inputs[0].bound(hidden)?];
        let outputs = [ports.outputs[0].bound(self.decode.head)?];
        self.board.launch(&self.nets.head, 0, &inputs, &outputs)?;
        match self.layout.head {
            Head::Greedy => {
                let mut token = [0; 4];
                self.board.download(self.decode.head, &mut token)?;
                let token = u32::from_le_bytes(token);
                self.decode.token = Some(token);
                Ok(Next::Token(token))
            }
            Head::Logits(n) => {
                self.bytes.resize(4 * n, 0);
                self.board.download(self.decode.head, &mut self.bytes)?;
                let floats = self.bytes.as_chunks::<4>().0.iter();
                for (logit, &bytes) in self.logits.iter_mut().zip(floats) {
                    *logit = f32::from_le_bytes(bytes);
                }
                Ok(Next::Logits(&self.logits))
            }
        }
    }

    /// Of the rows that a new sequence begins with, how many are in the cache and worth keeping.
    fn common(&self, rows: &[Row]) -> usize {
        let same = self.kept.shared(rows);
        let left = rows.len() - same;
        match self.layout.prefill.history {
            History::None if left > MAX_FED_ROWS => 0,
            History::None
                if rows[same..]
                    .iter()
                    .any(|row| matches!(row.source, Source::Visual(..))) =>
            {
                0
            }
            _ => same,
        }
    }
}

/// Writes the embeddings of the rows that are tokens to `scratch.x`.
fn embed(
    board: &mut Board,
    nets: &Nets,
    table: Option<&Table>,
    layout: &Layout,
    scratch: &Scratch,
    rows: &[Row],
) -> Result<(), Error> {
    let token = |row: &Row| match row.source {
        Source::Token(id) => id,
        Source::Visual(..) => 0,
    };
    if let (Some((net, _)), Embedding::Nets(lengths)) = (&nets.embedding, &layout.embedding) {
        let stage = lengths.iter().rposition(|&len| len >= rows.len());
        let stage = stage.unwrap_or(0);
        let ids: Vec<u8> = rows.iter().flat_map(|r| token(r).to_le_bytes()).collect();
        board.upload(scratch.ids, 0, &ids)?;
        let ports = &net.stages[stage];
        let input = ports.inputs[0].bound(scratch.ids)?;
        let output = ports.outputs[0].bound(scratch.x)?;
        return board.launch(net, stage, &[input], &[output]);
    }
    let Some(table) = table else {
        return Ok(());
    };
    let is_token = |row: &Row| matches!(row.source, Source::Token(_));
    let mut at = 0;
    for run in rows.chunk_by(|a, b| is_token(a) == is_token(b)) {
        if is_token(&run[0]) {
            let ids: Vec<u32> = run.iter().map(token).collect();
            board.upload(scratch.x, at * layout.row_bytes(), &table.rows(&ids)?)?;
        }
        at += run.len();
    }
    Ok(())
}

/// That the device copies: a chip without its kernel module, or one that hangs, does not.
fn self_test(board: &mut Board, a: Mem, b: Mem) -> Result<(), Error> {
    const PATTERN: [u8; 4] = [0x5a, 0xc3, 0x01, 0xfe];
    let (a, b) = (a.part(0, 4)?, b.part(0, 4)?);
    let mut found = [0; 4];
    board.upload(a, 0, &PATTERN)?;
    let copied = board.copy(b, a);
    board.download(b, &mut found)?;
    if copied.is_ok() && found == PATTERN {
        board.upload(a, 0, &[0; 4])?;
        return board.upload(b, 0, &[0; 4]);
    }
    match board.chip().kernel_module() {
        Some(path) if !path.exists() => Err(Error::KernelModule(
            path.to_str().unwrap_or("the kernel module"),
        )),
        _ => copied.and(Err(Error::Api(sophgo_sys::Error::Refused {
            op: "bm_memcpy_d2d_byte",
            what: "a test pattern, which came out different".to_owned(),
        }))),
    }
}

impl Program for Sophgo {
    fn limits(&self) -> &Limits {
        &self.limits
    }

    fn encode(
        &mut self,
        patches: &Patches,
        cancel: &Cancel,
    ) -> Result<VisualTokens, backend::Error> {
        cancel.check()?;
        let (slot, n_tokens) = self.vision.encode(&mut self.board, patches)?;
        self.board.sync()?;
        Ok(VisualTokens {
            grid: patches.grid,
            n_tokens,
            features: Features::Device(Arc::new(slot)),
        })
    }

    fn open(&mut self) -> Result<SequenceId, backend::Error> {
        self.kept.open()
    }

    fn extend(
        &mut self,
        sequence: SequenceId,
        segments: &[Segment<'_>],
        positions: &[Position],
        cancel: &Cancel,
    ) -> Result<Next<'_>, backend::Error> {
        let rows = self.kept.n_rows(sequence)?;
        let batch = Batch::read(
            segments,
            positions,
            self.layout.context,
            self.limits.vocab_size,
        )?;
        let n = batch.rows.len();
        let (needed, context) = (rows + n, self.layout.context);
        if needed > context {
            return Err(backend::Error::Context { needed, context });
        }
        let done = match rows {
            0 => self.common(&batch.rows),
            _ => 0,
        };
        if rows == 0 && n - done > self.limits.prompt {
            let (needed, context) = (n - done, self.limits.prompt);
            return Err(backend::Error::Context { needed, context });
        }
        // Rows from here on are overwritten, whatever comes.
        self.kept.keep(rows + done);
        let hidden = self.run(&batch, done, rows, cancel)?;
        self.kept.append(&batch.rows[done..]);
        self.head(hidden)
    }

    fn continues(&self, n_kept: usize, n_more: usize) -> bool {
        let visible = match self.layout.prefill.history {
            History::None => 0,
            History::Inside(rows) | History::Separate(rows) => rows,
        };
        n_kept <= visible || n_more <= MAX_CONTINUED_ROWS
    }

    fn truncate(&mut self, sequence: SequenceId, n_rows: usize) {
        self.kept.truncate(sequence, n_rows);
    }

    fn close(&mut self, sequence: SequenceId) {
        self.kept.close(sequence);
    }

    fn health(&mut self) -> Health {
        let load = self.board.load_of_chip();
        Health {
            chip: Some(self.board.chip().to_string()),
            memory_used: load.map(|(used, _, _)| used << 20),
            memory_total: load.map(|(_, total, _)| total << 20),
            utilisation: load.map(|(_, _, percent)| percent),
            temperature: self.board.temperature(),
        }
    }
}
