// SPDX-License-Identifier: MPL-2.0

//! What a server takes, and what is made of that: in which form frames go to it, and what the user is
//! told of it.

use openai_client::{Client, Probe, ServerTraits, Support};

use super::frames::{OLDER_FACTOR, jpeg};
use super::options::Transport;
use crate::backend::Cancel;
use crate::caption::reports::report::Notice;
use crate::vlm::image::RgbImage;
use crate::vlm::{PromptRequest, VisualInput, VisualKind, Vlm};

/// Side of the frames that a server is probed with: a whole number of visual tokens of 28 and of 32
/// pixels.
const SIDE: usize = 448;

/// Visual tokens of such a frame, at 32 and at 28 pixels to a token.
const TOKENS: u64 = 14 * 14;
const OLDER_TOKENS: u64 = 16 * 16;

/// In which form frames go to a server.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Sending {
    /// As the frames of one video.
    Sequence,
    /// As single images.
    Images,
    /// As a video file.
    Mp4,
}

/// Finds out what a server takes. Nothing of a camera is sent: the frames are drawn.
///
/// # Errors
/// Faults of the server or the way to it.
pub(super) fn probe(client: &Client, ask: bool, cancel: &Cancel) -> Result<ServerTraits, String> {
    let wire = openai_client::Cancel::default();
    let _woken = cancel.on_cancel({
        let wire = wire.clone();
        move || wire.cancel()
    });
    let frames: Result<Vec<_>, _> = (0..2).map(|n| jpeg(&drawn(n), 90)).collect();
    let frames = frames.map_err(|error| error.to_string())?;
    let probe = Probe {
        frames: frames.into_iter().map(|jpeg| jpeg.bytes).collect(),
        ask,
    };
    let traits = client.probe(&probe, &wire);
    traits.map_err(|error| error.to_string())
}

/// A frame of a slope that moves.
fn drawn(n: usize) -> RgbImage {
    let slope = |i: usize| ((i + n * 32) * 255 / (2 * SIDE)) as u8;
    let pixels = (0..SIDE * SIDE).flat_map(|i| [slope(i % SIDE), slope(i / SIDE), 128]);
    RgbImage {
        width: SIDE,
        height: SIDE,
        pixels: pixels.collect(),
    }
}

/// Pixels to a visual token, by the tokens that the frames of the probe became; `None` where that does
/// not tell. A few tokens of text stand between the visual ones.
pub(super) fn factor(traits: &ServerTraits) -> Option<usize> {
    let tokens = traits.video_tokens?;
    (OLDER_TOKENS..OLDER_TOKENS + 40)
        .contains(&tokens)
        .then_some(OLDER_FACTOR)
}

/// Tokens that the video of the probe becomes in a prompt of this machine's, which is that of the
/// processor that the checkpoint was published with.
pub(super) fn reference(family: &dyn Vlm) -> Option<u64> {
    let frames = [drawn(0), drawn(1)];
    let grid = family.patches(&frames).ok()?.grid;
    let video = VisualInput {
        grid,
        seconds: vec![0.0, 1.0],
    };
    let rows = |visuals: &[VisualInput]| {
        let request = PromptRequest {
            system: None,
            history: &[],
            text: "?",
            kind: VisualKind::Video,
            visuals,
        };
        family.prompt(&request).ok().map(|prompt| prompt.n_rows())
    };
    Some(rows(&[video])?.checked_sub(rows(&[])?)? as u64)
}

/// What is to be said of a server's prompt beside that of this machine.
pub(super) fn compared(
    place: &str,
    sending: Sending,
    traits: &ServerTraits,
    reference: Option<u64>,
) -> Option<Notice> {
    let (tokens, reference) = (traits.video_tokens?, reference?);
    // What it shrinks is told by itself.
    if sending != Sending::Sequence || tokens < TOKENS {
        return None;
    }
    Some(match tokens.checked_signed_diff(reference) {
        Some(0) => Notice::Info(format!(
            "{place} puts a video into its prompt as a model on this machine has it, to the token"
        )),
        Some(2) => Notice::Info(format!(
            "{place} puts two tokens more around a video than the checkpoint was published with: its \
             transformers is 5.10 or later; captions differ little (docs/remote.md, The prompt of \
             Qwen3-VL)"
        )),
        _ => Notice::Warning(format!(
            "{place} makes {tokens} tokens of a video that the checkpoint in config makes {reference} of; \
             does it run that checkpoint, and does it leave the size of frames as it is?"
        )),
    })
}

/// The form in which frames go to a server.
///
/// # Errors
/// It takes no pictures.
pub(super) fn sending(transport: Transport, traits: &ServerTraits) -> Result<Sending, String> {
    match (transport, traits.video, traits.images) {
        (Transport::Sequence, ..) | (Transport::Auto, Support::Yes, _) => Ok(Sending::Sequence),
        (Transport::Mp4, ..) => Ok(Sending::Mp4),
        (Transport::Auto, Support::No, Support::No) => Err(traits.sentence()),
        (Transport::Images | Transport::Auto, ..) => Ok(Sending::Images),
    }
}

