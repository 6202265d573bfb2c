// SPDX-License-Identifier: MPL-2.0

//! What the checkpoint's processors do to pixels, checked.

use super::Error;
use super::files::ModelFiles;
use super::grid::Geometry;
use super::json::{Document, Section};

/// Part of the image budget that a video frame gets unless `preprocessor_config.json` has the key
/// `video_ratio`: the vendors' demos spend a quarter.
const DEFAULT_VIDEO_RATIO: f64 = 0.25;

/// `preprocessor_config.json`, checked.
#[derive(Debug, Clone, PartialEq)]
pub struct Preprocessor {
    /// Patch, temporal patch, merge.
    pub geometry: Geometry,
    /// Mean of each channel, in units of 0..=1.
    pub image_mean: [f32; 3],
    /// Standard deviation of each channel, in units of 0..=1.
    pub image_std: [f32; 3],
    /// Least area of an image (`size.shortest_edge`, an area for these processors).
    pub min_pixels: usize,
    /// Largest area of an image (`size.longest_edge`).
    pub max_pixels: usize,
    /// Part of the area that a video frame gets.
    pub video_ratio: f64,
}

impl Preprocessor {
    /// Reads the object that transformers 5 nests in `processor_config.json`, else
    /// `preprocessor_config.json`, and holds that of videos against it.
    ///
    /// # Errors
    /// [`Error::MissingFile`], or [`Error::Config`] if a value is wrong or differs from the
    /// tower's (`vision_config` of `config.json`) or between images and videos.
    pub(crate) fn read(files: &ModelFiles, tower: Geometry) -> Result<Self, Error> {
        const IMAGE: &str = "preprocessor_config.json";
        const VIDEO: &str = "video_preprocessor_config.json";
        const BOTH: &str = "processor_config.json";
        let both = Document::read(files, BOTH)?;
        let nested = |key| match &both {
            Some(document) => document.root().section(key),
            None => Ok(None),
        };
        let image = Document::read(files, IMAGE)?;
        let image = match (nested("image_processor")?, &image) {
            (Some(section), _) => section,
            (None, Some(document)) => document.root(),
            (None, None) => {
                return Err(Error::MissingFile {
                    folder: files.place(),
                    file: format!("{IMAGE} (nor an image_processor in {BOTH})"),
                });
            }
        };
        let preprocessor = Self::check(&image, tower)?;
        let video = Document::read(files, VIDEO)?;
        let video = match nested("video_processor")? {
            Some(section) => Some(section),
            None => video.as_ref().map(Document::root),
        };
        if let Some(video) = video {
            check_geometry(&video, tower)?;
            for (key, want) in [
                ("image_mean", preprocessor.image_mean),
                ("image_std", preprocessor.image_std),
            ] {
                if video.value(key).is_some() && video.channels(key)? != want {
                    return Err(video.complain(
                        key,
                        format!("differs from that of images, {want:?}; they must be equal"),
                    ));
                }
            }
        }
        Ok(preprocessor)
    }

    fn check(image: &Section<'_>, tower: Geometry) -> Result<Self, Error> {
        let geometry = check_geometry(image, tower)?;
        let image_std = image.channels("image_std")?;
        if image_std.iter().any(|&std| std <= 0.0) {
            return Err(image.complain("image_std", "must be above 0"));
        }
        for step in ["do_rescale", "do_normalize"] {
            if !image.flag_or(step, true)? {
                return Err(image.complain(step, "is false; only true is implemented"));
            }
        }
        let rescale = image.positive_or("rescale_factor", 1.0 / 255.0)?;
        if (rescale * 255.0 - 1.0).abs() > 1e-4 {
            return Err(image.complain("rescale_factor", format!("is {rescale}; want 1/255")));
        }
        let (min_pixels, max_pixels) = pixel_range(image)?;
        let video_ratio = image.positive_or("video_ratio", DEFAULT_VIDEO_RATIO)?;
        if video_ratio > 1.0 {
            return Err(image.complain("video_ratio", format!("is {video_ratio}; want 0..=1")));
        }
        Ok(Self {
            geometry,
            image_mean: image.channels("image_mean")?,
            image_std,
            min_pixels,
            max_pixels,
            video_ratio,
        })
    }
}

/// Areas between which an image is kept: `min_pixels` and `max_pixels` go before
/// `size.shortest_edge` and `size.longest_edge`, as in the reference class.
fn pixel_range(image: &Section<'_>) -> Result<(usize, usize), Error> {
    let size = image.section("size")?;
    let area = |old: &str, new: &str| match (&size, image.value(old)) {
        (_, Some(_)) => image.area(old),
        (Some(size), None) if size.value(old).is_some() => size.area(old),
        (Some(size), None) => size.area(new),
        (None, None) => Err(image.complain("size", "is missing (and there is no max_pixels)")),
    };
    let min = area("min_pixels", "shortest_edge")?;
    let max = area("max_pixels", "longest_edge")?;
    if min > max {
        return Err(image.complain(
            "size",
            format!("has a least area of {min} pixels above the largest, {max}"),
        ));
    }
    Ok((min, max))
}

