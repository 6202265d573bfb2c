// SPDX-License-Identifier: MPL-2.0

//! Lines on stderr, with a level that journald reads, without secrets and control characters.

use std::sync::atomic::{AtomicU8, Ordering};

use crate::secret;

/// How much of it matters to whom.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Level {
    /// Something does not work and somebody has to do something.
    Error = 3,
    /// Something is lost, or goes on by itself after a while.
    Warning = 4,
    /// What happened.
    Info = 6,
    /// For whoever looks for a fault.
    Debug = 7,
}

static LEVEL: AtomicU8 = AtomicU8::new(Level::Info as u8);

/// Lines of a lower level than this are left out.
pub fn set_level(level: Level) {
    LEVEL.store(level as u8, Ordering::Relaxed);
}

/// Writes a line.
pub fn log(level: Level, text: &str) {
    if level as u8 > LEVEL.load(Ordering::Relaxed) {
        return;
    }
    let text = plain(&secret::redact(text));
    // Under systemd the level goes in front, and the time is journald's.
    if std::env::var_os("JOURNAL_STREAM").is_some() {
        eprintln!("<{}>{text}", level as u8);
    } else {
        let word = match level {
            Level::Error => "error",
            Level::Warning => "warning",
            Level::Info => "info",
            Level::Debug => "debug",
        };
        eprintln!("{} {word:<7} {text}", crate::time::Millis::now());
    }
}

/// An error.
pub fn error(text: impl AsRef<str>) {
    log(Level::Error, text.as_ref());
}

/// A warning.
pub fn warning(text: impl AsRef<str>) {
    log(Level::Warning, text.as_ref());
}

/// What happened.
pub fn info(text: impl AsRef<str>) {
    log(Level::Info, text.as_ref());
}

/// A detail.
pub fn debug(text: impl AsRef<str>) {
    log(Level::Debug, text.as_ref());
}

/// One line without control characters: what a camera or model says may be meant for a terminal.
pub fn plain(text: &str) -> String {
    let keep = |c: char| if c.is_control() { ' ' } else { c };
    text.chars().filter(|c| !is_bidi(*c)).map(keep).collect()
}

/// Characters that turn the order of what follows them, to make a text look like another.
fn is_bidi(c: char) -> bool {
    matches!(c, '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_caption_cannot_write_to_the_terminal() {
        assert_eq!(plain("a\u{1b}[2Jb\nc\u{202e}d"), "a [2Jb cd");
    }
}
