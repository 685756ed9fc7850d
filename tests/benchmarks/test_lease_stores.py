# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: cnm.fabric contributors
"""Leases of 1000 hosts with 20 endpoints each in every store: seconds, and octets of one host's change."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import requests
from measuring import rounds
from rows import Table
from stores import SERVERS, Network, Single, programs

from ansible_collections.cnm.fabric.plugins.plugin_utils.leases.base import Leases, empty
from ansible_collections.cnm.fabric.plugins.plugin_utils.leases.parts import PartStore
from ansible_collections.cnm.fabric.plugins.plugin_utils.leases.stores import open_store

HOSTS, ENDPOINTS = 1000, 20
MOST_OCTETS = 100_000
CREATED = "2026-11-21T05:00:00Z"


def fleet() -> Leases:
    """Half of a host's endpoints are on a network of its own, half on one that all hosts have in common."""
    found: Any = empty()
    found["overlays"] = {"front": {"created": CREATED, "subnets": ["10.64.0.0/16"], "vni": 4096}}
    for number in range(HOSTS):
        host = f"node{number:04}"
        found["hosts"][host] = {"underlay": f"192.0.{number // 250}.{number % 250}", "mtu": 1500, "vnis": []}
        found["hosts"][host]["peer_digests"] = {"front": f"{number:012x}"}
        found["networks"][f"{host}/back"] = {"created": CREATED, "subnets": ["10.0.0.0/24"]}
        for box in range(ENDPOINTS):
            network, address = (
                ("back", f"10.0.0.{box + 2}")
                if box % 2
                else ("front", f"10.64.{number // 25}.{number % 25 * 10 + box // 2}")
            )
            found["endpoints"][f"{host}/{network}/web-{box:02}"] = {"ipv4": address}
    return found  # type: ignore[no-any-return]


def with_one_more(leases: Leases) -> Leases:
    more = {"node0007/back/new": {"ipv4": "10.0.0.200"}, "node0007/front/new": {"ipv4": "10.64.255.1"}}
    return {**leases, "endpoints": {**leases["endpoints"], **more}}  # type: ignore[dict-item]


class Octets:
    """What a store's client sent and got: HTTP requests and answers, else all of loopback, else what was written."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.count = 0
        send = requests.Session.send

        def counted(session: Any, request: Any, **options: Any) -> Any:
            answer = send(session, request, **options)
            heads = (request.headers, answer.headers)
            self.count += sum(len(key) + len(value) + 4 for head in heads for key, value in head.items())
            self.count += len(request.url) + len(request.body or b"") + len(answer.content)
            return answer

        monkeypatch.setattr(requests.Session, "send", counted)

    @staticmethod
    def of_loopback() -> int:
        line = next(line for line in Path("/proc/net/dev").read_text("ascii").splitlines() if "lo:" in line)
        return int(line.split()[1])


@pytest.fixture(scope="module")
def network() -> Iterator[Network]:
    programs()
    with Network() as made:
        yield made


@pytest.mark.parametrize("server", ["sqlite", *SERVERS])
def test_a_thousand_hosts(
    server: str, network: Network, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, table: Table
) -> None:
    wanted, single = fleet(), Single(tmp_path)
    times: dict[str, list[float]] = {}

    def timed(name: str, work: Callable[[], Any]) -> Any:
        begun = time.perf_counter()
        found = work()
        times[name] = [time.perf_counter() - begun]
        return found

    with network.entered(), contextlib.ExitStack() as stack:
        stack.callback(single.end)
        settings = single.settings(server)

        def opened() -> PartStore:
            return stack.enter_context(contextlib.closing(open_store(settings, "/")))

        first, other = opened(), opened()
        before = first.read("default")
        for _round in rounds(1, 1, 0):
            timed("first", lambda: first.write("default", before, wanted, 1))
            found = timed("read", lambda: other.read("default"))
            assert found.leases == wanted
            octets = Octets(monkeypatch)
            start = octets.of_loopback()
            change = with_one_more(found.leases)
            hosts = frozenset({"node0007"})
            timed("change", partial(other.write, "default", found, change, found.revision + 1, hosts))
            moved = octets.count or octets.of_loopback() - start
            again = timed("again", lambda: first.read("default"))
            assert again.leases == change
    for name, seconds in times.items():
        table.add(f"leases.{server}.{name}", seconds)
    if server != "sqlite":
        table.add(f"leases.{server}.octets", [moved / 1000])
        assert moved <= MOST_OCTETS
