# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: cnm.fabric contributors
"""Small readers of values that several keys share: booleans, texts, option mappings."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Optional

from .errors import VarPath
from .schema import BOOLEAN_WORDS
from .topology import Pairs

SHORTEST_SECRET = 16
"""Characters of a secret or a password."""


def flag(value: Any, default: bool) -> bool:
    """A boolean of the schema: unset, a boolean, or one of the words for it."""
    if value is None:
        return default
    return value if isinstance(value, bool) else BOOLEAN_WORDS[value.lower()]


def texts(value: Any) -> list[tuple[Optional[int], str]]:
    """A text or a list of them → (index in the list, text); what was taken out of the list is skipped."""
    if value is None:
        return []
    if isinstance(value, str):
        return [(None, value)]
    return [(index, item) for index, item in enumerate(value) if item is not None]


def at(path: VarPath, index: Optional[int]) -> VarPath:
    """The place of an item that `texts` gave."""
    return path if index is None else path / index


def scalar(value: Any) -> str:
    """A value of an option or label, as Docker shows it: ``true``, ``1500``, ``text``."""
    return str(value).lower() if isinstance(value, bool) else str(value)


def pairs(value: Any, path: VarPath) -> Pairs:
    """A mapping, or a list of ``name=value``, as sorted pairs; a name twice in a list is noted."""
    if isinstance(value, Mapping):
        return tuple(sorted((key, scalar(item)) for key, item in value.items() if item is not None))
    found: dict[str, str] = {}
    for index, item in texts(value):
        key, _equals, content = item.partition("=")
        if key in found:
            at(path, index).wrong(f"`{key[:60]}` is in the list twice.", "Leave one of them out.")
        found[key] = content
    return tuple(sorted(found.items()))
