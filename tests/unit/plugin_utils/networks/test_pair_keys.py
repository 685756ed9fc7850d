# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: cnm.fabric contributors
"""What a host gets to know of the keys of encrypted overlays, from the side of one that has been broken into."""

from __future__ import annotations

import json
from itertools import permutations
from types import SimpleNamespace
from typing import Any

import pytest

from ansible_collections.cnm.fabric.plugins.action.converge import ActionModule
from ansible_collections.cnm.fabric.plugins.module_utils.plan.calls import BEGIN, END
from ansible_collections.cnm.fabric.plugins.module_utils.plan.codec import encode
from ansible_collections.cnm.fabric.plugins.plugin_utils.action_common import plan_file
from ansible_collections.cnm.fabric.plugins.plugin_utils.facts import Facts
from ansible_collections.cnm.fabric.plugins.plugin_utils.leases.base import empty
from ansible_collections.cnm.fabric.plugins.plugin_utils.module_state.reading import read_topology
from ansible_collections.cnm.fabric.plugins.plugin_utils.networks.encryption import epoch_key, hkdf_expand, pair_key
from ansible_collections.cnm.fabric.plugins.plugin_utils.planner.plan import plan

SECRET = "correct horse battery staple"
EPOCH = 7
NETWORKS = {
    "a": {"driver": "overlay", "encrypted": True},
    "b": {"driver": "overlay", "encrypted": True},
    "clear": {"driver": "overlay"},
}
MEMBERS = {"node1": ["a"], "node2": ["a", "clear"], "node3": ["b"], "node4": ["b", "clear"], "node5": ["clear"]}
VTEPS = {name: f"192.0.2.{number}" for number, name in enumerate(MEMBERS, 1)}


def variables_of(host: str) -> dict[str, Any]:
    return {
        "cnm_networks": NETWORKS,
        "cnm_overlay_secret": SECRET,
        "cnm_overlay_key_epoch": EPOCH,
        "cnm_sandboxes": {f"s-{host}": {"networks": MEMBERS[host]}},
    }


@pytest.fixture(scope="module")
def calls(tmp_path_factory: pytest.TempPathFactory) -> dict[str, dict[str, Any]]:
    """By host the arguments of its call of M(cnm.fabric.converge)."""
    directory = tmp_path_factory.mktemp("plans")
    facts = {
        name: Facts(
            addresses=((vtep, "eth0", 1500),), routes=(("default", "eth0", "192.0.2.254"),), filters_bridges=True
        )
        for name, vtep in VTEPS.items()
    }
    topology = read_topology({name: variables_of(name) for name in MEMBERS})
    made = plan(topology, facts, empty(), "2026-11-21T05:00:00Z", {})
    assert made.refusals == {}
    hosts: dict[str, Any] = {}
    for digest, text in made.shared.items():
        (directory / digest).write_text(text, encoding="utf-8")
    for name, each in made.plans.items():
        (directory / plan_file(name)).write_text(each.to_json(), encoding="utf-8")
        said = {"digest": each.digest, "revision": 1, "signature": "", "project": "default", "based_on": "", "seen": ""}
        hosts[name] = {**said, "kept": False, "settled": False, "shared": sorted(each.shared)}
        if each.encryption is not None:
            hosts[name]["encryption"] = encode(each.encryption)
    return {name: call_of(name, {"directory": str(directory), "hosts": hosts}) for name in MEMBERS}


def call_of(host: str, planned: dict[str, Any]) -> dict[str, Any]:
    made: dict[str, Any] = {}

    class Action(ActionModule):
        def _is_pipelining_enabled(self, *_arguments: Any) -> bool:
            return True

        def _compute_environment_string(self, *_arguments: Any) -> str:
            return ""

        def _low_level_execute_command(self, _command: str, in_data: bytes) -> dict[str, Any]:
            made.update(json.loads(in_data)["arguments"])
            return {"rc": 0, "stdout": f"{BEGIN}\n{{}}\n{END}\n", "stderr": ""}

    task = SimpleNamespace(args={}, async_val=0, check_mode=False, delegate_to=None, diff=False, environment=None)
    connection = SimpleNamespace(_shell=SimpleNamespace(tmpdir="/nowhere", SHELL_FAMILY="sh"))
    action = Action(task, connection, None, None, SimpleNamespace(template=lambda value: value), None)
    groups = {"all": list(MEMBERS)}
    action.run(None, {**variables_of(host), "inventory_hostname": host, "groups": groups, "fabric_plan": planned})
    return made


def secrets_in(call: dict[str, Any]) -> list[bytes]:
    """Whatever in a call may be a key."""
    return [bytes.fromhex(text) for text in call["pair_keys"].values()]


def key_between(one: str, other: str, epoch: int) -> bytes:
    return pair_key(epoch_key(SECRET, "default", epoch), VTEPS[one], VTEPS[other])


def test_a_host_without_an_encrypted_network_gets_no_key(calls: dict[str, dict[str, Any]]) -> None:
    assert calls["node5"]["pair_keys"] == {}


@pytest.mark.parametrize("host", ["node1", "node2", "node3", "node4"])
def test_a_host_gets_the_keys_it_needs_and_is_an_end_of_each(calls: dict[str, dict[str, Any]], host: str) -> None:
    (peer,) = (name for name in MEMBERS if name != host and MEMBERS[name][0] == MEMBERS[host][0])
    mine = {(epoch, peer, host) for epoch in (EPOCH - 1, EPOCH, EPOCH + 1)}
    mine |= {(epoch, host, peer) for epoch in (EPOCH - 1, EPOCH)}
    assert calls[host]["pair_keys"] == {
        f"{epoch} {VTEPS[source]} {VTEPS[target]}": key_between(source, target, epoch).hex()
        for epoch, source, target in mine
    }


@pytest.mark.parametrize("host", MEMBERS)
def test_nobody_has_what_another_pair_s_keys_are_or_follow_from(calls: dict[str, dict[str, Any]], host: str) -> None:
    """Neither as it came nor as a parent of what it takes: with an epoch's key any host could listen to all."""
    had = secrets_in(calls[host])
    others = {
        key_between(one, other, epoch)
        for one, other in permutations(MEMBERS, 2)
        if host not in (one, other)
        for epoch in range(EPOCH - 2, EPOCH + 3)
    }
    assert others.isdisjoint(had)
    for secret in had:
        for one, other in permutations(VTEPS.values(), 2):
            assert pair_key(secret, one, other) not in others
        for epoch in range(EPOCH - 2, EPOCH + 3):
            assert hkdf_expand(secret, f"epoch {epoch}".encode(), 32) != epoch_key(SECRET, "default", epoch)


@pytest.mark.parametrize("host", MEMBERS)
def test_neither_the_secret_nor_an_epoch_s_key_nor_what_is_in_a_plan_goes_to_a_host(
    calls: dict[str, dict[str, Any]], host: str
) -> None:
    said = json.dumps(calls[host])
    parents = [SECRET, *(epoch_key(SECRET, "default", epoch).hex() for epoch in range(EPOCH - 2, EPOCH + 3))]
    assert not [secret for secret in parents if secret in said]
    apart = json.dumps({name: value for name, value in calls[host].items() if name != "pair_keys"})
    assert not [secret for secret in secrets_in(calls[host]) if secret.hex() in apart]


def test_what_is_planned_and_registered_has_no_key(calls: dict[str, dict[str, Any]]) -> None:
    keys = {secret.hex() for call in calls.values() for secret in secrets_in(call)}
    assert len(keys) == 2 * 2 * 3  # two pairs, two directions, three epochs
    assert not [key for call in calls.values() for key in keys if key in call["plan"]]
