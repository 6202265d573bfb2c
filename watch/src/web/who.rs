// SPDX-License-Identifier: MPL-2.0

//! Who asks: from which address, by which proxy, with what that lets him in.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use axum::extract::{FromRequestParts, Request, State};
use axum::http::request::Parts;
use axum::http::{HeaderMap, HeaderName, Method, StatusCode, header};
use axum::middleware::Next;
use axum::response::{AppendHeaders, IntoResponse, Response};
use subtle::ConstantTimeEq;

use crate::accounts::{TOKEN, User};
use crate::config::door::Door;
use crate::hub::Seen;
use crate::log;
use crate::store::reader::Scope;

use super::asking::Fault;
use super::proof::Proof;
use super::site::Site;

/// The name of the cookie with the session; over TLS with a prefix that browsers hold it to.
const COOKIE: &str = "vlmcaption-watch";

/// How the connection came in, as the server knows it.
#[derive(Debug, Clone, Copy)]
pub struct Direct {
    pub address: SocketAddr,
    pub tls: bool,
    /// Whether the path below which the page is served stood in front.
    pub below: bool,
}

/// Who asks.
#[derive(Debug, Clone)]
pub struct Peer {
    /// His address: the one that a trusted proxy names, or that of the connection.
    pub address: IpAddr,
    /// Whether his browser talks TLS.
    pub secure: bool,
    /// Whether the connection is of this machine, and no proxy's as far as can be told.
    pub local: bool,
    /// The user that a trusted proxy has had log in.
    login: Option<String>,
    /// What the browser takes for the host.
    host: String,
    /// The path of the page.
    path: String,
}

impl Peer {
    fn of(direct: Direct, headers: &HeaderMap, door: &Door) -> Self {
        let trusted = door.trusted.contains(&direct.address.ip().to_canonical());
        let value = |name: &str| headers.get(name).and_then(|value| value.to_str().ok());
        let chain: Vec<IpAddr> = headers
            .get_all("x-forwarded-for")
            .iter()
            .filter_map(|value| value.to_str().ok())
            .flat_map(|line| line.split(','))
            .map_while(|part| part.trim().parse::<IpAddr>().ok())
            .collect();
        // From the right: whatever stands before the first that is not trusted he may have written himself.
        let client = chain
            .iter()
            .rev()
            .find(|address| !door.trusted.contains(address));
        let address = match client {
            Some(client) if trusted => *client,
            _ => direct.address.ip().to_canonical(),
        };
        let forwarded = [
            "x-forwarded-for",
            "forwarded",
            "via",
            "x-real-ip",
            "x-forwarded-host",
        ];
        let login = door
            .proxy_login
            .as_ref()
            .filter(|_| trusted)
            .and_then(|login| {
                let secret = value("x-proxy-secret").unwrap_or_default().as_bytes();
                let right: bool = secret.ct_eq(login.secret.expose().as_bytes()).into();
                value(&login.header)
                    .filter(|name| right && !name.is_empty())
                    .map(str::to_owned)
            });
        let told_host = value("x-forwarded-host").filter(|_| trusted);
        Self {
            address,
            secure: direct.tls || (trusted && value("x-forwarded-proto") == Some("https")),
            local: direct.address.ip().to_canonical().is_loopback()
                && door.trusted.is_empty()
                && !direct.below
                && door.path == "/"
                && !forwarded.iter().any(|name| headers.contains_key(*name)),
            login,
            host: told_host.or(value("host")).unwrap_or_default().to_owned(),
            path: door.path.clone(),
        }
    }

    /// Whether a request says of itself that another site made it.
    fn is_foreign(&self, headers: &HeaderMap) -> bool {
        let value = |name: &str| headers.get(name).and_then(|value| value.to_str().ok());
        let same = |origin: &str| {
            let authority = origin.split_once("://").map(|(_, authority)| authority);
            authority.is_some_and(|authority| authority == self.host)
        };
        value("sec-fetch-site").is_some_and(|site| site != "same-origin")
            || value("origin").is_some_and(|origin| !same(origin))
    }

    /// Whether a request says of itself that this page made it.
    pub fn is_same_origin(&self, headers: &HeaderMap) -> bool {
        headers.contains_key(header::ORIGIN) && !self.is_foreign(headers)
    }

    fn cookie_name(&self) -> String {
        match (self.secure, self.path.as_str()) {
            (true, "/") => format!("__Host-{COOKIE}"),
            (true, _) => format!("__Secure-{COOKIE}"),
            (false, _) => COOKIE.to_owned(),
        }
    }

    /// The session that the browser shows.
    fn cookie<'a>(&self, headers: &'a HeaderMap) -> Option<&'a str> {
        let name = self.cookie_name();
        let all = headers
            .get_all(header::COOKIE)
            .iter()
            .filter_map(|value| value.to_str().ok());
        let pairs = all
            .flat_map(|line| line.split(';'))
            .filter_map(|pair| pair.trim().split_once('='));
        let mut ours = pairs.filter(|(found, _)| *found == name);
        ours.next().map(|(_, value)| value)
    }

    /// Has the browser keep a session.
    pub fn set_cookie(
        &self,
        token: &str,
        seconds: u32,
    ) -> AppendHeaders<[(HeaderName, String); 1]> {
        let secure = if self.secure { "; Secure" } else { "" };
        let value = format!(
            "{}={token}; HttpOnly; SameSite=Strict; Path={}; Max-Age={seconds}{secure}",
            self.cookie_name(),
            self.path
        );
        AppendHeaders([(header::SET_COOKIE, value)])
    }
}

