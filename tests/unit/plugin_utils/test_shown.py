# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: cnm.fabric contributors
"""`shown`: how much is printed, and of what."""

from __future__ import annotations

from typing import Any

import pytest

from ansible_collections.cnm.fabric.plugins.plugin_utils.shown import Shown, UnknownLevel, read_shown


def read(**variables: Any) -> Shown:
    return read_shown(variables, lambda value: value)


def test_summary_of_everything_is_the_default() -> None:
    assert read() == Shown("summary", frozenset())
    assert read().includes("c1", "front")


@pytest.mark.parametrize("only", ["front,c1", ["front", "c1"], " front , c1 ", ("c1", "front")])
def test_names_are_a_text_or_a_list(only: Any) -> None:
    found = read(cnm_show="full", cnm_only=only)
    assert found == Shown("full", frozenset({"front", "c1"}))
    assert found.includes("c1", "back")
    assert not found.includes("c2", "back")


@pytest.mark.parametrize(
    ("variables", "message"),
    [
        ({"cnm_show": "all"}, "cnm_show: `all` is none of quiet, summary, full"),
        ({"cnm_show": ["full"]}, "cnm_show: a list is none of quiet, summary, full"),
        ({"cnm_only": {"front": 1}}, "cnm_only: a mapping is neither a name nor a list of names"),
        ({"cnm_only": [1]}, "cnm_only: a list is neither a name nor a list of names"),
    ],
)
def test_other_values_are_refused(variables: dict[str, Any], message: str) -> None:
    with pytest.raises(UnknownLevel, match=message):
        read(**variables)
