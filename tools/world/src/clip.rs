// SPDX-License-Identifier: MPL-2.0

//! Committed scenes: one JSON object a line, with the right caption and questions about it.

use std::fmt;

use serde::Deserialize;

use crate::CELL;
use crate::canvas::{Canvas, Shape, to_byte};
use crate::random::Random;

/// A short clip as a description, with what is true of it.
#[derive(Debug, Clone, PartialEq, Deserialize)]
pub struct Clip {
    /// Names it in test output.
    pub id: String,
    /// Temporal patches; the clip has twice as many frames.
    pub pairs: usize,
    /// RGB.
    pub background: [u8; 3],
    /// Makes the background brighter towards one side.
    #[serde(default)]
    pub gradient: Option<Gradient>,
    /// Standard deviation of the pixel noise, of 255.
    #[serde(default)]
    pub noise: f32,
    /// Standard deviation of a Gaussian blur, in canvas pixels.
    #[serde(default)]
    pub blur: f32,
    /// Visual tokens: rows, columns. The canvas has [`CELL`] pixels for each.
    pub grid: [usize; 2],
    /// What is to be seen, in the order of the caption.
    pub objects: Vec<Thing>,
    /// The right answer to "Describe the video.".
    pub caption: String,
    /// Other questions, each with its answer.
    #[serde(default)]
    pub questions: Vec<(String, String)>,
}

/// A linear change of the background's colour.
#[derive(Debug, Clone, Copy, PartialEq, Deserialize)]
pub struct Gradient {
    /// Along which side.
    pub axis: Axis,
    /// RGB added at the far end and taken away at the near end.
    pub rgb: [f32; 3],
}

/// A side of the picture.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Axis {
    /// From left to right.
    X,
    /// From top to bottom.
    Y,
}

/// One coloured shape and where it is in every frame.
#[derive(Debug, Clone, PartialEq, Deserialize)]
pub struct Thing {
    /// The word for its colour.
    pub color: String,
    /// Its colour.
    pub rgb: [u8; 3],
    /// Its shape.
    pub shape: Shape,
    /// Its size, in canvas pixels.
    pub radius: f32,
    /// Centres, left to right, `[2 * pairs]`.
    pub x: Vec<f32>,
    /// Centres, top to bottom, `[2 * pairs]`.
    pub y: Vec<f32>,
    /// In which frames it is to be seen, `[2 * pairs]`.
    pub visible: Vec<bool>,
}

/// A line that is no clip.
#[derive(Debug)]
pub struct ClipError {
    line: usize,
    reason: String,
}

impl fmt::Display for ClipError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "line {}: {}", self.line, self.reason)
    }
}

impl std::error::Error for ClipError {}

/// Reads clips, one JSON object a line; empty lines and a first line with a `note` are skipped.
///
/// # Errors
/// [`ClipError`] for the first line that is no clip, or whose frames do not agree in number.
pub fn read_clips(text: &str) -> Result<Vec<Clip>, ClipError> {
    let mut clips = Vec::new();
    for (index, line) in text.lines().enumerate() {
        let error = |reason: String| ClipError {
            line: index + 1,
            reason,
        };
        if line.trim().is_empty() || (index == 0 && is_note(line)) {
            continue;
        }
        let clip: Clip = serde_json::from_str(line).map_err(|e| error(e.to_string()))?;
        for thing in &clip.objects {
            let want = clip.n_frames();
            let got = [thing.x.len(), thing.y.len(), thing.visible.len()];
            if got != [want; 3] {
                return Err(error(format!(
                    "{} {}: {want} frames, but x, y and visible have {got:?}",
                    clip.id, thing.color
                )));
            }
        }
        clips.push(clip);
    }
    Ok(clips)
}

fn is_note(line: &str) -> bool {
    serde_json::from_str::<serde_json::Value>(line)
        .is_ok_and(|value| value.get("note").is_some() && value.get("id").is_none())
}

impl Clip {
    /// Frames in all.
    pub fn n_frames(&self) -> usize {
        2 * self.pairs
    }

    /// Width and height of the canvas in pixels.
    pub fn size(&self) -> (usize, usize) {
        (self.grid[1] * CELL, self.grid[0] * CELL)
    }

