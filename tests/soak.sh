#!/usr/bin/env bash
# SPDX-License-Identifier: MPL-2.0
#
# What has to hold for days. Both parts end with a line that says what was measured, and fail if it
# is not as it must be; critical warnings are fatal.
#
#   tests/soak.sh captions [--minutes N | --hours N] [--rate N]
#       N unique captions a second (2) of a live stream; the memory is looked at every ten seconds
#       and must have no slope beyond its error (60 minutes)
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
captions) minutes=60 count=2 ;;
churn) minutes=10 count=100 ;;
*) usage ;;
esac
shift
while [ $# -ge 2 ]; do
    case $1 in
    --minutes) minutes=$2 ;;
    --hours) minutes=$(($2 * 60)) ;;
    --rate | --threads) count=$2 ;;
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
captions) exec "$built/vlmcaption-exercise" soak "$minutes" "$count" ;;
churn) GST_TRACERS=leaks exec "$built/vlmcaption-exercise" churn "$minutes" "$count" ;;
esac
