// SPDX-License-Identifier: MPL-2.0

//! Durations and sizes as people write them: `30s`, `90d`, `20GB`.

use std::time::Duration;

use serde::Deserialize;

/// A duration: a whole number with `ms`, `s`, `m`, `h`, `d` or `w`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(try_from = "String")]
pub struct Span(pub Duration);

/// A number of bytes: a whole number with `kB`, `MB`, `GB`, `TB`, or `KiB` to `TiB`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(try_from = "String")]
pub struct Size(pub u64);

impl Span {
    /// So many seconds.
    pub const fn seconds(seconds: u64) -> Self {
        Self(Duration::from_secs(seconds))
    }

    /// So many days.
    pub const fn days(days: u64) -> Self {
        Self::seconds(days * 86_400)
    }
}

impl TryFrom<String> for Span {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        let wrong = || format!("`{text}` is no duration: write a number with ms, s, m, h, d or w");
        let (number, unit) = split(&text).ok_or_else(wrong)?;
        let millis: u64 = match unit {
            "ms" => 1,
            "s" => 1_000,
            "m" => 60_000,
            "h" => 3_600_000,
            "d" => 86_400_000,
            "w" => 604_800_000,
            _ => return Err(wrong()),
        };
        let total = number.checked_mul(millis).ok_or_else(wrong)?;
        Ok(Self(Duration::from_millis(total)))
    }
}

impl TryFrom<String> for Size {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        let wrong = || format!("`{text}` is no size: write a number with kB, MB, GB or TB");
        let (number, unit) = split(&text).ok_or_else(wrong)?;
        let bytes: u64 = match unit {
            "B" => 1,
            "kB" | "KB" => 1_000,
            "MB" => 1_000_000,
            "GB" => 1_000_000_000,
            "TB" => 1_000_000_000_000,
            "KiB" => 1 << 10,
            "MiB" => 1 << 20,
            "GiB" => 1 << 30,
            "TiB" => 1 << 40,
            _ => return Err(wrong()),
        };
        Ok(Self(number.checked_mul(bytes).ok_or_else(wrong)?))
    }
}

/// A size for people: three digits at most before the point.
pub fn shown(bytes: u64) -> String {
    let mut value = bytes as f64;
    for unit in ["B", "kB", "MB", "GB"] {
        if value < 1000.0 {
            return if unit == "B" {
                format!("{bytes} B")
            } else {
                format!("{value:.1} {unit}")
            };
        }
        value /= 1000.0;
    }
    format!("{value:.1} TB")
}

/// The number and the unit.
fn split(text: &str) -> Option<(u64, &str)> {
    let text = text.trim();
    let end = text.find(|c: char| !c.is_ascii_digit())?;
    let number = text[..end].parse().ok()?;
    Some((number, text[end..].trim_start()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_and_sizes_are_read_as_written() {
        let span = |text: &str| Span::try_from(text.to_owned()).map(|span| span.0.as_millis());
        assert_eq!(span("250ms"), Ok(250));
        assert_eq!(span("5m"), Ok(300_000));
        assert_eq!(span("90d"), Ok(7_776_000_000));
        let size = |text: &str| Size::try_from(text.to_owned()).map(|size| size.0);
        assert_eq!(size("20GB"), Ok(20_000_000_000));
        assert_eq!(size("2 MiB"), Ok(2_097_152));
    }

    #[test]
    fn a_unit_is_asked_for_and_nothing_overflows() {
        for text in ["5", "s", "5 years", "-5s", "99999999999999999w"] {
            assert!(Span::try_from(text.to_owned()).is_err(), "{text}");
        }
        for text in ["5", "GB", "5 apples", "99999999999999999TB"] {
            assert!(Size::try_from(text.to_owned()).is_err(), "{text}");
        }
    }

    #[test]
    fn sizes_are_short_to_read() {
        assert_eq!(shown(999), "999 B");
        assert_eq!(shown(1_500), "1.5 kB");
        assert_eq!(shown(20_000_000_000), "20.0 GB");
    }
}
