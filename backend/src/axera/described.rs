// SPDX-License-Identifier: MPL-2.0

//! A folder of axmodels before and while it is loaded: whether it is whole, whether it fits the
//! device, its models there.

use std::path::Path;

use axera_sys::{Api, Device, Kind};

use super::error::Error;
use super::folder::Folder;
use super::layout::Layout;
use super::options::Options;
use super::program::{Axera, Loaded};
use crate::Cancel;

/// Room for caches and buffers beside the models, before their sizes are known: bytes.
const SLACK_BYTES: u64 = 64 << 20;

/// A folder whose files were found; nothing is loaded yet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Described {
    /// Its files.
    pub folder: Folder,
}

impl Described {
    /// Looks at a folder: milliseconds, whatever its size.
    ///
    /// # Errors
    /// [`Error::Folder`], [`Error::Config`], [`Error::LfsPointer`], [`Error::Io`].
    pub fn open(path: &Path) -> Result<Self, Error> {
        Ok(Self {
            folder: Folder::open(path)?,
        })
    }

    fn name(&self) -> String {
        self.folder.path.display().to_string()
    }

    /// Loads the models onto a device, one after the other. `progress` hears 0.0..=1.0 by the bytes
    /// of the files. Whatever goes wrong, and when cancelled, everything is given back.
    ///
    /// # Errors
    /// [`Error::Memory`] before anything is loaded; [`Error::Api`] for libraries and devices that
    /// are not there or not usable; [`Error::Load`] with the model that was not taken;
    /// [`Error::Mixed`], [`Error::Unsupported`], [`Error::Frame`], [`Error::Embedding`].
    pub fn load(
        &self,
        options: &Options,
        progress: &mut dyn FnMut(f32),
        cancel: &Cancel,
    ) -> Result<Axera, crate::Error> {
        if self.folder.layers.len() != options.n_layers {
            return Err(Error::Folder {
                folder: self.name(),
                reason: format!(
                    "there are {} layer files, the model has {} layers by its config.json; fetch the \
                     missing ones, or set config to the folder of the right checkpoint",
                    self.folder.layers.len(),
                    options.n_layers
                ),
            }
            .into());
        }
        let api = Api::load().map_err(Error::from)?;
        let mut device = Device::open(&api, options.device).map_err(Error::from)?;
        self.check_memory(&mut device, options.device)?;
        let loaded = self.load_models(&mut device, progress, cancel)?;
        Ok(Axera::new(device, loaded, &self.folder, options)?)
    }

    /// That models and buffers fit what is free; not checked where the device cannot tell.
    fn check_memory(&self, device: &mut Device, index: usize) -> Result<(), Error> {
        let mut needed = SLACK_BYTES;
        for path in self.folder.models() {
            needed += device
                .usage(path)
                .map_err(|source| load_error(path, device, source))?;
        }
        let Some((total, free)) = device.health().memory else {
            return Ok(());
        };
        if needed <= free {
            return Ok(());
        }
        let mib = |bytes: u64| bytes >> 20;
        let fix = match (needed <= total, device.kind()) {
            (true, Kind::Soc) => {
                "another program holds the rest (cat /proc/ax_proc/mem_cmm_info), or one that was \
                 killed left it: end it, or start the board again"
            }
            (true, Kind::Card) => {
                "another program holds the rest (axcl-smi), or one that was killed left it: end it, \
                 or reset the card (axcl-smi reboot)"
            }
            (false, Kind::Soc) => {
                "give the NPU a larger part of the board's memory (its CMM, in the boot arguments), \
                 or take a smaller model or one of GPTQ-Int4"
            }
            (false, Kind::Card) => {
                "take a card with more memory, a smaller model or one of GPTQ-Int4"
            }
        };
        Err(Error::Memory {
            folder: self.name(),
            device: index,
            needed_mib: mib(needed),
            free_mib: mib(free),
            total_mib: mib(total),
            fix,
        })
    }

    fn load_models(
        &self,
        device: &mut Device,
        progress: &mut dyn FnMut(f32),
        cancel: &Cancel,
    ) -> Result<Loaded, crate::Error> {
        let size = |path: &Path| std::fs::metadata(path).map_or(0, |meta| meta.len());
        let total: u64 = self.folder.models().map(size).sum();
        let mut done = 0u64;
        let mut first: Option<(Layout, Option<String>)> = None;
        let mut models = Vec::new();
        for (i, path) in self.folder.models().enumerate() {
            cancel.check()?;
            progress(done as f32 / total.max(1) as f32);
            let model = device
                .load(path)
                .map_err(|source| load_error(path, device, source))?;
            done += size(path);
            if i < self.folder.layers.len() {
                let name = path.display().to_string();
                let layout = Layout::of(&model.groups, &name)?;
                match &first {
                    None => first = Some((layout, model.compiler.clone())),
                    Some(first) => self.same(first, &layout, &model.compiler, name)?,
                }
            }
            models.push(model);
        }
        progress(1.0);
        cancel.check()?;
        // Layers, head and vision are what `models` lists, in this order.
        let (Some(vision), Some(head), Some((layout, _))) = (models.pop(), models.pop(), first)
        else {
            return Err(Error::Folder {
                folder: self.name(),
                reason: "there are no models here".to_owned(),
            }
            .into());
        };
        Ok(Loaded {
            layers: models,
            head,
            vision,
            layout,
            bytes: total,
        })
    }

    /// That a layer was made with the first one.
    fn same(
        &self,
        first: &(Layout, Option<String>),
        layout: &Layout,
        compiler: &Option<String>,
        file: String,
    ) -> Result<(), Error> {
        let version = |compiler: &Option<String>| compiler.clone().unwrap_or_default();
        let sizes = |layout: &Layout| {
            format!(
                "width {}, keys {}, chunk {}, prompt {}, context {}",
                layout.hidden_size,
                layout.kv_size,
                layout.chunk(),
                layout.max_prompt(),
                layout.context()
            )
        };
        let (what, got, want) = if *layout != first.0 {
            ("its shape", sizes(layout), sizes(&first.0))
        } else if *compiler != first.1 {
            ("its compiler", version(compiler), version(&first.1))
        } else {
            return Ok(());
        };
        let name = self.folder.layers.first();
        Err(Error::Mixed {
            file,
            what,
            got,
            want,
            first: name
                .map(|path| path.display().to_string())
                .unwrap_or_default(),
        })
    }
}

/// Why a model was not loaded, with everything that helps to find out.
fn load_error(path: &Path, device: &mut Device, source: axera_sys::Error) -> Error {
    let mib = |bytes: u64| bytes >> 20;
    let memory = match device.health().memory {
        Some((total, free)) => format!("{} of {} MiB are free", mib(free), mib(total)),
        None => "free memory unknown".to_owned(),
    };
    let library = device.library();
    let version = library.version.as_deref().unwrap_or("unknown");
    Error::Load {
        file: path.display().to_string(),
        size_mib: mib(std::fs::metadata(path).map_or(0, |meta| meta.len())),
        memory,
        library: format!("{} is version {version}", library.path.display()),
        hint: match (source.is_out_of_memory(), device.kind()) {
            (true, _) => "another program holds the NPU's memory, or one that was killed left it",
            (false, Kind::Soc) => {
                "fetch the file again, check that it is for AX650, and that the SDK is as new as the \
                 Pulsar2 that made it"
            }
            (false, Kind::Card) => {
                "fetch the file again, check that it is for AX650 and that axclhost is as new as the \
                 Pulsar2 that made it; if the card's own program ended, axcl-smi reboot starts it \
                 anew"
            }
        },
        source: Box::new(source),
    }
}
