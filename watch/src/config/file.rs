// SPDX-License-Identifier: MPL-2.0

//! The configuration file as it is written: its sections and keys, nothing checked yet.

use std::net::SocketAddr;
use std::path::PathBuf;

use serde::Deserialize;

use super::out::{Mqtt, Webhook};
use super::units::{Size, Span};
use crate::search::Synonyms;

/// The whole file.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct File {
    pub server: Server,
    pub storage: Storage,
    pub model: Model,
    pub defaults: Asked,
    pub search: Search,
    pub camera: Vec<Camera>,
    pub mqtt: Option<Mqtt>,
    pub webhook: Vec<Webhook>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case", default)]
pub struct Server {
    /// The address of the page.
    pub listen: SocketAddr,
    /// Whether there is one.
    pub enabled: bool,
    /// The path below which a proxy serves it.
    pub path: Option<String>,
    pub tls: Option<super::door::Tls>,
    /// Who may say for whom he asks.
    pub trusted_proxies: Vec<String>,
    /// The log-in of a proxy that is believed.
    pub auth: super::door::Auth,
}

impl Default for Server {
    fn default() -> Self {
        Self {
            listen: SocketAddr::from(([127, 0, 0, 1], 8470)),
            enabled: true,
            path: None,
            tls: None,
            trusted_proxies: Vec::new(),
            auth: super::door::Auth::default(),
        }
    }
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case", default)]
pub struct Storage {
    pub path: PathBuf,
    pub max_size: Size,
    pub keep_free: Size,
    pub keep: Keep,
}

impl Default for Storage {
    fn default() -> Self {
        Self {
            path: "/var/lib/vlmcaption-watch".into(),
            max_size: Size(20_000_000_000),
            keep_free: Size(2_000_000_000),
            keep: Keep::default(),
        }
    }
}

/// How long what is kept.
#[derive(Debug, Clone, Copy, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case", default)]
pub struct Keep {
    /// Captions, events and what became of cameras.
    pub captions: Span,
    /// Pictures.
    pub thumbnails: Span,
    /// Clips of alarms.
    pub clips: Span,
}

impl Default for Keep {
    fn default() -> Self {
        Self {
            captions: Span::days(90),
            thumbnails: Span::days(14),
            clips: Span::days(30),
        }
    }
}

#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case", default)]
pub struct Model {
    /// None is the built-in demo model.
    pub path: Option<PathBuf>,
    pub config: Option<PathBuf>,
    pub backend: Option<String>,
    pub device: Option<String>,
    pub precision: Option<String>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Search {
    /// What is meant by a word as well.
    pub synonyms: Synonyms,
}

/// What is asked of a camera's pictures; a camera's own goes before the defaults.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case", default)]
pub struct Asked {
    pub prompt: Option<String>,
    pub window: Option<u32>,
    pub stride: Option<u32>,
    pub motion_threshold: Option<f64>,
    pub heartbeat: Option<Span>,
    pub max_tokens: Option<u32>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct Camera {
    pub id: String,
    pub name: Option<String>,
    pub url: String,
    #[serde(default = "yes")]
    pub enabled: bool,
    pub user: Option<String>,
    pub password_file: Option<PathBuf>,
    pub password_env: Option<String>,
    pub password_credential: Option<String>,
    #[serde(default)]
    pub decode: Decode,
    pub offline_after: Option<Span>,
    #[serde(default)]
    pub masks: Vec<Mask>,
    /// Whether people see the camera's video although it has masks, which are not in it.
    #[serde(default)]
    pub unmasked_video: bool,
    #[serde(default)]
    pub alarm: Vec<Alarm>,
    pub prompt: Option<String>,
    pub window: Option<u32>,
    pub stride: Option<u32>,
    pub motion_threshold: Option<f64>,
    pub heartbeat: Option<Span>,
    pub max_tokens: Option<u32>,
}

impl Camera {
    /// What this camera asks for itself.
    pub fn asked(&self) -> Asked {
        Asked {
            prompt: self.prompt.clone(),
            window: self.window,
            stride: self.stride,
            motion_threshold: self.motion_threshold,
            heartbeat: self.heartbeat,
            max_tokens: self.max_tokens,
        }
    }
}

/// Which frames of a camera are decoded.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Decode {
    /// Keyframes alone where they come often enough, else all.
    #[default]
    Auto,
    /// Keyframes alone.
    Keyframes,
    /// Every frame.
    All,
}

/// A part of the picture that nobody sees, as fractions of it.
#[derive(Debug, Clone, Copy, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Mask {
    pub x: f64,
    pub y: f64,
    pub width: f64,
    pub height: f64,
}

/// A yes-no question that begins and ends events.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct Alarm {
    pub id: String,
    pub question: String,
    #[serde(default = "on")]
    pub on: f64,
    #[serde(default = "off")]
    pub off: f64,
    pub min_duration: Option<Span>,
    pub cool_down: Option<Span>,
    /// What Home Assistant takes it for.
    pub device_class: Option<String>,
    /// Who is told: `mqtt`, `webhook:NAME`; everybody if it is not there.
    pub notify: Option<Vec<String>>,
    /// The clip that is to be kept; without it none is.
    pub clip: Option<ClipAsked>,
}

/// Which part of the video around an alarm is kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct ClipAsked {
    pub before: Span,
    pub after: Span,
    /// The whole clip is no longer than this.
    pub longest: Span,
}

impl Default for ClipAsked {
    fn default() -> Self {
        Self {
            before: Span::seconds(10),
            after: Span::seconds(5),
            longest: Span::seconds(60),
        }
    }
}

fn yes() -> bool {
    true
}

fn on() -> f64 {
    0.6
}

fn off() -> f64 {
    0.4
}
