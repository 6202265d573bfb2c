// SPDX-License-Identifier: MPL-2.0

//! `vlmcaption-watch`: watches cameras by their captions.
//!
//! It uses the element `vlmcaption` as any application does, through GStreamer alone: what the element
//! says of each camera is kept in SQLite, found by words, and told as events with a begin and an end.
//! It is no recorder: of video a few seconds around an alarm are stored at most, where that is asked for.

pub mod accounts;
pub mod camera;
pub mod cli;
pub mod clock;
pub mod config;
pub mod discover;
pub mod fires;
pub mod health;
pub mod heard;
pub mod hub;
pub mod log;
pub mod lull;
pub mod out;
pub mod search;
pub mod secret;
pub mod store;
pub mod systemd;
pub mod time;
pub mod video;
pub mod watching;
pub mod web;
