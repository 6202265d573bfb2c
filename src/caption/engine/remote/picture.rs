// SPDX-License-Identifier: MPL-2.0

//! What is sent of a window: which frames, and in which form.

use std::sync::Arc;
use std::time::Duration;

use openai_client::{Media, VideoTimes};

use super::mp4::mp4;
use super::probing::Sending;
use crate::caption::frames::visual::{Jpeg, Visual};
use crate::caption::frames::window::{FrameTime, Window};

/// What is sent of a window, the same for all questions about it.
pub(super) struct Picture {
    /// The frames that are in it.
    pub(super) frames: Vec<FrameTime>,
    pub(super) media: Vec<Media>,
    /// When the frames of a video were, for servers that are told.
    pub(super) times: Option<VideoTimes>,
}

/// Makes what is sent of a window: at most so many frames of it, evenly thinned.
///
/// # Errors
/// A frame is none for a server.
pub(super) fn picture(
    window: &Window,
    sending: Sending,
    max_images: Option<usize>,
) -> Result<Picture, String> {
    let jpegs = window
        .pairs
        .iter()
        .map(|pair| match &*pair.visual.lock().unwrap() {
            Visual::Jpeg(jpeg) => Ok(jpeg.clone()),
            _ => Err("a frame was made for a model of this machine".to_owned()),
        });
    let jpegs = jpegs.collect::<Result<Vec<_>, _>>()?;
    let mut shown: Vec<(FrameTime, Arc<Jpeg>)> = window.frames.iter().copied().zip(jpegs).collect();
    if let (Sending::Sequence | Sending::Mp4, Some((_, last))) = (sending, shown.last().cloned()) {
        // Frames of a video have one size; it changes where the overload ladder gave way.
        shown.retain(|(_, jpeg)| (jpeg.width, jpeg.height) == (last.width, last.height));
    }
    let shown = thinned(&shown, max_images.unwrap_or(usize::MAX));
    let frames: Vec<FrameTime> = shown.iter().map(|(time, _)| *time).collect();
    let bytes: Vec<&[u8]> = shown
        .iter()
        .map(|(_, jpeg)| jpeg.bytes.as_slice())
        .collect();
    let first = frames.first().map(|frame| frame.pts).unwrap_or_default();
    let since = frames.iter().map(|frame| frame.pts.saturating_sub(first));
    Ok(match (sending, shown.as_slice()) {
        (Sending::Sequence, [_, _, ..]) => Picture {
            media: vec![Media::jpeg_sequence(&bytes)],
            times: Some(VideoTimes::new(since)),
            frames,
        },
        (Sending::Mp4, [(_, jpeg), _, ..]) => {
            let times: Vec<Duration> = since.collect();
            let file = mp4(&bytes, &times, (jpeg.width, jpeg.height));
            Picture {
                media: vec![Media::mp4(&file)],
                // They are in the file.
                times: None,
                frames,
            }
        }
        // A video of one frame is an image.
        _ => Picture {
            frames,
            media: bytes.iter().map(|bytes| Media::jpeg(bytes)).collect(),
            times: None,
        },
    })
}

/// At most `most` of them, evenly spread, the first and the last among them.
fn thinned<T: Clone>(all: &[T], most: usize) -> Vec<T> {
    let n = all.len();
    match most {
        _ if n <= most => all.to_vec(),
        0 | 1 => all.last().cloned().into_iter().collect(),
        most => (0..most)
            .map(|i| all[i * (n - 1) / (most - 1)].clone())
            .collect(),
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;
    use std::sync::atomic::AtomicBool;

    use openai_client::MediaKind;

    use super::*;
    use crate::caption::frames::window::{Pair, WallClock};

    fn window(sizes: &[usize]) -> Window {
        let at = |second| Duration::from_secs(second as u64);
        let frames = (0..sizes.len()).map(|second| FrameTime {
            pts: at(second),
            running_time: at(second),
            wallclock: at(second),
            clock: WallClock::System,
        });
        let pairs = sizes.iter().enumerate().map(|(second, size)| {
            Arc::new(Pair {
                pts: vec![at(second)],
                visual: Mutex::new(Visual::Jpeg(Arc::new(Jpeg {
                    width: *size,
                    height: 1,
                    bytes: vec![second as u8],
                }))),
                frames: Vec::new(),
                answered: AtomicBool::new(false),
            })
        });
        Window {
            frames: frames.collect(),
            pairs: pairs.collect(),
        }
    }

    fn sent(sizes: &[usize], sending: Sending, most: Option<usize>) -> (Vec<u64>, Vec<MediaKind>) {
        let picture = picture(&window(sizes), sending, most).unwrap();
        let seconds = picture.frames.iter().map(|frame| frame.pts.as_secs());
        let kinds = picture.media.iter().map(Media::kind);
        (seconds.collect(), kinds.collect())
    }

    #[test]
    fn a_video_is_one_and_images_are_several() {
        let video = sent(&[1; 3], Sending::Sequence, None);
        assert_eq!(video, (vec![0, 1, 2], vec![MediaKind::Video]));
        let images = sent(&[1; 3], Sending::Images, None);
        assert_eq!(images, (vec![0, 1, 2], vec![MediaKind::Image; 3]));
        let file = sent(&[1; 3], Sending::Mp4, None);
        assert_eq!(file, (vec![0, 1, 2], vec![MediaKind::Video]));
        for sending in [Sending::Sequence, Sending::Mp4] {
            let one = sent(&[1], sending, None);
            assert_eq!(one, (vec![0], vec![MediaKind::Image]));
        }
    }

    #[test]
    fn frames_of_a_video_have_one_size_that_of_the_last() {
        for sending in [Sending::Sequence, Sending::Mp4] {
            let (seconds, _) = sent(&[2, 2, 1, 1], sending, None);
            assert_eq!(seconds, [2, 3]);
        }
        assert_eq!(sent(&[2, 2, 1, 1], Sending::Images, None).0.len(), 4);
    }

    #[test]
    fn what_is_too_much_is_thinned_evenly() {
        let seconds = |most| sent(&[1; 7], Sending::Images, Some(most)).0;
        assert_eq!(seconds(7), [0, 1, 2, 3, 4, 5, 6]);
        assert_eq!(seconds(4), [0, 2, 4, 6]);
        assert_eq!(seconds(2), [0, 6]);
        assert_eq!(seconds(1), [6]);
    }
}
