// SPDX-License-Identifier: MPL-2.0

//! The notice board between the model's thread, which writes captions, and the streaming thread,
//! which puts the latest on each buffer with its age.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use super::enums::Attach;
use super::faults::{Cause, Faults};
use super::output::{META_NAME, Origin, Status, answer, nanos, structure};
use crate::caption::Caption;
use crate::caption::prompt::Ask;
use crate::caption::window::FrameTime;

/// The latest caption, or why there is none.
#[derive(Debug, Default)]
pub(super) struct Board {
    caption: Option<Posted>,
    faults: Faults,
    /// Nothing has moved since the window with this number, up to this frame: what was said of it
    /// holds, and so does what may yet be said.
    confirmed: Option<(u64, FrameTime)>,
    /// Not yet on any buffer, for [`Attach::Window`].
    unseen: bool,
    /// Number of the timeline that buffers are on.
    timeline: u64,
    asked: Answers,
}

/// What is asked, and the latest answers where that is more than the one prompt.
#[derive(Debug, Default)]
struct Answers {
    /// The question that captions are about.
    main: String,
    /// The others and this one, in the order of `prompts`; empty where none are listed.
    listed: Vec<String>,
    /// By question.
    answers: BTreeMap<String, Answer>,
}

#[derive(Debug)]
struct Answer {
    sequence: u64,
    timeline: u64,
    /// Running time of the last frame.
    end: Duration,
    /// Running time of the last frame that it is known to hold for.
    confirmed: Duration,
    fields: gst::Structure,
}

#[derive(Debug)]
struct Posted {
    text: String,
    sequence: u64,
    timeline: u64,
    /// Running time of the last frame.
    end: Duration,
    /// Running time of the last frame that it is known to hold for.
    confirmed: Duration,
    /// The meta's fields, `age` and `status` still to be filled in.
    fields: gst::Structure,
}

/// When captions grow old.
#[derive(Debug, Clone, Copy)]
pub(super) struct Ageing {
    /// Time from window to window: until then no later window has ended.
    pub stride: Duration,
    /// How long a caption is shown.
    pub hold: Duration,
}

impl Board {
    /// Nothing moved up to `frame` since the window with this number: what was said of it holds.
    pub fn confirm(&mut self, sequence: u64, frame: FrameTime) {
        self.confirmed = Some((sequence, frame));
        let hold = |of: u64, confirmed: &mut Duration, fields: &mut gst::Structure| {
            if of == sequence {
                *confirmed = frame.running_time;
                fields.set("confirmed", nanos(frame.pts));
            }
        };
        if let Some(posted) = &mut self.caption {
            hold(posted.sequence, &mut posted.confirmed, &mut posted.fields);
        }
        for answer in self.asked.answers.values_mut() {
            hold(answer.sequence, &mut answer.confirmed, &mut answer.fields);
        }
    }

    /// The questions are these from now on.
    pub fn set_questions(&mut self, ask: &Ask) {
        self.asked.main = ask.main().id.clone();
        self.asked.listed = ask.questions.iter().map(|q| q.id.clone()).collect();
        let listed = &self.asked.listed;
        self.asked.answers.retain(|id, _| listed.contains(id));
    }

    /// Notes an answer; whether it is the caption.
    pub fn post(&mut self, caption: &Caption, origin: &Origin) -> bool {
        let end = caption.frames.last();
        let end = end.map_or(Duration::ZERO, |f| f.running_time);
        let id = &caption.question.id;
        if self.asked.listed.contains(id) {
            let answer = Answer {
                sequence: caption.sequence,
                timeline: caption.window_info.timeline,
                end,
                confirmed: end,
                fields: answer(caption, end),
            };
            self.asked.answers.insert(id.clone(), answer);
            self.unseen = true;
        }
        let is_main = *id == self.asked.main;
        if is_main {
            self.caption = Some(Posted {
                text: caption.text.clone(),
                sequence: caption.sequence,
                timeline: caption.window_info.timeline,
                end,
                confirmed: end,
                fields: structure(META_NAME, caption, origin),
            });
            self.unseen = true;
        }
        if let Some((sequence, frame)) = self.confirmed {
            self.confirm(sequence, frame);
        }
        is_main
    }

    /// The latest answers that were known to hold within `hold`; `None` where no questions are
    /// listed.
    fn answers(&self, now: Option<Duration>, hold: Duration) -> Option<gst::Array> {
        if self.asked.listed.is_empty() {
            return None;
        }
        let answers = self.asked.listed.iter().filter_map(|id| {
            let answer = self.asked.answers.get(id)?;
            if answer.timeline != self.timeline || now.is_some_and(|now| answer.end > now) {
                return None;
            }
            let since = now.map_or(Duration::ZERO, |now| now.saturating_sub(answer.confirmed));
            (since <= hold).then_some(&answer.fields)
        });
        Some(gst::Array::new(answers))
    }

