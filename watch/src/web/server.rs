// SPDX-License-Identifier: MPL-2.0

//! Listens, with limits on what one address may hold open and on how long it may take to ask.

use std::collections::HashMap;
use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use axum::Extension;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use tokio::net::{TcpListener, TcpStream};
use tokio::runtime::Runtime;

use crate::log;

use super::routes;
use super::site::Site;

/// Connections that one address may hold.
const MOST: usize = 64;
/// How long the head of a request may take.
const HEAD: Duration = Duration::from_secs(30);

/// The page, being served until this is dropped.
pub struct Server {
    runtime: Option<Runtime>,
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
        runtime.spawn(accept(listener, site));
        Ok(Self {
            runtime: Some(runtime),
            address,
        })
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

async fn accept(listener: TcpListener, site: Arc<Site>) {
    let router = routes::router(site);
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
        let Some(place) = Place::take(&open, peer.ip()) else {
            continue;
        };
        tokio::spawn(serve(stream, router.clone().layer(Extension(peer)), place));
    }
}

async fn serve(stream: TcpStream, router: axum::Router, place: Place) {
    let mut builder = hyper::server::conn::http1::Builder::new();
    builder.timer(TokioTimer::new()).header_read_timeout(HEAD);
    let connection = builder
        .serve_connection(TokioIo::new(stream), TowerToHyperService::new(router))
        .with_upgrades();
    if let Err(error) = connection.await {
        log::debug(format!("a connection ended: {error}"));
    }
    drop(place);
}

/// A connection that counts for its address.
struct Place {
    open: Open,
    address: IpAddr,
}

impl Place {
    fn take(open: &Open, address: IpAddr) -> Option<Self> {
        let mut counts = open.lock().unwrap();
        let count = counts.entry(address).or_default();
        if *count >= MOST {
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
