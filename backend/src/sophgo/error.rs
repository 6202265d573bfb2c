// SPDX-License-Identifier: MPL-2.0

//! Why a bmodel cannot be run, in words that say what to do.

use crate::TableError;

/// Why a bmodel cannot be run.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A file could not be read.
    #[error("{file}: {source}")]
    Io {
        /// The file.
        file: String,
        /// The system's reason.
        source: std::io::Error,
    },
    /// A file that is no bmodel.
    #[error("{file} is no bmodel; {hint}")]
    NoBmodel {
        /// The file.
        file: String,
        /// What it may be, and what to do.
        hint: &'static str,
    },
    /// A bmodel that is not whole.
    #[error("{file} is truncated or damaged ({reason}); fetch it again")]
    Damaged {
        /// The file.
        file: String,
        /// What is wrong with it.
        reason: String,
    },
    /// A bmodel that this backend does not run.
    #[error("{file} cannot be run: {reason}")]
    Unsupported {
        /// The file.
        file: String,
        /// Why, and what to compile instead.
        reason: String,
    },
    /// A bmodel of another chip.
    #[error(
        "{file} was compiled for {want}, device {device} is a {got}; compile it with --chip {fix}"
    )]
    WrongChip {
        /// The file.
        file: String,
        /// The chip in its header.
        want: String,
        /// The device's number.
        device: usize,
        /// The chip that is there.
        got: String,
        /// The compiler's name of the chip that is there.
        fix: String,
    },
    /// A net that needs more cores than the chip has.
    #[error(
        "{file} needs {want} cores, device {device} has {got}; compile it with --num_core {got}"
    )]
    Cores {
        /// The file.
        file: String,
        /// Cores of its nets.
        want: u32,
        /// The device's number.
        device: usize,
        /// Cores that are there.
        got: u32,
    },
    /// A library that runs a net on other cores than its file says.
    #[error(
        "the library runs net {net} on {got} cores of device {device}, its bmodel says {want}; \
         install the libsophon of the SDK that compiled it"
    )]
    NetCores {
        /// The net.
        net: String,
        /// The device's number.
        device: usize,
        /// Cores by the file.
        want: u32,
        /// Cores by the library.
        got: u32,
    },
    /// Too little memory on the device, said before loading.
    #[error(
        "{file} needs about {needed_mib} MiB of device memory, device {device} has {free_mib} MiB \
         free ({heaps}); {fix}"
    )]
    Memory {
        /// The file.
        file: String,
        /// The device's number.
        device: usize,
        /// Weights, KV cache, intermediate values and buffers.
        needed_mib: u64,
        /// Free in all heaps that count.
        free_mib: u64,
        /// Each heap.
        heaps: String,
        /// What to do.
        fix: &'static str,
    },
    /// The kernel module that device copies need is not installed.
    #[error(
        "{0} is missing, without which libsophon copies nothing on this chip; install libsophon \
         0.5.1 or newer"
    )]
    KernelModule(&'static str),
    /// A device that is busy, hangs or may not be opened.
    #[error("device {device} could not be opened ({source}); {hint}")]
    Open {
        /// The device's number.
        device: usize,
        /// What the library said.
        source: Box<sophgo_sys::Error>,
        /// What to do.
        hint: &'static str,
    },
    /// The library did not load the file; it prints the reason on the process's standard output.
    #[error(
        "libsophon did not load {file} (it prints why on standard output); check that libsophon and \
         its driver are 0.5.1 or newer, and with bm-smi that nothing else holds the device's memory"
    )]
    Load {
        /// The file.
        file: String,
    },
    /// A launch that did not come to an end.
    #[error("net {net} failed on device {device}: {source}; status of the chip: {status}")]
    Launch {
        /// The net.
        net: String,
        /// The device's number.
        device: usize,
        /// What the library said.
        source: Box<sophgo_sys::Error>,
        /// What the device says of itself.
        status: String,
    },
    /// The file of embeddings cannot be used.
    #[error("{0}; `llm_convert.py --embedding_disk` writes it beside the bmodel")]
    Embedding(#[from] TableError),
    /// The folder of the configuration belongs to another model.
    #[error(
        "{file} does not belong to its config.json: {field} is {model} in the bmodel and {config} there; set config to the folder that llm_convert.py wrote beside it"
    )]
    Config {
        /// The file.
        file: String,
        /// The number that differs.
        field: &'static str,
        /// In the bmodel.
        model: String,
        /// In the configuration.
        config: String,
    },
    /// What a library call said.
    #[error(transparent)]
    Api(#[from] sophgo_sys::Error),
}
