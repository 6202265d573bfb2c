// SPDX-License-Identifier: MPL-2.0

//! What the prompt's launches read beside hidden states: ids, positions, masks, deepstack.

use super::board::Board;
use super::error::Error;
use super::half_type::HalfType;
use super::layout::{Embedding, History, Layout};
use super::tensor::Mem;
use crate::Position;

/// A mask and what it is for, so that it is sent only when it changes.
pub(super) struct Mask {
    mem: Mem,
    /// Rows and history rows it holds zeroes for.
    sent_for: Option<(usize, usize)>,
}

/// Own memory of the prefill.
pub(super) struct Scratch {
    /// `[rows]` ids; what lies behind the last is an id too.
    pub ids: Mem,
    /// `[rows, hidden_size]` embeddings.
    pub x: Mem,
    /// `[rows, hidden_size]` hidden states of every second layer of a dynamic launch; `x` has the
    /// others.
    pub y: Mem,
    /// `[position_rows, rows]`.
    pub positions: Mem,
    /// One a stage.
    masks: Vec<Mask>,
    /// `[rows, hidden_size]` a level: zero where no visual token stands.
    deepstack: Vec<DeepstackLevel>,
    /// `[rows, hidden_size]` of zeroes; only with deepstack.
    zeroes: Option<Mem>,
}

/// Features of one deepstack level at the rows of a launch.
struct DeepstackLevel {
    mem: Mem,
    /// Rows that hold features of an earlier launch.
    dirty: Vec<bool>,
}

impl Scratch {
    pub(super) fn new(board: &mut Board, layout: &Layout) -> Result<Self, Error> {
        let embedded = match &layout.embedding {
            Embedding::Nets(lengths) => lengths[0],
            Embedding::Disk => 0,
        };
        let rows = layout.prefill.lengths[0].max(embedded);
        let row_bytes = layout.row_bytes();
        let mut masks = Vec::new();
        if layout.prefill.has_mask {
            for &length in &layout.prefill.lengths {
                let bytes = length * (length + history_columns(layout)) * HalfType::BYTES;
                masks.push(Mask {
                    mem: board.alloc(bytes)?,
                    sent_for: None,
                });
            }
        }
        let n_levels = layout.vision.n_deepstack;
        let mut deepstack = Vec::with_capacity(n_levels);
        for _ in 0..n_levels {
            deepstack.push(DeepstackLevel {
                mem: board.alloc_zeroed(rows * row_bytes)?,
                dirty: vec![false; rows],
            });
        }
        Ok(Self {
            ids: board.alloc_zeroed(rows * 4)?,
            x: board.alloc_zeroed(rows * row_bytes)?,
            y: board.alloc_zeroed(rows * row_bytes)?,
            positions: board.alloc_zeroed(rows * 4 * layout.position_rows)?,
            masks,
            deepstack,
            zeroes: match n_levels {
                0 => None,
                _ => Some(board.alloc_zeroed(rows * row_bytes)?),
            },
        })
    }

    /// Sends the positions of a launch, `[position_rows, stride]`.
    pub(super) fn send_positions(
        &self,
        board: &mut Board,
        layout: &Layout,
        positions: &[Position],
        stride: usize,
    ) -> Result<(), Error> {
        let mut bytes = vec![0; 4 * stride * layout.position_rows];
        for (axis, row) in bytes.chunks_exact_mut(4 * stride).enumerate() {
            for (place, position) in row.as_chunks_mut::<4>().0.iter_mut().zip(positions) {
                *place = position[axis].to_le_bytes();
            }
        }
        board.upload(self.positions, 0, &bytes)
    }

    /// The causal mask of a launch `[rows, history + rows]`, sent if it is not there.
    ///
    /// A static launch has the compiled number of rows. What stands behind the last real one does
    /// no harm: no row sees what comes after it.
    pub(super) fn mask(
        &mut self,
        board: &mut Board,
        layout: &Layout,
        stage: usize,
        rows: usize,
        past: usize,
    ) -> Result<Option<Mem>, Error> {
        let Some(mask) = self.masks.get_mut(stage) else {
            return Ok(None);
        };
        let history = history_columns(layout);
        let past = past.min(history);
        if mask.sent_for != Some((rows, past)) {
            mask.sent_for = None;
            board.upload(mask.mem, 0, &causal(layout.half, rows, history, past))?;
            mask.sent_for = Some((rows, past));
        }
        Ok(Some(mask.mem))
    }

