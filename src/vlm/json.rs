// SPDX-License-Identifier: MPL-2.0

//! Reads JSON objects so that every complaint names file, key and what would be right.

use serde_json::{Map, Value};

use super::Error;
use super::files::ModelFiles;
use crate::backend::json;

/// The largest size that is taken for one of a model: products of a few of these are no more than a
/// number can hold.
const MAX_SIZE: usize = 1 << 20;

/// The largest number of pixels that an image may be asked to have.
const MAX_AREA: usize = 1 << 30;

/// The largest epsilon: more would be all that is left of what it is added to.
const MAX_EPSILON: f64 = 0.1;

/// A JSON file whose root is an object.
#[derive(Debug, Clone)]
pub(crate) struct Document {
    /// What messages call the file.
    file: String,
    root: Map<String, Value>,
}

impl Document {
    /// Reads `name` if it is there.
    ///
    /// # Errors
    /// [`Error::Config`] if it is not JSON or not an object.
    pub fn read(files: &ModelFiles, name: &str) -> Result<Option<Self>, Error> {
        let Some(bytes) = files.read(name)? else {
            return Ok(None);
        };
        Self::parse(files.label(name), &bytes).map(Some)
    }

    /// Reads `name`, which must be there.
    pub fn require(files: &ModelFiles, name: &str) -> Result<Self, Error> {
        Self::parse(files.label(name), &files.require(name)?)
    }

    /// Reads an object from bytes; `file` is what messages call them.
    pub fn parse(file: String, bytes: &[u8]) -> Result<Self, Error> {
        match json::read(bytes) {
            Ok(Value::Object(root)) => Ok(Self { file, root }),
            Ok(_) => Err(Error::Config {
                file,
                reason: "want a JSON object at the top".to_owned(),
            }),
            Err(e) => Err(Error::Config {
                file,
                reason: format!("not valid JSON ({e}); fetch the file again"),
            }),
        }
    }

    /// The top level.
    pub fn root(&self) -> Section<'_> {
        Section {
            file: &self.file,
            path: String::new(),
            map: &self.root,
            defaults: None,
        }
    }
}

/// One object of a [`Document`], with the way to it.
#[derive(Debug, Clone)]
pub(crate) struct Section<'a> {
    file: &'a str,
    path: String,
    map: &'a Map<String, Value>,
    /// What keys say that are not there.
    defaults: Option<&'static Map<String, Value>>,
}

impl<'a> Section<'a> {
    /// An error about one key: `reason` goes on after the key's full name.
    pub fn complain(&self, key: &str, reason: impl std::fmt::Display) -> Error {
        Error::Config {
            file: self.file.to_owned(),
            reason: format!("{}{key} {reason}", self.path),
        }
    }

    /// The same, with these values for keys that are not there. One that is null stays without.
    pub fn with_defaults(self, defaults: &'static Map<String, Value>) -> Self {
        Self {
            defaults: Some(defaults),
            ..self
        }
    }

