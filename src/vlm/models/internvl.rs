// SPDX-License-Identifier: MPL-2.0

//! InternVL3: square tiles, one a video frame and several an image; positions on one axis.

use std::sync::Arc;

use super::prompt::{self, Quoted, SpecialToken};
use crate::backend::{GridThw, Patches};
use crate::vlm::chat::{ChatTemplate, Part};
use crate::vlm::config::generation_defaults;
use crate::vlm::config::internvl::{self as config, Config, Layout, tiling};
use crate::vlm::files::ModelFiles;
use crate::vlm::grid::Geometry;
use crate::vlm::image::{RgbImage, patch_rows};
use crate::vlm::json::{Document, Section};
use crate::vlm::mrope::{Rows, positions};
use crate::vlm::tiles::Tiling;
use crate::vlm::tokenizer::Tokenizer;
use crate::vlm::{
    Checkpoint, Error, FrameBounds, PixelBudget, Prompt, PromptRequest, PromptRun, VisualKind, Vlm,
};

/// How the members of this family are called in messages and by compiled models.
const MODEL_TYPE: &str = "internvl_chat";

/// Placeholder of visual tokens in OpenGVLab's tokenizers.
const CONTEXT: &str = "<IMG_CONTEXT>";

/// Ends a turn in OpenGVLab's conversation, whatever `generation_config.json` says.
const TURN_END: &str = "<|im_end|>";

/// OpenGVLab's conversation, for checkpoints that have it only as code.
const CONVERSATION: &str = "{% for message in messages %}<|im_start|>{{ message.role }}\n\
                            {{ message.content }}<|im_end|>\n{% endfor %}\
                            {% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}";

/// Mean and standard deviation of ImageNet, which OpenGVLab's code has as constants.
const IMAGENET: ([f32; 3], [f32; 3]) = ([0.485, 0.456, 0.406], [0.229, 0.224, 0.225]);

/// Opens a checkpoint whose `model_type` is `internvl_chat` or `internvl`.
pub(super) fn open(files: ModelFiles, config: &Document) -> Result<Checkpoint, Error> {
    let config = config::read(config)?;
    let vocab_size = config.spec.text.vocab_size;
    let mut defaults = generation_defaults(&files, &config.eos, vocab_size)?;
    let tokenizer = Arc::new(Tokenizer::open(&files, vocab_size)?);
    let pixels = Pixels::read(&files, &config)?;
    let named = |text| SpecialToken::named(&tokenizer, text);
    let (context, template, asking) = match config.layout {
        Layout::OpenGvLab { system_message, .. } => {
            let end = named(TURN_END)?.id;
            if !defaults.eos.contains(&end) {
                defaults.eos.push(end);
            }
            let template = match ChatTemplate::open(&files) {
                Err(Error::MissingFile { .. }) => {
                    ChatTemplate::compile(CONVERSATION.to_owned(), Default::default())?
                }
                template => template?,
            };
            (named(CONTEXT)?, template, Asking::InText { system_message })
        }
        Layout::Transformers { image_token_id } => {
            let context = SpecialToken::find(&tokenizer, "image_token_id", image_token_id)?;
            let asking = Asking::InParts {
                video: video_token(&files)?,
            };
            (context, ChatTemplate::open(&files)?, asking)
        }
    };
    template.check_answers(&files.name())?;
    let vlm = InternVl {
        pixels,
        template,
        asking,
        start: named("<img>")?,
        end: named("</img>")?,
        context,
        tokenizer: Arc::clone(&tokenizer),
    };
    Ok(Checkpoint {
        name: files.name(),
        model_type: MODEL_TYPE.to_owned(),
        bounds: FrameBounds::default(),
        vlm: Arc::new(vlm),
        tokenizer,
        defaults,
        cpu: config.spec,
        files,
    })
}

/// The family with one checkpoint's numbers.
struct InternVl {
    pixels: Pixels,
    template: ChatTemplate,
    asking: Asking,
    /// Stands before the visual tokens of an image or frame.
    start: SpecialToken,
    /// Stands after them.
    end: SpecialToken,
    /// Stands for one of them.
    context: SpecialToken,
    tokenizer: Arc<Tokenizer>,
}

/// How the template is told of pixels.
enum Asking {
    /// As in OpenGVLab's code: they are a part of the question's text.
    InText {
        /// The system prompt, unless one is given.
        system_message: String,
    },
    /// By parts of the message, for which the template puts placeholders: the context token for an
    /// image, another text for a video.
    InParts { video: String },
}