fn check_geometry(section: &Section<'_>, tower: Geometry) -> Result<Geometry, Error> {
    let same = |key: &str, tower_key: &str, tower: usize| match section.size(key)? {
        value if value == tower => Ok(()),
        value => Err(section.complain(
            key,
            format!("is {value}, but vision_config.{tower_key} of config.json is {tower}"),
        )),
    };
    let Geometry {
        patch_size,
        temporal_patch_size,
        merge_size,
    } = tower;
    same("patch_size", "patch_size", patch_size)?;
    same(
        "temporal_patch_size",
        "temporal_patch_size",
        temporal_patch_size,
    )?;
    same("merge_size", "spatial_merge_size", merge_size)?;
    Ok(tower)
}

#[cfg(test)]
mod tests {
    use std::fs;

    use serde_json::{Value, json};

    use super::*;

    const IMAGE: &str = "preprocessor_config.json";
    const VIDEO: &str = "video_preprocessor_config.json";

    fn demo(name: &str) -> Value {
        serde_json::from_slice(&ModelFiles::demo().require(name).unwrap()).unwrap()
    }

    fn read(contents: &[(&str, &Value)]) -> Result<Preprocessor, Error> {
        let folder = tempfile::tempdir().unwrap();
        for (name, content) in contents {
            fs::write(folder.path().join(name), content.to_string()).unwrap();
        }
        let tower = Geometry {
            patch_size: 16,
            temporal_patch_size: 2,
            merge_size: 2,
        };
        Preprocessor::read(&ModelFiles::Folder(folder.path().to_owned()), tower)
    }

    #[test]
    fn own_files_and_nested_objects_say_the_same() {
        let (image, video) = (demo(IMAGE), demo(VIDEO));
        let apart = read(&[(IMAGE, &image), (VIDEO, &video)]).unwrap();
        assert_eq!((apart.min_pixels, apart.max_pixels), (6144, 16384));
        assert_eq!(apart.video_ratio, 1.0);
        let nested = json!({ "image_processor": image, "video_processor": video });
        assert_eq!(read(&[("processor_config.json", &nested)]).unwrap(), apart);
        // The nested ones go before files of their own.
        let mut other = image.clone();
        other["patch_size"] = json!(14);
        let both = read(&[("processor_config.json", &nested), (IMAGE, &other)]);
        assert_eq!(both.unwrap(), apart);
    }

    #[test]
    fn a_video_frame_gets_a_quarter_unless_the_file_says_otherwise() {
        let mut image = demo(IMAGE);
        image.as_object_mut().unwrap().remove("video_ratio");
        assert_eq!(read(&[(IMAGE, &image)]).unwrap().video_ratio, 0.25);
    }

    #[test]
    fn min_pixels_and_max_pixels_go_before_the_edges() {
        let mut image = demo(IMAGE);
        image["min_pixels"] = json!(4096);
        image["max_pixels"] = json!(8192);
        let preprocessor = read(&[(IMAGE, &image)]).unwrap();
        assert_eq!(
            (preprocessor.min_pixels, preprocessor.max_pixels),
            (4096, 8192)
        );
        image.as_object_mut().unwrap().remove("size");
        assert_eq!(read(&[(IMAGE, &image)]).unwrap(), preprocessor);
    }

    #[test]
    fn values_that_do_not_fit_are_told_with_file_and_key() {
        for (key, value, want) in [
            (
                "patch_size",
                json!(14),
                "patch_size is 14, but vision_config.patch_size",
            ),
            (
                "temporal_patch_size",
                json!(1),
                "temporal_patch_size is 1, but vision_config",
            ),
            ("merge_size", json!(null), "merge_size is missing"),
            ("image_mean", json!([0.5]), "want three numbers"),
            (
                "image_std",
                json!([0.5, 0.5, 0.0]),
                "image_std must be above 0",
            ),
            ("do_normalize", json!(false), "do_normalize is false"),
            (
                "rescale_factor",
                json!(1.0),
                "rescale_factor is 1; want 1/255",
            ),
            ("video_ratio", json!(1.5), "video_ratio is 1.5; want 0..=1"),
            (
                "size",
                json!(null),
                "size is missing (and there is no max_pixels)",
            ),
            (
                "size",
                json!({"shortest_edge": 4}),
                "size.longest_edge is missing",
            ),
            (
                "size",
                json!({"shortest_edge": 9, "longest_edge": 4}),
                "9 pixels above the largest, 4",
            ),
        ] {
            let mut image = demo(IMAGE);
            image[key] = value;
            let got = read(&[(IMAGE, &image)]).unwrap_err().to_string();
            assert!(
                got.contains("/preprocessor_config.json: ") && got.contains(want),
                "{got}"
            );
        }
        let got = read(&[]).unwrap_err().to_string();
        assert!(got.contains("has no preprocessor_config.json"), "{got}");
    }

    #[test]
    fn images_and_videos_that_differ_are_refused() {
        for (key, value) in [
            ("image_std", json!([0.4, 0.5, 0.5])),
            ("patch_size", json!(8)),
        ] {
            let mut video = demo(VIDEO);
            video[key] = value;
            let got = read(&[(IMAGE, &demo(IMAGE)), (VIDEO, &video)]);
            let got = got.unwrap_err().to_string();
            assert!(got.contains(VIDEO) && got.contains(key), "{got}");
        }
    }
}
