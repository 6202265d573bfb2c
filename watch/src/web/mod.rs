// SPDX-License-Identifier: MPL-2.0

//! The page and what it asks for. One listener; all but the page itself and the log-in need a session;
//! nothing here writes a configuration, names a path or starts a program.

mod alarms;
mod asking;
pub mod limit;
pub mod routes;
pub mod server;
pub mod site;
pub mod stream;
mod timeline;
mod video;
pub mod view;

pub use server::Server;
