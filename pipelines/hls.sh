#!/usr/bin/env bash
# SPDX-License-Identifier: MPL-2.0
#
# Makes an HLS presentation of a video file, with its captions as WebVTT subtitles.
#
# You see:  the captions, then the name of the playlist; a player shows them with the video.
# You need: gstreamer1.0-tools, -plugins-base, -plugins-good, -plugins-bad (hlssink2, webvttenc,
#           h264parse), -libav; without a file also -plugins-ugly, to make one.
# Cannot be had with GStreamer's own elements: hlssink2 takes no text and nothing cuts WebVTT into
#           segments, so the subtitles are one file beside the segments, whole at the end. A live
#           stream needs a packager for that; give it the text pad's buffers or the bus messages.
#
#   pipelines/hls.sh [FILE]   an MP4 with H.264
#
#   OUT       the folder to write (hls)

set -euo pipefail
# shellcheck source=pipelines/common.sh
. "$(dirname "${BASH_SOURCE[0]}")/common.sh"

file=${1:-}
out=${OUT:-hls}
mkdir -p "$out"
if [ -z "$file" ]; then
    folder=$(mktemp -d)
    trap 'rm -r "$folder"' EXIT
    file=$("$here/sample.sh" "$folder/sample.mp4")
fi

gst-launch-1.0 -m \
    filesrc location="$file" ! qtdemux ! h264parse ! tee name=camera \
    camera. ! queue ! hlssink2 target-duration=4 playlist-length=0 max-files=0 \
        location="$out/video%05d.ts" playlist-location="$out/video.m3u8" \
    camera. ! queue ! avdec_h264 ! vlmcaption name=captioner text-timing=window ! fakesink \
    captioner.text_src ! queue ! webvttenc ! filesink location="$out/cues.vtt" | captions

# mpegtsmux begins at an hour: that is the cues' zero.
{
    printf 'WEBVTT\nX-TIMESTAMP-MAP=MPEGTS:324000000,LOCAL:00:00:00.000\n'
    tail -n +2 "$out/cues.vtt"
} >"$out/captions.vtt"
rm "$out/cues.vtt"
length=$(awk -F '[:,]' '/^#EXTINF/ { sum += $2 } END { printf "%.3f", sum }' "$out/video.m3u8")
cat >"$out/captions.m3u8" <<END
#EXTM3U
#EXT-X-VERSION:3
#EXT-X-TARGETDURATION:$(awk -v s="$length" 'BEGIN { printf "%d", s + 0.999 }')
#EXT-X-PLAYLIST-TYPE:VOD
#EXTINF:$length,
captions.vtt
#EXT-X-ENDLIST
END
cat >"$out/index.m3u8" <<END
#EXTM3U
#EXT-X-MEDIA:TYPE=SUBTITLES,GROUP-ID="captions",NAME="Captions",DEFAULT=YES,AUTOSELECT=YES,URI="captions.m3u8"
#EXT-X-STREAM-INF:BANDWIDTH=4000000,SUBTITLES="captions"
video.m3u8
END
echo "$out/index.m3u8"
