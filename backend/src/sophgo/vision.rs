// SPDX-License-Identifier: MPL-2.0

//! The vision net: one launch a temporal patch, features left on the device.

use std::sync::{Arc, Mutex};

use super::board::Board;
use super::error::Error;
use super::layout::{Family, Layout, Vision};
use super::tensor::{Arg, LoadedNet, Mem, Port};
use crate::rows::VisionOutput;
use crate::vit::{Interpolation, WindowOrder, levels, merge_block_order, planes};
use crate::{GridThw, Patches};

/// What masks of the vision nets hold where nothing is attended to; it survives bf16 and f16.
const MASKED: f32 = -10_000.0;

/// Side of the merge of every family that has one.
const MERGE_SIZE: usize = 2;

/// Side of a patch of InternVL's tiles, and patches of a tile of 448 x 448.
const TILE_PATCH_SIZE: usize = 14;
const TILE_PATCHES: usize = 32 * 32;

/// The vision net and what it reads beside pixels.
pub(super) struct VisionNet {
    net: LoadedNet,
    layout: Vision,
    row_bytes: usize,
    tables: Tables,
    /// Pixels of static nets: rows beyond the patches must be numbers.
    pixels: Option<Mem>,
    /// Inputs that follow from the grid, in the net's order, and the grid and stage they are for.
    aux: Vec<Mem>,
    aux_for: Option<(GridThw, usize)>,
    slots: Vec<Mem>,
    free: Arc<Mutex<Vec<usize>>>,
    next_id: u64,
}

/// What the vision net's inputs depend on and the bmodel does not say.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Tables {
    /// Side of Qwen3-VL's position table: the root of `num_position_embeddings`.
    pub side: usize,
    /// Side of Qwen2.5-VL's attention windows in merge blocks: `window_size / patch_size / 2`.
    pub window: usize,
}

impl Default for Tables {
    /// What every published checkpoint has.
    fn default() -> Self {
        Self {
            side: 48,
            window: 4,
        }
    }
}

/// Features of one temporal patch in device memory.
#[derive(Debug)]
pub(super) struct FeatureSlot {
    /// Which launch made them; no two are the same.
    pub id: u64,
    /// The visual tokens, then one per deepstack level: `[n_tokens, hidden_size]` each.
    pub levels: Vec<Mem>,
    index: usize,
    free: Arc<Mutex<Vec<usize>>>,
}

impl VisionOutput for FeatureSlot {
    fn launch(&self) -> u64 {
        self.id
    }
}

impl Drop for FeatureSlot {
    /// Gives the slot back to the net; the memory itself stays with the board.
    fn drop(&mut self) {
        if let Ok(mut free) = self.free.lock() {
            free.push(self.index);
        }
    }
}

impl VisionNet {
    pub(super) fn new(board: &mut Board, layout: &Layout, tables: Tables) -> Result<Self, Error> {
        let net = board.net("vit")?;
        let first = &net.stages[0];
        let bytes = |port: &Port| port.elements() * port.dtype.size_bytes();
        let aux = first.inputs[1..].iter();
        let aux = aux
            .map(|port| board.alloc_zeroed(bytes(port)))
            .collect::<Result<_, _>>()?;
        let pixels = match layout.vision.is_dynamic {
            true => None,
            false => Some(board.alloc_zeroed(bytes(&first.inputs[0]))?),
        };
        Ok(Self {
            net,
            layout: layout.vision.clone(),
            row_bytes: layout.row_bytes(),
            tables,
            pixels,
            aux,
            aux_for: None,
            slots: Vec::new(),
            free: Arc::default(),
            next_id: 0,
        })
    }

