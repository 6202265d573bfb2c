// SPDX-License-Identifier: MPL-2.0

//! The frame in a buffer, copied to memory with room around it.
//!
//! GStreamer maps a frame by its `GstVideoMeta` without a look at the size of the memory, and its
//! converter reads a little past the end of rows and planes in many formats, at odd sizes above all
//! (1.22, by valgrind). So a frame is looked up within the buffer's bytes, and the converter gets a
//! copy: behind each plane its last rows stand once more, and no memory of others.

use gst_video::{VideoFormatInfo, VideoFrameFlags, VideoInfo, VideoMeta};

/// Bytes of a palette: 256 colours.
const PALETTE: usize = 256 * 4;
/// Bytes behind each row, and rows and bytes behind each plane.
const MORE_BYTES: usize = 64;
const MORE_ROWS: usize = 8;
pub(super) const SLACK: usize = 4096;

/// How a plane lies.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Plane {
    /// Rows of so many bytes.
    Rows { row: usize, rows: usize },
    /// Without rows: tiles, a palette.
    Block { bytes: usize },
}

/// A copy of the frame of `info` that `bytes` hold, where `meta` says or, without one, in the layout
/// that the format has by default. It is to be mapped by its own meta.
///
/// # Errors
/// What is wrong with the buffer, in words.
pub(super) fn copied(
    bytes: &[u8],
    info: &VideoInfo,
    meta: Option<&VideoMeta>,
) -> Result<gst::Buffer, String> {
    let what = || format!("{} {}x{}", info.name(), info.width(), info.height());
    let (offsets, strides) = match meta {
        None if bytes.len() < info.size() => {
            return Err(format!(
                "a buffer of {} bytes is too small for {}, which takes {}",
                bytes.len(),
                what(),
                info.size()
            ));
        }
        None => (info.offset(), info.stride()),
        Some(meta) => {
            contradiction(info, meta).map_or(Ok(()), Err)?;
            (meta.offset(), meta.stride())
        }
    };
    let (mut copy, mut starts, mut steps) = (Vec::new(), Vec::new(), Vec::new());
    for (number, (offset, stride)) in offsets.iter().zip(strides).enumerate() {
        starts.push(copy.len());
        let step = plane(info, number, *stride)
            .and_then(|plane| add(&mut copy, plane, bytes, *offset, *stride, info));
        steps.push(step.ok_or_else(|| {
            format!(
                "a buffer of {} bytes does not hold plane {number} of {} at offset {offset} with \
                 stride {stride}",
                bytes.len(),
                what()
            )
        })?);
    }
    copy.resize(copy.len() + SLACK, 0);
    let mut buffer = gst::Buffer::from_mut_slice(copy);
    let space = buffer.get_mut().ok_or("a new buffer is in use")?;
    let (flags, size) = (VideoFrameFlags::empty(), (info.width(), info.height()));
    VideoMeta::add_full(space, flags, info.format(), size.0, size.1, &starts, &steps)
        .map_err(|error| error.to_string())?;
    Ok(buffer)
}

/// What a meta says that cannot be of a frame of `info`.
fn contradiction(info: &VideoInfo, meta: &VideoMeta) -> Option<String> {
    let what = format!("{} {}x{}", info.name(), info.width(), info.height());
    let (format, width, height) = (meta.format(), meta.width(), meta.height());
    if format != info.format() || width < info.width() || height < info.height() {
        return Some(format!(
            "a buffer's GstVideoMeta says {format} {width}x{height} where {what} is due"
        ));
    }
    (meta.n_planes() != info.n_planes()).then(|| {
        format!(
            "a buffer's GstVideoMeta has {} planes, {what} has {}",
            meta.n_planes(),
            info.n_planes()
        )
    })
}

/// Appends a plane; its stride in the copy, or `None` if `bytes` do not hold it.
fn add(
    copy: &mut Vec<u8>,
    plane: Plane,
    bytes: &[u8],
    offset: usize,
    stride: i32,
    info: &VideoInfo,
) -> Option<i32> {
    let (row, rows) = match plane {
        Plane::Block { bytes: size } => {
            copy.extend_from_slice(bytes.get(offset..offset.checked_add(size)?)?);
            copy.resize(copy.len() + SLACK, 0);
            return Some(stride);
        }
        Plane::Rows { row, rows } => (row, rows),
    };
    let step = (row + MORE_BYTES).next_multiple_of(MORE_BYTES);
    let first = copy.len();
    for y in 0..rows {
        let down = i64::try_from(y).ok()?.checked_mul(i64::from(stride))?;
        let start = usize::try_from(i64::try_from(offset).ok()?.checked_add(down)?).ok()?;
        copy.extend_from_slice(bytes.get(start..start.checked_add(row)?)?);
        copy.resize(first + (y + 1) * step, 0);
    }
    // Behind an interlaced plane each field goes on with its own last row.
    let back = if info.is_interlaced() && rows > 1 {
        2
    } else {
        1
    };
    for _ in 0..MORE_ROWS {
        let start = copy.len() - back * step;
        copy.extend_from_within(start..start + step);
    }
    i32::try_from(step).ok()
}

