// SPDX-License-Identifier: MPL-2.0

//! Listens, with limits on what one address may hold open and on how long it may take to ask.

use std::collections::HashMap;
use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, Mutex, RwLock};
use std::time::Duration;

use hyper::body::Incoming;
use hyper::service::Service;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream};
use tokio::runtime::Runtime;
use tokio_rustls::TlsAcceptor;

use crate::config::door::Door;
use crate::log;

use super::site::Site;
use super::who::Direct;
use super::{routes, tls};

/// Connections that one address may hold.
const MOST: usize = 64;
/// How long the head of a request may take.
const HEAD: Duration = Duration::from_secs(30);
/// How long the beginning of TLS may take.
const HANDSHAKE: Duration = Duration::from_secs(10);
/// Connections that a trusted proxy may hold, for all who come by it.
const MOST_OF_PROXY: usize = 1_024;
/// How often the runtime shows that it moves.
const BEAT: Duration = Duration::from_secs(5);

/// The certificate of now; nothing is plain HTTP.
type Acceptor = Arc<RwLock<Option<TlsAcceptor>>>;

/// The page, being served until this is dropped.
pub struct Server {
    runtime: Option<Runtime>,
    tls: Acceptor,
    /// Where it listens.
    pub address: SocketAddr,
}

impl Server {
    /// Begins to listen.
    ///
    /// # Errors
    /// A sentence with the address, and what to do.
    pub fn start(listen: SocketAddr, site: Arc<Site>) -> Result<Self, String> {
        let mut builder = tokio::runtime::Builder::new_multi_thread();
        let runtime = builder
            .worker_threads(2)
            .thread_name("watch-web")
            .enable_all()
            .build();
        let runtime = runtime.map_err(|error| format!("the page cannot be served: {error}"))?;
        let listener = runtime
            .block_on(TcpListener::bind(listen))
            .map_err(|error| {
                format!(
                    "{listen} cannot be listened on: {error}; choose another `listen` in [server]"
                )
            })?;
        let address = listener.local_addr().map_err(|error| error.to_string())?;
        let door = site.hub.config().door.clone();
        let made = door.tls.as_ref().map(tls::acceptor).transpose()?;
        let acceptor = Acceptor::new(RwLock::new(made));
        let pulse = site.hub.health.pulse("page");
        runtime.spawn(async move {
            loop {
                pulse.beat();
                tokio::time::sleep(BEAT).await;
            }
        });
        runtime.spawn(accept(listener, site, acceptor.clone()));
        Ok(Self {
            runtime: Some(runtime),
            tls: acceptor,
            address,
        })
    }
}

impl Server {
    /// Reads certificate and key anew; connections that are open stay.
    ///
    /// # Errors
    /// What is wrong with them; the ones before stay.
    pub fn renew(&self, door: &Door) -> Result<(), String> {
        let made = door.tls.as_ref().map(tls::acceptor).transpose()?;
        *self.tls.write().unwrap() = made;
        Ok(())
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            // Streams of events end when they are told to, not by themselves.
            runtime.shutdown_timeout(Duration::from_secs(1));
        }
    }
}

type Open = Arc<Mutex<HashMap<IpAddr, usize>>>;

async fn accept(listener: TcpListener, site: Arc<Site>, tls: Acceptor) {
    let router = routes::router(site.clone());
    let open = Open::default();
    loop {
        let (stream, peer) = match listener.accept().await {
            Ok(accepted) => accepted,
            Err(error) => {
                // Too many open files, say: others end, and then it goes on.
                log::warning(format!("a connection cannot be accepted: {error}"));
                tokio::time::sleep(Duration::from_millis(500)).await;
                continue;
            }
        };
        let config = site.hub.config();
        let most = if config.door.trusted.contains(&peer.ip().to_canonical()) {
            MOST_OF_PROXY
        } else {
            MOST
        };
        let Some(place) = Place::take(&open, peer.ip(), most) else {
            continue;
        };
        let acceptor = tls.read().unwrap().clone();
        let below = Below {
            inner: TowerToHyperService::new(router.clone()),
            path: config.door.path.clone(),
            direct: Direct {
                address: peer,
                tls: acceptor.is_some(),
                below: false,
            },
        };
        tokio::spawn(begin(stream, acceptor, below, place));
    }
}

