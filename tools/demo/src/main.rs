// SPDX-License-Identifier: MPL-2.0

//! `vlmcaption-demo`: a live street of shapes runs through `vlmcaption`, and every caption is
//! printed beside what really happened. `cargo xtask demo` builds and starts it.

mod options;
mod player;
mod report;

use std::process::ExitCode;

use options::{Asked, Options};

fn main() -> ExitCode {
    let outcome = match Options::parse(std::env::args().skip(1)) {
        Ok(Asked::Help) => {
            println!("{}", options::HELP);
            Ok(())
        }
        Ok(Asked::Run(options)) => player::play(&options),
        Err(reason) => Err(reason),
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(reason) => {
            eprintln!("vlmcaption-demo: {reason}");
            ExitCode::FAILURE
        }
    }
}
