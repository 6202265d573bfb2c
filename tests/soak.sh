#!/usr/bin/env bash
# SPDX-License-Identifier: MPL-2.0
#
# What has to hold for days. Each part ends with a line that says what was measured, and fail if it
# is not as it must be; critical warnings are fatal.
#
#   tests/soak.sh captions [--minutes N | --hours N] [--rate N]
#       N unique captions a second (2) of a live stream; the memory is looked at every ten seconds
#       and must have no slope beyond its error (60 minutes)
#   tests/soak.sh saturated [--windows N] [--elements N]
#       N elements (16) share a model that is slower than their strides: what is normal on a small
#       box. Their clocks run as fast as the machine goes, so that N windows (300000) of months take
#       minutes. The memory must have no slope, and the 99th percentile of a push in the last tenth of
#       the windows must be that of the first
#   tests/soak.sh churn [--minutes N | --hours N] [--threads N]
#       pipelines in N threads (100) that play, pause, seek, flush and stop as chance has it; none
#       may hang, nothing may be left alive (10 minutes)
#
# VLMCAPTION_PLUGIN_PATH  the folder with the plugin and vlmcaption-exercise; made here if not named

set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

usage() {
    sed -n '/^#   tests/,/^$/s/^# \{0,1\}//p' "${BASH_SOURCE[0]}" >&2
    exit 2
}

part=${1:-}
case $part in
captions) much=60 count=2 ;;
saturated) much=300000 count=16 ;;
churn) much=10 count=100 ;;
*) usage ;;
esac
shift
while [ $# -ge 2 ]; do
    case $1 in
    --minutes | --windows) much=$2 ;;
    --hours) much=$(($2 * 60)) ;;
    --rate | --threads | --elements) count=$2 ;;
    *) usage ;;
    esac
    shift 2
done
[ $# = 0 ] || usage

built=${VLMCAPTION_PLUGIN_PATH:-}
if [ -z "$built" ]; then
    cargo build --locked --package gst-plugin-vlmcaption --package exercise
    built=${CARGO_TARGET_DIR:-target}/debug
fi
export GST_PLUGIN_PATH=$built G_DEBUG=fatal-criticals
case $part in
captions) exec "$built/vlmcaption-exercise" soak "$much" "$count" ;;
saturated) exec "$built/vlmcaption-exercise" saturated "$much" "$count" ;;
churn) GST_TRACERS=leaks exec "$built/vlmcaption-exercise" churn "$much" "$count" ;;
esac
