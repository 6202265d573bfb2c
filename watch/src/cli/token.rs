// SPDX-License-Identifier: MPL-2.0

//! `token`.

use clap::{Args, Subcommand};

use crate::accounts::Pass;
use crate::time::Millis;

use super::common::{Common, print, say, scope};

/// Make, list and take away the tokens of programs
#[derive(Debug, Args)]
pub struct TokenCommand {
    #[command(subcommand)]
    what: What,
}

#[derive(Debug, Subcommand)]
enum What {
    /// Make one; it is shown this once, and is sent as `Authorization: Bearer TOKEN`
    Add {
        #[command(flatten)]
        common: Common,
        name: String,
        /// For /metrics and nothing else
        #[arg(long)]
        metrics: bool,
        /// Of this camera alone; may be there several times. Without it, of all
        #[arg(long, value_name = "ID")]
        camera: Vec<String>,
    },
    /// Take one away
    Remove {
        #[command(flatten)]
        common: Common,
        name: String,
    },
    /// Say which there are
    List {
        #[command(flatten)]
        common: Common,
    },
}

impl TokenCommand {
    pub fn run(self) -> Result<(), String> {
        match self.what {
            What::Add {
                common,
                name,
                metrics,
                camera,
            } => {
                let (config, accounts) = common.accounts()?;
                let cameras = scope(&config, camera)?;
                let token = accounts.add_token(&name, cameras.as_ref(), metrics, Millis::now());
                print(&token.map_err(say)?)
            }
            What::Remove { common, name } => {
                let (_, accounts) = common.accounts()?;
                if accounts.remove_token(&name).map_err(say)? {
                    print(&format!("{name} is gone"))
                } else {
                    Err(format!("there is no token {name}"))
                }
            }
            What::List { common } => {
                let (_, accounts) = common.accounts()?;
                let tokens = accounts.tokens().map_err(say)?;
                if tokens.is_empty() {
                    return print("there is no token yet");
                }
                tokens.iter().try_for_each(|token| print(&line(token)))
            }
        }
    }
}

fn line(token: &Pass) -> String {
    let what = if token.metrics { "metrics" } else { "viewer" };
    let used = if token.seen > Millis(0) {
        format!("last used {}", token.seen.local())
    } else {
        "never used".into()
    };
    format!("{}  {what}  {used}", token.name)
}
