// SPDX-License-Identifier: MPL-2.0

//! Builds a camera's pipeline, element by element: nothing that a user writes is ever parsed as one.
//!
//! ```text
//! rtspsrc ─ depay ─ parse ─ tee ─┬─ appsink: the ring
//!                               └─┤keyframes?├─ queue ─ decodebin ─┐
//!                                              videotestsrc ───────┴─ vlmcaption ─ queue ─┤one a second├─
//!   videoconvert ─ videoscale ─ 640 wide ─┤masks painted├─ tee ─┬─ jpegenc ─ appsink: stills
//!                                                               └─ 320 wide ─ jpegenc ─ appsink: thumbs
//! ```

use std::collections::VecDeque;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use gst::prelude::*;
use gst_video::VideoFrameExt;

use crate::config::file::{Mask, Model};
use crate::config::url::Place;
use crate::config::{CAPTION, Camera};
use crate::time::Millis;
use crate::video::format::Codec;
use crate::video::ring::Ring;

use super::elements::{make, says};
use super::gop::Gop;
use super::paint::{self, Plane};
use super::tap;

/// The element's name in the pipeline.
pub const CAPTIONER: &str = "captioner";

/// The width of stills and of thumbnails.
const STILL: i32 = 640;
const THUMB: i32 = 320;
/// Thumbnails that are remembered for captions that are yet to come.
const MOST_THUMBS: usize = 90;
/// Thumbnails this much older than a caption belong to none after it.
const BEFORE: gst::ClockTime = gst::ClockTime::from_seconds(5);
/// Pictures are taken this far apart.
const APART: gst::ClockTime = gst::ClockTime::from_mseconds(950);

/// What a probe says of a buffer that does not pass. The bindings have freed it by then, which the answer
/// "drop" does not tell GStreamer before 1.24: it complains of each.
const GONE: gst::PadProbeReturn = gst::PadProbeReturn::Handled;

/// The latest picture.
#[derive(Debug, Clone)]
pub struct Still {
    pub jpeg: Arc<[u8]>,
    pub at: Millis,
}

/// What the pipeline's threads and the session share.
#[derive(Debug)]
pub struct Shared {
    /// Frames that came, decoded or not.
    pub units: AtomicU64,
    pub gop: Mutex<Gop>,
    /// What the camera sends, in words.
    pub codec: Mutex<String>,
    /// The size of its picture.
    pub size: Mutex<Option<(u32, u32)>>,
    thumbs: Mutex<VecDeque<(gst::ClockTime, Arc<[u8]>)>>,
    /// Where the video goes as it comes, if people may see it.
    ring: Option<Arc<Ring>>,
    /// What is painted over.
    masks: Mutex<Vec<Mask>>,
}

impl Shared {
    /// Of a pipeline that is yet to be built.
    pub fn new(camera: &Camera, ring: Option<Arc<Ring>>) -> Arc<Self> {
        Arc::new(Self {
            units: AtomicU64::new(0),
            gop: Mutex::new(Gop::new(camera.decode)),
            codec: Mutex::new(String::new()),
            size: Mutex::new(None),
            thumbs: Mutex::new(VecDeque::new()),
            ring,
            masks: Mutex::new(camera.masks.clone()),
        })
    }

    /// These are painted over from now on; pictures from before may show what they hide.
    pub fn set_masks(&self, masks: &[Mask]) {
        *self.masks.lock().unwrap() = masks.to_vec();
        self.thumbs.lock().unwrap().clear();
    }

    /// The thumbnail nearest to a time of the stream; those long before it are forgotten.
    pub fn thumb(&self, pts: gst::ClockTime) -> Option<Arc<[u8]>> {
        let mut thumbs = self.thumbs.lock().unwrap();
        let nearest = thumbs.iter().min_by_key(|(at, _)| at.absdiff(pts))?;
        let nearest = nearest.1.clone();
        thumbs.retain(|(at, _)| *at + BEFORE >= pts);
        Some(nearest)
    }
}

/// Takes each new still.
pub type OnStill = Arc<dyn Fn(Still) + Send + Sync>;