    /// Runs the net on one temporal patch, or on the tiles of one picture, a launch each; the
    /// features and their number of rows.
    pub(super) fn encode(
        &mut self,
        board: &mut Board,
        patches: &Patches,
    ) -> Result<(FeatureSlot, usize), crate::Error> {
        let n = patches.grid.h * patches.grid.w;
        check(&self.layout, patches, n)?;
        // The shortest stage that holds them; the longest does, by the check.
        let stage = self.layout.patches.iter().rposition(|&max| max >= n);
        let stage = stage.unwrap_or(0);
        self.prepare(board, patches.grid, stage)?;

        let dynamic = self.layout.is_dynamic;
        let n_tokens = match self.layout.family {
            Family::InternVl3 => self.layout.tokens,
            Family::Qwen3Vl | Family::Qwen25Vl => n / (MERGE_SIZE * MERGE_SIZE),
        };
        // A static launch writes the compiled rows, a dynamic one must be shown memory for them.
        let most = self.net.stages[stage].outputs[0].size_bytes();
        let rows = match dynamic {
            true => n_tokens,
            false => most / self.row_bytes,
        };
        let tiles = patches.grid.t;
        let launch = rows * self.row_bytes;
        let slot = self.slot(board, tiles * launch, most.max(launch) - launch)?;
        let mem = self.slots[slot.index];
        let floats = self.floats(patches);
        for (tile, floats) in floats.chunks(floats.len() / tiles).enumerate() {
            let ports = &self.net.stages[stage];
            let pixels = self.pixels.unwrap_or(ports.inputs[0].mem);
            board.upload(pixels, 0, floats)?;
            let mems = [&pixels].into_iter().chain(&self.aux);
            let shapes = self.shapes(n);
            let inputs = ports.inputs.iter().zip(&shapes).zip(mems);
            let inputs: Vec<Arg> = inputs
                .map(|((port, shape), &mem)| match dynamic {
                    true => port.shaped(mem, shape),
                    false => port.bound(mem),
                })
                .collect::<Result<_, _>>()?;
            let outputs: Vec<Arg> = ports
                .outputs
                .iter()
                .enumerate()
                .map(|(level, port)| {
                    let at = (level * tiles + tile) * rows * self.row_bytes;
                    port.shaped(mem.part(at, most)?, &[rows, self.row_bytes / 2])
                })
                .collect::<Result<_, Error>>()?;
            board.launch(&self.net, stage, &inputs, &outputs)?;
        }
        Ok((slot, tiles * n_tokens))
    }

    /// Bytes of all slots.
    pub(super) fn slot_bytes(&self) -> u64 {
        self.slots.iter().map(|mem| mem.size_bytes() as u64).sum()
    }

    /// Readies what follows from the grid; nothing is sent if the grid is the last one's.
    fn prepare(&mut self, board: &mut Board, grid: GridThw, stage: usize) -> Result<(), Error> {
        if self.aux_for == Some((grid, stage)) {
            return Ok(());
        }
        self.aux_for = None;
        let n = grid.n_patches();
        // Masks of static nets have the compiled side.
        let side = match self.layout.is_dynamic {
            true => n,
            false => self.layout.patches[stage],
        };
        let tables = match self.layout.family {
            Family::Qwen3Vl => self.qwen3vl(grid, side),
            Family::Qwen25Vl => self.qwen25vl(grid, side),
            Family::InternVl3 => Vec::new(),
        };
        for (table, &mem) in tables.iter().zip(&self.aux) {
            board.upload(mem, 0, table)?;
        }
        self.aux_for = Some((grid, stage));
        Ok(())
    }

    /// `position_ids`, `pos_idx`, `pos_weight` and, where the net has it, `attention_mask`.
    fn qwen3vl(&self, grid: GridThw, side: usize) -> Vec<Vec<u8>> {
        let n = grid.n_patches();
        let points = Interpolation::new(grid, self.tables.side);
        let order: Vec<_> = merge_block_order(grid, MERGE_SIZE).collect();
        let corners: Vec<_> = order
            .iter()
            .map(|&(row, column)| points.corners(row, column))
            .collect();
        // Numbers `[n, 4]`, or `[4, n]` with the net's own stride.
        let stride = if self.layout.is_dynamic { n } else { side };
        let place = |f: &dyn Fn(usize, usize) -> [u8; 4]| -> Vec<u8> {
            match self.layout.points_first {
                false => (0..n)
                    .flat_map(|i| (0..4).flat_map(move |k| f(i, k)))
                    .collect(),
                true => (0..4)
                    .flat_map(|k| {
                        (0..stride).flat_map(move |i| if i < n { f(i, k) } else { [0; 4] })
                    })
                    .collect(),
            }
        };
        let mut tables = vec![
            int32s(order.iter().flat_map(|&(row, column)| [row, column])),
            place(&|i, k| (corners[i][k].0 as i32).to_le_bytes()),
            place(&|i, k| corners[i][k].1.to_le_bytes()),
        ];
        if self.layout.has_mask {
            tables.push(block_mask(&[0, n], side));
        }
        tables
    }

