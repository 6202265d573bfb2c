// SPDX-License-Identifier: MPL-2.0

//! Over TLS, with an authority of one's own: whoever it did not sign is told nothing.

use std::path::Path;
use std::process::Command;
use std::sync::Arc;

use serde_json::Value;

use crate::site::free_port;

use super::broker::{Ends, PASSWORD, until};
use super::fixture::{CAMERAS, Fixture, hook, mqtt};
use super::receiver::Receiver4Hooks;

/// An authority, and a certificate for localhost that it signed, made by OpenSSL into `ca.pem`, `chain.pem`
/// and `key.pem`; false where there is no OpenSSL.
fn signed(folder: &Path) -> bool {
    let openssl = |arguments: &str| {
        let status = Command::new("openssl")
            .args(arguments.split(' '))
            .current_dir(folder)
            .output();
        status.is_ok_and(|output| output.status.success())
    };
    std::fs::write(folder.join("names"), "subjectAltName=DNS:localhost").unwrap();
    openssl(
        "req -x509 -newkey rsa:2048 -nodes -days 30 -subj /CN=Watch-CA -keyout ca.key -out ca.pem",
    ) && openssl("req -newkey rsa:2048 -nodes -subj /CN=localhost -keyout key.pem -out request.pem")
        && openssl(
            "x509 -req -in request.pem -CA ca.pem -CAkey ca.key -CAcreateserial -days 30 -extfile names -out chain.pem",
        )
}

/// mosquitto that listens for TLS alone.
fn broker(port: u16, folder: &Path) -> Option<Ends> {
    let passwords = folder.join("passwords");
    let made = Command::new("mosquitto_passwd")
        .args(["-c", "-b", passwords.to_str().unwrap(), "watch", PASSWORD])
        .output();
    if !made.is_ok_and(|output| output.status.success()) {
        return None;
    }
    let at = folder.display();
    let text = format!(
        "listener {port} 127.0.0.1\ncertfile {at}/chain.pem\nkeyfile {at}/key.pem\npassword_file {at}/passwords\n\
         allow_anonymous false\nuser root\npersistence false\n"
    );
    let file = folder.join("mosquitto.conf");
    std::fs::write(&file, text).unwrap();
    Ends::listening(Command::new("mosquitto").arg("-c").arg(&file), port)
}

#[test]
fn a_broker_is_told_over_tls_if_the_named_authority_signed_for_it() {
    let folder = Arc::new(tempfile::tempdir().unwrap());
    let other = tempfile::tempdir().unwrap();
    let port = free_port();
    if !signed(folder.path()) || !signed(other.path()) {
        println!("NOT RUN: there is no openssl");
        return;
    }
    let Some(_broker) = broker(port, folder.path()) else {
        println!("NOT RUN: there is no mosquitto");
        return;
    };
    let told = |ca: &Path| {
        let more = format!("ca = \"{}\"", ca.join("ca.pem").display());
        let plain = mqtt(port, folder.path(), &more) + CAMERAS;
        Fixture::new(
            &folder,
            &plain.replace("mqtt://127.0.0.1", "mqtts://localhost"),
        )
    };
    let wrong = told(other.path());
    until("it is refused", || wrong.standing().well == Some(false));
    let reason = wrong.standing().reason;
    assert!(
        reason.contains("TLS") && reason.contains("`ca`"),
        "{reason}"
    );
    wrong.begin(1);
    until("it waits", || wrong.standing().waiting == 1);
    wrong.stop();
    let right = told(folder.path());
    // Its begin, and its end with the program.
    until("it is told", || right.standing().told == 2);
    assert_eq!(right.standing().well, Some(true));
    right.stop();
}

#[test]
fn a_webhook_is_told_over_https_if_the_named_authority_signed_for_it() {
    let folder = Arc::new(tempfile::tempdir().unwrap());
    let other = tempfile::tempdir().unwrap();
    if !signed(folder.path()) || !signed(other.path()) {
        println!("NOT RUN: there is no openssl");
        return;
    }
    let receiver = Receiver4Hooks::start_tls(folder.path());
    let told = |ca: &Path| {
        let ca = format!("ca = \"{}\"\nsecret-file", ca.join("ca.pem").display());
        let plain = hook(receiver.port, folder.path());
        let text = plain.replace("http://127.0.0.1", "https://localhost");
        Fixture::new(&folder, &text.replace("secret-file", &ca))
    };
    let wrong = told(other.path());
    wrong.begin(1);
    until("it is refused", || wrong.standing().well == Some(false));
    let reason = wrong.standing().reason;
    assert!(
        reason.contains("https://localhost") && !reason.contains("canary"),
        "{reason}"
    );
    assert!(reason.to_lowercase().contains("certificate"), "{reason}");
    assert!(receiver.came.try_recv().is_err(), "nothing is said to it");
    wrong.stop();
    let right = told(folder.path());
    let (head, body) = receiver.next();
    assert!(head.starts_with("POST /hook?token="), "{head}");
    let event: Value = serde_json::from_str(&body).unwrap();
    assert_eq!(event["id"], "1-begin");
    right.stop();
}
