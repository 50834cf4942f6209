#!/bin/sh
# SPDX-License-Identifier: MIT
# Every public call has a page, and the pages are well formed:
#	check-pages.sh DIRECTORY-OF-PAGES HEADER...

set -u
pages=$1
shift
failures=0

fail()
{
	echo "$*"
	failures=$((failures + 1))
}

for name in $(grep -h -v '^typedef' "$@" | grep -o '^[a-z].*\bbufpipe_[a-z_]*(' | grep -o 'bufpipe_[a-z_]*($' | tr -d '('); do
	[ -s "$pages/$name.3" ] || fail "$name has no page"
done

for page in "$pages"/*.[137]; do
	target=$(sed -n 's/^\.so //p' "$page")
	if [ -n "$target" ]; then
		[ -s "$pages/$(basename "$target")" ] || fail "$page leads nowhere: $target"
		name=$(basename "$page")
		sed 's/\\//g' "$pages/$(basename "$target")" | grep -q "${name%.*}" || fail "$target does not tell of $name"
	elif command -v mandoc >/dev/null; then
		# scdoc always leaves empty paragraphs behind, which do no harm.
		mandoc -T lint -W warning "$page" | grep -v 'skipping paragraph macro' &&
			fail "$page: see above"
	fi
done

# If a page of ours is referred to, it must exist.
names=$(sed 's/\\f[BIR]//g; s/\\//g' "$pages"/*.[137] | grep -o 'bufpipe[a-z_-]*([137])' | sort -u)
for name in $names; do
	page=$(echo "$name" | sed 's/(\(.\))/.\1/')
	[ -s "$pages/$page" ] || fail "there is no $name"
done

[ $failures -eq 0 ]
