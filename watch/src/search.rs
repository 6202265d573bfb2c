// SPDX-License-Identifier: MPL-2.0

//! What somebody looks for: words, "phrases", beginnings*, -not, and `camera:`, `alarm:`, `after:`, `before:`.
//!
//! A text is cut into words once ([`words`]): what is indexed, what is looked for and what is marked are
//! cut alike. Languages that write no spaces are cut into characters, and a word of them is a phrase.

use std::collections::BTreeMap;
use std::ops::Range;

use crate::time::{self, Millis};

/// A query, read.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Query {
    terms: Vec<Term>,
    pub cameras: Vec<String>,
    /// Said while one of these alarmed.
    pub alarms: Vec<String>,
    pub after: Option<Millis>,
    pub before: Option<Millis>,
}

/// Words that follow each other.
#[derive(Debug, Clone, PartialEq)]
struct Term {
    words: Vec<String>,
    /// What is meant as well.
    also: Vec<Vec<String>>,
    /// The last word may go on.
    prefix: bool,
    not: bool,
}

/// Words, and those that are meant by them as well.
pub type Synonyms = BTreeMap<String, Vec<String>>;

/// The most terms of a query; more are refused, since each costs a look-up.
const MOST_TERMS: usize = 20;

impl Query {
    /// Reads what somebody typed.
    ///
    /// # Errors
    /// A sentence that says what cannot be looked for.
    pub fn parse(text: &str, now: Millis) -> Result<Self, String> {
        let mut query = Self::default();
        for piece in pieces(text) {
            if let Some((key, value)) = piece.filter() {
                match key {
                    "camera" => query.cameras.push(value.to_owned()),
                    "alarm" => query.alarms.push(value.to_owned()),
                    "after" => query.after = Some(time::typed(value, now)?),
                    _ => query.before = Some(time::typed(value, now)?),
                }
                continue;
            }
            let words: Vec<String> = words(&piece.text).map(|(_, word)| word).collect();
            if !words.is_empty() {
                query.terms.push(Term {
                    words,
                    also: Vec::new(),
                    prefix: piece.prefix,
                    not: piece.not,
                });
            }
        }
        if query.terms.len() > MOST_TERMS {
            return Err(format!("a search has {MOST_TERMS} words at most"));
        }
        if !query.terms.is_empty() && query.terms.iter().all(|term| term.not) {
            return Err("name a word that is to be there, beside those that are not".into());
        }
        Ok(query)
    }

    /// Has words mean others as well, as somebody has listed them.
    #[must_use]
    pub fn widened(mut self, synonyms: &Synonyms) -> Self {
        for term in &mut self.terms {
            let meant = synonyms.iter().filter(|(word, _)| {
                let listed = words(word).map(|(_, word)| word);
                listed.eq(term.words.iter().cloned())
            });
            let others = meant.flat_map(|(_, others)| others);
            term.also = others
                .map(|other| words(other).map(|(_, word)| word).collect())
                .filter(|words: &Vec<String>| !words.is_empty())
                .collect();
        }
        self
    }

    /// Whether it asks for no word, so that every caption is meant.
    pub fn is_any(&self) -> bool {
        self.terms.is_empty()
    }

    /// Whether it asks for beginnings of words.
    pub fn has_beginnings(&self) -> bool {
        self.terms.iter().any(|term| term.prefix)
    }

    /// The same as an expression of FTS5; bind it, never paste it.
    pub fn expression(&self) -> String {
        let spelled = |term: &Term| {
            let star = if term.prefix { "*" } else { "" };
            // Words hold letters and digits alone, so nothing in them can end the quotation.
            let typed = format!("\"{}\"{star}", term.words.join(" "));
            let also = term
                .also
                .iter()
                .map(|words| format!("\"{}\"", words.join(" ")));
            let all: Vec<String> = std::iter::once(typed).chain(also).collect();
            if all.len() == 1 {
                all.concat()
            } else {
                format!("({})", all.join(" OR "))
            }
        };
        let wanted = self.terms.iter().filter(|term| !term.not).map(spelled);
        let wanted = wanted.collect::<Vec<_>>().join(" AND ");
        let unwanted = self.terms.iter().filter(|term| term.not);
        unwanted.fold(wanted, |all, term| format!("({all}) NOT {}", spelled(term)))
    }

    /// Whether a text that is not in the index yet has it.
    pub fn matches(&self, text: &str) -> bool {
        let words: Vec<String> = words(text).map(|(_, word)| word).collect();
        let has = |term: &Term| (0..words.len()).any(|at| term.length_at(&words[at..]).is_some());
        self.terms.iter().all(|term| has(term) != term.not)
    }

