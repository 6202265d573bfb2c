// SPDX-License-Identifier: MPL-2.0

//! What is launched: a prompt's rows, one token, the head.

use super::chunk::Rows;
use super::error::Error;
use super::layout::{Head, History};
use super::prefix::visible_rows;
use super::program::Sophgo;
use super::tensor::Mem;
use super::vision::FeatureSlot;
use crate::rows::Source;
use crate::sequence::Extension;
use crate::{Cancel, Launch, Next, Position};

impl Sophgo {
    /// Computes the rows of an extension that are not in the cache; the last hidden row.
    pub(super) fn run(
        &mut self,
        extension: &Extension<FeatureSlot>,
        cancel: &Cancel,
    ) -> Result<Mem, crate::Error> {
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
                    return Err(crate::Error::Shape {
                        what: "rows of a sequence".into(),
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
                let rows = Rows {
                    batch,
                    from: done,
                    m,
                };
                let row_bytes = self.layout.row_bytes();
                let all = self.prefill(&rows, at, cancel)?;
                hidden = Some(all.part((m - 1) * row_bytes, row_bytes)?);
                m
            };
            done += m;
        }
        hidden.ok_or_else(|| crate::Error::Shape {
            what: "rows of a sequence".into(),
            want: "at least one".to_owned(),
            got: "none".to_owned(),
        })
    }

    /// Launches of the prefill nets that see all rows of a sequence, by their rows.
    pub(super) fn verifying(&self, n_rows: usize) -> Vec<Launch> {
        let prefill = &self.layout.prefill;
        let longest = prefill.lengths[0];
        if n_rows > visible_rows(&self.layout) {
            return Vec::new();
        }
        let mut lengths: Vec<usize> = match prefill.history {
            // What a dynamic launch costs grows with its rows.
            _ if prefill.is_dynamic => {
                let powers = (1..).map(|i| 1 << i);
                powers.take_while(|&n| n < longest).collect()
            }
            // Nets that see the cache apart have one length.
            History::Separate(_) => Vec::new(),
            _ => prefill.lengths[1..].iter().rev().copied().collect(),
        };
        lengths.push(longest);
        lengths.into_iter().map(Launch::of).collect()
    }

    /// Computes the rows of an extension in one launch of the prefill nets and tells what follows each.
    pub(super) fn run_telling(
        &mut self,
        extension: &Extension<FeatureSlot>,
        cancel: &Cancel,
        take: &mut dyn FnMut(usize, Next<'_>),
    ) -> Result<(), crate::Error> {
        let m = extension.batch.rows.len();
        let rows = Rows {
            batch: &extension.batch,
            from: 0,
            m,
        };
        let hidden = self.prefill(&rows, extension.base, cancel)?;
        let kept = match self.layout.prefill.is_dynamic {
            true => hidden,
            // It lies where all nets have theirs, and the head's launches may overwrite it.
            false => {
                let kept = self.scratch.x.part(0, hidden.size_bytes())?;
                self.board.copy(kept, hidden)?;
                kept
            }
        };
        let row_bytes = self.layout.row_bytes();
        for i in 0..m {
            let next = self.head(kept.part(i * row_bytes, row_bytes)?)?;
            take(i, next);
        }
        Ok(())
    }

    /// One token through the decode nets, into row `at` of the cache.
    fn step(&mut self, id: u32, position: Position, at: usize) -> Result<Mem, crate::Error> {
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
    pub(super) fn head(&mut self, hidden: Mem) -> Result<Next<'_>, crate::Error> {
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
