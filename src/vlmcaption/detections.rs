// SPDX-License-Identifier: MPL-2.0

//! What a detector upstream found: `GstVideoRegionOfInterestMeta` on the buffers that pass, and what
//! `GstAnalyticsRelationMeta` says of objects.

use gst_video::VideoRegionOfInterestMeta;

use super::analytics::{self, Location};
use super::view::crop;

/// The label that stands for every label.
const ANY: &str = "*";

/// Which regions of interest count.
#[derive(Debug, Clone, Default)]
pub(super) struct Detections {
    labels: Vec<String>,
    /// Pixels that a region must have.
    min_pixels: f64,
    min_area: f64,
    /// Width and height of the frames, for regions that reach out of them.
    size: (u32, u32),
}

impl Detections {
    /// Counts regions of these labels, `*` being any, that take at least `min_area` of the frame;
    /// an empty list counts no region.
    pub fn configure(&mut self, labels: &[String], min_area: f64) {
        self.labels = labels.to_vec();
        self.min_area = min_area;
        self.set_size(self.size.0, self.size.1);
    }

    /// The size of the frames to come.
    pub fn set_size(&mut self, width: u32, height: u32) {
        self.size = (width, height);
        self.min_pixels = self.min_area * f64::from(width) * f64::from(height);
    }

    /// Whether a region on this buffer counts. Called for every buffer: it compares a few names,
    /// and returns at once without labels.
    pub fn found(&self, buffer: &gst::BufferRef) -> bool {
        let counts = |label: &str, region| self.counts(label, self.seen(buffer, region));
        !self.labels.is_empty()
            && (buffer
                .iter_meta::<VideoRegionOfInterestMeta>()
                .any(|region| counts(region.roi_type(), region.rect()))
                || analytics::any_detection(buffer, |label, at| counts(label, clipped(at))))
    }

    /// A region as the viewer sees it: where a crop is left to the sink, regions are still those of
    /// the whole frame.
    fn seen(&self, buffer: &gst::BufferRef, region: (u32, u32, u32, u32)) -> (u32, u32, u32, u32) {
        let Some((left, top, width, height)) = crop(buffer) else {
            return region;
        };
        let (x, y, across, down) = region;
        let side = |start: u32, length: u32, from: u32, room: u32| {
            let end = start.saturating_add(length).saturating_sub(from).min(room);
            let start = start.saturating_sub(from).min(end);
            (start, end - start)
        };
        let ((x, across), (y, down)) = (side(x, across, left, width), side(y, down, top, height));
        (x, y, across, down)
    }

    fn counts(&self, label: &str, (x, y, width, height): (u32, u32, u32, u32)) -> bool {
        let known = self.labels.iter().any(|want| want == ANY || want == label);
        let inside = |start: u32, length: u32, side: u32| {
            f64::from(start.saturating_add(length).min(side).saturating_sub(start))
        };
        let pixels = inside(x, width, self.size.0) * inside(y, height, self.size.1);
        known && pixels >= self.min_pixels && pixels > 0.0
    }
}

/// The part of a location that is neither left of the frame nor above it.
fn clipped((x, y, width, height): Location) -> (u32, u32, u32, u32) {
    let side = |start: i32, length: i32| {
        let end = u32::try_from(start.saturating_add(length)).unwrap_or(0);
        let start = u32::try_from(start).unwrap_or(0);
        (start, end.saturating_sub(start))
    };
    let ((x, width), (y, height)) = (side(x, width), side(y, height));
    (x, y, width, height)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_left_of_the_frame_or_above_it_is_cut_off() {
        assert_eq!(clipped((10, 20, 30, 40)), (10, 20, 30, 40));
        assert_eq!(clipped((-10, -20, 30, 40)), (0, 0, 20, 20));
        assert_eq!(clipped((-10, 5, 10, -5)), (0, 5, 0, 0));
        assert_eq!(clipped((5, i32::MIN, i32::MAX, i32::MIN)).3, 0);
    }

    fn detections(labels: &[&str], min_area: f64) -> Detections {
        let mut detections = Detections::default();
        detections.set_size(200, 100);
        let labels: Vec<String> = labels.iter().map(|label| (*label).to_owned()).collect();
        detections.configure(&labels, min_area);
        detections
    }

    #[test]
    fn a_label_counts_if_it_is_named_or_all_are() {
        let region = (10, 10, 20, 20);
        assert!(detections(&["car", "person"], 0.0).counts("person", region));
        assert!(!detections(&["car"], 0.0).counts("person", region));
        assert!(detections(&["*"], 0.0).counts("person", region));
    }

    #[test]
    fn the_area_is_that_of_the_region_inside_the_frame() {
        let tenth = detections(&["*"], 0.1);
        assert!(tenth.counts("a", (0, 0, 50, 40)));
        assert!(!tenth.counts("a", (0, 0, 50, 39)));
        assert!(
            !tenth.counts("a", (180, 0, 500, 99)),
            "20 x 99 of it are in the frame"
        );
        assert!(
            !detections(&["*"], 0.0).counts("a", (200, 0, 10, 10)),
            "none of it is"
        );
        assert!(!detections(&["*"], 0.0).counts("a", (u32::MAX, 0, u32::MAX, 10)));
    }

    #[test]
    fn a_region_that_a_crop_takes_away_does_not_count() {
        gst::init().unwrap();
        let any = detections(&["*"], 0.01);
        let found = |region| {
            let mut buffer = gst::Buffer::new();
            let edit = buffer.get_mut().unwrap();
            VideoRegionOfInterestMeta::add(edit, "car", region);
            gst_video::VideoCropMeta::add(edit, (1000, 500, 200, 100));
            any.found(&buffer)
        };
        assert!(found((1180, 580, 50, 50)), "20 x 20 are seen");
        assert!(!found((1190, 590, 50, 50)), "10 x 10 are");
        assert!(!found((10, 10, 50, 50)), "nothing is");
    }

    #[test]
    fn regions_are_read_from_a_buffer() {
        gst::init().unwrap();
        let mut buffer = gst::Buffer::new();
        let person = detections(&["person"], 0.0);
        assert!(!person.found(&buffer));
        let edit = buffer.get_mut().unwrap();
        VideoRegionOfInterestMeta::add(edit, "car", (0, 0, 10, 10));
        assert!(!person.found(&buffer));
        let edit = buffer.get_mut().unwrap();
        VideoRegionOfInterestMeta::add(edit, "person", (0, 0, 10, 10));
        assert!(person.found(&buffer));
        assert!(
            !detections(&[], 0.0).found(&buffer),
            "nothing is looked for"
        );
    }
}
