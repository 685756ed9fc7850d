# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: cnm.fabric contributors
"""Networks that span hosts, seen from outside: what each host has of them, what it should have, who reaches whom."""

from __future__ import annotations

import contextlib
import json
import os
import re
import subprocess
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from ipaddress import ip_address, ip_network
from pathlib import Path
from types import MappingProxyType
from typing import Any, Optional

import yaml
from fleet import Fleet, snapshot
from lab import Lab, labs

_PREFIX = "pytest-overlay-"

Members = Mapping[str, Mapping[str, str]]
"""By network the host of each of its sandboxes."""


@contextlib.contextmanager
def lab_of(hosts: int, name: str) -> Iterator[Lab]:
    """A lab of its own; those of test runs that were killed go first."""
    for left in labs():
        owner = left[len(_PREFIX) :].partition("-")[0] if left.startswith(_PREFIX) else ""
        if owner.isdigit() and not Path("/proc", owner).exists():
            Lab(left).down()
    with Lab(f"{_PREFIX}{os.getpid()}-{name}", hosts=hosts) as lab:
        yield lab


def overlay(*subnets: str, **more: Any) -> dict[str, Any]:
    """A network's declaration."""
    return {"driver": "overlay", "subnet": list(subnets), **more} if subnets else {"driver": "overlay", **more}


def sandboxes(**boxes: Any) -> dict[str, Any]:
    """A host's variables: each sandbox with its networks, or with all its options."""
    return {
        "cnm_sandboxes": {
            name: given if isinstance(given, dict) and "networks" in given else {"networks": given}
            for name, given in boxes.items()
        }
    }


@contextlib.contextmanager
def ended(fleet: Fleet) -> Iterator[Fleet]:
    """The fleet, whose hosts are afterwards as they were before."""
    before = {host: snapshot(fleet, host) for host in fleet.hosts}
    try:
        yield fleet
    finally:
        fleet.clear()
    assert {host: snapshot(fleet, host) for host in fleet.hosts} == before


@contextlib.contextmanager
def torn_down(fleet: Fleet) -> Iterator[Fleet]:
    """The fleet; the playbook takes away all that was made, and no state or policy of ESP is left either."""
    before = {host: snapshot(fleet, host) for host in fleet.hosts}
    try:
        yield fleet
    finally:
        fleet.teardown()
    assert {host: snapshot(fleet, host) for host in fleet.hosts} == before
    assert "".join(fleet.sh(host, "ip xfrm state; ip xfrm policy") for host in fleet.hosts) == ""


def reached_by(fleet: Fleet, without: Sequence[str] = (), **changes: Mapping[str, Any]) -> None:
    """Reach the hosts as the lab says, but for some that are out of the inventory or have other variables."""
    told = yaml.safe_load(fleet.lab.inventory.read_text(encoding="utf-8"))
    for host in without:
        del told["all"]["hosts"][host]
    for host, variables in changes.items():
        told["all"]["hosts"][host].update(variables)
    fleet.ways = fleet.directory / "ways.yml"
    fleet.ways.write_text(yaml.safe_dump(told), encoding="utf-8")


# --- what there is ---------------------------------------------------------------------------------------------------

_LOOK = r"""
import json, os, subprocess

def read(*argv):
    return json.loads(subprocess.run(argv, capture_output=True, text=True, check=True).stdout or "[]")

found = {"links": {}, "fdb": {}, "neighbours": {}, "names": {}}
places = sorted(os.listdir("/run/netns")) if os.path.isdir("/run/netns") else []
for place in places:
    found["links"][place] = read("ip", "-j", "-d", "-n", place, "address")
    if place.startswith("ov-"):
        found["fdb"][place] = read("bridge", "-j", "-n", place, "fdb")
        found["neighbours"][place] = read("ip", "-j", "-n", place, "neighbour")
folder = "/run/cnm/default/names"
for name in sorted(os.listdir(folder)) if os.path.isdir(folder) else []:
    found["names"][name] = open(os.path.join(folder, name)).read()
found["host"] = [link["ifname"] for link in read("ip", "-j", "link")]
print(json.dumps(found))
"""


