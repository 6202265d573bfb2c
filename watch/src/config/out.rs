// SPDX-License-Identifier: MPL-2.0

//! Who is told of alarms besides the page: an MQTT broker, and webhooks.

use std::path::PathBuf;
use std::time::Duration;

use serde::Deserialize;

use super::around::{Surroundings, Ways};
use super::units::Span;
use crate::secret::Secret;

/// `[mqtt]`, as it is written.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct Mqtt {
    /// `mqtt://HOST[:PORT]` or `mqtts://HOST[:PORT]`.
    pub url: String,
    pub user: Option<String>,
    pub password_file: Option<PathBuf>,
    pub password_env: Option<String>,
    pub password_credential: Option<String>,
    /// Whom to trust besides the authorities of this machine.
    pub ca: Option<PathBuf>,
    /// What all topics begin with.
    #[serde(default = "prefix")]
    pub prefix: String,
    /// Tells installations apart that share a broker.
    pub instance: Option<String>,
    /// Whether Home Assistant is told what there is.
    #[serde(default)]
    pub discovery: bool,
    #[serde(default = "discovery_prefix")]
    pub discovery_prefix: String,
    /// Whether the broker may ask for something.
    #[serde(default)]
    pub commands: bool,
    /// How often a still is sent without an alarm; never if it is not there.
    pub still_period: Option<Span>,
}

/// `[[webhook]]`, as it is written.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct Webhook {
    pub name: String,
    pub url: String,
    pub secret_file: Option<PathBuf>,
    pub secret_env: Option<String>,
    pub secret_credential: Option<String>,
    /// Whom to trust instead of the authorities of this machine.
    pub ca: Option<PathBuf>,
}

/// Everybody who is told.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Out {
    pub mqtt: Option<Broker>,
    pub hooks: Vec<Hook>,
}

/// A broker.
#[derive(Debug, Clone, PartialEq)]
pub struct Broker {
    pub host: String,
    pub port: u16,
    pub tls: bool,
    pub ca: Option<PathBuf>,
    pub user: Option<String>,
    pub password: Option<Secret>,
    pub prefix: String,
    pub instance: String,
    pub discovery: bool,
    pub discovery_prefix: String,
    pub commands: bool,
    pub still_period: Option<Duration>,
}

/// A webhook.
#[derive(Debug, Clone, PartialEq)]
pub struct Hook {
    pub name: String,
    /// May hold a token behind its `?`, and is not shown.
    pub url: Secret,
    /// Scheme and host of it, which are.
    pub shown: String,
    pub secret: Secret,
    pub ca: Option<PathBuf>,
}

fn prefix() -> String {
    "vlmwatch".into()
}

fn discovery_prefix() -> String {
    "homeassistant".into()
}

/// Parses what is written.
pub fn resolve(
    mqtt: Option<Mqtt>,
    webhooks: Vec<Webhook>,
    around: &dyn Surroundings,
) -> Result<Out, String> {
    let mqtt = mqtt
        .map(|mqtt| broker(mqtt, around))
        .transpose()
        .map_err(|error| format!("[mqtt]: {error}"))?;
    let mut hooks: Vec<Hook> = Vec::new();
    for webhook in webhooks {
        let name = webhook.name.clone();
        let hook = hook(webhook, around).map_err(|error| format!("webhook `{name}`: {error}"))?;
        if hooks.iter().any(|known| known.name == name) {
            return Err(format!("two webhooks are called `{name}`"));
        }
        hooks.push(hook);
    }
    Ok(Out { mqtt, hooks })
}

fn broker(mqtt: Mqtt, around: &dyn Surroundings) -> Result<Broker, String> {
    let (tls, rest) = match mqtt.url.split_once("://") {
        Some(("mqtt", rest)) => (false, rest),
        Some(("mqtts", rest)) => (true, rest),
        _ => return Err("url has to begin with mqtt:// or mqtts://".into()),
    };
    let rest = rest.trim_end_matches('/');
    if rest.contains('@') {
        return Err("user and password do not stand in the url; use user and password-file".into());
    }
    if rest.is_empty() || rest.contains(['/', '?', '#']) {
        return Err("url is mqtt://HOST or mqtt://HOST:PORT, without a path".into());
    }
    let default = if tls { 8883 } else { 1883 };
    let (host, port) = match rest.rsplit_once(':') {
        // An IPv6 address stands in brackets.
        Some((host, port)) if !port.contains(']') => {
            let port = port.parse().map_err(|_| format!("`{port}` is no port"))?;
            (host, port)
        }
        _ => (rest, default),
    };
    let ways = Ways {
        key: "password",
        file: mqtt.password_file.as_deref(),
        env: mqtt.password_env.as_deref(),
        credential: mqtt.password_credential.as_deref(),
    };
    let password = ways.read(around)?;
    if password.is_some() && mqtt.user.is_none() {
        return Err("there is a password and no user".into());
    }
    topic_fits("prefix", &mqtt.prefix)?;
    topic_fits("discovery-prefix", &mqtt.discovery_prefix)?;
    let instance = mqtt.instance.unwrap_or_else(host_name);
    let plain = |b: u8| b.is_ascii_alphanumeric() || b == b'-' || b == b'_';
    if instance.is_empty() || instance.len() > 40 || !instance.bytes().all(plain) {
        return Err("instance has 1 to 40 letters, digits, - and _".into());
    }
    Ok(Broker {
        host: host.trim_matches(['[', ']']).to_owned(),
        port,
        tls,
        ca: mqtt.ca,
        user: mqtt.user,
        password,
        prefix: mqtt.prefix,
        instance,
        discovery: mqtt.discovery,
        discovery_prefix: mqtt.discovery_prefix,
        commands: mqtt.commands,
        still_period: mqtt.still_period.map(|span| span.0),
    })
}