    /// The parts of a text that were looked for, in bytes, in order and apart from each other.
    pub fn marks(&self, text: &str) -> Vec<Range<usize>> {
        let (places, words): (Vec<_>, Vec<_>) = words(text).unzip();
        let mut marks: Vec<Range<usize>> = Vec::new();
        for at in 0..words.len() {
            let found = self
                .terms
                .iter()
                .filter(|term| !term.not)
                .filter_map(|term| term.length_at(&words[at..]));
            let Some(length) = found.max() else {
                continue;
            };
            let mark = places[at].start..places[at + length - 1].end;
            match marks.last_mut() {
                Some(last) if mark.start <= last.end => last.end = last.end.max(mark.end),
                _ => marks.push(mark),
            }
        }
        marks
    }
}

impl Term {
    /// How many of these words are it, if they begin with it.
    fn length_at(&self, words: &[String]) -> Option<usize> {
        let n = self.words.len();
        let typed = words.len() >= n
            && self.words[..n - 1] == words[..n - 1]
            && if self.prefix {
                words[n - 1].starts_with(&self.words[n - 1])
            } else {
                words[n - 1] == self.words[n - 1]
            };
        let also = self.also.iter().filter(|also| words.starts_with(also));
        also.map(Vec::len).chain(typed.then_some(n)).max()
    }
}

/// What goes into the index for a text: its words with blanks between them.
pub fn indexed(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for (_, word) in words(text) {
        if !out.is_empty() {
            out.push(' ');
        }
        out.push_str(&word);
    }
    out
}

/// The words of a text in small letters, and where they are.
pub fn words(text: &str) -> impl Iterator<Item = (Range<usize>, String)> + '_ {
    let mut rest = text.char_indices().peekable();
    std::iter::from_fn(move || {
        let (start, first) = rest.by_ref().find(|(_, c)| c.is_alphanumeric())?;
        let mut end = start + first.len_utf8();
        if !stands_alone(first) {
            while let Some((at, c)) =
                rest.next_if(|(_, c)| c.is_alphanumeric() && !stands_alone(*c))
            {
                end = at + c.len_utf8();
            }
        }
        Some((start..end, text[start..end].to_lowercase()))
    })
}

/// Characters of scripts without spaces between words: Han, kana, Hangul syllables are cut as well,
/// since particles follow a Korean word without a space; Thai, Lao, Khmer and Burmese.
fn stands_alone(c: char) -> bool {
    matches!(c,
        '\u{0e00}'..='\u{0eff}'
        | '\u{1000}'..='\u{109f}'
        | '\u{1780}'..='\u{17ff}'
        | '\u{3005}'..='\u{3007}'
        | '\u{3040}'..='\u{30ff}'
        | '\u{31f0}'..='\u{31ff}'
        | '\u{3400}'..='\u{4dbf}'
        | '\u{4e00}'..='\u{9fff}'
        | '\u{ac00}'..='\u{d7af}'
        | '\u{f900}'..='\u{faff}'
        | '\u{20000}'..='\u{3fffd}')
}

/// A word or a quoted phrase as it was typed.
struct Piece {
    text: String,
    quoted: bool,
    prefix: bool,
    not: bool,
}

impl Piece {
    /// The key and value of `camera:front`.
    fn filter(&self) -> Option<(&str, &str)> {
        let (key, value) = self.text.split_once(':').filter(|_| !self.quoted)?;
        let known = ["camera", "alarm", "after", "before"].contains(&key) && !value.is_empty();
        known.then_some((key, value))
    }
}

