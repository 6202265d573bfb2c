// SPDX-License-Identifier: MPL-2.0

//! TLS with authorities of the test's own.

use std::net::TcpStream;
use std::path::PathBuf;
use std::sync::Arc;

use openai_client::{Client, ClientCertificate, Config, ConfigError, Problem, Tls};
use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair};
use rustls::pki_types::PrivateKeyDer;
use rustls::server::WebPkiClientVerifier;
use rustls::{RootCertStore, ServerConfig, ServerConnection, StreamOwned};
use tempfile::TempDir;

use crate::mock::*;

/// An authority, and a folder for what it signs.
struct Authority {
    issuer: Issuer<'static, KeyPair>,
    certificate: rcgen::Certificate,
    folder: TempDir,
}

/// A certificate with its key.
struct Signed {
    certificate: rcgen::Certificate,
    key: KeyPair,
}

impl Authority {
    fn new() -> Self {
        Self::named("one")
    }

    fn named(name: &str) -> Self {
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.distinguished_name.push(DnType::CommonName, name);
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let key = KeyPair::generate().unwrap();
        let certificate = params.self_signed(&key).unwrap();
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("ca.pem"), certificate.pem()).unwrap();
        Self {
            issuer: Issuer::new(params, key),
            certificate,
            folder,
        }
    }

    fn sign(&self, change: impl FnOnce(&mut CertificateParams)) -> Signed {
        let mut params = CertificateParams::new(vec!["127.0.0.1".into()]).unwrap();
        change(&mut params);
        let key = KeyPair::generate().unwrap();
        let certificate = params.signed_by(&key, &self.issuer).unwrap();
        Signed { certificate, key }
    }

    fn file(&self) -> PathBuf {
        self.folder.path().join("ca.pem")
    }

    /// Files of a certificate for a client.
    fn client(&self) -> ClientCertificate {
        let signed = self.sign(|_| ());
        let (certificate, key) = (
            self.folder.path().join("c.pem"),
            self.folder.path().join("k.pem"),
        );
        std::fs::write(&certificate, signed.certificate.pem()).unwrap();
        std::fs::write(&key, signed.key.serialize_pem()).unwrap();
        ClientCertificate { certificate, key }
    }
}

/// A mock behind TLS with this certificate, which asks for one of `clients` if that is given.
fn mock(signed: Signed, clients: Option<&Authority>) -> Mock {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let builder = ServerConfig::builder_with_provider(provider.clone())
        .with_safe_default_protocol_versions()
        .unwrap();
    let builder = match clients {
        Some(authority) => {
            let mut roots = RootCertStore::empty();
            roots.add(authority.certificate.der().clone()).unwrap();
            let verifier = WebPkiClientVerifier::builder_with_provider(roots.into(), provider);
            builder.with_client_cert_verifier(verifier.build().unwrap())
        }
        None => builder.with_no_client_auth(),
    };
    let key = PrivateKeyDer::Pkcs8(signed.key.serialize_der().into());
    let chain = vec![signed.certificate.der().clone()];
    let config = Arc::new(builder.with_single_cert(chain, key).unwrap());
    let wrap = move |stream: TcpStream| {
        let connection = ServerConnection::new(config.clone()).ok()?;
        Some(Box::new(StreamOwned::new(connection, stream)) as Box<dyn Stream>)
    };
    Mock::start_over(wrap, |connection| {
        while connection.request().is_some() && connection.send(good()) {}
    })
}

/// TLS with an authority that signed nothing, for servers that do not come to show a certificate;
/// the system may know none.
pub fn of_nobody() -> (TempDir, Tls) {
    let Authority { folder, .. } = Authority::new();
    let ca = Some(folder.path().join("ca.pem"));
    (folder, Tls { ca, client: None })
}

fn config_for(mock: &Mock, tls: Tls) -> Config {
    Config {
        tls,
        ..config(&format!("https://{}/v1", mock.address))
    }
}

fn reason(config: Config) -> String {
    let error = ask(&client(config)).unwrap_err();
    assert!(matches!(error.problem, Problem::Tls { .. }), "{error}");
    assert!(!error.is_retryable());
    error.to_string()
}

#[test]
fn a_server_of_our_own_authority_is_asked_and_its_connection_kept() {
    let authority = Authority::new();
    let mock = mock(authority.sign(|_| ()), None);
    let ca = Some(authority.file());
    let client = client(config_for(&mock, Tls { ca, client: None }));
    for _ in 0..3 {
        assert_eq!(ask(&client).unwrap().text, "A car.");
        assert_eq!(mock.received().connection, 0);
    }
}

#[test]
fn a_server_of_another_authority_is_refused_with_what_to_do() {
    let mock = mock(Authority::new().sign(|_| ()), None);
    // Also of one that was made anew under its old name.
    for other in [Authority::named("two"), Authority::new()] {
        let ca = Some(other.file());
        let text = reason(config_for(&mock, Tls { ca, client: None }));
        assert!(text.contains("set server-ca-file"), "{text}");
    }
    assert!(mock.is_idle(), "no request was sent");
}