    /// `position_ids`, `full_attn_mask`, `window_attn_mask`, `reverse_index`.
    fn qwen25vl(&self, grid: GridThw, side: usize) -> Vec<Vec<u8>> {
        let order = WindowOrder::new(grid, MERGE_SIZE, self.tables.window);
        let cells: Vec<_> = merge_block_order(grid, MERGE_SIZE).collect();
        let per_block = MERGE_SIZE * MERGE_SIZE;
        let positions = order.index.iter().flat_map(|&block| {
            let block = &cells[block * per_block..][..per_block];
            block.iter().flat_map(|&(row, column)| [row, column])
        });
        vec![
            int32s(positions),
            block_mask(&[0, grid.n_patches()], side),
            block_mask(&order.bounds, side),
            int32s(order.reverse()),
        ]
    }

    /// Shapes of a dynamic launch of `n` patches, input by input.
    fn shapes(&self, n: usize) -> Vec<Vec<usize>> {
        let mask = vec![1, 1, n, n];
        match self.layout.family {
            Family::Qwen3Vl => {
                let points = match self.layout.points_first {
                    true => [4, n],
                    false => [n, 4],
                };
                let mut shapes = vec![
                    vec![n, self.layout.row_len],
                    vec![n, 2],
                    points.to_vec(),
                    vec![points[0], points[1], 1],
                ];
                shapes.extend(self.layout.has_mask.then_some(mask));
                shapes
            }
            Family::Qwen25Vl => vec![
                vec![n, self.layout.row_len],
                vec![n, 2],
                mask.clone(),
                mask,
                vec![n / (MERGE_SIZE * MERGE_SIZE)],
            ],
            Family::InternVl3 => vec![vec![1, 3, 448, 448]],
        }
    }

    /// Normalised pixels, little-endian floats, in the order of the net's rows.
    fn floats(&self, patches: &Patches) -> Vec<u8> {
        let levels = levels(patches).map(|channel| channel.map(f32::to_le_bytes));
        let row_len = self.layout.row_len;
        let channel_len = row_len / levels.len();
        let row = |row: &[u8], out: &mut Vec<u8>| {
            for (channel, pixels) in row.chunks(channel_len).enumerate() {
                out.extend(pixels.iter().flat_map(|&p| levels[channel][usize::from(p)]));
            }
        };
        let mut out = Vec::with_capacity(4 * patches.pixels.len());
        match self.layout.family {
            Family::Qwen25Vl => {
                let group = row_len * MERGE_SIZE * MERGE_SIZE;
                let order = WindowOrder::new(patches.grid, MERGE_SIZE, self.tables.window);
                for block in order.index {
                    let rows = &patches.pixels[block * group..][..group];
                    rows.chunks(row_len).for_each(|r| row(r, &mut out));
                }
            }
            Family::Qwen3Vl => {
                let rows = patches.pixels.chunks(row_len);
                rows.for_each(|r| row(r, &mut out));
            }
            Family::InternVl3 => {
                let tiles = planes(patches, TILE_PATCH_SIZE, MERGE_SIZE);
                tiles.chunks(row_len).for_each(|tile| row(tile, &mut out));
            }
        }
        out
    }

    /// Memory for features: a slot that is free, or a new one. Levels stand `level_bytes` apart,
    /// and behind the last one is room for `spare` bytes.
    fn slot(
        &mut self,
        board: &mut Board,
        level_bytes: usize,
        spare: usize,
    ) -> Result<FeatureSlot, Error> {
        let need = level_bytes * (1 + self.layout.n_deepstack) + spare;
        let found = self.free.lock().ok().and_then(|mut free| {
            let best = free
                .iter()
                .enumerate()
                .filter(|&(_, &index)| self.slots[index].size_bytes() >= need)
                .min_by_key(|&(_, &index)| self.slots[index].size_bytes());
            let place = best.map(|(place, _)| place)?;
            Some(free.swap_remove(place))
        });
        let index = match found {
            Some(index) => index,
            None => {
                self.slots.push(board.alloc(need)?);
                self.slots.len() - 1
            }
        };
        let mem = self.slots[index];
        let id = self.next_id;
        self.next_id += 1;
        let levels = (0..=self.layout.n_deepstack)
            .map(|level| mem.part(level * level_bytes, level_bytes))
            .collect::<Result<_, _>>()?;
        Ok(FeatureSlot {
            id,
            levels,
            index,
            free: Arc::clone(&self.free),
        })
    }
}

