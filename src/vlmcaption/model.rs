// SPDX-License-Identifier: MPL-2.0

//! Which model runs where: the properties `model`, `config`, `backend`, `device` and `precision`.

use std::path::{Path, PathBuf};
use std::time::Duration;

use super::backends::{self, Backend, BackendFields};
use super::enums::{Isolation, KeyHeader, Precision, VideoTransport};
use crate::backend::cpu;
use crate::caption::source::{self, Network, RemoteOptions, Secret, Source, Worker};
use crate::vlm::compiled::{find_axmodels, find_bmodel};
use crate::vlm::hub;

/// The properties that choose the model.
#[derive(Debug, Clone, PartialEq, Default)]
pub(super) struct Choice {
    pub model: Option<String>,
    pub config: Option<String>,
    pub backend: String,
    pub backends: Vec<BackendFields>,
    pub device: Option<String>,
    pub precision: Precision,
    pub isolation: Isolation,
    pub remote: Remote,
}

/// The properties of a server.
#[derive(Debug, Clone, PartialEq, Default)]
pub(super) struct Remote {
    /// May have a key in its query.
    pub server_uri: Secret,
    pub model_name: Option<String>,
    pub api_key: Secret,
    pub api_key_file: Option<String>,
    pub api_key_header: KeyHeader,
    pub image_quality: u32,
    pub max_images: u32,
    pub extra_body: Secret,
    pub video_transport: VideoTransport,
    pub ca_file: Option<String>,
    pub client_certificate: Option<String>,
    pub client_key: Option<String>,
    pub proxy: Secret,
    pub timeout: Option<gst::ClockTime>,
    /// Which hosts may be sent anything.
    pub network: String,
}

impl From<KeyHeader> for source::KeyHeader {
    fn from(header: KeyHeader) -> Self {
        match header {
            KeyHeader::Authorization => Self::Authorization,
            KeyHeader::ApiKey => Self::ApiKey,
        }
    }
}

impl From<VideoTransport> for source::Transport {
    fn from(transport: VideoTransport) -> Self {
        match transport {
            VideoTransport::Auto => Self::Auto,
            VideoTransport::Sequence => Self::Sequence,
            VideoTransport::Images => Self::Images,
            VideoTransport::Mp4 => Self::Mp4,
        }
    }
}

impl Choice {
    /// Whether several backends are named.
    pub fn is_of_several(&self) -> bool {
        backends::parse(&self.backend).is_ok_and(|backends| backends.len() > 1)
    }

    /// The model and what runs it.
    ///
    /// # Errors
    /// A sentence that names the property and the fix.
    pub fn source_of(&self, backend: Backend) -> Result<Source, String> {
        let source = self.device_of(backend)?;
        let is_vendors = matches!(source, Source::Axera { .. } | Source::Sophgo { .. });
        let worker = match (self.isolation, &source) {
            (_, Source::OpenAi(_)) | (Isolation::None, _) => None,
            (Isolation::Process, _) => Some(Worker::Required),
            (Isolation::Auto, _) => is_vendors.then_some(Worker::IfInstalled),
        };
        Ok(match worker {
            Some(worker) => Source::Isolated(Box::new(source), worker),
            None => source,
        })
    }

    /// The same, wherever it runs.
    fn device_of(&self, backend: Backend) -> Result<Source, String> {
        let model = match backend {
            Backend::OpenAi => return self.openai(),
            Backend::Mock => path(&self.model),
            _ => checkpoint(&self.model)?,
        };
        let config = checkpoint(&self.config)?;
        let device = self.device.as_deref().unwrap_or_default().trim();
        match backend {
            Backend::Auto => self.by_file(model, config, device),
            Backend::Cpu => self.cpu(model, config, device),
            Backend::Axera => axera(model, config, device),
            Backend::Sophgo => sophgo(model, config, device),
            Backend::Mock => Ok(Source::Mock { script: model }),
            Backend::OpenAi => self.openai(),
        }
    }

