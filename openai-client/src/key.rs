// SPDX-License-Identifier: MPL-2.0

//! The API key, and everything else that no text may contain.

use std::fmt;
use std::path::Path;
use std::sync::Arc;

use crate::error::ConfigError;

/// The environment variable that a key is taken from where none is set.
pub const KEY_VARIABLE: &str = "VLMCAPTION_API_KEY";

/// What stands where a secret was.
const REDACTED: &str = "***";

/// Secrets shorter than this are not looked for in texts: they would be found by chance.
const SHORTEST: usize = 4;

/// An API key. `Debug` shows three stars, and there is no `Display`.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct ApiKey(Arc<str>);

/// The header that carries the key.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum KeyHeader {
    /// `Authorization: Bearer KEY`, which nearly all servers want.
    #[default]
    Bearer,
    /// `api-key: KEY`, which Azure wants.
    ApiKey,
}

impl ApiKey {
    /// A key; white space around it is not part of it.
    ///
    /// # Errors
    /// [`ConfigError::Key`] if it is empty or cannot stand in a header.
    pub fn new(key: &str) -> Result<Self, ConfigError> {
        Self::check(key, "the API key")
    }

    /// The key in a file, which holds nothing else.
    ///
    /// # Errors
    /// [`ConfigError::File`] if it cannot be read, and those of [`new`](Self::new).
    pub fn read(file: &Path) -> Result<Self, ConfigError> {
        let name = file.display().to_string();
        match std::fs::read_to_string(file) {
            Ok(text) => Self::check(&text, &format!("the API key in {name}")),
            Err(source) => Err(ConfigError::File {
                what: "the API key",
                file: name,
                source,
            }),
        }
    }

    /// The key that is set: the value, or the one in the file, or `variable`, which is what
    /// [`KEY_VARIABLE`] holds. Empty texts count as not set.
    ///
    /// # Errors
    /// Those of [`new`](Self::new) and [`read`](Self::read).
    pub fn find(
        value: Option<&str>,
        file: Option<&Path>,
        variable: Option<&str>,
    ) -> Result<Option<Self>, ConfigError> {
        let set = |text: Option<&str>| text.is_some_and(|text| !text.trim().is_empty());
        match (value, file, variable) {
            (Some(key), _, _) if set(value) => Self::new(key).map(Some),
            (_, Some(file), _) if !file.as_os_str().is_empty() => Self::read(file).map(Some),
            (_, _, Some(key)) if set(variable) => {
                Self::check(key, &format!("the API key in {KEY_VARIABLE}")).map(Some)
            }
            _ => Ok(None),
        }
    }

    fn check(key: &str, name: &str) -> Result<Self, ConfigError> {
        let key = key.trim();
        let reason = if key.is_empty() {
            "is empty"
        } else if !key.bytes().all(|byte| byte.is_ascii_graphic()) {
            "has a space, a line break or a character that is not ASCII in it; is there more than \
             the key?"
        } else {
            return Ok(Self(key.into()));
        };
        Err(ConfigError::Key {
            name: name.to_owned(),
            reason,
        })
    }

    /// The line of the header, its end included.
    pub(crate) fn header(&self, header: KeyHeader) -> String {
        match header {
            KeyHeader::Bearer => format!("authorization: Bearer {}\r\n", self.0),
            KeyHeader::ApiKey => format!("api-key: {}\r\n", self.0),
        }
    }
}

impl fmt::Debug for ApiKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ApiKey({REDACTED})")
    }
}

/// What must not be told, taken out of texts that servers send.
#[derive(Clone, Default)]
pub(crate) struct Secrets(Vec<String>);

impl Secrets {
    /// Adds a key.
    pub(crate) fn add_key(&mut self, key: &ApiKey) {
        self.add(&key.0);
    }

    /// Adds a secret.
    pub(crate) fn add(&mut self, secret: &str) {
        if secret.len() >= SHORTEST {
            self.0.push(secret.to_owned());
            // A secret that holds another one is taken out as a whole.
            self.0.sort_by_key(|secret| std::cmp::Reverse(secret.len()));
        }
    }

    /// The text without them.
    pub(crate) fn scrub(&self, text: &str) -> String {
        self.0.iter().fold(text.to_owned(), |text, secret| {
            text.replace(secret.as_str(), REDACTED)
        })
    }
}

impl fmt::Debug for Secrets {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Secrets({})", self.0.len())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_is_found_in_the_value_then_the_file_then_the_variable() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("key");
        std::fs::write(&file, "from-file\n").unwrap();
        let find = |value, file, variable| ApiKey::find(value, file, variable).unwrap();
        let key = |text| Some(ApiKey::new(text).unwrap());
        assert_eq!(find(Some("value"), Some(&file), Some("var")), key("value"));
        assert_eq!(find(Some(""), Some(&file), Some("var")), key("from-file"));
        assert_eq!(find(None, None, Some("var ")), key("var"));
        assert_eq!(find(None, Some(Path::new("")), Some(" ")), None);
    }

    #[test]
    fn a_key_that_cannot_stand_in_a_header_is_refused_without_saying_it() {
        for bad in ["canary one", "canary\r\nx: y", "canäry", ""] {
            let error = ApiKey::new(bad).unwrap_err().to_string();
            assert!(!error.contains("can"), "{error}");
        }
    }

    #[test]
    fn secrets_are_taken_out_of_texts_the_longest_first() {
        let mut secrets = Secrets::default();
        secrets.add("abcd");
        secrets.add("abcdefgh");
        secrets.add("ab");
        assert_eq!(secrets.scrub("key abcdefgh, abcd, ab"), "key ***, ***, ab");
        assert_eq!(format!("{secrets:?}"), "Secrets(2)");
    }
}
