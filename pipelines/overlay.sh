#!/usr/bin/env bash
# SPDX-License-Identifier: MPL-2.0
#
# Draws the captions over a live picture.
#
# You see:  a window with the test picture and the latest caption at its bottom; without a display
#           a file instead, captioned.mp4.
# You need: gstreamer1.0-tools, -plugins-base (textoverlay), -plugins-good; for the file also
#           -plugins-ugly (x264enc).
#
#   PATTERN   of videotestsrc (ball)
#   DURATION  seconds (20)
#   OUT       the file to write where there is no display (captioned.mp4)

set -euo pipefail
# shellcheck source=pipelines/common.sh
. "$(dirname "${BASH_SOURCE[0]}")/common.sh"

if has_display && [ -z "${OUT:-}" ]; then
    sink=(autovideosink)
else
    out=${OUT:-captioned.mp4}
    sink=(x264enc tune=zerolatency speed-preset=veryfast ! h264parse ! mp4mux ! filesink location="$out")
    echo "No display: writing $out"
fi

gst-launch-1.0 -m \
    videotestsrc is-live=true pattern="${PATTERN:-ball}" num-buffers=$((${DURATION:-20} * 30)) \
    ! video/x-raw,width=640,height=480,framerate=30/1 \
    ! vlmcaption name=captioner window=2 \
    ! queue ! overlay.video_sink \
    captioner.text_src ! queue ! overlay.text_sink \
    textoverlay name=overlay font-desc="Sans 18" shaded-background=true \
    ! videoconvert ! queue ! "${sink[@]}" | captions