/// Builds the pipeline of a camera; it is not started.
///
/// # Errors
/// A sentence that names what is missing and the package that has it.
pub fn build(
    camera: &Camera,
    model: &Model,
    shared: &Arc<Shared>,
    on_still: OnStill,
) -> Result<gst::Pipeline, String> {
    let pipeline = gst::Pipeline::new();
    let captioner = captioner(camera, model)?;
    let tail = tail(&pipeline, shared, on_still)?;
    pipeline.add(&captioner).map_err(says)?;
    captioner.link(&tail).map_err(says)?;
    let sink = captioner
        .static_pad("sink")
        .ok_or("vlmcaption has no sink pad")?;
    remember_size(&sink, shared);
    match &camera.place {
        Place::Test(pattern) => test_picture(&pipeline, pattern, shared, &captioner)?,
        Place::Rtsp(location) => rtsp(&pipeline, camera, location, shared, &captioner)?,
    }
    Ok(pipeline)
}

/// The element, with all that is asked of this camera.
pub fn captioner(camera: &Camera, model: &Model) -> Result<gst::Element, String> {
    let element = make("vlmcaption")?;
    element.set_property("name", CAPTIONER);
    let set = |name: &str, value: &str| element.set_property_from_str(name, value);
    if let Some(path) = &model.path {
        set("model", &path.to_string_lossy());
    }
    if let Some(path) = &model.config {
        set("config", &path.to_string_lossy());
    }
    for (name, value) in [("backend", &model.backend), ("precision", &model.precision)] {
        if let Some(value) = value {
            choice(&element, name, value)?;
        }
    }
    if let Some(device) = &model.device {
        set("device", device);
    }
    element.set_property("window", camera.window);
    element.set_property("stride", camera.stride);
    element.set_property("emit-partial", true);
    ask(&element, camera);
    Ok(element)
}

/// Sets what is asked of a camera's pictures, which may be changed while it plays.
pub fn ask(element: &gst::Element, camera: &Camera) {
    if let Some(most) = camera.max_tokens {
        element.set_property("max-tokens", most);
    }
    element.set_property("motion-threshold", camera.motion_threshold);
    element.set_property_from_str("heartbeat", &camera.heartbeat.as_nanos().to_string());
    element.set_property("prompt", &camera.prompt);
    // Only what is asked besides captions makes this more than `prompt`.
    let prompts = if camera.alarms.is_empty() {
        gst::Array::new(std::iter::empty::<gst::Structure>())
    } else {
        prompts(camera)
    };
    element.set_property("prompts", prompts);
    let masks = camera.masks.iter().map(|mask| {
        let structure = gst::Structure::builder("mask")
            .field("x", mask.x)
            .field("y", mask.y);
        structure
            .field("width", mask.width)
            .field("height", mask.height)
            .build()
    });
    element.set_property("privacy-masks", gst::Array::new(masks));
}

/// The prompts: the caption's, and a question for each alarm.
fn prompts(camera: &Camera) -> gst::Array {
    let caption = gst::Structure::builder(CAPTION)
        .field("text", &camera.prompt)
        .field("kind", "caption");
    let nanos = |span: &Option<crate::config::units::Span>| {
        span.map_or(0_u64, |span| {
            u64::try_from(span.0.as_nanos()).unwrap_or(u64::MAX)
        })
    };
    let alarms = camera.alarms.iter().map(|alarm| {
        gst::Structure::builder("alarm")
            .field("id", &alarm.id)
            .field("text", &alarm.question)
            .field("kind", "yes-no")
            .field("on", alarm.on)
            .field("off", alarm.off)
            .field("min-duration", nanos(&alarm.min_duration))
            .field("cool-down", nanos(&alarm.cool_down))
            .build()
    });
    gst::Array::new(std::iter::once(caption.build()).chain(alarms))
}

/// Sets a property that is one of a few words; one that is a text the element checks itself, and says
/// what there is when it starts.
fn choice(element: &gst::Element, name: &str, value: &str) -> Result<(), String> {
    let spec = element
        .find_property(name)
        .ok_or_else(|| format!("this vlmcaption has no {name}"))?;
    let class = gst::glib::EnumClass::with_type(spec.value_type());
    if let Some(class) = class
        && class.value_by_nick(value).is_none()
    {
        let known: Vec<&str> = class.values().iter().map(|value| value.nick()).collect();
        return Err(format!(
            "{name} in [model] is `{value}`; known: {}",
            known.join(", ")
        ));
    }
    element.set_property_from_str(name, value);
    Ok(())
}