/// Levels of plain words: no wildcard, and nothing that a broker keeps for itself.
fn topic_fits(key: &str, topic: &str) -> Result<(), String> {
    let plain = |b: u8| b.is_ascii_alphanumeric() || b"-_/.".contains(&b);
    let fits = !topic.is_empty()
        && topic.len() <= 100
        && topic.bytes().all(plain)
        && topic.split('/').all(|level| !level.is_empty());
    if fits {
        Ok(())
    } else {
        Err(format!(
            "{key} has letters, digits, -, _ and . in levels parted by single slashes"
        ))
    }
}

/// This machine's name, as far as it can be part of a topic.
fn host_name() -> String {
    let name = rustix::system::uname()
        .nodename()
        .to_string_lossy()
        .into_owned();
    let plain = |c: char| c.is_ascii_alphanumeric() || c == '-' || c == '_';
    let name: String = name.chars().filter(|c| plain(*c)).take(40).collect();
    if name.is_empty() {
        "watch".into()
    } else {
        name
    }
}

fn hook(webhook: Webhook, around: &dyn Surroundings) -> Result<Hook, String> {
    let plain = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-' || b == b'_';
    if webhook.name.is_empty() || webhook.name.len() > 32 || !webhook.name.bytes().all(plain) {
        return Err("a name has 1 to 32 small letters, digits, - and _".into());
    }
    let (scheme, rest) = webhook.url.split_once("://").unwrap_or_default();
    let host = rest.split(['/', '?', '#']).next().unwrap_or_default();
    if !matches!(scheme, "http" | "https") || host.is_empty() {
        return Err("url has to begin with http:// or https:// and name a host".into());
    }
    if host.contains('@') {
        return Err("user and password do not stand in the url: who sent it is shown by the signature; see secret-file".into());
    }
    let ways = Ways {
        key: "secret",
        file: webhook.secret_file.as_deref(),
        env: webhook.secret_env.as_deref(),
        credential: webhook.secret_credential.as_deref(),
    };
    let secret = ways.read(around)?;
    let secret = secret.ok_or(
        "it needs a secret, which signs what is sent: name a file with 24 random characters or more in secret-file",
    )?;
    if secret.expose().len() < 16 {
        return Err("the secret has 16 characters at least".into());
    }
    crate::out::signature::key(secret.expose())?;
    Ok(Hook {
        name: webhook.name,
        shown: format!("{scheme}://{host}"),
        url: Secret::new(webhook.url),
        secret,
        ca: webhook.ca,
    })
}

/// Everybody who can be told, by the names that `notify` has.
pub fn targets(out: &Out) -> impl Iterator<Item = String> + '_ {
    let mqtt = out.mqtt.iter().map(|_| "mqtt".to_owned());
    mqtt.chain(
        out.hooks
            .iter()
            .map(|hook| format!("webhook:{}", hook.name)),
    )
}

#[cfg(test)]
mod tests {
    use crate::config::{Config, Process};

    fn parse(text: &str) -> Result<Config, String> {
        Config::parse(text, &Process)
    }

    #[test]
    fn a_broker_s_address_is_taken_apart() {
        for (url, host, port, tls) in [
            ("mqtt://broker.lan", "broker.lan", 1883, false),
            ("mqtts://broker.lan/", "broker.lan", 8883, true),
            ("mqtt://127.0.0.1:1884", "127.0.0.1", 1884, false),
            ("mqtt://[::1]:1884", "::1", 1884, false),
        ] {
            let broker = parse(&format!("[mqtt]\nurl = \"{url}\""))
                .unwrap()
                .out
                .mqtt
                .unwrap();
            assert_eq!(
                (broker.host.as_str(), broker.port, broker.tls),
                (host, port, tls)
            );
        }
    }

    #[test]
    fn what_cannot_work_is_refused_in_words_without_a_secret() {
        for (text, word) in [
            ("[mqtt]\nurl = \"http://h\"", "mqtt://"),
            ("[mqtt]\nurl = \"mqtt://u:canary@h\"", "password-file"),
            ("[mqtt]\nurl = \"mqtt://h\"\nprefix = \"a/#\"", "prefix"),
            (
                "[mqtt]\nurl = \"mqtt://h\"\ncomands = true",
                "did you mean `commands`",
            ),
            (
                "[[webhook]]\nname = \"a\"\nurl = \"https://h/canary\"",
                "secret-file",
            ),
            (
                "[[webhook]]\nname = \"a\"\nurl = \"https://u:canary@h/\"",
                "signature",
            ),
            (
                "[[camera]]\nid = \"a\"\nurl = \"test:ball\"\n[[camera.alarm]]\nid = \"x\"\nquestion = \"?\"\nnotify = [\"mqtt\"]",
                "there is no [mqtt]",
            ),
            (
                "[[camera]]\nid = \"a\"\nurl = \"test:ball\"\n[[camera.alarm]]\nid = \"x\"\nquestion = \"?\"\ndevice-class = \"safty\"",
                "did you mean `safety`",
            ),
        ] {
            let error = parse(text).unwrap_err();
            assert!(
                error.contains(word) && !error.contains("canary"),
                "{text}: {error}"
            );
        }
    }
}
