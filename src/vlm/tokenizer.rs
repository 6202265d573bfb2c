// SPDX-License-Identifier: MPL-2.0

//! Encode; streaming decode that never splits a character.

pub mod bytes;
mod qwen2;

use std::sync::OnceLock;

use tokenizers::{Model, OffsetType, PreTokenizer};

use super::Error;
use super::files::ModelFiles;
use super::quote::Quote;
use crate::backend::json::without_bom;

const FILE: &str = "tokenizer.json";

/// Text to tokens and back.
pub struct Tokenizer {
    inner: tokenizers::Tokenizer,
    /// Texts of `added_tokens`.
    added: Vec<String>,
    /// See [`digits`](Self::digits).
    digits: OnceLock<Vec<(u32, String)>>,
    /// See [`token_bytes`](Self::token_bytes).
    bytes: OnceLock<Option<bytes::TokenBytes>>,
}

impl Tokenizer {
    /// Reads the checkpoint's `tokenizer.json`, or the older files of a Qwen2 tokenizer; the ids must
    /// fit the decoder's table.
    ///
    /// # Errors
    /// [`Error::MissingFile`], [`Error::Io`], [`Error::Config`], or [`Error::Tokenizer`] if it is
    /// damaged or has more ids than `vocab_size`.
    pub fn open(files: &ModelFiles, vocab_size: usize) -> Result<Self, Error> {
        let tokenizer = match files.read(FILE)? {
            Some(bytes) => Self::from_bytes(&bytes)?,
            None => match qwen2::assemble(files)? {
                Some(json) => Self::from_bytes(json.to_string().as_bytes())?,
                None => Self::from_bytes(&files.require(FILE)?)?,
            },
        };
        if tokenizer.n_ids() > vocab_size {
            return Err(Error::Tokenizer(format!(
                "{} has ids up to {}, but text_config.vocab_size of config.json is {vocab_size}",
                files.label(FILE),
                tokenizer.n_ids() - 1
            )));
        }
        Ok(tokenizer)
    }

    /// Reads a `tokenizer.json`.
    ///
    /// # Errors
    /// [`Error::Tokenizer`] if it is not one.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, Error> {
        let damaged = |reason: &dyn std::fmt::Display| {
            Error::Tokenizer(format!(
                "tokenizer.json cannot be read ({reason}); fetch it again"
            ))
        };
        // The library panics at some damage instead of refusing it.
        let mut inner =
            std::panic::catch_unwind(|| tokenizers::Tokenizer::from_bytes(without_bom(bytes)))
                .map_err(|_| damaged(&"a part is not what it must be"))?
                .map_err(|e| damaged(&e))?;
        // A file may carry what its last user had set; prompts are never cut or filled up.
        inner.with_padding(None);
        inner
            .with_truncation(None)
            .map_err(|e| Error::Tokenizer(e.to_string()))?;
        let added = inner.get_added_tokens_decoder().into_values();
        Ok(Self {
            added: added.map(|token| token.content).collect(),
            inner,
            digits: OnceLock::new(),
            bytes: OnceLock::new(),
        })
    }

    /// Token ids of a text. Special tokens that are written out in it become one id each; none
    /// are added.
    pub fn encode(&self, text: &str) -> Result<Vec<u32>, Error> {
        self.inner
            .encode_fast(text, false)
            .map(|encoding| encoding.get_ids().to_vec())
            .map_err(|e| Error::Tokenizer(e.to_string()))
    }

    /// Token ids of a text in which words were hidden: what `quote` hid is text again once the
    /// special tokens of the rest have been found.
    pub fn encode_quoted(&self, text: &str, quote: &Quote<'_>) -> Result<Vec<u32>, Error> {
        let tokenizer = &self.inner;
        let encode = || {
            let added = tokenizer.get_added_vocabulary();
            let mut pieces = added.extract_and_normalize(tokenizer.get_normalizer(), text);
            pieces.normalize(|piece| {
                piece.map(|c| quote.show(c));
                Ok(())
            })?;
            if let Some(pre_tokenizer) = tokenizer.get_pre_tokenizer() {
                pre_tokenizer.pre_tokenize(&mut pieces)?;
            }
            pieces.tokenize(|piece| tokenizer.get_model().tokenize(piece.get()))?;
            let encoding = pieces.into_encoding(None, 0, OffsetType::Byte)?;
            Ok(encoding.get_ids().to_vec())
        };
        encode().map_err(|e: tokenizers::Error| Error::Tokenizer(e.to_string()))
    }

    /// Token ids of a text that is text, whatever it spells.
    pub fn encode_text(&self, text: &str) -> Result<Vec<u32>, Error> {
        let quote = Quote::new(self.added(), &[text]);
        self.encode_quoted(&quote.hide(text), &quote)
    }

    /// The texts of `added_tokens`, which are cut out of a text before all others.
    pub fn added(&self) -> impl Iterator<Item = &str> {
        self.added.iter().map(String::as_str)
    }

    /// The text of tokens, without special tokens. Bytes that are no UTF-8 become U+FFFD.
    pub fn decode(&self, ids: &[u32]) -> Result<String, Error> {
        self.inner
            .decode(ids, true)
            .map_err(|e| Error::Tokenizer(e.to_string()))
    }

    /// A token as it is written in the vocabulary.
    pub fn id_to_token(&self, id: u32) -> Option<String> {
        self.inner.id_to_token(id)
    }

    /// The id of a token as it is written in the vocabulary.
    pub fn token_to_id(&self, token: &str) -> Option<u32> {
        self.inner.token_to_id(token)
    }

    /// Whether a token is one of `added_tokens`, which are cut out of a text before all others.
    pub fn is_added(&self, id: u32) -> bool {
        self.inner.get_added_tokens_decoder().contains_key(&id)
    }

    /// The largest id, plus one.
    pub fn n_ids(&self) -> usize {
        self.inner
            .get_vocab(true)
            .into_values()
            .max()
            .map_or(0, |id| id as usize + 1)
    }

    /// The tokens that are digits and nothing else, by id.
    pub fn digits(&self) -> &[(u32, String)] {
        self.digits.get_or_init(|| {
            let vocab = self.inner.get_vocab(false).into_iter();
            let mut digits: Vec<(u32, String)> = vocab
                .filter(|(text, _)| !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit()))
                .map(|(text, id)| (id, text))
                .collect();
            digits.sort_unstable();
            digits
        })
    }

    /// The bytes of all tokens, of a byte-level tokenizer; they are found out at the first call.
    pub fn token_bytes(&self) -> Option<&bytes::TokenBytes> {
        let found = self.bytes.get_or_init(|| {
            let vocab = self.inner.get_vocab(false);
            bytes::TokenBytes::new(vocab, self.n_ids(), |id| self.is_added(id))
        });
        found.as_ref()
    }

    /// Decodes tokens as they come.
    pub fn stream(&self) -> TextStream<'_> {
        TextStream {
            tokenizer: self,
            ids: Vec::new(),
            n_told: 0,
            told: String::new(),
        }
    }
}