/// How a plane with this stride lies; `None` if its rows would lie over each other.
pub(super) fn plane(info: &VideoInfo, plane: usize, stride: i32) -> Option<Plane> {
    let format = info.format_info();
    if format.has_palette() && plane == 1 {
        return Some(Plane::Block { bytes: PALETTE });
    }
    if format.is_tiled() {
        return tiled(info, plane, stride);
    }
    let (row, rows) = (row_bytes(info, format, plane), rows(info, format, plane));
    (stride.unsigned_abs() as usize >= row).then_some(Plane::Rows { row, rows })
}

/// Strides of tiled formats count tiles: columns in the lower half, rows in the upper.
fn tiled(info: &VideoInfo, plane: usize, stride: i32) -> Option<Plane> {
    let tiles = |stride: i32| {
        let stride = stride.cast_unsigned();
        ((stride & 0xffff) as usize, (stride >> 16) as usize)
    };
    let (columns, rows) = tiles(stride);
    let (least_columns, least_rows) = tiles(info.stride()[plane]);
    if columns < least_columns || rows < least_rows {
        return None;
    }
    let start = info.offset()[plane];
    let later = info.offset().iter().copied().filter(|next| *next > start);
    let end = later.min().unwrap_or(info.size());
    let tile = (end - start).div_ceil((least_columns * least_rows).max(1));
    let bytes = columns.checked_mul(rows)?.checked_mul(tile)?;
    Some(Plane::Block { bytes })
}

/// The components that a plane has.
fn components(format: VideoFormatInfo, plane: usize) -> impl Iterator<Item = usize> {
    (0..format.n_components() as usize).filter(move |i| format.plane()[*i] as usize == plane)
}

/// Bytes of a row, without padding where the format lets that be known.
fn row_bytes(info: &VideoInfo, format: VideoFormatInfo, plane: usize) -> usize {
    let by_default = info.stride()[plane].unsigned_abs() as usize;
    let bytes = components(format, plane).map(|component| {
        let step = format.pixel_stride()[component].unsigned_abs() as usize;
        let width = format.scale_width(component as u8, info.width());
        (step > 0).then(|| width as usize * step)
    });
    let widest = bytes.collect::<Option<Vec<_>>>().unwrap_or_default();
    match widest.iter().max() {
        Some(widest) if !format.is_complex() => *widest,
        _ => by_default,
    }
}

fn rows(info: &VideoInfo, format: VideoFormatInfo, plane: usize) -> usize {
    let rows = components(format, plane)
        .map(|component| format.scale_height(component as u8, info.height()));
    rows.max().unwrap_or(info.height()) as usize
}

#[cfg(test)]
mod tests {
    use gst_video::VideoFormat;

    use super::*;

    fn info(format: VideoFormat, width: u32, height: u32) -> VideoInfo {
        gst::init().unwrap();
        VideoInfo::builder(format, width, height).build().unwrap()
    }

    #[test]
    fn rows_are_as_long_as_their_pixels() {
        let rows = |format, number| {
            let info = info(format, 35, 17);
            plane(&info, number, info.stride()[number]).unwrap()
        };
        let of = |row, rows| Plane::Rows { row, rows };
        assert_eq!(rows(VideoFormat::I420, 0), of(35, 17));
        assert_eq!(rows(VideoFormat::I420, 2), of(18, 9));
        assert_eq!(rows(VideoFormat::Yuy2, 0), of(72, 17));
        assert_eq!(rows(VideoFormat::Rgb, 0), of(105, 17));
        assert_eq!(rows(VideoFormat::P01010le, 1), of(72, 9));
        let palette = Plane::Block { bytes: PALETTE };
        assert_eq!(rows(VideoFormat::Rgb8p, 1), palette);
    }

    #[test]
    fn rows_that_lie_over_each_other_are_no_plane() {
        let grey = info(VideoFormat::Gray8, 35, 17);
        assert_eq!(plane(&grey, 0, 34), None);
        assert_eq!(plane(&grey, 0, 0), None);
        assert!(plane(&grey, 0, i32::MIN).is_some());
        let bytes = [0; 35 * 17];
        assert!(
            copied(&bytes, &grey, None).is_err(),
            "rows are padded to 36"
        );
    }

    #[test]
    fn a_plane_goes_on_with_its_last_rows() {
        let grey = info(VideoFormat::Gray8, 4, 2);
        let buffer = copied(&[1, 1, 1, 1, 2, 2, 2, 2], &grey, None).unwrap();
        let meta = buffer.meta::<VideoMeta>().unwrap();
        let (bytes, step) = (buffer.map_readable().unwrap(), meta.stride()[0] as usize);
        let of = |row: usize| bytes[row * step];
        assert_eq!([of(0), of(1), of(2), of(9)], [1, 2, 2, 2]);
    }
}
