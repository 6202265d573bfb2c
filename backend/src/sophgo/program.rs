// SPDX-License-Identifier: MPL-2.0

//! The bmodel as a device program: its nets and memory, and which rows of the cache hold.

use std::sync::Arc;

use super::board::Board;
use super::error::Error;
use super::layout::{Embedding, Head, History, Layout};
use super::options::Options;
use super::prefill::{DecodeMasks, Scratch};
use super::prefix::{MAX_CONTINUED_ROWS, visible_rows};
use super::tensor::{LoadedNet, Mem};
use super::vision::{FeatureSlot, VisionNet};

use crate::embedding::Table;
use crate::sequence::{Sequence, not_at_once};
use crate::{
    Arithmetic, Cancel, Features, Health, Launch, Limits, Next, Patches, Position, Program,
    Segment, SequenceId, VisualTokens,
};

/// Hears the output of a net: `block_<i>`, or `vit_<level>` (0: the visual tokens, then deepstack),
/// and its rows `[rows, hidden_size]`.
pub type Tap = Box<dyn FnMut(&str, &[f32]) + Send>;

/// A bmodel on a device.
pub struct Sophgo {
    pub(super) board: Board,
    pub(super) layout: Layout,
    limits: Limits,
    pub(super) nets: Nets,
    vision: VisionNet,
    pub(super) table: Option<Table>,
    pub(super) scratch: Scratch,
    pub(super) masks: DecodeMasks,
    pub(super) decode: DecodeMems,
    /// K and V of each layer, `[context, n_kv_heads, head_dim]`.
    pub(super) caches: Vec<[Mem; 2]>,
    sequence: Sequence,
    pub(super) logits: Vec<f32>,
    pub(super) bytes: Vec<u8>,
    pub(super) tap: Option<Tap>,
}

/// The loaded nets; lists have one a layer.
pub(super) struct Nets {
    pub embedding: Option<(LoadedNet, LoadedNet)>,
    pub blocks: Vec<LoadedNet>,
    pub blocks_kv: Vec<LoadedNet>,
    pub caches: Vec<LoadedNet>,
    pub head: LoadedNet,
    pub add: Option<LoadedNet>,
}

/// Own memory of a decode step.
pub(super) struct DecodeMems {
    /// One id, for a token that the head did not just choose.
    pub id: Mem,
    pub position: Mem,
    /// One row, for embeddings on disk.
    pub row: Mem,
    /// What the head says.
    pub head: Mem,
    /// The token in `head`, if it is one.
    pub token: Option<u32>,
}

impl Nets {
    /// Finds the nets of a loaded bmodel.
    fn bind(board: &Board, layout: &Layout) -> Result<Self, Error> {
        let list = |prefix: &str| -> Result<Vec<LoadedNet>, Error> {
            let names = (0..layout.n_layers).map(|i| format!("{prefix}{i}"));
            names.map(|name| board.net(&name)).collect()
        };
        Ok(Self {
            embedding: match layout.embedding {
                Embedding::Nets(_) => {
                    Some((board.net("embedding")?, board.net("embedding_cache")?))
                }
                Embedding::Disk => None,
            },
            blocks: list("block_")?,
            blocks_kv: match layout.prefill.history {
                History::Separate(_) => list("block_kv_")?,
                History::None | History::Inside(_) => Vec::new(),
            },
            caches: list("block_cache_")?,
            head: board.net("lm_head")?,
            add: match layout.vision.n_deepstack {
                0 => None,
                _ => Some(board.net("add")?),
            },
        })
    }

    /// The prefill net of a layer: the one that sees the cache, or the other.
    pub(super) fn block(&self, i: usize, sees_cache: bool) -> &LoadedNet {
        match sees_cache {
            true => &self.blocks_kv[i],
            false => &self.blocks[i],
        }
    }
}

