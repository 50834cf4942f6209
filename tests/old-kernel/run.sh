#!/bin/bash
# SPDX-License-Identifier: MIT
# Runs test programs under a kernel of Debian 12, in an emulated machine without hardware acceleration:
#	run.sh BUILD-DIRECTORY [PROGRAM...]
# Without names, it runs all programs in BUILD-DIRECTORY. The kernel is 6.1; with OLD_KERNEL=6.12 it is the one of the
# backports. In that machine overcommit is strict, and io_uring is forbidden if the kernel has a setting for that (6.12).
# It prints "ok NAME" or "FAILED NAME" for each program. If the emulator or the kernel is missing, it skips all of them and
# says why. A program is ok if all of its tests are skipped.
set -uo pipefail
root=$(cd "$(dirname "$0")/../.." && pwd)
build=$(realpath "$1")
shift
version=${OLD_KERNEL-6.1}
work=$build/kernel-$version
if [ $# -eq 0 ]; then
	mapfile -t all < <(find "$build/tests" -maxdepth 1 -name 'test_*' -type f -executable -printf '%f\n' | sort)
	set -- "${all[@]}"
fi

skip() {
	echo "old-kernel: skipped: $*"
	exit 77
}

[ "$(uname -m)" = x86_64 ] || skip "this is no x86-64"
"$root/tools/need-packages" qemu-system-x86 >&2
command -v qemu-system-x86_64 >/dev/null || skip "no qemu-system-x86_64"
mkdir -p "$work"
kernel=$(find "$work/kernel/boot" -name 'vmlinuz-*' 2>/dev/null | head -1)
if [ -z "$kernel" ]; then
	# The package is only unpacked. Installing it would change which kernel this machine boots.
	kernel_package=$(apt-cache search "^linux-image-${version//./\\.}[.][0-9]+[-+][0-9a-z]+-cloud-amd64\$" 2>/dev/null | awk '{ print $1 }' | sort -V | tail -1)
	[ -n "$kernel_package" ] || skip "no package of a $version kernel"
	(cd "$work" && apt-get -qq download "$kernel_package") >&2 || skip "$kernel_package cannot be downloaded"
	dpkg-deb -x "$work/$kernel_package"_*.deb "$work/kernel" || skip "$kernel_package cannot be unpacked"
	kernel=$(find "$work/kernel/boot" -name 'vmlinuz-*' | head -1)
fi

# Everything that is needed, in the memory file system from which the kernel starts.
rm -rf "$work/root"
mkdir -p "$work/root"/{tests,examples,bin,proc,sys,dev,tmp}
"${CC:-cc}" -O1 -static -D_GNU_SOURCE -o "$work/root/init" "$root/tests/old-kernel/init.c" || exit 1
for program in "${@/#/tests/}" examples/echo-daemon; do
	[ -x "$build/$program" ] || continue
	strip -g -o "$work/root/$program" "$build/$program"
	LD_LIBRARY_PATH=$build/lib ldd "$build/$program" | grep -oE '/[^ ]+'
done | sort -u | while read -r library; do
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
timeout -s KILL "${OLD_KERNEL_SECONDS:-3600}" qemu-system-x86_64 -accel tcg,thread=multi -cpu max -smp 2 -m 2048 -nographic \
	-no-reboot -nodefaults -serial stdio -monitor none -kernel "$kernel" -initrd "$work/initrd" \
	-append "console=ttyS0 quiet panic=-1 mitigations=off rdinit=/init" </dev/null | sed -u 's/\r//g' >"$work/log"
failures=0
for program; do
	if grep -q "^RESULT $program 0 " "$work/log"; then
		echo "ok $program"
	else
		sed -n "/^---- $program$/,/^RESULT/p" "$work/log" | tail -40
		echo "FAILED $program"
		failures=$((failures + 1))
	fi
done
[ "$failures" -eq 0 ]
