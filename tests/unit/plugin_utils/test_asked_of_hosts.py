# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: cnm.fabric contributors
"""What the probe is asked of a host, from variables that nobody has checked yet."""

from __future__ import annotations

from typing import Any

import pytest

from ansible_collections.cnm.fabric.plugins.plugin_utils.action_common import forced
from ansible_collections.cnm.fabric.plugins.plugin_utils.declaration.hostvars import (
    declared_sandboxes,
    is_shaped,
    namespace_owners,
)


def test_sandboxes_of_all_variables_are_gathered_and_what_is_wrong_is_passed_over() -> None:
    variables = {
        "cnm_sandboxes": {"c1": None, "c2": {"namespace": {"docker": "web", "pid": None}}, 7: {"namespace": "x"}},
        "cnm_sandboxes_lab": {"c3": {"namespace": {"pid": 7, "nobody": "x", "path": ["/"]}}},
        "cnm_sandboxes_bad": "c4",
        "cnm_services": {"redis": {"namespace": {"docker": "redis-{task}"}}},
        "sandboxes": {"c5": {}},
    }
    found = declared_sandboxes(variables)
    assert sorted(found) == ["7", "c1", "c2", "c3"]
    assert namespace_owners(found) == [
        {"owner": "docker", "reference": "web"},
        {"owner": "pid", "reference": "7"},
    ]


@pytest.mark.parametrize(
    ("entry", "shaped"),
    [
        ({"networks": {"n": {"limits": {"egress": "1mbit"}}}, "deploy": {"replicas": 3}}, True),
        ({"networks": {"m": None, "n": {"netem": 7}}}, True),
        ({"networks": {"n": {"gw_priority": 1}}}, False),
        ({"networks": ["limits"]}, False),
        ({"networks": "limits"}, False),
        ("limits", False),
        (None, False),
    ],
)
def test_what_limits_a_sandbox_or_a_service_is_seen_and_what_is_wrong_passed_over(entry: Any, shaped: bool) -> None:
    assert is_shaped(entry) is shaped


@pytest.mark.parametrize(
    ("value", "is_forced"),
    [(True, True), ("true", True), ("Yes", True), (False, False), ("no", False), (None, False), ("soon", False)],
)
def test_only_a_clear_yes_removes_sandboxes_by_force(value: Any, is_forced: bool) -> None:
    assert forced({"cnm_force": value}, lambda given: given) is is_forced
    assert forced({}, lambda given: given) is False
