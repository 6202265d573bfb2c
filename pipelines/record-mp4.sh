#!/usr/bin/env bash
# SPDX-License-Identifier: MPL-2.0
#
# Records a live camera to MP4 with its captions as a text track (tx3g), the video as the camera
# encoded it.
#
# You see:  the captions, then the name of the file; a player offers the text track.
# You need: gstreamer1.0-tools, -plugins-base, -plugins-good (mp4mux), -plugins-bad (h264parse),
#           -plugins-ugly (x264enc, the camera), -libav.
#
#   PATTERN   of videotestsrc (smpte)
#   DURATION  seconds (20)
#   OUT       the file to write (captioned.mp4)

set -euo pipefail
# shellcheck source=pipelines/common.sh
. "$(dirname "${BASH_SOURCE[0]}")/common.sh"

out=${OUT:-captioned.mp4}

# mp4mux takes text as it is, but holds the video until the next buffer of the text, whatever GAP
# events say: `text-gaps=buffer` sends an empty one every half second, and the queue of the video
# holds a stride (two seconds here) and more.
gst-launch-1.0 -m \
    videotestsrc is-live=true pattern="${PATTERN:-smpte}" num-buffers=$((${DURATION:-20} * 30)) \
    ! video/x-raw,format=I420,width=640,height=360,framerate=30/1 \
    ! x264enc tune=zerolatency speed-preset=ultrafast key-int-max=30 ! h264parse ! tee name=camera \
    camera. ! queue max-size-buffers=0 max-size-bytes=0 max-size-time=5000000000 ! mux.video_0 \
    camera. ! queue ! avdec_h264 ! vlmcaption name=captioner window=2 text-gaps=buffer \
    ! fakesink async=false \
    captioner.text_src ! queue ! mux.subtitle_0 \
    mp4mux name=mux ! filesink location="$out" | captions
echo "$out"
