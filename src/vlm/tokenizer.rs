// SPDX-License-Identifier: MPL-2.0

//! Encode; streaming decode that never splits a character.

use super::Error;

/// Text to tokens and back.
pub struct Tokenizer {
    inner: tokenizers::Tokenizer,
}

impl Tokenizer {
    /// Reads a `tokenizer.json`.
    ///
    /// # Errors
    /// [`Error::Tokenizer`] if it is not one.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, Error> {
        let mut inner = tokenizers::Tokenizer::from_bytes(bytes).map_err(|e| {
            Error::Tokenizer(format!(
                "tokenizer.json cannot be read ({e}); fetch it again"
            ))
        })?;
        // A file may carry what its last user had set; prompts are never cut or filled up.
        inner.with_padding(None);
        inner
            .with_truncation(None)
            .map_err(|e| Error::Tokenizer(e.to_string()))?;
        Ok(Self { inner })
    }

    /// Token ids of a text. Special tokens that are written out in it become one id each; none
    /// are added.
    pub fn encode(&self, text: &str) -> Result<Vec<u32>, Error> {
        self.inner
            .encode_fast(text, false)
            .map(|encoding| encoding.get_ids().to_vec())
            .map_err(|e| Error::Tokenizer(e.to_string()))
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

    /// The largest id, plus one.
    pub fn n_ids(&self) -> usize {
        self.inner
            .get_vocab(true)
            .into_values()
            .max()
            .map_or(0, |id| id as usize + 1)
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