/// That `n` patches (of a tile, or of a temporal patch) are what the net takes.
fn check(layout: &Vision, patches: &Patches, n: usize) -> Result<(), crate::Error> {
    let shape = |what: &'static str, want: String, got: usize| {
        let got = got.to_string();
        Err(crate::Error::Shape {
            what: what.into(),
            want,
            got,
        })
    };
    let max = layout.patches[0];
    let tiles = patches.grid.t;
    let row_len = match layout.family {
        Family::InternVl3 if n != TILE_PATCHES => {
            return shape("patches of a tile", TILE_PATCHES.to_string(), n);
        }
        Family::InternVl3 => layout.row_len / TILE_PATCHES,
        Family::Qwen3Vl | Family::Qwen25Vl if n == 0 || n > max || tiles != 1 => {
            let want = format!("1 to {max} (the bmodel's --max_pixels)");
            return shape("patches of a temporal patch", want, n * tiles);
        }
        Family::Qwen3Vl | Family::Qwen25Vl => layout.row_len,
    };
    let want = tiles * n * row_len;
    if tiles == 0 || patches.pixels.len() != want {
        return shape("bytes of pixels", want.to_string(), patches.pixels.len());
    }
    Ok(())
}

/// Little-endian 32-bit integers; indices of patches and of position tables fit.
fn int32s(numbers: impl IntoIterator<Item = usize>) -> Vec<u8> {
    let bytes = numbers.into_iter().flat_map(|n| (n as i32).to_le_bytes());
    bytes.collect()
}

/// An F32 mask `[side, side]`: rows of one block, from `bounds[i]` to `bounds[i + 1]`, see each
/// other and nothing else.
fn block_mask(bounds: &[usize], side: usize) -> Vec<u8> {
    let masked = MASKED.to_le_bytes();
    let mut mask: Vec<u8> = std::iter::repeat_n(masked, side * side).flatten().collect();
    for block in bounds.windows(2) {
        for row in block[0]..block[1] {
            let from = 4 * (row * side + block[0]);
            mask[from..from + 4 * (block[1] - block[0])].fill(0);
        }
    }
    mask
}

#[cfg(test)]
mod tests {
    use super::super::bmodel::tests::parsed;
    use super::super::layout::Layout;
    use super::*;

    /// What is said of pictures of a grid with so many bytes.
    fn refusal(name: &str, [t, h, w]: [usize; 3], n_bytes: usize) -> String {
        let layout = Layout::of(&parsed(name), name).unwrap();
        let patches = Patches {
            grid: GridThw { t, h, w },
            pixels: vec![0; n_bytes].into(),
            mean: [0.5; 3],
            std: [0.5; 3],
        };
        match check(&layout.vision, &patches, h * w) {
            Ok(()) => String::new(),
            Err(error) => error.to_string(),
        }
    }

    #[test]
    fn pictures_that_the_net_does_not_take_are_refused() {
        assert_eq!(refusal("q3_static", [1, 8, 8], 64 * 1536), "");
        for (grid, n_bytes) in [
            ([1, 8, 10], 80 * 1536),
            ([2, 4, 8], 64 * 1536),
            ([1, 0, 8], 0),
        ] {
            let got = refusal("q3_static", grid, n_bytes);
            assert!(got.contains("1 to 64 (the bmodel's --max_pixels)"), "{got}");
        }
        let got = refusal("q3_static", [1, 8, 8], 64 * 1536 - 1);
        assert!(got.contains("98304") && got.contains("98303"), "{got}");
        assert_eq!(refusal("iv3_static", [2, 32, 32], 2 * 3 * 448 * 448), "");
        let got = refusal("iv3_static", [1, 16, 32], 3 * 224 * 448);
        assert!(
            got.contains("patches of a tile") && got.contains("1024"),
            "{got}"
        );
    }
}
