// SPDX-License-Identifier: MPL-2.0

//! The element as GObject and GStreamer see it: pads, properties, signals, state changes. All they do is
//! in what they call.

use std::sync::{Arc, LazyLock};

use gst::prelude::*;
use gst::subclass::prelude::*;

use super::changes;
use super::flow::Flow;
use super::lifecycle::Lifecycle;
use super::log::{CAT, TEXT};
use super::properties;
use super::shared::Shared;
use super::signals;
use super::text::text_caps;

glib::wrapper! {
    /// Tells what a camera sees. See the [module documentation](super).
    pub struct VlmCaption(ObjectSubclass<Imp>) @extends gst::Element, gst::Object;
}

/// Its body.
pub struct Imp {
    pub(super) shared: Arc<Shared>,
}

#[glib::object_subclass]
impl ObjectSubclass for Imp {
    const NAME: &'static str = "GstVlmCaption";
    type Type = VlmCaption;
    type ParentType = gst::Element;

    fn with_class(klass: &Self::Class) -> Self {
        let template = |name| {
            klass
                .pad_template(name)
                .expect("installed by pad_templates()")
        };
        let sinkpad = gst::Pad::builder_from_template(&template("sink"))
            .chain_function(|_pad, parent, buffer| {
                Imp::catch_panic_pad_function(
                    parent,
                    || Err(gst::FlowError::Error),
                    |this| this.with_flow(|flow| flow.chain(buffer)),
                )
            })
            .event_full_function(|pad, parent, event| {
                Imp::catch_panic_pad_function(
                    parent,
                    || Err(gst::FlowError::Error),
                    |this| this.with_flow(|flow| flow.sink_event_full(pad, event)),
                )
            })
            .query_function(|pad, parent, query| {
                Imp::catch_panic_pad_function(
                    parent,
                    || false,
                    |this| this.with_flow(|flow| flow.sink_query(pad, query)),
                )
            })
            .flags(gst::PadFlags::PROXY_CAPS | gst::PadFlags::PROXY_SCHEDULING)
            .build();
        let srcpad = gst::Pad::builder_from_template(&template("src"))
            .event_function(|_pad, parent, event| {
                Imp::catch_panic_pad_function(
                    parent,
                    || false,
                    |this| this.with_flow(|flow| flow.src_event(event)),
                )
            })
            .query_function(|_pad, parent, query| {
                Imp::catch_panic_pad_function(
                    parent,
                    || false,
                    |this| this.shared.sinkpad.peer_query(query),
                )
            })
            .build();
        Self {
            shared: Arc::new(Shared::new(sinkpad, srcpad, properties::defaults())),
        }
    }
}

impl ObjectImpl for Imp {
    fn properties() -> &'static [glib::ParamSpec] {
        &properties::SPECS
    }

    fn signals() -> &'static [glib::subclass::Signal] {
        static SIGNALS: LazyLock<Vec<glib::subclass::Signal>> =
            LazyLock::new(|| signals::all(emitter));
        &SIGNALS
    }

    fn set_property(&self, _id: usize, value: &glib::Value, pspec: &glib::ParamSpec) {
        if let Some(row) = properties::find(pspec.name()) {
            changes::set(self.obj().upcast_ref(), &self.shared, row, value);
        }
    }

    fn property(&self, _id: usize, pspec: &glib::ParamSpec) -> glib::Value {
        match pspec.name() {
            "caption" => {
                let run = self.shared.run();
                run.and_then(|run| run.state().board.text().map(str::to_owned))
                    .to_value()
            }
            "stats" => {
                let stats = self.shared.stats("application/x-vlmcaption-stats");
                stats.to_value()
            }
            name => {
                let settings = self.shared.settings();
                let value = properties::find(name).and_then(|row| row.get(&settings));
                value.unwrap_or_else(|| pspec.default_value().clone())
            }
        }
    }

    fn constructed(&self) {
        self.parent_constructed();
        let obj = self.obj();
        self.shared.set_element(obj.upcast_ref());
        obj.add_pad(&self.shared.sinkpad)
            .expect("a new element has no pads");
        obj.add_pad(&self.shared.srcpad)
            .expect("a new element has no src pad");
    }
}

impl GstObjectImpl for Imp {}

