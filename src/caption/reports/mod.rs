// SPDX-License-Identifier: MPL-2.0

//! What the element is told: captions, what is known of them beside their words, what becomes of
//! models and windows, and the thread that tells it.

pub mod caption;
pub mod evidence;
pub mod outbox;
pub mod repeats;
pub mod report;
pub(crate) mod reporter;
pub mod window_info;
