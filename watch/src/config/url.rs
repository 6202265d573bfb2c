// SPDX-License-Identifier: MPL-2.0

//! A camera's address: where the picture comes from, with the credentials taken out of it.

/// Where a camera's picture comes from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Place {
    /// An RTSP server, the address without credentials.
    Rtsp(String),
    /// A moving or still test picture of `videotestsrc`, by its name there.
    Test(String),
}

/// An address and the credentials that stood in it.
#[derive(Debug, PartialEq, Eq)]
pub struct Split {
    pub place: Place,
    pub user: Option<String>,
    pub password: Option<String>,
}

/// Takes an address apart.
///
/// # Errors
/// A sentence that says what is wrong, and never repeats the address: it may hold a password.
pub fn split(url: &str) -> Result<Split, String> {
    if let Some(pattern) = url.strip_prefix("test:") {
        let plain = !pattern.is_empty()
            && pattern
                .bytes()
                .all(|b| b.is_ascii_alphanumeric() || b == b'-');
        return if plain {
            let place = Place::Test(pattern.to_owned());
            Ok(Split {
                place,
                user: None,
                password: None,
            })
        } else {
            Err(
                "after `test:` comes the name of a picture of videotestsrc, as in `test:ball`"
                    .into(),
            )
        };
    }
    let schemes = ["rtsp://", "rtsps://"];
    let lower = url.to_ascii_lowercase();
    let Some(scheme) = schemes.iter().find(|scheme| lower.starts_with(*scheme)) else {
        return Err("the address has to begin with rtsp://, rtsps:// or test:".into());
    };
    let rest = &url[scheme.len()..];
    let authority_end = rest.find(['/', '?', '#']).unwrap_or(rest.len());
    // A password may hold an @ that nobody has escaped: the host begins after the last one.
    let (credentials, host) = match rest[..authority_end].rfind('@') {
        Some(at) => (Some(&rest[..at]), &rest[at + 1..]),
        None => (None, rest),
    };
    if host.is_empty() || host.starts_with(['/', '?', ':']) {
        return Err("the address names no host".into());
    }
    let (user, password) = match credentials.map(|text| text.split_once(':').ok_or(text)) {
        None => (None, None),
        Some(Ok((user, password))) => (Some(decoded(user)), Some(decoded(password))),
        Some(Err(user)) => (Some(decoded(user)), None),
    };
    Ok(Split {
        place: Place::Rtsp(format!("{scheme}{host}")),
        user,
        password,
    })
}

impl Place {
    /// The address for people and logs: what follows a `?` may be a password, and is left out.
    pub fn shown(&self) -> String {
        match self {
            Self::Rtsp(location) => match location.split_once('?') {
                Some((path, _)) => format!("{path}?…"),
                None => location.clone(),
            },
            Self::Test(pattern) => format!("test:{pattern}"),
        }
    }

    /// What in the address may be a secret: the values behind its `?`.
    pub fn secrets(&self) -> Vec<String> {
        let Self::Rtsp(location) = self else {
            return Vec::new();
        };
        let query = location.split_once('?').map_or("", |(_, query)| query);
        let secret = |name: &str| {
            let name = name.to_ascii_lowercase();
            ["pass", "pwd", "token", "key", "secret", "auth"]
                .iter()
                .any(|word| name.contains(word))
        };
        let pairs = query.split('&').filter_map(|pair| pair.split_once('='));
        pairs
            .filter(|(name, _)| secret(name))
            .map(|(_, value)| value.to_owned())
            .collect()
    }
}

/// Percent-encoding undone; what is no encoding stays.
fn decoded(text: &str) -> String {
    let bytes = text.as_bytes();
    let mut out = Vec::with_capacity(bytes.len());
    let mut at = 0;
    while at < bytes.len() {
        let hex = text.get(at + 1..at + 3).filter(|_| bytes[at] == b'%');
        if let Some(Ok(byte)) = hex.map(|hex| u8::from_str_radix(hex, 16)) {
            out.push(byte);
            at += 3;
        } else {
            out.push(bytes[at]);
            at += 1;
        }
    }
    String::from_utf8_lossy(&out).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn credentials_leave_the_address() {
        let split = split("rtsp://viewer:p%40ss@10.0.0.21:554/stream2").unwrap();
        assert_eq!(
            split.place,
            Place::Rtsp("rtsp://10.0.0.21:554/stream2".into())
        );
        assert_eq!(split.user.as_deref(), Some("viewer"));
        assert_eq!(split.password.as_deref(), Some("p@ss"));
    }

    #[test]
    fn an_at_sign_in_a_password_is_part_of_it() {
        let split = split("rtsp://a:b@c@host/x@y").unwrap();
        assert_eq!(split.place, Place::Rtsp("rtsp://host/x@y".into()));
        assert_eq!(split.password.as_deref(), Some("b@c"));
    }

    #[test]
    fn a_wrong_address_is_refused_without_being_repeated() {
        for url in [
            "http://u:canary@h/",
            "rtsp://u:canary@/x",
            "canary",
            "test:../canary",
        ] {
            let error = split(url).unwrap_err();
            assert!(!error.contains("canary"), "{error}");
        }
    }

    #[test]
    fn what_follows_a_question_mark_is_not_shown() {
        let place = split("rtsp://h/live?user=a&password=canary").unwrap().place;
        assert_eq!(place.shown(), "rtsp://h/live?…");
        assert_eq!(place.secrets(), ["canary"]);
    }
}