impl ElementImpl for Imp {
    fn metadata() -> Option<&'static gst::subclass::ElementMetadata> {
        static METADATA: LazyLock<gst::subclass::ElementMetadata> = LazyLock::new(|| {
            gst::subclass::ElementMetadata::new(
                "VLM caption",
                "Filter/Analyzer/Video",
                "Tells what a camera sees, with a vision-language model; video passes untouched",
                "vlmcaption maintainers",
            )
        });
        Some(&METADATA)
    }

    fn pad_templates() -> &'static [gst::PadTemplate] {
        static TEMPLATES: LazyLock<Vec<gst::PadTemplate>> = LazyLock::new(|| {
            let video = gst::Caps::builder("video/x-raw").any_features().build();
            let template = |name, direction, presence, caps: &gst::Caps| {
                gst::PadTemplate::new(name, direction, presence, caps)
                    .expect("the names and caps are well-formed")
            };
            use gst::{PadDirection::*, PadPresence::*};
            vec![
                template("sink", Sink, Always, &video),
                template("src", Src, Always, &video),
                template("text_src", Src, Request, &text_caps()),
            ]
        });
        &TEMPLATES
    }

    fn change_state(
        &self,
        transition: gst::StateChange,
    ) -> Result<gst::StateChangeSuccess, gst::StateChangeError> {
        let obj = self.obj();
        let lifecycle = Lifecycle {
            element: obj.upcast_ref(),
            shared: &self.shared,
        };
        match transition {
            gst::StateChange::NullToReady => lifecycle.open()?,
            gst::StateChange::ReadyToPaused => {
                lifecycle.start().inspect_err(|_| lifecycle.stop())?;
            }
            gst::StateChange::PausedToReady => lifecycle.interrupt(),
            _ => {}
        }
        let changed = self.parent_change_state(transition);
        match (transition, &changed) {
            // After a failed start GStreamer changes no state back, so it is stopped here.
            (gst::StateChange::PausedToReady, _) | (gst::StateChange::ReadyToPaused, Err(_)) => {
                lifecycle.stop();
            }
            (gst::StateChange::ReadyToNull, _) | (gst::StateChange::NullToReady, Err(_)) => {
                lifecycle.close();
            }
            _ => {}
        }
        changed
    }

    fn request_new_pad(
        &self,
        template: &gst::PadTemplate,
        _name: Option<&str>,
        _caps: Option<&gst::Caps>,
    ) -> Option<gst::Pad> {
        let mut life = self.shared.life();
        if life.textpad.is_some() {
            gst::error!(
                CAT,
                imp = self,
                "there is one text pad; put a tee behind it"
            );
            return None;
        }
        let (text, read) = (self.shared.text.clone(), self.shared.text.clone());
        let pad = gst::Pad::builder_from_template(template)
            .name("text_src")
            // A pad is active before it has a parent, so this asks no element.
            .activatemode_function(move |pad, _parent, mode, active| match (mode, active) {
                (gst::PadMode::Push, true) => text.open(pad),
                (gst::PadMode::Push, false) => text.close(pad),
                _ => Err(gst::loggable_error!(TEXT, "the text pad only pushes")),
            })
            .event_function(move |_pad, parent, event| match event.type_() {
                gst::EventType::Seek => Imp::catch_panic_pad_function(
                    parent,
                    || false,
                    |this| this.with_flow(|flow| flow.src_event(event)),
                ),
                gst::EventType::Latency => Imp::catch_panic_pad_function(
                    parent,
                    || false,
                    |this| this.with_flow(|flow| flow.src_event(event)),
                ),
                // Another reader of the text is no reason to renegotiate the video.
                gst::EventType::Reconfigure => {
                    read.reconfigure();
                    true
                }
                // QoS of the subtitles, say, is no business of the video's.
                _ => false,
            })
            .build();
        life.textpad = Some(pad.clone());
        drop(life);
        if self.obj().current_state() >= gst::State::Paused && pad.set_active(true).is_err() {
            gst::error!(CAT, imp = self, "cannot activate the text pad");
        }
        if let Err(error) = self.obj().add_pad(&pad) {
            gst::error!(CAT, imp = self, "cannot add the text pad: {error}");
            self.shared.life().textpad = None;
            return None;
        }
        Some(pad)
    }

    fn release_pad(&self, pad: &gst::Pad) {
        if pad.set_active(false).is_err() {
            gst::warning!(CAT, obj = pad, "cannot deactivate");
        }
        self.shared.life().textpad = None;
        if let Err(error) = self.obj().remove_pad(pad) {
            gst::warning!(CAT, obj = pad, "cannot remove: {error}");
        }
    }
}

impl Imp {
    fn with_flow<T>(&self, call: impl FnOnce(&Flow) -> T) -> T {
        call(&Flow::new(self.obj().upcast_ref(), &self.shared))
    }
}

/// The element that a signal was emitted by, and what its threads share.
fn emitter(values: &[glib::Value]) -> Option<(gst::Element, Arc<Shared>)> {
    let element = values.first()?.get::<VlmCaption>().ok()?;
    let shared = element.imp().shared.clone();
    Some((element.upcast(), shared))
}