/// A test picture, 15 frames a second.
fn test_picture(
    pipeline: &gst::Pipeline,
    pattern: &str,
    shared: &Arc<Shared>,
    captioner: &gst::Element,
) -> Result<(), String> {
    let source = make("videotestsrc")?;
    source.set_property("is-live", true);
    choice(&source, "pattern", pattern)
        .map_err(|error| error.replace("pattern in [model]", "the picture after test:"))?;
    let filter = make("capsfilter")?;
    let caps = gst::Caps::builder("video/x-raw")
        .field("width", 640)
        .field("height", 360);
    filter.set_property(
        "caps",
        caps.field("framerate", gst::Fraction::new(15, 1)).build(),
    );
    pipeline.add_many([&source, &filter]).map_err(says)?;
    gst::Element::link_many([&source, &filter, captioner]).map_err(says)?;
    "raw".clone_into(&mut shared.codec.lock().unwrap());
    let pad = filter
        .static_pad("src")
        .ok_or("capsfilter has no src pad")?;
    let counted = shared.clone();
    pad.add_probe(gst::PadProbeType::BUFFER, move |_, _| {
        counted.units.fetch_add(1, Ordering::Relaxed);
        gst::PadProbeReturn::Ok
    });
    Ok(())
}

/// An RTSP camera, over TCP: what UDP loses is a broken picture that a model describes.
fn rtsp(
    pipeline: &gst::Pipeline,
    camera: &Camera,
    location: &str,
    shared: &Arc<Shared>,
    captioner: &gst::Element,
) -> Result<(), String> {
    let source = make("rtspsrc")?;
    source.set_property("location", location);
    source.set_property("latency", 200_u32);
    source.set_property_from_str("protocols", "tcp");
    source.set_property("tcp-timeout", 5_000_000_u64);
    if let Some(user) = &camera.user {
        source.set_property("user-id", user);
    }
    if let Some(password) = &camera.password {
        source.set_property("user-pw", password.expose());
    }
    source.connect("select-stream", false, |values| {
        let caps = values.get(2)?.get::<gst::Caps>().ok()?;
        let video = caps
            .structure(0)
            .and_then(|s| s.get::<String>("media").ok())
            == Some("video".into());
        Some(video.to_value())
    });
    pipeline.add(&source).map_err(says)?;
    let weak = pipeline.downgrade();
    let shared = shared.clone();
    let captioner = captioner.downgrade();
    source.connect_pad_added(move |source, pad| {
        let (Some(pipeline), Some(captioner)) = (weak.upgrade(), captioner.upgrade()) else {
            return;
        };
        if let Err(reason) = attach(&pipeline, pad, &shared, &captioner) {
            gst::element_error!(source, gst::StreamError::WrongType, ("{reason}"));
        }
    });
    Ok(())
}

/// Decodes a stream of the camera and hands it to the captioner.
fn attach(
    pipeline: &gst::Pipeline,
    pad: &gst::Pad,
    shared: &Arc<Shared>,
    captioner: &gst::Element,
) -> Result<(), String> {
    let caps = pad.current_caps().unwrap_or_else(|| pad.query_caps(None));
    let coding = caps
        .structure(0)
        .and_then(|s| s.get::<String>("encoding-name").ok())
        .unwrap_or_default();
    let (name, depay, parse, codec) = match coding.as_str() {
        "H264" => ("H.264", "rtph264depay", "h264parse", Some(Codec::H264)),
        "H265" => ("H.265", "rtph265depay", "h265parse", Some(Codec::H265)),
        "JPEG" => ("JPEG", "rtpjpegdepay", "identity", None),
        other => {
            return Err(format!(
                "the camera sends {other}; H.264, H.265 and JPEG are understood"
            ));
        }
    };
    name.clone_into(&mut shared.codec.lock().unwrap());
    let (depay, parse, tee, queue, decoder) = (
        make(depay)?,
        make(parse)?,
        make("tee")?,
        make("queue")?,
        make("decodebin")?,
    );
    queue.set_property("max-size-buffers", 0_u32);
    queue.set_property("max-size-bytes", 8_u32 << 20);
    queue.set_property("max-size-time", gst::ClockTime::from_seconds(3));
    queue.set_property_from_str("leaky", "downstream");
    let elements = [&depay, &parse, &tee, &queue, &decoder];
    pipeline.add_many(elements).map_err(says)?;
    gst::Element::link_many(elements).map_err(says)?;
    if let (Some(ring), Some(codec)) = (&shared.ring, codec) {
        tap::tap(pipeline, &tee, codec, ring)?;
    }
    let parsed = queue.static_pad("sink").ok_or("queue has no sink pad")?;
    let counted = shared.clone();
    parsed.add_probe(gst::PadProbeType::BUFFER, move |_, info| {
        counted.units.fetch_add(1, Ordering::Relaxed);
        let Some(buffer) = info.buffer() else {
            return gst::PadProbeReturn::Ok;
        };
        let key = !buffer.flags().contains(gst::BufferFlags::DELTA_UNIT);
        let pts = buffer.pts().map(|pts| Duration::from_nanos(pts.nseconds()));
        if counted.gop.lock().unwrap().wants(key, pts) {
            gst::PadProbeReturn::Ok
        } else {
            GONE
        }
    });
    decoder.connect("deep-element-added", false, |values| {
        modest(&values.get(2)?.get::<gst::Element>().ok()?);
        None
    });
    let captioner = captioner.downgrade();
    decoder.connect_pad_added(move |_, pad| {
        let sink = captioner
            .upgrade()
            .and_then(|captioner| captioner.static_pad("sink"));
        // A second stream of the decoder, or a pipeline that ends, is left unlinked.
        if let Some(sink) = sink.filter(|sink| !sink.is_linked()) {
            let _ = pad.link(&sink);
        }
    });
    for element in elements {
        element.sync_state_with_parent().map_err(says)?;
    }
    let sink = depay
        .static_pad("sink")
        .ok_or("the depayloader has no sink pad")?;
    pad.link(&sink)
        .map_err(|error| format!("the camera's stream cannot be linked: {error}"))?;
    Ok(())
}

