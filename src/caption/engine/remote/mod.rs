// SPDX-License-Identifier: MPL-2.0

//! A server that speaks OpenAI's chat protocol answers windows.
//!
//! ```text
//! options    what is to be known of it; there in every build
//! known      the servers of this process: one client each, and what each was found to take
//! probing    how that is found out
//! frames     frames to JPEG, at the model's own grid
//! picture    what is sent of a window; mp4: as a video file
//! question   one question and its answer
//! window     the questions of one window
//! ```
//!
//! Without the feature `openai` there are the options alone, and no network code.

#[cfg(feature = "openai")]
mod frames;
#[cfg(feature = "openai")]
mod known;
#[cfg(feature = "openai")]
mod mp4;
#[cfg(feature = "openai")]
mod opening;
pub mod options;
#[cfg(feature = "openai")]
mod picture;
#[cfg(feature = "openai")]
mod probing;
#[cfg(feature = "openai")]
mod question;
#[cfg(feature = "openai")]
mod window;

#[cfg(feature = "openai")]
pub(crate) use opening::open;

/// Says that this build cannot ask a server.
#[cfg(not(feature = "openai"))]
pub(crate) fn open(
    _: &options::RemoteOptions,
) -> Result<super::opened::Opened, super::error::Error> {
    Err(super::error::Error::Server(
        "this build has no backend for servers; build the plugin with the cargo feature openai"
            .into(),
    ))
}