    /// A value that is there, or has a default, and is not null.
    pub fn value(&self, key: &str) -> Option<&'a Value> {
        let value = match self.map.get(key) {
            None => self.defaults?.get(key)?,
            Some(value) => value,
        };
        (!value.is_null()).then_some(value)
    }

    /// The keys that are there.
    pub fn keys(&self) -> impl Iterator<Item = &'a str> {
        self.map.keys().map(String::as_str)
    }

    fn required(&self, key: &str) -> Result<&'a Value, Error> {
        self.value(key)
            .ok_or_else(|| self.complain(key, "is missing; is the file of another version?"))
    }

    /// An object below this one, if it is there.
    pub fn section(&self, key: &str) -> Result<Option<Section<'a>>, Error> {
        match self.value(key) {
            None => Ok(None),
            Some(Value::Object(map)) => Ok(Some(Section {
                file: self.file,
                path: format!("{}{key}.", self.path),
                map,
                defaults: None,
            })),
            Some(_) => Err(self.complain(key, "must be an object")),
        }
    }

    /// An object below this one.
    pub fn require_section(&self, key: &str) -> Result<Section<'a>, Error> {
        self.required(key)?;
        self.section(key)?
            .ok_or_else(|| self.complain(key, "is missing"))
    }

    /// A size of a model: a whole number from 1 to 2^20.
    pub fn size(&self, key: &str) -> Result<usize, Error> {
        self.whole(key, MAX_SIZE)
    }

    /// A number of pixels: a whole number from 1 to 2^30.
    pub fn area(&self, key: &str) -> Result<usize, Error> {
        self.whole(key, MAX_AREA)
    }

    /// A number of rows, which may be far more than there will be.
    pub fn rows(&self, key: &str) -> Result<usize, Error> {
        self.whole(key, i32::MAX as usize)
    }

    fn whole(&self, key: &str, most: usize) -> Result<usize, Error> {
        let value = self.required(key)?;
        let whole = value.as_u64().filter(|&n| n > 0).ok_or_else(|| {
            self.complain(key, format!("is {value}; want a whole number above 0"))
        })?;
        usize::try_from(whole)
            .ok()
            .filter(|&n| n <= most)
            .ok_or_else(|| self.complain(key, format!("is {value}; want at most {most}")))
    }

    /// A whole number above 0, or the reference class's default.
    pub fn size_or(&self, key: &str, default: usize) -> Result<usize, Error> {
        match self.value(key) {
            None => Ok(default),
            Some(_) => self.size(key),
        }
    }

    /// Whole numbers from 0.
    pub fn indexes(&self, key: &str) -> Result<Vec<usize>, Error> {
        let value = self.required(key)?;
        value
            .as_array()
            .and_then(|list| {
                let index = |n: &Value| {
                    let n = n.as_u64().and_then(|n| usize::try_from(n).ok());
                    n.filter(|&n| n <= MAX_SIZE)
                };
                list.iter().map(index).collect()
            })
            .ok_or_else(|| {
                let reason = format!("is {value}; want a list of whole numbers up to {MAX_SIZE}");
                self.complain(key, reason)
            })
    }

    /// A finite number above 0.
    pub fn positive(&self, key: &str) -> Result<f64, Error> {
        let value = self.required(key)?;
        value
            .as_f64()
            .filter(|n| n.is_finite() && *n > 0.0)
            .ok_or_else(|| self.complain(key, format!("is {value}; want a number above 0")))
    }

    /// A finite number above 0 and at most `most`, or a default.
    pub fn at_most_or(&self, key: &str, most: f64, default: f64) -> Result<f64, Error> {
        match self.positive_or(key, default)? {
            n if n <= most => Ok(n),
            n => Err(self.complain(key, format!("is {n}; want at most {most}"))),
        }
    }

    /// What a norm adds to a variance, or a default.
    pub fn epsilon_or(&self, key: &str, default: f64) -> Result<f64, Error> {
        self.at_most_or(key, MAX_EPSILON, default)
    }

    /// A finite number above 0, or a default.
    pub fn positive_or(&self, key: &str, default: f64) -> Result<f64, Error> {
        match self.value(key) {
            None => Ok(default),
            Some(_) => self.positive(key),
        }
    }

    /// Three finite numbers, one per channel.
    pub fn channels(&self, key: &str) -> Result<[f32; 3], Error> {
        let value = self.required(key)?;
        let numbers: Option<Vec<f32>> = value.as_array().and_then(|list| {
            list.iter()
                .map(|n| n.as_f64().map(|n| n as f32).filter(|n| n.is_finite()))
                .collect()
        });
        numbers
            .and_then(|numbers| numbers.try_into().ok())
            .ok_or_else(|| {
                self.complain(key, format!("is {value}; want three numbers (R, G and B)"))
            })
    }

    /// Yes or no, if it is there.
    pub fn flag(&self, key: &str) -> Result<Option<bool>, Error> {
        match self.value(key) {
            None => Ok(None),
            Some(_) => self.flag_or(key, false).map(Some),
        }
    }

    /// Yes or no, or a default.
    pub fn flag_or(&self, key: &str, default: bool) -> Result<bool, Error> {
        match self.value(key) {
            None => Ok(default),
            Some(Value::Bool(flag)) => Ok(*flag),
            Some(value) => Err(self.complain(key, format!("is {value}; want true or false"))),
        }
    }

    /// A text, if it is there.
    pub fn text(&self, key: &str) -> Result<Option<&'a str>, Error> {
        match self.value(key) {
            None => Ok(None),
            Some(Value::String(text)) => Ok(Some(text)),
            Some(value) => Err(self.complain(key, format!("is {value}; want a text"))),
        }
    }

    /// Complains unless the text is `only`, which a missing key means too.
    pub fn expect_text(&self, key: &str, only: &str) -> Result<(), Error> {
        match self.text(key)? {
            Some(text) if text != only => Err(self.complain(
                key,
                format!("is {text:?}; this build computes {only:?} only"),
            )),
            _ => Ok(()),
        }
    }

    /// A token id.
    pub fn token(&self, key: &str) -> Result<u32, Error> {
        let value = self.required(key)?;
        token_id(value).ok_or_else(|| self.complain(key, format!("is {value}; want a token id")))
    }

    /// A token id or a list of them; nothing if the key is missing.
    pub fn tokens(&self, key: &str) -> Result<Vec<u32>, Error> {
        let ids: Option<Vec<u32>> = match self.value(key) {
            None => return Ok(Vec::new()),
            Some(Value::Array(list)) => list.iter().map(token_id).collect(),
            Some(one) => token_id(one).map(|id| vec![id]),
        };
        ids.ok_or_else(|| self.complain(key, "must be a token id or a list of them"))
    }
}

fn token_id(value: &Value) -> Option<u32> {
    value.as_u64().and_then(|id| u32::try_from(id).ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn document(text: &str) -> Document {
        Document::parse("config.json".to_owned(), text.as_bytes()).unwrap()
    }

    #[test]
    fn a_complaint_names_file_and_full_key() {
        let doc = document(r#"{"text_config": {"hidden_size": -4}}"#);
        let section = doc.root().require_section("text_config").unwrap();
        assert_eq!(
            section.size("hidden_size").unwrap_err().to_string(),
            "config.json: text_config.hidden_size is -4; want a whole number above 0"
        );
        assert_eq!(
            section.size("depth").unwrap_err().to_string(),
            "config.json: text_config.depth is missing; is the file of another version?"
        );
    }

    #[test]
    fn broken_json_is_told_with_its_place() {
        let error = Document::parse("config.json".to_owned(), b"{\"a\": ").unwrap_err();
        let text = error.to_string();
        assert!(
            text.starts_with("config.json: not valid JSON (") && text.contains("line 1"),
            "{text}"
        );
    }

    #[test]
    fn null_counts_as_missing() {
        let doc = document(r#"{"n": null, "eos": [1, 2], "one": 7}"#);
        assert_eq!(doc.root().size_or("n", 3).unwrap(), 3);
        assert_eq!(doc.root().tokens("eos").unwrap(), [1, 2]);
        assert_eq!(doc.root().tokens("one").unwrap(), [7]);
        assert_eq!(doc.root().tokens("none").unwrap(), [0u32; 0]);
    }
}
