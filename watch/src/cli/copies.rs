// SPDX-License-Identifier: MPL-2.0

//! `backup` and `restore`.

use std::path::PathBuf;

use crate::store::backup;
use crate::store::files::Layout;

use super::common::{Common, print};

/// Copy the store into a new folder, while it is written
#[derive(Debug, clap::Args)]
pub struct Backup {
    #[command(flatten)]
    common: Common,
    /// A new or empty folder; on the same disk pictures are linked and take no room
    folder: PathBuf,
}

/// Put a backup in the place of the store
#[derive(Debug, clap::Args)]
pub struct Restore {
    #[command(flatten)]
    common: Common,
    /// What `backup` made; it is checked first and stays as it is
    folder: PathBuf,
}

impl Backup {
    pub fn run(self) -> Result<(), String> {
        let config = self.common.load()?;
        let layout = Layout::new(&config.storage.path);
        let copied = backup::backup(&layout, &self.folder).map_err(|error| error.to_string())?;
        print(&format!(
            "{} databases, {} packs of pictures and {} clips are in {}",
            copied.databases,
            copied.packs,
            copied.clips,
            self.folder.display()
        ))
    }
}

impl Restore {
    pub fn run(self) -> Result<(), String> {
        let config = self.common.load()?;
        let layout = Layout::new(&config.storage.path);
        let (copied, aside) =
            backup::restore(&self.folder, &layout).map_err(|error| error.to_string())?;
        if let Some(aside) = aside {
            print(&format!(
                "what was there before is in {}; delete it when all is well",
                aside.display()
            ))?;
        }
        print(&format!(
            "{} databases, {} packs of pictures and {} clips were brought back",
            copied.databases, copied.packs, copied.clips
        ))
    }
}