async fn begin(stream: TcpStream, acceptor: Option<TlsAcceptor>, below: Below, place: Place) {
    match acceptor {
        None => serve(stream, below).await,
        Some(acceptor) => match tokio::time::timeout(HANDSHAKE, acceptor.accept(stream)).await {
            Ok(Ok(stream)) => serve(stream, below).await,
            Ok(Err(error)) => log::debug(format!("no TLS with {}: {error}", below.direct.address)),
            Err(_) => log::debug(format!("no TLS with {}: too slow", below.direct.address)),
        },
    }
    drop(place);
}

async fn serve<T: AsyncRead + AsyncWrite + Unpin + Send + 'static>(stream: T, below: Below) {
    let mut builder = hyper::server::conn::http1::Builder::new();
    builder.timer(TokioTimer::new()).header_read_timeout(HEAD);
    let connection = builder
        .serve_connection(TokioIo::new(stream), below)
        .with_upgrades();
    if let Err(error) = connection.await {
        log::debug(format!("a connection ended: {error}"));
    }
}

/// The routes, at the path of the page and at the root: proxies pass the path on or take it away.
struct Below {
    inner: TowerToHyperService<axum::Router>,
    /// With a slash at both ends.
    path: String,
    direct: Direct,
}

impl Service<hyper::Request<Incoming>> for Below {
    type Response =
        <TowerToHyperService<axum::Router> as Service<hyper::Request<Incoming>>>::Response;
    type Error = <TowerToHyperService<axum::Router> as Service<hyper::Request<Incoming>>>::Error;
    type Future = <TowerToHyperService<axum::Router> as Service<hyper::Request<Incoming>>>::Future;

    fn call(&self, mut request: hyper::Request<Incoming>) -> Self::Future {
        let mut direct = self.direct;
        if self.path != "/" {
            let found = without(&self.path, request.uri());
            direct.below = found.is_some();
            if let Some(uri) = found {
                *request.uri_mut() = uri;
            }
        }
        request.extensions_mut().insert(direct);
        self.inner.call(request)
    }
}

/// The address without the path of the page. That path without its last slash stays as it is: whoever
/// asks for it is sent to the one with it.
fn without(path: &str, uri: &hyper::Uri) -> Option<hyper::Uri> {
    let rest = uri.path().strip_prefix(path)?;
    let query = uri
        .query()
        .map_or(String::new(), |query| format!("?{query}"));
    format!("/{rest}{query}").parse().ok()
}

/// A connection that counts for its address.
struct Place {
    open: Open,
    address: IpAddr,
}

impl Place {
    fn take(open: &Open, address: IpAddr, most: usize) -> Option<Self> {
        let mut counts = open.lock().unwrap();
        let count = counts.entry(address).or_default();
        if *count >= most {
            return None;
        }
        *count += 1;
        Some(Self {
            open: open.clone(),
            address,
        })
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut counts = self.open.lock().unwrap();
        if let Some(count) = counts.get_mut(&self.address) {
            *count -= 1;
            if *count == 0 {
                counts.remove(&self.address);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_path_of_the_page_is_taken_away_once_and_nothing_else() {
        let of = |text: &str| without("/watch/", &text.parse().unwrap()).map(|uri| uri.to_string());
        assert_eq!(of("/watch/"), Some("/".into()));
        assert_eq!(of("/watch/api/v1/me?a=b"), Some("/api/v1/me?a=b".into()));
        assert_eq!(of("/watch//watch/x"), Some("//watch/x".into()));
        for other in ["/watch", "/watcher/x", "/", "/api/v1/me"] {
            assert_eq!(of(other), None, "{other}");
        }
    }
}
