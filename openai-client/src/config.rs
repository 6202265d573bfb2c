// SPDX-License-Identifier: MPL-2.0

//! What a client is told: the server, the key, how it is reached, and how long things may take.

use std::path::PathBuf;
use std::time::Duration;

use crate::extra::ExtraBody;
use crate::key::{ApiKey, KeyHeader};
use crate::uri::ServerUri;

/// What a client is told. Clients with equal configurations are interchangeable, so that it can be
/// the name under which a process shares one.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Config {
    /// Where the server is.
    pub server: ServerUri,
    /// The model that is asked; `None` for the first that the server lists.
    pub model: Option<String>,
    /// The key; `None` for a server that wants none.
    pub key: Option<ApiKey>,
    /// The header that carries the key.
    pub key_header: KeyHeader,
    /// Merged into the body of every question.
    pub extra_body: ExtraBody,
    /// How long things may take.
    pub bounds: Bounds,
    /// How the server is known, and we to it.
    pub tls: Tls,
    /// What stands between.
    pub proxy: Proxy,
}

/// How long things may take. Each of them ends the request with
/// [`Problem::Timeout`](crate::Problem::Timeout).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Bounds {
    /// The look-up of the host's address.
    pub lookup: Duration,
    /// From the address to a connection that can be used: TCP, the proxy and TLS in all.
    pub connect: Duration,
    /// From the moment the request is sent to the first piece of the answer.
    pub first_byte: Duration,
    /// Between two pieces of the answer, and the longest that the server may refuse to take a piece
    /// of the request.
    pub between: Duration,
    /// All of one request.
    pub whole: Duration,
    /// How long an idle connection is kept: servers close theirs after 5 s.
    pub idle: Duration,
    /// The longest answer, in bytes of text.
    pub text: usize,
}

impl Default for Bounds {
    fn default() -> Self {
        Self {
            lookup: Duration::from_secs(5),
            connect: Duration::from_secs(5),
            first_byte: Duration::from_secs(60),
            between: Duration::from_secs(30),
            whole: Duration::from_secs(120),
            idle: Duration::from_secs(4),
            text: 1 << 20,
        }
    }
}

/// How the server is known, and we to it.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Default)]
pub struct Tls {
    /// PEM file of the only authorities that are trusted; `None` for the system's, which
    /// `SSL_CERT_FILE` and `SSL_CERT_DIR` replace.
    pub ca: Option<PathBuf>,
    /// PEM files of our certificate (and those between it and an authority) and of its key.
    pub client: Option<ClientCertificate>,
}

/// Files that show the server who we are.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct ClientCertificate {
    /// The certificate, and those between it and an authority.
    pub certificate: PathBuf,
    /// Its private key, not encrypted. May be the same file.
    pub key: PathBuf,
}

/// What stands between the server and us.
#[derive(Clone, PartialEq, Eq, Hash, Default)]
pub enum Proxy {
    /// What the environment says: `https_proxy` or `http_proxy` by the server's scheme, else
    /// `all_proxy`, unless `no_proxy` names the host.
    #[default]
    Environment,
    /// Nothing.
    None,
    /// `http://[user:password@]host:port`, asked to CONNECT.
    Uri(String),
}

impl std::fmt::Debug for Proxy {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Environment => f.write_str("Environment"),
            Self::None => f.write_str("None"),
            Self::Uri(uri) => write!(f, "Uri({})", crate::uri::shown(uri)),
        }
    }
}

impl Config {
    /// A server with everything else as it is by default.
    pub fn new(server: ServerUri) -> Self {
        Self {
            server,
            model: None,
            key: None,
            key_header: KeyHeader::default(),
            extra_body: ExtraBody::default(),
            bounds: Bounds::default(),
            tls: Tls::default(),
            proxy: Proxy::default(),
        }
    }
}
