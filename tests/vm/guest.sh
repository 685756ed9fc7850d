#!/bin/sh
# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: cnm.fabric contributors

# The first process in the virtual machine: run /srv/command, say how it ended, and switch off.

mount -t proc proc /proc
mount -t sysfs sysfs /sys
mount -t cgroup2 cgroup2 /sys/fs/cgroup
mount -t tmpfs -o mode=755 tmpfs /run
mount -t tmpfs tmpfs /tmp
mkdir /dev/pts /dev/shm
mount -t devpts devpts /dev/pts
mount -t tmpfs tmpfs /dev/shm
ln -s /proc/self/fd /dev/fd
hostname -F /etc/hostname
ip link set lo up
mkdir -p /var/cache/cnm.fabric
mount -t 9p -o trans=virtio,version=9p2000.L,ro,cache=loose,msize=512000 cache /var/cache/cnm.fabric
modprobe virtio_console
until [ -c /dev/vport0p2 ]; do sleep 0.1; done # the first one works by then, too

export HOME=/root LC_ALL=C.UTF-8 CNM_VM=yes
export PATH=/opt/venv/bin:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin
cd /srv/tree || exit
if [ -c /dev/hvc0 ]; then
    setsid --ctty --wait sh /srv/command <>/dev/hvc0 >&0 2>&1
else
    {
        echo "Linux $(uname -r), up for $(cut -d ' ' -f 1 /proc/uptime) s"
        sh /srv/command
    } </dev/null >/dev/vport0p1 2>&1
fi
echo $? >/dev/vport0p2
busybox poweroff -fn