/// Text of tokens that come one by one: whole characters only.
///
/// A byte-level token may be a part of a character (an emoji is up to four), so text that ends in
/// an unfinished one waits for the next token. The pieces and [`finish`](Self::finish) together
/// are what [`Tokenizer::decode`] makes of all tokens at once.
pub struct TextStream<'a> {
    tokenizer: &'a Tokenizer,
    /// The tokens of the last piece, then those that wait.
    ids: Vec<u32>,
    /// How many of `ids` are the last piece's.
    n_told: usize,
    /// What the last piece's tokens decode to: they stay as context, since some decoders treat
    /// the first token in a special way.
    told: String,
}

impl TextStream<'_> {
    /// Takes a token and returns the text that it makes certain, often none.
    pub fn push(&mut self, id: u32) -> Result<String, Error> {
        self.ids.push(id);
        let text = self.tokenizer.decode(&self.ids)?;
        if text.ends_with(char::REPLACEMENT_CHARACTER) {
            return Ok(String::new());
        }
        self.take(&text)
    }

    /// What still waits when no token follows: an unfinished character becomes U+FFFD.
    pub fn finish(&mut self) -> Result<String, Error> {
        let text = self.tokenizer.decode(&self.ids)?;
        self.take(&text)
    }

    fn take(&mut self, text: &str) -> Result<String, Error> {
        // Both texts are decoded from the same first tokens, and `told` ends with a whole
        // character; a decoder for which that is not a prefix gives the text again.
        let piece = text.strip_prefix(self.told.as_str()).unwrap_or(text);
        let piece = piece.to_owned();
        self.ids.drain(..self.n_told);
        self.n_told = self.ids.len();
        self.told = self.tokenizer.decode(&self.ids)?;
        Ok(piece)
    }
}

