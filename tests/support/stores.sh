#!/bin/sh
# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: cnm.fabric contributors

# Unpack the servers of lease stores from packages of several releases of Debian: stores.sh FOLDER makes etcd-3.4,
# etcd-3.5, zookeeper and consul there.  Nothing is installed, and apt's own lists are not touched.
set -eu

folder=$1
mirror=${CNM_MIRROR:-http://deb.debian.org/debian}

# Unpack packages of a release: unpacked SUITE NAME PACKAGE…
unpacked() {
    suite=$1
    name=$2
    shift 2
    apt=$folder/apt-$suite
    mkdir -p "$apt/lists/partial" "$apt/archives/partial" "$apt/debs" "$folder/$name"
    printf 'deb [signed-by=/usr/share/keyrings/debian-archive-keyring.gpg] %s %s main\n' "$mirror" "$suite" >"$apt/sources.list"
    : >"$apt/status"
    set -- -o Dir::Etc::sourcelist="$apt/sources.list" -o Dir::Etc::sourceparts=- -o Dir::State::lists="$apt/lists" \
        -o Dir::State::status="$apt/status" -o Dir::Cache="$apt" -o APT::Sandbox::User=root -o Debug::NoLocking=1 \
        -o Acquire::Languages=none -- "$@"
    options=
    for argument; do
        shift
        if [ "$argument" = -- ]; then break; fi
        options="$options $argument"
    done
    # shellcheck disable=SC2086  # a list of options
    [ -e "$apt/updated" ] || apt-get -q $options update
    : >"$apt/updated"
    # shellcheck disable=SC2086
    (cd "$apt/debs" && rm -f ./*.deb && apt-get -q $options download "$@")
    for file in "$apt"/debs/*.deb; do dpkg -x "$file" "$folder/$name"; done
}

unpacked bullseye consul consul
unpacked bookworm etcd-3.4 etcd-server
unpacked bookworm zookeeper zookeeper libzookeeper-java libslf4j-java liblog4j1.2-java libnetty-java libsnappy-java \
    libsnappy-jni libsnappy1v5 libdropwizard-metrics-java libjackson2-annotations-java libjackson2-core-java \
    libjackson2-databind-java libcommons-cli-java libcommons-io-java libjctools-java libjetty9-java libservlet-api-java
unpacked trixie etcd-3.5 etcd-server
rm -rf "$folder"/apt-*
