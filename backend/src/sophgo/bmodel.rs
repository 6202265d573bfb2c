// SPDX-License-Identifier: MPL-2.0

//! What a `.bmodel` file says of itself, read without the vendor's library.
//!
//! The library ends the process at some damaged files and reports the others on standard output, so
//! everything that can be known beforehand is looked at here: the header, the FlatBuffer behind it
//! (schema `bmodel.fbs` of TPU-MLIR), and whether the file is as long as its parts reach.

use std::collections::{BTreeMap, HashMap};
use std::fs::File;
use std::io::Read;
use std::path::Path;

use super::error::Error;
use super::flatbuffer::{Broken, Buffer, Range, Table};
use crate::lfs;

/// First bytes of a bmodel: `0xFF55AAEE`, little-endian.
pub const MAGIC: [u8; 4] = [0xee, 0xaa, 0x55, 0xff];

/// Bytes before the FlatBuffer: magic, header size, FlatBuffer size, binary size, reserved.
const HEADER_BYTES: usize = 64;

/// FlatBuffers above this are refused; that of a model of 36 layers has less than 1 MiB.
const MAX_DESCRIPTION_BYTES: u64 = 256 << 20;

/// Upper bounds of what a net can have.
const MAX_STAGES: usize = 64;
const MAX_TENSORS: usize = 4096;
const MAX_DIMS: usize = 8;

/// Upper bound of the numbers in a tensor; the largest are caches and masks of some millions. What
/// is computed from two shapes fits 64 bits then.
const MAX_ELEMENTS: usize = 1 << 30;

/// The contents of a bmodel, as far as running it needs them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Bmodel {
    /// The chip it was compiled for, such as `BM1684X`.
    pub chip: String,
    /// Version of the format and the compiler.
    pub version: String,
    /// When it was compiled, as the compiler wrote it.
    pub time: String,
    /// Devices that it runs on together.
    pub device_num: u32,
    /// Nets by name.
    pub nets: BTreeMap<String, Net>,
    /// Bytes of the weights on a device; what several nets share is counted once.
    pub weight_bytes: u64,
    /// Bytes of the region that all nets of one runtime share for intermediate values.
    pub neuron_bytes: u64,
    /// Bytes of the inputs and outputs that have memory of their own (the KV cache above all).
    pub io_bytes: u64,
    /// Largest piece of the weights: it must fit one heap.
    pub largest_weight_bytes: u64,
    /// Length of the file.
    pub file_bytes: u64,
}

/// One compiled graph.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Net {
    /// Whether inputs and outputs keep memory of their own (`io_alone`, mode 1) between launches.
    pub io_alone: bool,
    /// Whether it is one of several that run together on several devices.
    pub is_cascade: bool,
    /// Its shapes; at least one.
    pub stages: Vec<Stage>,
}

/// One fixed (or, if dynamic, largest) shape of a net.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Stage {
    /// Whether inputs may be smaller than compiled.
    pub is_dynamic: bool,
    /// Cores it runs on.
    pub core_num: u32,
    /// Inputs in order.
    pub inputs: Vec<Tensor>,
    /// Outputs in order.
    pub outputs: Vec<Tensor>,
}

/// An input or output.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Tensor {
    /// Name; that of an output is internal to the compiler.
    pub name: String,
    /// Number type.
    pub dtype: DataType,
    /// Dimensions, slowest first; none is zero.
    pub shape: Vec<usize>,
}

/// Number types, by the vendor's numbers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DataType {
    /// 32-bit float.
    F32,
    /// IEEE half.
    F16,
    /// 32-bit integer.
    I32,
    /// bfloat16.
    Bf16,
    /// One that no language model has at its inputs and outputs.
    Other(u32),
}

impl DataType {
    fn from_code(code: u32) -> Self {
        match code {
            0 => Self::F32,
            1 => Self::F16,
            6 => Self::I32,
            8 => Self::Bf16,
            other => Self::Other(other),
        }
    }

