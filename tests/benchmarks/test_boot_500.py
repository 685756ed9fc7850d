# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: cnm.fabric contributors
"""A host of 500 sandboxes boots: until all of them answer, beside the run that made them from nothing.

On a whole system of tests/support/systems.py.  What of ours runs on it, and how long ``cnm status`` takes, is
measured too.
"""

from __future__ import annotations

import time
from pathlib import Path

from measuring import rounds
from rows import Table
from systems import BOOT_S, Controller, System, systems

SANDBOXES = 500
VARIABLES = {
    "cnm_networks": {"wide": {"subnet": "10.8.0.0/16"}},
    "n1": {"cnm_sandboxes": {f"s{number:03}": {"networks": ["wide"]} for number in range(SANDBOXES)}},
}

ALL_ANSWER = f"""
import os, select, socket, struct, time
addresses = [f"10.8.{{number >> 8}}.{{number & 255}}" for number in range(2, {SANDBOXES} + 2)]
waiting, sender = set(addresses), None
request = struct.pack("!BBHHH", 8, 0, 0xFFFF - (8 << 8) - 1, 1, 0)
deadline = time.monotonic() + 300
while waiting and time.monotonic() < deadline:
    sender = sender or socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_ICMP)
    for address in waiting:
        try:
            sender.sendto(request, (address, 0))
        except OSError:
            pass
    while select.select([sender], [], [], 0.05)[0]:
        data, (address, _port) = sender.recvfrom(2048)
        if data[20] == 0:
            waiting.discard(address)
while sum(os.path.exists(f"/run/cnm/default/resolvers/s{{n:03}}.pid") for n in range({SANDBOXES})) < {SANDBOXES}:
    assert time.monotonic() < deadline
    time.sleep(0.02)
assert not waiting
"""

MEMORY = """
import glob, re
of, count = {"resolvers": 0, "others": 0}, 0
for place in glob.glob("/sys/fs/cgroup/**/cnm-*.*/cgroup.procs", recursive=True):
    kind = "resolvers" if "cnm-resolver-" in place else "others"
    for pid in open(place).read().split():
        count += kind == "resolvers"
        of[kind] += int(re.search(r"(?m)^Pss: +([0-9]+)", open(f"/proc/{pid}/smaps_rollup").read())[1])
print(count, of["resolvers"] / 1024, of["others"] / 1024)
"""


def answering(system: System, started: float) -> float:
    """Seconds from then until all sandboxes answer their host, and all resolvers run."""
    system.sh(f"exec python3 - <<'END'\n{ALL_ANSWER}\nEND", 300)
    return time.monotonic() - started


def test_a_host_of_500_sandboxes_boots(tmp_path: Path, table: Table) -> None:
    booted, made, told = [], [], []
    with systems(tmp_path, "n1") as (system,):
        controller = Controller(tmp_path, system)
        for _round in rounds(1, 3, 60):
            controller.run("teardown", VARIABLES)
            started = time.monotonic()
            controller.run("site", VARIABLES)
            made.append(answering(system, started))
            system.kill()
            started = time.monotonic()
            system.start(wait=False)
            system.until(":", BOOT_S)
            booted.append(answering(system, started))
            system.until("systemctl is-system-running --wait && cnm status", BOOT_S)
            # Who was restored announces its addresses, all of them for some twenty seconds.
            system.until("! pgrep -f 'cnm restore'", BOOT_S)
            for _time in range(5):
                started = time.monotonic()
                system.sh("cnm status")
                told.append(time.monotonic() - started)
        controller.settled("n1", VARIABLES)
        count, resolvers, others = map(float, system.sh(f"exec python3 - <<'END'\n{MEMORY}\nEND").split())
    assert (count, others) == (SANDBOXES, 0)
    table.add("boot.500", booted, made)
    table.add("boot.500.status", told)
    table.add("boot.500.memory", [resolvers])
