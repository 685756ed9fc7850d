# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: cnm.fabric contributors
"""A Docker Engine of the distribution on a lab host: it ends with the host, and only its control groups are left."""

from __future__ import annotations

import contextlib
import os
import subprocess
import time
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from containers import fill
from docker import DockerClient
from docker.errors import DockerException
from docker.models.containers import Container
from lab import Lab
from scenarios import Scenario

PLACE = "/run/engine"
DOCKERD = "/usr/sbin/dockerd"
IMAGE = "box"
_SLEEP = ("/bin/sleep", "3600")
GROUPS = Path("/sys/fs/cgroup")
PREFIX = "cnm-parity-"
_TAR = f"{fill(f'{PLACE}/root')}tar -C {PLACE}/root -cf {PLACE}/{IMAGE}.tar ."
"""No image can be pulled here: one that can sleep, ping and look up names is all there has to be."""


def missing() -> str:
    """What there has to be for a Docker Engine here and is not; empty if it is."""
    return "" if os.path.exists(DOCKERD) else "docker.io"


class DockerEngine:
    """``dockerd`` on a lab host, with a data directory in the host's own /run; ``client`` is Docker's SDK for it."""

    client: DockerClient

    def __init__(self, lab: Lab, node: str, ip6tables: bool = True) -> None:
        self.lab, self.node = lab, node
        self.ip6tables = ip6tables
        self.log = lab.state / f"{node}-dockerd.log"

    def start(self) -> None:
        """Start the daemon, wait for it, and give it an image."""
        words = [f"--data-root={PLACE}/data", f"--exec-root={PLACE}/exec", f"--pidfile={PLACE}/pid"]
        words += [f"--cgroup-parent=/{PREFIX}{os.getpid()}", "--storage-driver=overlay2", "--log-level=warn"]
        words += ["--experimental", f"--ip6tables={str(self.ip6tables).lower()}", "-H", f"unix://{PLACE}/socket"]
        words += ["-H", "unix:///var/run/docker.sock"]
        self.lab.run(self.node, ["mkdir", "-p", PLACE, "/etc/docker"])
        with self.log.open("a") as log:
            self.daemon = self.lab.popen(self.node, [DOCKERD, *words], stdout=log, stderr=subprocess.STDOUT)
        self.client = self._connected()
        if not self.client.images.list(IMAGE):
            self.lab.run(self.node, ["sh", "-ec", _TAR])
            self.client.api.import_image_from_file(self._seen_from_here(f"{IMAGE}.tar"), repository=IMAGE)

    def _connected(self) -> DockerClient:
        until = time.monotonic() + 30
        while True:
            try:
                return DockerClient(base_url=f"unix://{self._seen_from_here('socket')}")
            except DockerException:
                if time.monotonic() > until or self.daemon.poll() is not None:
                    raise AssertionError(
                        f"dockerd did not start:\n{self.log.read_text(errors='replace')[-2000:]}"
                    ) from None
            time.sleep(0.1)

    def _seen_from_here(self, name: str) -> str:
        """The path of one of the Engine's files outside the lab host's mount namespace."""
        return f"/proc/{self.lab.pid(self.node)}/root{PLACE}/{name}"

    def stop(self) -> None:
        """End the daemon as its service would; containers end with it."""
        self.client.close()
        self.lab.run(self.node, ["sh", "-c", f"kill $(cat {PLACE}/pid)"])
        self.daemon.wait(30)

    def networks(self) -> dict[str, dict[str, Any]]:
        """Docker's own document of each network, by name."""
        return {network.name: network.attrs for network in self.client.networks.list(greedy=True)}

    def processes(self) -> dict[str, int]:
        """Each running container's first process, as the host numbers it."""
        return {box.name: box.attrs["State"]["Pid"] for box in self.client.containers.list()}

    def run(self, name: str, **options: Any) -> Container:
        """Start a container that sleeps; ``options`` are the SDK's."""
        return self.client.containers.run(IMAGE, _SLEEP, name=name, detach=True, **options)

    def apply(self, scenarios: Iterable[Scenario], second: str) -> None:
        """Make every scenario, each one's boxes in their order and some scenarios at a time."""
        with ThreadPoolExecutor(4) as pool:
            list(pool.map(lambda scenario: self._apply(scenario, second), scenarios))

    def _apply(self, scenario: Scenario, second: str) -> None:
        published = scenario.published(second)
        for name, net in scenario.nets.items():
            self.client.networks.create(name, **net.docker())
        for name, box in scenario.started():
            ports: dict[str, list[tuple[str, int]]] = {}
            for item in published:
                if item.box == name:
                    ports.setdefault(f"{item.target}/{item.protocol}", []).append((item.address, item.port))
            first, *others = box.networks or [None]
            endpoint = {first: self.client.api.create_endpoint_config(**box.networks[first])} if first else None
            self.run(name, hostname=name, stop_signal="KILL", network=first, networking_config=endpoint, ports=ports)
            for other in others:
                self.client.networks.get(other).connect(name, **box.networks[other])


def remove_groups() -> None:
    """The control groups of Engines whose test run is over; the lab has ended their processes."""
    for top in GROUPS.glob(f"*/{PREFIX}*"):
        owner = top.name[len(PREFIX) :]
        if owner == str(os.getpid()) or not Path("/proc", owner).exists():
            for path in [*sorted((item for item in top.rglob("*") if item.is_dir()), reverse=True), top]:
                _remove(path)


def _remove(path: Path) -> None:
    for _attempt in range(50):  # the kernel may still be busy with the last process
        with contextlib.suppress(OSError):
            path.rmdir()
        if not path.exists():
            return
        time.sleep(0.02)
