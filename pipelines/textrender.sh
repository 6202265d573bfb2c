#!/usr/bin/env bash
# SPDX-License-Identifier: MPL-2.0
#
# Makes the captions a video of their own and puts it below the picture.
#
# You see:  a window with the test picture and the latest caption in a strip under it; without a
#           display a file instead, captioned.mp4.
# You need: gstreamer1.0-tools, -plugins-base (textrender, compositor), -plugins-good; for the file
#           also -plugins-ugly (x264enc).
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

# textrender makes one picture of each caption; the compositor shows it until its end. When the strip
# comes later than its first picture, the compositor of GStreamer 1.22 sends two pictures of one time,
# of which mp4mux refuses the second: videorate drops it.
gst-launch-1.0 -m \
    compositor name=below background=black sink_1::ypos=360 ! video/x-raw,width=640,height=420 \
    ! videorate ! videoconvert ! video/x-raw,format=I420,framerate=30/1 ! queue ! "${sink[@]}" \
    videotestsrc is-live=true pattern="${PATTERN:-ball}" num-buffers=$((${DURATION:-20} * 30)) \
    ! video/x-raw,width=640,height=360,framerate=30/1 \
    ! vlmcaption name=captioner window=2 \
    ! queue ! below.sink_0 \
    captioner.text_src ! queue \
    ! textrender font-desc="Sans 16" line-alignment=left halignment=left valignment=top \
    ! video/x-raw,width=640,height=60 ! videoconvert ! queue ! below.sink_1 | captions
