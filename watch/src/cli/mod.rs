// SPDX-License-Identifier: MPL-2.0

//! The command line.

mod cameras;
mod check;
mod common;
mod copies;
mod doctor;
mod export;
mod papers;
mod run;
mod search;
mod token;
mod user;

use std::process::ExitCode;

use clap::{CommandFactory, Parser, Subcommand};

use crate::log;
use crate::secret;

/// Watches cameras by their captions: keeps every one, finds them by words, and keeps alarms with
/// their begin and end. It is no recorder: of video it stores clips of alarms, where the file asks for them.
#[derive(Debug, Parser)]
#[command(name = "vlmcaption-watch", version, max_term_width = 100)]
struct Line {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Watch the cameras until SIGTERM or Ctrl-C
    Run(run::Run),
    /// Check the configuration file, the plugin and the model; with --connect each camera too
    Check(check::Check),
    /// Find captions by words
    Search(search::Search),
    /// Write captions as JSON lines, CSV or WebVTT
    Export(export::Export),
    /// Copy the store into a new folder, while it is written
    Backup(copies::Backup),
    /// Put a backup in the place of the store
    Restore(copies::Restore),
    /// Add, change, remove and list those who may look at the page
    User(user::UserCommand),
    /// Make, list and take away the tokens of programs
    Token(token::TokenCommand),
    /// Find cameras in this network
    Cameras(cameras::CamerasCommand),
    /// Watch two test pictures with the built-in model and serve the page on loopback: nothing is kept
    Demo(run::Demo),
    /// Write the man page, or what a shell completes commands with
    #[command(hide = true)]
    Generate(papers::Generate),
    /// Say how everything stands, without secrets: to read, or to send to who helps
    Doctor(doctor::Doctor),
}

/// Runs the program.
pub fn main() -> ExitCode {
    let line = Line::parse();
    let outcome = match line.command {
        Command::Run(command) => command.run(),
        Command::Check(command) => command.run(),
        Command::Search(command) => command.run(),
        Command::Export(command) => command.run(),
        Command::Backup(command) => command.run(),
        Command::Restore(command) => command.run(),
        Command::User(command) => command.run(),
        Command::Token(command) => command.run(),
        Command::Cameras(command) => command.run(),
        Command::Demo(command) => command.run(),
        Command::Doctor(command) => command.run(),
        Command::Generate(command) => command.run(Line::command()),
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(reason) => {
            eprintln!("vlmcaption-watch: {}", log::plain(&secret::redact(&reason)));
            ExitCode::FAILURE
        }
    }
}
