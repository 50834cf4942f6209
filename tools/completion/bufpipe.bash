# SPDX-License-Identifier: MIT
# bash completion for bufpipe(1). The commands and options are those that the program itself names.

_bufpipe() {
	local current=${COMP_WORDS[COMP_CWORD]} previous=${COMP_WORDS[COMP_CWORD - 1]} program=${COMP_WORDS[0]}
	local help words

	COMPREPLY=()
	if [[ $COMP_CWORD -eq 1 || ($COMP_CWORD -eq 2 && $previous == help) ]]; then
		# The lines of the overview that begin with two blanks and a word are the commands.
		words=$("$program" --help 2>/dev/null | sed -n 's/^  \([a-z][a-z]*\) .*/\1/p')
		[[ $COMP_CWORD -eq 2 ]] || words+=" --help --version"
		mapfile -t COMPREPLY < <(compgen -W "$words" -- "$current")
		return
	fi
	help=$("$program" help "${COMP_WORDS[1]}" 2>/dev/null) || return
	# What an option wants stands behind it, in capitals.
	if [[ $previous == -* ]]; then
		case $(grep -oE -- "$previous [A-Z]+" <<<"$help" | head -n 1) in
		*' FILE' | *' DIR' | *' PIPE')
			mapfile -t COMPREPLY < <(compgen -f -- "$current")
			return
			;;
		*' COMMAND')
			mapfile -t COMPREPLY < <(compgen -c -- "$current")
			return
			;;
		*' ORDER')
			mapfile -t COMPREPLY < <(compgen -W 'pipe name fill rate time' -- "$current")
			return
			;;
		*' SIZE' | *' SECONDS' | *' NAME' | *' PID' | *' COUNT') return ;;
		esac
	fi
	if [[ $current == -* ]]; then
		words=$(sed -n 's/^  \(-[a-z]\) .*/\1/p' <<<"$help")
		words+=" $(grep -oE -- '--[a-z][a-z-]*' <<<"$help" | sort -u)"
		mapfile -t COMPREPLY < <(compgen -W "$words --help" -- "$current")
		return
	fi
	# An address may be a path.
	mapfile -t COMPREPLY < <(compgen -f -- "$current")
}

complete -o filenames -F _bufpipe bufpipe
