#!/usr/bin/env bash
# SPDX-License-Identifier: MPL-2.0
#
# Captions a live test source by a server, and by the built-in model while there is none.
#
# You see:  a line for every caption, four seconds apart, with the time of its frames.
# You need: gstreamer1.0-tools, gstreamer1.0-plugins-base; a server that speaks OpenAI's chat protocol,
#           such as `vllm serve Qwen/Qwen3-VL-2B-Instruct`, if it is to answer.
#
#   SERVER_URI          where it is (http://127.0.0.1:8000/v1)
#   VLMCAPTION_API_KEY  its API key, if it wants one
#   PATTERN             of videotestsrc: smpte, snow, ball, checkers-8, ... (smpte)
#   DURATION            seconds (20)

set -euo pipefail
# shellcheck source=pipelines/common.sh
. "$(dirname "${BASH_SOURCE[0]}")/common.sh"

gst-launch-1.0 -m \
    videotestsrc is-live=true pattern="${PATTERN:-smpte}" num-buffers=$((${DURATION:-20} * 30)) \
    ! video/x-raw,framerate=30/1 \
    ! vlmcaption backend=openai,cpu server-uri="${SERVER_URI:-http://127.0.0.1:8000/v1}" \
    ! fakesink sync=true | captions
