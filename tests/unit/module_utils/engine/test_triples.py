# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: cnm.fabric contributors
"""Golden triples: what there is, what is wanted, what is therefore done.  One YAML file a case."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

from ansible_collections.cnm.fabric.plugins.module_utils.engine import engine
from ansible_collections.cnm.fabric.plugins.module_utils.plan.codec import decode
from ansible_collections.cnm.fabric.plugins.module_utils.resources.base import Found
from ansible_collections.cnm.fabric.plugins.module_utils.resources.registry import kinds

CASES = sorted((Path(__file__).parents[2] / "triples").glob("*.yml"))


def load(path: Path) -> dict[str, Any]:
    data: dict[str, Any] = yaml.safe_load(path.read_text(encoding="utf-8"))
    return data


def observed(entries: list[dict[str, Any]]) -> engine.Observed:
    """Current state: resources, with ``foreign: true`` for those that are not ours."""
    result = {}
    for entry in entries:
        foreign = entry.pop("foreign", False)
        resource = decode(entry, found=True)
        result[resource.key] = Found(resource, ours=not foreign, stale=not foreign)
    return result


@pytest.mark.parametrize("path", CASES, ids=lambda path: path.stem)
def test_current_and_desired_give_the_diff(path: Path) -> None:
    case = load(path)
    registry = {kind.name: kind for kind in kinds()}
    desired = [decode(entry) for entry in case["desired"]]
    if "refused" in case:
        with pytest.raises(engine.ForeignConflict) as refusal:
            engine.difference(desired, observed(case["current"]), registry)
        for text in case["refused"]:
            assert text in str(refusal.value)
        return
    operations = engine.difference(desired, observed(case["current"]), registry)
    assert [operation.text for operation in operations] == case["diff"]
    steps = [
        f"{step.method} {operation.resource.kind} {operation.resource.label}"
        for step in engine.order(operations, registry)
        for operation in step.operations
    ]
    if "steps" in case:
        assert steps == case["steps"]


@pytest.mark.parametrize("path", CASES, ids=lambda path: path.stem)
def test_an_object_as_desired_needs_no_operation(path: Path) -> None:
    desired = [decode(entry) for entry in load(path)["desired"]]
    registry = {kind.name: kind for kind in kinds()}
    as_desired = {resource.key: Found(resource) for resource in desired}
    assert engine.difference(desired, as_desired, registry) == []


def test_there_are_cases() -> None:
    assert len(CASES) >= 10
