#!/bin/sh
# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: cnm.fabric contributors

# Make what the guests boot: image.sh FOLDER SUITE puts vmlinuz, initrd, root.img and an ssh key into the folder.
# A whole Debian with systemd as its first process, as people install it: udev, ssh, ifupdown, nftables.service enabled.
set -eu

folder=$1
suite=$2
root=$folder/root
mirror=http://deb.debian.org/debian

packages=linux-image-amd64,kmod,busybox-static,procps,cpio
packages=$packages,systemd-sysv,udev,dbus,openssh-server,python3,ifupdown,netbase
packages=$packages,iproute2,iputils-ping,nftables,conntrack,dnsmasq-base

echo "  a Debian $suite with systemd"
# The initramfs is our own, see below.
INITRD=No debootstrap --variant=minbase --include=$packages "$suite" "$root" $mirror
rm -rf "$root"/var/cache/apt/archives/*.deb "$root"/var/lib/apt/lists/*

echo "  its settings"
ssh-keygen -q -t ed25519 -N '' -C cnm-guest -f "$folder/key"
install -d -m 700 "$root/root/.ssh"
install -m 600 "$folder/key.pub" "$root/root/.ssh/authorized_keys"
echo 'UseDNS no' >"$root/etc/ssh/sshd_config.d/guest.conf"
echo guest >"$root/etc/hostname"
echo '127.0.0.1 localhost guest' >"$root/etc/hosts"
echo 'nameserver 192.0.2.1' >"$root/etc/resolv.conf"
echo '/dev/vda / ext4 errors=remount-ro 0 0' >"$root/etc/fstab"
# The first link is for ssh alone: QEMU's own network, which leads nowhere.  The second is the guest's LAN.
cat >"$root/etc/network/interfaces" <<'END'
auto lo
iface lo inet loopback

auto enp0s16
iface enp0s16 inet static
    address 10.0.2.15/24

allow-hotplug enp0s17
iface enp0s17 inet static
    address 192.168.77.1/24
    gateway 192.168.77.2
END
# /etc/nftables.conf is Debian's, and begins with `flush ruleset`.
chroot "$root" systemctl -q enable nftables.service ssh.service
chroot "$root" systemctl -q mask apt-daily.timer apt-daily-upgrade.timer
mkdir -p "$root/var/log/journal" # so that the journal outlives a reboot

echo "  an initramfs that can read the disk and no more"
kernel=$(basename "$root"/lib/modules/*)
mkdir -p "$root/early/bin" "$root/early/dev" "$root/early/root"
cp "$root/bin/busybox" "$root/early/bin"
{
    echo '#!/bin/busybox sh'
    for module in virtio_pci virtio_blk crc32c_generic ext4; do
        chroot "$root" modprobe --set-version "$kernel" --show-depends $module
    done | while read -r insmod file; do
        [ -e "$root/early/${file##*/}" ] || echo "busybox $insmod /${file##*/}"
        cp "$root/$file" "$root/early/"
    done
    cat <<'END'
busybox mount -t devtmpfs dev /dev
until [ -b /dev/vda ]; do busybox sleep 0.1; done
busybox mount -t ext4 /dev/vda /root
exec busybox switch_root /root /sbin/init
END
} >"$root/early/init"
chmod 755 "$root/early/init"
chroot "$root" sh -c 'cd /early && find . | cpio -o -H newc --quiet | gzip -1' >"$folder/initrd"
rm -r "$root/early"

echo "  its disk"
cp "$root"/boot/vmlinuz-* "$folder/vmlinuz"
mke2fs -q -t ext4 -m 0 -d "$root" "$folder/root.img" 3G
rm -rf "$root"
