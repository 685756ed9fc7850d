#!/bin/sh
# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: cnm.fabric contributors

# Make what the systems of these tests run: image.sh FOLDER SUITE puts a tree, root/, and an ssh key into the folder.
# A whole Debian with systemd as its first process, as people install it: udev, ssh, ifupdown, nftables.service enabled.
set -eu

folder=$1
suite=$2
root=$folder/root
mirror=http://deb.debian.org/debian

packages=systemd-sysv,udev,dbus,libpam-systemd,sudo,openssh-server,python3,ifupdown,netbase,procps,kmod
packages=$packages,iproute2,iputils-ping,nftables,conntrack,dnsmasq-base

echo "  a Debian $suite with systemd"
debootstrap --variant=minbase --include=$packages "$suite" "$root" $mirror
rm -rf "$root"/var/cache/apt/archives/*.deb

echo "  its settings"
ssh-keygen -q -t ed25519 -N '' -C cnm-system -f "$folder/key"
install -d -m 700 "$root/root/.ssh"
install -m 600 "$folder/key.pub" "$root/root/.ssh/authorized_keys"
echo 'UseDNS no' >"$root/etc/ssh/sshd_config.d/system.conf"
echo 'nameserver 192.0.2.1' >"$root/etc/resolv.conf"
: >"$root/etc/fstab"
# A machine's id is its own; an empty file has systemd make one.
: >"$root/etc/machine-id"
chroot "$root" systemctl -q enable nftables.service ssh.service
chroot "$root" systemctl -q mask apt-daily.timer apt-daily-upgrade.timer
mkdir -p "$root/var/log/journal" # so that the journal outlives a reboot
