#!/bin/bash
# SPDX-License-Identifier: MIT
# Runs test programs under a kernel of Debian 12, in an emulated machine without hardware acceleration:
#	run.sh BUILD-DIRECTORY PROGRAM...
#	run.sh BUILD-DIRECTORY --get-kernel
# The kernel is 6.1; with OLD_KERNEL=6.12 it is the one of the backports. In that machine overcommit is strict, and io_uring is
# forbidden if the kernel has a setting for that (6.12). After OLD_KERNEL_SECONDS it skips what has not ended.
# It prints "ok NAME" or "FAILED NAME" for each program. A program that fails runs once more, and is ok if it passes then. A
# program is ok if all of its tests are skipped. If the emulator or the kernel is missing, or if the machine does not start, it
# skips all of them, says why and exits with 77.
set -uo pipefail
root=$(cd "$(dirname "$0")/../.." && pwd)
build=$(realpath "$1")
shift
version=${OLD_KERNEL-6.1}
limit=${OLD_KERNEL_SECONDS-3600}
# On a free machine it is 15 seconds.
start_limit=150
work=$(dirname "$build")/kernel-$version

skip() {
	echo "old-kernel: skipped: $*"
	exit 77
}

find_kernel() {
	kernel=$(find "$work/kernel/boot" -name 'vmlinuz-*' 2>/dev/null | head -1)
	[ -n "$kernel" ]
}

find_package() {
	package=$(apt-cache search "^linux-image-${version//./\\.}[.][0-9]+[-+][0-9a-z]+-cloud-amd64\$" 2>/dev/null | awk '{ print $1 }' | sort -V | tail -1)
	[ -n "$package" ]
}

# The package is only unpacked. Installing it would change which kernel this machine boots.
get_kernel() {
	mkdir -p "$work"
	find_package || {
		apt-get -qq update >&2
		find_package
	} || skip "no package of a $version kernel"
	(cd "$work" && apt-get -qq download "$package") >&2 || skip "$package cannot be downloaded"
	dpkg-deb -x "$work/$package"_*.deb "$work/kernel" || skip "$package cannot be unpacked"
	find_kernel || skip "no kernel in $package"
}

[ "$(uname -m)" = x86_64 ] || skip "this is no x86-64"
"$root/tools/need-packages" qemu-system-x86 >&2
command -v qemu-system-x86_64 >/dev/null || skip "no qemu-system-x86_64"
find_kernel || get_kernel
[ "${1-}" != --get-kernel ] || exit 0

# Everything that is needed, in the memory file system from which the kernel starts.
rm -rf "$work/root"
mkdir -p "$work/root"/{tests,examples,bin,proc,sys,dev,tmp}
"${CC:-cc}" -O1 -static -D_GNU_SOURCE -o "$work/root/init" "$root/tests/old-kernel/init.c" || exit 1
sleep=$(type -P sleep)
cp "$sleep" "$work/root/bin/"
{
	ldd "$sleep" | grep -oE '/[^ ]+'
	# The C library opens it to cancel a thread.
	ldconfig -p | awk '$1 == "libgcc_s.so.1" && /x86-64/ { print $NF; exit }'
	for program in "${@/#/tests/}" examples/echo-daemon; do
		[ -x "$build/$program" ] || continue
		strip -g -o "$work/root/$program" "$build/$program"
		LD_LIBRARY_PATH=$build/lib ldd "$build/$program" | grep -oE '/[^ ]+'
	done
} | sort -u | while read -r library; do
	to=$library
	case $library in
	"$build"/*) to=/lib/$(basename "$library") ;; # where a test looks for it: ../lib
	esac
	mkdir -p "$work/root$(dirname "$to")"
	cp -L "$library" "$work/root$to"
done
printf '%s\n' "$@" >"$work/root/programs"
python3 - "$work/root" "$work/initrd" <<'END'
import os, stat, sys
root, out = sys.argv[1:]
with open(out, "wb") as f:
    def entry(name, mode, data=b""):
        fields = [0, mode, 0, 0, 1, 0, len(data), 0, 0, 0, 0, len(name) + 1, 0]
        head = b"070701" + b"".join(b"%08x" % x for x in fields) + name.encode() + b"\0"
        f.write(head + b"\0" * (-len(head) % 4) + data + b"\0" * (-len(data) % 4))
    for folder, folders, files in os.walk(root):
        for name in sorted(folders):
            entry(os.path.relpath(os.path.join(folder, name), root), stat.S_IFDIR | 0o755)
        for name in sorted(files):
            path = os.path.join(folder, name)
            entry(os.path.relpath(path, root), stat.S_IFREG | 0o755, open(path, "rb").read())
    entry("TRAILER!!!", 0)
END

begin=$SECONDS
qemu-system-x86_64 -accel tcg,thread=multi -cpu max -smp 2 -m 4096 -nographic -no-reboot -nodefaults -serial stdio -monitor none \
	-kernel "$kernel" -initrd "$work/initrd" -append "console=ttyS0 quiet panic=-1 mitigations=off rdinit=/init" \
	</dev/null > >(sed -u 's/\r//g' >"$work/log") 2>"$work/errors" &
machine=$!
trap 'kill -KILL $machine 2>/dev/null' EXIT
cut_off=
while kill -0 $machine 2>/dev/null; do
	if ! grep -qs '^START ' "$work/log" && [ $((SECONDS - begin)) -ge $start_limit ]; then
		skip "the machine did not start in $start_limit seconds: $(tail -1 "$work/errors")"
	elif [ $((SECONDS - begin)) -ge "$limit" ]; then
		kill -KILL $machine
		cut_off=yes
		break
	fi
	sleep 1
done
# A kernel that panics ends the machine with 0.  Anything else says nothing about the kernel.
wait $machine 2>/dev/null || cut_off=yes
sleep 1
grep -qs '^START ' "$work/log" || skip "the machine does not start: $(tail -1 "$work/errors")"
failures=0
for program; do
	if grep -q "^RESULT $program 0 " "$work/log"; then
		grep -q "^RESULT $program [1-9]" "$work/log" && sed -n "/^---- $program$/,/^RESULT/p" "$work/log" | tail -40
		echo "ok $program"
	elif [ "$cut_off" ] && ! grep -q "^RESULT $program " "$work/log"; then
		echo "old-kernel: skipped: $program was not done after $((SECONDS - begin)) seconds"
	else
		sed -n "/^---- $program$/,/^RESULT/p" "$work/log" | tail -40
		echo "FAILED $program"
		failures=$((failures + 1))
	fi
done
[ "$failures" -eq 0 ]
