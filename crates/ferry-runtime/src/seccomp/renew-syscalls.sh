#!/bin/sh
# Writes syscalls.rs: every system call's number on the architectures that the filter compiler knows.
#
#   renew-syscalls.sh DIR [UNISTD_X32_H] >syscalls.rs
#
# DIR has zsysnum_linux_{amd64,386,arm64,arm}.go of golang.org/x/sys/unix, the newest version, which are made from the
# kernel's own headers:  go mod download -json golang.org/x/sys@latest  names the directory (append /unix).
# UNISTD_X32_H is the kernel's header for x32 (Debian: linux-libc-dev). From 424 on x32 has x86_64's numbers, but for calls
# that the kernel's arch/x86/entry/syscalls/syscall_64.tbl marks "64".
set -eu
dir=$1
x32=${2:-/usr/include/x86_64-linux-gnu/asm/unistd_x32.h}
{
    for pair in x86_64:amd64 i386:386 aarch64:arm64 arm:arm; do
        awk -v arch="${pair%%:*}" '$1 ~ /^SYS_/ && $2 == "=" {
            name = tolower(substr($1, 5)); if (name != "syscall_mask") print arch, name, $3 }' \
            "$dir/zsysnum_linux_${pair##*:}.go"
    done
    awk '$2 == "=" && $1 ~ /^SYS_/ && $3 >= 424 && $1 != "SYS_MAP_SHADOW_STACK" { print "x32", tolower(substr($1, 5)), $3 }' "$dir/zsysnum_linux_amd64.go"
    sed -n 's/^#define __NR_\([a-z0-9_]*\) (__X32_SYSCALL_BIT + \([0-9]*\))$/x32 \1 \2/p' "$x32" | awk '$3 < 424 || $3 >= 512'
    # arch/arm/include/uapi/asm/unistd.h: an alias, and __ARM_NR_BASE + n
    echo 'arm sync_file_range2 341'
    echo 'arm breakpoint 983041'; echo 'arm cacheflush 983042'; echo 'arm usr26 983043'
    echo 'arm usr32 983044'; echo 'arm set_tls 983045'; echo 'arm get_tls 983046'
} | awk '
    { number[$2, $1] = $3; names[$2] = 1 }
    END {
        split("x86_64 i386 x32 aarch64 arm", arches)
        for (name in names) {
            row = "(\"" name "\", ["
            for (i = 1; i <= 5; i++)
                row = row (i > 1 ? ", " : "") ((name, arches[i]) in number ? number[name, arches[i]] : "NO")
            print row "]),"
        }
    }' | LC_ALL=C sort | awk '
    BEGIN {
        print "//! Numbers of system calls. Made by renew-syscalls.sh from the kernel'"'"'s headers; not to be edited."
        print ""
        print "/// There is no such call."
        print "pub(super) const NO: i32 = -1;"
        print ""
        print "/// By name, in byte order: the numbers on x86_64, i386, x32 (without its bit), aarch64 and arm."
        print "#[rustfmt::skip]"
        print "pub(super) static SYSCALLS: &[(&str, [i32; 5])] = &["
        line = "   "
    }
    { if (length(line) + 1 + length($0) > 110) { print line; line = "   " } line = line " " $0 }
    END { print line; print "];" }'
