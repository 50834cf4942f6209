#!/bin/sh
# SPDX-License-Identifier: MIT
# Compiles and runs the first block of C in the README that is a whole program.
#   readme-example.sh README INCLUDE_DIRECTORY LIBRARY

set -eu

readme=$1
include=$2
library=$3
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

# 77 tells meson that the test was skipped.
[ -f "$readme" ] || { echo "no README"; exit 77; }
awk '/^```c$/ { inside = 1; text = ""; next }
     /^```/ { if (inside && text ~ /int main/) { printf "%s", text; exit } inside = 0 }
     inside { text = text $0 "\n" }' "$readme" >"$work/example.c"
[ -s "$work/example.c" ] || { echo "$readme has no whole program in C"; exit 1; }

# shellcheck disable=SC2086 # CC and CFLAGS are lists
${CC:-cc} ${CFLAGS:-} -D_GNU_SOURCE -std=gnu11 -pthread -I"$include" -o "$work/example" "$work/example.c" "$library"
LD_LIBRARY_PATH=$(dirname "$library") timeout 30 "$work/example"