    /// Bytes of one number, as far as it is one that models have.
    pub fn size_bytes(self) -> usize {
        match self {
            Self::F32 | Self::I32 | Self::Other(_) => 4,
            Self::F16 | Self::Bf16 => 2,
        }
    }
}

impl Bmodel {
    /// Whether this file begins like a bmodel; false if it cannot be read.
    pub fn is_bmodel(path: &Path) -> bool {
        let mut magic = [0; MAGIC.len()];
        File::open(path).is_ok_and(|mut file| file.read_exact(&mut magic).is_ok()) && magic == MAGIC
    }

    /// Reads the description of a file; the weights are not touched.
    ///
    /// # Errors
    /// [`Error::Io`]; [`Error::NoBmodel`] and [`Error::Damaged`] with what to do.
    pub fn read(path: &Path) -> Result<Self, Error> {
        let name = path.display().to_string();
        let io = |source| Error::Io {
            file: name.clone(),
            source,
        };
        let damaged = |reason: String| Error::Damaged {
            file: name.clone(),
            reason,
        };
        let mut file = File::open(path).map_err(io)?;
        let file_bytes = file.metadata().map_err(io)?.len();
        let mut header = Vec::with_capacity(HEADER_BYTES);
        (&mut file)
            .take(HEADER_BYTES as u64)
            .read_to_end(&mut header)
            .map_err(io)?;
        if !header.starts_with(&MAGIC) {
            return Err(Error::NoBmodel {
                file: name.clone(),
                hint: if lfs::is_pointer(&header) {
                    "it is a git-lfs pointer; run `git lfs pull` in its folder"
                } else {
                    "give a .bmodel file made by TPU-MLIR's llm_convert.py"
                },
            });
        }
        let Some(size) = header.get(8..12).and_then(|bytes| bytes.first_chunk()) else {
            return Err(damaged(format!("it has {file_bytes} bytes")));
        };
        let size = u64::from(u32::from_le_bytes(*size));
        let after = HEADER_BYTES as u64 + size;
        if header.len() < HEADER_BYTES || size > MAX_DESCRIPTION_BYTES || after > file_bytes {
            return Err(damaged(format!(
                "its description should have {size} bytes, the whole file has {file_bytes}"
            )));
        }
        let mut description = Vec::new();
        file.take(size).read_to_end(&mut description).map_err(io)?;
        let (mut model, reach) =
            Self::parse(&description).map_err(|broken| damaged(broken.to_string()))?;
        model.file_bytes = file_bytes;
        let want = after.saturating_add(reach);
        if want > file_bytes {
            return Err(damaged(format!(
                "it should have at least {want} bytes and has {file_bytes}"
            )));
        }
        Ok(model)
    }

    /// The description, and how far into the blob behind it its parts reach.
    ///
    /// # Errors
    /// What is wrong with it.
    pub(super) fn parse(description: &[u8]) -> Result<(Self, u64), Broken> {
        let buffer = Buffer::new(description);
        let root = buffer.root()?;
        let mut model = Self {
            version: root.text(1, "the compiler's version")?.to_owned(),
            time: root.text(2, "the time of compilation")?.to_owned(),
            chip: root.text(3, "the chip")?.to_owned(),
            device_num: root.u32(7)?.max(1),
            nets: BTreeMap::new(),
            weight_bytes: 0,
            neuron_bytes: root.u64(5)?,
            io_bytes: 0,
            largest_weight_bytes: 0,
            file_bytes: 0,
        };
        let mut survey = Survey::default();
        for net in root.tables(4)? {
            let net = net?;
            let name = net.text(0, "the name of a net")?.to_owned();
            let parsed = survey.net(&net)?;
            model.nets.insert(name, parsed);
        }
        for module in [root.table(6)?, root.table(8)?].into_iter().flatten() {
            survey.reach(module.range(1)?);
        }
        survey.reach(root.range(10)?);
        let weights = survey.weights.values();
        model.weight_bytes = weights.copied().fold(0, u64::saturating_add);
        model.largest_weight_bytes = survey.weights.values().copied().max().unwrap_or(0);
        model.neuron_bytes = model.neuron_bytes.max(survey.neuron_bytes);
        model.io_bytes = survey.io_bytes;
        Ok((model, survey.reach))
    }
}

