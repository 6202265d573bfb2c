// SPDX-License-Identifier: MPL-2.0

use std::sync::Mutex;

use super::*;
use crate::backend::{GridThw, Patches};
use crate::caption::captioner::Captioner;
use crate::caption::engine::Engine;
use crate::caption::engine::session::SessionOptions;
use crate::caption::engine::source::Source;
use crate::caption::frames::mask::Mask;
use crate::caption::frames::processor::FamilyProcessor;
use crate::caption::frames::rules::Rules;
use crate::caption::frames::sampler::Rate;
use crate::caption::frames::window::WallClock;
use crate::caption::mailbox::DropPolicy;
use crate::caption::questions::prompt::Ask;
use crate::vlm::{FrameBounds, Prompt, PromptRequest, Vlm};

/// A family that remembers what it was shown.
#[derive(Default)]
struct Spy {
    seen: Mutex<Vec<RgbImage>>,
}

impl Vlm for Spy {
    fn temporal_patch_size(&self) -> usize {
        2
    }

    fn target_size(
        &self,
        width: usize,
        height: usize,
        _: VisualKind,
        _: PixelBudget,
    ) -> Result<(usize, usize), vlm::Error> {
        Ok((width, height))
    }

    fn fit(&self, frame: &RgbImage, _: VisualKind, _: PixelBudget) -> Result<RgbImage, vlm::Error> {
        self.seen.lock().unwrap().push(frame.clone());
        Ok(frame.clone())
    }

    fn patches(&self, _: &[RgbImage]) -> Result<Patches, vlm::Error> {
        Ok(Patches {
            grid: GridThw { t: 1, h: 2, w: 2 },
            pixels: Vec::new().into(),
            mean: [0.5; 3],
            std: [0.5; 3],
        })
    }

    fn n_visual_tokens(&self, _: GridThw) -> usize {
        1
    }

    fn prompt(&self, _: &PromptRequest<'_>) -> Result<Prompt, vlm::Error> {
        unreachable!("the engine has the mock's own family")
    }
}

fn options(window: usize, rules: Rules) -> Options {
    Options {
        sample_rate: Rate::new(1, 1).unwrap(),
        window,
        stride: window,
        budget: PixelBudget {
            max_pixels: None,
            video_ratio: None,
            exact: None,
        },
        rules,
        keeps_frames: false,
        session: SessionOptions {
            element: "e".into(),
            stream: "s".into(),
            weight: 1,
            policy: DropPolicy::Block,
            max_queued: 64,
            ask: Ask::plain("?"),
        },
    }
}

fn lane(options: &Options) -> Lane {
    let engine = Engine::acquire(&Source::Mock { script: None }).unwrap();
    Lane::new(&engine, options, Arc::new(|_| {})).unwrap()
}

fn white(second: u64, width: usize, height: usize) -> Sample {
    let at = Duration::from_secs(second);
    let image = RgbImage {
        width,
        height,
        pixels: vec![255; width * height * 3],
    };
    Sample {
        time: FrameTime {
            pts: at,
            running_time: at,
            wallclock: at,
            clock: WallClock::System,
        },
        timeline: 0,
        detection: None,
        read: Box::new(move || Ok(Picture::square(image))),
    }
}

/// Columns of the middle row that are hidden.
fn hidden(image: &RgbImage) -> (usize, usize) {
    let row = image.height / 2 * image.width;
    let is_white = |x: &usize| image.pixels[(row + x) * 3] == 255;
    let columns = || (0..image.width).filter(|x| !is_white(x));
    (columns().next().unwrap_or(0), columns().count())
}

#[test]
fn the_model_is_shown_masked_frames_alone_whatever_their_size() {
    let masks = vec![Mask::new(0.5, 0.0, 0.5, 1.0).unwrap()];
    let options = options(
        2,
        Rules {
            revision: 1,
            masks,
            ..Rules::default()
        },
    );
    let (lane, spy) = (lane(&options), Arc::new(Spy::default()));
    let mut preparer = Preparer::new(
        &lane,
        Arc::new(FamilyProcessor::new(spy.clone(), FrameBounds::default())),
        &options,
    );
    let sizes = [(101, 57), (57, 101), (33, 1), (640, 361)];
    for (second, (width, height)) in sizes.into_iter().enumerate() {
        preparer.sample(0, Instant::now(), white(second as u64, width, height));
    }
    let seen = spy.seen.lock().unwrap();
    let hidden: Vec<_> = seen.iter().map(hidden).collect();
    // From the pixel that the edge is in, and 8 before it, to the last.
    assert_eq!(hidden, [(42, 59), (20, 37), (8, 25), (312, 328)]);
}

#[test]
fn a_mask_set_while_a_window_fills_gives_that_window_up() {
    let options = options(2, Rules::default());
    let engine = Engine::acquire(&Source::Mock { script: None }).unwrap();
    let captioner = Captioner::start(&engine, options, Arc::new(|_| {})).unwrap();
    let windows = |n: u64| {
        captioner.drain(Duration::from_secs(60));
        assert_eq!(captioner.counters().windows.load(Ordering::Relaxed), n);
    };
    captioner.submit(white(0, 64, 64));
    let masks = vec![Mask::new(0.0, 0.0, 0.5, 0.5).unwrap()];
    captioner.set_rules(Rules {
        revision: 2,
        masks,
        ..Rules::default()
    });
    windows(0);
    captioner.submit(white(1, 64, 64));
    captioner.set_rules(Rules {
        revision: 1,
        ..Rules::default()
    });
    windows(1);
}

#[test]
fn a_lower_rung_shows_fewer_pixels_of_a_frame_of_any_size() {
    let options = options(2, Rules::default());
    let engine = Engine::acquire(&Source::Mock { script: None }).unwrap();
    let lane = lane(&options);
    let mut preparer = Preparer::new(&lane, engine.processor().clone(), &options);
    for (width, height) in [(1920, 1080), (320, 240), (97, 301)] {
        let areas = [1, 2, 4].map(|pixels| {
            preparer.rung.pixels = pixels;
            let image = RgbImage {
                width,
                height,
                pixels: vec![0; width * height * 3],
            };
            let shown = preparer.show(Picture::square(image)).unwrap();
            shown.width * shown.height
        });
        assert!(areas[1] <= areas[0] / 2, "{width}x{height}: {areas:?}");
        assert!(areas[2] <= areas[0] / 4, "{width}x{height}: {areas:?}");
        assert!(areas[2] * 16 > areas[0], "{width}x{height}: {areas:?}");
    }
}
