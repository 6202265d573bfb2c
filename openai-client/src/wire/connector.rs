// SPDX-License-Identifier: MPL-2.0

//! One way to the server, put together: socket, proxy, TLS, head.

use std::sync::Arc;

use rustls::ClientConfig;
use ureq::unversioned::resolver::{ResolvedSocketAddrs, Resolver};
use ureq::unversioned::transport::{
    ConnectProxyConnector, ConnectionDetails, Connector, Either, NextTimeout, Transport,
};

use super::dial::Dialer;
use super::head::Headed;
use super::link::Link;
use super::socket::Socket;
use super::tls::{self, Secured};
use crate::error::Problem;

/// Makes connections for one link.
#[derive(Debug)]
pub(crate) struct Way {
    pub(crate) link: Arc<Link>,
    pub(crate) dialer: Arc<Dialer>,
    /// `None` where the server is reached without TLS and no proxy asks for it.
    pub(crate) tls: Option<Arc<ClientConfig>>,
    /// The proxy, `host:port`.
    pub(crate) proxy: Option<String>,
}

impl Connector<()> for Way {
    type Out = Box<dyn Transport>;

    fn connect(
        &self,
        details: &ConnectionDetails<'_>,
        _: Option<()>,
    ) -> Result<Option<Self::Out>, ureq::Error> {
        // The connection to a proxy is made by a call within the call for the server.
        let is_to_proxy = self.proxy.is_some() && details.config.proxy().is_none();
        self.open(details, is_to_proxy)
            .inspect_err(|error| self.note(error, is_to_proxy))
            .map(Some)
    }
}

impl Way {
    fn open(
        &self,
        details: &ConnectionDetails<'_>,
        is_to_proxy: bool,
    ) -> Result<Box<dyn Transport>, ureq::Error> {
        let tunnel = match self.proxy.is_some() && !is_to_proxy {
            true => ConnectProxyConnector::default().connect(details, None::<()>)?,
            false => None,
        };
        let mut transport: Box<dyn Transport> = match tunnel {
            Some(Either::B(tunnel)) => tunnel,
            Some(Either::A(())) | None => self.socket(details)?,
        };
        if let Some(config) = self.tls.as_ref().filter(|_| details.needs_tls()) {
            let host = bare_host(details);
            let time = details.current_time.clone();
            transport = Box::new(Secured::new(transport, &host, config, time)?);
        }
        if is_to_proxy {
            return Ok(transport);
        }
        Ok(Box::new(Headed::new(transport, &self.link)))
    }

    fn socket(&self, details: &ConnectionDetails<'_>) -> Result<Box<dyn Transport>, ureq::Error> {
        let tls = details.needs_tls();
        let port = details.uri.port_u16().unwrap_or(if tls { 443 } else { 80 });
        let stream = self.dialer.dial(&self.link, &bare_host(details), port);
        let socket = stream.and_then(|stream| Socket::new(stream, &self.link));
        match socket {
            Ok(socket) => Ok(Box::new(socket)),
            Err(problem) => Err(ureq::Error::Other(Box::new(problem))),
        }
    }

    /// Notes what went wrong; ureq's own errors say less.
    fn note(&self, error: &ureq::Error, is_to_proxy: bool) {
        let problem = match error {
            ureq::Error::Other(other) => other.downcast_ref::<Problem>().cloned(),
            ureq::Error::ConnectProxyFailed(reason) => Some(Problem::Proxy {
                proxy: self.proxy.clone().unwrap_or_default(),
                reason: reason.clone(),
            }),
            other => tls::problem(other),
        };
        let Some(problem) = problem else { return };
        self.link.note(match (is_to_proxy, problem) {
            (true, problem @ (Problem::Lookup { .. } | Problem::Connect { .. })) => {
                Problem::Proxy {
                    proxy: self.proxy.clone().unwrap_or_default(),
                    reason: short(&problem),
                }
            }
            (_, problem) => problem,
        });
    }
}

fn bare_host(details: &ConnectionDetails<'_>) -> String {
    let host = details.uri.host().unwrap_or_default();
    host.trim_matches(['[', ']']).to_owned()
}

/// The system's reason alone.
fn short(problem: &Problem) -> String {
    match problem {
        Problem::Lookup { reason, .. } | Problem::Connect { reason } => reason.clone(),
        other => other.to_string(),
    }
}

/// Finds no addresses: [`Dialer`] does, where it can be cancelled.
#[derive(Debug)]
pub(crate) struct NoResolver;

impl Resolver for NoResolver {
    fn resolve(
        &self,
        _: &ureq::http::Uri,
        _: &ureq::config::Config,
        _: NextTimeout,
    ) -> Result<ResolvedSocketAddrs, ureq::Error> {
        Ok(self.empty())
    }
}
