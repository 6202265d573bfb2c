// SPDX-License-Identifier: MPL-2.0

//! How much of a prompt is found in the cache, and how a bmodel goes on from there.

use super::layout::{History, Layout};
use crate::rows::{Row, Source};
use crate::sequence::Reuse;

/// Rows that are fed one by one rather than computing all again, where a bmodel cannot continue
/// from rows: a step costs about a thirtieth of a prefill.
const MAX_FED_ROWS: usize = 8;

/// Rows that a question after another is fed one by one, where the prefill nets cannot see the rows
/// that the two have in common; with more, its prompt is computed anew.
pub(super) const MAX_CONTINUED_ROWS: usize = 24;

/// Rows of the cache that the prefill nets can see.
pub(super) fn visible_rows(layout: &Layout) -> usize {
    match layout.prefill.history {
        History::None => 0,
        History::Inside(rows) | History::Separate(rows) => rows,
    }
}

impl Reuse for Layout {
    fn reusable(&self, rows: &[Row], n_equal: usize) -> usize {
        let rest = &rows[n_equal..];
        let is_token = |row: &Row| matches!(row.source, Source::Token(_));
        match self.prefill.history {
            // The rest is fed token by token.
            History::None if rest.len() > MAX_FED_ROWS || !rest.iter().all(is_token) => 0,
            _ => n_equal,
        }
    }

    fn prompt_rows(&self, n: usize, n_reused: usize) -> usize {
        n - n_reused
    }
}

#[cfg(test)]
mod tests {
    use super::super::bmodel::tests::parsed;
    use super::*;

    fn of(name: &str) -> Layout {
        Layout::of(&parsed(name), name).unwrap()
    }

    /// `n` tokens, the one at `visual` a row of a picture.
    fn rows(n: usize, visual: Option<usize>) -> Vec<Row> {
        let source = |i| match visual {
            Some(at) if at == i => Source::Visual(1, 0),
            _ => Source::Token(7),
        };
        let row = |i| Row {
            source: source(i),
            position: [i as u32; 3],
        };
        (0..n).map(row).collect()
    }

    #[test]
    fn nets_with_history_go_on_from_any_row() {
        let layout = of("q3_kv");
        assert_eq!(layout.reusable(&rows(200, Some(150)), 100), 100);
        assert_eq!(visible_rows(&layout), 256);
        assert_eq!(layout.prompt_rows(200, 100), 100);
    }

    #[test]
    fn nets_without_history_go_on_if_a_few_tokens_are_left() {
        let layout = of("q3_static");
        assert_eq!(layout.reusable(&rows(100, Some(50)), 92), 92);
        assert_eq!(layout.reusable(&rows(100, Some(50)), 91), 0);
        assert_eq!(layout.reusable(&rows(100, Some(95)), 92), 0);
        assert_eq!(visible_rows(&layout), 0);
    }
}