    /// Puts the features of visual tokens at their rows and zeroes elsewhere; `runs` are rows of
    /// the launch with the levels of their features. `None` if no level is to be added.
    pub(super) fn send_deepstack(
        &mut self,
        board: &mut Board,
        row_bytes: usize,
        runs: &[(usize, usize, Vec<Mem>)],
    ) -> Result<Vec<Mem>, Error> {
        let Some(zeroes) = self.zeroes else {
            return Ok(Vec::new());
        };
        if runs.is_empty() {
            return Ok(Vec::new());
        }
        for (k, level) in self.deepstack.iter_mut().enumerate() {
            let mut visual = vec![false; level.dirty.len()];
            for (first, n, _) in runs {
                visual[*first..first + n].fill(true);
            }
            let stale: Vec<bool> = level
                .dirty
                .iter()
                .zip(&visual)
                .map(|(&dirty, &visual)| dirty && !visual)
                .collect();
            level.dirty = visual;
            for (first, n) in true_runs(&stale) {
                let to = level.mem.part(first * row_bytes, n * row_bytes)?;
                board.copy(to, zeroes.part(0, n * row_bytes)?)?;
            }
            for (first, n, features) in runs {
                let to = level.mem.part(first * row_bytes, n * row_bytes)?;
                board.copy(to, features[k])?;
            }
        }
        Ok(self.deepstack.iter().map(|level| level.mem).collect())
    }
}

/// Columns of history that the blocks' own mask has.
fn history_columns(layout: &Layout) -> usize {
    match layout.prefill.history {
        History::Inside(rows) => rows,
        History::None | History::Separate(_) => 0,
    }
}

/// `[rows, history + rows]`: every row sees the `past` first columns, itself and the rows before it.
fn causal(half: HalfType, rows: usize, history: usize, past: usize) -> Vec<u8> {
    let row_bytes = (history + rows) * HalfType::BYTES;
    let mut mask: Vec<u8> = half.masked().repeat(rows * (history + rows));
    for (i, row) in mask.chunks_exact_mut(row_bytes).enumerate() {
        row[..past * HalfType::BYTES].fill(0);
        row[history * HalfType::BYTES..][..(i + 1) * HalfType::BYTES].fill(0);
    }
    mask
}

/// Runs of true: first index and length.
fn true_runs(flags: &[bool]) -> Vec<(usize, usize)> {
    let mut runs = Vec::new();
    let mut at = 0;
    for chunk in flags.chunk_by(|a, b| a == b) {
        if chunk[0] {
            runs.push((at, chunk.len()));
        }
        at += chunk.len();
    }
    runs
}

/// Masks of the decode nets: one a stage, kept in step with the rows that are there.
pub(super) struct DecodeMasks {
    half: HalfType,
    stages: Vec<DecodeMask>,
}

struct DecodeMask {
    mem: Mem,
    /// Cache rows of the stage.
    len: usize,
    /// Rows it lets through.
    open: usize,
}

impl DecodeMasks {
    /// `[len + 1]` a stage: all cache rows closed, the last column (the token itself) open.
    pub(super) fn new(board: &mut Board, layout: &Layout) -> Result<Self, Error> {
        let mut stages = Vec::with_capacity(layout.decode_stages.len());
        for &len in &layout.decode_stages {
            let mem = board.alloc((len + 1) * HalfType::BYTES)?;
            let mut mask = layout.half.masked().repeat(len);
            mask.extend([0; HalfType::BYTES]);
            board.upload(mem, 0, &mask)?;
            stages.push(DecodeMask { mem, len, open: 0 });
        }
        Ok(Self {
            half: layout.half,
            stages,
        })
    }

    /// The mask of a stage with the first `rows` rows open; only what differs is sent.
    pub(super) fn open(
        &mut self,
        board: &mut Board,
        stage: usize,
        rows: usize,
    ) -> Result<Mem, Error> {
        let mask = &mut self.stages[stage];
        let rows = rows.min(mask.len);
        let (from, to) = (mask.open.min(rows), mask.open.max(rows));
        if from < to {
            let value = match mask.open < rows {
                true => [0; HalfType::BYTES],
                false => self.half.masked(),
            };
            board.upload(mask.mem, from * HalfType::BYTES, &value.repeat(to - from))?;
            mask.open = rows;
        }
        Ok(mask.mem)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// `0` where a mask lets through, `m` where not.
    fn drawn(mask: &[u8], columns: usize) -> Vec<String> {
        let halves = mask.as_chunks::<2>().0;
        let sign = |half: &[u8; 2]| if *half == [0, 0] { '0' } else { 'm' };
        let rows = halves.chunks(columns);
        rows.map(|row| row.iter().map(sign).collect()).collect()
    }

    #[test]
    fn a_row_sees_itself_and_what_was_before() {
        let mask = causal(HalfType::Bf16, 4, 0, 0);
        assert_eq!(drawn(&mask, 4), ["0mmm", "00mm", "000m", "0000"]);
    }

    #[test]
    fn history_stands_before_the_rows() {
        let mask = causal(HalfType::F16, 2, 4, 3);
        assert_eq!(drawn(&mask, 6), ["000m0m", "000m00"]);
    }

    #[test]
    fn runs_are_found() {
        let flags = [true, false, true, true, false, true];
        assert_eq!(true_runs(&flags), [(0, 1), (2, 2), (5, 1)]);
    }
}
