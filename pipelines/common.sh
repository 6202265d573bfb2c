# SPDX-License-Identifier: MPL-2.0
# shellcheck shell=bash
# Read by the scripts beside it: where the plugin is, and how captions are printed.

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)

# The folder with libgstvlmcaption.so: VLMCAPTION_PLUGIN_PATH, or where cargo puts it. Nothing is
# changed if GStreamer knows the element already.
if [ -n "${VLMCAPTION_PLUGIN_PATH:-}" ]; then
    export GST_PLUGIN_PATH=$VLMCAPTION_PLUGIN_PATH
elif ! gst-inspect-1.0 vlmcaption >/dev/null 2>&1; then
    for build in release debug; do
        folder=${CARGO_TARGET_DIR:-$here/../target}/$build
        if [ -f "$folder/libgstvlmcaption.so" ]; then
            GST_PLUGIN_PATH=$(cd "$folder" && pwd)
            export GST_PLUGIN_PATH
            break
        fi
    done
fi
if ! gst-inspect-1.0 vlmcaption >/dev/null 2>&1; then
    echo "GStreamer does not find vlmcaption. Build it with 'cargo build --release', or say where" \
        "it is: VLMCAPTION_PLUGIN_PATH=/folder/with/libgstvlmcaption.so" >&2
    exit 1
fi

# Whether a window can be opened.
has_display() { [ -n "${DISPLAY:-}${WAYLAND_DISPLAY:-}" ]; }

# Turns the messages that `gst-launch-1.0 -m` prints into lines of `[start s - end s] text`.
captions() {
    awk '
        function field(name,    rest) {
            rest = $0
            if (!sub(".*[, ]" name "=\\([a-z0-9]+\\)", "", rest)) return ""
            if (rest ~ /^"/) {
                match(rest, /^"([^"\\]|\\.)*"/)
                rest = substr(rest, 2, RLENGTH - 2)
                gsub(/\\/, "", rest)
                return rest
            }
            sub(/[,;].*/, "", rest)
            return rest
        }
        / vlmcaption\/caption,/ {
            printf "[%5.1f s - %5.1f s]  %s\n", field("start") / 1e9, field("end") / 1e9, field("text")
            fflush()
        }
        /^(ERROR|WARNING)/ { print; fflush() }
    '
}
