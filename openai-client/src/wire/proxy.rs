// SPDX-License-Identifier: MPL-2.0

//! Which proxy stands between the server and us.

use std::net::IpAddr;

use crate::config::Proxy;
use crate::error::ConfigError;
use crate::key::Secrets;
use crate::uri::{ServerUri, shown};

/// The proxy for a server, by what is set and by the environment, of which `variable` gives a
/// variable.
///
/// # Errors
/// [`ConfigError::Proxy`] for what is no proxy that we can use.
pub(crate) fn of(
    proxy: &Proxy,
    server: &ServerUri,
    variable: &dyn Fn(&str) -> Option<String>,
    secrets: &mut Secrets,
) -> Result<Option<ureq::Proxy>, ConfigError> {
    let uri = match proxy {
        Proxy::None => return Ok(None),
        Proxy::Uri(uri) => uri.clone(),
        Proxy::Environment => match from_environment(server, variable) {
            Some(uri) => uri,
            None => return Ok(None),
        },
    };
    let refuse = |reason| ConfigError::Proxy {
        shown: shown(&uri),
        reason,
    };
    let found = ureq::Proxy::new(&uri).map_err(|_| refuse("is no http://host:port"))?;
    if !matches!(
        found.protocol(),
        ureq::ProxyProtocol::Http | ureq::ProxyProtocol::Https
    ) {
        return Err(refuse(
            "is a SOCKS proxy; only proxies that begin with http:// or https:// can be used. Name \
             the server in no_proxy to reach it without",
        ));
    }
    if let Some(password) = found.password() {
        secrets.add(password);
    }
    // As it stands there, with its characters in percent.
    if let Some((user, _)) = uri.rsplit_once('@')
        && let Some((_, password)) = user.rsplit_once(':')
    {
        secrets.add(password);
    }
    Ok(Some(found))
}

fn from_environment(
    server: &ServerUri,
    variable: &dyn Fn(&str) -> Option<String>,
) -> Option<String> {
    let set = |name: &str| {
        let either = variable(name).or_else(|| variable(&name.to_ascii_uppercase()));
        either.filter(|value| !value.trim().is_empty())
    };
    if is_local(server.host()) {
        return None;
    }
    let exempt = set("no_proxy").is_some_and(|list| is_exempt(&list, server));
    let by_scheme = if server.is_https() {
        "https_proxy"
    } else {
        "http_proxy"
    };
    let uri = set(by_scheme).or_else(|| set("all_proxy"))?;
    (!exempt).then(|| uri.trim().to_owned())
}

/// This machine is reached without a proxy, whatever the environment says.
fn is_local(host: &str) -> bool {
    host.eq_ignore_ascii_case("localhost")
        || host
            .parse::<IpAddr>()
            .is_ok_and(|address| address.is_loopback())
}

/// Whether `no_proxy` names the host: itself, a domain above it, `*`, each perhaps with a port.
fn is_exempt(list: &str, server: &ServerUri) -> bool {
    let host = server.host().to_ascii_lowercase();
    let names = list
        .split([',', ' '])
        .map(|name| name.trim().to_ascii_lowercase());
    names.filter(|name| !name.is_empty()).any(|name| {
        if name == "*" || name.trim_matches(['[', ']']) == host {
            return true;
        }
        let name = match name.rsplit_once(':') {
            Some((name, port)) if port == server.port().to_string() => name,
            _ => &name,
        };
        let domain = name.trim_start_matches("*.").trim_start_matches('.');
        host == domain.trim_matches(['[', ']'])
            || host
                .strip_suffix(domain)
                .is_some_and(|rest| rest.ends_with('.') && !domain.is_empty())
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(server: &str, variables: &[(&str, &str)]) -> Option<String> {
        let server = ServerUri::parse(server).unwrap();
        let variable = |name: &str| {
            let found = variables.iter().find(|(known, _)| *known == name);
            found.map(|(_, value)| value.to_string())
        };
        let proxy = of(
            &Proxy::Environment,
            &server,
            &variable,
            &mut Secrets::default(),
        );
        proxy
            .unwrap()
            .map(|proxy| format!("{}:{}", proxy.host(), proxy.port()))
    }

    #[test]
    fn the_environment_is_read_by_scheme_then_for_all() {
        let both = [
            ("http_proxy", "http://a:1"),
            ("HTTPS_PROXY", "b:2"),
            ("all_proxy", "c:3"),
        ];
        assert_eq!(found("http://h/v1", &both).as_deref(), Some("a:1"));
        assert_eq!(found("https://h/v1", &both).as_deref(), Some("b:2"));
        assert_eq!(found("https://h/v1", &both[2..]).as_deref(), Some("c:3"));
        assert_eq!(found("https://h/v1", &both[..1]), None);
    }

    #[test]
    fn no_proxy_and_this_machine_are_reached_directly() {
        for (list, exempt) in [
            ("gpu.lan", true),
            (".lan", true),
            ("lan", true),
            ("*", true),
            ("other, gpu.lan:8000", true),
            ("gpu.lan:9000", false),
            ("u.lan", false),
            ("", false),
        ] {
            let variables = [("all_proxy", "http://a:1"), ("no_proxy", list)];
            assert_eq!(
                found("http://gpu.lan:8000/v1", &variables).is_none(),
                exempt,
                "{list}"
            );
        }
        for server in [
            "http://127.0.0.1:1/v1",
            "http://[::1]:1/v1",
            "http://localhost/v1",
        ] {
            assert_eq!(found(server, &[("all_proxy", "http://a:1")]), None);
        }
    }

    #[test]
    fn socks_is_refused_and_passwords_are_secrets() {
        let server = ServerUri::parse("http://h/v1").unwrap();
        let mut secrets = Secrets::default();
        let mut of = |uri: &str| of(&Proxy::Uri(uri.into()), &server, &|_| None, &mut secrets);
        let error = of("socks5://u:canary@p:1").unwrap_err().to_string();
        assert!(
            error.contains("SOCKS") && !error.contains("canary"),
            "{error}"
        );
        assert!(of("http://u:canary%21@p:1").unwrap().is_some());
        assert_eq!(secrets.scrub("canary! canary%21"), "*** ***");
    }
}
