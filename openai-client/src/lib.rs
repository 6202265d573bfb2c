// SPDX-License-Identifier: MPL-2.0

//! A client for vision-language models behind OpenAI's chat protocol: vLLM, llama-server,
//! transformers serve, a router in front of them, or a hosted one.
//!
//! It blocks and needs no runtime: a question is asked on the thread that wants the answer, any
//! number of threads share one [`Client`], and a [`Cancel`] ends a question from another thread at
//! once, wherever it is. Nothing here logs; facts go up as values.
//!
//! ```no_run
//! use openai_client::{
//!     Cancel, ChatRequest, Client, Config, Media, Message, Piece, Retry, ServerUri,
//! };
//!
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! # let jpegs: Vec<Vec<u8>> = Vec::new();
//! let client = Client::new(Config::new(ServerUri::parse("http://127.0.0.1:8000/v1")?))?;
//! let frames = Media::jpeg_sequence(&jpegs);
//! let request = ChatRequest {
//!     max_tokens: Some(64),
//!     temperature: Some(0.0),
//!     ..ChatRequest::new(vec![Message::about(&[frames], "What happens?")])
//! };
//! let mut on = |piece: Piece<'_>| {
//!     if let Piece::Text(text) = piece {
//!         eprint!("{text}");
//!     }
//! };
//! let answer = client.chat(&request, &Retry::default(), &Cancel::default(), &mut on)?;
//! assert_eq!(answer.text, "A car passes.");
//! # Ok(())
//! # }
//! ```
//!
//! What holds:
//!
//! - An answer is whole: the server gave a `finish_reason`. A stream that ends without one is
//!   [`Problem::Truncated`], however cleanly it ended.
//! - A request that failed is made again only where that can help ([`Retry`]), and never after a
//!   piece of its answer was told.
//! - Every step has a bound ([`Bounds`]): look-up, connecting, the first piece, the time between
//!   pieces, all of it, the length of the text.
//! - The key and the query of the server's address are in no `Debug`, no error and no log.

mod answer;
mod cancel;
mod client;
mod config;
mod error;
mod extra;
mod form;
mod key;
mod logprobs;
mod message;
mod meter;
mod models;
mod probe;
mod request;
mod retry;
mod shape;
pub mod sse;
mod stream;
mod thinking;
mod uri;
mod wire;

pub use answer::{Answer, Effort, Finish, Piece, Traffic, Usage};
pub use cancel::Cancel;
pub use client::{Client, Surroundings, Variable};
pub use config::{Bounds, ClientCertificate, Config, Proxy, Tls};
pub use error::{Blame, Bound, ConfigError, Error, Problem};
pub use extra::ExtraBody;
pub use form::{Form, FormError, Verdict};
pub use key::{ApiKey, KEY_VARIABLE, KeyHeader};
pub use logprobs::{Shares, Token, number_share, shares};
pub use message::{Media, MediaKind, Message, Part, Role};
pub use meter::{Meter, Metered};
pub use models::Model;
pub use probe::{Probe, ServerTraits, Software, Support};
pub use request::{ChatRequest, Guide, VideoTimes};
pub use retry::{Clock, Random, Retry, SystemClock, SystemRandom};
pub use shape::Said;
pub use uri::ServerUri;
pub use wire::attempt::Lookup;