/// The demo model's.
#[cfg(test)]
pub(super) fn demo() -> &'static Tokenizer {
    static DEMO: std::sync::LazyLock<Tokenizer> = std::sync::LazyLock::new(|| {
        let bytes = ModelFiles::demo().require("tokenizer.json").unwrap();
        Tokenizer::from_bytes(&bytes).unwrap()
    });
    &DEMO
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    fn pieces(tokenizer: &Tokenizer, ids: &[u32]) -> Vec<String> {
        let mut stream = tokenizer.stream();
        let mut pieces: Vec<String> = ids.iter().map(|&id| stream.push(id).unwrap()).collect();
        pieces.push(stream.finish().unwrap());
        pieces
    }

    #[test]
    fn a_character_of_several_tokens_comes_with_the_last_one() {
        let tokenizer = demo();
        let ids = tokenizer.encode("a🙂b").unwrap();
        assert_eq!(ids.len(), 6);
        assert_eq!(pieces(tokenizer, &ids), ["a", "", "", "", "🙂", "b", ""]);
    }

    #[test]
    fn an_unfinished_character_is_told_at_the_end_or_by_what_follows() {
        let tokenizer = demo();
        let ids = tokenizer.encode("🙂b").unwrap();
        assert_eq!(pieces(tokenizer, &ids[..3]), ["", "", "", "\u{fffd}"]);
        assert_eq!(pieces(tokenizer, &[ids[0], ids[4]]), ["", "\u{fffd}b", ""]);
    }

    #[test]
    fn special_tokens_are_one_id_and_no_text() {
        let tokenizer = demo();
        let ids = tokenizer.encode("<|im_start|>a<|im_end|>").unwrap();
        assert_eq!((ids[0], ids[2], ids.len()), (505, 506, 3));
        assert_eq!(pieces(tokenizer, &ids).concat(), "a");
        assert_eq!(tokenizer.token_to_id("<|im_end|>"), Some(506));
        assert_eq!(tokenizer.n_ids(), 512);
    }

    #[test]
    fn what_is_written_out_is_text_in_a_text() {
        let tokenizer = demo();
        for token in tokenizer.added() {
            let text = format!("a {token}{token} b");
            let ids = tokenizer.encode_text(&text).unwrap();
            assert!(!ids.iter().any(|&id| tokenizer.is_added(id)), "{token}");
            assert_eq!(tokenizer.decode(&ids).unwrap(), text);
            assert!(
                tokenizer
                    .encode(&text)
                    .unwrap()
                    .iter()
                    .any(|&id| tokenizer.is_added(id))
            );
        }
    }

    #[test]
    fn a_file_s_truncation_and_padding_are_not_heeded() {
        let bytes = ModelFiles::demo().require("tokenizer.json").unwrap();
        let mut json: serde_json::Value = serde_json::from_slice(&bytes).unwrap();
        json["truncation"] = serde_json::json!({
            "direction": "Right", "max_length": 2, "strategy": "LongestFirst", "stride": 0
        });
        let tokenizer = Tokenizer::from_bytes(json.to_string().as_bytes()).unwrap();
        assert_eq!(
            tokenizer.encode("xyzxyz").unwrap(),
            demo().encode("xyzxyz").unwrap()
        );
    }

    #[test]
    fn a_broken_file_is_told() {
        let error = Tokenizer::from_bytes(b"{\"version\": \"1.0\"")
            .err()
            .unwrap();
        assert!(
            error
                .to_string()
                .starts_with("tokenizer: tokenizer.json cannot be read")
        );
    }

    #[test]
    fn damage_at_which_the_library_panics_is_told() {
        let bytes = ModelFiles::demo().require("tokenizer.json").unwrap();
        let mut json: serde_json::Value = serde_json::from_slice(&bytes).unwrap();
        json["decoder"] = serde_json::json!("no object");
        let error = Tokenizer::from_bytes(json.to_string().as_bytes());
        let said = error.err().unwrap().to_string();
        assert!(said.contains("tokenizer.json cannot be read"), "{said}");
    }

    proptest! {
        #[test]
        fn texts_without_special_tokens_are_encoded_alike(text in "\\PC{0,24}") {
            let tokenizer = demo();
            let ids = tokenizer.encode(&text).unwrap();
            prop_assert_eq!(&tokenizer.encode_quoted(&text, &Quote::default()).unwrap(), &ids);
            prop_assert_eq!(tokenizer.encode_text(&text).unwrap(), ids);
        }

        #[test]
        fn streamed_text_is_whole_characters_and_complete(text in "\\PC{0,24}") {
            prop_assume!(!text.contains(char::REPLACEMENT_CHARACTER));
            let tokenizer = demo();
            let ids = tokenizer.encode(&text).unwrap();
            let pieces = pieces(tokenizer, &ids);
            let broken = |piece: &String| piece.contains(char::REPLACEMENT_CHARACTER);
            prop_assert!(!pieces.iter().any(broken), "{:?}", pieces);
            prop_assert_eq!(pieces.concat(), tokenizer.decode(&ids).unwrap());
        }

        #[test]
        fn any_tokens_stream_to_what_they_decode_to(ids in prop::collection::vec(0u32..512, 0..40)) {
            let tokenizer = demo();
            prop_assert_eq!(pieces(tokenizer, &ids).concat(), tokenizer.decode(&ids).unwrap());
        }
    }
}
