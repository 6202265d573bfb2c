// SPDX-License-Identifier: MPL-2.0

//! Connections that are idle, for the next request.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

use rustls::ClientConfig;
use ureq::config::{AutoHeaderValue, Config};

use super::connector::{NoResolver, Way};
use super::dial::Dialer;
use super::link::Link;
use crate::config::Bounds;

/// Connections that are kept.
const MOST_IDLE: usize = 16;

/// Who we are to a server.
const USER_AGENT: &str = concat!("vlmcaption/", env!("CARGO_PKG_VERSION"));

/// A connection, or the means to make one.
pub(crate) struct Lane {
    pub(crate) agent: ureq::Agent,
    pub(crate) link: Arc<Link>,
    idle_since: Instant,
}

/// Connections that are idle, and how new ones are made.
pub(crate) struct Pool {
    idle: Mutex<Vec<Lane>>,
    bounds: Bounds,
    dialer: Arc<Dialer>,
    tls: Option<Arc<ClientConfig>>,
    proxy: Option<ureq::Proxy>,
}

impl Pool {
    pub(crate) fn new(
        bounds: Bounds,
        dialer: Dialer,
        tls: Option<Arc<ClientConfig>>,
        proxy: Option<ureq::Proxy>,
    ) -> Self {
        Self {
            idle: Mutex::default(),
            bounds,
            dialer: Arc::new(dialer),
            tls,
            proxy,
        }
    }

    /// The connection that was used last, if it is young enough, or a new one.
    pub(crate) fn take(&self) -> Lane {
        let mut idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner);
        idle.retain(|lane| lane.idle_since.elapsed() < self.bounds.idle);
        let lane = idle.pop();
        drop(idle);
        lane.unwrap_or_else(|| self.fresh())
    }

    /// Takes a connection back that can be used again.
    pub(crate) fn give(&self, lane: Lane) {
        let mut idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner);
        idle.retain(|lane| lane.idle_since.elapsed() < self.bounds.idle);
        if idle.len() < MOST_IDLE {
            idle.push(Lane {
                idle_since: Instant::now(),
                ..lane
            });
        }
    }

    /// A new connection, made by its first request.
    pub(crate) fn fresh(&self) -> Lane {
        let link = Arc::new(Link::new(self.bounds));
        let proxy = self.proxy.as_ref();
        let way = Way {
            link: link.clone(),
            dialer: self.dialer.clone(),
            tls: self.tls.clone(),
            proxy: proxy.map(|proxy| format!("{}:{}", proxy.host(), proxy.port())),
        };
        // Statuses are read here, the key follows no redirect, and the link has the bounds.
        let config = Config::builder()
            .http_status_as_error(false)
            .max_redirects(0)
            .proxy(self.proxy.clone())
            .user_agent(USER_AGENT)
            .accept(AutoHeaderValue::None)
            .accept_encoding(AutoHeaderValue::None)
            .max_idle_connections(1)
            .max_idle_connections_per_host(1)
            .max_idle_age(self.bounds.idle)
            .build();
        Lane {
            agent: ureq::Agent::with_parts(config, way, NoResolver),
            link,
            idle_since: Instant::now(),
        }
    }
}
