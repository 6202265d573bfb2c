#!/usr/bin/env bash
# SPDX-License-Identifier: MPL-2.0
#
# Plays, pauses, seeks, flushes, changes caps, ends and restarts pipelines, and fails on any
# GStreamer object that stays alive and on any critical warning.
#
#   tests/leaks.sh [--loops N]

set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

# The folder with the plugin and the programs that exercise it; made here if it is not named.
built=${VLMCAPTION_PLUGIN_PATH:-}
if [ -z "$built" ]; then
    cargo build --locked --package gst-plugin-vlmcaption --package exercise
    built=${CARGO_TARGET_DIR:-target}/debug
fi
export GST_PLUGIN_PATH=$built
export GST_TRACERS=leaks G_DEBUG=fatal-criticals
exec "$built/vlmcaption-exercise" transitions "$@"