@dataclass
class Seen:
    """What a host has: ``{place: [link]}`` as ip shows them, and the tables of the namespaces of overlays."""

    links: dict[str, list[dict[str, Any]]]
    fdb: dict[str, list[dict[str, Any]]]
    neighbours: dict[str, list[dict[str, Any]]]
    names: dict[str, str]
    host: list[str]

    def place(self, network: str) -> str:
        """The namespace of an overlay, "" if there is none."""
        return next((p for p, links in self.links.items() if _is_marked(links, f"vxlan/{network}")), "")

    def vxlan(self, network: str) -> dict[str, Any]:
        """The overlay's VXLAN link."""
        return next(link for link in self.links[self.place(network)] if link["ifname"].startswith("vx-"))

    def entries(self, network: str) -> dict[str, str]:
        """The forwarding entries of its VXLAN link: VTEP by MAC address."""
        rows = self.fdb[self.place(network)]
        return {row["mac"]: row["dst"] for row in rows if row["ifname"].startswith("vx-") and "dst" in row}

    def bridged(self, network: str) -> set[str]:
        """The MAC addresses its bridge has behind the VXLAN link."""
        rows = self.fdb[self.place(network)]
        mine = (row for row in rows if row["ifname"].startswith("vx-") and "master" in row)
        return {row["mac"] for row in mine if row.get("state") != "permanent"}

    def answered(self, network: str) -> dict[str, str]:
        """For which addresses its bridge answers, and with what."""
        rows = self.neighbours[self.place(network)]
        return {row["dst"]: row["lladdr"] for row in rows if "PERMANENT" in row["state"]}

    def called(self, network: str) -> dict[str, set[str]]:
        """Addresses by name, of a network's file of names."""
        result: dict[str, set[str]] = {}
        for line in self.names[network].splitlines():
            address, *names = line.partition("#")[0].split() or [""]
            for name in names:
                result.setdefault(name, set()).add(address)
        return result

    def end(self, sandbox: str, subnets: Iterable[str]) -> tuple[str, list[str]]:
        """A sandbox's MAC address and addresses in these subnets."""
        prefixes = [ip_network(subnet) for subnet in subnets]
        for link in self.links.get(sandbox, []):
            own = [item["local"] for item in link["addr_info"]]
            mine = [one for one in own if any(ip_address(one) in prefix for prefix in prefixes)]
            if mine:
                return link["address"], mine
        return "", []


def _is_marked(links: Iterable[Mapping[str, Any]], role: str) -> bool:
    return any(str(link.get("ifalias", "")).endswith(f":{role}") for link in links)


def _is_ours(links: Iterable[Mapping[str, Any]]) -> bool:
    return any(str(link.get("ifalias", "")).startswith("cnm:") for link in links)


def seen(fleet: Fleet, host: str) -> Seen:
    """Look at a host."""
    return Seen(**json.loads(fleet.lab.run(host, ["/usr/bin/python3", "-c", _LOOK]).stdout))


def seen_everywhere(fleet: Fleet) -> dict[str, Seen]:
    """Look at all hosts."""
    with ThreadPoolExecutor(4) as pool:
        return dict(zip(fleet.hosts, pool.map(lambda host: seen(fleet, host), fleet.hosts)))


