// SPDX-License-Identifier: MPL-2.0

//! The command line.

use std::ops::Range;
use std::path::PathBuf;

use gstvlmcaption::caption::evidence::again::Asked;
use gstvlmcaption::caption::question::Kind;

use crate::questions;

/// What `--help` says.
pub const HELP: &str = "\
vlmcaption-replay makes captions again from the records that vlmcaption keeps (evidence=FOLDER).

Usage:
  vlmcaption-replay [OPTIONS] RECORD...
      Makes each record's caption again and says whether it is the same, and where it begins to
      differ. RECORD is a record's folder, or a folder of records. Exit status: 0 the same,
      1 something differs, 2 it could not be done.
  vlmcaption-replay [OPTIONS] --prompt TEXT RECORD...
      Asks something else about the same frames, and prints the answers.
  vlmcaption-replay [OPTIONS] --table QUESTIONS.toml RECORD...
      Asks every question about every record: p of yes, thresholds against marked truth.
  vlmcaption-replay --trace TRACE.json --svg FILE
      Draws where the time of windows went, from a file that VLMCAPTION_TRACE names.

Which model answers (as recorded, unless set):
  --backend NAME         cpu, sophgo, axera, openai or mock
  --model PATH           a checkpoint, a .bmodel, a folder of .axmodel files
  --NAME VALUE           any other property of the element that chooses a model or a server:
                         config, device, precision, server-uri, model-name, api-key-file, ...
                         (a server's address is in no record: give --server-uri)

What is asked:
  --prompt TEXT          another question, with the element's variables {stream}, {start}, ...
  --kind KIND            caption, yes-no, count, or choice:RED,GREEN; as recorded, unless set
  --max-tokens N         as recorded, unless set
  --window A..B          only frames A to B-1 of each record, counted from 0

Tables:
  --truth FILE           lines RECORD,QUESTION,yes|no: what is true; RECORD may be a span of time,
                         2026-11-29T22:50:00Z..2026-11-29T22:51:00Z
  --write-truth FILE     writes such a file for these records, to be filled in, and ends
  --svg FILE             p of yes over time as a picture, with truth and thresholds

Other:
  --json                 one JSON object a record, for programs
  --help, --version
";

/// What is to be done.
#[derive(Debug, Clone, PartialEq)]
pub enum Job {
    /// Prints [`HELP`].
    Help,
    /// Prints the version.
    Version,
    /// Makes captions again.
    Again(Options),
    /// Asks a file of questions.
    Table(Options, PathBuf),
    /// Draws spans.
    Trace {
        /// As the element has written them.
        trace: PathBuf,
        /// Where to.
        svg: PathBuf,
    },
}

/// How it is to be done.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Options {
    /// Records, and folders of them.
    pub records: Vec<PathBuf>,
    /// Properties of the element that choose a model, in their order.
    pub properties: Vec<(String, String)>,
    /// Another question.
    pub asked: Option<Asked>,
    /// Only these frames.
    pub window: Option<Range<usize>>,
    /// Marked truth.
    pub truth: Option<PathBuf>,
    /// Where to write a file of truth.
    pub write_truth: Option<PathBuf>,
    /// Where to draw.
    pub svg: Option<PathBuf>,
    /// For programs.
    pub json: bool,
}

