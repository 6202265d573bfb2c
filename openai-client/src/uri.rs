// SPDX-License-Identifier: MPL-2.0

//! Where a server is.

use std::fmt;

use ureq::http::Uri;

use crate::error::ConfigError;
use crate::key::Secrets;

/// Parts of a query that are no secret: versions of an interface.
const PLAIN: [&str; 3] = ["api-version", "version", "v"];

/// Where a server is: the address that calls are appended to.
///
/// `Display` and `Debug` leave the query out, which may hold a key.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct ServerUri {
    https: bool,
    host: String,
    port: Option<u16>,
    path: String,
    query: Option<String>,
}

/// What one request is sent to: everything of it but the query, and the query.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct Endpoint {
    pub(crate) uri: Uri,
    pub(crate) query: Option<String>,
}

impl ServerUri {
    /// Reads `http://host:8000/v1` or the like; its path and query are kept. The path of a call is
    /// taken off again where somebody gave it along.
    ///
    /// # Errors
    /// [`ConfigError::ServerUri`], with what is wrong and never with the query.
    pub fn parse(text: &str) -> Result<Self, ConfigError> {
        let text = text.trim();
        let shown = shown(text);
        let refuse = |reason| ConfigError::ServerUri {
            shown: shown.clone(),
            reason,
        };
        if text.is_empty() {
            return Err(refuse(
                "is empty; set it to one such as http://127.0.0.1:8000/v1",
            ));
        }
        if !text.contains("://") {
            return Err(refuse("does not begin with http:// or https://"));
        }
        let uri: Uri = text.parse().map_err(|_| refuse("is not a URI"))?;
        let https = match uri.scheme_str() {
            Some("http") => false,
            Some("https") => true,
            _ => return Err(refuse("begins with neither http:// nor https://")),
        };
        let authority = uri.authority().ok_or_else(|| refuse("names no host"))?;
        if authority.as_str().contains('@') {
            return Err(refuse(
                "has a user or password in it; set the API key by its own property",
            ));
        }
        let host = uri.host().unwrap_or_default();
        if host.trim_matches(['[', ']']).is_empty() {
            return Err(refuse("names no host"));
        }
        if !authority.as_str()[host.len()..].is_empty() && uri.port_u16().is_none() {
            return Err(refuse("has no port after the colon"));
        }
        let path = uri.path().trim_end_matches('/');
        let path = path.strip_suffix("/chat/completions").unwrap_or(path);
        Ok(Self {
            https,
            host: host.to_owned(),
            port: uri.port_u16(),
            path: path.trim_end_matches('/').to_owned(),
            query: uri.query().filter(|q| !q.is_empty()).map(str::to_owned),
        })
    }

    /// Whether it is spoken to by TLS.
    pub fn is_https(&self) -> bool {
        self.https
    }

    /// The host, an IPv6 address without its brackets.
    pub fn host(&self) -> &str {
        self.host.trim_matches(['[', ']'])
    }

    /// The port.
    pub fn port(&self) -> u16 {
        self.port.unwrap_or(if self.https { 443 } else { 80 })
    }

    /// `host:port`, as messages name the server.
    pub fn authority(&self) -> String {
        format!("{}:{}", self.host, self.port())
    }

    /// The address of a call below the server's path: `/models`, `/chat/completions`.
    pub(crate) fn endpoint(&self, call: &str) -> Endpoint {
        self.at(&format!("{}{call}", self.path))
    }

    /// The address of a call beside the versioned path: `/version`, `/tokenize`.
    pub(crate) fn beside(&self, call: &str) -> Endpoint {
        let path = self.path.strip_suffix("/v1").unwrap_or(&self.path);
        self.at(&format!("{path}{call}"))
    }

    fn at(&self, path: &str) -> Endpoint {
        let scheme = if self.https { "https" } else { "http" };
        let uri = Uri::builder()
            .scheme(scheme)
            .authority(self.authority())
            .path_and_query(path)
            .build()
            // All three were parts of a URI, and `call` is ours.
            .expect("parts of a URI make a URI");
        Endpoint {
            uri,
            query: self.query.clone(),
        }
    }

