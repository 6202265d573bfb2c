// SPDX-License-Identifier: MPL-2.0

//! The ALLOCATION query: a sampled buffer is kept until its pixels are read, so the pool that it is
//! of must have more of them, or a camera with a few buffers waits for the prepare thread.

use crate::caption::captioner::MAX_KEPT;

/// Asks for so many more buffers of each pool that the answer offers; of upstream's own pool if it
/// offers none. Whether the query has an answer now.
pub(super) fn ask_for_more(query: &mut gst::query::Allocation, answered: bool) -> bool {
    let kept = MAX_KEPT;
    let pools: Vec<_> = query.allocation_pools().collect();
    for (index, (pool, size, min, max)) in (0..).zip(&pools) {
        let min = min.saturating_add(kept);
        // 0 is as many as there is memory for.
        let max = if *max == 0 { 0 } else { min.max(*max) };
        query.set_nth_allocation_pool(index, pool.as_ref(), *size, min, max);
    }
    if !pools.is_empty() {
        return answered;
    }
    let size = query.get().0.and_then(|caps| {
        let info = gst_video::VideoInfo::from_caps(caps).ok()?;
        u32::try_from(info.size()).ok()
    });
    let Some(size) = size.filter(|size| *size > 0) else {
        return answered;
    };
    query.add_allocation_pool(gst::BufferPool::NONE, size, kept, 0);
    true
}
