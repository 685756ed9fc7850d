# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: cnm.fabric contributors
"""Runs that look only at what they change: which drift they cannot see, and when it is seen."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest
from host import LARGE, SMALL, a_plan, differing, on_a_host, run_command, scope_of, sh, snapshot

from ansible_collections.cnm.fabric.plugins.module_utils import entrypoints
from ansible_collections.cnm.fabric.plugins.module_utils.engine import narrowing
from ansible_collections.cnm.fabric.plugins.module_utils.kernel.host import Host
from ansible_collections.cnm.fabric.plugins.module_utils.kernel.netlink import Netlink
from ansible_collections.cnm.fabric.plugins.module_utils.plan.links import Link
from ansible_collections.cnm.fabric.plugins.module_utils.plan.plan import Plan, PlanText
from ansible_collections.cnm.fabric.plugins.module_utils.state.files import RUN, write_atomically

MORE = {**SMALL, "c3": {"networks": ["front"]}}


def bring(made: Plan, seen: str = "", **how: Any) -> dict[str, Any]:
    request = entrypoints.Request("default", made.to_json(), digest=made.digest, seen=seen, **how)
    return entrypoints.converge(request, run_command)


def probe() -> dict[str, Any]:
    return entrypoints.probe("default", False, False, run_command)


@contextlib.contextmanager
def looking() -> Iterator[list[str]]:
    """Namespaces whose links, addresses and routes are read."""
    original, found = Host.snapshot, list[str]()

    def snapshot_of(self: Host, namespace: str) -> Any:
        found.append(namespace)
        return original(self, namespace)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Host, "snapshot", snapshot_of)
        yield found


def a_settled_host() -> str:
    bring(a_plan(SMALL))
    found = probe()
    assert found["settled"]
    return str(found["seen"])


@on_a_host
def test_one_sandbox_more_or_less_looks_at_that_one() -> None:
    seen = a_settled_host()
    with looking() as found:
        done = bring(a_plan(MORE), seen)
    assert set(found) == {"", "c3"}
    assert [item["text"] for item in done["changes"]] == ["sandbox c3 on front (10.0.0.4)"]
    again = probe()
    assert again["settled"] and again["seen"] != seen
    more = snapshot()
    with looking() as found:
        done = bring(a_plan(SMALL), again["seen"])
    assert "c1" not in found and [item["text"] for item in done["changes"]] == ["sandbox c3"]
    assert probe()["settled"]
    bring(a_plan(MORE))
    assert set(differing(more, snapshot())) <= {"/run/cnm/lock.json"}


DRIFT = {
    "a link": ("ip -n c1 link set eth0 mtu 1300", "change link c1/eth0"),
    "an address": ("ip -n c1 address add 10.9.9.9/24 dev eth0", "delete address c1/eth0/10.9.9.9/24"),
    "a route": ("ip -n c1 route del default", "create route c1/default"),
    "rules": ("ip netns exec c1 nft flush ruleset", "create nftables c1/inet cnm"),
    "a file": ("rm /etc/netns/c1/resolv.conf", "change file /etc/netns/c1"),
    "a resolver": ("kill $(head -1 /run/cnm/default/resolvers/c1.pid); sleep 0.2", "change resolver c1"),
}
"""What happens to a sandbox between a probe and the run that follows, and what the next one does about it."""


@pytest.mark.parametrize("name", DRIFT)
@on_a_host
def test_drift_after_the_probe_is_seen_by_the_next_one(name: str) -> None:
    command, repair = DRIFT[name]
    seen = a_settled_host()
    sh(command)
    done = bring(a_plan({**SMALL, "c3": {"networks": ["back"]}}), seen)
    assert not [item for item in done["operations"] if repair == f"{item['action']} {item['kind']} {item['name']}"]
    found = probe()
    assert not found["settled"] and found["seen"] == ""
    live = entrypoints.probe("default", True, False, run_command)
    assert repair in [f"{item['action']} {item['kind']} {item['name']}" for item in live["drift"]]
    done = bring(a_plan({**SMALL, "c3": {"networks": ["back"]}}), found["seen"])
    assert repair in [f"{item['action']} {item['kind']} {item['name']}" for item in done["operations"]]
    assert probe()["settled"]


@pytest.mark.parametrize(
    ("command", "repair"),
    [
        ("nft flush chain inet cnm forward", "change nftables inet cnm"),
        ("ip link set $(ip -br link show type bridge | cut -d' ' -f1 | head -1) down", "change link"),
        ("ip netns del c1", "create namespace c1"),
        ("ip link del $(ip -br link show type veth | cut -d@ -f1 | head -1)", "create link"),
    ],
    ids=["rules", "bridge", "namespace", "pair"],
)
@on_a_host
def test_a_host_that_is_no_longer_as_the_probe_saw_it_is_looked_at_as_a_whole(command: str, repair: str) -> None:
    seen = a_settled_host()
    sh(command)
    with looking() as found:
        done = bring(a_plan(MORE), seen)
    assert {"c1", "c2", "c3"} <= set(found)
    assert [item for item in done["operations"] if f"{item['action']} {item['kind']} {item['name']}".startswith(repair)]
    assert probe()["settled"]


@pytest.mark.parametrize("why", ["no probe", "a check", "another answer", "a journal"])
@on_a_host
def test_whatever_is_doubtful_is_looked_at_as_a_whole(why: str) -> None:
    seen = a_settled_host()
    sh("ip -n c1 link set eth0 mtu 1300")
    if why == "a journal":
        entry = {"schema": 1, "places": [[["address", "c9", "eth0", "10.0.0.9/24"], None, None]]}
        write_atomically(RUN / "default" / "journal.json", json.dumps(entry))
    said = {"no probe": "", "another answer": "0" * 64}.get(why, seen)
    done = bring(a_plan(MORE), said, check=why == "a check")
    assert "link c1/eth0" in [f"{item['kind']} {item['name']}" for item in done["operations"]]


@on_a_host
def test_a_failed_run_is_undone_as_any_other() -> None:
    seen = a_settled_host()
    before = snapshot()
    made = a_plan(MORE)
    wrong = Link("", "br-wrong", "bridge", "network/wrong", mtu=20)
    with pytest.raises(entrypoints.Refused, match=r"were undone\.$"):
        bring(replace(made, resources=(*made.resources, wrong)), seen)
    assert set(differing(before, snapshot())) <= {"/run/cnm/lock.json"}
    assert probe()["settled"]


@on_a_host
def test_a_removed_bridge_takes_its_ports_into_view() -> None:
    made = a_plan(LARGE)
    bridge = next(item for item in made.resources if isinstance(item, Link) and item.role == "network/front")
    without = [item for item in made.resources if item is not bridge]
    scope = scope_of(made.resources, without)
    assert scope is not None and "c1" in scope.namespaces
    assert {"c2", "c3"}.isdisjoint(scope.namespaces)


@pytest.mark.parametrize("text", ['{"resources": [], "schema": 1}', '{"resources": [[1, {"=": 7}]], "schema": 1}'])
def test_a_plan_that_cannot_be_read_is_not_narrowed(text: str) -> None:
    one = PlanText.read(a_plan(SMALL).to_json())
    found = narrowing.scope(PlanText.read(text), one)
    assert found is None or found.namespaces == {"c1", "c2"}


@on_a_host
def test_one_link_is_read_as_in_the_list() -> None:
    a_settled_host()
    with Netlink() as kernel:
        there = {link["name"]: link for link in kernel.links()}
        assert len(there) > 3
        assert {name: kernel.link(name) for name in there} == there
        assert kernel.link("nothing") is None
