// SPDX-License-Identifier: MPL-2.0

//! A model that is asked one question at a time about given frames, without an element: on the
//! caller's thread, by the code that makes an element's turns.

use std::sync::atomic::AtomicBool;
use std::sync::{Arc, Mutex};
use std::time::Instant;

use super::answerer::Answerer;
use super::asked::{Asked, Stop};
use super::identity::Identity;
use super::source::Source;
use super::turn::{Context, Job};
use super::worker;
use crate::backend::Cancel;
use crate::caption::frames::processor::FrameProcessor;
use crate::caption::frames::visual::Visual;
use crate::caption::frames::window::{Pair, Window};
use crate::caption::questions::prompt::Ask;
use crate::caption::reports::caption::Caption;
use crate::caption::reports::evidence::{Shown, ShownFrame};
use crate::caption::reports::report::WindowReport;
use crate::caption::reports::window_info::WindowInfo;
use crate::vlm::image::RgbImage;
use crate::vlm::{self, PixelBudget, VisualKind};

/// A model that is asked one question at a time.
pub struct Examiner {
    identity: Arc<Identity>,
    processor: Arc<dyn FrameProcessor>,
    answerer: Answerer,
    cancel: Cancel,
}

/// What it is asked.
pub struct Examination {
    /// The frames, in order of time.
    pub frames: Vec<ShownFrame>,
    /// The question and how it is asked; of several questions the first.
    pub ask: Ask,
    /// Id of the stream.
    pub stream: String,
    /// Number of the window.
    pub sequence: u64,
    /// The caption before.
    pub last: String,
    /// Earlier exchanges, the oldest first.
    pub history: Vec<vlm::Turn>,
}

impl Examiner {
    /// Opens a model and reads its weights; `progress` hears 0.0..=1.0.
    ///
    /// # Errors
    /// Why the model cannot be used.
    pub fn open(source: &Source, progress: &mut dyn FnMut(f32)) -> Result<Self, String> {
        let cancel = Cancel::default();
        let mut opened = source.open().map_err(|error| error.to_string())?;
        let answerer = (opened.loader)(progress, &cancel).map_err(|error| error.to_string())?;
        Ok(Self {
            identity: opened.identity,
            processor: opened.processor,
            answerer,
            cancel,
        })
    }

    /// What to call the model.
    pub fn model(&self) -> String {
        self.identity.name()
    }

    /// Asks it; the caption has evidence.
    ///
    /// # Errors
    /// Why there is no answer.
    pub fn ask(&mut self, examination: Examination) -> Result<Caption, String> {
        let window = self.window(&examination.frames)?;
        let Examination {
            mut ask,
            stream,
            sequence,
            last,
            history,
            ..
        } = examination;
        ask.evidence = true;
        let questions: Vec<_> = ask.all().into_iter().take(1).collect();
        let context = Context {
            job: Job {
                sequence,
                window,
                window_info: WindowInfo::default(),
                complete_since: Instant::now(),
            },
            ask: Arc::new(ask),
            element: "".into(),
            stream,
            history,
            last,
            drafters: None,
        };
        let asked = Asked {
            context: &context,
            questions: &questions,
            cancel: &self.cancel,
        };
        let mut said = None;
        let mut tell = |report| {
            if let WindowReport::Caption(caption) = report {
                said = Some(*caption);
            }
        };
        let answered = match &mut self.answerer {
            Answerer::Program {
                checkpoint,
                program,
            } => worker::answer(checkpoint, &mut **program, &asked, &mut tell),
            Answerer::Server(server) => server.answer(&asked, &mut tell),
        };
        match (answered, said) {
            (Ok(_), Some(caption)) => Ok(caption),
            (Err(Stop::Failed(reason)), _) => Err(reason),
            (Ok(_) | Err(Stop::Cancelled), _) => Err("there is no answer".into()),
        }
    }

    /// The frames as a window of this model: as they are if it takes them so, else at its own size.
    fn window(&self, frames: &[ShownFrame]) -> Result<Window, String> {
        let kind = match frames.len() {
            0 => return Err("there are no frames to ask about".into()),
            1 => VisualKind::Image,
            _ => VisualKind::Video,
        };
        let size = self.processor.temporal_patch_size();
        let pairs = frames.chunks(size).map(|of_pair| {
            let mut pts: Vec<_> = of_pair.iter().map(|frame| frame.time.pts).collect();
            if let Some(last) = pts.last().copied() {
                pts.resize(size, last);
            }
            let (visual, frames) = self.show(of_pair, kind)?;
            Ok(Arc::new(Pair {
                pts,
                visual: Mutex::new(visual),
                frames,
                answered: AtomicBool::new(false),
            }))
        });
        Ok(Window {
            frames: frames.iter().map(|frame| frame.time).collect(),
            pairs: pairs.collect::<Result<_, String>>()?,
        })
    }

    fn show(
        &self,
        frames: &[ShownFrame],
        kind: VisualKind,
    ) -> Result<(Visual, Vec<Arc<RgbImage>>), String> {
        if let ([frame], Answerer::Server(_)) = (frames, &self.answerer)
            && let Shown::Jpeg(jpeg) = &frame.picture
        {
            return Ok((Visual::Jpeg(jpeg.clone()), Vec::new()));
        }
        let rgb = |frame: &ShownFrame| match &frame.picture {
            Shown::Rgb(image) => Ok(image.clone()),
            Shown::Jpeg(_) => Err(
                "the frames are JPEGs that were sent to a server; decode them for a model of this \
                 machine"
                    .to_owned(),
            ),
        };
        let images: Vec<Arc<RgbImage>> = frames.iter().map(rgb).collect::<Result<_, _>>()?;
        let fitted = |exact: bool| -> Result<(Visual, Vec<RgbImage>), vlm::Error> {
            let mut fitted = Vec::new();
            for image in &images {
                let asked = PixelBudget {
                    exact: exact.then_some((image.width, image.height)),
                    ..PixelBudget::default()
                };
                let budget = self.processor.limited(asked);
                fitted.push(self.processor.fit(image, kind, budget)?);
            }
            Ok((self.processor.show(&fitted)?, fitted))
        };
        let shown = fitted(true).or_else(|_| fitted(false));
        let (visual, images) = shown.map_err(|error| error.to_string())?;
        Ok((visual, images.into_iter().map(Arc::new).collect()))
    }
}
