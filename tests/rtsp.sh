#!/usr/bin/env bash
# SPDX-License-Identifier: MPL-2.0
#
# Captions a real RTSP server on loopback, kills it, stops, and finds it again, twice. Fails if
# anything hangs, and on any critical warning.

set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

cargo build --quiet --locked --package gst-plugin-vlmcaption --package exercise
built=${CARGO_TARGET_DIR:-target}/debug
export GST_PLUGIN_PATH=${VLMCAPTION_PLUGIN_PATH:-$built}
export G_DEBUG=fatal-criticals
exec timeout 300 "$built/vlmcaption-exercise" camera pipelines/rtsp-server.py