/// What adds up over all nets.
#[derive(Default)]
struct Survey {
    /// Size of each piece of weights by its checksum and length.
    weights: HashMap<(Vec<u8>, u64), u64>,
    neuron_bytes: u64,
    io_bytes: u64,
    /// End of the part that lies last in the blob.
    reach: u64,
}

impl Survey {
    fn reach(&mut self, range: Option<Range>) {
        if let Some(range) = range {
            self.reach = self.reach.max(range.start.saturating_add(range.size));
        }
    }

    fn net(&mut self, net: &Table<'_>) -> Result<Net, Broken> {
        let mut stages = Vec::new();
        let mut io_bytes = 0;
        for stage in net.tables(3)? {
            let stage = stage?;
            if stages.len() == MAX_STAGES {
                return Err(Broken::TooMuch);
            }
            self.stage(&stage)?;
            io_bytes = stage.u64(18)?.max(io_bytes);
            stages.push(Stage {
                is_dynamic: stage.u32(5)? != 0,
                core_num: stage.u32(16)?.max(1),
                inputs: tensors(&stage, 0)?,
                outputs: tensors(&stage, 1)?,
            });
        }
        if stages.is_empty() {
            return Err(Broken::Missing("the shape of a net"));
        }
        self.io_bytes = self.io_bytes.saturating_add(io_bytes);
        Ok(Net {
            io_alone: net.u32(5)? == 1,
            is_cascade: cascaded(net)?,
            stages,
        })
    }

    /// Weights, intermediate memory and commands of one stage.
    fn stage(&mut self, stage: &Table<'_>) -> Result<(), Broken> {
        let sizes = stage.u64s(14, MAX_TENSORS)?;
        let context = sizes
            .into_iter()
            .fold(0, u64::saturating_add)
            .max(stage.u64(3)?);
        self.neuron_bytes = self.neuron_bytes.max(context);
        if let Some(coeff) = stage.table(4)? {
            let range = coeff.range(2)?;
            self.reach(range);
            let size = range.map_or(0, |range| range.size).max(coeff.u64(5)?);
            let key = (coeff.bytes(1)?.to_vec(), size);
            self.weights.insert(key, size);
        }
        for id in [9, 11, 15, 19] {
            self.reach(stage.range(id)?);
        }
        self.commands(stage, 8)?;
        for subnet in stage.tables(12)? {
            let subnet = subnet?;
            self.commands(&subnet, 1)?;
            for parameter in subnet.tables(2)? {
                self.reach(parameter?.range(1)?);
            }
            for core in subnet.tables(14)? {
                let core = core?;
                self.commands(&core, 0)?;
                for id in 1..4 {
                    for range in core.ranges(id)? {
                        self.reach(Some(range));
                    }
                }
            }
        }
        Ok(())
    }

    fn commands(&mut self, table: &Table<'_>, id: usize) -> Result<(), Broken> {
        for group in table.tables(id)? {
            let group = group?;
            self.reach(group.range(2)?);
            self.reach(group.range(3)?);
        }
        Ok(())
    }
}

/// Whether a net is a part of one that runs on several devices: it names the whole.
fn cascaded(net: &Table<'_>) -> Result<bool, Broken> {
    Ok(match net.table(4)? {
        Some(cascade) => !cascade.text(2, "").unwrap_or_default().is_empty(),
        None => false,
    })
}

