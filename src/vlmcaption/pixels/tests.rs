// SPDX-License-Identifier: MPL-2.0

//! Every raw format, interlace mode and layout. Buffers end where their last pixel does, so that
//! `tests/valgrind.sh` sees each byte that is read beyond.

use gst_video::prelude::*;
use gst_video::{VideoCropMeta, VideoFrameFlags};
use proptest::prelude::*;

use super::*;

/// The picture is four areas of these greys, light and dark.
const GREYS: [[u8; 2]; 2] = [[40, 210], [130, 250]];
/// What formats of few bits make of a grey: the palette of RGB8P has six steps.
const TOLERANCE: u8 = 45;

const MODES: [VideoInterlaceMode; 5] = [
    VideoInterlaceMode::Progressive,
    VideoInterlaceMode::Interleaved,
    VideoInterlaceMode::Mixed,
    VideoInterlaceMode::Fields,
    VideoInterlaceMode::Alternate,
];

/// GStreamer and no patience with what it calls critical.
fn init() {
    gst::init().unwrap();
    glib::log_set_always_fatal(glib::LogLevels::LEVEL_ERROR | glib::LogLevels::LEVEL_CRITICAL);
}

fn has_fields(mode: VideoInterlaceMode) -> bool {
    matches!(
        mode,
        VideoInterlaceMode::Fields | VideoInterlaceMode::Alternate
    )
}

fn info(format: VideoFormat, (width, height): (u32, u32), mode: VideoInterlaceMode) -> VideoInfo {
    let info = VideoInfo::builder(format, width, height).interlace_mode(mode);
    info.build().unwrap()
}

/// What a buffer of the stream holds: the frame, or a field as if it were a frame.
fn held(format: VideoFormat, (width, height): (u32, u32), mode: VideoInterlaceMode) -> VideoInfo {
    if has_fields(mode) {
        let field = (width, height.div_ceil(2));
        return info(format, field, VideoInterlaceMode::Progressive);
    }
    info(format, (width, height), mode)
}

/// The picture in a format, in its default layout.
fn drawn(to: &VideoInfo) -> VideoFrame<gst_video::video_frame::Readable> {
    let from = info(
        VideoFormat::Rgb,
        (to.width(), to.height()),
        to.interlace_mode(),
    );
    // The converter that makes the picture reads and writes past the end, too.
    let room = |info: &VideoInfo| gst::Buffer::from_mut_slice(vec![0; 2 * info.size() + 65536]);
    let mut rgb = VideoFrame::from_buffer_writable(room(&from), &from).unwrap();
    let stride = from.stride()[0] as usize;
    let (width, height) = (from.width() as usize, from.height() as usize);
    for (y, row) in rgb
        .plane_data_mut(0)
        .unwrap()
        .chunks_mut(stride)
        .enumerate()
    {
        for (x, pixel) in row[..width * 3].chunks_mut(3).enumerate() {
            pixel.fill(GREYS[usize::from(y >= height / 2)][usize::from(x >= width / 2)]);
        }
    }
    let mut frame = VideoFrame::from_buffer_writable(room(to), to).unwrap();
    VideoConverter::new(&from, to, None).unwrap().frame_ref(
        &rgb.as_video_frame_ref(),
        &mut frame.as_mut_video_frame_ref(),
    );
    VideoFrame::from_buffer_readable(frame.into_buffer(), to).unwrap()
}

/// How a frame lies in a buffer.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Lies {
    /// As the format has it, without a meta.
    Default,
    /// Rows and planes with bytes of this value between them, in one memory.
    Padded(u8),
    /// Each plane in a memory of its own.
    Apart,
    /// From the lowest row up.
    Upwards,
}

impl Lies {
    fn stride(self, info: &VideoInfo, plane: usize) -> i32 {
        let stride = info.stride()[plane];
        let format = info.format_info();
        match self {
            _ if format.is_tiled() || (format.has_palette() && plane == 1) => stride,
            Lies::Padded(_) => stride + 32,
            Lies::Upwards => -stride,
            Lies::Default | Lies::Apart => stride,
        }
    }
}

/// Memory that ends where the bytes do.
fn memory(bytes: Vec<u8>) -> gst::Memory {
    gst::Memory::from_mut_slice(bytes.into_boxed_slice())
}

