// SPDX-License-Identifier: MPL-2.0

//! Somebody who is told over HTTP.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::sync::mpsc::{self, Receiver};
use std::sync::{Arc, Mutex};

use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};

use super::broker::PATIENCE;

/// What one can say and hear something on.
trait Talk: Read + Write {}

impl<T: Read + Write> Talk for T {}

/// Somebody who is told over HTTP: what came, and the status with which he answers.
pub struct Receiver4Hooks {
    pub port: u16,
    pub status: Arc<Mutex<u16>>,
    pub came: Receiver<(String, String)>,
}

impl Receiver4Hooks {
    pub fn start() -> Self {
        Self::start_as(|stream| Box::new(stream))
    }

    /// Over TLS, with the certificate in a folder.
    pub fn start_tls(folder: &Path) -> Self {
        let chain = CertificateDer::pem_file_iter(folder.join("chain.pem")).unwrap();
        let key = PrivateKeyDer::from_pem_file(folder.join("key.pem")).unwrap();
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let config = rustls::ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(chain.map(Result::unwrap).collect(), key)
            .unwrap();
        let config = Arc::new(config);
        Self::start_as(move |stream| {
            let server = rustls::ServerConnection::new(config.clone()).unwrap();
            Box::new(rustls::StreamOwned::new(server, stream))
        })
    }

    fn start_as(wrap: impl Fn(TcpStream) -> Box<dyn Talk> + Send + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let status = Arc::new(Mutex::new(200));
        let answer = status.clone();
        let (sender, came) = mpsc::channel();
        std::thread::spawn(move || {
            for stream in listener.incoming().map_while(Result::ok) {
                let mut reader = BufReader::new(wrap(stream));
                let (mut head, mut length) = (String::new(), 0);
                loop {
                    let mut line = String::new();
                    if reader.read_line(&mut line).unwrap_or(0) == 0 || line == "\r\n" {
                        break;
                    }
                    if let Some(value) = line.to_ascii_lowercase().strip_prefix("content-length:") {
                        length = value.trim().parse().unwrap();
                    }
                    head.push_str(&line);
                }
                let mut body = vec![0; length];
                if head.is_empty() || reader.read_exact(&mut body).is_err() {
                    continue;
                }
                let code = *answer.lock().unwrap();
                let head_out = format!(
                    "HTTP/1.1 {code} x\r\nContent-Length: 0\r\nLocation: /elsewhere\r\nConnection: close\r\n\r\n"
                );
                let _ = reader.get_mut().write_all(head_out.as_bytes());
                if sender
                    .send((head, String::from_utf8(body).unwrap()))
                    .is_err()
                {
                    return;
                }
            }
        });
        Self { port, status, came }
    }

    pub fn next(&self) -> (String, String) {
        self.came.recv_timeout(PATIENCE).unwrap()
    }
}
