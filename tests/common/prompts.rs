// SPDX-License-Identifier: MPL-2.0

//! Prompts as a reference processor made them: tokens and positions.

use gstvlmcaption::backend::{GridThw, Position};
use gstvlmcaption::vlm::{Checkpoint, PromptRequest, PromptRun, Turn, VisualInput, VisualKind};
use serde::Deserialize;

/// One prompt of a Qwen and the reference's tokens and positions.
#[derive(Deserialize)]
pub struct Case {
    kind: String,
    system: Option<String>,
    history: Vec<(String, String)>,
    text: String,
    /// Columns and rows of visual tokens.
    cells: [usize; 2],
    /// Frames per second as a fraction.
    fps: (f64, f64),
    /// Numbers of the frames.
    indices: Vec<u32>,
    ids: Vec<u32>,
    /// One list per axis.
    positions: [Vec<u32>; 3],
    next_position: u32,
}

/// Compares the prompts that a checkpoint makes with the reference's.
pub fn compare(checkpoint: &Checkpoint, cases: &[Case]) {
    for case in cases {
        let [columns, rows] = case.cells;
        let visual = |seconds: Vec<f64>| VisualInput {
            grid: GridThw {
                t: 1,
                h: 2 * rows,
                w: 2 * columns,
            },
            seconds,
        };
        let seconds = |index: u32| f64::from(index) / (case.fps.0 / case.fps.1);
        let (kind, visuals) = match case.kind.as_str() {
            "video" => (
                VisualKind::Video,
                case.indices
                    .chunks(2)
                    .map(|pair| [pair[0], pair[pair.len() - 1]].map(seconds).to_vec())
                    .map(visual)
                    .collect(),
            ),
            "image" => (VisualKind::Image, vec![visual(vec![])]),
            _ => (VisualKind::Video, vec![]),
        };
        let history: Vec<Turn> = case
            .history
            .iter()
            .map(|(user, assistant)| Turn {
                user: user.clone(),
                assistant: assistant.clone(),
            })
            .collect();
        let prompt = checkpoint
            .vlm
            .prompt(&PromptRequest {
                system: case.system.as_deref(),
                history: &history,
                text: &case.text,
                kind,
                visuals: &visuals,
            })
            .unwrap();

        let mut ids = Vec::new();
        for run in &prompt.runs {
            match run {
                PromptRun::Tokens(tokens) => ids.extend(tokens),
                PromptRun::Visual(index) => {
                    let n = checkpoint.vlm.n_visual_tokens(visuals[*index].grid);
                    ids.extend(std::iter::repeat_n(prompt.placeholder.unwrap(), n));
                }
            }
        }
        assert_eq!(ids, case.ids, "{:?} {:?}", case.text, case.indices);
        let positions: Vec<Position> = (0..case.ids.len())
            .map(|row| [0, 1, 2].map(|axis| case.positions[axis][row]))
            .collect();
        assert_eq!(prompt.positions, positions, "{:?}", case.text);
        assert_eq!(prompt.next_position, case.next_position);
    }
}
