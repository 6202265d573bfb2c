// SPDX-License-Identifier: MPL-2.0

//! TLS with a certificate from files, which are read anew when they are renewed.

use std::sync::Arc;

use rustls::ServerConfig;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tokio_rustls::TlsAcceptor;

use crate::config::door::Tls;

/// Reads certificate and key.
///
/// # Errors
/// A sentence with the file, and what is wrong with it.
pub fn acceptor(tls: &Tls) -> Result<TlsAcceptor, String> {
    let path = tls.certificate.display();
    let chain: Vec<CertificateDer> = CertificateDer::pem_file_iter(&tls.certificate)
        .and_then(Iterator::collect)
        .map_err(|error| format!("the certificate {path}: {error}"))?;
    if chain.is_empty() {
        return Err(format!("{path} holds no certificate"));
    }
    let key = PrivateKeyDer::from_pem_file(&tls.key)
        .map_err(|error| format!("the key {}: {error}", tls.key.display()))?;
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let mut config = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|error| error.to_string())?
        .with_no_client_auth()
        .with_single_cert(chain, key)
        .map_err(|error| {
            format!(
                "the key {} does not fit the certificate {path}: {error}",
                tls.key.display()
            )
        })?;
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok(TlsAcceptor::from(Arc::new(config)))
}
