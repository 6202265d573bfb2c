#!/usr/bin/env bash
# SPDX-License-Identifier: MPL-2.0
#
# Captions a real RTSP server on loopback, kills it, stops, and finds it again, twice. Fails if
# anything hangs, and on any critical warning.

set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

# The folder with the plugin and the programs that exercise it; made here if it is not named.
built=${VLMCAPTION_PLUGIN_PATH:-}
if [ -z "$built" ]; then
    cargo build --locked --package gst-plugin-vlmcaption --package exercise
    built=${CARGO_TARGET_DIR:-target}/debug
fi
export GST_PLUGIN_PATH=$built
export G_DEBUG=fatal-criticals
exec timeout 300 "$built/vlmcaption-exercise" camera pipelines/rtsp-server.py
