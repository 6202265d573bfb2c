#!/usr/bin/env bash
# SPDX-License-Identifier: MPL-2.0
#
# Runs the tests of axera-sys and of backend=axera on the stand-ins under the sanitizers, twice:
#
#   standins  the libraries built with the address and undefined behaviour sanitizers: what they do
#             with the memory that we hand them
#   ours      our own code built with the address sanitizer: what we do with theirs, and with our own
#
#   tests/axera/sanitize.sh [standins | ours] [ARGUMENTS OF THE TESTS]
#
# Needs gcc with libasan. Takes about ten minutes each on two cores.

set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/../.."

parts="standins ours"
case ${1:-} in standins | ours) parts=$1 && shift ;; esac

# Leaks are the stand-ins' own business: they abort a process that gives something not back. GLib and
# the Rust runtime keep memory for good, so the sanitizer's own count says nothing.
export ASAN_OPTIONS="detect_leaks=0:abort_on_error=1"

# programs ARGUMENTS: builds the test programs with cargo, prints their paths.
programs() {
    {
        cargo test --no-run -p axera-sys --test libraries --message-format=json "$@"
        cargo test --no-run --test axera --message-format=json "$@"
    } | sed -n 's/.*"executable":"\([^"]*\)".*/\1/p'
}

# run PROGRAM ARGUMENTS: where cargo would.
run() {
    local folder=.
    case $1 in */libraries-*) folder=axera-sys ;; esac
    echo "=== $1"
    (cd "$folder" && "$@") </dev/null
}

standins() {
    export STANDIN_CFLAGS="-g -fsanitize=address,undefined -fno-sanitize-recover=all"
    # The programs are not built with the sanitizer, the libraries that they open are: its own
    # library must be there first.
    local asan program
    asan=$(gcc -print-file-name=libasan.so)
    for program in $(programs); do
        LD_PRELOAD=$asan run "$program" "$@"
    done
}

ours() {
    # The stable compiler has the sanitizer and its library, behind a flag that it takes only so.
    export RUSTC_BOOTSTRAP=1 RUSTFLAGS=-Zsanitizer=address
    local host program
    host=$(rustc -vV | sed -n 's/^host: //p')
    # With a target named, build scripts and macros are built without it.
    for program in $(programs --target "$host" --target-dir "${CARGO_TARGET_DIR:-target}/asan"); do
        run "$program" "$@"
    done
}

for part in $parts; do
    echo "### $part"
    ("$part" "$@")
done
