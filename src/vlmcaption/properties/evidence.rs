// SPDX-License-Identifier: MPL-2.0

//! What is kept of captions, so that they can be explained and made again.

use gst::prelude::*;

use crate::vlmcaption::enums::EvidenceOf;
use crate::vlmcaption::property::{Property, put, seconds};

/// Bytes of all records by default: 1 GiB.
const MAX_BYTES: u64 = 1 << 30;
/// Age of records by default: a week.
const MAX_AGE: u64 = seconds(7 * 86_400);

/// Where records are kept, which and how many.
pub(super) fn evidence() -> Vec<Property> {
    vec![
        Property::new(
            glib::ParamSpecString::builder("evidence")
                .nick("Evidence")
                .blurb(
                    "Folder in which a record of each caption is kept: frames as the model saw them, \
                     prompt, tokens, model, times; for vlmcaption-replay. Empty = none",
                )
                .mutable_ready()
                .build(),
            |s| s.evidence.to_value(),
            |s, to| put(&mut s.evidence, to),
        ),
        Property::new(
            glib::ParamSpecEnum::builder_with_default("evidence-of", EvidenceOf::All)
                .nick("Evidence of")
                .blurb("Which captions are kept in the folder evidence")
                .mutable_ready()
                .build(),
            |s| s.evidence_of.to_value(),
            |s, to| put(&mut s.evidence_of, to),
        ),
        Property::new(
            glib::ParamSpecUInt64::builder("evidence-max-bytes")
                .nick("Evidence max bytes")
                .blurb(
                    "Bytes of all records in the folder evidence; the oldest are removed. 0 = no limit",
                )
                .default_value(MAX_BYTES)
                .mutable_ready()
                .build(),
            |s| s.evidence_max_bytes.to_value(),
            |s, to| put(&mut s.evidence_max_bytes, to),
        ),
        Property::new(
            glib::ParamSpecUInt64::builder("evidence-max-age")
                .nick("Evidence max age")
                .blurb(
                    "How long records are kept in the folder evidence, ns; the last one stays. 0 or -1 = \
                     for ever",
                )
                .default_value(MAX_AGE)
                .mutable_ready()
                .build(),
            |s| s.evidence_max_age.to_value(),
            |s, to| put(&mut s.evidence_max_age, to),
        ),
    ]
}