    /// Draws one frame, `width` x `height`; positions and radii scale along with each side.
    ///
    /// The noise is the same at every call, and another one for every frame.
    ///
    /// # Panics
    /// If the clip has no such frame.
    pub fn draw(&self, frame: usize, width: usize, height: usize) -> Canvas {
        assert!(frame < self.n_frames(), "frame {frame} of {}", self.id);
        let (canvas_width, canvas_height) = self.size();
        let sx = width as f32 / canvas_width as f32;
        let sy = height as f32 / canvas_height as f32;
        let mut canvas = Canvas::filled(width, height, self.background);
        if let Some(gradient) = self.gradient {
            let ramp = |at: usize, size: usize| 2.0 * at as f32 / (size.max(2) - 1) as f32 - 1.0;
            canvas.fill_with(|x, y| {
                let share = match gradient.axis {
                    Axis::X => ramp(x, width),
                    Axis::Y => ramp(y, height),
                };
                std::array::from_fn(|channel| {
                    to_byte(f32::from(self.background[channel]) + share * gradient.rgb[channel])
                })
            });
        }
        for thing in self.objects.iter().filter(|thing| thing.visible[frame]) {
            canvas.paint(
                thing.shape,
                [thing.x[frame] * sx, thing.y[frame] * sy],
                [thing.radius * sx, thing.radius * sy],
                thing.rgb,
            );
        }
        canvas.blur([self.blur * sx, self.blur * sy]);
        let seed = self.id.bytes().fold(frame as u64, |sum, byte| {
            sum.wrapping_mul(31).wrapping_add(u64::from(byte))
        });
        canvas.grain(self.noise, &mut Random::new(seed));
        canvas
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LINE: &str = r#"{"id":"one","pairs":1,"background":[10,20,30],"gradient":null,"noise":0.0,
        "blur":0,"grid":[3,4],"objects":[{"color":"red","rgb":[255,0,0],"shape":"circle",
        "radius":12.0,"x":[30.0,60.0],"y":[40.0,40.0],"visible":[true,false]}],
        "caption":"A red circle disappears.","questions":[["How many objects are there?","1."]]}"#;

    fn clip() -> Clip {
        let text = LINE.replace('\n', " ");
        read_clips(&text).unwrap().remove(0)
    }

    #[test]
    fn a_clip_is_drawn_where_it_says() {
        let clip = clip();
        assert_eq!(clip.size(), (128, 96));
        let frame = clip.draw(0, 320, 240);
        assert_eq!(frame.pixel(75, 100), [255, 0, 0]);
        assert_eq!(frame.pixel(150, 100), [10, 20, 30]);
        let hidden = clip.draw(1, 320, 240);
        assert_eq!(hidden, Canvas::filled(320, 240, [10, 20, 30]));
    }

    #[test]
    fn the_committed_clips_show_what_their_captions_name() {
        let clips = read_clips(include_str!("../../../tests/data/demo-clips.jsonl")).unwrap();
        assert!(!clips.is_empty());
        for clip in clips.iter().filter(|clip| clip.noise == 0.0) {
            for thing in &clip.objects {
                let name = format!("{} {}", thing.color, thing.shape.word());
                assert!(clip.caption.to_lowercase().contains(&name), "{}", clip.id);
                let (width, height) = clip.size();
                for frame in (0..clip.n_frames()).filter(|&frame| thing.visible[frame]) {
                    let canvas = clip.draw(frame, width, height);
                    let pixel = canvas.pixel(thing.x[frame] as usize, thing.y[frame] as usize);
                    assert_eq!(pixel, thing.rgb, "{} frame {frame}", clip.id);
                }
            }
        }
    }

    #[test]
    fn a_note_in_the_first_line_is_skipped() {
        let text = format!(
            "{{\"note\":\"made by a script\"}}\n{}\n",
            LINE.replace('\n', " ")
        );
        assert_eq!(read_clips(&text).unwrap().len(), 1);
    }

    #[test]
    fn a_gradient_is_read_in_both_spellings_and_brightens_its_far_end() {
        for spelling in [r#"["x",[40,0,0]]"#, r#"{"axis":"x","rgb":[40,0,0]}"#] {
            let text = LINE.replace('\n', " ").replace("null", spelling);
            let clip = read_clips(&text).unwrap().remove(0);
            let frame = clip.draw(1, 128, 96);
            assert_eq!(frame.pixel(127, 5), [50, 20, 30]);
            assert_eq!(frame.pixel(0, 5), [0, 20, 30]);
        }
    }

    #[test]
    fn frames_that_do_not_agree_are_refused_with_their_line() {
        let text = LINE.replace('\n', " ").replace("[30.0,60.0]", "[30.0]");
        let error = read_clips(&text).unwrap_err().to_string();
        assert!(error.starts_with("line 1: one red: 2 frames"), "{error}");
    }
}
