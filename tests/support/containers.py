# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: cnm.fabric contributors
"""Docker, podman, nspawn and a namespace of somebody's on a system (`systems.py`), and sandboxes in them."""

from __future__ import annotations

from typing import Any

PACKAGES = ["docker.io", "podman", "crun", "systemd-container", "busybox-static"]
OF_RELEASE = {"bookworm": PACKAGES, "trixie": [*PACKAGES, "docker-cli"]}


def fill(root: str) -> str:
    """A script that puts into a directory what an image has to have that sleeps, pings and looks up names."""
    return f"""
mkdir -p {root}
for file in /bin/sh /bin/sleep /bin/ping /usr/bin/getent $(ldd /bin/sh /bin/sleep /bin/ping | grep -o '/[^ :]*'); do
    cp -L --parents $file {root}
done
"""


VARIABLES: dict[str, Any] = {
    "cnm_networks": {"front": {"subnet": "10.0.0.0/24"}, "wide": {"driver": "overlay", "subnet": "10.10.9.0/24"}},
    "n1": {
        "cnm_sandboxes": {
            "c1": {"networks": {"front": {"ipv4_address": "10.0.0.10"}}},
            "web": {
                "networks": {"front": {"ipv4_address": "10.0.0.11"}, "wide": {}},
                "ports": ["8080:80"],
                "namespace": {"docker": "web"},
            },
            "pod": {"networks": {"front": {"ipv4_address": "10.0.0.12"}}, "namespace": {"podman": "pod"}},
            "m1": {"networks": {"front": {"ipv4_address": "10.0.0.13"}}, "namespace": {"machine": "m1"}},
            "old": {"networks": {"front": {"ipv4_address": "10.0.0.14"}}, "namespace": {"path": "/run/netns/other"}},
        }
    },
}

# Containers' storage on an overlay, and a kernel without limits of processes in version 2, are this test's world.
# bookworm's crun wants a limit that this machine does not let it set: there podman has runc.
PREPARE = """
cd /
mkdir -p /etc/containers /var/tmp/tree/bin /var/tmp/tree/etc /var/tmp/tree/usr
printf '[storage]\\ndriver="vfs"\\nrunroot="/run/containers/storage"\\ngraphroot="/var/lib/containers/storage"\\n' \\
    >/etc/containers/storage.conf
printf '[containers]\\npids_limit=0\\n' >/etc/containers/containers.conf
! grep -q bookworm /etc/os-release || printf '[engine]\\nruntime="runc"\\n' >>/etc/containers/containers.conf
cp /bin/busybox /var/tmp/tree/bin/
for name in sh sleep true; do ln -sf busybox /var/tmp/tree/bin/$name; done
: >/var/tmp/tree/etc/os-release
cp -a /var/tmp/tree /var/lib/machines/m1
tar -C /var/tmp/tree -c . | docker import - tree
tar -C /var/tmp/tree -c . | podman import -q - tree
docker run -d --stop-timeout 0 --network none --restart unless-stopped --name web tree sleep 100000
podman create --stop-timeout 0 --network none --name pod tree sleep 100000
cat >/etc/systemd/system/pod.service <<'END'
[Service]
Type=oneshot
RemainAfterExit=yes
WorkingDirectory=/
ExecStart=podman start pod
ExecStop=podman stop -t 0 pod
[Install]
WantedBy=multi-user.target
END
cat >/etc/systemd/system/m1.service <<'END'
[Unit]
StartLimitIntervalSec=0
[Service]
# As in systemd-nspawn@.service: nspawn, killed with its payload, could not tell machined that the machine has ended.
Type=notify
KillMode=mixed
# machined may still know the machine that has just ended.
Restart=on-failure
RestartSec=0.1
ExecStart=systemd-nspawn -q -D /var/lib/machines/m1 --private-network --keep-unit /bin/sleep 100000
[Install]
WantedBy=multi-user.target
END
cat >/etc/systemd/system/other.service <<'END'
[Unit]
StartLimitIntervalSec=0
[Service]
Type=oneshot
RemainAfterExit=yes
ExecStart=ip netns add other
ExecStart=ip -n other link set lo up
ExecStop=ip netns delete other
[Install]
WantedBy=multi-user.target
END
systemctl daemon-reload
systemctl enable -q --now pod m1 other
until machinectl show m1; do sleep 0.1; done
"""

# In place of the machine a Debian with a systemd of its own, which shares the system's /usr: `machinectl start m1`.
WITH_SYSTEMD = """
set -e
systemctl disable -q --now m1
rm -r /etc/systemd/system/m1.service /var/lib/machines/m1
tree=/var/lib/machines/m1
mkdir -p $tree/usr/lib $tree/root
for name in bin sbin lib lib64; do ln -s usr/$name $tree/$name; done
cp /usr/lib/os-release $tree/usr/lib
cp -a /etc $tree
echo m1 >$tree/etc/hostname
: >$tree/etc/machine-id
rm -rf $tree/etc/systemd/system/*
mkdir /etc/systemd/nspawn
cat >/etc/systemd/nspawn/m1.nspawn <<'END'
[Exec]
PrivateUsers=no
[Files]
BindReadOnly=/usr
[Network]
Private=yes
VirtualEthernet=no
END
systemctl daemon-reload
machinectl -q enable m1
"""