    fn openai(&self) -> Result<Source, String> {
        if path(&self.model).is_some() && !self.is_of_several() {
            return Err(
                "model is a file or folder of this machine; with backend=openai leave it empty \
                        and set model-name to the name that the server has for its model"
                    .into(),
            );
        }
        let remote = &self.remote;
        let name = remote.model_name.as_deref().map(str::trim);
        let count = |n: u32| (n > 0).then_some(n as usize);
        Ok(Source::OpenAi(Box::new(RemoteOptions {
            server_uri: remote.server_uri.0.clone(),
            model: name.filter(|name| !name.is_empty()).map(str::to_owned),
            key: remote.api_key.clone(),
            key_file: path(&remote.api_key_file),
            key_header: remote.api_key_header.into(),
            extra_body: remote.extra_body.clone(),
            quality: u8::try_from(remote.image_quality).unwrap_or(100),
            max_images: count(remote.max_images),
            transport: remote.video_transport.into(),
            ca: path(&remote.ca_file),
            client_certificate: path(&remote.client_certificate),
            client_key: path(&remote.client_key),
            proxy: remote.proxy.clone(),
            timeout: match remote.timeout {
                None | Some(gst::ClockTime::ZERO) => Duration::MAX,
                Some(timeout) => timeout.into(),
            },
            config: checkpoint(&self.config)?,
            network: Network::parse(&remote.network)?,
        })))
    }

    fn by_file(
        &self,
        model: Option<PathBuf>,
        config: Option<PathBuf>,
        device: &str,
    ) -> Result<Source, String> {
        let is = |find: fn(&Path) -> Option<PathBuf>| model.as_deref().and_then(find).is_some();
        if is(find_axmodels) {
            axera(model, config, device)
        } else if is(find_bmodel) {
            sophgo(model, config, device)
        } else {
            self.cpu(model, config, device)
        }
    }

    fn cpu(
        &self,
        model: Option<PathBuf>,
        config: Option<PathBuf>,
        device: &str,
    ) -> Result<Source, String> {
        if config.is_some() {
            return Err(
                "config is for compiled models (.bmodel, .axmodel); a checkpoint's folder \
                        has its configuration in it, leave config empty"
                    .into(),
            );
        }
        let precision = match self.precision {
            Precision::Auto => cpu::Precision::Auto,
            Precision::F32 => cpu::Precision::F32,
            Precision::Bf16 => cpu::Precision::Bf16,
            Precision::Int8 => cpu::Precision::Int8,
        };
        let options = host(device, precision)?;
        Ok(Source::Cpu { model, options })
    }
}

fn axera(model: Option<PathBuf>, config: Option<PathBuf>, device: &str) -> Result<Source, String> {
    let model = model.ok_or(
        "backend=axera needs model=/path/to/a/folder of .axmodel files; docs/axera.md tells \
         where they come from",
    )?;
    Ok(Source::Axera {
        // The folder itself says best what is wrong with it.
        model: find_axmodels(&model).unwrap_or(model),
        config,
        device: number(device)?,
    })
}

fn sophgo(model: Option<PathBuf>, config: Option<PathBuf>, device: &str) -> Result<Source, String> {
    let model = model.ok_or(
        "backend=sophgo needs model=/path/to/a.bmodel; cargo xtask bmodel makes one of a checkpoint",
    )?;
    Ok(Source::Sophgo {
        // The file itself says best what is wrong with it.
        model: find_bmodel(&model).unwrap_or(model),
        config,
        device: number(device)?,
    })
}

/// A path that is set; empty is not.
fn path(value: &Option<String>) -> Option<PathBuf> {
    let value = value.as_deref().filter(|path| !path.is_empty());
    value.map(PathBuf::from)
}

/// The same, of a checkpoint: a folder of the hub's cache is the snapshot in it.
fn checkpoint(value: &Option<String>) -> Result<Option<PathBuf>, String> {
    path(value).map(|path| hub::resolve(&path)).transpose()
}

/// A device's number; none is 0.
fn number(device: &str) -> Result<usize, String> {
    if device.is_empty() {
        return Ok(0);
    }
    device.parse().map_err(|_| {
        format!(
            "device={device:?} is no number of a device; with compiled models it counts from 0, as \
             the vendor's tool lists them (bm-smi, axcl-smi)"
        )
    })
}

/// How the cpu is used: `threads=4`, `cache=off`, or both with a comma.
fn host(device: &str, precision: cpu::Precision) -> Result<cpu::Options, String> {
    let mut options = cpu::Options {
        precision,
        threads: None,
        cache: cpu::cache_folder(),
    };
    let listed = device.strip_prefix("cpu").unwrap_or(device);
    let listed = listed.strip_prefix(':').unwrap_or(listed);
    for option in listed.split(',').filter(|option| !option.is_empty()) {
        match (option, option.strip_prefix("threads=").map(str::parse)) {
            (_, Some(Ok(threads))) if threads > 0 => options.threads = Some(threads),
            ("cache=off", _) => options.cache = None,
            _ => {
                return Err(format!(
                    "device={device:?} is nothing the cpu knows; set device=\"threads=4\", \
                     device=\"threads=4,cache=off\", or leave it empty"
                ));
            }
        }
    }
    Ok(options)
}
