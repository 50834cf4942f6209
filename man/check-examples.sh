#!/bin/sh
# SPDX-License-Identifier: MIT
# Compiles and runs the example of each page:
#	check-examples.sh LIBRARY INCLUDE-DIRECTORY PAGE.scd...
# Each must compile without a warning, run without arguments and exit with 0.
# CC and CFLAGS say how to compile, and URING_LIBS how to link with liburing; the
# examples that need that are left out if it is empty.

set -u
library=$(realpath "$1")
include=$2
shift 2

dir=$(mktemp -d) || exit 1
trap 'rm -rf "$dir"' EXIT
failures=0

# The first block of code after the heading EXAMPLE, as the built page shows it. scdoc removes one backslash of two, and a
# single one too.
extract()
{
	awk '/^# / { wanted = $0 == "# EXAMPLE" }
	     wanted && /^```$/ { if (inside) exit; inside = 1; next }
	     inside { print }' "$1" | sed 's/\\\(.\)/\1/g'
}

check()
{
	page=$(basename "$1" .scd)
	extract "$1" >"$dir/$page.c"
	if ! [ -s "$dir/$page.c" ]; then
		case $page in
		*.1 | bufpipe-probes.7) return 0 ;; # commands, no program
		esac
		echo "$page: no example"
		return 1
	fi
	libs=
	if grep -q bufpipe_uring.h "$dir/$page.c"; then
		libs=${URING_LIBS:-}
		[ "$libs" ] || return 0
	fi
	# shellcheck disable=SC2086
	${CC:-cc} ${CFLAGS:-} -std=gnu11 -Wall -Wextra -Wshadow -Werror -I"$include" -o "$dir/$page" \
		"$dir/$page.c" "$library" -Wl,-rpath,"$(dirname "$library")" $libs || {
		echo "$page: does not compile"
		return 1
	}
	echo "---- $page"
	timeout 20 "$dir/$page" || {
		echo "$page: status $?"
		return 1
	}
}

for source; do
	check "$source" || failures=$((failures + 1))
done
[ $failures -eq 0 ]
