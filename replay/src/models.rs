// SPDX-License-Identifier: MPL-2.0

//! Which model answers, and frames in the form that it takes.

use std::io::Cursor;
use std::path::PathBuf;
use std::sync::Arc;

use gstvlmcaption::caption::engine::examiner::Examiner;
use gstvlmcaption::caption::evidence::again::{self, Again, Change};
use gstvlmcaption::caption::evidence::reading::{self, Whole};
use gstvlmcaption::caption::evidence::record::Model;
use gstvlmcaption::caption::reports::evidence::Shown;
use gstvlmcaption::vlm::image::RgbImage;
use zune_jpeg::JpegDecoder;
use zune_jpeg::zune_core::colorspace::ColorSpace;
use zune_jpeg::zune_core::options::DecoderOptions;

/// The model that is open, and what it was opened by.
#[derive(Default)]
pub struct Models {
    open: Option<(Vec<(String, String)>, Examiner)>,
}

impl Models {
    /// Makes a record's caption again.
    ///
    /// # Errors
    /// Why that cannot be done.
    pub fn again(
        &mut self,
        whole: &Whole,
        set: &[(String, String)],
        change: &Change,
    ) -> Result<Again, String> {
        let properties = properties(&whole.record.model, set);
        let is_server = named(&properties, "backend") == Some("openai");
        if is_server && named(&properties, "server-uri").is_none() {
            return Err(
                "a server answered, and its address is in no record; give --server-uri, or \
                        --backend cpu --model PATH for a model of this machine"
                    .into(),
            );
        }
        if self
            .open
            .as_ref()
            .is_none_or(|(known, _)| *known != properties)
        {
            self.open = None;
            let source = gstvlmcaption::vlmcaption::source(&properties)?;
            let examiner = Examiner::open(&source, &mut |_| ())?;
            self.open = Some((properties, examiner));
        }
        let Some((_, examiner)) = &mut self.open else {
            return Err("no model is open".into());
        };
        match is_server {
            true => again::again(examiner, whole, change),
            false => again::again(examiner, &decoded(whole)?, change),
        }
    }

    /// What the model that answered last is called.
    pub fn name(&self) -> String {
        let open = self.open.as_ref();
        open.map(|(_, examiner)| examiner.model())
            .unwrap_or_default()
    }
}

/// All records that are named, in order of time.
///
/// # Errors
/// A folder that cannot be read, or none of which has a record.
pub fn records(paths: &[PathBuf]) -> Result<Vec<PathBuf>, String> {
    let mut all = Vec::new();
    for path in paths {
        let found = reading::records(path).map_err(|error| error.to_string())?;
        if found.is_empty() {
            return Err(format!("{} has no records", path.display()));
        }
        all.extend(found);
    }
    Ok(all)
}

/// The properties that choose the model: those of the record, unless others are set. With another
/// backend nothing of the record's holds.
fn properties(recorded: &Model, set: &[(String, String)]) -> Vec<(String, String)> {
    let backend = named(set, "backend");
    let same = backend.is_none_or(|backend| backend == recorded.backend);
    // Another model may be for another backend.
    let other_model = named(set, "model").is_some() && backend.is_none();
    let mut properties: Vec<(String, String)> = Vec::new();
    if same && !other_model {
        properties.clone_from(&recorded.properties);
    }
    for (name, value) in set {
        properties.retain(|(known, _)| known != name);
        properties.push((name.clone(), value.clone()));
    }
    properties
}

fn named<'a>(properties: &'a [(String, String)], name: &str) -> Option<&'a str> {
    let found = properties.iter().rev().find(|(known, _)| known == name);
    found.map(|(_, value)| value.as_str())
}

/// A record whose frames are pixels.
fn decoded(whole: &Whole) -> Result<Whole, String> {
    let mut whole = whole.clone();
    for frame in &mut whole.frames {
        if let Shown::Jpeg(jpeg) = &frame.picture {
            frame.picture = Shown::Rgb(Arc::new(pixels(&jpeg.bytes)?));
        }
    }
    Ok(whole)
}

fn pixels(jpeg: &[u8]) -> Result<RgbImage, String> {
    let options = DecoderOptions::default().jpeg_set_out_colorspace(ColorSpace::RGB);
    let mut decoder = JpegDecoder::new_with_options(Cursor::new(jpeg), options);
    let pixels = decoder
        .decode()
        .map_err(|error| format!("a frame is no JPEG: {error}"))?;
    let (width, height) = decoder.dimensions().ok_or("a frame has no size")?;
    Ok(RgbImage {
        width,
        height,
        pixels,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pairs(list: &[(&str, &str)]) -> Vec<(String, String)> {
        let owned = list.iter().map(|(a, b)| ((*a).to_owned(), (*b).to_owned()));
        owned.collect()
    }

    fn recorded() -> Model {
        Model {
            name: "m".into(),
            backend: "cpu".into(),
            device: "cpu".into(),
            properties: pairs(&[("backend", "cpu"), ("model", "/m"), ("precision", "int8")]),
            precision: None,
            kernels: None,
            weight_bytes: None,
            files: Vec::new(),
            sha256: None,
            unknown: None,
        }
    }

    #[test]
    fn what_is_set_goes_before_what_was_recorded() {
        let with = |set: &[(&str, &str)]| properties(&recorded(), &pairs(set));
        assert_eq!(with(&[]), recorded().properties);
        let f32 = pairs(&[("backend", "cpu"), ("model", "/m"), ("precision", "f32")]);
        assert_eq!(with(&[("precision", "f32")]), f32);
        let mock = pairs(&[("backend", "mock")]);
        assert_eq!(with(&[("backend", "mock")]), mock);
        let other = pairs(&[("model", "/other.bmodel")]);
        assert_eq!(with(&[("model", "/other.bmodel")]), other);
    }
}
