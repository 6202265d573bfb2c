#!/usr/bin/env bash
# SPDX-License-Identifier: MPL-2.0
#
# Writes the captions of a video file as WebVTT and SRT subtitles.
#
# You see:  the captions, then the names of the two files; a player shows them with the video.
# You need: gstreamer1.0-tools, -plugins-base, -plugins-good, -plugins-bad (webvttenc, srtenc),
#           -libav; without a file also -plugins-ugly, to make one.
#
#   pipelines/subtitles.sh [FILE]
#
#   OUT       names the subtitles: OUT.vtt and OUT.srt (captions)

set -euo pipefail
# shellcheck source=pipelines/common.sh
. "$(dirname "${BASH_SOURCE[0]}")/common.sh"

file=${1:-}
out=${OUT:-captions}
if [ -z "$file" ]; then
    folder=$(mktemp -d)
    trap 'rm -r "$folder"' EXIT
    file=$("$here/sample.sh" "$folder/sample.mp4")
fi

# `text-timing=window`: a subtitle is shown while what it tells is seen.
gst-launch-1.0 -m \
    filesrc location="$file" ! decodebin \
    ! vlmcaption name=captioner text-timing=window ! fakesink \
    captioner.text_src ! tee name=text \
    text. ! queue ! webvttenc ! filesink location="$out.vtt" \
    text. ! queue ! srtenc ! filesink location="$out.srt" | captions
echo "$out.vtt"
echo "$out.srt"