def wrong(
    fleet: Fleet,
    subnets: Mapping[str, Sequence[str]],
    members: Members,
    aliases: Mapping[tuple[str, str], Sequence[str]] = MappingProxyType({}),
    hosts: Optional[Sequence[str]] = None,
    vteps: Mapping[str, str] = MappingProxyType({}),
) -> list[str]:
    """What of the overlays is not as the inventory says, on any of ``hosts``.

    Addresses and MAC addresses are those that the sandboxes have where the inventory puts them.
    """
    found = seen_everywhere(fleet)
    ends = {
        (network, sandbox): found[host].end(sandbox, subnets[network])
        for network, group in members.items()
        for sandbox, host in group.items()
    }
    result = [f"{sandbox} has no address on {network}" for (network, sandbox), end in ends.items() if not end[1]]
    every = [(network, address) for (network, _sandbox), end in ends.items() for address in end[1]]
    result += [f"twice: {item}" for item in sorted({item for item in every if every.count(item) > 1})]
    for host in hosts or fleet.hosts:
        for network in subnets:
            group = members.get(network, {})
            if host not in group.values():
                result += [f"{host} has {network}"] * bool(found[host].place(network))
                result += [f"{host} has names of {network}"] * (network in found[host].names)
                continue
            remote = {name: where for name, where in group.items() if where != host}
            macs = {
                ends[network, name][0]: vteps.get(where, fleet.lab.address(where)) for name, where in remote.items()
            }
            own = {address: ends[network, name][0] for name in remote for address in ends[network, name][1]}
            called: dict[str, set[str]] = {}
            for name in group:
                words = [name, *aliases.get((network, name), ())]
                for word in [*words, *(f"{each}.{network}" for each in words)]:
                    called.setdefault(word, set()).update(ends[network, name][1])
            compared: dict[str, tuple[Any, Any]] = {
                "forwards": (found[host].entries(network), macs),
                "bridges": (found[host].bridged(network), set(macs)),
                "answers for": (found[host].answered(network), own),
                "names": (found[host].called(network), called),
            }
            result += [f"{host} {what} {has}, not {want}" for what, (has, want) in compared.items() if has != want]
        places = {found[host].place(network) for network in subnets if host in members.get(network, {}).values()}
        boxes = {name for group in members.values() for name, where in group.items() if where == host}
        ours = {name for name, links in found[host].links.items() if _is_ours(links)}
        result += [f"{host} has the namespace {name}" for name in sorted(ours - places - boxes)]
    return result


# --- who reaches whom ------------------------------------------------------------------------------------------------

_PING = r"""
import concurrent.futures, json, subprocess, sys

def tried(trial):
    sandbox, *words = trial
    inside = ["ip", "netns", "exec", sandbox] if sandbox else []
    done = subprocess.run([*inside, "ping", "-n", "-c", "1", *words], capture_output=True, text=True)
    return " ".join((done.stderr + done.stdout).split()) if done.returncode else ""

with concurrent.futures.ThreadPoolExecutor(16) as pool:
    print(json.dumps(list(pool.map(tried, json.load(sys.stdin)))))
"""

Trial = tuple[str, ...]
"""Sandbox, and what ping is told."""


def pinged(fleet: Fleet, host: str, trials: Sequence[Trial], wait: int = 2) -> dict[Trial, bool]:
    """Which pings from sandboxes of a host are answered, all tried at once."""
    return {trial: not problem for trial, problem in _tried(fleet, host, trials, wait).items()}


def _tried(fleet: Fleet, host: str, trials: Sequence[Trial], wait: int = 2) -> dict[Trial, str]:
    """What ping says where nobody answers, else nothing."""
    # Until one is answered, as a machine with several labs may be late with the first.
    given = json.dumps([[sandbox, "-w", str(wait), *words] for sandbox, *words in trials])
    said = fleet.lab.run(host, ["/usr/bin/python3", "-c", _PING], given=given, timeout=120).stdout
    return dict(zip(trials, json.loads(said)))


def answered(fleet: Fleet, host: str, sandbox: str, *words: str) -> bool:
    """Whether one ping is answered."""
    trial = (sandbox, *words)
    return pinged(fleet, host, [trial], wait=1)[trial]


def unanswered(fleet: Fleet, trials: Mapping[str, Sequence[Trial]]) -> list[str]:
    """Which of the pings, by host, nobody answered."""
    with ThreadPoolExecutor(4) as pool:
        found = dict(zip(trials, pool.map(lambda host: _tried(fleet, host, trials[host], wait=10), trials)))
    said = [(host, trial, words) for host, group in found.items() for trial, words in group.items() if words]
    return [f"{host} {' '.join(trial)}: {words}" for host, trial, words in said]


