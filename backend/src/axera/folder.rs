// SPDX-License-Identifier: MPL-2.0

//! The folder that `pulsar2 llm_build` and the export of the vision model leave.

use std::fs::{self, File};
use std::io::Read;
use std::path::{Path, PathBuf};

use serde_json::Value;

use super::error::Error;
use crate::{json, lfs};

/// The files of a model.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Folder {
    /// The folder itself.
    pub path: PathBuf,
    /// Decoder layers in their order, each with all its shapes.
    pub layers: Vec<PathBuf>,
    /// Final norm and head.
    pub post: PathBuf,
    /// The vision model.
    pub vision: PathBuf,
    /// The table of token embeddings: bf16, no header.
    pub embedding: PathBuf,
    /// Width and height of the vision model's images, as far as the folder tells.
    pub frame: Option<(usize, usize)>,
}

impl Folder {
    /// Whether a path is such a folder, or holds exactly one: the folder.
    pub fn find(path: &Path) -> Option<PathBuf> {
        let has_layers = |folder: &Path| {
            let names = names(folder).unwrap_or_default();
            names.iter().any(|name| layer(name).is_some())
        };
        if has_layers(path) {
            return Some(path.to_owned());
        }
        let entries = fs::read_dir(path).ok()?;
        let inside = entries.flatten().map(|entry| entry.path());
        let mut found: Vec<PathBuf> = inside.filter(|p| p.is_dir() && has_layers(p)).collect();
        match found.len() {
            1 => found.pop(),
            _ => None,
        }
    }

    /// Finds the files of a model, and that they are whole as far as their names and sizes tell.
    ///
    /// # Errors
    /// [`Error::Folder`], [`Error::Config`], [`Error::LfsPointer`], [`Error::Io`].
    pub fn open(path: &Path) -> Result<Self, Error> {
        let config = Config::read(&path.join("config.json"))?;
        let names = names(path).map_err(|source| Error::Io {
            file: path.display().to_string(),
            source,
        })?;
        let complain = |reason: String| Error::Folder {
            folder: path.display().to_string(),
            reason,
        };
        let layers = config.layers(&names).map_err(complain)?;
        let post = config.post(&names).map_err(complain)?;
        let vision = config.vision(&names).map_err(complain)?;
        let embedding = config.embedding(&names).map_err(complain)?;
        let frame = config.frame.or_else(|| side(&vision));
        let join = |name: &String| path.join(name);
        let folder = Self {
            layers: layers.iter().map(join).collect(),
            post: path.join(post),
            vision: path.join(vision),
            embedding: path.join(embedding),
            frame,
            path: path.to_owned(),
        };
        for file in folder.models().chain([folder.embedding.as_path()]) {
            check_file(file)?;
        }
        Ok(folder)
    }

    /// All models, in the order they are loaded: layers, head, vision.
    pub fn models(&self) -> impl Iterator<Item = &Path> {
        let layers = self.layers.iter();
        let all = layers.chain([&self.post, &self.vision]);
        all.map(PathBuf::as_path)
    }
}

/// Names of the files in a folder, sorted.
fn names(folder: &Path) -> std::io::Result<Vec<String>> {
    let mut names = Vec::new();
    for entry in fs::read_dir(folder)? {
        if let Ok(name) = entry?.file_name().into_string() {
            names.push(name);
        }
    }
    names.sort();
    Ok(names)
}

/// What stands before `_l` in the name of a layer file, and the layer's number.
fn layer(name: &str) -> Option<(&str, usize)> {
    let rest = name.strip_suffix("_together.axmodel")?;
    let (stem, index) = rest.rsplit_once("_l")?;
    Some((stem, index.parse().ok()?))
}

