// SPDX-License-Identifier: MPL-2.0

//! Rows to compute: what each is made of, and where it stands.

use std::any::Any;
use std::sync::Arc;

use super::{Error, Features, Position, Segment, SequenceId, VisualTokens};

/// What a vision net made, where its program keeps it.
pub(super) trait VisionOutput: Any + Send + Sync {
    /// Which launch made it; no two are the same.
    fn launch(&self) -> u64;
}

/// What a row of the cache was computed from. A row depends on those before it, too.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Row {
    pub source: Source,
    pub position: Position,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Source {
    Token(u32),
    /// Row of the features of a launch of the vision net.
    Visual(u64, usize),
}

/// The rows of segments. `launch` is told the first row of visual tokens and says which launch made
/// them.
///
/// # Errors
/// [`Error::Shape`] for no rows and for positions that are not one a row, and those of `launch`.
fn join(
    segments: &[Segment<'_>],
    positions: &[Position],
    mut launch: impl FnMut(usize, &VisualTokens) -> Result<u64, Error>,
) -> Result<Vec<Row>, Error> {
    let n: usize = segments.iter().map(Segment::n_rows).sum();
    if n == 0 || n != positions.len() {
        return Err(Error::Shape {
            what: "positions".into(),
            want: format!("one for each of {n} rows, and at least one"),
            got: positions.len().to_string(),
        });
    }
    let mut rows = Vec::with_capacity(n);
    for segment in segments {
        let at = positions[rows.len()..].iter().copied();
        let row = |(source, position)| Row { source, position };
        match segment {
            Segment::Tokens(ids) => {
                let sources = ids.iter().map(|&id| Source::Token(id));
                rows.extend(sources.zip(at).map(row));
            }
            Segment::Visual(tokens) => {
                let launch = launch(rows.len(), tokens)?;
                let sources = (0..tokens.n_tokens).map(|row| Source::Visual(launch, row));
                rows.extend(sources.zip(at).map(row));
            }
        }
    }
    Ok(rows)
}

/// What the rows of segments are computed from, where features lie in the host's memory.
///
/// # Errors
/// [`Error::Shape`] unless there is at least one row, one position for each, and the features lie in
/// host memory.
pub(super) fn host_rows(
    segments: &[Segment<'_>],
    positions: &[Position],
) -> Result<Vec<Row>, Error> {
    join(segments, positions, |_, tokens| match &tokens.features {
        Features::Host { launch, .. } => Ok(*launch),
        Features::Device(_) => Err(Error::Shape {
            what: "visual tokens".into(),
            want: "in host memory".to_owned(),
            got: "another device's".to_owned(),
        }),
    })
}

/// Of the rows that a new sequence begins with, how many are `held` from an earlier one. The last
/// of them is not counted: it must run, since what follows it is asked for.
pub(super) fn n_shared(held: &[Row], rows: &[Row]) -> usize {
    let same = held.iter().zip(rows).take_while(|(a, b)| a == b).count();
    same.min(rows.len().saturating_sub(1))
}

/// What is said of a sequence that has ended or never was.
pub(super) fn not_open(sequence: SequenceId) -> Error {
    Error::Shape {
        what: "sequence".into(),
        want: "one that is open".to_owned(),
        got: sequence.0.to_string(),
    }
}

/// Rows to compute, and the features they need.
pub(super) struct Batch<S> {
    pub rows: Vec<Row>,
    /// First row, number of rows, features.
    pub visuals: Vec<(usize, usize, Arc<S>)>,
}

impl<S: VisionOutput> Batch<S> {
    /// The rows of segments, checked.
    ///
    /// # Errors
    /// [`Error::Shape`], or [`Error::Context`] for a position
    /// beyond the rotary table, which has `context` rows.
    pub(super) fn read(
        segments: &[Segment<'_>],
        positions: &[Position],
        context: usize,
        vocab_size: usize,
    ) -> Result<Self, Error> {
        let shape = |what: &'static str, want: String, got: String| {
            let what = what.into();
            Error::Shape { what, want, got }
        };
        let mut visuals = Vec::new();
        let rows = join(segments, positions, |from, tokens| {
            let slot: Option<Arc<S>> = match &tokens.features {
                Features::Device(any) => any.clone().downcast().ok(),
                Features::Host { .. } => None,
            };
            let Some(slot) = slot else {
                let want = "made by this device".to_owned();
                return Err(shape("visual tokens", want, "others".to_owned()));
            };
            let launch = slot.launch();
            visuals.push((from, tokens.n_tokens, slot));
            Ok(launch)
        })?;
        if let Some(p) = positions.iter().flatten().find(|&&p| p as usize >= context) {
            let needed = *p as usize + 1;
            return Err(Error::Context { needed, context });
        }
        let unknown = rows.iter().find_map(|row| match row.source {
            Source::Token(id) if id as usize >= vocab_size => Some(id),
            _ => None,
        });
        if let Some(id) = unknown {
            let want = format!("below {vocab_size}");
            return Err(shape("token id", want, id.to_string()));
        }
        Ok(Self { rows, visuals })
    }

    /// The visual rows among `from .. from + m` of a batch.
    pub(super) fn visual_runs(&self, from: usize, m: usize) -> Vec<VisualRun<'_, S>> {
        let mut runs = Vec::new();
        for (first, len, features) in &self.visuals {
            let (start, end) = ((*first).max(from), (first + len).min(from + m));
            if start < end {
                runs.push(VisualRun {
                    row: start - from,
                    first: start - first,
                    len: end - start,
                    features: features.as_ref(),
                });
            }
        }
        runs
    }
}

/// Visual rows that stand side by side in a launch.
pub(super) struct VisualRun<'a, S> {
    /// First row of the launch.
    pub row: usize,
    /// First row of the features.
    pub first: usize,
    /// Rows.
    pub len: usize,
    /// The features.
    pub features: &'a S,
}
