#!/bin/bash
# SPDX-License-Identifier: MIT
# usage: tests/packages.sh [--once] [OUTPUT-DIRECTORY]
# Builds the Debian packages from the files under version control, in two directories of different names. Checks that
# both builds are identical and that lintian finds nothing. Prints 'ok WHAT' or 'FAILED WHAT' for each check.
set -uo pipefail

builds=(one another-directory)
if [ "${1-}" = --once ]; then
	builds=(one)
	shift
fi
case ${1-} in
-*)
	echo "usage: tests/packages.sh [--once] [OUTPUT-DIRECTORY]" >&2
	exit 2
	;;
esac
output=${1-}
root=$(cd "$(dirname "$0")/.." && pwd)
temporary=$(mktemp -d)
trap 'rm -rf "$temporary"' EXIT
failed=0

report() {
	if [ "$1" -eq 0 ]; then
		echo "ok $2"
	else
		echo "FAILED $2"
		failed=1
	fi
}

# All times in the packages are that of the last entry in debian/changelog. The tests run elsewhere.
export DEB_BUILD_OPTIONS="nocheck parallel=2" LC_ALL=C.UTF-8
# The package is for the Python of the system, even if another one comes first in PATH.
export PATH=/usr/sbin:/usr/bin:/sbin:/bin
# One copy for both builds, because somebody may edit the sources meanwhile. The checkout may belong to another user.
git -c safe.directory="$root" -C "$root" ls-files -z >"$temporary/files" || {
	report 1 "git ls-files"
	exit 1
}
tar -C "$root" -c --ignore-failed-read --null --files-from="$temporary/files" -f "$temporary/sources.tar"
for build in "${builds[@]}"; do
	mkdir -p "$temporary/$build/bufpipe"
	tar -x -f "$temporary/sources.tar" -C "$temporary/$build/bufpipe"
	(cd "$temporary/$build/bufpipe" && dpkg-buildpackage -us -uc -b) >"$temporary/$build.log" 2>&1 || {
		tail -n 60 "$temporary/$build.log"
		report 1 "dpkg-buildpackage"
		exit 1
	}
done
report 0 "dpkg-buildpackage"

# No bug report asks for the package, so the changelog closes none.
lintian --allow-root --fail-on error,warning --suppress-tags initial-upload-closes-no-bugs "$temporary"/one/*.changes
report $? lintian

if [ ${#builds[@]} -eq 2 ]; then
	sums() {
		(cd "$temporary/$1" && sha256sum -- *.deb)
	}
	if ! diff <(sums one) <(sums another-directory); then
		report 1 "two builds are the same"
	else
		report 0 "two builds are the same"
	fi
fi

if [ -n "$output" ]; then
	mkdir -p "$output"
	cp "$temporary"/one/*.deb "$output"
fi
exit $failed
