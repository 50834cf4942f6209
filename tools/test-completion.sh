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

# Prints what is offered for the last of these words.
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

# A name that the shell knows is offered as a command, too.
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
expect 'fill' top --sort f
expect '' top -d 1
expect '' list --pid 1
expect 'test-completion-command' recv --exec test-completion-c
cd "$directory"
expect 'bufpipe.bash' recv bufpipe.b

# Prints the options that a help explains at the beginning of a line.
explained() {
	"$program" help "$1" | sed -nE 's/^  (-.*)/\1/p' | sed 's/  .*//' | grep -oE -- '--?[a-z-]+' | sort -u
}

# Prints what zsh would offer. Functions that print their arguments replace its own functions.
offered_by_zsh() {
	# shellcheck disable=SC2016 # zsh expands them
	zsh -f -c '
		_arguments() { print -rl -- "$@" }
		_call_program() { shift; "$@" }
		words=("$1" "$2" "") CURRENT=3
		. ./_bufpipe' zsh "$program" "$1" | grep -oE -- '^--?[a-z-]+'
}

commands=$("$program" --help | sed -nE 's/^  ([a-z]+) .*/\1/p' | grep -v help)
for command in $commands; do
	# Each option that is explained is offered.
	for option in $(explained "$command"); do
		if ! offers "$command" - | tr ' ' '\n' | grep -qxe "$option"; then
			echo "bash does not offer $option of $command" >&2
			failed=1
		fi
		if command -v zsh >/dev/null && ! offered_by_zsh "$command" | grep -qxe "$option"; then
			echo "zsh does not offer $option of $command" >&2
			failed=1
		fi
	done
	# Each option that is offered is one that the program knows; demo, show and bridge have an order of their own.
	case $command in send | recv | list | top) ;; *) continue ;; esac
	for option in $(offers "$command" -); do
		# The last word keeps it from beginning.
		if "$program" "$command" "$option" --no-such-option 2>&1 </dev/null | grep -v no-such-option |
			grep -qE 'unrecognized option|invalid option'; then
			echo "bufpipe $command does not know $option" >&2
			failed=1
		fi
	done
done

if command -v zsh >/dev/null; then
	zsh -n _bufpipe || failed=1
fi
exit $failed
