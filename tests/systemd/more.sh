#!/bin/sh
# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: cnm.fabric contributors

# Add packages to what the systems of these tests run: more.sh FOLDER TREE PACKAGE… puts what they add to the tree into
# root/ in the folder, a layer above it.  Their services are enabled, as Debian enables them.
set -eu

folder=$1
tree=$2
shift 2

mkdir "$folder/root" "$folder/work" "$folder/all"
mount --make-rprivate /
mount -t overlay -o "lowerdir=$tree,upperdir=$folder/root,workdir=$folder/work" system "$folder/all"
all=$folder/all
mount -t proc proc "$all/proc"
mount -t tmpfs tmpfs "$all/run"
# The archive is reached by this machine's names; the tree's own file stays as it is.
mount --bind /etc/resolv.conf "$all/etc/resolv.conf"
printf '#!/bin/sh\nexit 101\n' >"$all/run/policy-rc.d"
: >"$all/usr/sbin/policy-rc.d"
mount --bind "$all/run/policy-rc.d" "$all/usr/sbin/policy-rc.d"
chmod 755 "$all/run/policy-rc.d"
export DEBIAN_FRONTEND=noninteractive LC_ALL=C
chroot "$all" apt-get -q update
chroot "$all" apt-get -q -y --no-install-recommends install "$@"
chroot "$all" apt-get -q clean
umount "$all/usr/sbin/policy-rc.d"
rm "$all/usr/sbin/policy-rc.d"
rm -rf "$all"/var/lib/apt/lists/*
umount "$all/etc/resolv.conf" "$all/run" "$all/proc" "$all"
rm -rf "$folder/work" "$folder/all"
