# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: cnm.fabric contributors
"""The tasks of services at work: servers that say whose answer it is and who called, callers, and a load of requests.

Sockets are opened in the sandboxes' namespaces by threads of the tests' own process.
"""

from __future__ import annotations

import contextlib
import json
import re
import selectors
import socket
import threading
import time
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Optional

from asking import in_namespace
from fleet import Fleet

PORT = 6379
LINE = 200


def inside(fleet: Fleet, node: str, sandbox: str = "") -> str:
    """Where the network namespace of a sandbox, or of a node itself, is found from here."""
    place = f"root/run/netns/{sandbox}" if sandbox else "ns/net"
    return f"/proc/{fleet.lab.pid(node)}/{place}"


def where(fleet: Fleet, service: str = "") -> dict[str, str]:
    """The host of each task of a service, or of all services, as the hosts have them."""
    found = {}
    for host in fleet.hosts:
        names = fleet.sh(host, "ls /run/netns 2>/dev/null", check=False).split()
        for name in names:
            before, _dot, number = name.rpartition(".")
            if number.isdigit() and before and service in ("", before):
                found[name] = host
    return dict(sorted(found.items()))


def addresses(fleet: Fleet, node: str, sandbox: str, *prefixes: str) -> list[str]:
    """All addresses of global scope that a sandbox has, those that begin so, IPv4 first."""
    said = fleet.sh(node, f"ip -j -n {sandbox} address")
    rows = [row for link in json.loads(said) for row in link["addr_info"] if row["scope"] == "global"]
    found = [row["local"] for row in sorted(rows, key=lambda row: str(row["family"]))]
    return [address for address in found if address.startswith(prefixes or "")]


# --- servers ---------------------------------------------------------------------------------------------------------


class Servers:
    """TCP and UDP servers of one port a sandbox, IPv4 and IPv6, each saying ``NAME CALLER`` once and to each line."""

    def __init__(self, fleet: Fleet) -> None:
        self._fleet = fleet
        self._chosen = selectors.DefaultSelector()
        self._lock = threading.RLock()
        self._opened: dict[str, list[socket.socket]] = {}
        self._ended = False
        self._thread = threading.Thread(target=self._work, daemon=True)
        self._thread.start()

    def serve(self, tasks: Mapping[str, str], port: int = PORT) -> None:
        """Serve in sandboxes by host."""
        for sandbox, host in tasks.items():
            if sandbox in self._opened:
                self.stop(sandbox)
            opened = in_namespace(inside(self._fleet, host, sandbox), _listening, port)
            with self._lock:
                self._opened[sandbox] = opened
                for each in opened:
                    self._chosen.register(each, selectors.EVENT_READ, (sandbox, each.type))

    def stop(self, sandbox: str) -> None:
        """Its process ends."""
        with self._lock:
            for each in self._opened.pop(sandbox, []):
                self._chosen.unregister(each)
                each.close()

    def close(self) -> None:
        """All end."""
        self._ended = True
        self._thread.join()
        for key in list(self._chosen.get_map().values()):
            opened = key.fileobj
            assert isinstance(opened, socket.socket)
            opened.close()
        self._chosen.close()

    def _work(self) -> None:
        while not self._ended:
            with self._lock:
                for key, _events in self._chosen.select(0):
                    with contextlib.suppress(OSError):
                        self._answer(key.fileobj, *key.data)
            time.sleep(0.003)

    def _answer(self, opened: Any, sandbox: str, kind: Optional[int]) -> None:
        if kind == socket.SOCK_DGRAM:
            data, caller = opened.recvfrom(LINE)
            opened.sendto(f"{sandbox} {caller[0]} {data.decode()}".encode(), caller)
        elif kind == socket.SOCK_STREAM:
            connection, caller = opened.accept()
            connection.sendall(f"{sandbox} {caller[0]}\n".encode())
            connection.setblocking(False)
            self._chosen.register(connection, selectors.EVENT_READ, (f"{sandbox} {caller[0]}", None))
            with contextlib.suppress(KeyError):
                self._opened[sandbox].append(connection)
        else:
            data = b""
            with contextlib.suppress(OSError):
                data = opened.recv(LINE)
            if data:
                opened.sendall(f"{sandbox} {data.decode()}".encode())
            else:
                self._chosen.unregister(opened)
                with contextlib.suppress(KeyError, ValueError):
                    self._opened[sandbox.partition(" ")[0]].remove(opened)
                opened.close()


