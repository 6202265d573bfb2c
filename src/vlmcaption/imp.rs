// SPDX-License-Identifier: MPL-2.0

//! The element's body: pads, events, queries, state changes. Decisions live in what it calls.
//!
//! Locks, in this order: `settings`, `captioner`, `stream`, `board`, `origin`; `minder`, `questions` and
//! those of `tally` are leaves. None is held across a push, an event, a query, a message, a signal or a wait.

use std::sync::{Arc, LazyLock, Mutex};
use std::time::{Duration, Instant};

use gst::glib;
use gst::prelude::*;
use gst::subclass::prelude::*;

use super::board::Board;
use super::events::Questions;
use super::inquiries::{self, Inquiries};
use super::minder::Minder;
use super::model::Choice;
use super::output::Origin;
use super::partial::Partials;
use super::pixels::Reader;
use super::properties;
use super::settings::{Plan, Settings};
use super::stats::{Loading, Tally};
use super::stream::Stream;
use super::swap::Fate;
use super::text::{TextOutput, text_caps};
use crate::caption::alarm::Ending;
use crate::caption::captioner::Captioner;
use crate::caption::engine::{Engine, Listener};
use crate::caption::source::Source;

pub(super) static CAT: LazyLock<gst::DebugCategory> = LazyLock::new(|| {
    gst::DebugCategory::new(
        "vlmcaption",
        gst::DebugColorFlags::empty(),
        Some("captions by a vision-language model"),
    )
});

/// The element.
pub struct VlmCaption {
    pub(super) sinkpad: gst::Pad,
    pub(super) srcpad: gst::Pad,
    pub(super) textpad: Mutex<Option<gst::Pad>>,
    pub(super) text: Arc<TextOutput>,
    pub(super) settings: Mutex<Settings>,
    pub(super) model: Mutex<Option<Model>>,
    pub(super) captioner: Mutex<Option<Arc<Captioner>>>,
    pub(super) stream: Mutex<Stream>,
    pub(super) board: Mutex<Board>,
    pub(super) origin: Mutex<Origin>,
    pub(super) reader: Arc<Reader>,
    pub(super) tally: Tally,
    pub(super) questions: Mutex<Questions>,
    pub(super) minder: Mutex<Option<Minder>>,
    /// The last seek that upstream has done.
    pub(super) sought: Mutex<Option<gst::Seqnum>>,
    /// When to go over to another model.
    pub(super) swap_at: Mutex<Option<Instant>>,
    /// The model that is to come.
    pub(super) coming: Mutex<Option<Arc<Fate>>>,
    pub(super) inquiries: Mutex<Inquiries>,
    pub(super) partials: Mutex<Partials>,
}

/// The engine in use and what it was asked for.
pub(super) struct Model {
    pub(super) engine: Arc<Engine>,
    pub(super) source: Source,
    pub(super) choice: Choice,
    /// What its captions say of it; the stream is not in it.
    pub(super) origin: Origin,
}

#[glib::object_subclass]
impl ObjectSubclass for VlmCaption {
    const NAME: &'static str = "GstVlmCaption";
    type Type = super::VlmCaption;
    type ParentType = gst::Element;

