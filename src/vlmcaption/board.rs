// SPDX-License-Identifier: MPL-2.0

//! The notice board between the model's thread, which writes captions, and the streaming thread,
//! which puts the latest on each buffer with its age.

use std::time::Duration;

use super::Attach;
use super::output::{META_NAME, Origin, Status, nanos, structure};
use crate::caption::Caption;

/// The latest caption, or why there is none.
#[derive(Debug, Default)]
pub(super) struct Board {
    caption: Option<Posted>,
    error: Option<String>,
    /// Not yet on any buffer, for [`Attach::Window`].
    unseen: bool,
}

#[derive(Debug)]
struct Posted {
    text: String,
    /// Running time of the last frame.
    end: Duration,
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
    pub fn post(&mut self, caption: &Caption, origin: &Origin) {
        self.caption = Some(Posted {
            text: caption.text.clone(),
            end: caption
                .frames
                .last()
                .map_or(Duration::ZERO, |f| f.running_time),
            fields: structure(META_NAME, caption, origin),
        });
        self.error = None;
        self.unseen = true;
    }

    pub fn fail(&mut self, reason: String) {
        self.error = Some(reason);
        self.unseen = true;
    }

    pub fn clear(&mut self) {
        *self = Self::default();
    }

    /// The last caption's text.
    pub fn text(&self) -> Option<&str> {
        self.caption.as_ref().map(|posted| posted.text.as_str())
    }

    pub fn error(&self) -> Option<&str> {
        self.error.as_deref()
    }

    /// The fields for a buffer at `running_time`; `None` if it carries no meta.
    pub fn fields(
        &mut self,
        running_time: Duration,
        attach: Attach,
        ageing: Ageing,
    ) -> Option<gst::Structure> {
        let unseen = std::mem::take(&mut self.unseen);
        match attach {
            Attach::None => return None,
            Attach::Window if !unseen => return None,
            Attach::Window | Attach::Latest => {}
        }
        let Some(posted) = &self.caption else {
            let status = if self.error.is_some() {
                Status::Error
            } else {
                Status::None
            };
            return Some(self.without_text(status));
        };
        let age = running_time.saturating_sub(posted.end);
        let status = if self.error.is_some() {
            Status::Error
        } else if age > ageing.hold {
            Status::Stale
        } else if age > ageing.stride {
            Status::Held
        } else {
            Status::Fresh
        };
        if matches!(status, Status::Error | Status::Stale) {
            let mut fields = self.without_text(status);
            fields.set("age", nanos(age));
            return Some(fields);
        }
        let mut fields = posted.fields.clone();
        fields.set("age", nanos(age));
        fields.set("status", status.as_str());
        Some(fields)
    }

    fn without_text(&self, status: Status) -> gst::Structure {
        let mut fields = gst::Structure::builder(META_NAME)
            .field("text", "")
            .field("status", status.as_str())
            .build();
        if let Some(error) = &self.error {
            fields.set("error", error);
        }
        fields
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::caption::window::FrameTime;
    use crate::vlm::generate::StopReason;

    const AGEING: Ageing = Ageing {
        stride: Duration::from_secs(4),
        hold: Duration::from_secs(30),
    };

    fn board() -> Board {
        gst::init().unwrap();
        let at = Duration::from_secs(3);
        let caption = Caption {
            text: "A red circle.".into(),
            sequence: 1,
            frames: vec![FrameTime {
                pts: at,
                running_time: at,
                wallclock: at,
            }],
            prompt_hash: "0".into(),
            tokens_in: 1,
            tokens_out: 1,
            stop_reason: StopReason::Eos,
            queue_wait: Duration::ZERO,
            ttft: Duration::ZERO,
            total: Duration::ZERO,
        };
        let mut board = Board::default();
        board.post(&caption, &Origin::default());
        board
    }

    fn status(board: &mut Board, second: u64) -> (String, String) {
        let at = Duration::from_secs(second);
        let fields = board.fields(at, Attach::Latest, AGEING).unwrap();
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
        board.fail("no device".into());
        let fields = board
            .fields(Duration::from_secs(4), Attach::Latest, AGEING)
            .unwrap();
        assert_eq!(fields.get::<String>("status").unwrap(), "error");
        assert_eq!(fields.get::<String>("text").unwrap(), "");
        assert_eq!(fields.get::<String>("error").unwrap(), "no device");
    }

    #[test]
    fn attach_window_marks_one_buffer() {
        let mut board = board();
        let at = Duration::from_secs(4);
        assert!(board.fields(at, Attach::Window, AGEING).is_some());
        assert!(board.fields(at, Attach::Window, AGEING).is_none());
    }

    #[test]
    fn before_the_first_caption_the_status_is_none() {
        gst::init().unwrap();
        assert_eq!(status(&mut Board::default(), 0).0, "none");
    }
}
