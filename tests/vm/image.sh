#!/bin/sh
# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: cnm.fabric contributors

# Make what the virtual machine boots: image.sh FOLDER PYTHON puts vmlinuz, initrd and root.img into the folder.
# PYTHON is one with pip, which fetches the tests' packages.
set -eu

folder=$1
python=$2
here=$(CDPATH='' cd -- "$(dirname -- "$0")" && pwd -P)
root=$folder/root

suite=bookworm
mirror=http://deb.debian.org/debian
# The kernel "cloud" would be smaller, but is without most of the modules that are wanted here.
packages=linux-image-amd64,kmod,busybox-static,procps,python3-venv
packages=$packages,iproute2,iputils-ping,nftables,conntrack,dnsmasq-base,ipvsadm,tcpdump,openssh-server,frr

echo "  a Debian $suite with its kernel"
# The initramfs is our own, see below.
INITRD=No debootstrap --variant=minbase --include=$packages $suite "$root" $mirror
echo guest >"$root/etc/hostname"
echo '127.0.0.1 localhost guest' >"$root/etc/hosts"
: >"$root/etc/resolv.conf"
rm -rf "$root"/var/cache/apt/* "$root"/var/lib/apt/lists/*
mkdir "$root/srv/tree"

echo "  the tests' Python packages"
"$python" -m pip download -q --no-input --disable-pip-version-check --python-version 3.11 --only-binary=:all: \
    -d "$root/opt/wheels" -r "$here/requirements.txt"
chroot "$root" python3 -m venv /opt/venv
chroot "$root" sh -c '/opt/venv/bin/pip --isolated install -q --no-index --no-deps /opt/wheels/*'
rm -r "$root/opt/wheels"

echo "  an initramfs that can read the disk and no more"
kernel=$(basename "$root"/lib/modules/*)
mkdir -p "$folder/early/bin" "$folder/early/dev" "$folder/early/root"
cp "$root/bin/busybox" "$folder/early/bin"
{
    echo '#!/bin/busybox sh'
    for module in virtio_pci virtio_blk crc32c_generic ext4; do
        chroot "$root" modprobe --set-version "$kernel" --show-depends $module
    done | while read -r insmod file; do
        [ -e "$folder/early/${file##*/}" ] || echo "busybox $insmod /${file##*/}"
        cp "$root/$file" "$folder/early/"
    done
    cat <<'END'
busybox mount -t devtmpfs dev /dev
until [ -b /dev/vda ] && [ -b /dev/vdb ]; do busybox sleep 0.1; done
busybox mount -t ext4 /dev/vda /root
busybox mount -t devtmpfs dev /root/dev
busybox chroot /root tar -C /srv -xf /dev/vdb
exec busybox switch_root /root /bin/sh /srv/tree/tests/vm/guest.sh
END
} >"$folder/early/init"
chmod 755 "$folder/early/init"
mv "$folder/early" "$root/early"
chroot "$root" sh -c 'cd /early && find . | cpio -o -H newc --quiet | gzip -1' >"$folder/initrd"
rm -r "$root/early"

echo "  its disk"
cp "$root"/boot/vmlinuz-* "$folder/vmlinuz"
mke2fs -q -t ext4 -O ^has_journal -m 0 -d "$root" "$folder/root.img" 4G
rm -rf "$root"
