#!/usr/bin/env bash
# SPDX-License-Identifier: MPL-2.0
#
# Compiles and runs the readers of docs/integrating.md, in C, Rust and Python, with a mock, and finds
# out which elements a caption's meta survives.
#
#   VLMCAPTION_PLUGIN_PATH  the folder with libgstvlmcaption.so (a debug build, made here)

set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

built=${VLMCAPTION_PLUGIN_PATH:-}
if [ -z "$built" ]; then
    cargo build --locked --package gst-plugin-vlmcaption
    built=${CARGO_TARGET_DIR:-target}/debug
fi
GST_PLUGIN_PATH=$(cd "$built" && pwd)
export GST_PLUGIN_PATH
work=$(mktemp -d)
trap 'rm -r "$work"' EXIT
echo '[{"text": "Mock caption {n}."}]' >"$work/mock.json"
captioned="videotestsrc num-buffers=90 ! video/x-raw,format=I420,width=320,height=240,framerate=30/1
    ! vlmcaption backend=mock model=$work/mock.json window=1"

# shellcheck disable=SC2046 # the words are meant to split
cc -Wall -Wextra -Wno-unused-parameter -Werror examples/readers/read_captions.c \
    -o "$work/read_captions" $(pkg-config --cflags --libs gstreamer-1.0)
cargo build --locked --quiet --example read_captions

failed=0
# reads COMMAND...: runs a reader and looks for a caption of each kind.
reads() {
    "$@" "$captioned ! fakesink name=sink sync=true" >"$work/log" 2>&1 || true
    if grep -q 'meta .*fresh.*Mock caption' "$work/log" &&
        grep -q 'message .*Mock caption 2' "$work/log"; then
        echo "ok      ${1##*/}"
    else
        echo "FAILED  ${1##*/}"
        sed 's/^/        /' "$work/log"
        failed=1
    fi
}
reads "$work/read_captions"
reads "${CARGO_TARGET_DIR:-target}/debug/examples/read_captions"

# survives WANT ELEMENTS: whether frames have a meta behind these.
survives() {
    local kept=no
    "$work/read_captions" "$captioned ! $2 ! fakesink name=sink sync=false" >"$work/log" 2>&1 || kept=error
    if grep -q '^meta' "$work/log"; then
        kept=yes
    fi
    printf '%-7s %-4s %s\n' "$([ "$kept" = "$1" ] && echo ok || echo FAILED)" "$kept" "$2"
    [ "$kept" = "$1" ] || failed=1
}
survives yes "videoconvert ! video/x-raw,format=BGRx"
survives yes "videoscale ! video/x-raw,width=160,height=120"
survives yes "videoconvertscale ! video/x-raw,format=NV12,width=160,height=120"
survives yes "videorate ! video/x-raw,framerate=60/1"
survives yes "videoflip method=clockwise"
survives yes "videocrop left=16"
survives yes "textoverlay"
survives yes "clockoverlay"
survives yes "queue ! tee name=t t. ! queue"
survives yes "x264enc tune=zerolatency"
survives yes "x264enc tune=zerolatency ! h264parse"
survives yes "jpegenc"
survives yes "x264enc tune=zerolatency ! h264parse ! avdec_h264"
survives yes "jpegenc ! jpegdec"
survives no "compositor"

exit "$failed"