/// What the user should know before frames go to a server.
pub(super) fn notices(
    place: &str,
    transport: Transport,
    sending: Sending,
    quality: u8,
    traits: &ServerTraits,
) -> Vec<Notice> {
    let form = match sending {
        Sending::Sequence => "the frames of each window as one video",
        Sending::Images => "the frames of each window as single images",
        Sending::Mp4 => "the frames of each window as a video file",
    };
    let found = match transport {
        Transport::Auto => traits.sentence(),
        Transport::Sequence | Transport::Images | Transport::Mp4 => {
            format!("{} is asked, as video-transport says", traits.model)
        }
    };
    let mut notices = vec![Notice::Info(format!(
        "frames leave this machine, for {place}: {form}, as JPEG of quality {quality}; {found}"
    ))];
    if sending == Sending::Images && transport == Transport::Auto {
        notices.push(Notice::Warning(format!(
            "{place} takes single images alone: what moves from frame to frame is lost on it; for \
             motion use a server that takes frames as a video (vLLM from 0.20), or set \
             video-transport=images if stills are enough"
        )));
    }
    if let (Sending::Sequence, Some(tokens)) = (sending, traits.video_tokens)
        && tokens < TOKENS
    {
        let area = tokens * 32 * 32 * 2;
        notices.push(Notice::Warning(format!(
            "{place} shrinks videos to about {area} pixels, all frames together; set max-pixels so \
             that a window is no more, or raise size.longest_edge of the server's processor: else it \
             sees less than was sent"
        )));
    }
    notices
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::vlm::Checkpoint;
    use crate::vlm::files::ModelFiles;

    fn traits(video: Support, images: Support) -> ServerTraits {
        ServerTraits {
            model: "demo".into(),
            video,
            images,
            ..ServerTraits::default()
        }
    }

    #[test]
    fn frames_go_as_a_video_where_a_server_shows_that_it_takes_one_or_the_user_says_so() {
        use Support::{No, Unknown, Yes};
        let auto = |video, images| sending(Transport::Auto, &traits(video, images));
        assert_eq!(auto(Yes, Yes), Ok(Sending::Sequence));
        assert_eq!(auto(No, Yes), Ok(Sending::Images));
        assert_eq!(auto(Unknown, Unknown), Ok(Sending::Images));
        assert!(auto(No, No).unwrap_err().contains("takes no pictures"));
        let set = |transport| sending(transport, &traits(No, No));
        assert_eq!(set(Transport::Sequence), Ok(Sending::Sequence));
        assert_eq!(set(Transport::Images), Ok(Sending::Images));
        assert_eq!(set(Transport::Mp4), Ok(Sending::Mp4));
    }

    #[test]
    fn the_user_is_told_of_lost_motion_and_of_frames_that_are_shrunk() {
        let told = |sending, tokens| {
            let traits = ServerTraits {
                video_tokens: tokens,
                ..traits(Support::Yes, Support::Yes)
            };
            let all = notices("h:1", Transport::Auto, sending, 90, &traits);
            let warning = |notice: &Notice| matches!(notice, Notice::Warning(_));
            (
                all.len(),
                all.iter().filter(|notice| warning(notice)).count(),
            )
        };
        assert_eq!(told(Sending::Sequence, Some(205)), (1, 0));
        assert_eq!(told(Sending::Images, None), (2, 1));
        assert_eq!(told(Sending::Sequence, Some(24)), (2, 1));
    }

    #[test]
    fn a_servers_prompt_is_compared_with_that_of_this_machine() {
        let demo = Checkpoint::open_compiled(ModelFiles::demo()).unwrap();
        let reference = reference(demo.vlm.as_ref()).unwrap();
        // Visual tokens, the markers around them and a time in words.
        assert!(
            (TOKENS + 3..TOKENS + 20).contains(&reference),
            "{reference}"
        );
        let told = |tokens| {
            let traits = ServerTraits {
                video_tokens: Some(tokens),
                ..traits(Support::Yes, Support::Yes)
            };
            compared("h:1", Sending::Sequence, &traits, Some(reference))
        };
        let is_info = |notice: Option<Notice>, words: &str| match notice {
            Some(Notice::Info(text)) => text.contains(words),
            _ => false,
        };
        assert!(is_info(told(reference), "to the token"));
        assert!(is_info(
            told(reference + 2),
            "transformers is 5.10 or later"
        ));
        assert!(matches!(told(reference + 7), Some(Notice::Warning(_))));
        assert!(told(24).is_none());
    }

    #[test]
    fn the_tokens_of_the_probe_tell_the_grid() {
        let factor = |tokens| {
            factor(&ServerTraits {
                video_tokens: tokens,
                ..ServerTraits::default()
            })
        };
        assert_eq!(factor(None), None);
        assert_eq!(factor(Some(TOKENS + 9)), None);
        assert_eq!(factor(Some(OLDER_TOKENS + 2)), Some(OLDER_FACTOR));
    }
}
