# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: cnm.fabric contributors
"""The compact form of a plan's text: nothing is lost in it, and nothing but it is read."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ansible_collections.cnm.fabric.plugins.module_utils.plan.base import PlanError
from ansible_collections.cnm.fabric.plugins.module_utils.plan.packing import pack, unpack, unpack_model

SCALARS = st.one_of(st.none(), st.integers(-3, 3), st.text("ab/1\n", max_size=6))
VALUES = st.recursive(
    SCALARS,
    lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(st.sampled_from("abc/"), inner, max_size=3)),
    max_leaves=6,
)
FIELDS = st.dictionaries(st.sampled_from("abc"), VALUES, max_size=3)
OBJECTS = st.lists(st.builds(lambda kind, fields: {"kind": kind, **fields}, st.sampled_from("xy"), FIELDS), max_size=8)


def through_text(objects: list[Any]) -> tuple[str, list[Any]]:
    text = json.dumps(pack(objects, lambda item: item), sort_keys=True)
    return text, unpack(json.loads(text))


@given(OBJECTS)
def test_packed_objects_are_the_same_after_unpacking(objects: list[Any]) -> None:
    _text, found = through_text(objects)
    assert sorted(map(json.dumps, map(_ordered, found))) == sorted(map(json.dumps, map(_ordered, objects)))


def _ordered(data: Any) -> Any:
    return json.loads(json.dumps(data, sort_keys=True))


def test_what_objects_have_in_common_is_written_once() -> None:
    boxes = [
        {"directory": f"/etc/netns/web-{number}", "files": {"hosts": f"::1 localhost\n10.0.0.{number} web\n"}}
        for number in range(100, 150)
    ]
    text, found = through_text(boxes)
    assert found == boxes
    assert text.count("localhost") == text.count("/etc/netns/web-1") == text.count("directory") == 1


@pytest.mark.parametrize(
    "groups",
    [
        *(None, {}, "x", 7, [None], [[]], [[1]], ["ab"], [[1, None]], [[1, "x"]], [[1, {}]], [[1, {"?": []}]]),
        *([[2, [1]]], [[1, {"=": 1, "{": {}}]], [[1, {"{": []}]], [[2, {"{": {"a": [1]}}]], [[1, {"[": []}]]),
        *([[1, {":": []}]], [[1, {"~": ["a"]}]], [[2, {"~": ["a", "b", ["c"]]}]], [[1, {"\n": []}]]),
        *([[1, {"\n": [[7]]}]], [[1, {"{": {"a": []}}]]),
        *([[number, {"=": {}}]] for number in (0, -1, True, 1 << 40, "1", None)),
    ],
    ids=str,
)
def test_other_data_is_refused_with_a_sentence(groups: Any) -> None:
    with pytest.raises(PlanError) as refusal:
        unpack(groups)
    assert str(refusal.value).isprintable()


NAMELESS = {"networks": [], "traits": [], "sandboxes": [[1, {"=": {}}]]}


@pytest.mark.parametrize("model", [None, [], "x", {"networks": []}, NAMELESS], ids=str)
def test_model_of_another_form_is_refused_with_a_sentence(model: Any) -> None:
    with pytest.raises(PlanError):
        unpack_model(model, "node1", "default")