def _listening(port: int) -> list[socket.socket]:
    result = []
    for family, everywhere in ((socket.AF_INET, "0.0.0.0"), (socket.AF_INET6, "::")):
        for kind in (socket.SOCK_STREAM, socket.SOCK_DGRAM):
            opened = socket.socket(family, kind)
            opened.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            if family == socket.AF_INET6:
                opened.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
            opened.bind((everywhere, port))
            if kind == socket.SOCK_STREAM:
                opened.listen(512)
            opened.setblocking(False)
            result.append(opened)
    return result


@contextlib.contextmanager
def servers(fleet: Fleet) -> Iterator[Servers]:
    """Servers that end with the block."""
    made = Servers(fleet)
    try:
        yield made
    finally:
        made.close()


# --- callers ---------------------------------------------------------------------------------------------------------


def _family(address: str) -> int:
    return socket.AF_INET6 if ":" in address else socket.AF_INET


def connected(address: str, port: int = PORT, timeout: float = 4) -> tuple[socket.socket, str]:
    """A connection from the thread's namespace, and what is said first."""
    opened = socket.socket(_family(address), socket.SOCK_STREAM)
    opened.settimeout(timeout)
    try:
        opened.connect((address, port))
        return opened, opened.recv(LINE).decode().strip()
    except OSError:
        opened.close()
        raise


def _called(address: str, port: int, times: int, protocol: str, timeout: float) -> list[str]:
    result = []
    for number in range(times):
        try:
            if protocol == "tcp":
                opened, said = connected(address, port, timeout)
                opened.close()
            else:
                with socket.socket(_family(address), socket.SOCK_DGRAM) as datagrams:
                    datagrams.settimeout(timeout)
                    datagrams.connect((address, port))
                    datagrams.send(f"{number}".encode())
                    said = datagrams.recv(LINE).decode().rpartition(" ")[0]
            result.append(said)
        except OSError as error:
            result.append(str(error))
    return result


@dataclass(frozen=True)
class Caller:
    """Who calls: a sandbox of a node, or ("") the node itself."""

    fleet: Fleet
    node: str
    sandbox: str = ""

    @property
    def place(self) -> str:
        return inside(self.fleet, self.node, self.sandbox)

    def call(
        self, address: str, times: int = 1, port: int = PORT, protocol: str = "tcp", timeout: float = 4
    ) -> list[str]:
        """What so many requests are answered with: ``TASK CALLER``, or what went wrong."""
        return in_namespace(self.place, _called, address, port, times, protocol, timeout)

    def tasks(self, address: str, times: int = 12, port: int = PORT, protocol: str = "tcp") -> Counter[str]:
        """How many of the requests each task answered."""
        return Counter(said.split(" ")[0] for said in self.call(address, times, port, protocol))

    def connect(self, address: str, port: int = PORT) -> tuple[socket.socket, str]:
        """A connection that stays open, and the task it is with."""
        opened, said = in_namespace(self.place, connected, address, port)
        return opened, said.split(" ")[0]

    def datagrams(self, address: str, port: int = PORT) -> socket.socket:
        """A socket of UDP that speaks with one address."""
        opened = in_namespace(self.place, socket.socket, _family(address), socket.SOCK_DGRAM)
        opened.settimeout(2)
        opened.connect((address, port))
        return opened

    def getent(self, *words: str) -> list[str]:
        """The lines of ``getent``."""
        said = self.fleet.sh(self.node, f"ip netns exec {self.sandbox} getent {' '.join(words)}", check=False)
        return said.splitlines()

    def lookup(self, name: str) -> list[str]:
        """The addresses that a name has, of both families, sorted."""
        return sorted({line.split()[0] for line in self.getent("ahosts", name)})

    def pings(self, address: str) -> bool:
        """Whether a ping is answered."""
        inner = f"ip netns exec {self.sandbox} " if self.sandbox else ""
        said = self.fleet.sh(self.node, f"{inner}ping -n -c 1 -W 2 {address} && echo answered", check=False)
        return said.endswith("answered\n")


