// SPDX-License-Identifier: MPL-2.0

//! Bindings to the two libraries that drive Sophgo's BM1684X and BM1688: `libbmlib` (devices,
//! memory) and `libbmrt` (compiled models).
//!
//! Nothing is linked. [`Api::load`] opens the libraries when a program first asks for a device, so
//! that one build runs with and without the vendor's SDK, and says what is missing where it is
//! missing. Building needs neither SDK nor libclang: `wrapper.h` declares what is called, and
//! `bindings.rs` is made from it by `cargo xtask bindings` and committed.
//!
//! Two tiers are here, a third is up to the user of this crate:
//!
//! - **raw**: [`bindings`], types and functions as the C API has them;
//! - **checked**: [`Api`], one unsafe method per C function and under its name, that takes slices
//!   for pointers with lengths and turns every status into a [`Result`];
//! - **safe**: types that own a device, its memory or a loaded model. They carry the conditions that
//!   the `# Safety` sections here state.
//!
//! # What the C API leaves to its caller
//!
//! - **Order of life**: device, runtime, own buffers; closed the other way round.
//! - **One thread**: work is tracked per operating-system thread, and `bm_thread_sync` waits for the
//!   calling thread's work only. Create, launch and wait on one thread.
//! - **Waiting**: launches return before they are done, and copies between host and device are not
//!   ordered with them. Wait before reading results and before overwriting inputs in use. On a chip
//!   with several cores wait for each core that the net uses.
//! - **Sizes**: the runtime checks the shape of the first input only when a net is dynamic. Too long
//!   an input elsewhere overwrites memory silently.
//! - **Ends of the process**: libbmrt is C++ and throws out of a launch on internal errors; a damaged
//!   model given as bytes makes it call `exit`; libbmlib exits at some arguments out of range. None
//!   can be caught here: check beforehand. Ranges of copies and the number of a device are checked
//!   by [`Api`].
//!
//! # The emulator
//!
//! The `tpu_mlir` wheel on PyPI holds the same two libraries over a bit-exact emulator of the chip.
//! `VLMCAPTION_SOPHON_LIB=/path/to/tpu_mlir/lib` is all it takes to run against it, for instance
//! the ignored tests of this crate:
//!
//! ```text
//! pip download --no-deps --only-binary=:all: --python-version 3.10 tpu_mlir==1.30.2
//! unzip tpu_mlir-*.whl 'tpu_mlir/lib/libbm*' 'tpu_mlir/lib/libcmodel*' '*/Yuv2rgb_0_int8/*'
//! export VLMCAPTION_SOPHON_LIB=$PWD/tpu_mlir/lib
//! export VLMCAPTION_TEST_BMODEL=$(find $PWD/tpu_mlir -name compilation.bmodel)
//! cargo test -p sophgo-sys --test emulator -- --include-ignored
//! ```

#[cfg(not(all(unix, target_pointer_width = "64")))]
compile_error!("sophgo-sys is for 64-bit unix systems: the vendor's SDK exists for no other");

mod api;
pub mod bindings;
mod bmlib;
mod bmrt;
mod chip;
mod error;
mod load;
mod monitor;

pub use api::Api;
pub use chip::Chip;
pub use error::{ENV_LIB, Error};
pub use load::Search;
pub use vendor_library::{ArgumentError, Attempt, Library, LoadError};
