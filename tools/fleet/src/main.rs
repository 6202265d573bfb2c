// SPDX-License-Identifier: MPL-2.0

//! `vlmcaption-fleet`: how many captions cameras get, how old these are and how many windows are
//! dropped, by the number of cameras and of models.

mod curves;
mod options;
mod random;
mod record;
mod replica;
mod report;
mod scenario;
mod simulation;
mod svg;
#[cfg(test)]
mod tests;

use std::path::Path;
use std::process::ExitCode;

use record::Record;

const HELP: &str = "\
vlmcaption-fleet run [options]            simulates, and prints the figures
vlmcaption-fleet curves FOLDER            writes the charts of docs/scaling.md
vlmcaption-fleet compare RECORD...        simulates measured runs, and prints both

  --cameras N          cameras (16)
  --replicas N         models that answer (1)
  --stride S           seconds from window to window (4)
  --poisson            windows come at random in place of regularly
  --pairs N            pairs of frames of a window (2)
  --pair S             device time of a pair that is encoded while its window fills (0)
  --window S           device time of an answer (1)
  --exponential        answers take exponentially distributed times
  --curve A,B,...      how much faster 1, 2, ... windows are made together than one after the other (1)
  --first-come         the window that has waited longest is next, as on a server; else the camera
                       that used least, as in the element's engine
  --max-queued N       windows of a camera that may wait (1)
  --oldest             the arriving window gives way; else the oldest waiting one
  --overhead S         added to every age (0)
  --outage R,AT,FOR    replica R is gone from AT on for FOR seconds; may be repeated
  --seconds S          simulated time that is counted (600)
  --seed N             of the random numbers (1)";

fn main() -> ExitCode {
    let words: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    let outcome = match words[..] {
        ["run", ref options @ ..] if !options.contains(&"--help") => run(options),
        ["curves", folder] => curves::write(Path::new(folder)),
        ["compare", ref files @ ..] if !files.is_empty() => compare(files),
        ["--help" | "-h" | "help"] | ["run", ..] => {
            println!("{HELP}");
            Ok(())
        }
        _ => Err(HELP.to_owned()),
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(reason) => {
            eprintln!("{reason}");
            ExitCode::FAILURE
        }
    }
}

fn run(words: &[&str]) -> Result<(), String> {
    let scenario = options::parse(words).map_err(|reason| format!("{reason}\n{HELP}"))?;
    println!("{}", simulation::simulate(&scenario));
    Ok(())
}

fn compare(files: &[&str]) -> Result<(), String> {
    for file in files {
        let text = std::fs::read_to_string(file).map_err(|error| format!("{file}: {error}"))?;
        let record = Record::parse(&text).map_err(|reason| format!("{file}: {reason}"))?;
        let report = simulation::simulate(&record.scenario());
        println!("{file}: {} cameras", record.cameras);
        for (name, measured, simulated, apart) in record.compare(&report) {
            println!(
                "  {name:<20} measured {measured:.4}  simulated {simulated:.4}  {:.1} %",
                100.0 * apart
            );
        }
    }
    Ok(())
}