/// Has a decoder of libav take less: it has a thread and a copy of its state a core otherwise, for a stream
/// that one core decodes many times over.
fn modest(element: &gst::Element) {
    let is_libav = element
        .factory()
        .is_some_and(|factory| factory.name().starts_with("avdec_"));
    if !is_libav {
        return;
    }
    if element.has_property("max-threads") {
        element.set_property("max-threads", 1_i32);
    }
    // Pictures decoded right into GStreamer's buffers are copied all the same, since libav goes on
    // reading them, and both are held.
    if element.has_property("direct-rendering") {
        element.set_property("direct-rendering", false);
    }
}

/// What takes pictures, its first element given.
fn tail(
    pipeline: &gst::Pipeline,
    shared: &Arc<Shared>,
    on_still: OnStill,
) -> Result<gst::Element, String> {
    let queue = small_queue()?;
    let (convert, scale, tee) = (make("videoconvert")?, make("videoscale")?, make("tee")?);
    let filter = scaled_to(STILL)?;
    let elements = [&queue, &convert, &scale, &filter, &tee];
    pipeline.add_many(elements).map_err(says)?;
    gst::Element::link_many(elements).map_err(says)?;
    let source = queue.static_pad("src").ok_or("queue has no src pad")?;
    let last = Mutex::new(None::<gst::ClockTime>);
    source.add_probe(gst::PadProbeType::BUFFER, move |_, info| {
        let pts = info.buffer().and_then(|buffer| buffer.pts());
        let mut last = last.lock().unwrap();
        let near = last
            .zip(pts)
            .is_some_and(|(last, now)| now >= last && now - last < APART);
        if near {
            return GONE;
        }
        *last = pts;
        gst::PadProbeReturn::Ok
    });
    let pad = filter
        .static_pad("src")
        .ok_or("capsfilter has no src pad")?;
    paint_on(&pad, shared.clone());
    let still = branch(pipeline, &tee, None)?;
    still.set_callbacks(jpegs(move |_, jpeg| {
        on_still(Still {
            jpeg,
            at: Millis::now(),
        })
    }));
    let thumb = branch(pipeline, &tee, Some(scaled_to(THUMB)?))?;
    let shared = shared.clone();
    thumb.set_callbacks(jpegs(move |pts, jpeg| {
        let mut thumbs = shared.thumbs.lock().unwrap();
        thumbs.push_back((pts, jpeg));
        if thumbs.len() > MOST_THUMBS {
            thumbs.pop_front();
        }
    }));
    Ok(queue)
}

/// A branch of the tee that ends in JPEGs.
fn branch(
    pipeline: &gst::Pipeline,
    tee: &gst::Element,
    smaller: Option<gst::Element>,
) -> Result<gst_app::AppSink, String> {
    let encoder = make("jpegenc")?;
    encoder.set_property("quality", 75_i32);
    let sink = gst_app::AppSink::builder()
        .sync(false)
        .async_(false)
        .enable_last_sample(false)
        .max_buffers(1)
        .drop(true)
        .build();
    pipeline
        .add_many([&encoder, sink.upcast_ref()])
        .map_err(says)?;
    match smaller {
        Some(filter) => {
            let scale = make("videoscale")?;
            pipeline.add_many([&scale, &filter]).map_err(says)?;
            gst::Element::link_many([tee, &scale, &filter, &encoder, sink.upcast_ref()])
                .map_err(says)?;
        }
        None => gst::Element::link_many([tee, &encoder, sink.upcast_ref()]).map_err(says)?,
    }
    Ok(sink)
}