def matrix(
    members: Members,
    aliases: Mapping[tuple[str, str], Sequence[str]] = MappingProxyType({}),
    words: Sequence[Sequence[str]] = ((),),
    whole: bool = True,
) -> dict[str, list[Trial]]:
    """Every sandbox pings every other of its networks by each of its names; or by the one that has the network."""
    result: dict[str, list[Trial]] = {}
    for network, group in members.items():
        for one, host in group.items():
            for other in group:
                called = [other, *aliases.get((network, other), ())] if whole else [other]
                names = [f"{name}.{network}" for name in called] + (called if whole else [])
                trials = [(one, *more, name) for name in names for more in words if one != other]
                result.setdefault(host, []).extend(trials)
    return result


@contextlib.contextmanager
def pinging(fleet: Fleet, host: str, sandbox: str, address: str, interval: float = 0.01) -> Iterator[list[int]]:
    """Ping all the while; afterwards the list has how many were sent and how many were answered."""
    inside = ["ip", "netns", "exec", sandbox] if sandbox else []
    script = f"echo $$; exec {' '.join(inside)} ping -n -i {interval} -W 2 {address}"
    process = fleet.lab.popen(host, ["sh", "-c", script], stdout=subprocess.PIPE)
    assert process.stdout is not None
    pid, counted = process.stdout.readline().strip(), list[int]()
    time.sleep(0.3)
    try:
        yield counted
        time.sleep(0.3)
    finally:
        fleet.sh(host, f"kill -INT {pid}")
        said = process.communicate()[0]
    match = re.search(r"(\d+) packets transmitted, (\d+) received", said)
    assert match is not None, said
    counted += [int(match[1]), int(match[2])]


_CAPTURE = r"""
import socket, struct, sys
link, port = sys.argv[1], int(sys.argv[2])
counted = 0
with socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(3)) as opened, open(0) as end:
    opened.bind((link, 0))
    opened.setblocking(False)
    print("ready", flush=True)
    end.read()
    while True:
        try:
            frame, (_link, _protocol, kind, *_rest) = opened.recvfrom(65535)
        except BlockingIOError:
            break
        head = 14 + (40 if frame[12:14] == b"\x86\xdd" else 4 * (frame[14] & 15))
        protocol = frame[20] if frame[12:14] == b"\x86\xdd" else frame[23]
        outgoing = kind == socket.PACKET_OUTGOING
        counted += outgoing and protocol == 17 and struct.unpack("!H", frame[head + 2 : head + 4])[0] == port
print(counted)
"""


@contextlib.contextmanager
def capturing(fleet: Fleet, host: str, port: int = 4789) -> Iterator[list[int]]:
    """Count datagrams that leave the host's eth0 for a port; afterwards the list has the number."""
    argv = ["/usr/bin/python3", "-c", _CAPTURE, "eth0", str(port)]
    process = fleet.lab.popen(host, argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    assert process.stdout is not None
    assert process.stdout.readline() == "ready\n"
    counted = list[int]()
    yield counted
    counted.append(int(process.communicate()[0]))


@contextlib.contextmanager
def on_the_wire(fleet: Fleet, host: str, what: str) -> Iterator[list[str]]:
    """The packets that tcpdump shows on the host's eth0; afterwards the list has one text, a line each."""
    script = f"echo $$; exec tcpdump -lni eth0 {what} 2>&1"
    process = fleet.lab.popen(host, ["sh", "-c", script], stdout=subprocess.PIPE)
    assert process.stdout is not None
    pid, said = process.stdout.readline().strip(), "none"
    while said and "listening on" not in said:
        said = process.stdout.readline()
    assert said, "tcpdump has ended"
    shown = list[str]()
    yield shown
    time.sleep(1)
    fleet.sh(host, f"kill -INT {pid}")
    lines = process.communicate()[0].splitlines()
    shown.append("\n".join(line for line in lines if re.match(r"\d\d:\d\d:", line)))
