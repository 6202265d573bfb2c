// SPDX-License-Identifier: MPL-2.0

//! TLS by rustls: whom we trust, who we are, and what is said when it does not come about.

use std::io::{self, Read, Write};
use std::path::Path;
use std::sync::Arc;

use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::{
    AlertDescription, CertificateError, ClientConfig, ClientConnection, RootCertStore, StreamOwned,
};
use ureq::unversioned::transport::time::Instant;
use ureq::unversioned::transport::{
    Buffers, LazyBuffers, NextTimeout, Transport, TransportAdapter,
};

use super::socket;
use crate::config::Tls;
use crate::error::{ConfigError, Problem};

/// What TLS needs to know, read from its files once.
///
/// # Errors
/// [`ConfigError`] if a file cannot be read or does not hold what it should.
pub(crate) fn config(tls: &Tls) -> Result<Arc<ClientConfig>, ConfigError> {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let builder = ClientConfig::builder_with_provider(provider.clone())
        .with_safe_default_protocol_versions()
        .map_err(|error| ConfigError::NoAuthorities(error.to_string()))?;
    let builder = match &tls.ca {
        Some(file) => builder.with_root_certificates(authorities(file)?),
        None => {
            let verifier = rustls_platform_verifier::Verifier::new(provider)
                .map_err(|error| ConfigError::NoAuthorities(error.to_string()))?;
            builder
                .dangerous() // Another verifier than rustls's own: the system's.
                .with_custom_certificate_verifier(Arc::new(verifier))
        }
    };
    let config = match &tls.client {
        Some(client) => {
            let chain = certificates(&client.certificate)?;
            let pem = read("the client certificate's key", &client.key)?;
            let key =
                PrivateKeyDer::from_pem_slice(&pem).map_err(|_| ConfigError::Certificate {
                    file: client.key.display().to_string(),
                    reason:
                        "holds no private key in PEM (an encrypted one must be decrypted first)"
                            .into(),
                })?;
            let certified = builder.with_client_auth_cert(chain, key);
            certified.map_err(|error| ConfigError::Certificate {
                file: client.key.display().to_string(),
                reason: format!("is not the key of the client certificate: {error}"),
            })?
        }
        None => builder.with_no_client_auth(),
    };
    Ok(Arc::new(config))
}

fn authorities(file: &Path) -> Result<RootCertStore, ConfigError> {
    let mut store = RootCertStore::empty();
    for certificate in certificates(file)? {
        store
            .add(certificate)
            .map_err(|error| ConfigError::Certificate {
                file: file.display().to_string(),
                reason: format!("is no authority's certificate: {error}"),
            })?;
    }
    Ok(store)
}

fn certificates(file: &Path) -> Result<Vec<CertificateDer<'static>>, ConfigError> {
    let pem = read("a certificate", file)?;
    let all: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&pem).collect();
    all.ok()
        .filter(|all| !all.is_empty())
        .ok_or_else(|| ConfigError::Certificate {
            file: file.display().to_string(),
            reason: "holds no certificate in PEM (it begins with -----BEGIN CERTIFICATE-----)"
                .into(),
        })
}

fn read(what: &'static str, file: &Path) -> Result<Vec<u8>, ConfigError> {
    std::fs::read(file).map_err(|source| ConfigError::File {
        what,
        file: file.display().to_string(),
        source,
    })
}

/// A transport within TLS.
pub(super) struct Secured {
    stream: StreamOwned<ClientConnection, TransportAdapter>,
    buffers: LazyBuffers,
}

impl Secured {
    /// Shakes hands with `host`.
    ///
    /// # Errors
    /// Those of the transport and of TLS; [`problem`] tells the latter.
    pub(super) fn new(
        transport: Box<dyn Transport>,
        host: &str,
        config: &Arc<ClientConfig>,
        current_time: Arc<dyn Fn() -> Instant + Send + Sync>,
    ) -> Result<Self, ureq::Error> {
        let name = ServerName::try_from(host.to_owned()).map_err(io::Error::other)?;
        let mut conn = ClientConnection::new(config.clone(), name).map_err(io::Error::other)?;
        // The socket has bounds of its own.
        let mut sock = TransportAdapter::new(transport, current_time);
        conn.complete_io(&mut sock)?;
        Ok(Self {
            stream: StreamOwned { conn, sock },
            buffers: socket::buffers(),
        })
    }
}

impl std::fmt::Debug for Secured {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Secured").finish_non_exhaustive()
    }
}

impl Transport for Secured {
    fn buffers(&mut self) -> &mut dyn Buffers {
        &mut self.buffers
    }

    fn transmit_output(&mut self, amount: usize, _: NextTimeout) -> Result<(), ureq::Error> {
        Ok(self.stream.write_all(&self.buffers.output()[..amount])?)
    }

    fn await_input(&mut self, _: NextTimeout) -> Result<bool, ureq::Error> {
        let n = self.stream.read(self.buffers.input_append_buf())?;
        self.buffers.input_appended(n);
        Ok(n > 0)
    }

    fn is_open(&mut self) -> bool {
        self.stream.get_mut().get_mut().is_open()
    }

    fn is_tls(&self) -> bool {
        true
    }
}

/// The problem with TLS that an error is about; `None` if it is about something else.
pub(crate) fn problem(error: &ureq::Error) -> Option<Problem> {
    let ureq::Error::Io(error) = error else {
        return None;
    };
    let error = error.get_ref()?;
    if error.is::<rustls::pki_types::InvalidDnsNameError>() {
        let reason = "the host in server-uri is no name that a certificate can hold".into();
        return Some(Problem::Tls { reason });
    }
    let reason = reason(error.downcast_ref()?);
    Some(Problem::Tls { reason })
}

fn reason(error: &rustls::Error) -> String {
    use CertificateError as C;
    match error {
        rustls::Error::InvalidCertificate(certificate) => match certificate {
            // A bad signature is that of another authority with the same name.
            C::UnknownIssuer | C::BadSignature => {
                "the server's certificate is of an authority that is not trusted here; set server-ca-file \
                 to that authority's certificate"
                    .into()
            }
            C::NotValidForName | C::NotValidForNameContext { .. } => format!(
                "the server's certificate is for another name ({certificate}); use that name in \
                 server-uri"
            ),
            C::Expired | C::ExpiredContext { .. } => {
                "the server's certificate has expired; renew it there, and check this machine's \
                 clock"
                    .into()
            }
            C::NotValidYet | C::NotValidYetContext { .. } => {
                "the server's certificate is not valid yet; check this machine's clock".into()
            }
            other => format!("the server's certificate is not accepted: {other}"),
        },
        rustls::Error::AlertReceived(
            alert @ (AlertDescription::CertificateRequired
            | AlertDescription::BadCertificate
            | AlertDescription::UnknownCA
            | AlertDescription::CertificateUnknown
            | AlertDescription::CertificateExpired
            | AlertDescription::AccessDenied
            | AlertDescription::DecryptError
            | AlertDescription::HandshakeFailure),
        ) => format!(
            "the server refuses us ({alert:?}); does it want a client certificate, or another one?"
        ),
        rustls::Error::InvalidMessage(_) => {
            "the server does not speak TLS there; should server-uri begin with http://?".into()
        }
        other => other.to_string(),
    }
}
