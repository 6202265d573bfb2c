// SPDX-License-Identifier: MPL-2.0

//! The client against a mock server: what it sends, what it reads, and every fault.

mod answers;
mod cancel;
mod connections;
mod faults;
mod mock;
mod probe;
mod requests;
mod secrets;
mod tls;
