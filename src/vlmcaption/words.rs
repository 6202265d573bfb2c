// SPDX-License-Identifier: MPL-2.0

//! What models and devices say, made fit for every outlet: messages, metas, structures, cues, logs.
//!
//! A NUL ends a string for whoever reads it in C, a lone carriage return ends a line for some readers
//! and not for others, and XML has no control characters at all.

use crate::caption::{Caption, InquiryReport, ModelReport, Report, WindowReport};

/// The text with line feeds as the only ends of lines, and blanks for other control characters.
pub(super) fn printable(text: &str) -> String {
    let mut clean = String::with_capacity(text.len());
    let mut chars = text.chars().peekable();
    while let Some(c) = chars.next() {
        clean.push(match c {
            '\r' if chars.peek() == Some(&'\n') => continue,
            '\r' | '\u{85}' | '\u{2028}' | '\u{2029}' => '\n',
            '\n' | '\t' => c,
            // Characters that XML does not have.
            '\u{fffe}' | '\u{ffff}' => ' ',
            c if c.is_control() => ' ',
            c => c,
        });
    }
    clean
}

/// A report with all its words made fit.
pub(super) fn cleaned(report: Report) -> Report {
    match report {
        Report::Model(report) => Report::Model(cleaned_model(report)),
        Report::Window(report) => Report::Window(cleaned_window(report)),
        Report::Inquiry(InquiryReport { id, answer }) => {
            let answer = answer
                .map(cleaned_caption)
                .map_err(|reason| printable(&reason));
            Report::Inquiry(InquiryReport { id, answer })
        }
    }
}

fn cleaned_model(report: ModelReport) -> ModelReport {
    match report {
        // Notices are made fit where they are posted.
        ModelReport::Failed(reason) => ModelReport::Failed(printable(&reason)),
        other => other,
    }
}

fn cleaned_window(report: WindowReport) -> WindowReport {
    match report {
        WindowReport::Caption(caption) => WindowReport::Caption(cleaned_caption(caption)),
        WindowReport::Partial {
            sequence,
            prompt_id,
            text,
        } => WindowReport::Partial {
            sequence,
            prompt_id,
            text: printable(&text),
        },
        WindowReport::QuestionFailed { id, reason } => WindowReport::QuestionFailed {
            id,
            reason: printable(&reason),
        },
        WindowReport::Failed { frames, reason } => WindowReport::Failed {
            frames,
            reason: printable(&reason),
        },
        other => other,
    }
}

fn cleaned_caption(mut caption: Box<Caption>) -> Box<Caption> {
    caption.text = printable(&caption.text);
    caption
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn lines_end_in_one_way_and_nothing_else_controls() {
        assert_eq!(printable("a\r\nb\rc\nd\te"), "a\nb\nc\nd\te");
        assert_eq!(printable("a\0b\x1b[31mc\u{7f}\u{9b}d"), "a b [31mc  d");
        assert_eq!(printable("a\u{85}b\u{2028}c\u{2029}d"), "a\nb\nc\nd");
    }

    proptest! {
        #[test]
        fn nothing_is_lost_but_what_controls(text in any::<String>()) {
            let clean = printable(&text);
            prop_assert!(!clean.chars().any(|c| c.is_control() && c != '\n' && c != '\t'));
            let words = |text: &str| text.chars().filter(|c| c.is_alphanumeric()).collect::<String>();
            prop_assert_eq!(words(&clean), words(&text));
        }
    }
}