fn tensors(stage: &Table<'_>, id: usize) -> Result<Vec<Tensor>, Broken> {
    let mut tensors = Vec::new();
    for tensor in stage.tables(id)? {
        let tensor = tensor?;
        if tensors.len() == MAX_TENSORS {
            return Err(Broken::TooMuch);
        }
        let dims = match tensor.tables(5)?.next() {
            Some(shape) => shape?.u64s(0, MAX_DIMS)?,
            None => Vec::new(),
        };
        tensors.push(Tensor {
            name: tensor.text(0, "the name of a tensor")?.to_owned(),
            dtype: DataType::from_code(tensor.u32(1)?),
            shape: shape(&dims)?,
        });
    }
    Ok(tensors)
}

/// Dimensions of a tensor that can be.
fn shape(dims: &[u64]) -> Result<Vec<usize>, Broken> {
    let shape: Result<Vec<usize>, _> = dims.iter().map(|&dim| usize::try_from(dim)).collect();
    let shape = shape.map_err(|_| Broken::TooMuch)?;
    let numbers = shape
        .iter()
        .try_fold(1, |n: usize, &dim| n.checked_mul(dim));
    match numbers {
        Some(0) => Err(Broken::Missing("a dimension of a tensor")),
        Some(n) if n <= MAX_ELEMENTS => Ok(shape),
        _ => Err(Broken::TooMuch),
    }
}

#[cfg(test)]
pub(super) mod tests {
    use std::io::Write;

    use proptest::prelude::*;

    use super::*;

    /// Header and description of a file that TPU-MLIR 1.30.2 compiled; its blob is left out.
    pub(in super::super) fn head(name: &str) -> Vec<u8> {
        let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/../tests/data/bmodel");
        std::fs::read(format!("{folder}/{name}.head")).unwrap()
    }

    pub(in super::super) fn parsed(name: &str) -> Bmodel {
        Bmodel::parse(&head(name)[HEADER_BYTES..]).unwrap().0
    }

    fn read(bytes: &[u8]) -> Result<Bmodel, Error> {
        let mut file = tempfile::NamedTempFile::new().unwrap();
        file.write_all(bytes).unwrap();
        Bmodel::read(file.path())
    }

    /// A file as long as its description asks for.
    fn whole(name: &str) -> Vec<u8> {
        let mut bytes = head(name);
        let (_, reach) = Bmodel::parse(&bytes[HEADER_BYTES..]).unwrap();
        bytes.resize(bytes.len() + reach as usize, 0);
        bytes
    }

    #[test]
    fn nets_are_what_model_tool_lists() {
        let model = parsed("q3_static");
        assert_eq!(model.chip, "BM1684X");
        assert!(model.version.contains("1.30.2"), "{}", model.version);
        assert_eq!((model.device_num, model.nets.len()), (1, 11));
        let cache = &model.nets["block_cache_2"];
        assert!(cache.io_alone && !cache.is_cascade);
        let stage = &cache.stages[0];
        assert!(!stage.is_dynamic);
        let names: Vec<_> = stage.inputs.iter().map(|i| i.name.as_str()).collect();
        let want = [
            "input_states",
            "position_ids",
            "attention_mask",
            "history_k",
            "history_v",
        ];
        assert_eq!(names, want);
        assert_eq!(stage.inputs[2].shape, [1, 1, 1, 257]);
        assert_eq!(stage.inputs[2].dtype, DataType::Bf16);
        assert_eq!(stage.inputs[1].dtype, DataType::I32);
        assert_eq!(stage.outputs.len(), 3);
        let vit = &model.nets["vit"];
        assert!(!vit.io_alone);
        assert_eq!(vit.stages[0].inputs[0].shape, [64, 1536]);
        assert_eq!(vit.stages[0].inputs[0].dtype, DataType::F32);
        assert!(parsed("q3_kv").nets["block_kv_0"].stages[0].is_dynamic);
        assert_eq!(parsed("q3_kv").nets["block_cache_0"].stages.len(), 3);
        assert_eq!(parsed("q3_1688").nets["block_0"].stages[0].core_num, 2);
    }

