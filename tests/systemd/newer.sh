#!/bin/sh
# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: cnm.fabric contributors

# Pack a package of the system that this runs in again, as a later version of it: newer.sh PACKAGE FILE.deb.
# Its files and maintainer scripts are those that are installed; its programs differ by an octet at their end.
set -eu

package=$1
file=$2
tree=$file.tree

mkdir -p "$tree/DEBIAN"
dpkg-query -L "$package" | while read -r path; do
    [ -d "$path" ] || echo "${path#/}"
done >"$file.list"
tar -C / -cf "$file.tar" -T "$file.list"
tar -C "$tree" -xf "$file.tar"
dpkg-query -s "$package" | sed -e 's/^Version: .*/&+newer/' \
    -e '/^Status:/d; /^Conffiles:/,/^[^ ]/{/^Conffiles:/d; /^ /d}' >"$tree/DEBIAN/control"
for part in conffiles triggers preinst postinst prerm postrm; do
    info=/var/lib/dpkg/info/$package.$part
    [ ! -e "$info" ] || cp -p "$info" "$tree/DEBIAN/$part"
done
for program in "$tree"/usr/sbin/*; do
    echo >>"$program"
done
dpkg-deb -Znone --root-owner-group --build "$tree" "$file"
rm -r "$tree" "$file.tar" "$file.list"
