#!/usr/bin/env bash
# SPDX-License-Identifier: MPL-2.0
#
# Captions a live test source.
#
# You see:  a line for every caption, four seconds apart, with the time of its frames.
# You need: gstreamer1.0-tools, gstreamer1.0-plugins-base.
#
#   PATTERN   of videotestsrc: smpte, snow, ball, checkers-8, ... (smpte)
#   DURATION  seconds (20)

set -euo pipefail
# shellcheck source=pipelines/common.sh
. "$(dirname "${BASH_SOURCE[0]}")/common.sh"

gst-launch-1.0 -m \
    videotestsrc is-live=true pattern="${PATTERN:-smpte}" num-buffers=$((${DURATION:-20} * 30)) \
    ! video/x-raw,framerate=30/1 \
    ! vlmcaption \
    ! fakesink sync=true | captions
