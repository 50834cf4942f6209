#!/bin/sh
# SPDX-License-Identifier: MIT
# usage: make-static.sh ARCHIVE OUTPUT OBJCOPY AR CC...
# One object of all those in ARCHIVE, in which bufpipe_* alone stay global, as the library OUTPUT.
set -eu
archive=$1 output=$2 objcopy=$3 ar=$4
shift 4
object=${output%.a}.o
rm -f "$output"
"$@" -r -nostdlib -o "$object" -Wl,--whole-archive "$archive"
"$objcopy" --wildcard --keep-global-symbol='bufpipe_*' "$object"
"$ar" rcsD "$output" "$object"
rm -f "$object"