#[test]
fn the_system_does_not_trust_an_authority_of_ours() {
    let mock = mock(Authority::new().sign(|_| ()), None);
    match Client::new(config_for(&mock, Tls::default())) {
        Ok(client) => {
            let text = ask(&client).unwrap_err().to_string();
            assert!(text.contains("set server-ca-file"), "{text}");
        }
        // A system without authorities trusts nobody at all.
        Err(error) => assert!(matches!(error, ConfigError::NoAuthorities(_)), "{error}"),
    }
}

/// Names the server to the test that is run in a process of its own.
const SERVER: &str = "VLMCAPTION_TEST_SERVER";

#[test]
fn ssl_cert_file_says_whom_the_system_trusts() {
    let authority = Authority::new();
    let mock = mock(authority.sign(|_| ()), None);
    let mut child = std::process::Command::new(std::env::current_exe().unwrap());
    let child = child
        .args(["--ignored", "--exact", "tls::asks_whom_the_system_trusts"])
        .env("SSL_CERT_FILE", authority.file())
        .env(SERVER, format!("https://{}/v1", mock.address));
    let output = child.output().unwrap();
    assert!(output.status.success(), "{output:?}");
    assert_eq!(mock.received().line, "POST /v1/chat/completions HTTP/1.1");
}

#[test]
#[ignore = "run by ssl_cert_file_says_whom_the_system_trusts, which sets its environment"]
fn asks_whom_the_system_trusts() {
    if let Ok(server) = std::env::var(SERVER) {
        assert_eq!(ask(&client(config(&server))).unwrap().text, "A car.");
    }
}

#[test]
fn a_certificate_for_another_name_or_time_is_refused() {
    let authority = Authority::new();
    let tls = Tls {
        ca: Some(authority.file()),
        client: None,
    };
    let named = authority.sign(|params| {
        params.subject_alt_names = CertificateParams::new(vec!["gpu.example".into()])
            .unwrap()
            .subject_alt_names;
    });
    let text = reason(config_for(&mock(named, None), tls.clone()));
    assert!(text.contains("gpu.example"), "{text}");
    let old = authority.sign(|params| params.not_after = rcgen::date_time_ymd(2001, 1, 1));
    let text = reason(config_for(&mock(old, None), tls));
    assert!(text.contains("has expired"), "{text}");
}

#[test]
fn a_server_that_wants_a_client_certificate_gets_ours() {
    let authority = Authority::new();
    let clients = Authority::new();
    let mock = mock(authority.sign(|_| ()), Some(&clients));
    let with = |client| Tls {
        ca: Some(authority.file()),
        client,
    };
    let answer = ask(&client(config_for(&mock, with(Some(clients.client())))));
    assert_eq!(answer.unwrap().text, "A car.");
    let text = reason(config_for(&mock, with(None)));
    assert!(text.contains("client certificate"), "{text}");
    for other in [Authority::named("two"), Authority::new()] {
        let text = reason(config_for(&mock, with(Some(other.client()))));
        assert!(text.contains("client certificate"), "{text}");
    }
}

#[test]
fn a_server_without_tls_is_told() {
    let plain = Mock::start(|connection| {
        connection.send("HTTP/1.1 400 Bad Request\r\n\r\n");
        connection.wait_for_close();
    });
    let authority = Authority::new();
    let tls = Tls {
        ca: Some(authority.file()),
        client: None,
    };
    let text = reason(config_for(&plain, tls));
    assert!(text.contains("http://"), "{text}");
}

#[test]
fn files_that_do_not_hold_what_they_should_are_named() {
    let authority = Authority::new();
    let (ca, client) = (authority.file(), authority.client());
    let wrong = |ca: &PathBuf, certificate: &PathBuf, key: &PathBuf| {
        let (certificate, key) = (certificate.clone(), key.clone());
        let tls = Tls {
            ca: Some(ca.clone()),
            client: Some(ClientCertificate { certificate, key }),
        };
        let config = Config {
            tls,
            ..config("https://127.0.0.1:1/v1")
        };
        Client::new(config).unwrap_err().to_string()
    };
    let missing = authority.folder.path().join("missing.pem");
    assert!(wrong(&missing, &client.certificate, &client.key).contains("missing.pem"));
    assert!(wrong(&client.key, &client.certificate, &client.key).contains("no certificate"));
    assert!(wrong(&ca, &client.key, &client.key).contains("no certificate"));
    assert!(wrong(&ca, &client.certificate, &ca).contains("no private key"));
    let other = Authority::new();
    assert!(wrong(&ca, &client.certificate, &other.client().key).contains("not the key"));
}
