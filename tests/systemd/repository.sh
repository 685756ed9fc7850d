#!/bin/sh
# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: cnm.fabric contributors

# Make a repository of packages for systems, whose network is closed: repository.sh FOLDER ROOT "REMOVED" "PACKAGES"
# puts there the packages, and what they need that a tree ROOT of image.sh has not, once REMOVED are removed from it.
# To be run in a mount namespace of its own.
set -eu

folder=$1
image=$2
removed=$3
packages=$4

mkdir -p "$folder/new" "$folder/work" "$folder/root"
mount -t overlay -o "lowerdir=$image,upperdir=$folder/new,workdir=$folder/work" overlay "$folder/root"
root=$folder/root
cp --remove-destination /etc/resolv.conf "$root/etc/resolv.conf"
mount -t proc proc "$root/proc"
mount --rbind /dev "$root/dev"
export DEBIAN_FRONTEND=noninteractive
# shellcheck disable=SC2086  # lists of words
{
    [ -z "$removed" ] || chroot "$root" dpkg --purge --force-depends $removed
    chroot "$root" apt-get update
    chroot "$root" apt-get clean
    chroot "$root" apt-get install --yes --fix-broken --no-install-recommends --download-only $packages
}
mkdir "$folder/packages"
for file in "$root"/var/cache/apt/archives/*.deb; do
    name=$(basename "$file")
    cp "$file" "$folder/packages/$name"
    dpkg-deb --field "$file"
    echo "Filename: ./$name"
    echo "Size: $(stat -c %s "$file")"
    echo "SHA256: $(sha256sum "$file" | cut -d ' ' -f 1)"
    echo
done >"$folder/packages/Packages"
umount -R "$root"
rm -rf "$folder/new" "$folder/work" "$root"
