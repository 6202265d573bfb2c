// SPDX-License-Identifier: MPL-2.0

//! Rows to compute: what each is made of, and where it stands.

use std::any::Any;
use std::sync::Arc;

use super::{Error, Features, Position, Segment};

/// What a vision net made, where its program keeps it.
pub(super) trait Seen: Any + Send + Sync {
    /// Which launch made it; no two are the same.
    fn id(&self) -> u64;
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

/// What the rows of segments are computed from, where features lie in the host's memory.
///
/// # Errors
/// [`Error::Shape`] for positions that are not one a row, no rows, or features of a device.
pub(super) fn host_rows(
    segments: &[Segment<'_>],
    positions: &[Position],
) -> Result<Vec<Row>, Error> {
    let mut sources = Vec::with_capacity(positions.len());
    for segment in segments {
        match segment {
            Segment::Tokens(ids) => sources.extend(ids.iter().map(|&id| Source::Token(id))),
            Segment::Visual(tokens) => {
                let Features::Host { launch, .. } = &tokens.features else {
                    return Err(Error::Shape {
                        what: "visual tokens",
                        want: "in host memory".to_owned(),
                        got: "another device's".to_owned(),
                    });
                };
                let rows = 0..tokens.n_tokens;
                sources.extend(rows.map(|row| Source::Visual(*launch, row)));
            }
        }
    }
    if sources.is_empty() || sources.len() != positions.len() {
        return Err(Error::Shape {
            what: "positions",
            want: format!("one for each of {} rows, and at least one", sources.len()),
            got: positions.len().to_string(),
        });
    }
    let rows = sources.into_iter().zip(positions);
    Ok(rows
        .map(|(source, &position)| Row { source, position })
        .collect())
}

/// Rows to compute, and the features they need.
pub(super) struct Batch<S> {
    pub rows: Vec<Row>,
    /// First row, number of rows, features.
    pub visuals: Vec<(usize, usize, Arc<S>)>,
}

impl<S: Seen> Batch<S> {
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
        let shape = |what, want: String, got: String| Error::Shape { what, want, got };
        let n: usize = segments.iter().map(Segment::n_rows).sum();
        if n == 0 || n != positions.len() {
            let want = format!("one for each of {n} rows, and at least one");
            return Err(shape("positions", want, positions.len().to_string()));
        }
        if let Some(p) = positions.iter().flatten().find(|&&p| p as usize >= context) {
            let needed = *p as usize + 1;
            return Err(Error::Context { needed, context });
        }
        let mut batch = Self {
            rows: Vec::with_capacity(n),
            visuals: Vec::new(),
        };
        for segment in segments {
            let from = batch.rows.len();
            let at = positions[from..].iter().copied();
            match segment {
                Segment::Tokens(ids) => {
                    if let Some(id) = ids.iter().find(|&&id| id as usize >= vocab_size) {
                        let want = format!("below {vocab_size}");
                        return Err(shape("token id", want, id.to_string()));
                    }
                    batch
                        .rows
                        .extend(ids.iter().zip(at).map(|(&id, position)| Row {
                            source: Source::Token(id),
                            position,
                        }));
                }
                Segment::Visual(tokens) => {
                    let slot = match &tokens.features {
                        Features::Device(any) => any.clone().downcast::<S>().ok(),
                        Features::Host { .. } => None,
                    };
                    let Some(slot) = slot else {
                        let want = "made by this device".to_owned();
                        return Err(shape("visual tokens", want, "others".to_owned()));
                    };
                    batch
                        .rows
                        .extend((0..tokens.n_tokens).zip(at).map(|(row, position)| Row {
                            source: Source::Visual(slot.id(), row),
                            position,
                        }));
                    batch.visuals.push((from, tokens.n_tokens, slot));
                }
            }
        }
        Ok(batch)
    }

    /// The visual rows among `from .. from + m` of a batch.
    pub(super) fn visual_runs(&self, from: usize, m: usize) -> Vec<VisualRun<'_, S>> {
        let mut runs = Vec::new();
        for (first, len, seen) in &self.visuals {
            let (start, end) = ((*first).max(from), (first + len).min(from + m));
            if start < end {
                runs.push(VisualRun {
                    row: start - from,
                    feature: start - first,
                    len: end - start,
                    seen: seen.as_ref(),
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
    pub feature: usize,
    /// Rows.
    pub len: usize,
    /// The features.
    pub seen: &'a S,
}