/// Says to all that follow who asks.
pub async fn asks(State(site): State<Arc<Site>>, mut request: Request, next: Next) -> Response {
    let Some(direct) = request.extensions().get::<Direct>().copied() else {
        return Fault::Inside("a request came from nowhere".into()).into_response();
    };
    let peer = Peer::of(direct, request.headers(), &site.hub.config().door);
    request.extensions_mut().insert(peer);
    next.run(request).await
}

/// Where to, from the path of the page without its slash: addresses in the page are relative.
pub async fn with_slash(path: &str) -> Response {
    (
        StatusCode::PERMANENT_REDIRECT,
        [(header::LOCATION, path.to_owned())],
    )
        .into_response()
}

/// Whether another site has a browser send something that changes something.
pub fn is_foreign(request: &Request) -> bool {
    if matches!(*request.method(), Method::GET | Method::HEAD) {
        return false;
    }
    let peer = request.extensions().get::<Peer>();
    peer.is_none_or(|peer| peer.is_foreign(request.headers()))
}

/// The token of a program, if it shows one.
pub fn bearer(headers: &HeaderMap) -> Option<&str> {
    let value = headers.get(header::AUTHORIZATION)?.to_str().ok()?;
    value
        .strip_prefix("Bearer ")
        .map(str::trim)
        .filter(|token| token.starts_with(TOKEN))
}

/// Somebody who is let in.
pub struct Viewer {
    pub user: User,
    pub proof: Proof,
}

impl FromRequestParts<Arc<Site>> for Viewer {
    type Rejection = Fault;

    async fn from_request_parts(parts: &mut Parts, site: &Arc<Site>) -> Result<Self, Fault> {
        let peer = parts.extensions.get::<Peer>().ok_or(Fault::NoSession)?;
        let proof = if let Some(token) = bearer(&parts.headers) {
            Proof::Token(token.to_owned())
        } else if let Some(name) = &peer.login {
            Proof::Proxy(name.clone())
        } else {
            let token = peer.cookie(&parts.headers).ok_or(Fault::NoSession)?;
            Proof::Session(token.to_owned())
        };
        let user = site.user(&proof).ok_or(Fault::NoSession);
        if let (Err(_), Proof::Proxy(name)) = (&user, &proof) {
            log::debug(format!(
                "the proxy names {name:?}, and there is no such user"
            ));
        }
        Ok(Self { user: user?, proof })
    }
}

impl Viewer {
    /// The cameras that he may know of.
    pub fn scope(&self) -> Scope {
        self.user.scope()
    }

    /// The camera, if he may see it.
    pub fn camera(&self, site: &Site, id: &str) -> Result<Seen, Fault> {
        site.hub
            .camera(id)
            .filter(|seen| self.scope().has(&seen.id))
            .ok_or(Fault::NotFound)
    }
}

/// An admin who is let in.
pub struct Admin(pub Viewer);

impl FromRequestParts<Arc<Site>> for Admin {
    type Rejection = Fault;

    async fn from_request_parts(parts: &mut Parts, site: &Arc<Site>) -> Result<Self, Fault> {
        let viewer = Viewer::from_request_parts(parts, site).await?;
        if viewer.user.admin {
            Ok(Self(viewer))
        } else {
            Err(Fault::AdminOnly)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{Config, Process};

    fn peer(from: &str, door: &str, headers: &[(&'static str, &str)]) -> Peer {
        let config = Config::parse(&format!("[server]\n{door}"), &Process).unwrap();
        let mut map = HeaderMap::new();
        for (name, value) in headers {
            map.append(*name, value.parse().unwrap());
        }
        let direct = Direct {
            address: from.parse().unwrap(),
            tls: false,
            below: false,
        };
        Peer::of(direct, &map, &config.door)
    }

    #[test]
    fn what_a_proxy_forwards_is_believed_of_a_trusted_one_alone() {
        let forwarded = [
            ("x-forwarded-for", "6.6.6.6, 10.0.0.7"),
            ("x-forwarded-proto", "https"),
            ("x-forwarded-host", "cams.example"),
        ];
        let trusting = "trusted-proxies = [\"127.0.0.1\"]";
        let believed = peer("127.0.0.1:9", trusting, &forwarded);
        assert_eq!(believed.address.to_string(), "10.0.0.7");
        assert!(believed.secure && believed.host == "cams.example" && !believed.local);
        for (from, door) in [("127.0.0.1:9", ""), ("10.0.0.9:9", trusting)] {
            let other = peer(from, door, &forwarded);
            assert_eq!(other.address.to_string(), from.split(':').next().unwrap());
            assert!(!other.secure && other.host.is_empty() && !other.local);
        }
        assert!(peer("127.0.0.1:9", "", &[]).local);
        assert!(!peer("10.0.0.9:9", "", &[]).local);
    }

    #[test]
    fn a_proxy_s_log_in_needs_its_secret_and_its_address() {
        let door = "trusted-proxies = [\"127.0.0.1\"]\nauth = { proxy-header = \"X-User\", secret-env = \"PATH\" }";
        let path = std::env::var("PATH").unwrap();
        let right = [("x-user", "ann"), ("x-proxy-secret", path.as_str())];
        assert_eq!(
            peer("127.0.0.1:9", door, &right).login.as_deref(),
            Some("ann")
        );
        assert_eq!(peer("10.0.0.9:9", door, &right).login, None);
        assert_eq!(peer("127.0.0.1:9", door, &right[..1]).login, None);
        assert_eq!(
            peer(
                "127.0.0.1:9",
                door,
                &[("x-user", "ann"), ("x-proxy-secret", "no")]
            )
            .login,
            None
        );
    }
}