    /// Notes a fault; whether the user is to be told.
    pub fn fail(&mut self, cause: Cause, reason: &str, now: Instant) -> bool {
        self.unseen = true;
        self.faults.begin(cause, reason, now)
    }

    /// Ends faults; what it was if none is left and the user is to be told.
    pub fn relieve(&mut self, causes: &[Cause]) -> Option<String> {
        self.faults.end(causes)
    }

    pub fn has(&self, cause: Cause) -> bool {
        self.faults.has(cause)
    }

    /// Buffers are on the timeline with this number from now on, and carry captions of that one
    /// alone.
    pub fn begin_timeline(&mut self, number: u64) {
        self.timeline = number;
    }

    /// The caption that a buffer may carry: of its own timeline, and not of frames after it.
    fn current(&self, now: Option<Duration>) -> Option<&Posted> {
        self.caption.as_ref().filter(|posted| {
            posted.timeline == self.timeline && now.is_none_or(|now| posted.end <= now)
        })
    }

    /// Whether the caption is for buffers that are yet to come.
    fn is_early(&self, now: Option<Duration>) -> bool {
        let posted = self.caption.as_ref();
        let posted = posted.filter(|posted| posted.timeline == self.timeline);
        posted.is_some() && self.current(now).is_none()
    }

    pub fn clear(&mut self) {
        let mut asked = std::mem::take(&mut self.asked);
        asked.answers.clear();
        *self = Self {
            asked,
            timeline: self.timeline,
            ..Self::default()
        };
    }

    /// The last caption's text.
    pub fn text(&self) -> Option<&str> {
        self.caption.as_ref().map(|posted| posted.text.as_str())
    }

    /// The fields for a buffer at `running_time`, which one without a timestamp does not have;
    /// `None` if it carries no meta.
    pub fn fields(
        &mut self,
        running_time: Option<Duration>,
        attach: Attach,
        ageing: Ageing,
    ) -> Option<gst::Structure> {
        match attach {
            Attach::None => return None,
            Attach::Window if !self.unseen || self.is_early(running_time) => return None,
            Attach::Window | Attach::Latest => self.unseen = false,
        }
        let error = self.faults.reason();
        let posted = self.current(running_time);
        let since = |moment: fn(&Posted) -> Duration| {
            let (posted, now) = posted.zip(running_time)?;
            Some(now.saturating_sub(moment(posted)))
        };
        let age = since(|posted| posted.end);
        let unconfirmed = since(|posted| posted.confirmed).unwrap_or_default();
        let status = match (error, posted, unconfirmed) {
            (Some(_), ..) => Status::Error,
            (None, None, _) => Status::None,
            (None, Some(_), since) if since > ageing.hold => Status::Stale,
            (None, Some(_), since) if since > ageing.stride => Status::Held,
            (None, Some(_), _) => Status::Fresh,
        };
        let mut fields = match (posted, status) {
            (Some(posted), Status::Fresh | Status::Held) => posted.fields.clone(),
            (posted, _) => without_text(posted),
        };
        fields.set("status", status.as_str());
        if let Some(age) = age {
            fields.set("age", nanos(age));
        }
        if let Some(error) = error {
            fields.set("error", error);
        }
        if let Some(answers) = self.answers(running_time, ageing.hold) {
            fields.set("answers", answers);
        }
        Some(fields)
    }
}

