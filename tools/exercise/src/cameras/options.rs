// SPDX-License-Identifier: MPL-2.0

//! What the cameras are told to do.

use std::fmt::Write;

pub const HELP: &str = "\
vlmcaption-exercise cameras COUNT SECONDS [options] [PROPERTY=VALUE...]

Plays COUNT live cameras for SECONDS, each through a vlmcaption with the properties, and prints what
each got. Counting begins when all have had a caption.

  --rtsp SCRIPT       the cameras are clients of this RTSP server; else videotestsrc
  --fps N             frames a second of each camera (10)
  --pattern NAME      of videotestsrc (ball)
  --models DIR,...    the cameras take these models in turns: a folder or link each makes an engine each
  --engine-core N     engines run on this core alone (needs taskset)
  --kill PID          kills this process after a third of the time (several with commas), and says
                      what was lost and how soon captions came again
  --cut SECONDS       the server of server-uri cannot be reached for so long after a third of the time;
                      all buffers have to say so within a second of the next window, and no more 5 s after
                      the first one once it is back
  --text TEXT         what every caption has to say; another one is a failure
  --json FILE         writes the figures";

/// What to play.
#[derive(Default)]
pub struct Options {
    pub count: usize,
    pub seconds: f64,
    pub rtsp: Option<String>,
    pub fps: u32,
    pub pattern: String,
    pub models: Vec<String>,
    pub core: Option<String>,
    pub kill: Vec<String>,
    pub cut: Option<f64>,
    pub text: Option<String>,
    pub json: Option<String>,
    pub properties: String,
}

/// Reads the words.
///
/// # Errors
/// A word that is no option or number, with the help.
pub fn parse(words: &[&str]) -> Result<Options, String> {
    let [count, seconds, rest @ ..] = words else {
        return Err(HELP.to_owned());
    };
    let no = |word: &str| format!("`{word}` is not a number that fits\n{HELP}");
    let mut options = Options {
        count: count.parse().map_err(|_| no(count))?,
        seconds: seconds.parse().map_err(|_| no(seconds))?,
        fps: 10,
        pattern: "ball".to_owned(),
        ..Options::default()
    };
    let mut rest = rest.iter();
    while let Some(word) = rest.next() {
        if !word.starts_with("--") {
            let _ = write!(options.properties, " {word}");
            continue;
        }
        let value = *rest
            .next()
            .ok_or_else(|| format!("{word} needs a value\n{HELP}"))?;
        let list = || value.split(',').map(str::to_owned).collect();
        match *word {
            "--rtsp" => options.rtsp = Some(value.to_owned()),
            "--fps" => options.fps = value.parse().map_err(|_| no(value))?,
            "--pattern" => value.clone_into(&mut options.pattern),
            "--models" => options.models = list(),
            "--engine-core" => options.core = Some(value.to_owned()),
            "--kill" => options.kill = list(),
            "--cut" => options.cut = Some(value.parse().map_err(|_| no(value))?),
            "--text" => options.text = Some(value.to_owned()),
            "--json" => options.json = Some(value.to_owned()),
            _ => return Err(format!("there is no option {word}\n{HELP}")),
        }
    }
    Ok(options)
}
