#!/usr/bin/env bash
# SPDX-License-Identifier: MPL-2.0
#
# Makes a short video file to caption: four test pictures, four seconds each, H.264 in MP4.
#
# You see:  the name of the file.
# You need: gstreamer1.0-tools, -plugins-base, -plugins-good (mp4mux), -plugins-ugly (x264enc).
#
#   pipelines/sample.sh FILE

set -euo pipefail
out=${1:?name of the file to write}

# One branch: a pattern for four seconds from second $2 on.
part() {
    echo "videotestsrc pattern=$1 num-buffers=120 timestamp-offset=${2}000000000" \
        "! video/x-raw,width=640,height=360,framerate=30/1 ! join."
}

# shellcheck disable=SC2046 # the words are meant to split
gst-launch-1.0 --quiet \
    concat name=join adjust-base=false ! x264enc bitrate=4000 key-int-max=30 speed-preset=veryfast \
    ! h264parse ! mp4mux ! filesink location="$out" \
    $(part smpte 0) $(part snow 4) $(part checkers-8 8) $(part pinwheel 12)
echo "$out"