/// Hands on each JPEG with its time.
fn jpegs(each: impl Fn(gst::ClockTime, Arc<[u8]>) + Send + 'static) -> gst_app::AppSinkCallbacks {
    let take = move |sink: &gst_app::AppSink| {
        let sample = sink.pull_sample().map_err(|_| gst::FlowError::Eos)?;
        let buffer = sample.buffer().ok_or(gst::FlowError::Error)?;
        let map = buffer.map_readable().map_err(|_| gst::FlowError::Error)?;
        each(buffer.pts().unwrap_or_default(), map.as_slice().into());
        Ok(gst::FlowSuccess::Ok)
    };
    gst_app::AppSinkCallbacks::builder()
        .new_sample(take)
        .build()
}

/// A queue that holds one picture and forgets the older one.
fn small_queue() -> Result<gst::Element, String> {
    let queue = make("queue")?;
    queue.set_property("max-size-buffers", 1_u32);
    queue.set_property("max-size-bytes", 0_u32);
    queue.set_property("max-size-time", gst::ClockTime::ZERO);
    queue.set_property_from_str("leaky", "downstream");
    Ok(queue)
}

/// Square pixels, this wide, in the shape of the picture.
fn scaled_to(width: i32) -> Result<gst::Element, String> {
    let filter = make("capsfilter")?;
    let caps = gst::Caps::builder("video/x-raw")
        .field("format", "I420")
        .field("width", width);
    let caps = caps
        .field("pixel-aspect-ratio", gst::Fraction::new(1, 1))
        .build();
    filter.set_property("caps", caps);
    Ok(filter)
}

/// Paints the masks on all that passes a pad; what cannot be painted does not pass.
fn paint_on(pad: &gst::Pad, shared: Arc<Shared>) {
    pad.add_probe(gst::PadProbeType::BUFFER, move |pad, info| {
        let masks = shared.masks.lock().unwrap().clone();
        if masks.is_empty() {
            return gst::PadProbeReturn::Ok;
        }
        let native = shared
            .size
            .lock()
            .unwrap()
            .map_or(STILL as u32, |size| size.0);
        let painted = info.buffer_mut().and_then(|buffer| {
            let caps = pad.current_caps()?;
            let video = gst_video::VideoInfo::from_caps(&caps).ok()?;
            let mut frame =
                gst_video::VideoFrameRef::from_buffer_ref_writable(buffer.make_mut(), &video)
                    .ok()?;
            paint_frame(&mut frame, &masks, native)
        });
        if painted.is_some() {
            gst::PadProbeReturn::Ok
        } else {
            GONE
        }
    });
}

fn paint_frame(
    frame: &mut gst_video::VideoFrameRef<&mut gst::BufferRef>,
    masks: &[Mask],
    native: u32,
) -> Option<()> {
    let full = (frame.width() as usize, frame.height() as usize);
    // 8 pixels of the camera's own picture, as the element has it, and at least 8 of this one.
    let margin = (8 * full.0).div_ceil(native.max(1) as usize).max(8);
    for n in 0..frame.n_planes() {
        let stride = usize::try_from(*frame.plane_stride().get(n as usize)?).ok()?;
        let (width, height) = (frame.comp_width(n) as usize, frame.comp_height(n) as usize);
        let bytes = frame.plane_data_mut(n).ok()?;
        paint::paint(
            &mut Plane {
                bytes,
                stride,
                width,
                height,
            },
            full,
            masks,
            margin,
        );
    }
    Some(())
}

/// Remembers how large the camera's picture is.
fn remember_size(pad: &gst::Pad, shared: &Arc<Shared>) {
    let shared = shared.clone();
    pad.add_probe(gst::PadProbeType::EVENT_DOWNSTREAM, move |_, info| {
        if let Some(gst::EventView::Caps(caps)) = info.event().map(|event| event.view())
            && let Ok(video) = gst_video::VideoInfo::from_caps(caps.caps())
        {
            *shared.size.lock().unwrap() = Some((video.width(), video.height()));
        }
        gst::PadProbeReturn::Ok
    });
}
