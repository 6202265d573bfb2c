// SPDX-License-Identifier: MPL-2.0

//! The command line: a command, then options that are asked for by name.

use std::str::FromStr;

/// What the user typed and no one has taken yet.
pub struct Args {
    left: Vec<String>,
}

impl Args {
    /// Takes over the words after the program's name.
    pub fn new(words: impl Iterator<Item = String>) -> Self {
        Self {
            left: words.collect(),
        }
    }

    /// The next word, if any is left.
    pub fn word(&mut self) -> Option<String> {
        (!self.left.is_empty()).then(|| self.left.remove(0))
    }

    /// Whether `name` is among the words; takes it away.
    pub fn flag(&mut self, name: &str) -> bool {
        let before = self.left.len();
        self.left.retain(|word| word != name);
        self.left.len() < before
    }

    /// The value of `--name value` or `--name=value`.
    ///
    /// # Errors
    /// A sentence if the value is missing or does not parse.
    pub fn value<T: FromStr>(&mut self, name: &str) -> Result<Option<T>, String> {
        let prefix = format!("{name}=");
        let Some(at) = self
            .left
            .iter()
            .position(|word| word == name || word.starts_with(&prefix))
        else {
            return Ok(None);
        };
        let word = self.left.remove(at);
        let value = match word.strip_prefix(&prefix) {
            Some(value) => value.to_owned(),
            None if at < self.left.len() => self.left.remove(at),
            None => return Err(format!("{name} needs a value")),
        };
        match value.parse() {
            Ok(parsed) => Ok(Some(parsed)),
            Err(_) => Err(format!("{name} cannot be `{value}`")),
        }
    }

    /// Prints `text` if help was asked for; the command then has nothing else to do.
    pub fn help(&mut self, text: &str) -> bool {
        let asked = self.flag("--help") | self.flag("-h");
        if asked {
            println!("{text}");
        }
        asked
    }

    /// Whether nothing is left.
    pub fn is_empty(&self) -> bool {
        self.left.is_empty()
    }

    /// All words that are left, for another program.
    pub fn rest(self) -> Vec<String> {
        self.left
    }

    /// Refuses words that no one took.
    ///
    /// # Errors
    /// A sentence that names the first of them.
    pub fn finish(self) -> Result<(), String> {
        match self.left.first() {
            None => Ok(()),
            Some(word) => Err(format!("unknown option `{word}`; --help lists them")),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn args(line: &str) -> Args {
        Args::new(line.split_whitespace().map(str::to_owned))
    }

    #[test]
    fn both_spellings_of_a_value_are_read() {
        assert_eq!(args("--seconds 12").value::<u32>("--seconds"), Ok(Some(12)));
        assert_eq!(args("--seconds=12").value::<u32>("--seconds"), Ok(Some(12)));
        assert_eq!(args("--show").value::<u32>("--seconds"), Ok(None));
    }

    #[test]
    fn a_missing_or_wrong_value_is_refused() {
        assert!(args("--seconds").value::<u32>("--seconds").is_err());
        assert!(args("--seconds soon").value::<u32>("--seconds").is_err());
    }

    #[test]
    fn a_word_nobody_takes_is_refused() {
        let mut words = args("--quick --loud");
        assert!(words.flag("--quick"));
        assert_eq!(
            words.finish(),
            Err("unknown option `--loud`; --help lists them".into())
        );
    }
}
