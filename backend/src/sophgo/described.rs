// SPDX-License-Identifier: MPL-2.0

//! A bmodel before and while it is loaded: what it is, whether it fits the device, its weights there.

use std::path::{Path, PathBuf};

use sophgo_sys::Chip;

use super::bmodel::Bmodel;
use super::board::{Board, Cores};
use super::error::Error;
use super::layout::{Embedding, Family, Layout};
use super::options::Options;
use super::program::Sophgo;
use crate::Cancel;
use crate::embedding::Table;

/// Room left beside what the model is known to need, bytes.
const SLACK_BYTES: u64 = 64 << 20;

/// A bmodel whose description was read and understood; its weights not yet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Described {
    /// The file.
    pub path: PathBuf,
    /// What it says of itself.
    pub model: Bmodel,
    /// How it is run.
    pub layout: Layout,
}

impl Described {
    /// Reads the description of a bmodel: milliseconds, whatever its size.
    ///
    /// # Errors
    /// [`Error::Io`], [`Error::NoBmodel`], [`Error::Damaged`], [`Error::Unsupported`].
    pub fn open(path: &Path) -> Result<Self, Error> {
        let model = Bmodel::read(path)?;
        let layout = Layout::of(&model, &path.display().to_string())?;
        Ok(Self {
            path: path.to_owned(),
            model,
            layout,
        })
    }

    /// Largest area of an image that the vision net takes, in pixels.
    pub fn max_pixels(&self) -> usize {
        let vision = &self.layout.vision;
        match vision.family {
            Family::InternVl3 => 448 * 448,
            // A row holds three channels of two frames.
            Family::Qwen3Vl | Family::Qwen25Vl => vision.patches[0] * vision.row_len / 6,
        }
    }

    fn file(&self) -> String {
        self.path.display().to_string()
    }

    /// Loads the weights onto a device. `progress` hears 0.0 and 1.0: the library does not say how
    /// far it is.
    ///
    /// # Errors
    /// [`Error::Unsupported`] and [`Error::Embedding`] for embeddings that are not there or do not
    /// fit, [`Error::WrongChip`], [`Error::Cores`] and [`Error::Memory`] before anything is loaded;
    /// [`Error::Api`] and [`Error::Open`] for libraries and devices that are not there;
    /// [`Error::Load`].
    pub fn load(
        &self,
        options: &Options,
        progress: &mut dyn FnMut(f32),
        cancel: &Cancel,
    ) -> Result<Sophgo, crate::Error> {
        let table = self.table(options)?;
        let mut board = Board::open(options.device)?;
        self.check_chip(&board)?;
        self.check_memory(&board)?;
        cancel.check()?;
        progress(0.0);
        board.load(&self.path, self.cores())?;
        progress(1.0);
        cancel.check()?;
        let layout = self.layout.clone();
        let weight_bytes = self.model.weight_bytes;
        Ok(Sophgo::new(board, layout, weight_bytes, options, table)?)
    }

    /// Cores that each stage of each net takes.
    fn cores(&self) -> Cores {
        let nets = self.model.nets.iter();
        nets.map(|(name, net)| {
            let cores = net.stages.iter().map(|stage| stage.core_num);
            (name.clone(), cores.collect())
        })
        .collect()
    }

    /// Token embeddings on disk, for a bmodel without nets for them.
    fn table(&self, options: &Options) -> Result<Option<Table>, Error> {
        match (&self.layout.embedding, &options.embedding) {
            (Embedding::Nets(_), _) => Ok(None),
            (Embedding::Disk, Some(path)) => Ok(Some(Table::open(
                path,
                options.vocab_size,
                self.layout.hidden_size,
            )?)),
            (Embedding::Disk, None) => Err(Error::Unsupported {
                file: self.file(),
                reason: "it has no embedding nets, and there is no embedding.bin in its config \
                         folder or beside it; copy the one that llm_convert.py wrote"
                    .to_owned(),
            }),
        }
    }

    fn check_chip(&self, board: &Board) -> Result<(), Error> {
        let chip = board.chip();
        if !chip.runs(&self.model.chip) {
            return Err(Error::WrongChip {
                file: self.file(),
                want: self.model.chip.clone(),
                device: board.index(),
                got: chip.to_string(),
                fix: chip.to_string().to_lowercase(),
            });
        }
        let most = board.cores().unwrap_or(match chip {
            Chip::Bm1688 => 2,
            _ => 1,
        });
        if self.layout.core_num > most {
            return Err(Error::Cores {
                file: self.file(),
                want: self.layout.core_num,
                device: board.index(),
                got: most,
            });
        }
        Ok(())
    }

    /// That weights, caches and buffers fit what is free; not checked where the library cannot tell
    /// what is free. Weights that another runtime of this process has loaded already are counted,
    /// which errs on the safe side.
    fn check_memory(&self, board: &Board) -> Result<(), Error> {
        let heaps = board.heaps();
        let needed = self.device_bytes();
        let free: u64 = heaps.iter().map(|&(_, free, _)| free).sum();
        let largest = heaps.iter().map(|&(_, free, _)| free).max().unwrap_or(0);
        if heaps.is_empty() || needed <= free && self.model.largest_weight_bytes <= largest {
            return Ok(());
        }
        let mib = |bytes: u64| bytes >> 20;
        let list = heaps.iter().map(|&(id, free, total)| {
            format!("heap {id}: {} of {} MiB free", mib(free), mib(total))
        });
        Err(Error::Memory {
            file: self.file(),
            device: board.index(),
            needed_mib: mib(needed),
            free_mib: mib(free),
            heaps: list.collect::<Vec<_>>().join(", "),
            fix: "on a SoC enlarge the npu area with the memory edit tool, on a card close other \
                  programs (see bm-smi), or compile with a smaller --seq_length or -q w4bf16",
        })
    }

    /// About how much device memory it takes: weights, cache, intermediate values, own buffers.
    pub fn device_bytes(&self) -> u64 {
        let layout = &self.layout;
        let rows = layout.prefill.lengths[0] as u64;
        let row = layout.row_bytes() as u64;
        let buffers = rows * row * (2 + layout.vision.n_deepstack as u64)
            + if layout.prefill.has_mask {
                2 * rows * rows
            } else {
                0
            };
        let vision = layout.vision.patches[0] as u64;
        let masks = if layout.vision.has_mask {
            8 * vision * vision
        } else {
            0
        };
        // The first three are the file's own words.
        let parts = [
            self.model.weight_bytes,
            self.model.neuron_bytes,
            self.model.io_bytes,
            buffers,
            masks,
            SLACK_BYTES,
        ];
        parts.into_iter().fold(0, u64::saturating_add)
    }
}