/// What becomes of pixels.
struct Pixels {
    geometry: Geometry,
    tiling: Tiling,
    mean: [f32; 3],
    std: [f32; 3],
}

impl Pixels {
    fn read(files: &ModelFiles, config: &Config) -> Result<Self, Error> {
        const IMAGE: &str = "preprocessor_config.json";
        const BOTH: &str = "processor_config.json";
        let vision = &config.spec.vision;
        let geometry = Geometry {
            patch_size: vision.patch_size,
            temporal_patch_size: 1,
            merge_size: vision.spatial_merge_size,
        };
        let image = Document::read(files, IMAGE)?;
        if let Layout::OpenGvLab { tiling, .. } = &config.layout {
            let (mean, std) = match &image {
                Some(document) => channels(&document.root())?,
                None => IMAGENET,
            };
            return Ok(Self {
                geometry,
                tiling: *tiling,
                mean,
                std,
            });
        }
        let both = Document::read(files, BOTH)?;
        let nested = match &both {
            Some(document) => document.root().section("image_processor")?,
            None => None,
        };
        let image = match (nested, &image) {
            (Some(section), _) => section,
            (None, Some(document)) => document.root(),
            (None, None) => {
                return Err(Error::MissingFile {
                    folder: files.place(),
                    file: format!("{IMAGE} (nor an image_processor in {BOTH})"),
                });
            }
        };
        let size = image.require_section("size")?;
        let tile = config.tile;
        for key in ["width", "height"] {
            let got = size.size(key)?;
            if got != tile {
                let reason =
                    format!("is {got}, but vision_config.image_size of config.json is {tile}");
                return Err(size.complain(key, reason));
            }
        }
        let (mean, std) = channels(&image)?;
        // The processor shows the whole image after its tiles, without a key to say so.
        let tiling = tiling(&image, ["min_patches", "max_patches"], 12, tile, true)?;
        Ok(Self {
            geometry,
            tiling,
            mean,
            std,
        })
    }

    /// The tiling within a budget: as many tiles, without the thumbnail, as it has room for.
    fn tiling(&self, budget: PixelBudget) -> Tiling {
        let Some(max_pixels) = budget.max_pixels else {
            return self.tiling;
        };
        let area = self.tiling.side * self.tiling.side;
        let max = (max_pixels / area).clamp(1, self.tiling.max);
        Tiling {
            min: self.tiling.min.min(max),
            max,
            ..self.tiling
        }
    }

    /// Patches along a side of a tile.
    fn side(&self) -> usize {
        self.tiling.side / self.geometry.patch_size
    }
}

/// Mean and standard deviation of the channels.
fn channels(image: &Section<'_>) -> Result<([f32; 3], [f32; 3]), Error> {
    let std = image.channels("image_std")?;
    if std.iter().any(|&std| std <= 0.0) {
        return Err(image.complain("image_std", "must be above 0"));
    }
    Ok((image.channels("image_mean")?, std))
}

/// What the template writes for a video: `video_token` of the tokenizer.
fn video_token(files: &ModelFiles) -> Result<String, Error> {
    const DEFAULT: &str = "<video>";
    let Some(document) = Document::read(files, "tokenizer_config.json")? else {
        return Ok(DEFAULT.to_owned());
    };
    let root = document.root();
    let extra = match root.value("extra_special_tokens") {
        // Older files have a list of other tokens there.
        Some(serde_json::Value::Object(_)) => root.section("extra_special_tokens")?,
        _ => None,
    };
    let nested = match extra {
        Some(section) => section.text("video_token")?,
        None => None,
    };
    Ok(nested
        .or(root.text("video_token")?)
        .unwrap_or(DEFAULT)
        .to_owned())
}

impl Vlm for InternVl {
    fn temporal_patch_size(&self) -> usize {
        1
    }

    fn target_size(
        &self,
        width: usize,
        height: usize,
        kind: VisualKind,
        budget: PixelBudget,
    ) -> Result<(usize, usize), Error> {
        if width == 0 || height == 0 {
            return Err(Error::Grid(format!(
                "a frame of {width}x{height} pixels is empty"
            )));
        }
        let side = self.pixels.tiling.side;
        let n_tiles = match kind {
            VisualKind::Image => self.pixels.tiling(budget).n_tiles(width, height),
            VisualKind::Video => 1,
        };
        Ok((side, n_tiles * side))
    }