impl DecodeMems {
    fn new(board: &mut Board, layout: &Layout) -> Result<Self, Error> {
        Ok(Self {
            id: board.alloc_zeroed(4)?,
            position: board.alloc_zeroed(4 * layout.position_rows)?,
            row: board.alloc_zeroed(layout.row_bytes())?,
            head: match layout.head {
                Head::Greedy => board.alloc_zeroed(4)?,
                Head::Logits(n) => board.alloc_zeroed(4 * n)?,
            },
            token: None,
        })
    }
}

impl Sophgo {
    /// Binds the nets of a loaded bmodel.
    pub(super) fn new(
        mut board: Board,
        layout: Layout,
        weight_bytes: u64,
        options: &Options,
        table: Option<Table>,
    ) -> Result<Self, Error> {
        let nets = Nets::bind(&board, &layout)?;
        let caches: Vec<[Mem; 2]> = nets
            .caches
            .iter()
            .map(|net| [net.stages[0].inputs[3].mem, net.stages[0].inputs[4].mem])
            .collect();
        // A masked row must be a number: its weight is zero, and zero times NaN is not.
        for mem in caches.iter().flatten() {
            board.clear(*mem)?;
        }
        let (vocab_size, n_logits) = match layout.head {
            Head::Greedy => (options.vocab_size, 0),
            Head::Logits(n) => (n, n),
        };
        let decode = DecodeMems::new(&mut board, &layout)?;
        let vision = VisionNet::new(&mut board, &layout, options.tables)?;
        let scratch = Scratch::new(&mut board, &layout)?;
        let masks = DecodeMasks::new(&mut board, &layout)?;
        self_test(&mut board, decode.id, decode.position)?;
        Ok(Self {
            limits: Limits {
                context: layout.context,
                prompt: layout.max_prompt(),
                vocab_size,
                weight_bytes,
            },
            logits: vec![0.0; n_logits],
            board,
            layout,
            nets,
            vision,
            table,
            scratch,
            masks,
            decode,
            caches,
            sequence: Sequence::default(),
            bytes: Vec::new(),
            tap: None,
        })
    }

    /// Lets `tap` hear the output of the vision net and of every block of the prompt, to compare it
    /// with a reference. It costs a transfer each.
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

    fn encode(&mut self, patches: &Patches, cancel: &Cancel) -> Result<VisualTokens, crate::Error> {
        cancel.check()?;
        let (slot, n_tokens) = self.vision.encode(&mut self.board, patches)?;
        self.board.sync()?;
        if let Some(tap) = &mut self.tap {
            // Of a picture in tiles, too: their rows follow each other.
            let mut bytes = vec![0; n_tokens * self.layout.row_bytes()];
            for (i, level) in slot.levels.iter().enumerate() {
                self.board
                    .download(level.part(0, bytes.len())?, &mut bytes)?;
                tap(&format!("vit_{i}"), &self.layout.half.to_f32(&bytes));
            }
        }
        Ok(VisualTokens {
            grid: patches.grid,
            n_tokens,
            features: Features::Device(Arc::new(slot)),
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
            .shared::<FeatureSlot>(segments, positions, &self.limits, &self.layout)
    }

    fn continues(&self, n_kept: usize, n_more: usize) -> bool {
        n_kept <= visible_rows(&self.layout) || n_more <= MAX_CONTINUED_ROWS
    }

    fn verifies(&self, n_rows: usize) -> Vec<Launch> {
        self.verifying(n_rows)
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
        let extension = self
            .sequence
            .begin(sequence, &segments, positions, limits, layout)?;
        let longest = self.verifying(extension.base).pop();
        if longest.is_none_or(|launch| launch.tokens < tokens.len()) {
            return Err(not_at_once(tokens.len(), extension.base));
        }
        self.run_telling(&extension, cancel, take)?;
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
            precision: Some(self.layout.half.name().to_owned()),
            kernels: Some(self.board.chip().to_string()),
        }
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
