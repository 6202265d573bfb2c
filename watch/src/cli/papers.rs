// SPDX-License-Identifier: MPL-2.0

//! `generate`: what a package has beside the program, made of the same command line.

use std::io::Write;

use clap::ValueEnum;
use clap_complete::Shell;

/// Write the man page, or what a shell completes commands with
#[derive(Debug, clap::Args)]
pub struct Generate {
    /// What is written to the output
    what: What,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum What {
    Man,
    Bash,
    Fish,
    Zsh,
}

impl Generate {
    /// `command` is the whole command line.
    pub fn run(self, mut command: clap::Command) -> Result<(), String> {
        let mut out = Vec::new();
        let shell = match self.what {
            What::Man => None,
            What::Bash => Some(Shell::Bash),
            What::Fish => Some(Shell::Fish),
            What::Zsh => Some(Shell::Zsh),
        };
        match shell {
            Some(shell) => {
                clap_complete::generate(shell, &mut command, "vlmcaption-watch", &mut out)
            }
            None => man(command, &mut out).map_err(|error| error.to_string())?,
        }
        std::io::stdout()
            .write_all(&out)
            .map_err(|error| format!("the output cannot be written: {error}"))
    }
}

/// One page with all commands: a page for each would be twenty of them.
fn man(command: clap::Command, out: &mut Vec<u8>) -> std::io::Result<()> {
    let mut command = command.disable_help_subcommand(true);
    command.build();
    let page = clap_mangen::Man::new(command.clone());
    page.render_title(out)?;
    page.render_name_section(out)?;
    page.render_synopsis_section(out)?;
    page.render_description_section(out)?;
    for sub in command.get_subcommands().filter(|sub| !sub.is_hide_set()) {
        writeln!(out, ".SH \"{}\"", sub.get_name().to_uppercase())?;
        let one = clap_mangen::Man::new(sub.clone());
        one.render_description_section(out)?;
        one.render_options_section(out)?;
    }
    writeln!(
        out,
        ".SH FILES\n.TP\n/etc/vlmcaption-watch.toml\nThe configuration.\n.TP\n/var/lib/vlmcaption-watch\nWhat is kept."
    )?;
    page.render_version_section(out)
}
