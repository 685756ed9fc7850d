# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: cnm.fabric contributors
"""A Docker Engine of the distribution on a lab host: it ends with the host, and only its control groups are left."""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import time
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from lab import Lab
from scenarios import Scenario

PLACE = "/run/engine"
DOCKER, DOCKERD = "/usr/bin/docker", "/usr/sbin/dockerd"
IMAGE = "box"
GROUPS = Path("/sys/fs/cgroup")
PREFIX = "cnm-parity-"
_IMPORT = f"""
mkdir {PLACE}/root
for file in /bin/sh /bin/sleep /bin/ping /usr/bin/getent $(ldd /bin/sh /bin/sleep /bin/ping | grep -o '/[^ :]*'); do
    cp -L --parents $file {PLACE}/root
done
tar -C {PLACE}/root -c . | {DOCKER} -H unix://{PLACE}/socket import - {IMAGE}
"""
"""No image can be pulled here: one that can sleep, ping and look up names is all there has to be."""


def missing() -> str:
    """What there has to be for a Docker Engine here and is not; empty if it is."""
    return "" if os.path.exists(DOCKERD) and os.path.exists(DOCKER) else "docker.io"


class DockerEngine:
    """``dockerd`` on a lab host, with a data directory in the host's own /run."""

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
        until = time.monotonic() + 30
        while self.lab.run(self.node, [DOCKER, "-H", f"unix://{PLACE}/socket", "version"], check=False).returncode:
            if time.monotonic() > until or self.daemon.poll() is not None:
                raise AssertionError(f"dockerd did not start:\n{self.log.read_text(errors='replace')[-2000:]}")
            time.sleep(0.1)
        if not self("images", "-q", IMAGE):
            self.lab.run(self.node, ["sh", "-ec", _IMPORT])

    def stop(self) -> None:
        """End the daemon as its service would; containers end with it."""
        self.lab.run(self.node, ["sh", "-c", f"kill $(cat {PLACE}/pid)"])
        self.daemon.wait(30)

    def __call__(self, *words: str) -> str:
        return self.lab.run(self.node, [DOCKER, "-H", f"unix://{PLACE}/socket", *words]).stdout

    def networks(self) -> dict[str, dict[str, Any]]:
        """``docker network inspect`` of all networks, by name."""
        found = json.loads(self("network", "inspect", *self("network", "ls", "-q").split()))
        return {item["Name"]: item for item in found}

    def processes(self) -> dict[str, int]:
        """Each running container's first process, as the host numbers it."""
        names = self("ps", "-q").split()
        lines = self("inspect", "-f", "{{.Name}} {{.State.Pid}}", *names).splitlines() if names else []
        return {name.lstrip("/"): int(pid) for name, pid in map(str.split, lines)}

    def apply(self, scenarios: Iterable[Scenario], values: Mapping[str, str]) -> None:
        """Make every scenario, each one's boxes in their order and some scenarios at a time."""
        with ThreadPoolExecutor(4) as pool:
            list(pool.map(lambda scenario: self._apply(scenario, values), scenarios))

    def _apply(self, scenario: Scenario, values: Mapping[str, str]) -> None:
        commands = [net.docker(name) for name, net in scenario.nets.items()]
        commands += [words for name, box in scenario.started() for words in box.docker(name, IMAGE)]
        for words in commands:
            self(*_filled(words, values))


def _filled(words: Sequence[str], values: Mapping[str, str]) -> list[str]:
    return [word.replace("{second}", values["second"]) for word in words]


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