    fn with_class(klass: &Self::Class) -> Self {
        let template = |name| {
            klass
                .pad_template(name)
                .expect("installed by pad_templates()")
        };
        let sinkpad = gst::Pad::builder_from_template(&template("sink"))
            .chain_function(|_pad, parent, buffer| {
                VlmCaption::catch_panic_pad_function(
                    parent,
                    || Err(gst::FlowError::Error),
                    |this| this.sink_chain(buffer),
                )
            })
            .event_full_function(|pad, parent, event| {
                VlmCaption::catch_panic_pad_function(
                    parent,
                    || Err(gst::FlowError::Error),
                    |this| this.sink_event_full(pad, event),
                )
            })
            .query_function(|pad, parent, query| {
                VlmCaption::catch_panic_pad_function(
                    parent,
                    || false,
                    |this| this.sink_query(pad, query),
                )
            })
            .flags(gst::PadFlags::PROXY_CAPS | gst::PadFlags::PROXY_SCHEDULING)
            .build();
        let srcpad = gst::Pad::builder_from_template(&template("src"))
            .event_function(|_pad, parent, event| {
                VlmCaption::catch_panic_pad_function(parent, || false, |this| this.src_event(event))
            })
            .query_function(|_pad, parent, query| {
                VlmCaption::catch_panic_pad_function(
                    parent,
                    || false,
                    |this| this.sinkpad.peer_query(query),
                )
            })
            .build();
        Self {
            sinkpad,
            srcpad,
            textpad: Mutex::new(None),
            text: Arc::default(),
            settings: Mutex::new(properties::defaults()),
            model: Mutex::new(None),
            captioner: Mutex::new(None),
            stream: Mutex::default(),
            board: Mutex::default(),
            origin: Mutex::default(),
            reader: Arc::default(),
            tally: Tally::default(),
            questions: Mutex::default(),
            minder: Mutex::new(None),
            sought: Mutex::default(),
            swap_at: Mutex::new(None),
            coming: Mutex::new(None),
            inquiries: Mutex::default(),
            partials: Mutex::default(),
        }
    }
}

impl ObjectImpl for VlmCaption {
    fn properties() -> &'static [glib::ParamSpec] {
        &properties::SPECS
    }

    fn signals() -> &'static [glib::subclass::Signal] {
        static SIGNALS: LazyLock<Vec<glib::subclass::Signal>> = LazyLock::new(|| {
            // Emitted from the model's thread with the structure of each caption, as posted on the
            // bus: it must return soon.
            let mut signals = vec![
                glib::subclass::Signal::builder("caption")
                    .param_types([gst::Structure::static_type()])
                    .build(),
                // Forgets what was said (history, repeats, what the gates compare with) and what
                // is in flight; the video flows on.
                glib::subclass::Signal::builder("reset")
                    .action()
                    .class_handler(|values| {
                        if let Ok(element) = values[0].get::<super::VlmCaption>() {
                            element.imp().reset();
                        }
                        None
                    })
                    .build(),
            ];
            signals.extend(inquiries::signals());
            signals
        });
        &SIGNALS
    }

    fn set_property(&self, _id: usize, value: &glib::Value, pspec: &glib::ParamSpec) {
        self.change_property(value, pspec);
    }

    fn property(&self, _id: usize, pspec: &glib::ParamSpec) -> glib::Value {
        match pspec.name() {
            "caption" => self.board.lock().unwrap().text().to_value(),
            "stats" => self.stats("application/x-vlmcaption-stats").to_value(),
            name => {
                let settings = self.settings.lock().unwrap();
                let value = properties::find(name).and_then(|row| row.get(&settings));
                value.unwrap_or_else(|| pspec.default_value().clone())
            }
        }
    }

    fn constructed(&self) {
        self.parent_constructed();
        let obj = self.obj();
        obj.add_pad(&self.sinkpad)
            .expect("a new element has no pads");
        obj.add_pad(&self.srcpad)
            .expect("a new element has no src pad");
    }
}

impl GstObjectImpl for VlmCaption {}

