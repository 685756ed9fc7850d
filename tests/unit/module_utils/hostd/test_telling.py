# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: cnm.fabric contributors
"""Which lines about a run go to the journal, with which fields."""

from __future__ import annotations

from typing import Any

import pytest

from ansible_collections.cnm.fabric.plugins.module_utils.hostd import telling
from ansible_collections.cnm.fabric.plugins.module_utils.kernel import journald
from ansible_collections.cnm.fabric.plugins.module_utils.plan.addresses import Address
from ansible_collections.cnm.fabric.plugins.module_utils.plan.links import Link, Namespace
from ansible_collections.cnm.fabric.plugins.module_utils.resources.base import Operation

C1 = Namespace("c1", "sandbox/c1")
ETH0 = Link("c1", "eth0", "veth", "endpoint/front/c1")
GONE = Link("", "br-old", "bridge", "network/old")


@pytest.fixture
def lines(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, dict[str, str]]]:
    found: list[tuple[str, dict[str, str]]] = []

    def write(message: str, priority: int = 6, **fields: str) -> bool:
        found.append((message, {name: value for name, value in fields.items() if value}))
        return bool(priority)

    monkeypatch.setattr(journald, "write", write)
    return found


def test_each_part_that_a_run_changed_has_a_line_and_the_run_one(lines: list[Any]) -> None:
    address = Address("c1", "eth0", "10.0.0.2/24")
    operations = [Operation("create", C1), Operation("change", ETH0, ETH0), Operation("create", address)]
    telling.tell_run("blue", "site", [*operations, Operation("delete", GONE, GONE)], [C1, ETH0, address])
    assert lines == [
        (
            "changed network front in sandbox c1 of project blue",
            {"CNM_PROJECT": "blue", "CNM_SANDBOX": "c1", "CNM_NETWORK": "front"},
        ),
        ("removed network old of project blue", {"CNM_PROJECT": "blue", "CNM_NETWORK": "old"}),
        ("created sandbox c1 of project blue", {"CNM_PROJECT": "blue", "CNM_SANDBOX": "c1"}),
        ("site of project blue changed 3 parts", {"CNM_PROJECT": "blue"}),
    ]


def test_a_run_without_changes_has_one_line(lines: list[Any]) -> None:
    telling.tell_run("default", "site", [], [C1])
    assert lines == [("site found everything as planned", {"CNM_PROJECT": "default"})]


def test_a_refusal_is_one_line(lines: list[Any]) -> None:
    telling.tell_refusal("default", "site", "the first\n  and the second")
    assert lines == [("site failed: the first and the second", {"CNM_PROJECT": "default"})]


def test_a_large_run_tells_of_so_many_parts_and_the_number_of_the_others(lines: list[Any]) -> None:
    boxes = [Namespace(f"s{number}", f"sandbox/s{number}") for number in range(telling.MOST_LINES + 7)]
    telling.tell_run("default", "site", [Operation("create", item) for item in boxes], boxes)
    assert len(lines) == telling.MOST_LINES + 1
    assert lines[-1][0] == "site changed 207 parts, of which the last 7 are not named"


@pytest.mark.parametrize(
    "role", ["endpoint/a b/x\nPRIORITY=0", "network/\x1b[2J", "endpoint//", "network/" + "x" * 300]
)
def test_a_name_of_another_form_is_in_no_field(lines: list[Any], role: str) -> None:
    forged = Link("c1", "eth9", "veth", role)
    telling.tell_run("default", "site", [Operation("delete", forged, forged)], [])
    assert set(lines[0][1]) <= {"CNM_PROJECT", "CNM_SANDBOX"}