    #[test]
    fn memory_adds_up_to_about_the_file() {
        let model = read(&whole("q3_static")).unwrap();
        // 1.6 M weights of two bytes; embedding and head are not tied.
        let weights = model.weight_bytes;
        assert!((3 << 20..10 << 20).contains(&weights), "{weights}");
        assert!(model.largest_weight_bytes <= weights);
        // Two caches of 256 rows of 128 bytes in each of three layers, at the least.
        assert!(model.io_bytes >= 6 * 256 * 128, "{}", model.io_bytes);
        assert!(model.neuron_bytes > 0);
    }

    #[test]
    fn a_file_that_ends_early_is_told_with_what_is_missing() {
        let bytes = whole("q3_static");
        let want = bytes.len();
        assert!(read(&bytes).is_ok());
        let error = read(&bytes[..want - 1]).unwrap_err().to_string();
        assert!(
            error.contains(&format!("at least {want} bytes and has {}", want - 1)),
            "{error}"
        );
        let error = read(&bytes[..20_000]).unwrap_err().to_string();
        assert!(error.contains("its description should have"), "{error}");
        let error = read(&bytes[..6]).unwrap_err().to_string();
        assert!(error.contains("it has 6 bytes"), "{error}");
        assert!(error.ends_with("fetch it again"), "{error}");
    }

    #[test]
    fn other_files_are_told_what_they_are() {
        let error = read(b"version https://git-lfs.github.com/spec/v1\n").unwrap_err();
        assert!(error.to_string().contains("git lfs pull"), "{error}");
        let error = read(b"GGUF").unwrap_err().to_string();
        assert!(
            error.contains("is no bmodel; give a .bmodel file"),
            "{error}"
        );
        assert!(matches!(
            Bmodel::read(Path::new("/nowhere.bmodel")),
            Err(Error::Io { .. })
        ));
    }

    #[test]
    fn a_table_that_points_to_itself_many_times_ends() {
        // A root whose vector of nets names one table again and again.
        let mut bytes = head("q3_static")[HEADER_BYTES..].to_vec();
        let end = bytes.len() as u32;
        let n = 3_000_000_u32;
        bytes.extend(n.to_le_bytes());
        // Each entry leads to the same place: the first table of the file.
        for i in 0..n {
            let at = end + 4 + 4 * i;
            bytes.extend(0u32.wrapping_sub(at).wrapping_add(16).to_le_bytes());
        }
        let _ = Bmodel::parse(&bytes);
    }

    #[test]
    fn shapes_that_no_model_has_are_refused() {
        assert_eq!(shape(&[1, 256, 2, 32]), Ok(vec![1, 256, 2, 32]));
        assert_eq!(shape(&[]), Ok(Vec::new()));
        // Their product would not fit 64 bits, or wrap to something small.
        assert_eq!(shape(&[u64::MAX, 2]), Err(Broken::TooMuch));
        assert_eq!(shape(&[1 << 32, 1 << 32]), Err(Broken::TooMuch));
        assert_eq!(shape(&[1 << 31]), Err(Broken::TooMuch));
        // A width of zero would be divided by.
        assert_eq!(
            shape(&[1, 0]),
            Err(Broken::Missing("a dimension of a tensor"))
        );
    }

    /// `VLMCAPTION_FUZZ_CASES` makes it a night's work.
    fn cases() -> u32 {
        let cases = std::env::var("VLMCAPTION_FUZZ_CASES").ok();
        cases.and_then(|n| n.parse().ok()).unwrap_or(2000)
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(cases()))]
        #[test]
        fn no_damage_makes_the_parser_fall(
            places in prop::collection::vec((0usize..60_000, any::<u8>()), 1..8),
            cut in 0usize..60_000,
        ) {
            let mut bytes = head("q3_kv")[HEADER_BYTES..].to_vec();
            for (at, byte) in places {
                let at = at % bytes.len();
                bytes[at] = byte;
            }
            let _ = Bmodel::parse(&bytes);
            bytes.truncate(cut);
            let _ = Bmodel::parse(&bytes);
        }
    }
}
