// SPDX-License-Identifier: MPL-2.0

//! `GstAnalyticsRelationMeta`, which GStreamer has from 1.24 on: found while the plugin runs, so that one
//! plugin serves older ones too.

#![expect(
    unsafe_code,
    reason = "functions of C that are looked up while the plugin runs"
)]

use std::ffi::c_void;
use std::ptr;
use std::sync::LazyLock;

use glib::translate::{FromGlib, IntoGlib, TryFromGlib};
use libloading::os::unix::Library;

use super::log::CAT;

/// The library of all GStreamers from 1.24 on.
const LIBRARY: &str = "libgstanalytics-1.0.so.0";
/// What its metas are registered as. While it is not, no buffer has one.
const META_API: &str = "GstAnalyticsRelationMetaAPI";

/// A rectangle in pixels: left, top, width, height. It may reach out of the frame.
pub(super) type Location = (i32, i32, i32, i32);

/// A word out of a closed set, as a `GstAnalyticsClsMtd` says it.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Class {
    /// Words live as long as the process: never what a model wrote.
    pub word: glib::Quark,
    /// From 0 to 1.
    pub confidence: f32,
}

/// `GstAnalyticsRelationMeta`, whose fields are its library's alone.
#[repr(C)]
struct RelationMeta {
    _opaque: [u8; 0],
}

/// `GstAnalyticsMtd`
#[repr(C)]
struct Mtd {
    id: u32,
    meta: *mut RelationMeta,
}

/// `GstAnalyticsMtdType`
type MtdType = usize;

/// The functions that are called here, each by the name of its field.
struct Api {
    gst_buffer_get_analytics_relation_meta:
        unsafe extern "C" fn(*mut gst::ffi::GstBuffer) -> *mut RelationMeta,
    gst_buffer_add_analytics_relation_meta:
        unsafe extern "C" fn(*mut gst::ffi::GstBuffer) -> *mut RelationMeta,
    gst_analytics_relation_meta_iterate: unsafe extern "C" fn(
        *mut RelationMeta,
        *mut *mut c_void,
        MtdType,
        *mut Mtd,
    ) -> glib::ffi::gboolean,
    gst_analytics_od_mtd_get_mtd_type: unsafe extern "C" fn() -> MtdType,
    gst_analytics_od_mtd_get_obj_type: unsafe extern "C" fn(*const Mtd) -> glib::ffi::GQuark,
    gst_analytics_od_mtd_get_location: unsafe extern "C" fn(
        *const Mtd,
        *mut i32,
        *mut i32,
        *mut i32,
        *mut i32,
        *mut f32,
    ) -> glib::ffi::gboolean,
    gst_analytics_relation_meta_add_one_cls_mtd: unsafe extern "C" fn(
        *mut RelationMeta,
        f32,
        glib::ffi::GQuark,
        *mut Mtd,
    ) -> glib::ffi::gboolean,
}

/// Opened once, and never closed: a type that is registered stays.
static API: LazyLock<Option<Api>> = LazyLock::new(|| match Api::open() {
    Ok(api) => Some(api),
    Err(error) => {
        gst::info!(CAT, "no metas of GStreamer's analytics here: {error}");
        None
    }
});

impl Api {
    fn open() -> Result<Self, libloading::Error> {
        // SAFETY: a library of GStreamer itself, which registers types and does nothing else.
        let library = unsafe { Library::new(LIBRARY)? };
        macro_rules! functions {
            ($($name:ident),* $(,)?) => {
                // SAFETY: the types above are those of the library's headers, which GStreamer keeps as
                // they are while the library has this name.
                Self { $($name: unsafe { *library.get(stringify!($name).as_bytes())? }),* }
            };
        }
        let api = functions!(
            gst_buffer_get_analytics_relation_meta,
            gst_buffer_add_analytics_relation_meta,
            gst_analytics_relation_meta_iterate,
            gst_analytics_od_mtd_get_mtd_type,
            gst_analytics_od_mtd_get_obj_type,
            gst_analytics_od_mtd_get_location,
            gst_analytics_relation_meta_add_one_cls_mtd,
        );
        std::mem::forget(library);
        Ok(api)
    }

    /// `gst_buffer_get_analytics_relation_meta`; null if there is none.
    fn meta(&self, buffer: &gst::BufferRef) -> *mut RelationMeta {
        // SAFETY: it looks for a meta and changes nothing, whatever its type says.
        unsafe { (self.gst_buffer_get_analytics_relation_meta)(buffer.as_ptr().cast_mut()) }
    }

    /// Whether a detection in `meta` is `wanted`.
    fn any(&self, meta: *mut RelationMeta, mut wanted: impl FnMut(&str, Location) -> bool) -> bool {
        let mut state = ptr::null_mut();
        let mut mtd = Mtd {
            id: 0,
            meta: ptr::null_mut(),
        };
        // SAFETY: the meta lives as long as its buffer, which the caller borrows, and is not changed
        // meanwhile; `state` begins as null and is the library's from then on; places to write to are
        // those of locals.
        unsafe {
            let kind = (self.gst_analytics_od_mtd_get_mtd_type)();
            while bool::from_glib((self.gst_analytics_relation_meta_iterate)(
                meta,
                &raw mut state,
                kind,
                &raw mut mtd,
            )) {
                let (mut x, mut y, mut width, mut height, mut confidence) = (0, 0, 0, 0, 0.0);
                let known = (self.gst_analytics_od_mtd_get_location)(
                    &raw const mtd,
                    &raw mut x,
                    &raw mut y,
                    &raw mut width,
                    &raw mut height,
                    &raw mut confidence,
                );
                // A detector that knows no names says 0.
                let name = (self.gst_analytics_od_mtd_get_obj_type)(&raw const mtd);
                let name = glib::Quark::try_from_glib(name).ok();
                let name = name.map_or("", |name| name.as_str().as_str());
                if bool::from_glib(known) && wanted(name, (x, y, width, height)) {
                    return true;
                }
            }
        }
        false
    }
}

/// Whether a `GstAnalyticsODMtd` on this buffer is `wanted`, which is told its type and where it is.
pub(super) fn any_detection(
    buffer: &gst::BufferRef,
    wanted: impl FnMut(&str, Location) -> bool,
) -> bool {
    if glib::Type::from_name(META_API).is_none() {
        return false;
    }
    let Some(api) = API.as_ref() else {
        return false;
    };
    let meta = api.meta(buffer);
    !meta.is_null() && api.any(meta, wanted)
}

/// Puts a `GstAnalyticsClsMtd` for each class on the buffer, into the meta that it has or a new one;
/// nothing with a GStreamer before 1.24.
pub(super) fn add_classes(buffer: &mut gst::BufferRef, classes: &[Class]) {
    let Some(api) = API.as_ref() else {
        return;
    };
    let mut meta = api.meta(buffer);
    // SAFETY: the buffer is ours to change, so its metas are; the meta is the buffer's, and a place to
    // write to is that of a local.
    unsafe {
        if meta.is_null() {
            meta = (api.gst_buffer_add_analytics_relation_meta)(buffer.as_mut_ptr());
        }
        for class in classes {
            let mut mtd = Mtd { id: 0, meta };
            (api.gst_analytics_relation_meta_add_one_cls_mtd)(
                meta,
                class.confidence,
                class.word.into_glib(),
                &raw mut mtd,
            );
        }
    }
}
