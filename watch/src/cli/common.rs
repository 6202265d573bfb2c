// SPDX-License-Identifier: MPL-2.0

//! What every command has: the file, the plugin, and how it speaks.

use std::io::Write;
use std::path::{Path, PathBuf};

use clap::Args;

use crate::log::{self, Level};
use crate::secret;

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
    pub fn load(&self) -> Result<crate::config::Config, String> {
        if self.verbose {
            log::set_level(Level::Debug);
        }
        crate::config::Config::load(&self.config)
    }

    /// Makes GStreamer and the plugin ready.
    pub fn gstreamer(&self) -> Result<(), String> {
        gstreamer(self.plugin.as_deref())
    }
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
