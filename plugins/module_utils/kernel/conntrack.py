# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: cnm.fabric contributors
"""Connection tracking: deletes stale entries with the program ``conntrack`` in the thread's namespace."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import field
from typing import Optional

from ..plan.constants import LARGEST_PORT
from ..plan.families import family_of
from ..plan.nftables import HOST_TASKS, VIP_TASKS, NftSet
from ..plan.records import dataclass
from .nft import RunCommand
from .programs import find_program

_ONE_BY_ONE = 32
_UDP = ("udp", "17")
_NUMBERS = {"tcp": "6", "udp": "17", "sctp": "132"}
_PORTS = r"(?P<protocol>[a-z0-9]{1,8}) \. (?P<first>[0-9]{1,5})(?:-(?P<last>[0-9]{1,5}))?"
_ADDRESS = "[0-9a-f][0-9a-f.:]*|:[0-9a-f.:]+"
# Root in a sandbox can change its sets: elements of another form are skipped, so none can look like an option.
_ENDPOINT = re.compile(rf"(?:(?P<address>{_ADDRESS}) \. )?{_PORTS}")
_SERVED_PORT = re.compile(rf"{_PORTS} \. (?P<task>{_ADDRESS})")
_SERVED_VIP = re.compile(rf"(?P<vip>{_ADDRESS}) \. (?P<task>{_ADDRESS})")
_COUNT = "/proc/sys/net/netfilter/nf_conntrack_count"


def program() -> Optional[str]:
    """The program's path, or None."""
    return find_program("conntrack")


def forget_udp(run_command: RunCommand, elements: Sequence[str]) -> None:
    """Delete the UDP flows of elements of a map of published ports: ``[address . ]udp . port[-port] : …``.

    They are found by the *host's* port, which they were sent to (moby#53384).  For many elements at once, all
    translated UDP flows are deleted: the next packet creates them again.
    """
    path = program()
    endpoints = sorted({endpoint for element in elements for endpoint in _endpoints(element)})
    if path is None or not endpoints:
        return
    if len(endpoints) > _ONE_BY_ONE:
        for family in ("ipv4", "ipv6"):
            run_command([path, "-D", "-f", family, "-p", "udp", "--dst-nat"])
        return
    for family, address, port in endpoints:
        where = ["--orig-dst", address] if address else []
        # The program fails if no entry matches.
        run_command([path, "-D", "-f", family, "-p", "udp", *where, "--orig-port-dst", port])


def _endpoints(element: str) -> Iterator[tuple[str, str, str]]:
    """(family, address or "", port) of each port of an element; nothing for elements of another form."""
    key, _colon, target = element.partition(" : ")
    match = _ENDPOINT.fullmatch(key)
    if match is None or match["protocol"] not in _UDP:
        return
    family = f"ipv{family_of(target)}"
    for port in _range(match):
        yield family, match["address"] or "", str(port)


def _range(match: re.Match[str]) -> range:
    first, last = int(match["first"]), int(match["last"] or match["first"])
    return range(first, min(last, LARGEST_PORT) + 1)


# --- services --------------------------------------------------------------------------------------------------------


_Port = tuple[str, int, int, str]
"""Protocol, first and last port, and the task."""


@dataclass
class _Served:
    """The services of a namespace in one address family, and their tasks."""

    vips: dict[str, set[str]] = field(default_factory=dict)
    """Tasks by VIP."""
    ports: list[_Port] = field(default_factory=list)
    shared: set[_Port] = field(default_factory=set)
    """Tasks by port of the host."""

    def add(self, tracks: str, element: str) -> None:
        """Add an element of a set that tracks this."""
        match = (_SERVED_VIP if tracks == VIP_TASKS else _SERVED_PORT).fullmatch(element)
        if match is None:
            return
        if tracks == VIP_TASKS:
            self.vips.setdefault(match["vip"], set()).add(match["task"])
            return
        ports = _range(match)
        port = (_NUMBERS.get(match["protocol"], match["protocol"]), ports.start, ports.stop - 1, match["task"])
        if tracks == HOST_TASKS:
            self.shared.add(port)
        else:
            self.ports.append(port)

    def tasks_of(self, flow: _Flow) -> Optional[set[str]]:
        """The tasks to which a flow may go; None if it belongs to no service."""
        if flow.to in self.vips:
            return self.vips[flow.to]
        found = {task for protocol, first, last, task in self.ports if flow.is_to(protocol, first, last)}
        return found or None


@dataclass(frozen=True)
class _Flow:
    """A connection's original destination, and the task that answers it."""

    protocol: str
    to: str
    port: str
    """"" for protocols without ports."""
    task: str

    def is_to(self, protocol: str, first: int, last: int) -> bool:
        """Whether its port is in the range."""
        return self.protocol == protocol and self.port != "" and first <= int(self.port) <= last


_FLOW = re.compile(
    r"^\S+ +(?P<protocol>\d+) .*?src=\S+ dst=(?P<to>\S+) (?:sport=\d+ dport=(?P<port>\d+) )?.*?src=(?P<task>\S+) dst="
)


def _remembers() -> bool:
    """Whether the thread's namespace has any entries."""
    try:
        with open(_COUNT, encoding="ascii") as opened:
            return opened.read().strip() != "0"
    except OSError:
        return True


def forget_moved(
    run_command: RunCommand,
    before: Sequence[NftSet],
    after: Sequence[NftSet],
    anything: Callable[[], bool] = _remembers,
) -> None:
    """Delete the entries of services whose task is gone or never was one of theirs.

    Both arguments are the sets of a table that list tasks.  A deleted TCP connection is reset at its next packet, as
    the other task does not know it; the client's next datagram goes to a task that exists.
    """
    path = program()
    if path is None or not anything():
        return
    for family in (4, 6):
        old, new = (_served(sets, family) for sets in (before, after))
        if not any((old.vips, old.ports, old.shared, new.vips, new.ports, new.shared)):
            continue
        _code, output, _errors = run_command([path, "-L", "-f", f"ipv{family}"])
        for flow in sorted(set(_flows(output)), key=lambda item: (item.to, item.protocol, item.port, item.task)):
            wanted, known = new.tasks_of(flow), old.tasks_of(flow)
            moved = (wanted is None and known is not None) or (wanted is not None and flow.task not in wanted)
            if moved or _has_ended(flow, old.shared, new.shared):
                ports = ["--orig-port-dst", flow.port] if flow.port else []
                where = ["-p", flow.protocol, "--orig-dst", flow.to, *ports, "--reply-src", flow.task]
                run_command([path, "-D", "-f", f"ipv{family}", *where])


def _has_ended(flow: _Flow, old: set[_Port], new: set[_Port]) -> bool:
    """Whether a host's port no longer forwards to the flow's task, or the flow is older than the port."""
    if any(flow.task == port[3] and flow.is_to(*port[:3]) for port in old - new):
        return True
    untranslated = flow.protocol in _UDP and flow.task == flow.to
    return untranslated and any(flow.is_to(*port[:3]) for port in new - old)


def _served(sets: Sequence[NftSet], family: int) -> _Served:
    result = _Served()
    for item in sets:
        if item.family == family:
            for element in sorted(item.elements):
                result.add(item.tracks, element)
    return result


def _flows(output: str) -> Iterator[_Flow]:
    for line in output.splitlines():
        match = _FLOW.match(line)
        if match is not None:
            yield _Flow(match["protocol"], match["to"], match["port"] or "", match["task"])
