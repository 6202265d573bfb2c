// SPDX-License-Identifier: MPL-2.0

//! `vlmcaption-replay`: makes captions again from the records that the element keeps in the folder
//! `evidence`, and asks other questions about the same frames.

mod again;
mod labels;
mod models;
mod options;
mod outcome;
mod picture;
mod questions;
mod rows;
mod table;
mod trace;

use std::process::ExitCode;

use gstvlmcaption::caption::evidence::entry;
use options::{Job, Options};
use outcome::Outcome;

fn main() -> ExitCode {
    let words: Vec<String> = std::env::args().skip(1).collect();
    let done = Options::parse(&words).and_then(|job| match job {
        Job::Help => {
            print!("{}", options::HELP);
            Ok(Outcome::Same)
        }
        Job::Version => {
            println!("vlmcaption-replay {}", entry::version());
            Ok(Outcome::Same)
        }
        Job::Trace { trace, svg } => trace::draw(&trace, &svg).map(|()| Outcome::Same),
        Job::Again(options) => ready().and_then(|()| again::run(&options)),
        Job::Table(options, questions) => ready().and_then(|()| table::run(&options, &questions)),
    });
    match done {
        Ok(Outcome::Same) => ExitCode::SUCCESS,
        Ok(Outcome::Different) => ExitCode::from(1),
        Err(reason) => {
            eprintln!("vlmcaption-replay: {reason}");
            ExitCode::from(2)
        }
    }
}

/// The element's properties are read by GStreamer's rules.
fn ready() -> Result<(), String> {
    gst::init().map_err(|error| error.to_string())
}