    /// Values in the query that may be secret.
    pub(crate) fn add_secrets(&self, secrets: &mut Secrets) {
        for part in self.query.iter().flat_map(|query| query.split('&')) {
            match part.split_once('=') {
                Some((name, value)) if !PLAIN.contains(&name) => secrets.add(value),
                Some(_) => (),
                None => secrets.add(part),
            }
        }
    }
}

impl fmt::Display for ServerUri {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let scheme = if self.https { "https" } else { "http" };
        write!(f, "{scheme}://{}{}", self.authority(), self.path)
    }
}

impl fmt::Debug for ServerUri {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ServerUri({self})")
    }
}

impl Endpoint {
    /// What stands in the request line: path and query.
    pub(crate) fn target(&self) -> String {
        match &self.query {
            Some(query) => format!("{}?{query}", self.uri.path()),
            None => self.uri.path().to_owned(),
        }
    }
}

/// What a message may show of a text that should be a URI: neither user nor query.
pub(crate) fn shown(text: &str) -> String {
    let text = text.split(['?', '#']).next().unwrap_or_default();
    match (text.split_once("://"), text.rsplit_once('@')) {
        (Some((scheme, _)), Some((_, host))) => format!("{scheme}://{host}"),
        (None, Some((_, host))) => host.to_owned(),
        (_, None) => text.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn target(server: &str, call: &str) -> String {
        let endpoint = ServerUri::parse(server).unwrap().endpoint(call);
        let authority = endpoint.uri.authority().unwrap().to_string();
        format!("{authority}{}", endpoint.target())
    }

    #[test]
    fn path_and_query_are_kept_and_the_call_is_appended() {
        for (server, expected) in [
            ("http://h:8000/v1", "h:8000/v1/chat/completions"),
            ("http://h:8000/v1/", "h:8000/v1/chat/completions"),
            ("https://h", "h:443/chat/completions"),
            ("http://[::1]:8000/v1", "[::1]:8000/v1/chat/completions"),
            (
                "https://h/openai/deployments/d?api-version=2024-10-21",
                "h:443/openai/deployments/d/chat/completions?api-version=2024-10-21",
            ),
            ("http://h/v1/chat/completions", "h:80/v1/chat/completions"),
            (
                "https://h/v1beta/openai/",
                "h:443/v1beta/openai/chat/completions",
            ),
        ] {
            assert_eq!(target(server, "/chat/completions"), expected);
        }
    }

    #[test]
    fn calls_beside_the_version_leave_it_out() {
        let beside = |server| {
            ServerUri::parse(server)
                .unwrap()
                .beside("/version")
                .target()
        };
        assert_eq!(beside("http://h:1/v1"), "/version");
        assert_eq!(beside("http://h:1/api/v1?a=b"), "/api/version?a=b");
        assert_eq!(beside("http://h:1/api"), "/api/version");
    }

    #[test]
    fn what_is_no_server_is_refused_with_the_reason_and_without_secrets() {
        for bad in [
            "",
            "127.0.0.1:8000/v1?key=canary",
            "ftp://h?key=canary",
            "http://?key=canary",
            "http://user:canary@h/v1",
            "http://h:port?key=canary",
            "http://h:/v1?key=canary",
            "http://h /v1?key=canary",
        ] {
            let error = ServerUri::parse(bad).unwrap_err().to_string();
            assert!(!error.contains("canary"), "{error}");
        }
        let error = ServerUri::parse("http://user:canary@h/v1").unwrap_err();
        assert!(error.to_string().contains("http://h/v1"), "{error}");
    }

    #[test]
    fn a_query_is_never_shown_and_its_values_are_secrets() {
        let server = ServerUri::parse("http://h/v1?key=canary&api-version=2024-10-21").unwrap();
        assert_eq!(format!("{server:?}"), "ServerUri(http://h:80/v1)");
        let mut secrets = Secrets::default();
        server.add_secrets(&mut secrets);
        assert_eq!(secrets.scrub("canary 2024-10-21"), "*** 2024-10-21");
    }
}
