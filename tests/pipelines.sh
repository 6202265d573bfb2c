#!/usr/bin/env bash
# SPDX-License-Identifier: MPL-2.0
#
# Runs every script of pipelines/ as it stands, without a display, and looks at what it gives.
#
#   VLMCAPTION_PLUGIN_PATH  the folder with libgstvlmcaption.so (a debug build, made here)

set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
unset DISPLAY WAYLAND_DISPLAY

if [ -z "${VLMCAPTION_PLUGIN_PATH:-}" ]; then
    cargo build --locked --package gst-plugin-vlmcaption
    VLMCAPTION_PLUGIN_PATH=${CARGO_TARGET_DIR:-target}/debug
fi
VLMCAPTION_PLUGIN_PATH=$(cd "$VLMCAPTION_PLUGIN_PATH" && pwd)
export VLMCAPTION_PLUGIN_PATH GST_PLUGIN_PATH=$VLMCAPTION_PLUGIN_PATH
work=$(mktemp -d)
trap 'rm -r "$work"' EXIT
passed=0
failed=0

# check NAME WANT COMMAND...: runs the command for two minutes at most and looks for WANT, an
# extended regular expression, in what it prints; a critical warning or a Python error is a failure.
check() {
    local name=$1 want=$2 log=$work/log status=0
    shift 2
    timeout --kill-after=10 120 "$@" >"$log" 2>&1 </dev/null || status=$?
    if [ "$status" = 0 ] && grep -Eq "$want" "$log" && ! grep -Eq 'CRITICAL|Traceback' "$log"; then
        printf 'ok      %-24s %s\n' "$name" "$(grep -E "$want" "$log" | tail -n 1)"
        passed=$((passed + 1))
    else
        printf 'FAILED  %s: exit status %s, looking for "%s" in\n' "$name" "$status" "$want"
        sed 's/^/        /' "$log"
        failed=$((failed + 1))
    fi
}

# Prints `bright` if a black video has white in it.
brightness() {
    gst-launch-1.0 --quiet filesrc location="$1" ! decodebin ! videoconvert \
        ! video/x-raw,format=GRAY8 ! filesink location="$1.gray"
    python3 -c "import sys; print('bright' if max(open(sys.argv[1], 'rb').read()) > 200 else 'dark')" \
        "$1.gray"
}
export -f brightness

# Prints when the cues of a file are, in seconds; empty ones, which fill gaps, have two bytes.
cues() {
    ffprobe -v error -select_streams s -show_entries packet=pts_time,duration_time,size -of csv=p=0 \
        "$1" | awk -F, '$3 > 2 { printf "cue at %.1f for %.1f\n", $1, $2 }'
}
export -f cues

check caption-test-source "SMPTE color bars" env DURATION=9 pipelines/caption-test-source.sh
check caption-file "pinwheel" pipelines/caption-file.sh
check caption-rtsp "SMPTE color bars" env DURATION=9 pipelines/caption-rtsp.sh
# No server listens there: the built-in model answers.
check server "SMPTE color bars" \
    env SERVER_URI=http://127.0.0.1:9/v1 DURATION=12 pipelines/server.sh
check overlay "black screen" env PATTERN=black DURATION=8 OUT="$work/overlay.mp4" pipelines/overlay.sh
# shellcheck disable=SC2016 # expanded by the inner shell
check overlay-is-drawn "bright" bash -c 'brightness "$1"' - "$work/overlay.mp4"
check subtitles "captions.srt" env OUT="$work/captions" pipelines/subtitles.sh
check webvtt "00:00:12\.[0-9]+ --> 00:00:16" cat "$work/captions.vtt"
check srt "^A black and white pinwheel" cat "$work/captions.srt"
check textrender "black screen" env PATTERN=black DURATION=8 OUT="$work/below.mp4" \
    pipelines/textrender.sh
# shellcheck disable=SC2016 # expanded by the inner shell
check textrender-is-drawn "bright" bash -c 'brightness "$1"' - "$work/below.mp4"
check record-mkv "captioned.mkv" env OUT="$work/captioned.mkv" pipelines/record-mkv.sh
# shellcheck disable=SC2016
check mkv-cue "cue at 12.[01] for [34]" bash -c 'cues "$1"' - "$work/captioned.mkv"
check record-mp4 "captioned.mp4" env DURATION=9 OUT="$work/captioned.mp4" pipelines/record-mp4.sh
# shellcheck disable=SC2016
check mp4-cue "cue at [1-5]\..* for [12]" bash -c 'cues "$1"' - "$work/captioned.mp4"
check hls "index.m3u8" env OUT="$work/hls" pipelines/hls.sh
check hls-cues "00:00:12\.[0-9]+ --> 00:00:16" cat "$work/hls/captions.vtt"
# What X-TIMESTAMP-MAP says: the segments begin at an hour.
check hls-zero "^3600\.[01]" ffprobe -v error -show_entries format=start_time -of csv=p=0 \
    "$work/hls/video00000.ts"
check read-bus.py "SMPTE color bars" pipelines/read-bus.py
check read-meta.py "(fresh|held).*SMPTE color bars" pipelines/read-meta.py
check alarm.py "end +#1 Is there a white circle" pipelines/alarm.py

# No script may be forgotten here.
for script in pipelines/*.sh pipelines/*.py; do
    name=$(basename "$script" .sh)
    case $name in
    common | sample | rtsp-server.py) ;; # used by the others
    read-unixfd.py) ;; # tests/unixfd.sh: GStreamer 1.24
    *)
        if ! grep -q "^check $name " "${BASH_SOURCE[0]}"; then
            echo "FAILED  $script is not run by this test"
            failed=$((failed + 1))
        fi
        ;;
    esac
done

echo "$passed passed, $failed failed"
[ "$failed" = 0 ]
