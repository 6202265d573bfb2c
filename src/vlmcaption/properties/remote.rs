// SPDX-License-Identifier: MPL-2.0

//! The server that `backend=openai` asks.

use gst::prelude::*;

use crate::vlmcaption::enums::{KeyHeader, VideoTransport};
use crate::vlmcaption::property::{Effect, Property, put, seconds, secret, text};

/// Where the server is, and who we are to it.
pub(super) fn server() -> Vec<Property> {
    vec![
        Property::new(
            glib::ParamSpecString::builder("server-uri")
                .nick("Server URI")
                .blurb(
                    "Address of the server with backend=openai, path and query included, such as \
                     http://127.0.0.1:8000/v1; /chat/completions is appended",
                )
                .default_value("")
                .mutable_playing()
                .build(),
            |s| s.choice.remote.server_uri.0.to_value(),
            |s, to| secret(&mut s.choice.remote.server_uri, to),
        )
        .with_effect(Effect::Model)
        .unlogged(),
        Property::new(
            glib::ParamSpecString::builder("model-name")
                .nick("Model name")
                .blurb("The server's name for the model that is asked; empty = the first that it lists")
                .mutable_playing()
                .build(),
            |s| s.choice.remote.model_name.to_value(),
            |s, to| put(&mut s.choice.remote.model_name, to),
        )
        .with_effect(Effect::Model),
        Property::new(
            glib::ParamSpecString::builder("api-key")
                .nick("API key")
                .blurb(
                    "API key of the server; cannot be read back. Empty = that of api-key-file, or of the \
                     variable VLMCAPTION_API_KEY, which no list of processes shows",
                )
                .write_only()
                .mutable_playing()
                .build(),
            |_| None::<String>.to_value(),
            |s, to| secret(&mut s.choice.remote.api_key, to),
        )
        .with_effect(Effect::Model)
        .unlogged(),
        Property::new(
            glib::ParamSpecString::builder("api-key-file")
                .nick("API key file")
                .blurb("File that holds the API key and nothing else; read when the server is opened")
                .mutable_playing()
                .build(),
            |s| s.choice.remote.api_key_file.to_value(),
            |s, to| put(&mut s.choice.remote.api_key_file, to),
        )
        .with_effect(Effect::Model),
        Property::new(
            glib::ParamSpecEnum::builder_with_default("api-key-header", KeyHeader::Authorization)
                .nick("API key header")
                .blurb("Header that carries the API key")
                .mutable_playing()
                .build(),
            |s| s.choice.remote.api_key_header.to_value(),
            |s, to| put(&mut s.choice.remote.api_key_header, to),
        )
        .with_effect(Effect::Model),
    ]
}

/// What is sent.
pub(super) fn sent() -> Vec<Property> {
    vec![
        Property::new(
            glib::ParamSpecEnum::builder_with_default("video-transport", VideoTransport::Auto)
                .nick("Video transport")
                .blurb("In which form the frames of a window go to the server")
                .mutable_playing()
                .build(),
            |s| s.choice.remote.video_transport.to_value(),
            |s, to| put(&mut s.choice.remote.video_transport, to),
        )
        .with_effect(Effect::Model),
        Property::new(
            glib::ParamSpecUInt::builder("image-quality")
                .nick("Image quality")
                .blurb("Quality of the JPEGs that go to the server")
                .minimum(1)
                .maximum(100)
                .default_value(90)
                .mutable_playing()
                .build(),
            |s| s.choice.remote.image_quality.to_value(),
            |s, to| put(&mut s.choice.remote.image_quality, to),
        )
        .with_effect(Effect::Model),
        Property::new(
            glib::ParamSpecUInt::builder("max-images")
                .nick("Max images")
                .blurb(
                    "Frames of a window that go to the server at most, evenly thinned, for servers \
                     with a limit; 0 = all",
                )
                .default_value(0)
                .mutable_playing()
                .build(),
            |s| s.choice.remote.max_images.to_value(),
            |s, to| put(&mut s.choice.remote.max_images, to),
        )
        .with_effect(Effect::Model),
        Property::new(
            glib::ParamSpecString::builder("extra-body")
                .nick("Extra body")
                .blurb(
                    "JSON object that is merged into every question to the server, such as \
                     {\"reasoning_effort\": \"low\"}; null takes a field away",
                )
                .default_value("")
                .mutable_playing()
                .build(),
            |s| s.choice.remote.extra_body.0.to_value(),
            |s, to| secret(&mut s.choice.remote.extra_body, to),
        )
        .with_effect(Effect::Model)
        .unlogged(),
    ]
}

/// How the server is reached.
pub(super) fn reached() -> Vec<Property> {
    vec![
        Property::new(
            glib::ParamSpecString::builder("server-ca-file")
                .nick("Server CA file")
                .blurb("PEM file of the only authorities that the server may be certified by; empty = the system's")
                .mutable_playing()
                .build(),
            |s| s.choice.remote.ca_file.to_value(),
            |s, to| put(&mut s.choice.remote.ca_file, to),
        )
        .with_effect(Effect::Model),
        Property::new(
            glib::ParamSpecString::builder("client-certificate-file")
                .nick("Client certificate file")
                .blurb("PEM file of the certificate by which the server knows this client")
                .mutable_playing()
                .build(),
            |s| s.choice.remote.client_certificate.to_value(),
            |s, to| put(&mut s.choice.remote.client_certificate, to),
        )
        .with_effect(Effect::Model),
        Property::new(
            glib::ParamSpecString::builder("client-key-file")
                .nick("Client key file")
                .blurb("PEM file of its private key; empty = the same file")
                .mutable_playing()
                .build(),
            |s| s.choice.remote.client_key.to_value(),
            |s, to| put(&mut s.choice.remote.client_key, to),
        )
        .with_effect(Effect::Model),
        Property::new(
            glib::ParamSpecString::builder("server-proxy")
                .nick("Server proxy")
                .blurb(
                    "Proxy on the way to the server, http://[user:password@]host:port; none = no proxy, \
                     empty = as the environment says (https_proxy, http_proxy, all_proxy, no_proxy)",
                )
                .default_value("")
                .mutable_playing()
                .build(),
            |s| s.choice.remote.proxy.0.to_value(),
            |s, to| secret(&mut s.choice.remote.proxy, to),
        )
        .with_effect(Effect::Model)
        .unlogged(),
        Property::new(
            glib::ParamSpecUInt64::builder("server-timeout")
                .nick("Server timeout")
                .blurb(
                    "How long the server may be silent before and within an answer, ns; then the window \
                     has no caption; 0 or -1 = for ever",
                )
                .default_value(seconds(60))
                .mutable_playing()
                .build(),
            |s| s.choice.remote.timeout.to_value(),
            |s, to| put(&mut s.choice.remote.timeout, to),
        )
        .with_effect(Effect::Model),
    ]
}

/// What may be reached.
pub(super) fn network() -> Vec<Property> {
    vec![
        Property::new(
            glib::ParamSpecString::builder("network")
                .nick("Network")
                .blurb(
                    "Which hosts may be sent anything: any, none, or allow=HOST,HOST:PORT; a server or a \
                     proxy that is not among them is refused at READY",
                )
                .default_value("any")
                .mutable_playing()
                .build(),
            |s| s.choice.remote.network.to_value(),
            |s, to| text(&mut s.choice.remote.network, to),
        )
        .with_effect(Effect::Model),
    ]
}
