#!/bin/bash
# SPDX-License-Identifier: MIT
# The static library exports only bufpipe_*. A program whose functions have the same names as internal ones links and works, also
# with link-time optimization. The headers are plain C11 and C++11, and pkg-config needs no other package.
#	static-library.sh LIBRARY INTERNAL-LIBRARY INCLUDE-DIRECTORY DIRECTORY-OF-PC MAP LIBRARIES CC...
set -uo pipefail
library=$1 internal=$2 include=$3 pc=$4 map=$5 libraries=$6
shift 6
cc=("$@")
root=$(cd "$(dirname "$0")/.." && pwd)
dir=$(mktemp -d) || exit 1
trap 'rm -rf "$dir"' EXIT
failures=0

fail() {
	echo "FAIL: $*"
	failures=$((failures + 1))
}

globals() {
	nm -g --defined-only "$1" | awk 'NF == 3 && $2 ~ /[A-Z]/ { print $3 }' | sort -u
}

# It must export the same symbols as the shared library.
globals "$library" >"$dir/shown"
grep -oE 'bufpipe_[a-z_0-9]+' "$map" | sort -u >"$dir/exported"
diff "$dir/exported" "$dir/shown" || fail "the static library shows other names than the shared one (>)"

# The program defines a function for each internal name. One name of the probes' section is not a name in C.
{
	echo '#include <bufpipe.h>'
	echo '#include <stdlib.h>'
	globals "$internal" | grep -E '^[A-Za-z_0-9]+$' | grep -v '^bufpipe_' | sed 's/.*/void &(void); void &(void) { abort(); }/'
	cat <<'END'
int main(void)
{
	bufpipe_t *ends[2];
	char buf[8];

	if (bufpipe_version() != BUFPIPE_VERSION)
		return 2;
	return bufpipe_create(ends, NULL) || bufpipe_send(ends[1], "word", 4, -1) ||
	       bufpipe_recv(ends[0], buf, sizeof(buf), -1) != 4;
}
END
} >"$dir/own.c"
grep -q 'void lock_init' "$dir/own.c" || fail "no names were found in $internal"
for lto in '' -flto; do
	# shellcheck disable=SC2086 # lists of words
	"${cc[@]}" $lto -O1 -I"$include" -o "$dir/own" "$dir/own.c" "$library" $libraries 2>"$dir/log" || {
		# Not every installation has what the compiler needs for link-time optimization.
		[ -n "$lto" ] && grep -qE 'plugin|LLVMgold' "$dir/log" && continue
		cat "$dir/log"
		fail "a program with names of its own does not link $lto"
		continue
	}
	"$dir/own" || fail "a program with names of its own does not run $lto: status $?"
done

# The headers and the parts of the first must compile by themselves, and the headers in either order.
for standard in c11 c17 gnu11; do
	for headers in bufpipe.h bufpipe_uring.h 'bufpipe.h bufpipe_uring.h' 'bufpipe_uring.h bufpipe.h' $(cd "$include" && ls bufpipe/*.h); do
		for header in $headers; do
			echo "#include <$header>"
		done >"$dir/header.c"
		"${cc[@]}" -std="$standard" -pedantic -Wall -Wextra -Werror -I"$include" -fsyntax-only "$dir/header.c" ||
			fail "<$headers> under -std=$standard"
	done
done

# They must compile as C++ too, if the compiler can compile it, and stop with a clear message where the library does not work.
echo >"$dir/header.c"
cxx=$("${cc[@]}" -x c++ -std=c++11 -fsyntax-only "$dir/header.c" 2>"$dir/log" && echo yes)
for header in bufpipe.h bufpipe_uring.h $(cd "$include" && ls bufpipe/*.h); do
	echo "#include <$header>" >"$dir/header.c"
	[ -z "$cxx" ] || "${cc[@]}" -x c++ -std=c++11 -pedantic -Wall -Wextra -Werror -I"$include" -fsyntax-only "$dir/header.c" ||
		fail "<$header> as C++"
	"${cc[@]}" -U__LP64__ -I"$include" -fsyntax-only "$dir/header.c" 2>"$dir/log" && fail "<$header> compiles on 32 bits"
	grep -q 'bufpipe needs 64-bit Linux' "$dir/log" || fail "<$header> does not say that it needs 64-bit Linux"
done

if command -v pkg-config >/dev/null; then
	PKG_CONFIG_LIBDIR=$pc pkg-config --cflags --libs bufpipe >"$dir/flags" || fail "pkg-config, with no other package"
	grep -q -- -lbufpipe "$dir/flags" || fail "pkg-config --libs"
	PKG_CONFIG_LIBDIR=$pc pkg-config --static --libs bufpipe >"$dir/flags" || fail "pkg-config --static"
	for wanted in $libraries; do
		grep -q -- "$wanted" "$dir/flags" || fail "pkg-config --static does not name $wanted"
	done
fi
# As a subproject that is linked statically, with link-time optimization.
if command -v meson >/dev/null; then
	mkdir -p "$dir/project/subprojects"
	ln -s "$root" "$dir/project/subprojects/bufpipe"
	cp "$dir/own.c" "$dir/project"
	cat >"$dir/project/meson.build" <<'END'
project('own', 'c', default_options: ['b_lto=true', 'default_library=static', 'c_std=gnu11'])
test('own', executable('own', 'own.c', dependencies: dependency('bufpipe', fallback: 'bufpipe')))
END
	{
		CC="${cc[*]}" meson setup --wrap-mode forcefallback "$dir/build" "$dir/project" &&
			ninja -C "$dir/build" -j2 && meson test -C "$dir/build" --no-rebuild own
	} >"$dir/log" 2>&1 || {
		tail -40 "$dir/log"
		fail "a program with names of its own, and the library as a static subproject"
	}
fi
[ "$failures" -eq 0 ]
