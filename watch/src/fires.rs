// SPDX-License-Identifier: MPL-2.0

//! How often an alarm would have begun with other thresholds, by the answers of each minute that are kept.

/// The answers to a question within a minute.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Minute {
    /// Since 1970.
    pub minute: i64,
    pub least: f64,
    pub most: f64,
    pub n: u32,
}

/// A time for which it would have alarmed, in minutes since 1970, the last one included.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Fire {
    pub from: i64,
    pub to: i64,
}

/// The times for which it would have alarmed: from a minute with an answer of `on` or more to one with an
/// answer below `off`. Minutes without answers end nothing. A minute that has both counts as one that begins
/// and ends.
pub fn fires(minutes: &[Minute], on: f64, off: f64) -> Vec<Fire> {
    let mut found = Vec::new();
    let mut open: Option<Fire> = None;
    for minute in minutes {
        if minute.most >= on && open.is_none() {
            open = Some(Fire {
                from: minute.minute,
                to: minute.minute,
            });
        }
        if let Some(fire) = &mut open {
            fire.to = minute.minute;
            if minute.least < off {
                found.extend(open.take());
            }
        }
    }
    found.extend(open);
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    fn minutes(answers: &[(f64, f64)]) -> Vec<Minute> {
        let each = (0..).zip(answers);
        each.map(|(minute, (least, most))| Minute {
            minute,
            least: *least,
            most: *most,
            n: 15,
        })
        .collect()
    }

    #[test]
    fn it_begins_at_on_and_ends_below_off() {
        let seen = minutes(&[
            (0.1, 0.2),
            (0.2, 0.9),
            (0.5, 0.9),
            (0.5, 0.7),
            (0.2, 0.6),
            (0.1, 0.1),
        ]);
        // The second minute rises from 0.2: whether it fell again cannot be told, so it ends there.
        let of = |on, off| {
            let pairs = fires(&seen, on, off);
            pairs
                .iter()
                .map(|fire| (fire.from, fire.to))
                .collect::<Vec<_>>()
        };
        assert_eq!(of(0.8, 0.3), [(1, 1), (2, 4)]);
        assert_eq!(of(0.8, 0.15), [(1, 5)]);
        assert_eq!(of(0.95, 0.3), []);
    }

    #[test]
    fn what_has_not_ended_counts() {
        assert_eq!(fires(&minutes(&[(0.9, 0.95)]), 0.8, 0.3).len(), 1);
        assert!(fires(&[], 0.8, 0.3).is_empty());
    }
}
