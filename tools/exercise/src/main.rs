// SPDX-License-Identifier: MPL-2.0

//! `vlmcaption-exercise`: puts the built plugin through what a long-running application does to it.
//!
//! `transitions` plays, pauses, seeks, flushes, changes caps, ends and restarts; `tests/leaks.sh`
//! runs it under the leaks tracer and with criticals made fatal. `camera` plays a real RTSP server
//! that is killed and comes back; `tests/rtsp.sh` runs it.

mod camera;
mod leaks;
mod stage;
mod transitions;

use std::process::ExitCode;

const HELP: &str = "\
vlmcaption-exercise transitions [--loops N]
vlmcaption-exercise camera SERVER-SCRIPT

  transitions   play, pause, seek, flush, caps changes, end, restart, N READY-PLAYING loops (100)
  camera        an RTSP server on loopback, killed and restarted under a running pipeline";

fn main() -> ExitCode {
    let words: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    let outcome = gst::init()
        .map_err(|error| error.to_string())
        .and_then(|()| match words[..] {
            ["transitions"] => transitions::run(100),
            ["transitions", "--loops", count] => match count.parse() {
                Ok(count) => transitions::run(count),
                Err(_) => Err(format!("--loops cannot be `{count}`")),
            },
            ["camera", script] => camera::run(script),
            ["--help" | "-h"] => {
                println!("{HELP}");
                Ok(())
            }
            _ => Err(HELP.to_owned()),
        });
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(reason) => {
            eprintln!("{reason}");
            ExitCode::FAILURE
        }
    }
}