/// The layer files of a folder, from the first to the last without a hole.
fn discover(names: &[String]) -> Result<Vec<String>, String> {
    let mut found: Vec<(usize, &str, &String)> = names
        .iter()
        .filter_map(|name| layer(name).map(|(stem, index)| (index, stem, name)))
        .collect();
    found.sort();
    let first = found.first().map_or("", |(_, stem, _)| stem);
    if let Some((_, stem, _)) = found.iter().find(|(_, stem, _)| *stem != first) {
        return Err(format!(
            "there are layers of two models, {first}_l* and {stem}_l*; leave one here, or name it in \
             config.json as template_filename_axmodel"
        ));
    }
    let present = |index: &usize| found.iter().any(|(i, ..)| i == index);
    let missing: Vec<String> = (0..found.last().map_or(0, |(index, ..)| *index))
        .filter(|index| !present(index))
        .map(|index| format!("{first}_l{index}_together.axmodel"))
        .collect();
    if !missing.is_empty() {
        return Err(format!(
            "layer files are missing: {}; fetch them again",
            missing.join(", ")
        ));
    }
    Ok(found.into_iter().map(|(_, _, name)| name.clone()).collect())
}

/// The only file with one of these endings.
fn only(names: &[String], endings: &[&str], what: &str, key: &str) -> Result<String, String> {
    let fits = |name: &&String| endings.iter().any(|ending| name.ends_with(ending));
    let found: Vec<&String> = names.iter().filter(fits).collect();
    match found[..] {
        [name] => Ok(name.clone()),
        [] => Err(format!(
            "{what} is missing{}; fetch the whole folder",
            match endings {
                [""] => " (*vision*.axmodel or *vit*.axmodel)".to_owned(),
                _ => format!(" (*{})", endings[0]),
            }
        )),
        _ => {
            let list: Vec<&str> = found.iter().map(|name| name.as_str()).collect();
            Err(format!(
                "{} could each be {what}; name one in config.json as {key}, or move the others away",
                list.join(", ")
            ))
        }
    }
}

/// The side that a vision model's name tells: three or four digits on their own, 448 in
/// `vision_nchw448` or `vision_image_392`.
fn side(name: &str) -> Option<(usize, usize)> {
    let stem = name.strip_suffix(".axmodel")?;
    let runs = stem.split(|c: char| !c.is_ascii_digit());
    let sides = runs.filter(|run| (3..=4).contains(&run.len()));
    let side = sides.filter_map(|run| run.parse().ok()).next_back()?;
    (side % 28 == 0 || side % 32 == 0).then_some((side, side))
}

/// That a file is there and is the file itself.
fn check_file(path: &Path) -> Result<(), Error> {
    let io = |source| Error::Io {
        file: path.display().to_string(),
        source,
    };
    let mut start = Vec::with_capacity(lfs::START_BYTES);
    let file = File::open(path).map_err(io)?;
    file.take(lfs::START_BYTES as u64)
        .read_to_end(&mut start)
        .map_err(io)?;
    match lfs::is_pointer(&start) {
        true => Err(Error::LfsPointer {
            file: path.display().to_string(),
        }),
        false => Ok(()),
    }
}

/// What AXLLM's `config.json` says, as far as the folder itself does not. Published folders have an
/// empty one, others that of the checkpoint.
#[derive(Debug, Default)]
struct Config {
    /// `template_filename_axmodel`, with `%d` for the number of a layer.
    template: Option<String>,
    /// `axmodel_num`.
    n_layers: Option<usize>,
    /// `filename_post_axmodel`.
    post: Option<String>,
    /// `filename_image_encoder_axmodel`.
    vision: Option<String>,
    /// `filename_tokens_embed`.
    embedding: Option<String>,
    /// `vision_width` and `vision_height`.
    frame: Option<(usize, usize)>,
}

