// SPDX-License-Identifier: MPL-2.0

//! The page and what it asks for. One listener; all but the page itself and the log-in need a session;
//! nothing here writes a configuration, names a path or starts a program.

pub mod admin;
mod alarms;
pub mod asking;
pub mod health;
pub mod limit;
pub mod metrics;
pub mod proof;
pub mod routes;
pub mod server;
pub mod site;
pub mod stream;
mod timeline;
pub mod tls;
mod video;
pub mod view;
pub mod who;

pub use server::Server;