/// The frame in a buffer of that layout, the last `missing` bytes cut off.
fn laid(
    frame: &VideoFrame<gst_video::video_frame::Readable>,
    lies: Lies,
    missing: usize,
) -> gst::Buffer {
    let info = frame.info();
    let mut buffer = gst::Buffer::new();
    let edit = buffer.get_mut().unwrap();
    let source = frame.buffer().map_readable().unwrap();
    if lies == Lies::Default {
        let bytes = source[..info.size() - missing].to_vec();
        edit.append_memory(memory(bytes));
        return buffer;
    }
    let poison = match lies {
        Lies::Padded(poison) => poison,
        _ => 0,
    };
    let (mut offsets, mut strides) = (Vec::new(), Vec::new());
    let (mut bytes, mut before) = (Vec::new(), 0);
    for plane in 0..info.n_planes() as usize {
        if let Lies::Padded(poison) = lies {
            bytes.resize(bytes.len() + 64, poison);
        }
        let stride = lies.stride(info, plane);
        let (first, copied) = copy(&source[info.offset()[plane]..], info, plane, stride, poison);
        offsets.push(before + bytes.len() + first);
        strides.push(stride);
        bytes.extend(copied);
        let is_last = plane + 1 == info.n_planes() as usize;
        if is_last {
            bytes.truncate(bytes.len() - missing);
        }
        if is_last || lies == Lies::Apart {
            before += bytes.len();
            edit.append_memory(memory(std::mem::take(&mut bytes)));
        }
    }
    let (width, height) = (info.width(), info.height());
    let flags = VideoFrameFlags::empty();
    gst_video::VideoMeta::add_full(
        edit,
        flags,
        info.format(),
        width,
        height,
        &offsets,
        &strides,
    )
    .unwrap();
    buffer
}

/// Where a plane's first row begins, and the plane with another stride.
fn copy(from: &[u8], info: &VideoInfo, plane: usize, stride: i32, poison: u8) -> (usize, Vec<u8>) {
    let (row, rows) = match layout::plane(info, plane, stride).unwrap() {
        layout::Plane::Block { bytes } => return (0, from[..bytes].to_vec()),
        layout::Plane::Rows { row, rows } => (row, rows),
    };
    let (own, step) = (
        info.stride()[plane] as usize,
        stride.unsigned_abs() as usize,
    );
    let mut to = vec![poison; step * (rows - 1) + row];
    for y in 0..rows {
        let at = if stride < 0 { rows - 1 - y } else { y } * step;
        to[at..at + row].copy_from_slice(&from[y * own..][..row]);
    }
    (if stride < 0 { (rows - 1) * step } else { 0 }, to)
}

fn read(buffer: &gst::Buffer, info: &VideoInfo) -> Result<RgbImage, String> {
    let caps = info.to_caps().unwrap();
    let picture = Arc::new(Reader::default()).read(buffer, &caps)?;
    Ok(picture.image)
}

/// The greys in the middle of the four areas.
fn middles(image: &RgbImage) -> [[u8; 2]; 2] {
    let at = |x: usize, y: usize| image.pixels[(y * image.width + x) * 3];
    let (xs, ys) = (
        [1, 3].map(|n| image.width * n / 4),
        [1, 3].map(|n| image.height * n / 4),
    );
    ys.map(|y| xs.map(|x| at(x, y)))
}

fn formats() -> impl Iterator<Item = VideoFormat> {
    VideoFormat::iter_raw()
}

/// Whether GStreamer's own converter, which makes the pictures, says twice the same of a frame. That
/// of 1.26 (by `videoconvert`, there and back) gives MediaTek's tiles of 10 bits other colours when
/// they are interlaced, and other pixels from run to run where the last tile is not filled.
fn is_steady(format: VideoFormat, (width, height): (u32, u32), mode: VideoInterlaceMode) -> bool {
    if !["MT2110T", "MT2110R"].contains(&format.to_str().as_str()) {
        return true;
    }
    let rows = held(format, (width, height), mode).height();
    let fills_tiles = width.is_multiple_of(16) && rows.is_multiple_of(32);
    fills_tiles && (mode == VideoInterlaceMode::Progressive || has_fields(mode))
}

