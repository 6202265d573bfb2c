// SPDX-License-Identifier: MPL-2.0

//! Rows of bytes for processors that add products of bytes in 16 bits.
//!
//! `vpmaddubsw` multiplies unsigned bytes with signed ones and adds two products in a lane of 16 bits, where they
//! saturate. Unsigned activations are 255 at most, so a sum fits as long as its positive weights come to [`MOST`] at
//! most, and its negative ones too. That is so for most lanes of two words together, which are then added before
//! they are widened: three multiplications for the 64 products of a register in place of four. Where it is not, an
//! activation `x` is *flipped*, `255 - x`, and its weight negated, which changes what comes to what: of two words,
//! one or both lanes of the first. Where that does not help either, the words are multiplied alone, of two weights
//! with one sign that come to more the first one's activation flipped. All sums are exact, of weights from -127 on.
//!
//! Of normally distributed weights 66 of 100 pairs of words are multiplied as they are, 17 flipped, 17 alone.

use super::operands::BLOCK_WORDS;

/// What the weights of one sign in a lane of 16 bits may come to: 128 times 255 is below 2^15.
pub(super) const MOST: i16 = 128;

/// Words that are looked at together.
pub(super) const EIGHT: usize = 8;

/// What was found out about 8 words, that is 4 pairs: a bit for each pair.
pub(super) struct Found {
    /// Pairs that are multiplied as they are.
    pub(super) plain: usize,
    /// Those, and pairs that are multiplied together with what is flipped.
    pub(super) fit: usize,
}

/// The words of a row in a block, by how they are multiplied.
#[derive(Clone)]
#[repr(align(64))]
pub(crate) struct SortedWords {
    n_words: usize,
    n_twos: usize,
    n_flipped: usize,
    n_ones: usize,
    /// What is to be added to the sums of products for the activations that were flipped.
    offset: i32,
    /// Four weights each, those of flipped activations negated.
    weights: [u32; BLOCK_WORDS],
    /// What flips their activations by exclusive or.
    flips: [u32; BLOCK_WORDS],
    // Words of lists are below `n_words`, and so are those after the first ones of pairs.
    /// The first ones of pairs.
    twos: [u8; BLOCK_WORDS / 2],
    /// The first ones of pairs, of which they are flipped.
    flipped: [u8; BLOCK_WORDS / 2],
    ones: [u8; BLOCK_WORDS],
}

const _: () = assert!(BLOCK_WORDS <= 1 << u8::BITS && BLOCK_WORDS.is_multiple_of(EIGHT));

impl Default for SortedWords {
    fn default() -> Self {
        Self {
            n_words: 0,
            n_twos: 0,
            n_flipped: 0,
            n_ones: 0,
            offset: 0,
            weights: [0; BLOCK_WORDS],
            flips: [0; BLOCK_WORDS],
            twos: [0; BLOCK_WORDS / 2],
            flipped: [0; BLOCK_WORDS / 2],
            ones: [0; BLOCK_WORDS],
        }
    }
}

impl SortedWords {
    /// Sorts the words of a row, of at most [`BLOCK_WORDS`], the last of which may not be whole. `look` is given 8
    /// words' weights, zeros beyond the last, and where these and their flips go.
    #[inline(always)]
    pub(super) fn sort(
        &mut self,
        row: &[i8],
        mut look: impl FnMut(&[i8; 4 * EIGHT], &mut [u32; EIGHT], &mut [u32; EIGHT]) -> Found,
    ) {
        assert!(row.len() <= 4 * BLOCK_WORDS);
        debug_assert!(!row.contains(&i8::MIN), "a weight that has no negative");
        let n_words = row.len().div_ceil(4);
        // In registers, not in memory that is written to between.
        let [mut n_twos, mut n_flipped, mut n_ones] = [0; 3];
        let (whole, rest) = row.as_chunks();
        let mut last = [0; 4 * EIGHT];
        last[..rest.len()].copy_from_slice(rest);
        for i in 0..n_words.div_ceil(EIGHT) {
            let first = i * EIGHT;
            let weights = &mut self.weights.as_chunks_mut().0[i];
            let flips = &mut self.flips.as_chunks_mut().0[i];
            let found = look(whole.get(i).unwrap_or(&last), weights, flips);
            let pairs = ((n_words - first) / 2).min(EIGHT / 2);
            let there = (1 << pairs) - 1;
            let first = u64::from_le_bytes([first as u8; 8]);
            let firsts = |set: usize| ((FIRSTS[set] + first) as u32).to_le_bytes();
            // Lists have no more words than were looked at, so four and eight more find room.
            let twos = found.plain & there;
            self.twos[n_twos..][..4].copy_from_slice(&firsts(twos));
            n_twos += COUNTS[twos];
            let flipped = found.fit & !found.plain & there;
            self.flipped[n_flipped..][..4].copy_from_slice(&firsts(flipped));
            n_flipped += COUNTS[flipped];
            let ones = !found.fit & there;
            let words = (BOTH[ones] + first).to_le_bytes();
            self.ones[n_ones..][..8].copy_from_slice(&words);
            n_ones += 2 * COUNTS[ones];
        }
        if n_words % 2 == 1 {
            self.ones[n_ones] = (n_words - 1) as u8;
            n_ones += 1;
        }
        self.n_words = n_words;
        (self.n_twos, self.n_flipped, self.n_ones) = (n_twos, n_flipped, n_ones);
    }

    /// Says what is to be added to the sums of products for the activations that were flipped.
    pub(super) fn set_offset(&mut self, offset: i32) {
        self.offset = offset;
    }

    /// What is to be added to the sums of products.
    pub(super) fn offset(&self) -> i32 {
        self.offset
    }

    /// How many words the row has.
    pub(super) fn n_words(&self) -> usize {
        self.n_words
    }

    /// Words that are multiplied together with the next one. Both are below [`n_words`](Self::n_words), as those of all
    /// lists.
    pub(super) fn twos(&self) -> &[u8] {
        &self.twos[..self.n_twos]
    }

    /// Those of which the first word has flips.
    pub(super) fn flipped(&self) -> &[u8] {
        &self.flipped[..self.n_flipped]
    }

    /// Words that are multiplied alone and may have flips.
    pub(super) fn ones(&self) -> &[u8] {
        &self.ones[..self.n_ones]
    }

    /// The weights of words.
    pub(super) fn weights(&self) -> &[u32; BLOCK_WORDS] {
        &self.weights
    }

    /// What flips their activations by exclusive or.
    pub(super) fn flips(&self) -> &[u32; BLOCK_WORDS] {
        &self.flips
    }
}

/// How many of four bits are set.
const COUNTS: [usize; 16] = {
    let mut counts = [0; 16];
    let mut set = 0usize;
    while set < 16 {
        counts[set] = set.count_ones() as usize;
        set += 1;
    }
    counts
};

/// The first words of the pairs whose bits are set, a byte each.
const FIRSTS: [u64; 16] = listed(1);

/// Both words of them.
const BOTH: [u64; 16] = listed(2);

/// The first `n` words of the pairs whose bits are set, a byte each, the first in the lowest.
const fn listed(n: u64) -> [u64; 16] {
    let mut lists = [0; 16];
    let mut set = 0;
    while set < 16 {
        let (mut pair, mut shift) = (0, 0);
        while pair < 4 {
            let mut word = 0;
            while set >> pair & 1 == 1 && word < n {
                lists[set] |= (2 * pair + word) << shift;
                shift += 8;
                word += 1;
            }
            pair += 1;
        }
        set += 1;
    }
    lists
}
