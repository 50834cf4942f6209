#!/bin/bash
# SPDX-License-Identifier: MIT
# usage: test-completion.sh PROGRAM COMPLETION-DIRECTORY
# Checks that the completion of bash offers what the program names, and that zsh can read its own.
set -eu

program=$(realpath "$1")
directory=$2
failed=0

# shellcheck source=tools/completion/bufpipe.bash
. "$directory/bufpipe.bash"

# What is offered for the last of these words.
offers() {
	COMP_WORDS=("$program" "$@")
	COMP_CWORD=$#
	_bufpipe
	printf '%s\n' ${COMPREPLY[@]+"${COMPREPLY[@]}"} | sort | paste -sd' '
}

expect() {
	local wanted=$1 found
	shift
	found=$(offers "$@")
	if [ "$found" != "$wanted" ]; then
		printf "bufpipe %s: '%s' is offered, not '%s'\n" "$*" "$found" "$wanted" >&2
		failed=1
	fi
}

# A name that the shell knows is a command, too.
test-completion-command() { :; }

expect 'send' se
expect 'recv' help r
expect '--block --buffer' send --b
expect '--lines' send --li
expect '' send --buffer 1
expect '' demo --lines
expect '' nonsense --b
expect '--any-user --auth' bridge --a
expect '--keep' recv --k
expect '--rate' list --ra
expect 'fill' list --sort f
expect '' list --pid 1
expect 'test-completion-command' recv --exec test-completion-c
cd "$directory"
expect 'bufpipe.bash' recv bufpipe.b

# Each option that is offered is one that the program knows.
for command in send recv list; do
	for option in $(offers $command --); do
		if "$program" $command "$option" 2>&1 </dev/null | grep -q 'unrecognized option'; then
			echo "bufpipe $command does not know $option" >&2
			failed=1
		fi
	done
done

if command -v zsh >/dev/null; then
	zsh -n _bufpipe || failed=1
fi
exit $failed
