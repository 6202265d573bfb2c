// SPDX-License-Identifier: MPL-2.0

//! Text of users and models in a prompt is text, whatever it spells.
//!
//! A chat template is rendered to one string, in which `<|im_end|>` of the template and `<|im_end|>`
//! that somebody wrote look alike. So what was written is rendered with stand-ins: the first character
//! of each word that would become a control token is another one, which no text has. Control tokens
//! are then cut out of the rendered string, and only between them are the characters put back: what the
//! tokenizer reads there is the text as it was written, next to the template's own words, so that
//! tokens reach over the border as those of the reference do.

use std::borrow::Cow;

/// Characters for use inside a program: Unicode calls them noncharacters, and no text has them. The
/// planes for private use come after them, for a text that has them all the same.
fn candidates() -> impl Iterator<Item = char> {
    ('\u{fdd0}'..='\u{fdef}').chain('\u{f0000}'..='\u{ffffd}')
}

/// What stands for the first characters of reserved words in some texts.
#[derive(Debug, Default)]
pub struct Quote<'w> {
    /// The reserved words that the texts contain.
    words: Vec<&'w str>,
    /// First characters of these, and what stands for each.
    stand_ins: Vec<(char, char)>,
}

impl<'w> Quote<'w> {
    /// For texts that may contain any of `reserved`.
    pub fn new(reserved: impl IntoIterator<Item = &'w str>, texts: &[&str]) -> Self {
        let mut quote = Self::default();
        let mut free = candidates().filter(|&c| !texts.iter().any(|text| text.contains(c)));
        for word in reserved {
            let Some(first) = word.chars().next() else {
                continue;
            };
            if !texts.iter().any(|text| text.contains(word)) {
                continue;
            }
            quote.words.push(word);
            if !quote.stand_ins.iter().any(|(of, _)| *of == first) {
                quote.stand_ins.extend(free.next().map(|c| (first, c)));
            }
        }
        quote
    }

    /// One of the texts, in which none of the words is found any more.
    pub fn hide<'t>(&self, text: &'t str) -> Cow<'t, str> {
        let mut hidden = Cow::Borrowed(text);
        for word in &self.words {
            let found = word.chars().next().and_then(|first| {
                let stand_in = self.stand_ins.iter().find(|(of, _)| *of == first)?.1;
                Some((first, stand_in))
            });
            let Some((first, stand_in)) = found else {
                continue;
            };
            let rest = &word[first.len_utf8()..];
            // Words may overlap with themselves.
            while hidden.contains(word) {
                hidden = Cow::Owned(hidden.replace(word, &format!("{stand_in}{rest}")));
            }
        }
        hidden
    }

    /// What was written where `c` is read.
    pub fn show(&self, c: char) -> char {
        let found = self.stand_ins.iter().find(|(_, stand_in)| *stand_in == c);
        found.map_or(c, |(first, _)| *first)
    }

    /// Whether the texts contain none of the words.
    pub fn is_empty(&self) -> bool {
        self.stand_ins.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const WORDS: [&str; 5] = ["<|a|>", "<|ab|>", "[x]", "aa", "\n"];

    fn shown(quote: &Quote<'_>, text: &str) -> String {
        text.chars().map(|c| quote.show(c)).collect()
    }

    #[test]
    fn texts_without_reserved_words_are_not_touched() {
        let quote = Quote::new(WORDS, &["a < b", "<|a |>"]);
        assert!(quote.is_empty());
        assert!(matches!(quote.hide("a < b"), Cow::Borrowed("a < b")));
    }

    #[test]
    fn a_text_that_has_the_stand_ins_gets_others() {
        let text = "\u{fdd0}<|a|>\u{fdd1}";
        let quote = Quote::new(WORDS, &[text]);
        assert_eq!(quote.hide(text), "\u{fdd0}\u{fdd2}|a|>\u{fdd1}");
        assert_eq!(shown(&quote, &quote.hide(text)), text);
    }

    proptest! {
        #[test]
        fn whatever_is_hidden_has_no_reserved_word_and_comes_back(
            text in "(<\\|a\\|>|<\\|ab\\|>|\\[x\\]|a|<|\\||\n|\u{fdd0}|\u{f0000}|é){0,24}"
        ) {
            let quote = Quote::new(WORDS, &[&text]);
            let hidden = quote.hide(&text);
            prop_assert!(!WORDS.iter().any(|word| hidden.contains(word)), "{}", hidden);
            prop_assert_eq!(shown(&quote, &hidden), text);
        }
    }
}