def echoed(opened: socket.socket, word: str) -> str:
    """The task that answers a line on an open connection or flow, "" if none does."""
    try:
        opened.send(word.encode())
        return opened.recv(LINE).decode().split(" ")[0]
    except OSError:
        return ""


@contextlib.contextmanager
def talking(asked: Mapping[socket.socket, str], seconds: float = 5) -> Iterator[list[tuple[str, str]]]:
    """Inside the block flows of UDP are spoken on every few seconds, lest the kernel forgets them after 30
    (``nf_conntrack_udp_timeout``).  Gives each answer of another task than the flow's, after that one.
    """
    strangers: list[tuple[str, str]] = []
    ended = threading.Event()

    def talk() -> None:
        while not ended.wait(seconds):
            answers = ((task, echoed(flow, "still there?")) for flow, task in asked.items())
            strangers.extend(pair for pair in answers if len(set(pair)) > 1)

    thread = threading.Thread(target=talk, daemon=True)
    thread.start()
    try:
        yield strangers
    finally:
        ended.set()
        thread.join()


# --- load ------------------------------------------------------------------------------------------------------------


@dataclass
class Load:
    """Requests through an address, so many a second; what became of each."""

    caller: Caller
    address: str
    rate: int = 50
    workers: int = 5
    port: int = PORT
    timeout: float = 4
    said: list[tuple[float, str]] = field(default_factory=list)
    failed: list[tuple[float, str]] = field(default_factory=list)
    _ended: threading.Event = field(default_factory=threading.Event)

    def _work(self) -> None:
        due = time.monotonic()
        while not self._ended.is_set():
            begun = time.time()
            try:
                opened, said = connected(self.address, self.port, self.timeout)
                opened.close()
                (self.said if said else self.failed).append((begun, said))
            except OSError as error:
                self.failed.append((begun, str(error)))
            due += self.workers / self.rate
            time.sleep(max(0, due - time.monotonic()))

    @property
    def tasks(self) -> Counter[str]:
        """How many requests each task answered so far."""
        return Counter(said.split(" ")[0] for _begun, said in self.said)

    @contextlib.contextmanager
    def running(self) -> Iterator[Load]:
        """Inside the block requests are made."""
        threads = [
            threading.Thread(target=in_namespace, args=(self.caller.place, self._work), daemon=True)
            for _number in range(self.workers)
        ]
        for thread in threads:
            thread.start()
        try:
            yield self
        finally:
            self._ended.set()
            for thread in threads:
                thread.join()


# --- what the kernel remembers ---------------------------------------------------------------------------------------


def flows(fleet: Fleet, node: str, sandbox: str, address: str) -> list[str]:
    """What conntrack of a sandbox remembers of an address."""
    said = fleet.sh(node, f"ip netns exec {sandbox} conntrack -L 2>/dev/null", check=False)
    said += fleet.sh(node, f"ip netns exec {sandbox} conntrack -L -f ipv6 2>/dev/null", check=False)
    return [line for line in said.splitlines() if f"={address} " in line]


def mentioned(fleet: Fleet, addresses: Sequence[str]) -> list[str]:
    """Where on the hosts any of these addresses still stands: rules, IPVS, forwarding entries, names, conntrack.

    Connections of TCP that are closed are no more than a memory of their ports.
    """
    script = """
for n in $(ls /run/netns 2>/dev/null); do
  for what in "nft list ruleset" "bridge fdb" "conntrack -L" "conntrack -L -f ipv6" "ipvsadm -Sn"; do
    ip netns exec $n $what 2>/dev/null | sed "s|^|$n $what: |"
  done
  ip netns exec $n ip neighbour show nud permanent | sed "s|^|$n neighbours: |"
done
grep -r . /run/cnm/default/names /etc/netns 2>/dev/null
nft list ruleset
"""
    found = []
    for host in fleet.hosts:
        for line in fleet.sh(host, script, check=False).splitlines():
            if re.search(" (TIME_WAIT|CLOSE|LAST_ACK) ", line):
                continue
            words = line.replace("=", " ").replace(",", " ").replace("/", " ").replace(":6379", " ").split()
            found += [f"{host}: {line}"] * any(address in words for address in addresses)
    return found
