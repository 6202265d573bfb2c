// SPDX-License-Identifier: MPL-2.0

//! What is to be known of a server: where it is, who we are to it, and what is sent.

use std::path::PathBuf;
use std::time::Duration;

/// What is to be known of a server.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct RemoteOptions {
    /// Its address, with path and query.
    pub server_uri: String,
    /// The model that is asked; `None` for the first that it lists.
    pub model: Option<String>,
    /// The key; empty for that of the file, or of the environment.
    pub key: Secret,
    /// A file that holds the key alone.
    pub key_file: Option<PathBuf>,
    /// The header that carries the key.
    pub key_header: KeyHeader,
    /// JSON that is merged into every question; may hold secrets.
    pub extra_body: Secret,
    /// Quality of JPEGs, 1..=100.
    pub quality: u8,
    /// Frames of a window that are sent at most; `None` for all.
    pub max_images: Option<usize>,
    /// In which form frames are sent.
    pub transport: Transport,
    /// PEM file of the only authorities that are trusted.
    pub ca: Option<PathBuf>,
    /// PEM files of our certificate, and of its key if that is another.
    pub client_certificate: Option<PathBuf>,
    /// See `client_certificate`.
    pub client_key: Option<PathBuf>,
    /// Empty for what the environment says, `none`, or an address, which may hold a password.
    pub proxy: Secret,
    /// How long the server may be silent while an answer is waited for.
    pub timeout: Duration,
    /// Folder of the checkpoint that the server runs, whose processor says how large frames become.
    pub config: Option<PathBuf>,
}

/// The header that carries the key.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum KeyHeader {
    /// `Authorization: Bearer KEY`.
    #[default]
    Authorization,
    /// `api-key: KEY`.
    ApiKey,
}

/// In which form frames are sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum Transport {
    /// As a video if the server takes one, else as single images.
    #[default]
    Auto,
    /// JPEGs as the frames of one video.
    Sequence,
    /// Single images: what moves is lost.
    Images,
    /// JPEGs as a video file.
    Mp4,
}

/// A text that no log may show.
#[derive(Clone, PartialEq, Eq, Hash, Default)]
pub struct Secret(pub String);

impl std::fmt::Debug for Secret {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(if self.0.is_empty() { "\"\"" } else { "***" })
    }
}

impl std::fmt::Debug for RemoteOptions {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("RemoteOptions")
            .field("host", &self.host())
            .field("model", &self.model)
            .field("transport", &self.transport)
            .finish_non_exhaustive()
    }
}

impl RemoteOptions {
    /// The host and its port, as they stand in the address.
    pub fn host(&self) -> &str {
        let address = self.server_uri.trim();
        let rest = address.split_once("://").map_or(address, |(_, rest)| rest);
        let authority = rest.split(['/', '?', '#']).next().unwrap_or_default();
        // Who puts a password there is refused, and not repeated.
        authority.rsplit('@').next().unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_server_is_named_by_its_host_and_no_secret_is_shown() {
        let options = RemoteOptions {
            server_uri: "https://user:canary@cam.example:8443/v1?key=canary".into(),
            model: None,
            key: Secret("canary".into()),
            key_file: None,
            key_header: KeyHeader::default(),
            extra_body: Secret(r#"{"token": "canary"}"#.into()),
            quality: 90,
            max_images: None,
            transport: Transport::Auto,
            ca: None,
            client_certificate: None,
            client_key: None,
            proxy: Secret("http://user:canary@proxy".into()),
            timeout: Duration::from_secs(60),
            config: None,
        };
        assert_eq!(options.host(), "cam.example:8443");
        let shown = format!("{options:?} {:?} {:?}", options.key, options.proxy);
        assert!(!shown.contains("canary"), "{shown}");
    }
}
