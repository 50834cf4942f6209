# SPDX-License-Identifier: MIT
# shellcheck shell=bash disable=SC2034
# What the tests of send and recv have in common. Their first argument is the path of bufpipe.

set -u
# The process that starts this may ignore signals, as nohup does. The programs under test would then ignore them as
# well, and a shell cannot undo that.
if [ -z "${BUFPIPE_TEST_SIGNALS-}" ]; then
	export BUFPIPE_TEST_SIGNALS=default
	exec env --default-signal=HUP,INT,TERM,PIPE "$0" "$@"
fi
# Without job control the shell would make its background jobs ignore SIGINT.
set -m

bufpipe=$(realpath "$1")
dir=$(mktemp -d) || exit 1
trap 'rm -rf "$dir"' EXIT
# shellcheck source=test-support.sh
. "$(dirname "$0")/test-support.sh"
cd "$dir" || exit 1
path=$dir/socket

# Runs one test function in an empty directory, with an abstract name of its own.
begin()
{
	test=$1
	name=@bufpipe-test-$$-$test
	echo "---- $test"
	rm -rf "${dir:?}"/*
	"$test"
}

# run FUNCTION...: each test, and the end of this script.
run()
{
	local each

	for each; do
		begin "$each"
	done
	[ $failures -eq 0 ] || { echo "$failures failures"; exit 1; }
	echo "all right"
	exit 0
}
