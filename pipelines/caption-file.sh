#!/usr/bin/env bash
# SPDX-License-Identifier: MPL-2.0
#
# Captions a video file, as fast as the model goes: no frame is dropped, the file waits.
#
# You see:  a line for every four seconds of the file.
# You need: gstreamer1.0-tools, -plugins-base, -plugins-good, -libav; without a file also
#           -plugins-ugly, to make one.
#
#   pipelines/caption-file.sh [FILE]

set -euo pipefail
# shellcheck source=pipelines/common.sh
. "$(dirname "${BASH_SOURCE[0]}")/common.sh"

file=${1:-}
if [ -z "$file" ]; then
    folder=$(mktemp -d)
    trap 'rm -r "$folder"' EXIT
    file=$("$here/sample.sh" "$folder/sample.mp4")
fi

gst-launch-1.0 -m \
    filesrc location="$file" ! decodebin \
    ! vlmcaption \
    ! fakesink | captions
