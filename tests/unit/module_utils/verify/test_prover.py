# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: cnm.fabric contributors
"""Which checks are repeated if a neighbour table was full, and how misses are told."""

from __future__ import annotations

from typing import Any

from ansible_collections.cnm.fabric.plugins.module_utils.verify.prover import _again, _miss


def check(name: str, *reach: str) -> dict[str, Any]:
    return {
        "sandbox": name,
        "reach": list(reach),
        "refuse": ["10.9.0.1"],
        "names": {"web": ["10.0.0.1"]},
        "way_out": [4],
    }


def miss(sandbox: str, kind: str, target: str) -> dict[str, Any]:
    return {"sandbox": sandbox, "check": kind, "target": target}


CHECKS = [check(f"c{number}", "10.0.0.1", "10.0.0.2") for number in range(6)]


def test_only_what_failed_is_repeated() -> None:
    misses = [miss("c1", "reach", "10.0.0.2"), miss("c2", "resolve", "web"), miss("c3", "egress", "outside over IPv4")]
    (group,) = _again(CHECKS, misses, 100)
    assert [(item["sandbox"], item["reach"], list(item["names"]), item["refuse"]) for item in group] == [
        ("c1", ["10.0.0.2"], [], []),
        ("c2", [], ["web"], []),
    ]


def test_few_are_repeated_at_once() -> None:
    misses = [miss(item["sandbox"], "reach", "10.0.0.1") for item in CHECKS]
    groups = list(_again(CHECKS, misses, 3))
    assert [[item["sandbox"] for item in group] for group in groups] == [["c0", "c1"], ["c2", "c3"], ["c4", "c5"]]


def test_nothing_is_repeated_if_nothing_failed() -> None:
    assert list(_again(CHECKS, [], 10)) == []


def test_a_long_answer_is_a_short_miss() -> None:
    answer = ", ".join(f"10.0.{number // 250}.{number % 250}" for number in range(5000))
    found = _miss("resolve", "tasks.web", answer, f"{answer}\n")
    assert len(found["wanted"]) == len(found["found"]) == 2000