/// What may be said of a caption whose text may not: which it was, and when.
fn without_text(posted: Option<&Posted>) -> gst::Structure {
    const KEPT: [&str; 6] = [
        "start",
        "end",
        "wallclock",
        "wallclock-source",
        "sequence",
        "stream-id",
    ];
    let mut fields = gst::Structure::builder(META_NAME).field("text", "").build();
    for name in KEPT {
        if let Some(value) = posted.and_then(|posted| posted.fields.value(name).ok()) {
            fields.set_value(name, value.clone());
        }
    }
    fields
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::caption::question::Question;
    use crate::caption::window::WallClock;
    use crate::vlm::generate::{Drafts, StopReason};

    const AGEING: Ageing = Ageing {
        stride: Duration::from_secs(4),
        hold: Duration::from_secs(30),
    };

    fn caption() -> Caption {
        let at = Duration::from_secs(3);
        Caption {
            question: Arc::new(Question::plain("What is there?")),
            text: "A red circle.".into(),
            probability: None,
            probabilities: Vec::new(),
            sequence: 1,
            frames: vec![FrameTime {
                pts: at,
                running_time: at,
                wallclock: at,
                clock: WallClock::System,
            }],
            prompt_hash: "0".into(),
            evidence: None,
            tokens_in: 1,
            reused: 0,
            reused_pairs: 0,
            drafts: Drafts::default(),
            tokens_out: 1,
            stop_reason: StopReason::Eos,
            queue_wait: Duration::ZERO,
            ttft: Duration::ZERO,
            total: Duration::ZERO,
            window_info: Default::default(),
        }
    }

    fn board() -> Board {
        gst::init().unwrap();
        let mut board = Board::default();
        board.asked.main = "default".into();
        board.post(&caption(), &Origin::default());
        board
    }

    fn status(board: &mut Board, second: u64) -> (String, String) {
        let at = Duration::from_secs(second);
        let fields = board.fields(Some(at), Attach::Latest, AGEING).unwrap();
        (fields.get("status").unwrap(), fields.get("text").unwrap())
    }

    #[test]
    fn a_caption_grows_old_and_is_then_not_repeated() {
        let mut board = board();
        let want = |status: &str, text: &str| (status.to_owned(), text.to_owned());
        assert_eq!(status(&mut board, 5), want("fresh", "A red circle."));
        assert_eq!(status(&mut board, 8), want("held", "A red circle."));
        assert_eq!(status(&mut board, 34), want("stale", ""));
    }

    #[test]
    fn an_error_hides_the_caption_before_it() {
        let mut board = board();
        assert!(board.fail(Cause::Window, "no device", Instant::now()));
        let at = Some(Duration::from_secs(4));
        let fields = board.fields(at, Attach::Latest, AGEING).unwrap();
        assert_eq!(fields.get::<String>("status").unwrap(), "error");
        assert_eq!(fields.get::<String>("text").unwrap(), "");
        assert_eq!(fields.get::<String>("error").unwrap(), "no device");
        assert_eq!(fields.get::<u64>("end").unwrap(), 3_000_000_000);
        assert_eq!(fields.get::<u64>("age").unwrap(), 1_000_000_000);
        assert!(!fields.has_field("model"));
        // A buffer without a timestamp has no age, and its status all the same.
        let fields = board.fields(None, Attach::Latest, AGEING).unwrap();
        assert_eq!(fields.get::<&str>("status").unwrap(), "error");
        assert!(!fields.has_field("age"));
        assert_eq!(
            board.relieve(&[Cause::Window]).as_deref(),
            Some("no device")
        );
        assert_eq!(status(&mut board, 4).0, "fresh");
    }

    #[test]
    fn a_caption_that_was_confirmed_is_as_old_as_it_is_and_stays_fresh() {
        let mut board = board();
        let frame = |second| {
            let at = Duration::from_secs(second);
            FrameTime {
                pts: at + Duration::from_secs(100),
                running_time: at,
                wallclock: at,
                clock: WallClock::System,
            }
        };
        board.confirm(1, frame(50));
        let at = Duration::from_secs(52);
        let fields = board.fields(Some(at), Attach::Latest, AGEING).unwrap();
        assert_eq!(fields.get::<String>("status").unwrap(), "fresh");
        assert_eq!(fields.get::<u64>("age").unwrap(), 49_000_000_000);
        assert_eq!(fields.get::<u64>("end").unwrap(), 3_000_000_000);
        assert_eq!(fields.get::<u64>("confirmed").unwrap(), 150_000_000_000);
        // Of a caption that is not there yet.
        board.confirm(2, frame(90));
        assert_eq!(status(&mut board, 55).0, "held");
        assert_eq!(status(&mut board, 81).0, "stale");
    }

    #[test]
    fn all_answers_about_an_unchanged_window_hold_also_those_that_come_late() {
        gst::init().unwrap();
        let mut board = Board::default();
        board.asked.main = "default".into();
        board.asked.listed = vec!["default".into(), "late".into()];
        board.post(&caption(), &Origin::default());
        let at = Duration::from_secs(50);
        let frame = FrameTime {
            pts: at,
            running_time: at,
            wallclock: at,
            clock: WallClock::System,
        };
        board.confirm(1, frame);
        let question = Question {
            id: "late".into(),
            ..Question::plain("Is it red?")
        };
        let late = Caption {
            question: Arc::new(question),
            ..caption()
        };
        board.post(&late, &Origin::default());
        let mut answers = |second| {
            let at = Duration::from_secs(second);
            let fields = board.fields(Some(at), Attach::Latest, AGEING).unwrap();
            fields.get::<gst::Array>("answers").unwrap()
        };
        assert_eq!(answers(80).len(), 2);
        for answer in answers(80).iter() {
            let answer = answer.get::<gst::Structure>().unwrap();
            assert_eq!(answer.get::<u64>("confirmed").unwrap(), 50_000_000_000);
        }
        assert_eq!(answers(81).len(), 0);
    }

    #[test]
    fn attach_window_marks_one_buffer() {
        let mut board = board();
        let at = Some(Duration::from_secs(4));
        assert!(board.fields(at, Attach::Window, AGEING).is_some());
        assert!(board.fields(at, Attach::Window, AGEING).is_none());
    }

    #[test]
    fn before_the_first_caption_the_status_is_none() {
        gst::init().unwrap();
        assert_eq!(status(&mut Board::default(), 0).0, "none");
    }
}
