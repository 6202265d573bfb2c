// SPDX-License-Identifier: MPL-2.0

//! A broker and webhooks, as they are there, go, and come back. The broker is mosquitto.

pub mod broker;
mod fixture;
mod hook;
mod mqtt;
mod receiver;
mod tls;

pub use broker::{Ends, Listener, PASSWORD, broker, until};
pub use receiver::Receiver4Hooks;