fn pieces(text: &str) -> Vec<Piece> {
    let mut pieces = Vec::new();
    let mut rest = text.trim_start();
    while !rest.is_empty() {
        let not = rest.len() > 1 && rest.starts_with('-');
        rest = &rest[usize::from(not)..];
        let quoted = rest.starts_with('"');
        let body = &rest[usize::from(quoted)..];
        let end = if quoted {
            body.find('"')
        } else {
            body.find(char::is_whitespace)
        };
        let end = end.unwrap_or(body.len());
        let (piece, after) = body.split_at(end);
        let after = if quoted {
            after.strip_prefix('"').unwrap_or(after)
        } else {
            after
        };
        let after_star = after.strip_prefix('*').filter(|_| quoted);
        pieces.push(Piece {
            text: piece.to_owned(),
            quoted,
            prefix: after_star.is_some() || (!quoted && piece.ends_with('*')),
            not,
        });
        rest = after_star.unwrap_or(after).trim_start();
    }
    pieces
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn query(text: &str) -> Query {
        Query::parse(text, Millis(0)).unwrap()
    }

    #[test]
    fn words_phrases_beginnings_and_exclusions_are_told_apart() {
        let text = "A person in a Red coat walks a dog.";
        for (typed, found) in [
            ("person", true),
            ("PERSON dog", true),
            ("pers", false),
            ("pers*", true),
            ("\"red coat\"", true),
            ("\"coat red\"", false),
            ("\"red co\"*", true),
            ("person -cat", true),
            ("person -dog", false),
        ] {
            assert_eq!(query(typed).matches(text), found, "{typed}");
        }
    }

    #[test]
    fn a_word_inside_a_chinese_sentence_is_found_and_marked() {
        let text = "一个人站在门口。";
        let query = query("门口");
        assert!(query.matches(text));
        assert_eq!(query.expression(), "\"门 口\"");
        let marks = query.marks(text);
        assert_eq!(marks.len(), 1);
        assert_eq!(&text[marks[0].clone()], "门口");
    }

    #[test]
    fn filters_leave_the_words() {
        let query = query("camera:front after:1970-01-01T00:00:01Z dog a:b");
        assert_eq!(query.cameras, ["front"]);
        assert_eq!(query.after, Some(Millis(1_000)));
        assert_eq!(query.expression(), "\"dog\" AND \"a b\"");
    }

    #[test]
    fn a_word_means_what_is_listed_for_it_as_well() {
        let listed = [
            ("person", vec!["man", "young woman", "人"]),
            ("red coat", vec!["jacket"]),
        ];
        let listed = listed.map(|(word, others)| {
            (
                word.to_owned(),
                others.into_iter().map(str::to_owned).collect(),
            )
        });
        let widened = |text: &str| query(text).widened(&listed.clone().into());
        let text = "A young woman waits.";
        assert!(widened("Person").matches(text) && !query("person").matches(text));
        assert_eq!(widened("person").marks(text).first(), Some(&(2..13)));
        assert_eq!(
            widened("person -dog").expression(),
            "((\"person\" OR \"man\" OR \"young woman\" OR \"人\")) NOT \"dog\""
        );
        assert!(widened("\"red coat\"").matches("A jacket."));
        assert!(widened("wait* person").matches(text));
        // One way: who looks for a man does not mean a person.
        assert!(!widened("man").matches("A person."));
    }

    #[test]
    fn a_query_of_exclusions_alone_is_refused() {
        assert!(Query::parse("-dog", Millis(0)).is_err());
        assert!(Query::parse(&"a ".repeat(21), Millis(0)).is_err());
        assert!(query("").is_any());
    }

    proptest! {
        /// Whatever is typed, SQLite takes the expression, and finds what `matches` finds.
        #[test]
        fn sqlite_and_the_unindexed_tail_agree(typed in "[a-c\"*: -]{0,12}", text in "[a-cA-C ,.-]{0,20}") {
            let Ok(query) = Query::parse(&typed, Millis(0)) else { return Ok(()) };
            let query = query.widened(&Synonyms::from([("a".into(), vec!["b c".into(), "c".into()])]));
            if query.is_any() { return Ok(()) }
            let db = rusqlite::Connection::open_in_memory().unwrap();
            db.execute_batch("CREATE VIRTUAL TABLE f USING fts5(text, tokenize = 'unicode61 remove_diacritics 0')").unwrap();
            db.execute("INSERT INTO f VALUES (?1)", [indexed(&text)]).unwrap();
            let sql = "SELECT count(*) FROM f WHERE f MATCH ?1";
            let n: i64 = db.query_row(sql, [query.expression()], |row| row.get(0)).unwrap();
            prop_assert_eq!(n == 1, query.matches(&text));
        }

        /// Nothing that is typed is anything but words to SQLite.
        #[test]
        fn no_query_is_an_error_of_sqlite(typed in "\\PC{0,40}") {
            let Ok(query) = Query::parse(&typed, Millis(0)) else { return Ok(()) };
            if query.is_any() { return Ok(()) }
            let db = rusqlite::Connection::open_in_memory().unwrap();
            db.execute_batch("CREATE VIRTUAL TABLE f USING fts5(text, tokenize = 'unicode61 remove_diacritics 0')").unwrap();
            let sql = "SELECT count(*) FROM f WHERE f MATCH ?1";
            let n: rusqlite::Result<i64> = db.query_row(sql, [query.expression()], |row| row.get(0));
            prop_assert!(n.is_ok(), "{n:?}");
        }
    }
}
