// SPDX-License-Identifier: MPL-2.0

//! A caption as a cue: when it is shown, and words that no subtitle format takes for anything else.

use std::time::Duration;

/// A caption for the text pad.
#[derive(Debug, Clone)]
pub(in crate::vlmcaption) struct Text {
    pub text: String,
    pub begin: Begin,
    pub duration: gst::ClockTime,
    /// Number of the timeline that its times are on.
    pub timeline: u64,
}

/// When a cue begins.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::vlmcaption) enum Begin {
    /// With the first of its frames, even if the text stream has passed it since.
    Window {
        pts: gst::ClockTime,
        running_time: Duration,
    },
    /// Where the video is, after the cue before it.
    Arrival,
    /// The same; while it waits for the end of the cue before it a newer one takes its place.
    Live,
}

/// The text as one cue of plain text in WebVTT, SRT and TTML alike; `None` if nothing is left.
///
/// Empty lines and arrows end a cue. `<` begins a tag in WebVTT and SRT, and `&lt;` stands for it, so
/// `‹` is written; `&` is set apart from what would make it a character reference.
pub(super) fn clean(text: &str) -> Option<String> {
    let lines: Vec<&str> = text
        .lines()
        .map(str::trim_end)
        .filter(|line| !line.is_empty())
        .collect();
    if lines.is_empty() {
        return None;
    }
    let text = lines.join("\n");
    let mut clean = String::with_capacity(text.len());
    for (i, c) in text.char_indices() {
        match c {
            '<' => clean.push('‹'),
            '>' if clean.ends_with("--") => {
                clean.truncate(clean.trim_end_matches('-').len());
                clean.push_str("->");
            }
            '&' if is_reference(&text[i + 1..]) => clean.push_str("& "),
            c => clean.push(c),
        }
    }
    Some(clean)
}

/// Whether a reader may take `&` and what follows it for another character.
fn is_reference(after: &str) -> bool {
    // HTML, which WebVTT follows, knows many names without a semicolon, but only of old.
    const NAMES: [&str; 6] = ["amp", "lt", "gt", "quot", "apos", "nbsp"];
    let name = after
        .split(|c: char| !c.is_ascii_alphanumeric())
        .next()
        .unwrap_or_default();
    let ends = after[name.len()..].starts_with(';');
    let lower = name.to_ascii_lowercase();
    after.starts_with('#')
        || (ends && !name.is_empty())
        || NAMES.iter().any(|known| lower.starts_with(known))
}

/// A buffer of the text stream.
pub(super) fn buffer(text: String, pts: gst::ClockTime, duration: gst::ClockTime) -> gst::Buffer {
    let mut buffer = gst::Buffer::from_slice(text.into_bytes());
    // The buffer was just made, so it is writable.
    if let Some(buffer) = buffer.get_mut() {
        buffer.set_pts(pts);
        buffer.set_duration(duration);
    }
    buffer
}

/// Caps of the text stream.
pub(in crate::vlmcaption) fn text_caps() -> gst::Caps {
    gst::Caps::builder("text/x-raw")
        .field("format", "utf8")
        .build()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::super::words::printable;
    use super::*;

    fn cue(text: &str) -> Option<String> {
        clean(&printable(text))
    }

    #[test]
    fn a_cue_has_no_empty_lines_no_arrow_and_never_no_text() {
        assert_eq!(cue("a \n\n\nb\n").unwrap(), "a\nb");
        assert_eq!(cue("a\r\rb\r\n\r\nc").unwrap(), "a\nb\nc");
        assert_eq!(cue("Exit --> street.").unwrap(), "Exit -> street.");
        assert_eq!(cue("A ---> B <-----> C").unwrap(), "A -> B ‹-> C");
        assert_eq!(cue("-->>--->").unwrap(), "->>->");
        assert_eq!(cue(" \n\n\r\0"), None);
    }

    #[test]
    fn a_cue_has_no_markup() {
        assert_eq!(cue("a <b> & c < d").unwrap(), "a ‹b> & c ‹ d");
        assert_eq!(cue("AT&T, R&D, 1 & 2").unwrap(), "AT&T, R&D, 1 & 2");
        let references = cue("&lt;b&gt; &ampx &#60; &Aacute;").unwrap();
        assert_eq!(references, "& lt;b& gt; & ampx & #60; & Aacute;");
    }

    /// What a WebVTT file says, read as its specification has it: the cues' plain texts.
    fn parse_vtt(file: &str) -> Vec<String> {
        let file = file.replace("\r\n", "\n").replace(['\r', '\0'], "\n");
        let mut cues: Vec<String> = Vec::new();
        let mut in_cue = false;
        for line in file.split('\n').skip(1) {
            if line.contains("-->") {
                cues.push(String::new());
                in_cue = true;
            } else if line.is_empty() {
                in_cue = false;
            } else if in_cue && let Some(cue) = cues.last_mut() {
                if !cue.is_empty() {
                    cue.push('\n');
                }
                cue.push_str(line);
            }
        }
        cues.iter().map(|cue| plain(cue)).collect()
    }

    /// A cue's text without tags, and references as what they stand for.
    fn plain(cue: &str) -> String {
        let mut text = String::new();
        let mut in_tag = false;
        for c in cue.chars() {
            match c {
                '<' => in_tag = true,
                '>' if in_tag => in_tag = false,
                c if !in_tag => text.push(c),
                _ => {}
            }
        }
        let references = [
            ("&lt;", "<"),
            ("&gt;", ">"),
            ("&nbsp;", " "),
            ("&lrm;", ""),
            ("&amp;", "&"),
        ];
        references
            .iter()
            .fold(text, |text, (name, c)| text.replace(name, c))
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(2000))]

        #[test]
        fn any_text_is_one_cue_and_its_words_come_back(
            text in prop_oneof![
                any::<String>(),
                "([a-c<>&;#\\-\r\n\t\0 ]|-->|&lt;|</b>|\u{2028}|00:01){0,20}",
            ],
        ) {
            let Some(cue) = cue(&text) else {
                prop_assert!(!text.chars().any(char::is_alphanumeric));
                return Ok(());
            };
            let file = format!(
                "WEBVTT\n\n00:00:00.000 --> 00:00:01.000\n{cue}\n\n\
                 00:00:01.000 --> 00:00:02.000\nnext\n\n"
            );
            prop_assert_eq!(parse_vtt(&file), [cue.clone(), "next".into()]);
            let words = |text: &str| text.chars().filter(|c| c.is_alphanumeric()).collect::<String>();
            prop_assert_eq!(words(&cue), words(&text));
            // Escaped by whoever writes it, it is XML.
            prop_assert!(cue.chars().all(|c| matches!(c, '\t' | '\n') || !c.is_control()));
        }
    }
}
