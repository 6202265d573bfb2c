#!/usr/bin/env bash
# SPDX-License-Identifier: MPL-2.0
#
# Runs the tests of axera-sys and of backend=axera with the stand-ins under the address and undefined
# behaviour sanitizers: every access of theirs to memory of ours is looked at, and all allocations of
# the process are. Needs gcc with libasan. Arguments go to the tests.

set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/../.."

export STANDIN_CFLAGS="-g -fsanitize=address,undefined -fno-sanitize-recover=all"
# Leaks are the stand-ins' own business: they abort a process that gives something not back. GLib and
# the Rust runtime keep memory for good, so the sanitizer's own count says nothing.
export ASAN_OPTIONS="detect_leaks=0:abort_on_error=1"
programs=$(cargo test --no-run -p axera-sys --test libraries --message-format=json
    cargo test --no-run --test axera --message-format=json)
# The programs are not built with the sanitizer, the libraries that they open are: its own library
# must be there first.
asan=$(gcc -print-file-name=libasan.so)
sed -n 's/.*"executable":"\([^"]*\)".*/\1/p' <<<"$programs" | while read -r program; do
    echo "=== $program"
    folder=.
    case $program in */libraries-*) folder=axera-sys ;; esac
    (cd "$folder" && LD_PRELOAD=$asan "$program" "$@") </dev/null
done