#[test]
fn frames_of_every_format_mode_and_layout_show_their_picture() {
    init();
    let layouts = [Lies::Default, Lies::Padded(0), Lies::Apart];
    for format in formats() {
        for mode in MODES {
            for size in [(1, 1), (2, 3), (35, 17), (64, 64), (97, 50)] {
                if !is_steady(format, size, mode) {
                    continue;
                }
                let frame = drawn(&held(format, size, mode));
                for lies in layouts {
                    if mode == VideoInterlaceMode::Fields && lies == Lies::Default {
                        continue;
                    }
                    let what = format!("{format} {mode:?} {size:?} {lies:?}");
                    let image = read(&laid(&frame, lies, 0), &info(format, size, mode));
                    let image = image.unwrap_or_else(|reason| panic!("{what}: {reason}"));
                    assert_eq!(
                        (image.width, image.height),
                        (size.0 as usize, size.1 as usize)
                    );
                    assert_eq!(image.pixels.len(), image.width * image.height * 3);
                    if size.0 > 8 {
                        let near = |got: u8, want: u8| got.abs_diff(want) <= TOLERANCE;
                        let got = middles(&image);
                        let all = got.iter().flatten().zip(GREYS.iter().flatten());
                        assert!(
                            all.clone().all(|(got, want)| near(*got, *want)),
                            "{what}: {got:?}"
                        );
                    }
                }
            }
        }
    }
}

#[test]
fn nothing_of_the_padding_is_shown() {
    init();
    for format in formats() {
        for mode in MODES {
            for size in [(1, 1), (35, 17), (64, 46), (64, 64)] {
                if !is_steady(format, size, mode) {
                    continue;
                }
                let frame = drawn(&held(format, size, mode));
                let shown = |poison| {
                    let buffer = laid(&frame, Lies::Padded(poison), 0);
                    read(&buffer, &info(format, size, mode)).unwrap().pixels
                };
                assert!(shown(0) == shown(255), "{format} {mode:?} {size:?}");
            }
        }
    }
}

#[test]
fn a_buffer_that_lacks_one_byte_is_refused_in_words() {
    init();
    for format in formats() {
        for mode in MODES {
            let size = (35, 17);
            let frame = drawn(&held(format, size, mode));
            for lies in [Lies::Default, Lies::Padded(0), Lies::Apart] {
                let refused = read(&laid(&frame, lies, 1), &info(format, size, mode));
                let reason = refused.expect_err(format.to_str());
                assert!(reason.contains("before vlmcaption"), "{reason}");
                assert!(reason.contains(format.to_str().as_str()), "{reason}");
            }
            let nothing = gst::Buffer::new();
            assert!(read(&nothing, &info(format, size, mode)).is_err());
        }
    }
}

#[test]
fn rows_may_lie_from_the_lowest_up() {
    init();
    for format in [VideoFormat::Gray8, VideoFormat::Bgrx, VideoFormat::I420] {
        let mode = VideoInterlaceMode::Progressive;
        for size in [(64, 48), (36, 17)] {
            let frame = drawn(&held(format, size, mode));
            let straight = read(&laid(&frame, Lies::Default, 0), &info(format, size, mode));
            let upwards = read(&laid(&frame, Lies::Upwards, 0), &info(format, size, mode));
            assert!(upwards.unwrap() == straight.unwrap(), "{format} {size:?}");
        }
    }
}

#[test]
fn a_format_that_is_no_picture_is_refused_in_words() {
    init();
    for format in ["ENCODED", "DMA_DRM", "NONSENSE"] {
        let caps: gst::Caps = format!("video/x-raw,format={format},width=64,height=48")
            .parse()
            .unwrap();
        let buffer = gst::Buffer::with_size(64 * 48 * 4).unwrap();
        let refused = Arc::new(Reader::default())
            .read(&buffer, &caps)
            .unwrap_err();
        assert!(refused.contains("before vlmcaption"), "{refused}");
    }
}

