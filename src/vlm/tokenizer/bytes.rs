// SPDX-License-Identifier: MPL-2.0

//! The bytes that tokens stand for, for answers that follow a grammar.

use std::collections::HashMap;

/// Tokens as bytes. Special tokens are none of them.
pub struct TokenBytes {
    /// By id; empty for those that stand for none.
    bytes: Vec<Vec<u8>>,
    /// Ids in the order of their bytes.
    sorted: Vec<u32>,
    longest: usize,
}

impl TokenBytes {
    /// Of a byte-level tokenizer with `n_ids` ids; `None` for others, and for one that cannot write
    /// every text. `is_added` says which are special tokens.
    pub(super) fn new(
        vocab: HashMap<String, u32>,
        n_ids: usize,
        is_added: impl Fn(u32) -> bool,
    ) -> Option<Self> {
        let mut bytes = vec![Vec::new(); n_ids];
        for (text, id) in vocab {
            // Special tokens, and tokens with other characters, stand for no bytes.
            if let Some(written) = text.chars().map(byte).collect()
                && !is_added(id)
            {
                bytes[id as usize] = written;
            }
        }
        let ids = 0..u32::try_from(bytes.len()).ok()?;
        let mut sorted: Vec<u32> = ids.filter(|&id| !bytes[id as usize].is_empty()).collect();
        sorted.sort_by(|&a, &b| bytes[a as usize].cmp(&bytes[b as usize]));
        let longest = bytes.iter().map(Vec::len).max().unwrap_or(0);
        let table = Self {
            bytes,
            sorted,
            longest,
        };
        let all = (0x20..=0x7e).chain(0x80..=0xbf);
        all.into_iter()
            .all(|byte| table.id(&[byte]).is_some())
            .then_some(table)
    }

    /// What a token stands for; empty for special tokens.
    pub fn of(&self, id: u32) -> &[u8] {
        self.bytes.get(id as usize).map_or(&[], Vec::as_slice)
    }

    /// All tokens that stand for bytes, in the order of these.
    pub fn sorted(&self) -> &[u32] {
        &self.sorted
    }

    fn id(&self, bytes: &[u8]) -> Option<u32> {
        let found = self.sorted.binary_search_by(|&id| self.of(id).cmp(bytes));
        found.ok().map(|at| self.sorted[at])
    }

    /// Tokens that together stand for `bytes`, the longest each time.
    pub fn cover(&self, mut bytes: &[u8]) -> Vec<u32> {
        let mut ids = Vec::new();
        while !bytes.is_empty() {
            let most = bytes.len().min(self.longest);
            let found = (1..=most)
                .rev()
                .find_map(|n| Some((self.id(&bytes[..n])?, n)));
            let Some((id, n)) = found else {
                break;
            };
            ids.push(id);
            bytes = &bytes[n..];
        }
        ids
    }
}

/// The byte that a character of a byte-level vocabulary stands for (`bytes_to_unicode` of GPT-2):
/// printable ones themselves, the others from U+0100 on.
fn byte(written: char) -> Option<u8> {
    let code = u32::from(written);
    let printable = |code: u32| matches!(code, 0x21..=0x7e | 0xa1..=0xac | 0xae..=0xff);
    if printable(code) {
        return u8::try_from(code).ok();
    }
    let nth = code.checked_sub(0x100)? as usize;
    (0..=255u8).filter(|&byte| !printable(byte.into())).nth(nth)
}
