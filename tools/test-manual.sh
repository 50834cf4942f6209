#!/bin/bash
# SPDX-License-Identifier: MIT
# usage: test-manual.sh PROGRAM DIRECTORY-OF-PAGES
# The manual and the help of each command have the same options.
set -u

program=$(realpath "$1")
pages=$2
failed=0

# Prints the options that a help names at the beginning of a line. Two blanks separate them from their explanation.
of_help()
{
	"$program" help "$1" | sed -nE 's/^  (-.*)/\1/p' | sed 's/  .*//' | grep -oE -- '--?[a-z-]+' | sort -u
}

# Prints the options of a page: those that begin an entry, and those of the synopsis.
of_page()
{
	{
		grep -E '^\*--?[a-z]' "$pages/$1" | grep -oE '\*--?[a-z-]+\*'
		grep -oE '\[\*--?[a-z-]+\*' "$pages/$1"
	} | grep -oE -- '--?[a-z-]+' | sort -u
}

# same PAGE COMMAND...: between them, the commands have what the page has.
same()
{
	local page=$1 difference

	shift
	difference=$(diff <(of_page "$page" | grep -vxE -- '--(help|version)') \
		<(for command; do of_help "$command"; done | sort -u))
	[ -z "$difference" ] && return
	printf '%s (<) and the help of %s (>) differ:\n%s\n' "$page" "$*" "$difference" >&2
	failed=1
}

same bufpipe-list.1.scd list
same bufpipe-send.1.scd send recv
same bufpipe-top.1.scd top
same bufpipe-bridge.1.scd bridge

# The synopsis has every command.
for command in $("$program" --help | sed -nE 's/^  ([a-z]+) .*/\1/p'); do
	grep -qE "^\*bufpipe\* \*$command\*" "$pages/bufpipe.1.scd" || {
		echo "bufpipe.1.scd has no synopsis of $command" >&2
		failed=1
	}
done
exit $failed
