// SPDX-License-Identifier: MPL-2.0

//! A server is opened: what is set becomes a client, and nothing goes over the network until it is made
//! ready.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use openai_client::{
    ApiKey, Bounds, ClientCertificate, Config, ConfigError, ExtraBody, KEY_VARIABLE, Proxy,
    ServerUri, Tls,
};

use super::frames::{Grid, JpegProcessor};
use super::known::Known;
use super::options::{KeyHeader, RemoteOptions, Transport};
use super::probing;
use super::window::{Bill, OpenAi, Room};
use crate::caption::engine::answerer::{Answerer, Loader};
use crate::caption::engine::error::Error;
use crate::caption::engine::identity::Identity;
use crate::caption::engine::opened::Opened;
use crate::caption::engine::standing::Fault;
use crate::vlm::files::ModelFiles;
use crate::vlm::{Checkpoint, Vlm};

/// The longest wait before a server that was not there is looked for again.
const LONGEST_PAUSE: Duration = Duration::from_secs(2);

/// Reads all that is set of a server.
///
/// # Errors
/// A sentence that names the property and the fix.
pub(crate) fn open(options: &RemoteOptions) -> Result<Opened, Error> {
    let config = config(options).map_err(|error| Error::Server(error.to_string()))?;
    let authority = config.server.authority();
    let allowed = options.network.check("the server", &authority);
    allowed.map_err(Error::Server)?;
    let place = authority.clone();
    let place = match config.server.is_https() {
        true => place,
        false => format!("{place} (not encrypted)"),
    };
    let name = options
        .model
        .clone()
        .unwrap_or_else(|| options.host().into());
    let known = Known::of(config).map_err(|error| Error::Server(error.to_string()))?;
    if let Some(proxy) = known.client().via() {
        let allowed = options.network.check("the proxy", proxy);
        allowed.map_err(Error::Server)?;
    }
    let family = options.config.as_deref().map(family).transpose()?;
    let grid = Arc::new(Grid::default());
    let identity = Arc::new(Identity::of_server(name, authority));
    Ok(Opened {
        processor: Arc::new(JpegProcessor::new(
            options.quality,
            grid.clone(),
            family.clone(),
        )),
        loader: loader(options, place, known, grid, (identity.clone(), family)),
        identity,
        longest_pause: LONGEST_PAUSE,
        notes: Vec::new(),
    })
}

/// Finds out what the server takes; once it has failed, anew.
fn loader(
    options: &RemoteOptions,
    place: String,
    known: Arc<Known>,
    grid: Arc<Grid>,
    (identity, family): (Arc<Identity>, Option<Arc<dyn Vlm>>),
) -> Loader {
    let (transport, quality) = (options.transport, options.quality);
    let max_images = options.max_images;
    // Who says how frames are sent wants no questions that find it out.
    let ask = transport == Transport::Auto;
    let reference = family.and_then(|family| probing::reference(family.as_ref()));
    let mut was_ready = false;
    Box::new(move |_, cancel| {
        if std::mem::take(&mut was_ready) {
            known.forget();
        }
        // With a meter of its own, which the bill counts from zero.
        let client = known.client();
        let traits = known.traits(&client, ask, cancel);
        let mut bill = Bill::new(identity.clone());
        bill.count(&client, 0);
        let traits = traits.map_err(Error::Server)?;
        let sending = probing::sending(transport, &traits);
        let sending = sending.map_err(|reason| Error::Server(format!("{place}: {reason}")))?;
        if let Some(factor) = probing::factor(&traits) {
            grid.set(factor);
        }
        identity.rename(&traits.model);
        was_ready = true;
        let mut notices = probing::notices(&place, transport, sending, quality, &traits);
        notices.extend(probing::compared(&place, sending, &traits, reference));
        Ok(Answerer::Server(Box::new(OpenAi {
            notices,
            client,
            known: known.clone(),
            traits,
            sending,
            max_images,
            bill,
            fault: Fault::None,
            room: Room::default(),
        })))
    })
}

