// SPDX-License-Identifier: MPL-2.0

//! What is launched: a prompt's rows, one token, the head.

use super::board::Board;
use super::error::Error;
use super::half_type::HalfType;
use super::layout::{Embedding, Head, History, Layout};
use super::prefill::Scratch;
use super::prefix::visible_rows;
use super::program::{Nets, Sophgo};
use super::tensor::{LoadedNet, Mem};
use super::vision::Slot;
use crate::backend::embedding::Table;
use crate::backend::rows::{Batch, Row, Source};
use crate::backend::sequence::Extension;
use crate::backend::{self, Cancel, Next, Position};

impl Sophgo {
    /// Computes the rows of an extension that are not in the cache; the last hidden row.
    pub(super) fn run(
        &mut self,
        extension: &Extension<Slot>,
        cancel: &Cancel,
    ) -> Result<Mem, backend::Error> {
        let Extension { batch, done, base } = extension;
        let mut done = *done;
        let n = batch.rows.len();
        let visible = visible_rows(&self.layout);
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
                hidden = add_level(
                    &mut self.board,
                    add,
                    hidden,
                    *level,
                    [m, n, layout.hidden_size],
                    self.scratch.y,
                )?;
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
                let row = table.rows(&[id]).map_err(Error::from)?;
                board.upload(self.decode.row, 0, &row)?;
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
    pub(super) fn head(&mut self, hidden: Mem) -> Result<Next<'_>, backend::Error> {
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
}

/// Adds a deepstack level to hidden states `[n, hidden_size]`, of which `m` rows mean something; where
/// the sum lies. `spare` is memory of the longest window that nobody reads.
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
