// SPDX-License-Identifier: MPL-2.0

//! The way to the server: look-up, socket, proxy and TLS, each with its bound and all of them
//! awake to a cancel.
//!
//! What is secret (the key, the query) does not pass through ureq, whose log shows requests byte
//! for byte at its finest level: [`head`] puts it into what is sent.

pub(crate) mod attempt;
pub(crate) mod connector;
pub(crate) mod dial;
pub(crate) mod head;
pub(crate) mod link;
pub(crate) mod pool;
pub(crate) mod proxy;
pub(crate) mod socket;
pub(crate) mod tls;
