// SPDX-License-Identifier: MPL-2.0

//! The tests that need more than one part of the program, in one binary: it is linked once.

mod bad;
mod browser;
mod client;
mod door;
mod languages;
mod live;
mod out;
mod pages;
mod program;
mod site;
mod store;
mod video;
mod web;
mod web_video;