    fn fit(
        &self,
        frame: &RgbImage,
        kind: VisualKind,
        budget: PixelBudget,
    ) -> Result<RgbImage, Error> {
        match kind {
            VisualKind::Image => self.pixels.tiling(budget).cut(frame),
            VisualKind::Video => {
                let side = self.pixels.tiling.side;
                frame.resize(side, side)
            }
        }
    }

    fn patches(&self, frames: &[RgbImage]) -> Result<Patches, Error> {
        let (grid, pixels) = patch_rows(frames, self.pixels.geometry)?;
        let side = self.pixels.side();
        if grid.w != side || !grid.h.is_multiple_of(side) {
            return Err(Error::Grid(format!(
                "frames must be tiles of {0}x{0} pixels, one below the other",
                self.pixels.tiling.side
            )));
        }
        // Tiles one below the other have their rows one after the other already.
        Ok(Patches {
            grid: GridThw {
                t: grid.h / side,
                h: side,
                w: side,
            },
            pixels: pixels.into(),
            mean: self.pixels.mean,
            std: self.pixels.std,
        })
    }

    fn n_visual_tokens(&self, grid: GridThw) -> usize {
        grid.n_tokens(self.pixels.geometry.merge_size)
    }

    fn prompt(&self, request: &PromptRequest<'_>) -> Result<Prompt, Error> {
        self.check(request)?;
        let video = match &self.asking {
            Asking::InText { .. } => None,
            Asking::InParts { video } => Some(video.as_str()),
        };
        let quoted = Quoted::new(request, &self.tokenizer, video.as_slice());
        let inserted = &quoted.request(request);
        let text = match &self.asking {
            Asking::InText { system_message } => self.in_text(system_message, inserted)?,
            Asking::InParts { video } => self.in_parts(video, inserted)?,
        };
        let ids = quoted.encode(&self.tokenizer, &text)?;
        let runs = prompt::split(&ids, self.context.id, request)?;
        let n_rows = runs.iter().map(|run| match run {
            PromptRun::Tokens(ids) => ids.len(),
            PromptRun::Visual(index) => self.n_visual_tokens(request.visuals[*index].grid),
        });
        let (positions, next_position) = positions(&[Rows::Text(n_rows.sum())], 1);
        Ok(Prompt {
            runs,
            positions,
            next_position,
            placeholder: (!request.visuals.is_empty()).then_some(self.context.id),
        })
    }
}

impl InternVl {
    /// That the pixels of a request can stand in a prompt.
    fn check(&self, request: &PromptRequest<'_>) -> Result<(), Error> {
        let side = self.pixels.side();
        for visual in request.visuals {
            let GridThw { t, h, w } = visual.grid;
            let one = t == 1 || request.kind == VisualKind::Image;
            if t == 0 || !one || (h, w) != (side, side) {
                return Err(Error::Grid(format!(
                    "a grid of {t}x{h}x{w} patches is no tile of {side}x{side}, of which a video \
                     frame has one"
                )));
            }
        }
        prompt::check_image(request)
    }

    /// What stands for the pixels, with one context token for all visual tokens of an image or
    /// frame: `InternVLProcessor`, and `chat` of OpenGVLab's model.
    fn media(&self, request: &PromptRequest<'_>) -> String {
        let one = format!("{}{}{}", self.start.text, self.context.text, self.end.text);
        match request.kind {
            VisualKind::Image => one,
            VisualKind::Video => {
                let frames = 1..=request.visuals.len();
                let frames: Vec<String> = frames.map(|i| format!("Frame{i}: {one}")).collect();
                frames.join("\n")
            }
        }
    }

    fn in_text(&self, system: &str, request: &PromptRequest<'_>) -> Result<String, Error> {
        let question = match request.visuals {
            [] => request.text.to_owned(),
            _ => format!("{}\n{}", self.media(request), request.text),
        };
        let system = request.system.unwrap_or(system);
        let question = vec![Part::Text(&question)];
        let messages = prompt::conversation(Some(system), request, question);
        let rendered = self.template.render(&messages)?;
        prompt::count(&rendered, &self.context.text, request.visuals.len())?;
        Ok(rendered)
    }

    fn in_parts(&self, video: &str, request: &PromptRequest<'_>) -> Result<String, Error> {
        let rendered = self.template.render(&prompt::messages(request))?;
        let placeholder = match request.kind {
            VisualKind::Image => &self.context.text,
            VisualKind::Video => video,
        };
        let want = usize::from(!request.visuals.is_empty());
        prompt::count(&rendered, placeholder, want)?;
        Ok(match want {
            0 => rendered,
            _ => rendered.replacen(placeholder, &self.media(request), 1),
        })
    }
}
