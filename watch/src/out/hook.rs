// SPDX-License-Identifier: MPL-2.0

//! A webhook: each begin and end of an alarm as a CloudEvent, signed, until it is taken or a day old.

use std::sync::Arc;
use std::time::Duration;

use serde_json::{Value, json};
use ureq::tls::{Certificate, RootCerts, TlsConfig};

use crate::camera::supervisor::{Clock, Stop};
use crate::config::out::Hook;
use crate::hub::Hub;
use crate::log;
use crate::secret;
use crate::store::outbox::{Due, Outbox};
use crate::time::Millis;

use super::standing::{Bell, Standing};
use super::{choice, signature};

/// How long whoever is told may take.
const PATIENCE: Duration = Duration::from_secs(10);
/// The wait after the first failure; it doubles up to the longest.
const FIRST: Duration = Duration::from_secs(1);
const LONGEST: Duration = Duration::from_secs(300);
/// How often is looked without being told to.
const TURN: Duration = Duration::from_secs(5);
/// How soon, and how many times, after it was.
const SOON: Duration = Duration::from_millis(200);
const LOOKS: u32 = 10;

/// The CloudEvent of it, in the structured mode.
pub fn cloud_event(due: &Due, instance: &str) -> Value {
    json!({
        "specversion": "1.0",
        "id": format!("{}-{}", due.event, due.moment.word()),
        "source": format!("/vlmcaption-watch/{instance}/cameras/{}", due.camera),
        "type": format!("org.vlmcaption.event.{}", due.moment.word()),
        "subject": due.alarm,
        "time": due.at().to_string(),
        "datacontenttype": "application/json",
        "data": {
            "event": due.event.to_string(),
            "camera": due.camera,
            "alarm": due.alarm,
            "start": due.start.to_string(),
            "end": due.end.map(|end| end.to_string()),
            "probability": due.probability,
            "peak": due.peak,
            "reason": due.reason,
            "caption": due.caption,
        },
    })
}

/// Tells a webhook until the end.
pub fn run(
    hook: &Hook,
    instance: &str,
    hub: &Hub,
    outbox: &mut Outbox,
    standing: &Standing,
    stop: &Arc<Stop>,
    bell: &Bell,
) {
    let agent = match agent(hook) {
        Ok(agent) => agent,
        Err(reason) => {
            log::error(format!("webhook {}: {reason}", hook.name));
            standing.ill(&reason, Millis::now());
            return;
        }
    };
    let mut failures = 0_u32;
    let mut eager = 0_u32;
    while !stop.ended() {
        let now = Millis::now();
        let due = match choice::due(outbox, hub, standing, now) {
            Ok(due) => due,
            Err(error) => {
                standing.ill(&error.to_string(), now);
                bell.wait(TURN);
                continue;
            }
        };
        let Some(next) = due.first() else {
            // It rings when an alarm is heard of, which is a little before it is on the disk.
            let wait = if eager > 0 { SOON } else { TURN };
            eager = if bell.wait(wait) {
                LOOKS
            } else {
                eager.saturating_sub(1)
            };
            continue;
        };
        let outcome = send(&agent, hook, instance, next).and_then(|()| {
            outbox
                .told(next.event, next.moment, now)
                .map_err(|error| error.to_string())
        });
        match outcome {
            Ok(()) => {
                failures = 0;
                standing.told(next.event, next.moment, Millis::now());
            }
            Err(reason) => {
                if standing.ill(&reason, Millis::now()) {
                    log::warning(format!(
                        "webhook {}: {reason}; it is tried again for a day",
                        hook.name
                    ));
                }
                let wait = FIRST.saturating_mul(1 << failures.min(16)).min(LONGEST);
                failures += 1;
                stop.sleep(jitter(wait));
            }
        }
    }
}

/// A quarter longer or shorter by chance: those who fail together try at different times.
fn jitter(wait: Duration) -> Duration {
    let mut byte = [128_u8];
    let _ = getrandom::fill(&mut byte);
    wait.mul_f64(0.75 + f64::from(byte[0]) / 510.0)
}

fn agent(hook: &Hook) -> Result<ureq::Agent, String> {
    let mut config = ureq::Agent::config_builder()
        .timeout_global(Some(PATIENCE))
        .max_redirects(0)
        .http_status_as_error(false)
        .user_agent(concat!("vlmcaption-watch/", env!("CARGO_PKG_VERSION")));
    if hook.shown.starts_with("https://") {
        let roots = match &hook.ca {
            Some(path) => {
                let pem = std::fs::read(path)
                    .map_err(|error| format!("ca {}: {error}", path.display()))?;
                let found: Vec<Certificate> = ureq::tls::parse_pem(&pem)
                    .filter_map(Result::ok)
                    .filter_map(|item| match item {
                        ureq::tls::PemItem::Certificate(certificate) => Some(certificate),
                        _ => None,
                    })
                    .collect();
                if found.is_empty() {
                    return Err(format!("ca {} holds no certificate", path.display()));
                }
                RootCerts::from(found)
            }
            None => RootCerts::PlatformVerifier,
        };
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let tls = TlsConfig::builder()
            .root_certs(roots)
            .unversioned_rustls_crypto_provider(provider);
        config = config.tls_config(tls.build());
    }
    Ok(config.build().into())
}

fn send(agent: &ureq::Agent, hook: &Hook, instance: &str, due: &Due) -> Result<(), String> {
    let event = cloud_event(due, instance);
    let id = event["id"].as_str().unwrap_or_default().to_owned();
    let body = event.to_string();
    let timestamp = Millis::now().0 / 1_000;
    let key = signature::key(hook.secret.expose())?;
    let response = agent
        .post(hook.url.expose())
        .header(
            "content-type",
            "application/cloudevents+json; charset=UTF-8",
        )
        .header("webhook-id", &id)
        .header("webhook-timestamp", timestamp.to_string())
        .header(
            "webhook-signature",
            signature::signature(&key, &id, timestamp, &body),
        )
        .send(&body);
    match response {
        Ok(response) if response.status().is_success() => Ok(()),
        Ok(response) => Err(format!(
            "{} answers with status {}",
            hook.shown,
            response.status().as_u16()
        )),
        Err(error) => Err(secret::redact(&format!(
            "{} is not reached: {error}",
            hook.shown
        ))),
    }
}