impl ElementImpl for VlmCaption {
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
        match transition {
            gst::StateChange::NullToReady => self.open()?,
            gst::StateChange::ReadyToPaused => self.start().inspect_err(|_| self.stop())?,
            gst::StateChange::PausedToReady => {
                // Wakes a streaming thread that waits, so that the pads can be deactivated.
                if let Some(captioner) = self.captioner() {
                    captioner.start_flush();
                }
            }
            _ => {}
        }
        let changed = self.parent_change_state(transition);
        match (transition, &changed) {
            // Nobody stops what did not start.
            (gst::StateChange::PausedToReady, _) | (gst::StateChange::ReadyToPaused, Err(_)) => {
                self.stop();
            }
            (gst::StateChange::ReadyToNull, _) | (gst::StateChange::NullToReady, Err(_)) => {
                let model = self.model.lock().unwrap().take();
                // May join an engine's thread, so no lock is held.
                drop(model);
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
        let mut slot = self.textpad.lock().unwrap();
        if slot.is_some() {
            gst::error!(
                CAT,
                imp = self,
                "there is one text pad; put a tee behind it"
            );
            return None;
        }
        let (text, read) = (self.text.clone(), self.text.clone());
        let pad = gst::Pad::builder_from_template(template)
            .name("text_src")
            // A pad is active before it has a parent, so this asks no element.
            .activatemode_function(move |pad, _parent, mode, active| match (mode, active) {
                (gst::PadMode::Push, true) => text.open(pad),
                (gst::PadMode::Push, false) => text.close(pad),
                _ => Err(gst::loggable_error!(CAT, "the text pad only pushes")),
            })
            .event_function(move |_pad, parent, event| match event.type_() {
                gst::EventType::Seek => VlmCaption::catch_panic_pad_function(
                    parent,
                    || false,
                    |this| this.src_event(event),
                ),
                gst::EventType::Latency => VlmCaption::catch_panic_pad_function(
                    parent,
                    || false,
                    |this| this.src_event(event),
                ),
                // The camera has nothing to do with who reads the text.
                gst::EventType::Reconfigure => {
                    read.reconfigure();
                    true
                }
                // QoS of the subtitles, say, is no business of the video's.
                _ => false,
            })
            .build();
        *slot = Some(pad.clone());
        drop(slot);
        if self.obj().current_state() >= gst::State::Paused && pad.set_active(true).is_err() {
            gst::error!(CAT, imp = self, "cannot activate the text pad");
        }
        if let Err(error) = self.obj().add_pad(&pad) {
            gst::error!(CAT, imp = self, "cannot add the text pad: {error}");
            *self.textpad.lock().unwrap() = None;
            return None;
        }
        Some(pad)
    }

    fn release_pad(&self, pad: &gst::Pad) {
        if pad.set_active(false).is_err() {
            gst::warning!(CAT, obj = pad, "cannot deactivate");
        }
        *self.textpad.lock().unwrap() = None;
        if let Err(error) = self.obj().remove_pad(pad) {
            gst::warning!(CAT, obj = pad, "cannot remove: {error}");
        }
    }
}

/// State changes.
impl VlmCaption {
    /// NULL to READY: everything that can be known of the model without reading its weights.
    fn open(&self) -> Result<(), gst::StateChangeError> {
        let plan = self.plan()?;
        let engine = self.acquire(&plan)?;
        for note in engine.notes() {
            gst::element_imp_warning!(self, gst::LibraryError::Settings, ("{note}"));
        }
        if plan.demo {
            const DEMO: &str = "no model is named: the built-in demo model runs. It knows coloured \
                                shapes that move and the patterns of videotestsrc; for anything \
                                else set model=/path/to/a/Qwen3-VL/checkpoint";
            // Twice, since gst-launch-1.0 shows the debug part of an INFO message alone.
            gst::element_imp_info!(self, gst::LibraryError::Settings, ("{DEMO}"), ["{DEMO}"]);
        }
        Ok(())
    }

    /// READY to PAUSED: threads begin to wait for frames.
    fn start(&self) -> Result<(), gst::StateChangeError> {
        let plan = self.plan()?;
        let engine = self.acquire(&plan)?;
        {
            let mut stream = self.stream.lock().unwrap();
            *stream = Stream::new(plan.options.sample_rate, plan.options.window);
            stream.fixed = plan.fixed;
        }
        {
            let mut board = self.board.lock().unwrap();
            board.clear();
            board.begin_timeline(0);
        }
        self.tally.reset();
        self.text.reset();
        let no_thread = |error| {
            gst::element_imp_error!(
                self,
                gst::ResourceError::Failed,
                ("cannot start a thread: {error}")
            );
            gst::StateChangeError
        };
        let listener = self.listener(Origin::new(&engine, &plan.source));
        let captioner = Captioner::start(&engine, plan.options, listener).map_err(no_thread)?;
        self.hand_over(Arc::new(captioner))?;
        let weak = self.obj().downgrade();
        let minder = Minder::start(move || weak.upgrade().map(|element| element.imp().mind()));
        *self.minder.lock().unwrap() = Some(minder.map_err(no_thread)?);
        Ok(())
    }

