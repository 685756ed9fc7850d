#!/bin/sh
# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: cnm.fabric contributors

# Become the first process of a system: start.sh ROOT BOOT_ID CGROUP, in namespaces of its own (see systems.py).
set -eu

root=$1
boot=$2
cgroup=$3

mount --make-rprivate /
mount --rbind "$root" "$root"
mount -t proc proc "$root/proc"
mount -t sysfs sysfs "$root/sys"
mount -t tmpfs -o mode=755 tmpfs "$root/run"
mount -t tmpfs -o mode=1777 tmpfs "$root/tmp"
mount --bind "$cgroup" "$root/sys/fs/cgroup"
mount -t tmpfs -o mode=755 tmpfs "$root/dev"
for node in null zero full random urandom tty net/tun; do
    [ -e /dev/$node ] || continue
    mkdir -p "$(dirname "$root/dev/$node")"
    : >"$root/dev/$node"
    mount --bind /dev/$node "$root/dev/$node"
done
mkdir "$root/dev/pts" "$root/dev/shm"
mount -t devpts -o newinstance,ptmxmode=0666,mode=620,gid=5 devpts "$root/dev/pts"
mount -t tmpfs -o mode=1777 tmpfs "$root/dev/shm"
ln -s pts/ptmx "$root/dev/ptmx"
ln -s /proc/self/fd "$root/dev/fd"
# What a kernel says of this boot; the machine's is that of all systems on it.
echo "$boot" >"$root/run/boot-id"
# systemd hears of devices only where /dev is a devtmpfs, which would be the machine's own, or this file is there.
mkdir "$root/run/udev"
: >"$root/run/udev/control"
mount --bind "$root/run/boot-id" "$root/proc/sys/kernel/random/boot_id"
cd "$root"
pivot_root . mnt
umount -l /mnt
mount --make-rshared /
hostname "$(cat /etc/hostname)"
exec env -i container=cnm PATH=/usr/sbin:/usr/bin:/sbin:/bin /lib/systemd/systemd
