// SPDX-License-Identifier: MPL-2.0

//! Wall-clock time in milliseconds: what is stored, shown and asked for.

use std::fmt;
use std::time::{Duration, SystemTime};

use jiff::civil::Date;
use jiff::{Timestamp, ZonedDateTime, tz::TimeZone};

/// Milliseconds since 1970, UTC.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Millis(pub i64);

impl Millis {
    /// Now, by this machine's clock.
    pub fn now() -> Self {
        let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
        Self(since.map_or(0, |since| {
            i64::try_from(since.as_millis()).unwrap_or(i64::MAX)
        }))
    }

    /// An ISO 8601 time with a zone, as the element writes it.
    pub fn parse(text: &str) -> Option<Self> {
        let time: Timestamp = text.parse().ok()?;
        Some(Self(time.as_millisecond()))
    }

    /// This much later.
    #[must_use]
    pub fn plus(self, span: Duration) -> Self {
        Self(
            self.0
                .saturating_add(i64::try_from(span.as_millis()).unwrap_or(i64::MAX)),
        )
    }

    /// This much earlier.
    #[must_use]
    pub fn minus(self, span: Duration) -> Self {
        Self(
            self.0
                .saturating_sub(i64::try_from(span.as_millis()).unwrap_or(i64::MAX)),
        )
    }

    /// Minutes since 1970.
    pub fn minute(self) -> i64 {
        self.0.div_euclid(60_000)
    }

    /// Hours since 1970.
    pub fn hour(self) -> i64 {
        self.0.div_euclid(3_600_000)
    }

    /// The point in time; the ends of what can be written for what cannot.
    fn timestamp(self) -> Timestamp {
        Timestamp::from_millisecond(self.0).unwrap_or(if self.0 < 0 {
            Timestamp::MIN
        } else {
            Timestamp::MAX
        })
    }

    /// In the zone of this machine, to the second, with the zone.
    pub fn local(self) -> String {
        let time = self.timestamp().to_zoned_datetime(TimeZone::system());
        time.strftime("%Y-%m-%d %H:%M:%S %Z").to_string()
    }
}

impl fmt::Display for Millis {
    /// ISO 8601 in UTC, to the millisecond.
    fn fmt(&self, out: &mut fmt::Formatter) -> fmt::Result {
        write!(out, "{:.3}", self.timestamp())
    }
}

/// A week by ISO 8601, Monday to Sunday in UTC, as a number that grows: weeks since 1970-01-05's.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Week(pub u32);

/// 1970-01-05, the first Monday, in milliseconds.
const FIRST_MONDAY: i64 = 4 * 86_400_000;
const WEEK: i64 = 7 * 86_400_000;

impl Week {
    /// The week that a time is in; times before the first Monday are in the first week.
    pub fn of(time: Millis) -> Self {
        let week = time.0.saturating_sub(FIRST_MONDAY).div_euclid(WEEK);
        Self(u32::try_from(week.max(0)).unwrap_or(u32::MAX))
    }

    /// The first millisecond after it.
    pub fn end(self) -> Millis {
        Millis(FIRST_MONDAY + (i64::from(self.0) + 1) * WEEK)
    }

    /// The name of its file, `2026-W48`.
    pub fn name(self) -> String {
        let monday = Millis(FIRST_MONDAY + i64::from(self.0) * WEEK).timestamp();
        let date = monday
            .to_zoned_datetime(TimeZone::UTC)
            .date()
            .iso_week_date();
        format!("{:04}-W{:02}", date.year(), date.week())
    }

    /// The week of a file's name.
    pub fn from_name(name: &str) -> Option<Self> {
        let (year, week) = name.split_once("-W")?;
        let weekday = jiff::civil::Weekday::Monday;
        let date =
            jiff::civil::ISOWeekDate::new(year.parse().ok()?, week.parse().ok()?, weekday).ok()?;
        let monday = date.date().to_zoned_datetime(TimeZone::UTC).ok()?;
        let found = Self::of(Millis(monday.timestamp().as_millisecond()));
        (found.name() == name).then_some(found)
    }
}

/// A time as somebody types it: `2026-11-29`, `2026-11-29 14:00` (in the zone of this machine), with a
/// zone as ISO 8601 has it, `14:00` for today, or `2h`, `30m`, `7d` for so long ago.
///
/// # Errors
/// A sentence with the spellings that are known.
pub fn typed(text: &str, now: Millis) -> Result<Millis, String> {
    let text = text.trim();
    if let Some(time) = Millis::parse(text) {
        return Ok(time);
    }
    if let Ok(span) = crate::config::units::Span::try_from(text.to_owned()) {
        return Ok(now.minus(span.0));
    }
    let wrong = || {
        format!(
            "`{text}` is no time: write 2026-11-29, \"2026-11-29 14:00\", 14:00, or 2h for two hours ago"
        )
    };
    let zone = TimeZone::system();
    let zoned = |date: jiff::civil::DateTime| {
        date.to_zoned_datetime(zone.clone())
            .map(|z: ZonedDateTime| z.timestamp())
    };
    let timestamp = if let Ok(date) = text.parse::<jiff::civil::DateTime>() {
        zoned(date)
    } else if let Ok(date) = text.parse::<Date>() {
        zoned(date.at(0, 0, 0, 0))
    } else if let Ok(time) = text.parse::<jiff::civil::Time>() {
        let today = now.timestamp().to_zoned_datetime(zone.clone()).date();
        zoned(today.to_datetime(time))
    } else {
        return Err(wrong());
    };
    timestamp
        .map(|time| Millis(time.as_millisecond()))
        .map_err(|_| wrong())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn weeks_are_those_of_the_calendar() {
        let of = |text| Week::of(Millis::parse(text).unwrap()).name();
        assert_eq!(of("2026-11-29T23:59:59Z"), "2026-W48");
        assert_eq!(of("2026-11-30T00:00:00Z"), "2026-W49");
        assert_eq!(of("2027-01-03T12:00:00Z"), "2026-W53");
        for name in ["2026-W53", "1970-W02", "2031-W07"] {
            assert_eq!(Week::from_name(name).unwrap().name(), name);
        }
        assert_eq!(Week::from_name("2025-W53"), None);
        // The ends of all time, which stand for "since ever" and "for ever".
        assert_eq!(Week::of(Millis(i64::MIN)), Week(0));
        assert_eq!(Week::of(Millis(i64::MAX)), Week(u32::MAX));
    }

    #[test]
    fn times_are_read_as_people_type_them() {
        let now = Millis::parse("2026-11-29T15:00:00Z").unwrap();
        assert_eq!(typed("2h", now), Ok(Millis(now.0 - 7_200_000)));
        assert_eq!(
            typed("2026-11-29T13:00:00+01:00", now),
            Millis::parse("2026-11-29T12:00:00Z").ok_or_else(String::new)
        );
        for text in ["2026-11-29", "2026-11-29 14:00", "14:00"] {
            assert!(typed(text, now).is_ok(), "{text}");
        }
        assert!(typed("yesterday", now).unwrap_err().contains("2h for"));
    }

    #[test]
    fn a_time_is_written_in_utc_with_milliseconds() {
        assert_eq!(Millis(1_500).to_string(), "1970-01-01T00:00:01.500Z");
    }
}
