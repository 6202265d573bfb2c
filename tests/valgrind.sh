#!/usr/bin/env bash
# SPDX-License-Identifier: MPL-2.0
#
# Runs the tests of what reads foreign bytes under valgrind: pixels in every format, interlace mode and
# layout, overlays, masks, and texts. Fails on any invalid read or write and on any decision by
# memory that was never set.
#
#   tests/valgrind.sh [NAME...]   tests with one of these in their names (all that is listed below)

set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

tests=("$@")
if [ ${#tests[@]} = 0 ]; then
    tests=(vlmcaption::pixels:: vlmcaption::layout:: vlmcaption::view:: vlmcaption::masks::
        vlmcaption::output:: vlmcaption::text:: caption::mask:: caption::picture::)
fi
command -v valgrind >/dev/null || {
    echo "valgrind is missing: apt-get install valgrind" >&2
    exit 1
}
# The binary of the library's unit tests.
binary=$(cargo test --locked --package gst-plugin-vlmcaption --lib --no-run 2>&1 |
    sed -n 's/.*Executable unittests .*(\(.*\))$/\1/p')
[ -n "$binary" ]
# Plugins are not needed, and the scanner of plugins would be looked at as well.
export GST_REGISTRY_FORK=no GST_PLUGIN_SYSTEM_PATH_1_0='' G_SLICE=always-malloc
export PROPTEST_CASES=${PROPTEST_CASES:-64}
valgrind --quiet --error-exitcode=9 --num-callers=25 \
    "$binary" --test-threads=1 "${tests[@]}"
echo "ok: valgrind found nothing in ${tests[*]}"
