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
    /// Which hosts may be sent anything.
    pub network: Network,
}

/// Which hosts may be sent anything.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Default)]
pub enum Network {
    /// Any.
    #[default]
    Any,
    /// These alone: names or addresses, each perhaps with a port.
    Allow(Vec<String>),
    /// None.
    None,
}

impl Network {
    /// Reads the property `network`.
    ///
    /// # Errors
    /// A sentence that says what it may be.
    pub fn parse(text: &str) -> Result<Self, String> {
        let text = text.trim();
        let hosts = text.strip_prefix("allow=").map(|hosts| {
            let hosts = hosts.split(',').map(|host| host.trim().to_lowercase());
            hosts.filter(|host| !host.is_empty()).collect::<Vec<_>>()
        });
        match (text, hosts) {
            ("" | "any", _) => Ok(Self::Any),
            ("none", _) => Ok(Self::None),
            (_, Some(hosts)) if !hosts.is_empty() => Ok(Self::Allow(hosts)),
            _ => Err(format!(
                "network={text:?} is none of any, none and allow=HOST,HOST:PORT"
            )),
        }
    }

    /// That a host, with its port, may be sent something.
    ///
    /// # Errors
    /// A sentence that names the host and the fix.
    pub fn check(&self, what: &str, authority: &str) -> Result<(), String> {
        let authority = authority.to_lowercase();
        let host = authority.rsplit_once(':').map_or("", |(host, _)| host);
        let bare = host.trim_matches(['[', ']']);
        let fix = match self {
            Self::Any => return Ok(()),
            Self::Allow(hosts)
                if hosts
                    .iter()
                    .any(|known| *known == authority || known.trim_matches(['[', ']']) == bare) =>
            {
                return Ok(());
            }
            Self::Allow(hosts) => format!("network allows {} alone; add ,{host}", hosts.join(", ")),
            Self::None => format!(
                "network=none allows no server; take a backend of this machine, or set \
                 network=allow={host}"
            ),
        };
        Err(format!("{what} {authority} may not be reached: {fix}"))
    }
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
            network: Network::Any,
        };
        assert_eq!(options.host(), "cam.example:8443");
        let shown = format!("{options:?} {:?} {:?}", options.key, options.proxy);
        assert!(!shown.contains("canary"), "{shown}");
    }

    #[test]
    fn a_host_is_allowed_by_its_name_with_any_port_or_with_one() {
        let check = |network: &str, authority: &str| {
            let network = Network::parse(network).unwrap();
            network.check("the server", authority)
        };
        for (network, authority) in [
            ("any", "h:1"),
            (" ", "h:1"),
            ("allow=h", "h:1"),
            ("allow=a, H:8000", "h:8000"),
            ("allow=::1", "[::1]:80"),
            ("allow=[::1]:80", "[::1]:80"),
            ("allow=127.0.0.1", "127.0.0.1:80"),
        ] {
            assert_eq!(check(network, authority), Ok(()), "{network} {authority}");
        }
        for (network, authority, fix) in [
            ("none", "h:1", "set network=allow=h"),
            ("allow=h:80", "h:81", "add ,h"),
            ("allow=h", "x.h:80", "add ,x.h"),
            ("allow=x.h", "h:80", "allows x.h alone"),
        ] {
            let refused = check(network, authority).unwrap_err();
            assert!(refused.contains(fix), "{refused}");
        }
        for wrong in ["allow", "allow=", "allow=,", "some", "none,h"] {
            assert!(Network::parse(wrong).is_err(), "{wrong}");
        }
    }
}
