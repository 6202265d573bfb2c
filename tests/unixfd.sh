#!/usr/bin/env bash
# SPDX-License-Identifier: MPL-2.0
#
# Captions cross from one process to another: unixfdsink in one that has the plugin, a Python program
# in one that has not.
#
# Needs GStreamer 1.24 or newer with unixfdsink. Where this machine has an older one, and it is run as
# root with debootstrap installed, it makes a Debian 13 (GStreamer 1.26, about 900 MB) and runs there;
# the plugin built against the older GStreamer is loaded by the newer.
#
#   tests/unixfd.sh [FOLDER]   where the Debian 13 is made, and found again (/var/tmp/vlmcaption-trixie)
#
# VLMCAPTION_PLUGIN_PATH  the folder with libgstvlmcaption.so (a debug build, made here)

set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

root=${1:-/var/tmp/vlmcaption-trixie}
built=${VLMCAPTION_PLUGIN_PATH:-}
if [ -z "$built" ]; then
    cargo build --locked --package gst-plugin-vlmcaption
    built=${CARGO_TARGET_DIR:-target}/debug
fi

work=$(mktemp -d)
trap 'rm -r "$work"; [ -z "${inside:-}" ] || rm -r "$root$inside"' EXIT
cp "$built/libgstvlmcaption.so" pipelines/read-unixfd.py "$work"
echo '[{"text": "Mock caption {n}.", "prefill-ms": 200}]' >"$work/mock.json"

# Run in the folder with all of it.
cat >"$work/run" <<'END'
set -eu
cd "$(dirname "$0")"
gst-inspect-1.0 --version | tail -n 2 | head -n 1
GST_PLUGIN_PATH=$PWD GST_REGISTRY=$PWD/registry timeout 60 gst-launch-1.0 --quiet \
    videotestsrc is-live=true ! video/x-raw,width=320,height=240,framerate=30/1 \
    ! vlmcaption backend=mock model=mock.json window=2 ! unixfdsink socket-path="$PWD/socket" &
sender=$!
trap 'kill $sender' EXIT
while [ ! -S socket ]; do sleep 0.1; done
timeout 60 python3 read-unixfd.py "$PWD/socket" 8
END

if gst-inspect-1.0 unixfdsink >/dev/null 2>&1; then
    bash "$work/run" | tee "$work/log"
else
    if [ ! -e "$root/ready" ]; then
        if [ "$(id -u)" != 0 ] || ! command -v debootstrap >/dev/null; then
            echo "this GStreamer has no unixfdsink (1.24 or newer has); run as root with debootstrap" \
                "installed to make a Debian 13 that does" >&2
            exit 1
        fi
        debootstrap --variant=minbase trixie "$root" http://deb.debian.org/debian
        DEBIAN_FRONTEND=noninteractive chroot "$root" apt-get install --yes --no-install-recommends \
            gstreamer1.0-tools gstreamer1.0-plugins-base gstreamer1.0-plugins-good \
            gstreamer1.0-plugins-bad python3-gi gir1.2-gstreamer-1.0
        touch "$root/ready"
    fi
    inside=/tmp/vlmcaption-$$
    cp -r "$work" "$root$inside"
    chroot "$root" bash "$inside/run" | tee "$work/log"
fi

if grep -Eq '(fresh|held): Mock caption [1-9]' "$work/log"; then
    echo "ok: the captions cross"
else
    echo "FAILED: no caption came through" >&2
    exit 1
fi
