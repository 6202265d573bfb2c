// SPDX-License-Identifier: MPL-2.0

//! A chunk of a prompt through the prefill nets, layer by layer.

use super::board::Board;
use super::error::Error;
use super::half_type::HalfType;
use super::layout::{Embedding, History, Layout};
use super::prefill::Scratch;
use super::program::{Nets, Sophgo};
use super::tensor::{Arg, LoadedNet, Mem, Ports};
use super::vision::FeatureSlot;
use crate::embedding::Table;
use crate::rows::{Batch, Row, Source};
use crate::{Cancel, Position};

/// Rows `from .. from + m` of a batch.
pub(super) struct Rows<'a> {
    pub batch: &'a Batch<FeatureSlot>,
    pub from: usize,
    pub m: usize,
}

/// What is the same for all layers of a chunk.
struct Chunk {
    /// Rows of the prompt.
    m: usize,
    /// Rows of a launch: those of the prompt, in a static net as many as were compiled.
    n: usize,
    /// Row of the cache where the first stands.
    at: usize,
    /// Stage of the nets that run.
    stage: usize,
    /// Whether the nets `block_kv_*` run, which see the cache.
    sees_cache: bool,
}

impl Chunk {
    /// `m` rows from row `at` of the cache on, in the shortest stage that holds them.
    fn new(layout: &Layout, m: usize, at: usize) -> Self {
        let prefill = &layout.prefill;
        let stage = prefill.lengths.iter().rposition(|&len| len >= m);
        let stage = stage.unwrap_or(0);
        let n = match prefill.is_dynamic {
            true => m,
            false => prefill.lengths[stage],
        };
        let sees_cache = at > 0 && matches!(prefill.history, History::Separate(_));
        Self {
            m,
            n,
            at,
            stage: if sees_cache { 0 } else { stage },
            sees_cache,
        }
    }

    /// Where the inputs of a net begin that are rows of the cache, and how many rows they are.
    fn history(&self, layout: &Layout) -> Option<(usize, usize)> {
        match layout.prefill.history {
            History::Inside(rows) => Some((3, rows)),
            History::Separate(_) if self.sees_cache => Some((2, self.at)),
            History::None | History::Separate(_) => None,
        }
    }
}

/// What a layer of a chunk writes.
struct LayerOutputs {
    outputs: [Arg; 3],
    /// Where keys and values go, and whether that is the cache itself.
    kv: [Mem; 2],
    into_cache: bool,
}

impl Sophgo {
    /// Rows through the prefill nets, into rows `at ..` of the cache; their hidden rows.
    pub(super) fn prefill(
        &mut self,
        rows: &Rows<'_>,
        at: usize,
        cancel: &Cancel,
    ) -> Result<Mem, crate::Error> {
        let chunk = Chunk::new(&self.layout, rows.m, at);
        let mask = self.send_places(&chunk, rows)?;
        let levels = self.send_states(rows)?;
        let mut hidden = self.scratch.x;
        for i in 0..self.layout.n_layers {
            cancel.check()?;
            hidden = self.layer(i, &chunk, hidden, mask)?;
            if let (Some(level), Some(add)) = (levels.get(i), &self.nets.add) {
                hidden = add_level(
                    &mut self.board,
                    add,
                    hidden,
                    *level,
                    [chunk.m, chunk.n, self.layout.hidden_size],
                    self.scratch.y,
                )?;
            }
            // So that a cancelled prompt ends within a layer.
            self.board.sync()?;
        }
        Ok(hidden.part(0, chunk.m * self.layout.row_bytes())?)
    }

    /// Sends the positions of a chunk, and the mask if its nets take one.
    fn send_places(&mut self, chunk: &Chunk, rows: &Rows<'_>) -> Result<Option<Mem>, Error> {
        let (layout, board) = (&self.layout, &mut self.board);
        let of_chunk = &rows.batch.rows[rows.from..][..rows.m];
        let positions: Vec<Position> = of_chunk.iter().map(|row| row.position).collect();
        let n = chunk.n;
        self.scratch.send_positions(board, layout, &positions, n)?;
        match chunk.sees_cache {
            true => Ok(None),
            false => self.scratch.mask(board, layout, chunk.stage, n, chunk.at),
        }
    }

    /// Puts embeddings and visual tokens into `scratch.x`; the deepstack levels to be added.
    fn send_states(&mut self, rows: &Rows<'_>) -> Result<Vec<Mem>, Error> {
        let layout = &self.layout;
        let row_bytes = layout.row_bytes();
        embed(
            &mut self.board,
            &self.nets,
            self.table.as_ref(),
            layout,
            &self.scratch,
            &rows.batch.rows[rows.from..][..rows.m],
        )?;
        let mut deepstack = Vec::new();
        for run in rows.batch.visual_runs(rows.from, rows.m) {
            let (at, bytes) = (run.first * row_bytes, run.len * row_bytes);
            let levels = run
                .features
                .levels
                .iter()
                .map(|level| level.part(at, bytes));
            let mut levels = levels.collect::<Result<Vec<_>, Error>>()?;
            let to = self.scratch.x.part(run.row * row_bytes, bytes)?;
            self.board.copy(to, levels.remove(0))?;
            deepstack.push((run.row, run.len, levels));
        }
        self.scratch
            .send_deepstack(&mut self.board, row_bytes, &deepstack)
    }

