// SPDX-License-Identifier: MPL-2.0

//! `cargo xtask campaign`: devices in processes of their own, ended in every way.

use crate::args::Args;
use crate::setup::{self, Level};
use crate::{Outcome, shell};

const HELP: &str = "\
cargo xtask campaign [--rounds N] [--yes]

Ends the process of a device in front of a playing camera, by each signal and in each way that a library
has, at each stage: while it loads, encodes, prefills, decodes, and while nobody asks it anything. Prints
of each how many frames the video had, how long it took until buffers said status=error and until there
were captions again, and what was left behind. Fails when a frame is lost, when an error takes more than
a second or captions more than five, and when a process, a descriptor, a thread or memory is left.

The bounds are for a machine that does little else. A round takes three seconds.

  --rounds N  43 if it is not given: once round
  --yes       install without asking (so does CI=true)";

/// `cargo xtask campaign`.
///
/// # Errors
/// A bound is broken.
pub fn command(mut args: Args) -> Outcome {
    if args.help(HELP) {
        return Ok(());
    }
    let rounds: Option<usize> = args.value("--rounds")?;
    let yes = args.flag("--yes");
    args.finish()?;
    if rounds == Some(0) {
        return Err("--rounds 0 would show nothing".into());
    }
    setup::ensure(Level::Test, yes)?;
    let mut test = shell::tests(["isolation"]);
    test.args([
        "--",
        "--ignored",
        "--exact",
        "campaign::rounds",
        "--nocapture",
    ]);
    if let Some(rounds) = rounds {
        test.env("VLMCAPTION_ROUNDS", rounds.to_string());
    }
    shell::run(&mut test)
}
