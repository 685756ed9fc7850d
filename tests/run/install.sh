# shellcheck shell=sh
# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: cnm.fabric contributors

# Install what this machine lacks, with apt.

: "${cache:?}"

# Print the first Python that Ansible runs on and that can make a virtual environment.
suitable_python() {
    for candidate in ${CNM_PYTHON:-/usr/bin/python3 python3 python3.13 python3.12 python3.11}; do
        if "$candidate" -c 'import sys, ensurepip, venv; sys.exit(sys.version_info < (3, 11))' >/dev/null 2>&1; then
            command -v "$candidate"
            return 0
        fi
    done
    return 1
}

missing_packages() {
    for pair in ip:iproute2 ping:iputils-ping nft:nftables dnsmasq:dnsmasq-base conntrack:conntrack sshd:openssh-server \
        ssh:openssh-client nsenter:util-linux ps:procps "$@"; do
        has "${pair%%:*}" || printf ' %s' "${pair#*:}"
    done
    [ -x /usr/bin/python3 ] || printf ' python3'
    suitable_python >/dev/null || printf ' python3-venv'
    [ -e /etc/ssl/certs/ca-certificates.crt ] || printf ' ca-certificates'
}

updated=
apt_install() {
    has apt-get || die "this machine has no apt-get; install these yourself: $*"
    mkdir -p "$cache"
    say "  with apt: $*"
    if [ -z "$updated" ]; then
        quietly "$cache/apt.log" apt-get -q update
        updated=yes
    fi
    services=kept
    if [ ! -e /usr/sbin/policy-rc.d ]; then
        # No service that is installed here shall start: the lab has its own.
        printf '#!/bin/sh\nexit 101\n' >/usr/sbin/policy-rc.d
        chmod 755 /usr/sbin/policy-rc.d
        undo="rm -f /usr/sbin/policy-rc.d; $undo"
        services=ours
    fi
    DEBIAN_FRONTEND=noninteractive quietly "$cache/apt.log" apt-get -q -y -o Dpkg::Use-Pty=0 \
        --no-install-recommends install "$@"
    [ "$services" = kept ] || rm -f /usr/sbin/policy-rc.d
    case " $* " in
        *' openssh-server '*)
            disable_ssh >/dev/null 2>&1
            say "  openssh-server was not there before: its service is neither started nor enabled"
            ;;
        *' podman '*) disable_podman >/dev/null 2>&1 ;;
        *' frr '*) disable_frr >/dev/null 2>&1 ;;
    esac
    case " $* " in
        *' docker.io '*)
            disable_docker >/dev/null 2>&1
            say "  docker.io was not there before: its services are neither started nor enabled"
            ;;
    esac
}

disable_ssh() {
    ! has update-rc.d || update-rc.d ssh disable || :
    if has systemctl; then
        systemctl disable ssh.service ssh.socket || :
    fi
    # where systemd is not there yet, these would still enable it
    (cd /etc/systemd/system && rm -f sshd.service multi-user.target.wants/ssh.service \
        sockets.target.wants/ssh.socket ssh.service.requires/ssh.socket) || :
}

disable_docker() {
    ! has update-rc.d || update-rc.d docker disable || :
    if has systemctl; then
        systemctl disable docker.service docker.socket containerd.service || :
    fi
    (cd /etc/systemd/system && rm -f multi-user.target.wants/docker.service sockets.target.wants/docker.socket \
        multi-user.target.wants/containerd.service) || :
}

disable_podman() {
    if has systemctl; then
        systemctl disable podman.socket podman.service podman-restart.service podman-auto-update.timer || :
    fi
    (cd /etc/systemd/system && rm -f sockets.target.wants/podman.socket default.target.wants/podman*.service \
        timers.target.wants/podman-auto-update.timer) || :
}

disable_frr() {
    ! has update-rc.d || update-rc.d frr disable || :
    if has systemctl; then
        systemctl disable frr.service || :
    fi
    (cd /etc/systemd/system && rm -f multi-user.target.wants/frr.service) || :
}

# Install what every verb needs and PROGRAM:PACKAGE… besides; `python` is the one to run the controller on.
# shellcheck disable=SC2034  # for the other parts
install() {
    if [ ! -e /proc/self ]; then
        mkdir -p /proc
        mount -t proc proc /proc || die "/proc is not mounted, and cannot be"
        undo="umount -l /proc; $undo"
    fi
    lacking=$(missing_packages "$@")
    # shellcheck disable=SC2086  # a list of words
    [ -z "$lacking" ] || apt_install $lacking
    if ! python=$(suitable_python); then
        # a distribution whose own Python is older than Ansible's oldest
        apt-cache show python3.11-venv >/dev/null 2>&1 || die "Ansible needs Python 3.11 or newer, and there is none"
        apt_install python3.11 python3.11-venv
        python=$(suitable_python) || die "Ansible needs Python 3.11 or newer, with its venv module"
    fi
}

# A Docker Engine to compare with, and podman, which only the tests start.
engine() { install dockerd:docker.io podman:podman; }

# What benchmarks run beside ours.
peers() { install dockerd:docker.io /usr/lib/cni/bridge:containernetworking-plugins; }

# What hosts may have besides: FRR, which only the tests start, and a chain of Docker's.
routing() { install vtysh:frr iptables:iptables; }

# What the tutorial has its reader install.
tutorial() { install git:git curl:curl; }

# Whole systems, from their distribution's packages.
bootstrap() {
    install debootstrap:debootstrap
    [ -e /usr/share/keyrings/debian-archive-keyring.gpg ] || apt_install debian-archive-keyring
}

# What servers of lease stores need, which the tests unpack from packages of several releases.
stores() {
    install java:default-jre-headless openssl:openssl
    [ -e /usr/share/keyrings/debian-archive-keyring.gpg ] || apt_install debian-archive-keyring
}

# A browser, Graphviz, and from npm what checks pages for people who cannot see them, and what draws Mermaid's charts.
browser() {
    install chromium:chromium dot:graphviz npm:npm
    packages="axe-core@4.14.1 mermaid@12.3.0"
    CNM_SCRIPTS=$cache/scripts-$(printf %s "$packages" | hash_of)
    export CNM_SCRIPTS
    [ ! -e "$CNM_SCRIPTS/complete" ] || return 0
    say "  with npm, into $CNM_SCRIPTS: $packages"
    rm -rf "$CNM_SCRIPTS"
    mkdir -p "$CNM_SCRIPTS"
    # shellcheck disable=SC2086  # a list of words
    quietly "$cache/npm.log" npm pack --silent --cache "$cache/npm" --pack-destination "$CNM_SCRIPTS" $packages
    tar -x -z -C "$CNM_SCRIPTS" --strip-components 1 -f "$CNM_SCRIPTS"/axe-core-*.tgz package/axe.min.js
    tar -x -z -C "$CNM_SCRIPTS" --strip-components 2 -f "$CNM_SCRIPTS"/mermaid-*.tgz package/dist/mermaid.min.js
    rm -rf "$CNM_SCRIPTS"/*.tgz "$cache/npm"
    : >"$CNM_SCRIPTS/complete"
}

# A virtual machine, for tests of what this machine's kernel may lack.
emulator() {
    install qemu-system-x86_64:qemu-system-x86 mke2fs:e2fsprogs
    bootstrap
}