    /// The captioner is there from now on, with what was set since it was planned.
    fn hand_over(&self, captioner: Arc<Captioner>) -> Result<(), gst::StateChangeError> {
        let live = {
            let settings = self.settings.lock().unwrap();
            *self.captioner.lock().unwrap() = Some(captioner.clone());
            self.heed_detections(&settings);
            let live = settings.live();
            live.map(|(ask, rules)| (self.take_ask(&captioner, ask), rules))
        };
        let (over, rules) = live.map_err(|reason| {
            gst::element_imp_error!(self, gst::LibraryError::Settings, ("{reason}"));
            gst::StateChangeError
        })?;
        captioner.set_rules(rules);
        self.post_events(over, None);
        Ok(())
    }

    /// Does what is due by the clock; time until something is due again.
    fn mind(&self) -> Duration {
        /// What nobody wakes for is looked at this often.
        const ROUND: Duration = Duration::from_millis(500);
        let now = Instant::now();
        self.watch();
        let swap = self.begin_swap(now);
        self.count_text_drops();
        let due = [
            swap,
            self.end_late_inquiries(now),
            self.post_due_partial(now),
            self.post_stats(now),
            self.post_drops(now),
        ];
        due.into_iter().flatten().fold(ROUND, Duration::min)
    }

    /// Something may be due earlier than was known.
    pub(super) fn wake_minder(&self) {
        if let Some(minder) = &*self.minder.lock().unwrap() {
            minder.wake();
        }
    }

    /// PAUSED to READY: forget the stream.
    fn stop(&self) {
        let minder = self.minder.lock().unwrap().take();
        // Each joins its thread, so no lock is held.
        drop(minder);
        let captioner = self.captioner.lock().unwrap().take();
        drop(captioner);
        self.forget_coming();
        self.end_loading(Loading::Over, gst::ProgressType::Canceled);
        self.end_inquiries();
        self.end_events(Ending::Stop);
        *self.partials.lock().unwrap() = Partials::default();
        self.post_last_drops();
        *self.stream.lock().unwrap() = Stream::default();
        self.board.lock().unwrap().clear();
        self.text.reset();
    }

    fn plan(&self) -> Result<Plan, gst::StateChangeError> {
        let stream = self.origin.lock().unwrap().stream_id.clone();
        let plan = self.settings.lock().unwrap().plan(&stream);
        plan.map_err(|reason| {
            gst::element_imp_error!(self, gst::LibraryError::Settings, ("{reason}"));
            gst::StateChangeError
        })
    }

    /// The engine for a plan: the one in use if it still fits.
    fn acquire(&self, plan: &Plan) -> Result<Arc<Engine>, gst::StateChangeError> {
        if let Some(model) = &*self.model.lock().unwrap()
            && model.source == plan.source
        {
            return Ok(model.engine.clone());
        }
        let engine = Engine::acquire(&plan.source).map_err(|error| {
            gst::element_imp_error!(self, gst::ResourceError::NotFound, ("{error}"));
            gst::StateChangeError
        })?;
        self.install(Model {
            engine: engine.clone(),
            source: plan.source.clone(),
            choice: plan.choice.clone(),
            origin: Origin::new(&engine, &plan.source),
        });
        Ok(engine)
    }

    /// Begins anew with the next frame.
    fn reset(&self) {
        gst::info!(CAT, imp = self, "reset");
        if let Some(captioner) = self.captioner() {
            captioner.restart();
        }
        self.end_events(Ending::Reset);
        self.board.lock().unwrap().clear();
    }

    pub(super) fn captioner(&self) -> Option<Arc<Captioner>> {
        self.captioner.lock().unwrap().clone()
    }

    /// What the threads below call; it does not keep the element alive.
    fn listener(&self, origin: Origin) -> Listener {
        let weak = self.obj().downgrade();
        Arc::new(move |report| {
            if let Some(element) = weak.upgrade() {
                element.imp().report(report, &origin);
            }
        })
    }
}
