// SPDX-License-Identifier: MPL-2.0

//! Passwords: never printed by `Debug`, and taken out of every line that is logged.

use std::fmt;
use std::sync::RwLock;

/// Every secret that was read, in the spellings in which it may turn up.
static KNOWN: RwLock<Vec<String>> = RwLock::new(Vec::new());

/// What stands in a secret's place.
const REDACTED: &str = "[secret]";

/// A password. It is known to [`redact`] from the moment it is made.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(String);

impl Secret {
    /// Takes a password in.
    pub fn new(text: String) -> Self {
        hide(&text);
        Self(text)
    }

    /// The password itself, for whoever logs in with it.
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, out: &mut fmt::Formatter) -> fmt::Result {
        out.write_str(REDACTED)
    }
}

/// Has [`redact`] take this out of whatever it sees, as it is and percent-encoded.
pub fn hide(text: &str) {
    // One or two characters are in every line; taking them out would leave nothing to read.
    if text.chars().count() < 3 {
        return;
    }
    let mut known = KNOWN.write().unwrap();
    for spelling in [text.to_owned(), encoded(text)] {
        if !known.contains(&spelling) {
            known.push(spelling);
        }
    }
    // The longest first: one secret may be part of another.
    known.sort_by_key(|spelling| std::cmp::Reverse(spelling.len()));
}

/// The text with every known secret replaced.
pub fn redact(text: &str) -> String {
    let known = KNOWN.read().unwrap();
    let mut out = text.to_owned();
    for secret in known.iter().filter(|secret| !secret.is_empty()) {
        if out.contains(secret.as_str()) {
            out = out.replace(secret.as_str(), REDACTED);
        }
    }
    out
}

/// Percent-encoded as in an address.
fn encoded(text: &str) -> String {
    let mut out = String::new();
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) {
            out.push(char::from(byte));
        } else {
            out.push_str(&format!("%{byte:02X}"));
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_secret_is_redacted_in_both_spellings_and_by_debug() {
        let secret = Secret::new("c@nary/17".into());
        let line = redact("rtsp://u:c%40nary%2F17@h and c@nary/17");
        assert_eq!(line, "rtsp://u:[secret]@h and [secret]");
        assert_eq!(format!("{secret:?}"), REDACTED);
    }
}
