// SPDX-License-Identifier: MPL-2.0

//! How the page is reached: TLS, the proxies in front of it, and whether one of them knows who asks.

use std::net::IpAddr;
use std::path::PathBuf;

use serde::Deserialize;

use super::around::{Surroundings, Ways};
use crate::secret::Secret;

/// `tls = { certificate = …, key = … }`.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct Tls {
    pub certificate: PathBuf,
    pub key: PathBuf,
}

/// `auth = { proxy-header = …, secret-file = … }`, as it is written.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case", default)]
pub struct Auth {
    /// The header in which a proxy says who has logged in there.
    pub proxy_header: Option<String>,
    /// What it sends besides, in `X-Proxy-Secret`.
    pub secret_file: Option<PathBuf>,
    pub secret_env: Option<String>,
    pub secret_credential: Option<String>,
}

/// How the page is reached.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Door {
    /// The path of the page, with a slash at both ends.
    pub path: String,
    pub tls: Option<Tls>,
    pub trusted: Vec<IpAddr>,
    pub proxy_login: Option<ProxyLogin>,
}

/// A proxy that has people log in.
#[derive(Debug, Clone, PartialEq)]
pub struct ProxyLogin {
    /// In small letters.
    pub header: String,
    pub secret: Secret,
}

/// What is written of it in `[server]`.
#[derive(Debug, Clone, Copy)]
pub struct Asked<'a> {
    pub path: Option<&'a str>,
    pub tls: Option<&'a Tls>,
    pub trusted: &'a [String],
    pub auth: &'a Auth,
}

/// Parses what is written.
pub fn resolve(asked: Asked, around: &dyn Surroundings) -> Result<Door, String> {
    let say = |error: String| format!("[server]: {error}");
    let trusted = asked.trusted.iter().map(|text| {
        text.parse().map_err(|_| {
            say(format!(
                "`{text}` in trusted-proxies is no address; write addresses such as \"127.0.0.1\", no names and no nets"
            ))
        })
    });
    let trusted: Vec<IpAddr> = trusted.collect::<Result<_, _>>()?;
    let auth = asked.auth;
    let ways = Ways {
        key: "secret",
        file: auth.secret_file.as_deref(),
        env: auth.secret_env.as_deref(),
        credential: auth.secret_credential.as_deref(),
    };
    let secret = ways.read(around).map_err(say)?;
    let proxy_login = match (&auth.proxy_header, secret) {
        (None, None) => None,
        (Some(header), Some(secret)) => {
            if trusted.is_empty() {
                return Err(say(
                    "auth.proxy-header is believed from trusted-proxies alone, and there are none"
                        .into(),
                ));
            }
            let plain = |b: u8| b.is_ascii_alphanumeric() || b == b'-';
            if header.is_empty() || !header.bytes().all(plain) {
                return Err(say(
                    "auth.proxy-header is the name of a header, such as \"X-Remote-User\"".into(),
                ));
            }
            if secret.expose().len() < 16 {
                return Err(say("the secret of auth has 16 characters at least".into()));
            }
            Some(ProxyLogin {
                header: header.to_ascii_lowercase(),
                secret,
            })
        }
        (Some(_), None) => {
            return Err(say("auth.proxy-header needs auth.secret-file: whoever reaches this port could write the header himself".into()));
        }
        (None, Some(_)) => return Err(say("auth has a secret and no proxy-header".into())),
    };
    Ok(Door {
        path: path(asked.path).map_err(say)?,
        tls: asked.tls.cloned(),
        trusted,
        proxy_login,
    })
}

fn path(text: Option<&str>) -> Result<String, String> {
    let text = text.unwrap_or("/").trim_end_matches('/');
    let plain = |b: u8| b.is_ascii_alphanumeric() || b"-_.".contains(&b);
    let fits = text.is_empty()
        || text.strip_prefix('/').is_some_and(|rest| {
            rest.split('/')
                .all(|part| !part.is_empty() && !part.starts_with('.') && part.bytes().all(plain))
        });
    if fits {
        Ok(format!("{text}/"))
    } else {
        Err("path begins with a slash and has letters, digits, -, _ and . , as \"/watch\"".into())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{Config, Process};

    fn door(keys: &str) -> Result<Door, String> {
        Config::parse(&format!("[server]\n{keys}"), &Process).map(|config| config.door)
    }

    #[test]
    fn a_path_has_a_slash_at_both_ends() {
        for (text, path) in [
            ("", "/"),
            ("path = \"/watch\"", "/watch/"),
            ("path = \"/a/b/\"", "/a/b/"),
        ] {
            assert_eq!(door(text).unwrap().path, path);
        }
        for text in ["watch", "/a//b", "/../etc", "/a b"] {
            assert!(door(&format!("path = \"{text}\"")).is_err(), "{text}");
        }
    }

    #[test]
    fn a_header_is_believed_from_known_proxies_with_a_secret_alone() {
        for (keys, word) in [
            ("auth = { proxy-header = \"X-User\" }", "secret-file"),
            ("trusted-proxies = [\"localhost\"]", "no address"),
            (
                "auth = { proxy-header = \"X-User\", secret-env = \"PATH\" }",
                "there are none",
            ),
        ] {
            let error = door(keys).unwrap_err();
            assert!(error.contains(word), "{keys}: {error}");
        }
        let keys = "trusted-proxies = [\"127.0.0.1\", \"::1\"]\nauth = { proxy-header = \"X-User\", secret-env = \"PATH\" }";
        assert_eq!(door(keys).unwrap().proxy_login.unwrap().header, "x-user");
    }
}
