// SPDX-License-Identifier: MPL-2.0

//! Bindings to the libraries that drive Axera's AX650 NPUs: `libax_engine` and `libax_sys` on a
//! board, `libaxcl_rt` on a host with a card.
//!
//! Nothing is linked. [`Api::load`] opens the libraries when a program first asks for a device, so
//! that one build runs with and without the vendor's SDK, and says what is missing where it is
//! missing. Building needs neither SDK nor libclang: `soc.h` and `card.h` declare what is called, and
//! the files in `src/bindings` are made from them by `cargo xtask bindings` and committed.
//!
//! Three tiers are here:
//!
//! - **raw**: [`bindings`], types and functions as the C APIs have them;
//! - **checked**: [`Soc`] and [`Card`], one method per C function, that take slices for pointers with
//!   lengths and turn every status into a [`Result`]; unsafe where the C function relies on handles;
//! - **safe**: [`Device`], one interface for both. It owns what it loads and allocates, looks at
//!   every size and handle before C sees them, and gives all back when it goes.
//!
//! # What the C APIs leave to their caller, and [`Device`] does
//!
//! - **Order of life**: library, device, models, memory; given back the other way round. The card's
//!   runtime aborts at the end of a process that did not reset its device.
//! - **Threads**: on a card every thread needs the device's context. A [`Device`] may move to another
//!   thread; it binds its context there before the first call.
//! - **One at a time**: models load one after the other on a card, and runs do not overlap on a board,
//!   whatever the number of devices that a process has open.
//! - **Caches**: a board's NPU does not see the CPU's cache. [`Device::write`] flushes the bytes that
//!   it wrote and no others, [`Device::read`] invalidates the bytes that it reads.
//! - **Sizes**: the libraries check little. A run is refused here if a tensor is missing, smaller than
//!   compiled, of another device, or if an output overlaps an input.
//! - **Numbers**: the two APIs number data types, layouts and modes differently; here they are one
//!   [`DataType`]. Devices count from 0; the ids that cards have are numbers of PCIe buses.
//!
//! A process that is killed leaves its memory with a board's NPU until the next start of the
//! system: end programs by SIGINT or SIGTERM and let them stop their pipelines.

#[cfg(not(all(unix, target_pointer_width = "64")))]
compile_error!("axera-sys is for 64-bit unix systems: the vendor's SDKs are bound for no other");

mod api;
pub mod bindings;
mod card;
mod code;
mod device;
mod error;
mod functions;
mod load;
mod soc;

pub use api::Api;
pub use card::{Card, CardMemory, CardSlice, ModelContext, ModelId, Side};
pub use code::meaning;
pub use device::{DataType, Device, Group, Health, Mem, Model, Tensor};
pub use error::{ENV_LIB, Error};
pub use functions::Kind;
pub use load::Search;
pub use soc::{Soc, SocMemory, SocSlice};
pub use vendor_library::{ArgumentError, Attempt, Library, LoadError};
