#!/usr/bin/env bash
# SPDX-License-Identifier: MPL-2.0
#
# Captions an RTSP camera.
#
# You see:  a line for every caption, four seconds apart.
# You need: gstreamer1.0-tools, -plugins-base, -plugins-good (rtspsrc), -libav (H.264, H.265);
#           without a camera also what pipelines/rtsp-server.py needs, to play one on loopback.
#
#   pipelines/caption-rtsp.sh [rtsp://user:password@camera/path]
#
#   DURATION  seconds; 0 goes on until Ctrl-C (0 with a camera, else 20)

set -euo pipefail
# shellcheck source=pipelines/common.sh
. "$(dirname "${BASH_SOURCE[0]}")/common.sh"

uri=${1:-}
if [ -z "$uri" ]; then
    : "${DURATION:=20}"
    exec {server}< <(exec "$here/rtsp-server.py" --port 0)
    trap 'kill $!' EXIT
    if ! read -r -t 20 uri <&"$server"; then
        echo "the RTSP server did not start" >&2
        exit 1
    fi
    echo "No camera given: serving one at $uri"
fi

# `timeout` ends the pipeline with Ctrl-C's signal; that is a good end (124).
{
    timeout --signal=INT "${DURATION:-0}" gst-launch-1.0 -m \
        rtspsrc location="$uri" latency=200 ! decodebin \
        ! vlmcaption \
        ! fakesink sync=true || [ $? = 124 ]
} | captions