impl Options {
    /// Reads the words of a command line.
    ///
    /// # Errors
    /// A sentence that names the word.
    pub fn parse(words: &[String]) -> Result<Job, String> {
        let mut options = Self::default();
        let (mut table, mut prompt, mut kind, mut max_tokens) = (None, None, None, None);
        let mut trace: Option<PathBuf> = None;
        let mut words = words.iter();
        while let Some(word) = words.next() {
            let Some(name) = word.strip_prefix("--") else {
                options.records.push(word.into());
                continue;
            };
            match name {
                "help" => return Ok(Job::Help),
                "version" => return Ok(Job::Version),
                "json" => {
                    options.json = true;
                    continue;
                }
                _ => {}
            }
            let (name, value) = match name.split_once('=') {
                Some((name, value)) => (name, value.to_owned()),
                None => {
                    let value = words.next();
                    (
                        name,
                        value.ok_or(format!("--{name} needs a value"))?.clone(),
                    )
                }
            };
            match name {
                "trace" => trace = Some(value.into()),
                "table" => table = Some(PathBuf::from(value)),
                "prompt" => prompt = Some(value),
                "kind" => kind = Some(questions::kind(&value)?),
                "max-tokens" => {
                    let n = value.parse().ok().filter(|n| *n > 0);
                    max_tokens =
                        Some(n.ok_or(format!("--max-tokens {value} is no number above 0"))?);
                }
                "window" => options.window = Some(range(&value)?),
                "truth" => options.truth = Some(value.into()),
                "write-truth" => options.write_truth = Some(value.into()),
                "svg" => options.svg = Some(value.into()),
                name => options.properties.push((name.to_owned(), value)),
            }
        }
        if let Some(trace) = trace {
            let svg = options.svg.ok_or("--trace needs --svg FILE to draw to")?;
            return Ok(Job::Trace { trace, svg });
        }
        let question = (prompt, kind, max_tokens);
        options.job(table, question)
    }

    /// What is to be done, once all words are read.
    fn job(
        mut self,
        table: Option<PathBuf>,
        (prompt, kind, max_tokens): (Option<String>, Option<Kind>, Option<usize>),
    ) -> Result<Job, String> {
        if self.records.is_empty() {
            return Err("name a record, or a folder of records; --help tells more".into());
        }
        let changes = kind.is_some() || max_tokens.is_some();
        self.asked = match prompt {
            Some(text) => Some(Asked {
                text,
                kind,
                max_tokens,
            }),
            None if changes => {
                return Err(
                    "--kind and --max-tokens go with --prompt; in a table each question has \
                            its own"
                        .into(),
                );
            }
            None => None,
        };
        match table {
            Some(_) if self.asked.is_some() => {
                Err("--prompt and --table exclude each other".into())
            }
            Some(table) => Ok(Job::Table(self, table)),
            None if self.truth.is_some() || self.write_truth.is_some() || self.svg.is_some() => {
                Err("--truth, --write-truth and --svg go with --table".into())
            }
            None => Ok(Job::Again(self)),
        }
    }
}

/// `A..B`, of which either may be missing.
fn range(text: &str) -> Result<Range<usize>, String> {
    let wrong = || format!("--window {text} is no span of frames such as 0..2");
    let (from, to) = text.split_once("..").ok_or_else(wrong)?;
    let number = |text: &str, missing: usize| match text.trim() {
        "" => Ok(missing),
        text => text.parse().map_err(|_| wrong()),
    };
    Ok(number(from, 0)?..number(to, usize::MAX)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(line: &str) -> Result<Job, String> {
        let words: Vec<String> = line.split_whitespace().map(str::to_owned).collect();
        Options::parse(&words)
    }

    #[test]
    fn words_become_a_job() {
        let Ok(Job::Again(options)) = parse("--backend cpu a --precision=f32 --window 1..3 b")
        else {
            panic!("no job");
        };
        assert_eq!(options.records, ["a", "b"].map(PathBuf::from));
        let pair = |name: &str, value: &str| (name.to_owned(), value.to_owned());
        let want = [pair("backend", "cpu"), pair("precision", "f32")];
        assert_eq!(options.properties, want);
        assert_eq!(options.window, Some(1..3));
        assert_eq!(parse("a --help"), Ok(Job::Help));
        assert!(matches!(
            parse("--trace t.json --svg t.svg"),
            Ok(Job::Trace { .. })
        ));
        assert!(matches!(
            parse("--table q.toml a --svg x"),
            Ok(Job::Table(..))
        ));
    }

    #[test]
    fn what_cannot_be_done_is_told() {
        for (line, want) in [
            ("", "name a record"),
            ("a --prompt", "needs a value"),
            ("a --window 3", "no span of frames"),
            ("a --kind yes-no", "go with --prompt"),
            ("a --truth t", "go with --table"),
            ("--trace t.json", "needs --svg"),
            ("a --prompt x --table t", "exclude each other"),
            ("a --prompt x --kind maybe", "maybe"),
            ("a --prompt x --max-tokens 0", "no number above 0"),
        ] {
            let error = parse(line).unwrap_err();
            assert!(error.contains(want), "{line}: {error}");
        }
    }
}
