// SPDX-License-Identifier: MPL-2.0

//! The vision model: one run a temporal patch or tile, features in the host's memory.

use axera_sys::{Device, Mem, Model, Tensor};
use half::bf16;

use super::error::Error;
use super::layout::index_of;
use super::options::{Options, Pixels};
use crate::rows::VisionOutput;
use crate::vit::{levels, planes};
use crate::{Patches, finite};

/// Side of the merge of every family.
const MERGE_SIZE: usize = 2;

/// The vision model and its memory.
pub(super) struct VisionModel {
    pub model: Model,
    input: Mem,
    outputs: Vec<Mem>,
    /// Places of the outputs: the visual tokens, then the deepstack levels in their order.
    order: Vec<usize>,
    pixels: PixelLayout,
    hidden_size: usize,
    bytes: Vec<u8>,
    next_id: u64,
}

/// How the model reads pixels.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum PixelLayout {
    /// Patch rows, `[frame, y, x, channel]` each, raw: the model normalises.
    Rows,
    /// A tile in planes, normalised, f32.
    FloatPlanes { patch_size: usize },
    /// A tile, `[y, x, channel]`, raw.
    RawTile { patch_size: usize },
}

/// What the model made of a temporal patch, in the host's memory: the decoder takes its first rows
/// from there, and the host adds the deepstack features.
#[derive(Debug)]
pub(super) struct HostFeatures {
    id: u64,
    /// `[n_tokens, hidden_size]`, bf16.
    pub embeds: Vec<u8>,
    /// `[n_tokens, hidden_size]` each.
    pub deepstack: Vec<Vec<f32>>,
}

impl VisionOutput for HostFeatures {
    fn launch(&self) -> u64 {
        self.id
    }
}

impl PixelLayout {
    /// How a model reads pixels whose input has so many bytes.
    fn of(input: &Tensor, options: &Options, file: &str) -> Result<Self, Error> {
        let (width, height) = options.frame;
        let got = input.size_bytes;
        let frame = |want| Error::Frame {
            file: file.to_owned(),
            got,
            want,
            width,
            height,
            hint: hint(got, options.pixels),
        };
        match options.pixels {
            Pixels::Rows => match 2 * 3 * width * height {
                want if got == want => Ok(Self::Rows),
                want => Err(frame(want)),
            },
            Pixels::Tiles { patch_size } => match 3 * width * height {
                want if got == 4 * want => Ok(Self::FloatPlanes { patch_size }),
                want if got == want => Ok(Self::RawTile { patch_size }),
                want => Err(frame(4 * want)),
            },
        }
    }
}

impl VisionModel {
    pub(super) fn new(
        device: &mut Device,
        model: Model,
        file: &str,
        hidden_size: usize,
        options: &Options,
    ) -> Result<Self, Error> {
        let fail = |reason: String| Error::Unsupported {
            file: file.to_owned(),
            reason,
        };
        let Some(group) = model.groups.first() else {
            return Err(fail("it has no shape group".to_owned()));
        };
        let [input] = &group.inputs[..] else {
            let n = group.inputs.len();
            return Err(fail(format!("it has {n} inputs; want one, the pixels")));
        };
        let pixels = PixelLayout::of(input, options, file)?;
        let order = order(&group.outputs, options.n_deepstack).map_err(fail)?;
        let input = device.alloc(input.size_bytes)?;
        let outputs = group.outputs.iter();
        let outputs = outputs.map(|output| device.alloc(output.size_bytes));
        Ok(Self {
            input,
            outputs: outputs.collect::<Result<_, _>>()?,
            order,
            pixels,
            hidden_size,
            bytes: Vec::new(),
            next_id: 0,
            model,
        })
    }

