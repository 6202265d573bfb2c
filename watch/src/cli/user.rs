// SPDX-License-Identifier: MPL-2.0

//! `user`.

use std::path::PathBuf;

use clap::{Args, Subcommand};

use crate::accounts::{self, User};

use super::common::{Common, print, say, scope};

/// Who may look at the page
#[derive(Debug, Args)]
pub struct UserCommand {
    #[command(subcommand)]
    what: What,
}

#[derive(Debug, Subcommand)]
enum What {
    /// Add somebody
    Add {
        #[command(flatten)]
        common: Common,
        name: String,
        /// May do everything; without it, look alone
        #[arg(long)]
        admin: bool,
        /// Of this camera alone; may be there several times. Without it, of all
        #[arg(long, value_name = "ID")]
        camera: Vec<String>,
        #[command(flatten)]
        password: Password,
    },
    /// Give somebody another password, and log him out everywhere
    Passwd {
        #[command(flatten)]
        common: Common,
        name: String,
        #[command(flatten)]
        password: Password,
    },
    /// Take somebody away, and log him out everywhere
    Remove {
        #[command(flatten)]
        common: Common,
        name: String,
    },
    /// Say who there is
    List {
        #[command(flatten)]
        common: Common,
    },
}

#[derive(Debug, Args)]
struct Password {
    /// A file whose first line is the password, 10 characters at least; the input if it is not there
    #[arg(
        long,
        value_name = "FILE",
        default_value = "/dev/stdin",
        hide_default_value = true
    )]
    password_file: PathBuf,
}

impl Password {
    fn read(&self) -> Result<String, String> {
        use std::io::IsTerminal;
        if self.password_file.as_os_str() == "/dev/stdin" && std::io::stdin().is_terminal() {
            eprintln!(
                "The password, 10 characters at least; it is shown as you type, pipe it in if somebody looks on:"
            );
        }
        accounts::first_line(&self.password_file)
    }
}

impl UserCommand {
    pub fn run(self) -> Result<(), String> {
        match self.what {
            What::Add {
                common,
                name,
                admin,
                camera,
                password,
            } => {
                let (config, accounts) = common.accounts()?;
                let cameras = scope(&config, camera)?;
                let user = User {
                    name,
                    admin,
                    cameras,
                };
                accounts.add(&user, &password.read()?).map_err(say)?;
                print(&format!("{} may log in", user.name))
            }
            What::Passwd {
                common,
                name,
                password,
            } => {
                let (_, accounts) = common.accounts()?;
                accounts.change(&name, &password.read()?).map_err(say)?;
                print(&format!("{name} has another password"))
            }
            What::Remove { common, name } => {
                let (_, accounts) = common.accounts()?;
                accounts.remove(&name).map_err(say)?;
                print(&format!("{name} is gone"))
            }
            What::List { common } => {
                let (_, accounts) = common.accounts()?;
                let users = accounts.users().map_err(say)?;
                if users.is_empty() {
                    return print("there is no user yet");
                }
                users.iter().try_for_each(|user| print(&line(user)))
            }
        }
    }
}

fn line(user: &User) -> String {
    let role = if user.admin { "admin" } else { "viewer" };
    let cameras = match &user.cameras {
        Some(cameras) => cameras.iter().cloned().collect::<Vec<_>>().join(", "),
        None => "all cameras".into(),
    };
    format!("{}  {role}  {cameras}", user.name)
}
