// SPDX-License-Identifier: MPL-2.0

//! The line to a broker: how it is called, tried again, and what its failures mean.

use std::time::Duration;

use rumqttc::{
    ConnectReturnCode, ConnectionError, Event, EventLoop, Incoming, LastWill, MqttOptions, QoS,
    TlsConfiguration, Transport,
};
use tokio::sync::mpsc;

use crate::config::out::Broker;
use crate::secret;
use crate::store::outbox::Moment;

/// A still is the largest thing that is sent.
const LARGEST: usize = 1 << 20;
/// Waits between tries to connect.
const FIRST: Duration = Duration::from_secs(1);
const LONGEST: Duration = Duration::from_secs(30);
/// What the connection says.
pub enum Heard {
    Connected,
    Lost(String),
    Message(String, Vec<u8>),
    /// The broker has it, or it is unknown whether it has.
    Told(i64, Moment, bool),
    Answer(String, Vec<u8>),
}

/// Keeps the connection, and says what comes.
pub async fn poll(mut connection: EventLoop, hear: mpsc::Sender<Heard>) {
    let mut wait = FIRST;
    loop {
        let heard = match connection.poll().await {
            Ok(Event::Incoming(Incoming::ConnAck(_))) => {
                wait = FIRST;
                Heard::Connected
            }
            Ok(Event::Incoming(Incoming::Publish(publish))) => {
                let topic = String::from_utf8_lossy(&publish.topic).into_owned();
                Heard::Message(topic, publish.payload.to_vec())
            }
            Ok(_) => continue,
            Err(ConnectionError::RequestsDone) => return,
            Err(error) => {
                if hear.send(Heard::Lost(words(&error))).await.is_err() {
                    return;
                }
                let mut byte = [128_u8];
                let _ = getrandom::fill(&mut byte);
                tokio::time::sleep(wait.mul_f64(0.75 + f64::from(byte[0]) / 510.0)).await;
                wait = (wait * 2).min(LONGEST);
                continue;
            }
        };
        if hear.send(heard).await.is_err() {
            return;
        }
    }
}

/// What an error means for whoever looks after the broker.
fn words(error: &ConnectionError) -> String {
    let text = match error {
        ConnectionError::ConnectionRefused(code) => match code {
            ConnectReturnCode::BadUserNamePassword | ConnectReturnCode::NotAuthorized => {
                "the broker refuses user or password".into()
            }
            other => format!("the broker refuses the connection: {other:?}"),
        },
        ConnectionError::Io(error) => match error.kind() {
            std::io::ErrorKind::ConnectionRefused => {
                "the broker does not listen: it is off, or the port is wrong".into()
            }
            _ => format!("the connection to the broker is lost: {error}"),
        },
        ConnectionError::NetworkTimeout => "the broker does not answer in time".into(),
        ConnectionError::Tls(error) => {
            format!("no TLS with the broker: {error}; an authority of your own is named in `ca`")
        }
        other => format!("the connection to the broker is lost: {other}"),
    };
    secret::redact(&text)
}

/// What the broker is told at the beginning.
///
/// # Errors
/// What is wrong with the authorities' file.
pub fn options(broker: &Broker) -> Result<MqttOptions, String> {
    let id = format!(
        "vlmwatch-{}-{}",
        broker.instance,
        broker.prefix.replace('/', "-")
    );
    let mut options = MqttOptions::new(id, (broker.host.as_str(), broker.port));
    options.set_keep_alive(20);
    options.set_max_packet_size(LARGEST, LARGEST);
    options.set_clean_session(true);
    options.set_last_will(LastWill::new(
        format!("{}/available", broker.prefix),
        "offline",
        QoS::AtLeastOnce,
        true,
    ));
    match (&broker.user, &broker.password) {
        (Some(user), Some(password)) => {
            options.set_credentials(user, password.expose().to_owned());
        }
        (Some(user), None) => {
            options.set_username(user);
        }
        (None, _) => {}
    }
    if broker.tls {
        let tls = match &broker.ca {
            Some(path) => {
                let ca = std::fs::read(path)
                    .map_err(|error| format!("ca {}: {error}", path.display()))?;
                TlsConfiguration::Simple {
                    ca,
                    alpn: None,
                    client_auth: None,
                }
            }
            None => TlsConfiguration::try_default_rustls().map_err(|error| error.to_string())?,
        };
        options.set_transport(Transport::Tls(tls));
    }
    Ok(options)
}