    /// Runs the model on one temporal patch, or on the tiles of one picture, a run each; the
    /// features and their number of rows.
    pub(super) fn encode(
        &mut self,
        device: &mut Device,
        patches: &Patches,
        failed: &dyn Fn(axera_sys::Error) -> Error,
    ) -> Result<(HostFeatures, usize), crate::Error> {
        let tiles = patches.grid.t;
        let inputs = self.inputs(patches);
        let want = tiles * self.input.size_bytes();
        if tiles == 0 || inputs.len() != want {
            return Err(crate::Error::Shape {
                what: "bytes of pixels".into(),
                want: format!("{want}, the one size that the vision model was made for"),
                got: inputs.len().to_string(),
            });
        }
        let n = patches.grid.h * patches.grid.w / (MERGE_SIZE * MERGE_SIZE);
        let mut levels = vec![Vec::with_capacity(tiles * n * self.hidden_size); self.order.len()];
        for tile in inputs.chunks(self.input.size_bytes()) {
            device.write(self.input, 0, tile).map_err(failed)?;
            device
                .run(&self.model, 0, &[self.input], &self.outputs)
                .map_err(failed)?;
            for (level, &place) in levels.iter_mut().zip(&self.order) {
                let mem = self.outputs[place];
                self.bytes.resize(mem.size_bytes(), 0);
                device.read(mem, 0, &mut self.bytes).map_err(failed)?;
                extend(level, &self.bytes, n * self.hidden_size)?;
            }
        }
        for level in &levels {
            finite::check(level, || "the vision model's output".to_owned())?;
        }
        let embeds = levels.remove(0);
        let id = self.next_id;
        self.next_id += 1;
        let tokens = HostFeatures {
            id,
            embeds: embeds
                .iter()
                .flat_map(|&x| bf16::from_f32(x).to_le_bytes())
                .collect(),
            deepstack: levels,
        };
        Ok((tokens, tiles * n))
    }

    /// The bytes of the model's input, tile after tile.
    fn inputs(&self, patches: &Patches) -> Vec<u8> {
        match self.pixels {
            PixelLayout::Rows => channels_last(&patches.pixels, patches.grid.n_patches()),
            PixelLayout::FloatPlanes { patch_size } => {
                let levels = levels(patches).map(|channel| channel.map(f32::to_le_bytes));
                let planes = planes(patches, patch_size, MERGE_SIZE);
                let side = patches.grid.h * patches.grid.w * patch_size * patch_size;
                let channels = planes.chunks(side.max(1)).enumerate();
                channels
                    .flat_map(|(i, plane)| plane.iter().map(move |&p| (i % 3, usize::from(p))))
                    .flat_map(|(channel, pixel)| levels[channel][pixel])
                    .collect()
            }
            PixelLayout::RawTile { patch_size } => {
                let planes = planes(patches, patch_size, MERGE_SIZE);
                let tiles = patches.grid.t;
                channels_last(&planes, tiles)
            }
        }
    }
}

/// Places of the outputs: the visual tokens, then the deepstack levels in their order.
fn order(outputs: &[Tensor], n_deepstack: usize) -> Result<Vec<usize>, String> {
    let is_level = |output: &Tensor| output.name.starts_with("deepstack");
    let main: Vec<usize> = (0..outputs.len())
        .filter(|&i| !is_level(&outputs[i]))
        .collect();
    let [main] = main[..] else {
        return Err(format!(
            "it has {} outputs that are no deepstack features; want one, the visual tokens",
            main.len()
        ));
    };
    let mut order = vec![main];
    for level in 0..outputs.len() - 1 {
        order.push(index_of(outputs, &format!("deepstack_feature_{level}"), 0)?);
    }
    match order.len() - 1 {
        n if n == n_deepstack => Ok(order),
        n => Err(format!(
            "it has {n} deepstack features, config.json says {n_deepstack}; it is another model's"
        )),
    }
}

