// SPDX-License-Identifier: MPL-2.0

//! The command line.

pub const HELP: &str = "\
vlmcaption-demo [--show] [--seconds N] [--seed N] [--model DIR] [--expect N]

  --show        also open a window, with the captions drawn over the picture
  --seconds N   how long the street runs (44)
  --seed N      another street (1)
  --model DIR   another model than the built-in one
  --expect N    fail if fewer than N captions are right";

/// What the user wants.
pub enum Asked {
    /// To know what can be asked for.
    Help,
    /// To see the street.
    Run(Options),
}

/// How to show the street.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Options {
    /// Open a window.
    pub show: bool,
    /// Length of the street; even, since captions are about pairs of seconds.
    pub seconds: usize,
    /// Which street.
    pub seed: u64,
    /// Folder of a checkpoint; `None` is the built-in model.
    pub model: Option<String>,
    /// Right captions there have to be.
    pub expect: usize,
}

impl Options {
    /// Reads the words after the program's name.
    ///
    /// # Errors
    /// A sentence about the first word that makes no sense.
    pub fn parse(mut words: impl Iterator<Item = String>) -> Result<Asked, String> {
        let mut options = Self {
            show: false,
            seconds: 44,
            seed: 1,
            model: None,
            expect: 0,
        };
        while let Some(word) = words.next() {
            let mut number = || -> Result<u64, String> {
                let value = words.next().unwrap_or_default();
                let parsed = value.parse();
                parsed.map_err(|_| format!("{word} needs a number, not `{value}`"))
            };
            match word.as_str() {
                "--help" | "-h" => return Ok(Asked::Help),
                "--show" => options.show = true,
                "--seconds" => {
                    let seconds = number()?.clamp(2, 86_400);
                    options.seconds = (seconds as usize).next_multiple_of(2);
                }
                "--seed" => options.seed = number()?,
                "--expect" => options.expect = number()? as usize,
                "--model" => {
                    options.model = Some(words.next().ok_or("--model needs a folder")?);
                }
                other => return Err(format!("unknown option `{other}`\n\n{HELP}")),
            }
        }
        Ok(Asked::Run(options))
    }
}
