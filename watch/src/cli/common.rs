// SPDX-License-Identifier: MPL-2.0

//! What every command has: the file, the plugin, and how it speaks.

use std::collections::BTreeSet;
use std::io::Write;
use std::path::{Path, PathBuf};

use clap::Args;

use crate::accounts::Accounts;
use crate::config::Config;
use crate::log::{self, Level};
use crate::secret;
use crate::store::files::Layout;

/// What every command takes.
#[derive(Debug, Clone, Args)]
pub struct Common {
    /// The configuration file
    #[arg(
        short,
        long,
        value_name = "FILE",
        default_value = "/etc/vlmcaption-watch.toml"
    )]
    pub config: PathBuf,
    /// The plugin's file, if GStreamer does not find it by itself
    #[arg(long, value_name = "FILE")]
    pub plugin: Option<PathBuf>,
    /// Also say what is of use when looking for a fault
    #[arg(short, long)]
    pub verbose: bool,
}

impl Common {
    /// Reads the configuration.
    pub fn load(&self) -> Result<Config, String> {
        if self.verbose {
            log::set_level(Level::Debug);
        }
        Config::load(&self.config)
    }

    /// The file, and who may look.
    pub fn accounts(&self) -> Result<(Config, Accounts), String> {
        let config = self.load()?;
        let accounts = Accounts::open(&Layout::new(&config.storage.path)).map_err(say)?;
        Ok((config, accounts))
    }

    /// Makes GStreamer and the plugin ready.
    pub fn gstreamer(&self) -> Result<(), String> {
        gstreamer(self.plugin.as_deref())
    }
}

/// An error of the store for whoever started the command.
pub fn say(error: crate::store::Error) -> String {
    error.to_string()
}

/// The cameras that somebody is to see: all, where none is named.
///
/// # Errors
/// One is not in the file.
pub fn scope(config: &Config, cameras: Vec<String>) -> Result<Option<BTreeSet<String>>, String> {
    let known = |id: &String| config.cameras.iter().any(|camera| camera.id == *id);
    if let Some(id) = cameras.iter().find(|id| !known(id)) {
        return Err(format!("no camera is called {id}"));
    }
    Ok((!cameras.is_empty()).then(|| cameras.into_iter().collect()))
}

/// Makes GStreamer and the plugin ready.
pub fn gstreamer(plugin: Option<&Path>) -> Result<(), String> {
    gst::init().map_err(|error| format!("GStreamer does not start: {error}"))?;
    if let Some(path) = plugin {
        gst::Plugin::load_file(path)
            .map_err(|error| format!("--plugin {}: {error}", path.display()))?;
    }
    if gst::ElementFactory::find("vlmcaption").is_none() {
        return Err(crate::camera::elements::no_plugin());
    }
    Ok(())
}

/// Writes a line for whoever started the command. That he has heard enough (`| head`) ends it quietly.
pub fn print(text: &str) -> Result<(), String> {
    match writeln!(std::io::stdout(), "{}", log::plain(&secret::redact(text))) {
        Ok(()) => Ok(()),
        Err(error) if error.kind() == std::io::ErrorKind::BrokenPipe => std::process::exit(0),
        Err(error) => Err(format!("the output cannot be written: {error}")),
    }
}

/// Which plugin there is, and of which GStreamer.
pub fn plugin() -> String {
    let plugin = gst::Registry::get().find_plugin("vlmcaption");
    let version = plugin
        .as_ref()
        .map(|plugin| plugin.version().to_string())
        .unwrap_or_default();
    let path = plugin
        .and_then(|plugin| plugin.filename())
        .unwrap_or_default();
    format!("{version} of {}, {}", path.display(), gst::version_string())
}
