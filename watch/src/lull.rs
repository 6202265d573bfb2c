// SPDX-License-Identifier: MPL-2.0

//! Why nothing is said of a camera that shows something, and for how long: nothing moves in its picture, or
//! there is no model to say it.

use std::time::Duration;

use crate::camera::supervisor::{Heard, Model};
use crate::heard::{Lull, Phase, Why};
use crate::time::Millis;

/// Shorter ones are not kept: a gate that opens with every leaf would write all day.
const SHORTEST: Duration = Duration::from_secs(20);

/// Follows a camera.
#[derive(Debug, Clone, Default)]
pub struct Lulls {
    now: Option<Lull>,
    kept: bool,
}

impl Lulls {
    /// The one that is.
    pub fn now(&self) -> Option<Lull> {
        self.now
    }

    /// Something was heard: what is to be kept now, which may be the end of what was kept before.
    pub fn hear(&mut self, heard: &Heard, now: Millis) -> Option<Lull> {
        let why = match heard {
            Heard::Gated => Some(match self.now {
                // Whether anything moves is no news while nobody could say so.
                Some(lull) if lull.why == Why::NoModel => Why::NoModel,
                _ => Why::Gated,
            }),
            Heard::Model(Model::Loading(_) | Model::Failing(_)) => Some(Why::NoModel),
            Heard::Caption(_) | Heard::Answer(_) | Heard::Over | Heard::Model(Model::Well) => None,
            Heard::Phase(phase, _) if *phase != Phase::Live => None,
            _ => self.now.map(|lull| lull.why),
        };
        let before = self.now;
        if before.map(|lull| lull.why) != why {
            let lasted = before.filter(|lull| self.kept || lull.start.plus(SHORTEST) <= now);
            self.now = why.map(|why| Lull {
                why,
                start: now,
                end: None,
            });
            self.kept = false;
            return lasted.map(|lull| Lull {
                end: Some(now),
                ..lull
            });
        }
        let lasts = before.filter(|lull| !self.kept && lull.start.plus(SHORTEST) <= now)?;
        self.kept = true;
        Some(lasts)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::heard::Caption;

    fn at(seconds: i64) -> Millis {
        Millis(1_000 * seconds)
    }

    fn caption() -> Heard {
        Heard::Caption(Caption {
            start: at(0),
            end: at(0),
            text: "A dog.".into(),
            model: String::new(),
            thumb: None,
        })
    }

    fn failing() -> Heard {
        Heard::Model(Model::Failing("no memory".into()))
    }

    #[test]
    fn a_gate_that_stays_shut_is_kept_from_its_beginning_to_the_next_caption() {
        let mut lulls = Lulls::default();
        assert_eq!(lulls.hear(&caption(), at(0)), None);
        assert_eq!(lulls.hear(&Heard::Gated, at(4)), None);
        assert_eq!(lulls.hear(&Heard::Gated, at(8)), None);
        let lull = Lull {
            why: Why::Gated,
            start: at(4),
            end: None,
        };
        assert_eq!(lulls.hear(&Heard::Gated, at(24)), Some(lull));
        assert_eq!(lulls.hear(&Heard::Gated, at(28)), None);
        assert_eq!(lulls.now(), Some(lull));
        let end = Some(at(300));
        assert_eq!(lulls.hear(&caption(), at(300)), Some(Lull { end, ..lull }));
        assert_eq!(lulls.hear(&caption(), at(304)), None);
        assert_eq!(lulls.now(), None);
    }

    #[test]
    fn a_gate_that_opens_with_every_leaf_is_not_kept() {
        let mut lulls = Lulls::default();
        for n in 0..100 {
            assert_eq!(lulls.hear(&Heard::Gated, at(8 * n)), None);
            assert_eq!(lulls.hear(&caption(), at(8 * n + 4)), None);
        }
    }

    #[test]
    fn a_model_that_fails_once_and_says_nothing_for_long_is_kept_when_it_is_well() {
        let mut lulls = Lulls::default();
        assert_eq!(lulls.hear(&failing(), at(0)), None);
        let lull = lulls.hear(&caption(), at(60)).unwrap();
        assert_eq!(
            (lull.why, lull.start, lull.end),
            (Why::NoModel, at(0), Some(at(60)))
        );
    }

    #[test]
    fn a_camera_that_is_lost_is_not_still_as_well() {
        let mut lulls = Lulls::default();
        lulls.hear(&Heard::Gated, at(0));
        let lost = Heard::Phase(Phase::Stalled, String::new());
        assert_eq!(lulls.hear(&lost, at(40)).unwrap().end, Some(at(40)));
        assert_eq!(lulls.now(), None);
    }

    #[test]
    fn what_moves_is_no_news_without_a_model() {
        let mut lulls = Lulls::default();
        lulls.hear(&failing(), at(0));
        lulls.hear(&Heard::Gated, at(4));
        assert_eq!(lulls.now().map(|lull| lull.why), Some(Why::NoModel));
    }
}
