# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: cnm.fabric contributors
"""What the resolvers of 200 sandboxes cost: starting them, their memory, and how much one of them answers in a second.

Beside the same dnsmasq by hand, one for each sandbox and without reading from it what was meant, and beside a Docker
Engine's embedded DNS server.
"""

from __future__ import annotations

import os
import re
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import dns.message
from asking import RESOLVER, in_namespace
from host import a_plan, converge, measured_on_a_host, sh
from lab import Lab
from measuring import in_turns, rounds
from rows import Table

from ansible_collections.cnm.fabric.plugins.module_utils.plan.base import Resource

SIZES = (12, 50, 200)
ASKING_S = 2.0


def answered_in_a_second(name: str) -> float:
    """How many times a second the name is answered to one who asks again as soon as there is an answer."""
    count, query = 0, dns.message.make_query(name, "A").to_wire()
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as opened:
        opened.settimeout(2)
        opened.connect((RESOLVER, 53))
        started = time.perf_counter()
        while time.perf_counter() - started < ASKING_S:
            opened.send(query)
            assert opened.recv(512)[7]  # answers
            count += 1
        return count / (time.perf_counter() - started)


def proportional_kib(processes: Sequence[int]) -> float:
    """The PSS of each on average: its own memory and its share of what it shares."""
    texts = [Path(f"/proc/{number}/smaps_rollup").read_text(encoding="ascii") for number in processes]
    return sum(int(re.findall(r"(?m)^Pss: +(\d+)", text)[0]) for text in texts) / len(texts)


def running(program: str) -> list[int]:
    """Processes of that name; who has ended and was not waited for has no words any more."""
    found = (path for path in Path("/proc").iterdir() if path.name.isdigit() and (path / "cmdline").read_bytes())
    return [int(path.name) for path in found if (path / "comm").read_text(encoding="utf-8").strip() == program]


def ours(sandboxes: int) -> dict[str, float]:
    names = [f"s{number:03d}" for number in range(sandboxes)]
    resources = a_plan({name: {"networks": ["front"]} for name in names}).resources
    without: list[Resource] = [item for item in resources if item.kind not in ("resolver", "file", "names")]
    converge(without)
    started = time.perf_counter()
    converge(resources)
    took = time.perf_counter() - started
    processes = running("dnsmasq")
    assert len(processes) == sandboxes
    found = {"start": took, "PSS": proportional_kib(processes)}
    found["answers"] = in_namespace("/run/netns/s007", answered_in_a_second, "s010")
    converge(())
    return found


def by_hand(sandboxes: int) -> dict[str, float]:
    boxes = [f"s{number:03d}" for number in range(sandboxes)]
    sh("".join(f"ip netns add {box}; ip -n {box} link set lo up\n" for box in boxes))
    rows = "".join(f"10.0.0.{number} {box}\n" for number, box in enumerate(boxes))
    Path("/run/names").write_text(rows, encoding="ascii")
    words = "dnsmasq --conf-file=/dev/null --no-resolv --no-hosts --addn-hosts=/run/names --bind-interfaces"
    started = time.perf_counter()
    for box in boxes:
        inside = ["ip", "netns", "exec", box, *words.split()]
        subprocess.run([*inside, f"--listen-address={RESOLVER}", f"--pid-file=/run/names.{box}"], check=True)
    took = time.perf_counter() - started
    processes = running("dnsmasq")
    assert len(processes) == sandboxes
    found = {"start": took, "PSS": proportional_kib(processes)}
    found["answers"] = in_namespace("/run/netns/s007", answered_in_a_second, "s010")
    for number in processes:
        os.kill(number, signal.SIGTERM)
    return found


def by_docker() -> dict[str, float]:
    """One container asks for another."""
    sys.path.insert(0, str(Path(__file__).parents[1] / "parity"))
    from docker_engine import DockerEngine, remove_groups

    with Lab(f"pytest-names-{os.getpid()}", hosts=1) as lab:
        peer = DockerEngine(lab, "node1")
        peer.start()
        try:
            peer.client.networks.create("n")
            for name in ("one", "other"):
                peer.run(name, network="n")
            inside = f"/proc/{lab.pid('node1')}/root/proc/{peer.processes()['one']}/ns/net"
            found = {"answers": in_namespace(inside, answered_in_a_second, "other")}
        finally:
            peer.stop()
    remove_groups()
    return found


def test_resolvers_beside_dnsmasq_by_hand_and_a_docker_engine(tmp_path: Path, table: Table) -> None:
    found: list[dict[str, dict[str, float]]] = []
    for size in SIZES:
        ways = {
            "ours": lambda size=size: measured_on_a_host(lambda: ours(size), tmp_path / "ours"),  # type: ignore[misc]
            "peer": lambda size=size: measured_on_a_host(lambda: by_hand(size), tmp_path / "hand"),  # type: ignore[misc]
        }
        found = [in_turns(ways) for _round in rounds(2, 5, 30)]
        starts = ([each[name]["start"] for each in found] for name in ways)
        table.grew("names.start", size, *starts)
    for key, what in (("names.memory", "PSS"), ("names.answers", "answers")):
        table.add(key, [each["ours"][what] for each in found], [each["peer"][what] for each in found])
    if Path("/usr/sbin/dockerd").exists():
        engine = [by_docker()["answers"] for _round in rounds(1, 1, 0)]
        table.add("names.answers.docker", [found[-1]["ours"]["answers"]], engine)
