# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: cnm.fabric contributors
"""One of two hosts reboots, with everything a host can have: each thing is back, and nothing else is open meanwhile."""

from __future__ import annotations

import copy
import json
import os
import re
import signal
import subprocess
import tempfile
import time
from collections.abc import Iterator
from typing import Any

import pytest
from containers import OF_RELEASE, PREPARE
from containers import VARIABLES as OWNERS
from systems import SUITES, Controller, System, systems

VARIABLES: dict[str, Any] = copy.deepcopy(OWNERS)
VARIABLES["cnm_networks"].update(
    {
        "back": {"subnet": "10.0.1.0/24", "internal": True},
        "office": {
            "driver": "macvlan",
            "ipam": {"config": [{"subnet": "192.168.77.0/24", "ip_range": "192.168.77.128/26"}]},
            "driver_opts": {"parent": "lan0"},
        },
    }
)
for box in ("pod", "m1"):
    VARIABLES["n1"]["cnm_sandboxes"][box]["networks"]["wide"] = {}
VARIABLES["n1"]["cnm_sandboxes"].update(
    {
        "app": {"networks": ["front", "wide"], "ports": ["8081:80"]},
        "b1": {"networks": {"back": {"ipv4_address": "10.0.1.10"}}},
        "lan": {"networks": {"office": {"ipv4_address": "192.168.77.140"}}},
    }
)
VARIABLES["n2"] = {"cnm_sandboxes": {"far": {"networks": ["wide"]}}}
VARIABLES["cnm_services"] = {
    "shop": {
        "networks": ["wide"],
        "deploy": {"replicas": 2, "placement": {"hosts": ["n1", "n2"]}},
        "ports": [{"target": 80, "published": 3000, "mode": "ingress"}],
    }
}

SERVER = """
[Unit]
BindsTo=cnm-sandbox@%i.target
After=cnm-sandbox@%i.target

[Service]
ExecStart=/usr/bin/python3 -m http.server 80 --directory /srv
NetworkNamespacePath=/run/netns/%i
"""

CALLER = """
import signal, socket, sys, time
signal.signal(signal.SIGINT, signal.SIG_DFL)  # which a run in the background ignores
while True:
    try:
        socket.create_connection((sys.argv[1], int(sys.argv[2])), 0.3).close()
        print(f"[{time.time()}]", flush=True)
    except OSError:
        pass
    time.sleep(0.01)
"""

FORBIDDEN = {"front": "10.0.0.10", "app": "10.0.0.2", "docker": "10.0.0.11", "internal": "10.0.1.10"}


@pytest.fixture(scope="module", params=SUITES)
def pair(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    """Two systems, the first with everything; the second knows ways to the first one's networks."""
    folder = tmp_path_factory.mktemp("systems")
    with systems(folder, "n1", "n2", suite=request.param, packages=OF_RELEASE[request.param]) as (one, other):
        one.sh(PREPARE)
        for system in (one, other):
            system.write("/etc/systemd/system/server@.service", SERVER)
            system.sh("mkdir -p /srv; systemctl daemon-reload")
        controller = Controller(folder, one, other)
        controller.run("site", VARIABLES)
        tasks = {system.name: re.findall(r"shop\.\d", system.sh("ls /run/netns"))[0] for system in (one, other)}
        for system, name in ((one, "app"), (one, tasks["n1"]), (other, tasks["n2"])):
            system.sh(f"systemctl add-wants cnm-sandbox@{name}.target server@{name}; systemctl start server@{name}")
        other.sh("for net in 0 1; do ip route add 10.0.$net.0/24 via 192.168.77.1; done")
        yield one, other, controller


class Watch:
    """Something that one system tries all the time, with the time of each success in brackets."""

    def __init__(self, system: System, within: str, command: list[str]) -> None:
        where = ["nsenter", f"--net=/run/netns/{within}"] if within else []
        # A pipe would be full before it is read.
        self._output = tempfile.TemporaryFile(mode="w+")  # noqa: SIM115  closed when it has been read
        self._process = system.popen(
            *where, *command, stdout=self._output, stderr=subprocess.DEVNULL, start_new_session=True
        )

    def times(self) -> list[float]:
        """When it succeeded, after which it ends."""
        os.killpg(self._process.pid, signal.SIGINT)
        self._process.wait()
        self._output.seek(0)
        with self._output as output:
            return [float(found) for found in re.findall(r"^\[([\d.]+)\]", output.read(), re.MULTILINE)]


def address(system: System, sandbox: str, within: str) -> str:
    found = re.search(rf"inet ({within}\S+)/", system.sh(f"nsenter --net=/run/netns/{sandbox} ip address"))
    assert found
    return found[1]


def test_each_thing_is_back_after_a_moment_and_nothing_else_is_open(pair: Any, record_property: Any) -> None:
    one, other, controller = pair
    inside = {name: address(one, name, "10.10.9.") for name in ("app", "web", "pod", "m1")}

    def ping(target: str, within: str = "") -> Watch:
        return Watch(other, within, ["ping", "-D", "-n", "-i", "0.01", target])

    allowed = {
        "the host": ping("192.168.77.1"),
        "macvlan": ping("192.168.77.140"),
        "overlay": ping(inside["app"], "far"),
        "docker on the overlay": ping(inside["web"], "far"),
        "podman on the overlay": ping(inside["pod"], "far"),
        "nspawn on the overlay": ping(inside["m1"], "far"),
        "published port": Watch(other, "", ["python3", "-c", CALLER, "192.168.77.1", "8081"]),
        "mesh port": Watch(other, "", ["python3", "-c", CALLER, "192.168.77.1", "3000"]),
    }
    forbidden = {name: ping(target) for name, target in FORBIDDEN.items()}
    time.sleep(1)
    started = time.time()
    one.reboot(wait=False)
    booted = time.time()
    one.until("systemctl is-system-running --wait | grep -q running", 60)
    one.until("cnm status", 30)
    time.sleep(1)
    back = {}
    for name, watch in allowed.items():
        times = watch.times()
        assert any(moment < started for moment in times), name
        after = [moment for moment in times if moment > booted]
        assert after, f"{name} is not back"
        back[name] = round(after[0] - booted, 2)
    record_property("seconds after the boot", json.dumps(back))
    assert {name: len(watch.times()) for name, watch in forbidden.items()} == dict.fromkeys(FORBIDDEN, 0)
    # They would have been heard: without rules they are, but for the internal network.
    forbidden = {name: ping(target) for name, target in FORBIDDEN.items()}
    one.sh("nft flush ruleset")
    time.sleep(1)
    heard = {name: len(watch.times()) for name, watch in forbidden.items()}
    assert heard["front"] and heard["app"] and heard["docker"] and not heard["internal"]
    one.sh("systemctl reload cnm-rules")
    # Docker finds forwarding on after a boot, and leaves its policy: its chain needs no rule of ours then.
    controller.run("site", VARIABLES)
    controller.settled("n1", VARIABLES)
    controller.settled("n2", VARIABLES)