    /// One layer of a chunk; where its hidden states lie.
    fn layer(
        &mut self,
        i: usize,
        chunk: &Chunk,
        hidden: Mem,
        mask: Option<Mem>,
    ) -> Result<Mem, Error> {
        let inputs = self.layer_inputs(i, chunk, hidden, mask)?;
        let net = self.nets.block(i, chunk.sees_cache);
        let written = self.layer_outputs(i, chunk, &net.stages[chunk.stage])?;
        self.board
            .launch(net, chunk.stage, &inputs, &written.outputs)?;
        let layout = &self.layout;
        if !written.into_cache {
            let kv = layout.kv_row_bytes();
            for (cache, new) in self.caches[i].into_iter().zip(written.kv) {
                let rows = cache.part(chunk.at * kv, chunk.m * kv)?;
                self.board.copy(rows, new.part(0, chunk.m * kv)?)?;
            }
        }
        let hidden = written.outputs[0].mem;
        if let Some(tap) = &mut self.tap {
            let mut bytes = vec![0; chunk.m * layout.row_bytes()];
            let rows = hidden.part(0, bytes.len())?;
            self.board.download(rows, &mut bytes)?;
            tap(&format!("block_{i}"), &layout.half.to_f32(&bytes));
        }
        Ok(hidden)
    }

    /// Hidden states, positions, mask and history, as far as the net takes them.
    fn layer_inputs(
        &mut self,
        i: usize,
        chunk: &Chunk,
        hidden: Mem,
        mask: Option<Mem>,
    ) -> Result<Vec<Arg>, Error> {
        let (layout, n) = (&self.layout, chunk.n);
        let net = self.nets.block(i, chunk.sees_cache);
        let ports = &net.stages[chunk.stage].inputs;
        let positions = self.scratch.positions;
        let mut inputs = vec![
            ports[0].shaped(hidden, &[1, n, layout.hidden_size])?,
            ports[1].shaped(positions, &[layout.position_rows, n])?,
        ];
        if let Some(mask) = mask {
            let columns = n + match layout.prefill.history {
                History::Inside(rows) => rows,
                History::None | History::Separate(_) => 0,
            };
            inputs.push(ports[2].shaped(mask, &[1, 1, n, columns])?);
        }
        if let Some((index, rows)) = chunk.history(layout) {
            let bytes = rows * layout.kv_row_bytes();
            for (port, cache) in ports[index..].iter().zip(self.caches[i]) {
                // The nets do not take the cache itself (the emulator's results are not numbers
                // then), as the vendor's programs never gave it.
                self.board.copy(port.mem, cache.part(0, bytes)?)?;
                inputs.push(port.shaped(port.mem, &heads(layout, rows))?);
            }
        }
        Ok(inputs)
    }

    fn layer_outputs(&self, i: usize, chunk: &Chunk, ports: &Ports) -> Result<LayerOutputs, Error> {
        let (layout, n) = (&self.layout, chunk.n);
        let is_dynamic = layout.prefill.is_dynamic;
        let kv = layout.kv_row_bytes();
        let [k_cache, v_cache] = self.caches[i];
        // A dynamic launch writes its rows where they belong, as long as the library sees room there
        // for all it might write; a static one writes padding too.
        let most = ports.outputs[1].size_bytes();
        let into_cache = is_dynamic && k_cache.size_bytes() - chunk.at * kv >= most;
        let kv = match into_cache {
            true => [
                k_cache.part(chunk.at * kv, most)?,
                v_cache.part(chunk.at * kv, most)?,
            ],
            false => [ports.outputs[1].mem, ports.outputs[2].mem],
        };
        // A dynamic launch reads its input where it is, so what the last one left in the region that
        // all nets share would be overwritten while it is read.
        let out = match (is_dynamic, i % 2) {
            (false, _) => ports.outputs[0].mem,
            (true, 0) => self.scratch.y,
            (true, _) => self.scratch.x,
        };
        let outputs = [
            ports.outputs[0].shaped(out, &[1, n, layout.hidden_size])?,
            ports.outputs[1].shaped(kv[0], &heads(layout, n))?,
            ports.outputs[2].shaped(kv[1], &heads(layout, n))?,
        ];
        Ok(LayerOutputs {
            outputs,
            kv,
            into_cache,
        })
    }
}

/// Shape of keys or values of so many rows.
fn heads(layout: &Layout, rows: usize) -> [usize; 4] {
    [1, rows, layout.n_kv_heads, layout.head_dim]
}

/// Adds a deepstack level to hidden states `[n, hidden_size]`, of which `m` rows mean something; where
/// the sum lies. `spare` is memory for the longest chunk, free to be overwritten.
fn add_level(
    board: &mut Board,
    add: &LoadedNet,
    mut hidden: Mem,
    level: Mem,
    [m, n, hidden_size]: [usize; 3],
    spare: Mem,
) -> Result<Mem, Error> {
    let numbers = n * hidden_size;
    let stage = add
        .stages
        .iter()
        .rposition(|ports| ports.inputs[0].elements() >= numbers);
    let stage = stage.unwrap_or(0);
    let ports = &add.stages[stage];
    // Until TPU-MLIR 1.24 it is dynamic.
    let numbers = match add.is_dynamic() {
        true => [m * hidden_size],
        false => [ports.inputs[0].elements()],
    };
    // It adds whole windows of the longest prompt, and a shorter stage of the block leaves less.
    let bytes = ports.inputs[0].size_bytes();
    if !add.is_dynamic() && hidden.size_bytes() < bytes {
        let rows = n * hidden_size * HalfType::BYTES;
        board.copy(spare.part(0, rows)?, hidden.part(0, rows)?)?;
        hidden = spare;
    }
    let inputs = [
        ports.inputs[0].shaped(hidden, &numbers)?,
        ports.inputs[1].shaped(level, &numbers)?,
    ];
    let output = ports.outputs[0].shaped(ports.outputs[0].mem, &numbers)?;
    board.launch(add, stage, &inputs, &[output])?;
    Ok(ports.outputs[0].mem)
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
