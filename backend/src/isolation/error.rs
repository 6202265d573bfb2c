// SPDX-License-Identifier: MPL-2.0

//! What becomes of a process that a device program runs in.

/// What becomes of a process that a device program runs in.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// There is no worker.
    #[error(
        "vlmcaption-worker is not installed ({places}); install it beside the plugin or in \
         libexec/vlmcaption, set VLMCAPTION_WORKER to it, or set isolation=none to run the device in \
         this process"
    )]
    NotFound {
        /// Where it was looked for.
        places: String,
    },
    /// It does not belong to this plugin.
    #[error(
        "{path} is of build {got} and the plugin of {want}; install both from the same package, or set \
         VLMCAPTION_WORKER to the one that was built with the plugin"
    )]
    OtherBuild {
        /// The worker.
        path: String,
        /// The plugin's build.
        want: String,
        /// The worker's.
        got: String,
    },
    /// It could not be started.
    #[error("{path} cannot be started: {reason}")]
    Start {
        /// The worker.
        path: String,
        /// Why.
        reason: String,
    },
    /// It has ended, or was ended: what it did, how it ended, and its last words.
    #[error("{0}")]
    Lost(String),
    /// What its device program said.
    #[error("{0}")]
    Said(String),
}