fn config(options: &RemoteOptions) -> Result<Config, ConfigError> {
    let server = ServerUri::parse(&options.server_uri)?;
    let variable = std::env::var(KEY_VARIABLE).ok();
    let key = ApiKey::find(
        Some(&options.key.0),
        options.key_file.as_deref(),
        variable.as_deref(),
    )?;
    let client = options.client_certificate.as_ref();
    let client = client.map(|certificate| ClientCertificate {
        key: options.client_key.as_ref().unwrap_or(certificate).clone(),
        certificate: certificate.clone(),
    });
    let timeout = options.timeout;
    let defaults = Bounds::default();
    Ok(Config {
        model: options.model.clone(),
        key,
        key_header: match options.key_header {
            KeyHeader::Authorization => openai_client::KeyHeader::Bearer,
            KeyHeader::ApiKey => openai_client::KeyHeader::ApiKey,
        },
        extra_body: ExtraBody::parse(&options.extra_body.0)?,
        bounds: Bounds {
            lookup: defaults.lookup.min(timeout),
            connect: defaults.connect.min(timeout),
            first_byte: timeout,
            between: timeout,
            whole: timeout.saturating_mul(4),
            ..defaults
        },
        tls: Tls {
            ca: options.ca.clone(),
            client,
        },
        proxy: match options.proxy.0.trim() {
            "" => Proxy::Environment,
            "none" => Proxy::None,
            uri => Proxy::Uri(uri.to_owned()),
        },
        ..Config::new(server)
    })
}

/// The family of the checkpoint whose files are in a folder, to size frames as it does.
fn family(folder: &Path) -> Result<Arc<dyn Vlm>, Error> {
    let checkpoint = Checkpoint::open_compiled(ModelFiles::Folder(folder.to_owned()))?;
    if !checkpoint.model_type.starts_with("qwen") {
        return Err(Error::Server(format!(
            "config={} is a checkpoint of {}, which cuts images into tiles by itself; leave config \
             empty with backend=openai",
            folder.display(),
            checkpoint.model_type
        )));
    }
    Ok(checkpoint.vlm)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::caption::engine::remote::options::{Network, Secret};

    #[test]
    fn what_is_set_becomes_the_clients_configuration() {
        let options = RemoteOptions {
            server_uri: "https://h:8443/v1?api-version=1".into(),
            model: Some("m".into()),
            key: Secret("k-1".into()),
            key_file: None,
            key_header: KeyHeader::ApiKey,
            extra_body: Secret(r#"{"user": "u"}"#.into()),
            quality: 90,
            max_images: None,
            transport: Transport::Auto,
            ca: Some("/ca.pem".into()),
            client_certificate: Some("/me.pem".into()),
            client_key: None,
            proxy: Secret("http://proxy:3128".into()),
            timeout: Duration::from_secs(2),
            config: None,
            network: Network::Any,
        };
        let made = config(&options).unwrap();
        assert_eq!(made.server.authority(), "h:8443");
        assert_eq!(made.model.as_deref(), Some("m"));
        assert_eq!(made.key, Some(ApiKey::new("k-1").unwrap()));
        assert_eq!(made.key_header, openai_client::KeyHeader::ApiKey);
        assert_eq!(made.tls.ca.as_deref(), Some(Path::new("/ca.pem")));
        let client = made.tls.client.unwrap();
        assert_eq!(client.certificate, Path::new("/me.pem"));
        assert_eq!(client.key, client.certificate, "it is in the same file");
        assert_eq!(made.proxy, Proxy::Uri("http://proxy:3128".into()));
        let bounds = made.bounds;
        assert_eq!(bounds.first_byte, Duration::from_secs(2));
        assert!(bounds.connect <= bounds.first_byte && bounds.lookup <= bounds.first_byte);
        let none = RemoteOptions {
            proxy: Secret("none".into()),
            client_key: Some("/key.pem".into()),
            timeout: Duration::MAX,
            ..options
        };
        let made = config(&none).unwrap();
        assert_eq!(made.proxy, Proxy::None);
        assert_eq!(made.tls.client.unwrap().key, Path::new("/key.pem"));
    }
}