#[test]
fn a_meta_that_contradicts_the_caps_is_refused_in_words() {
    init();
    let grey = info(
        VideoFormat::Gray8,
        (64, 48),
        VideoInterlaceMode::Progressive,
    );
    let refused = |format, width, height, offset: usize, stride: i32| {
        let mut buffer = gst::Buffer::with_size(64 * 48).unwrap();
        let edit = buffer.get_mut().unwrap();
        let flags = VideoFrameFlags::empty();
        gst_video::VideoMeta::add_full(edit, flags, format, width, height, &[offset], &[stride])
            .unwrap();
        read(&buffer, &grey).unwrap_err()
    };
    let grey8 = VideoFormat::Gray8;
    assert!(refused(VideoFormat::Gray16Le, 64, 48, 0, 128).contains("GRAY16_LE 64x48 where GRAY8"));
    assert!(refused(grey8, 63, 48, 0, 64).contains("63x48"));
    assert!(refused(grey8, 64, 47, 0, 64).contains("64x47"));
    for (offset, stride) in [
        (1, 64),
        (usize::MAX, 64),
        (0, 65),
        (0, i32::MAX),
        (0, 0),
        (0, -64),
    ] {
        let reason = refused(grey8, 64, 48, offset, stride);
        assert!(reason.contains("does not hold plane 0"), "{reason}");
    }
}

#[test]
fn a_crop_shows_what_it_leaves_whatever_the_mode() {
    init();
    let (format, size) = (VideoFormat::Nv12, (64, 48));
    for mode in MODES {
        let frame = drawn(&held(format, size, mode));
        let whole = read(&laid(&frame, Lies::Apart, 0), &info(format, size, mode)).unwrap();
        // A crop's size is in the caps, the frame's in the meta, that of a field's frame too.
        let mut buffer = frame.buffer().copy();
        let edit = buffer.get_mut().unwrap();
        let (offsets, strides) = (frame.info().offset(), frame.info().stride());
        let flags = VideoFrameFlags::empty();
        gst_video::VideoMeta::add_full(edit, flags, format, 64, 48, offsets, strides).unwrap();
        VideoCropMeta::add(edit, (33, 25, 20, 20));
        let image = read(&buffer, &info(format, (20, 20), mode)).unwrap();
        assert_eq!((image.width, image.height), (20, 20));
        for y in 0..20 {
            let from = ((25 + y) * 64 + 33) * 3;
            assert!(
                image.pixels[y * 60..][..60] == whole.pixels[from..][..60],
                "{mode:?} {y}"
            );
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    /// Whatever a meta says: a picture of the size that is seen, or words.
    #[test]
    fn no_meta_makes_a_frame_be_read_past_its_end(
        format in 0usize..200,
        mode in 0usize..MODES.len(),
        (width, height) in (1u32..40, 1u32..40),
        (more_width, more_height) in (0u32..9, 0u32..9),
        memories in proptest::collection::vec(0usize..3000, 1..4),
        offsets in proptest::collection::vec(0usize..4000, 4),
        strides in proptest::collection::vec(-80i32..200, 4),
        id in 0i32..2,
        crop in proptest::option::of((0u32..50, 0u32..50, 0u32..50, 0u32..50)),
    ) {
        init();
        let formats: Vec<VideoFormat> = formats().collect();
        let (format, mode) = (formats[format % formats.len()], MODES[mode]);
        let mut buffer = gst::Buffer::new();
        let edit = buffer.get_mut().unwrap();
        for size in memories {
            edit.append_memory(memory(vec![7; size]));
        }
        let planes = gst_video::VideoFormatInfo::from_format(format).n_planes() as usize;
        let size = (width + more_width, height + more_height);
        let flags = VideoFrameFlags::empty();
        if id == 0 {
            gst_video::VideoMeta::add_full(
                edit, flags, format, size.0, size.1, &offsets[..planes], &strides[..planes],
            ).unwrap();
        }
        if let Some(crop) = crop {
            VideoCropMeta::add(edit, crop);
        }
        match read(&buffer, &info(format, (width, height), mode)) {
            Ok(image) => {
                prop_assert_eq!(image.pixels.len(), image.width * image.height * 3);
                prop_assert!(crop.is_some() || (image.width, image.height) == (width as usize, height as usize));
            }
            Err(reason) => prop_assert!(reason.contains("vlmcaption"), "{}", reason),
        }
    }
}