/// Appends so many numbers, in f32 or bf16 as their bytes tell.
fn extend(level: &mut Vec<f32>, bytes: &[u8], numbers: usize) -> Result<(), crate::Error> {
    match bytes.len() {
        n if n == 4 * numbers => {
            let floats = bytes.as_chunks::<4>().0.iter();
            level.extend(floats.map(|&bytes| f32::from_le_bytes(bytes)));
        }
        n if n == 2 * numbers => {
            let halves = bytes.as_chunks::<2>().0.iter();
            level.extend(halves.map(|&bytes| bf16::from_le_bytes(bytes).to_f32()));
        }
        n => {
            return Err(crate::Error::Shape {
                what: "bytes of visual tokens".into(),
                want: format!("{} in f32", 4 * numbers),
                got: n.to_string(),
            });
        }
    }
    Ok(())
}

/// Rows of `[channel, ...]` as rows of `[..., channel]`.
fn channels_last(pixels: &[u8], rows: usize) -> Vec<u8> {
    let row_len = pixels.len() / rows.max(1);
    let plane = row_len / 3;
    let mut out = Vec::with_capacity(pixels.len());
    for row in pixels.chunks_exact(row_len.max(1)) {
        for at in 0..plane {
            out.extend([row[at], row[plane + at], row[2 * plane + at]]);
        }
    }
    out
}

/// The side of the squares that an input of so many bytes has.
fn hint(bytes: usize, pixels: Pixels) -> String {
    let areas: &[usize] = match pixels {
        Pixels::Rows => &[6],
        Pixels::Tiles { .. } => &[12, 3],
    };
    let sides = areas.iter().map(|per_pixel| (bytes / per_pixel).isqrt());
    let found = sides
        .zip(areas)
        .find(|(side, per_pixel)| side * side * *per_pixel == bytes);
    match found {
        Some((side, _)) => format!(" to {side} each"),
        None => String::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::GridThw;

    /// The places that Axera's programs give to pixels of a 448 x 448 image with patches of 14,
    /// two frames: `(y, x, channel, frame)`.
    #[test]
    fn pixels_stand_where_the_vendors_programs_put_them() {
        const SIDE: usize = 448;
        let vectors = [
            ((0, 0, 0, 0), 0),
            ((0, 0, 1, 0), 1),
            ((0, 1, 0, 0), 3),
            ((1, 0, 0, 0), 42),
            ((0, 0, 0, 1), 588),
            ((0, 14, 0, 0), 1176),
            ((14, 0, 0, 0), 2352),
            ((0, 28, 0, 0), 4704),
            ((28, 0, 0, 0), 75_264),
            ((447, 447, 2, 1), 1_204_223),
        ];
        for ((y, x, channel, frame), want) in vectors {
            // As `vlm::image::patch_rows` cuts: rows in merge-block order, `[channel, frame, y, x]`.
            let blocks = SIDE / 28;
            let (py, px) = (y / 14, x / 14);
            let row = ((py / 2 * blocks + px / 2) * 2 + py % 2) * 2 + px % 2;
            let inside = ((channel * 2 + frame) * 14 + y % 14) * 14 + x % 14;
            let mut pixels = vec![0; 2 * 3 * SIDE * SIDE];
            pixels[row * 1176 + inside] = 1;
            let got = channels_last(&pixels, SIDE * SIDE / 196);
            assert_eq!(got.iter().position(|&p| p == 1), Some(want));
        }
    }

    #[test]
    fn tiles_are_put_back_together() {
        let grid = GridThw { t: 1, h: 2, w: 2 };
        let rows = 4 * 3;
        let patches = Patches {
            grid,
            pixels: (0..rows).collect(),
            mean: [0.5; 3],
            std: [0.5; 3],
        };
        let planes = planes(&patches, 1, 2);
        assert_eq!(channels_last(&planes, 1), *patches.pixels);
    }

    #[test]
    fn a_wrong_size_is_told_with_the_right_one() {
        assert_eq!(hint(569_184, Pixels::Rows), " to 308 each");
        assert_eq!(
            hint(2_408_448, Pixels::Tiles { patch_size: 14 }),
            " to 448 each"
        );
        assert_eq!(hint(1000, Pixels::Rows), "");
    }
}