impl Config {
    fn read(path: &Path) -> Result<Self, Error> {
        let bytes = match fs::read(path) {
            Ok(bytes) => bytes,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
                return Ok(Self::default());
            }
            Err(source) => {
                return Err(Error::Io {
                    file: path.display().to_string(),
                    source,
                });
            }
        };
        if bytes.iter().all(u8::is_ascii_whitespace) {
            return Ok(Self::default());
        }
        let complain = |reason: String| Error::Config {
            file: path.display().to_string(),
            reason,
        };
        let json: Value = json::read(&bytes).map_err(|error| complain(error.to_string()))?;
        let text = |key: &str| json.get(key).and_then(Value::as_str).map(str::to_owned);
        let size = |key: &str| json.get(key).and_then(Value::as_u64).map(|n| n as usize);
        // Names may have a path before them.
        let file = |key| text(key).map(|name| name.rsplit('/').next().unwrap_or("").to_owned());
        let template = file("template_filename_axmodel");
        if let Some(template) = &template
            && !template.contains("%d")
        {
            return Err(complain(format!(
                "template_filename_axmodel is {template:?}; want one %d for the layer's number"
            )));
        }
        Ok(Self {
            template,
            n_layers: size("axmodel_num"),
            post: file("filename_post_axmodel"),
            vision: file("filename_image_encoder_axmodel"),
            embedding: file("filename_tokens_embed"),
            frame: size("vision_width").zip(size("vision_height")),
        })
    }

    /// Names of the layers, in their order: those that the template gives, or all that are there.
    fn layers(&self, names: &[String]) -> Result<Vec<String>, String> {
        let layers = match &self.template {
            Some(template) => (0..self.n_layers.unwrap_or(usize::MAX))
                .map(|index| template.replacen("%d", &index.to_string(), 1))
                .take_while(|name| self.n_layers.is_some() || names.contains(name))
                .collect(),
            None => discover(names)?,
        };
        match layers.is_empty() {
            false => Ok(layers),
            true => Err(
                "there are no layer files (..._p128_l0_together.axmodel) here; is it the folder \
                 that pulsar2 llm_build wrote?"
                    .to_owned(),
            ),
        }
    }

    /// Name of the head.
    fn post(&self, names: &[String]) -> Result<String, String> {
        let find = || {
            only(
                names,
                &["_post.axmodel"],
                "the head",
                "filename_post_axmodel",
            )
        };
        self.post.clone().map_or_else(find, Ok)
    }

    /// Name of the vision model.
    fn vision(&self, names: &[String]) -> Result<String, String> {
        if let Some(name) = &self.vision {
            return Ok(name.clone());
        }
        let is_vision = |name: &&String| {
            let lower = name.to_lowercase();
            lower.ends_with(".axmodel")
                && (lower.contains("vision") || lower.contains("vit"))
                && layer(name).is_none()
        };
        let found: Vec<String> = names.iter().filter(is_vision).cloned().collect();
        let key = "filename_image_encoder_axmodel";
        only(&found, &[""], "the vision model", key)
    }

    /// Name of the table of embeddings.
    fn embedding(&self, names: &[String]) -> Result<String, String> {
        let endings = [".bfloat16.bin", ".bf16.bin"];
        let key = "filename_tokens_embed";
        let find = || only(names, &endings, "the table of embeddings", key);
        self.embedding.clone().map_or_else(find, Ok)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const FILES: [&str; 5] = [
        "qwen2_5_vl_p128_l0_together.axmodel",
        "qwen2_5_vl_p128_l1_together.axmodel",
        "qwen2_5_vl_post.axmodel",
        "Qwen2.5-VL-3B-Instruct_vision_nchw448.axmodel",
        "model.embed_tokens.weight.bfloat16.bin",
    ];

    fn folder(names: &[&str]) -> tempfile::TempDir {
        let folder = tempfile::tempdir().unwrap();
        for name in names {
            fs::write(folder.path().join(name), "x").unwrap();
        }
        folder
    }

    fn complaint(names: &[&str]) -> String {
        let folder = folder(names);
        Folder::open(folder.path()).unwrap_err().to_string()
    }

    #[test]
    fn published_names_are_understood() {
        let folder = folder(&FILES);
        fs::write(folder.path().join("config.json"), "").unwrap();
        let found = Folder::open(folder.path()).unwrap();
        assert_eq!(found.layers.len(), 2);
        assert!(found.layers[1].ends_with(FILES[1]));
        assert!(found.post.ends_with(FILES[2]));
        assert!(found.vision.ends_with(FILES[3]));
        assert!(found.embedding.ends_with(FILES[4]));
        assert_eq!(found.frame, Some((448, 448)));
        assert_eq!(found.models().count(), 4);
    }

    #[test]
    fn a_folder_around_the_models_is_looked_into() {
        let outer = tempfile::tempdir().unwrap();
        let inner = outer.path().join("AX650-chunk_prefill_512");
        fs::create_dir(&inner).unwrap();
        fs::write(inner.join(FILES[0]), "").unwrap();
        assert_eq!(Folder::find(outer.path()), Some(inner.clone()));
        assert_eq!(Folder::find(&inner), Some(inner));
        assert_eq!(Folder::find(Path::new("/nowhere")), None);
    }

    #[test]
    fn a_hole_in_the_layers_is_named() {
        let mut files = FILES.to_vec();
        files[1] = "qwen2_5_vl_p128_l3_together.axmodel";
        let text = complaint(&files);
        assert!(
            text.contains("qwen2_5_vl_p128_l1_together.axmodel, "),
            "{text}"
        );
        assert!(text.contains("_l2_"), "{text}");
    }

    #[test]
    fn what_is_missing_or_in_doubt_is_named() {
        for (index, words) in [
            (2, "the head is missing"),
            (3, "the vision model is missing"),
        ] {
            let mut files = FILES.to_vec();
            files.remove(index);
            let text = complaint(&files);
            assert!(text.contains(words), "{text}");
        }
        let mut files = FILES.to_vec();
        files.push("Qwen2.5-VL-3B-Instruct_vision_nhwc.axmodel");
        let text = complaint(&files);
        assert!(text.contains("filename_image_encoder_axmodel"), "{text}");
        files[5] = "qwen3_vl_text_p128_l0_together.axmodel";
        let text = complaint(&files);
        assert!(text.contains("layers of two models"), "{text}");
        assert!(complaint(&[]).contains("no layer files"));
    }

    #[test]
    fn axllms_configuration_chooses() {
        let mut files = FILES.to_vec();
        files.push("Qwen2.5-VL-3B-Instruct_vision_nhwc.axmodel");
        let folder = folder(&files);
        let config = r#"{"filename_image_encoder_axmodel": "./Qwen2.5-VL-3B-Instruct_vision_nhwc.axmodel",
            "template_filename_axmodel": "qwen2_5_vl_p128_l%d_together.axmodel", "axmodel_num": 2,
            "vision_width": 308, "vision_height": 308}"#;
        fs::write(folder.path().join("config.json"), config).unwrap();
        let found = Folder::open(folder.path()).unwrap();
        assert!(found.vision.ends_with(files[5]));
        assert_eq!((found.layers.len(), found.frame), (2, Some((308, 308))));
        fs::write(folder.path().join("config.json"), "{").unwrap();
        let text = Folder::open(folder.path()).unwrap_err().to_string();
        assert!(text.contains("config.json: EOF"), "{text}");
    }

    #[test]
    fn a_pointer_of_git_lfs_is_told() {
        let folder = folder(&FILES);
        let file = folder.path().join(FILES[1]);
        fs::write(
            &file,
            "version https://git-lfs.github.com/spec/v1\noid x\nsize 1\n",
        )
        .unwrap();
        let text = Folder::open(folder.path()).unwrap_err().to_string();
        assert!(
            text.contains(FILES[1]) && text.contains("git lfs pull"),
            "{text}"
        );
    }

    #[test]
    fn names_tell_the_side_of_the_images() {
        assert_eq!(side("x_vision_image_392.axmodel"), Some((392, 392)));
        assert_eq!(side("Qwen3-VL-2B-Instruct_vision.axmodel"), None);
        assert_eq!(side("internvl3_2b_vit_slim.axmodel"), None);
    }
}
