# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: cnm.fabric contributors
"""Two machines on a wire, for overlays by plans written by hand.

Both are namespaces of one test's host.  They share ``/run/netns``, so each has a project of its own: what is marked for
one is nothing to the other.
"""

from __future__ import annotations

import subprocess
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

from host import compare, converge, run_command, sh
from overlay_resources import VTEPS, addresses_of

from ansible_collections.cnm.fabric.plugins.module_utils.engine import engine
from ansible_collections.cnm.fabric.plugins.module_utils.kernel import namespaces
from ansible_collections.cnm.fabric.plugins.module_utils.kernel.host import Host
from ansible_collections.cnm.fabric.plugins.module_utils.plan.base import Resource

T = TypeVar("T")


class Machine:
    """One of the two."""

    def __init__(self, number: int) -> None:
        self.number = number
        self.place = f"/tmp/machine{number}"
        self.project = f"m{number}"

    def run(self, function: Callable[..., T], *arguments: Any) -> T:
        return namespaces.run(self.place, function, *arguments)

    def sh(self, script: str) -> str:
        return sh(f"nsenter --net={self.place} sh -ec '{script}'")

    def converge(self, wanted: Sequence[Resource]) -> list[str]:
        """A run, after which another would find nothing to do."""
        done = self.run(converge, wanted, self.project)
        assert self.run(compare, wanted, self.project) == []
        return done

    def operations(self, wanted: Sequence[Resource]) -> list[Any]:
        """What a run would do."""

        def look() -> list[Any]:
            with Host(self.project, run_command) as host:
                return engine.Engine(host).converge(wanted, check=True)

        return self.run(look)

    def left(self) -> dict[str, int]:
        """How many packets of the overlay have left it, by kind."""
        words = [line.split() for line in self.sh("nft list table inet seen").splitlines() if "packets" in line]
        return {line[-1].strip('"'): int(line[line.index("packets") + 1]) for line in words}


COUNTING = """
table inet seen {
    chain out {
        type filter hook output priority 0;
        udp dport 4789 counter comment "all"
        udp dport 4789 udp sport 50 counter comment "port50"
        udp dport 4789 @th,128,8 & 1 == 1 counter comment "group"
        udp dport 4789 @th,224,16 0x0806 counter comment "arp"
        udp dport 4789 @th,224,16 0x86dd @th,288,8 58 @th,560,8 135 counter comment "solicitation"
    }
}
"""
"""Counts by what is inside: the frame begins 128 bits behind the outer UDP header's first."""


@contextmanager
def two_machines() -> Iterator[list[Machine]]:
    """On a wire of 1500 bytes, with addresses of both families."""
    Path("/tmp/seen.nft").write_text(COUNTING, encoding="utf-8")
    sh("touch /tmp/machine0 /tmp/machine1; unshare --net=/tmp/machine0 true; unshare --net=/tmp/machine1 true")
    sh("nsenter --net=/tmp/machine0 ip link add w0 type veth peer name w1 netns /proc/self/fd/9 9</tmp/machine1")
    machines = [Machine(number) for number in (0, 1)]
    for machine in machines:
        link, (v4, v6) = f"w{machine.number}", (VTEPS[family][machine.number] for family in (4, 6))
        machine.sh(
            f"ip link set lo up; ip link set {link} up; ip address add {v4}/24 dev {link};"
            f"ip address add {v6}/64 dev {link} nodad; nft -f /tmp/seen.nft"
        )
    yield machines


Ping = tuple[str, str, int]
"""A sandbox, an address, and how many bytes."""


def unanswered(pings: Iterable[Ping]) -> list[Ping]:
    """Those of the pings that got no answer; all are sent at the same time, none may be fragmented."""
    running = []
    for box, address, size in pings:
        arguments = ["-n", "-q", "-c", "1", "-W", "2", "-M", "do", "-s", str(size), address]
        command = ["ip", "netns", "exec", box, "ping", "-6" if ":" in address else "-4", *arguments]
        running.append(((box, address, size), subprocess.Popen(command, stdout=-3, stderr=-3)))
    return [ping for ping, process in running if process.wait() != 0]


def everyone(boxes: Iterable[str]) -> list[Ping]:
    """Each sandbox to both addresses of each other."""
    every = sorted(boxes)
    return [(one, address, 56) for one in every for other in every if other != one for address in addresses_of(other)]
