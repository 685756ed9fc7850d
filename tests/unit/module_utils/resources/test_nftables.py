# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: cnm.fabric contributors
"""Which sets of a table tell conntrack what to forget."""

from __future__ import annotations

from ansible_collections.cnm.fabric.plugins.module_utils.plan.nftables import (
    UDP_PORTS,
    VIP_TASKS,
    Nftables,
    NftSet,
    task_set,
)
from ansible_collections.cnm.fabric.plugins.module_utils.resources.nftables import _tracked

TASKS = NftSet("tasks4", "type ipv4_addr . ipv4_addr;", ("10.0.0.9 . 10.0.0.2",))
PORTS = NftSet("ports4_any", "type inet_proto . inet_service : ipv4_addr . inet_service;")


def table(*sets: NftSet) -> Nftables:
    return Nftables("c1", "inet", "cnm", "sandbox/c1", sets)


def test_a_set_as_found_tracks_what_the_plan_says_of_it() -> None:
    wanted = table(task_set(VIP_TASKS, 4), NftSet(PORTS.name, PORTS.declaration, (), UDP_PORTS))
    found = _tracked(table(TASKS, PORTS, NftSet("bridges", "type ifname;")), wanted)
    assert [(item.name, item.tracks, item.family) for item in found] == [
        ("tasks4", VIP_TASKS, 4),
        ("ports4_any", UDP_PORTS, 0),
    ]
    assert found[0].elements == TASKS.elements


def test_the_tasks_of_a_sandbox_whose_last_service_is_gone_are_known() -> None:
    assert [(item.tracks, item.family) for item in _tracked(table(TASKS), table())] == [(VIP_TASKS, 4)]


def test_a_set_of_a_users_table_has_no_tasks_whatever_its_name() -> None:
    assert _tracked(table(TASKS), table(TASKS)) == []
