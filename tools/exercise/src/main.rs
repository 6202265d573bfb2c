// SPDX-License-Identifier: MPL-2.0

//! `vlmcaption-exercise`: puts the built plugin through what a long-running application does to it.
//!
//! `transitions` plays, pauses, seeks, flushes, changes caps, ends and restarts; `tests/leaks.sh`
//! runs it under the leaks tracer and with criticals made fatal. `camera` plays a real RTSP server
//! that is killed and comes back; `tests/rtsp.sh` runs it. `clips` and `cameras` measure what a server
//! says and what many cameras get; `cargo xtask test --remote` runs them. `soak`, `saturated` and `churn` go on for as
//! long as they are told; `tests/soak.sh` runs them.

mod camera;
mod cameras;
mod churn;
mod clips;
mod drafts;
mod leaks;
mod saturated;
mod slope;
mod soak;
mod stage;
mod transitions;

use std::process::ExitCode;

const HELP: &str = "\
vlmcaption-exercise transitions [--loops N] [--only NAME]
vlmcaption-exercise camera SERVER-SCRIPT
vlmcaption-exercise soak MINUTES [RATE]
vlmcaption-exercise saturated WINDOWS [ELEMENTS]
vlmcaption-exercise churn MINUTES [THREADS]
vlmcaption-exercise clips [--still] [PROPERTY=VALUE...]
vlmcaption-exercise drafts SECONDS [PROPERTY=VALUE...]
vlmcaption-exercise frames FOLDER
vlmcaption-exercise cameras COUNT SECONDS [options] [PROPERTY=VALUE...]

  transitions   play, pause, seek, flush, caps changes, end, restart, text-pad,
                N READY-PLAYING loops (100)
  camera        an RTSP server on loopback, killed and restarted under a running pipeline
  soak          RATE unique captions a second (2) and whether the memory grows
  saturated     WINDOWS of ELEMENTS (16) that share a model slower than their strides, at one frame a
                second of the streams' time and as many as can be of ours; whether memory or the
                time of a push grows
  churn         THREADS pipelines (100) played, paused, sought, flushed and stopped at random
  clips         the committed clips, or their last frames, captioned with these properties and by the
                local engine, and where the two differ
  drafts        SECONDS of a street and of a still scene, captioned with drafts=off and auto in turns: tokens
                drafted and accepted, time for decoding
  frames        two frames of such a clip as JPEG files
  cameras       live cameras that share an engine or a server: who gets what; `cameras --help` says more";

fn main() -> ExitCode {
    let outcome = gst::init()
        .map_err(|error| error.to_string())
        .and_then(|()| run(&std::env::args().skip(1).collect::<Vec<_>>()));
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(reason) => {
            eprintln!("{reason}");
            ExitCode::FAILURE
        }
    }
}

fn run(words: &[String]) -> Result<(), String> {
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    match words[..] {
        ["transitions", ref options @ ..] => {
            let (mut loops, mut only) = (100, None);
            for option in options.chunks(2) {
                match *option {
                    ["--loops", count] => {
                        let parsed = count.parse();
                        loops = parsed.map_err(|_| format!("--loops cannot be `{count}`"))?;
                    }
                    ["--only", name] => only = Some(name),
                    _ => return Err(HELP.to_owned()),
                }
            }
            transitions::run(loops, only)
        }
        ["camera", script] => camera::run(script),
        ["soak", minutes] => soak::run(number(minutes)?, 2),
        ["soak", minutes, rate] => soak::run(number(minutes)?, number(rate)?),
        ["saturated", windows] => saturated::run(number(windows)?, 16),
        ["saturated", windows, elements] => saturated::run(number(windows)?, number(elements)?),
        ["churn", minutes] => churn::run(number(minutes)?, 100),
        ["churn", minutes, threads] => churn::run(number(minutes)?, number(threads)?),
        ["clips", "--still", ref properties @ ..] => clips::run(properties, true),
        ["clips", ref properties @ ..] => clips::run(properties, false),
        ["drafts", seconds, ref properties @ ..] => drafts::run(number(seconds)?, properties),
        ["frames", folder] => clips::frames(folder),
        ["cameras", "--help" | "-h"] => {
            println!("{}", cameras::HELP);
            Ok(())
        }
        ["cameras", ref words @ ..] => cameras::run(words),
        ["--help" | "-h"] => {
            println!("{HELP}");
            Ok(())
        }
        _ => Err(HELP.to_owned()),
    }
}

fn number<T: std::str::FromStr>(word: &str) -> Result<T, String> {
    word.parse()
        .map_err(|_| format!("`{word}` is not a number that fits\n{HELP}"))
}
