#!/usr/bin/env bash
# SPDX-License-Identifier: MPL-2.0
#
# Writes a video file as Matroska with its captions as a subtitle track.
#
# You see:  the captions, then the name of the file; a player offers the track "subtitles".
# You need: gstreamer1.0-tools, -plugins-base, -plugins-good (matroskamux), -plugins-bad (h264parse),
#           -plugins-ugly (x264enc), -libav.
#
#   pipelines/record-mkv.sh [FILE]
#
#   OUT       the file to write (captioned.mkv)

set -euo pipefail
# shellcheck source=pipelines/common.sh
. "$(dirname "${BASH_SOURCE[0]}")/common.sh"

file=${1:-}
out=${OUT:-captioned.mkv}
if [ -z "$file" ]; then
    folder=$(mktemp -d)
    trap 'rm -r "$folder"' EXIT
    file=$("$here/sample.sh" "$folder/sample.mp4")
fi

# matroskamux never waits for a cue and ends with the video, so the video comes through the captioner:
# its end follows the last caption.
gst-launch-1.0 -m \
    filesrc location="$file" ! decodebin ! vlmcaption name=captioner \
    ! videoconvert ! x264enc speed-preset=veryfast ! h264parse ! queue ! mux.video_0 \
    captioner.text_src ! queue ! mux.subtitle_0 \
    matroskamux name=mux ! filesink location="$out" | captions
echo "$out"
