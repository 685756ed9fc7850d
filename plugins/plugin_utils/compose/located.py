# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: cnm.fabric contributors
"""What a Compose file says, in types that know the file and line they were written in.

They are builtin types for everybody else: text, whole numbers, mappings with text keys, lists.  Booleans and null
have no such type; the key before them knows the line.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, Optional

Origin = tuple[str, int]
"""A file and a line in it."""


class Text(str):
    """Text of a Compose file."""

    origin: Origin
    tag: str

    def __new__(cls, text: str, origin: Origin, tag: str = "") -> Text:
        made = super().__new__(cls, text)
        made.origin, made.tag = origin, tag
        return made


class Number(int):
    """A whole number of a Compose file."""

    origin: Origin
    tag = ""

    def __new__(cls, number: int, origin: Origin) -> Number:
        made = super().__new__(cls, number)
        made.origin = origin
        return made


class Map(dict[str, Any]):
    """A mapping of a Compose file; ``tag`` is Compose's own ``!reset`` or ``!override``, or empty."""

    def __init__(self, items: Mapping[str, Any], origin: Origin, tag: str = "") -> None:
        super().__init__(items)
        self.origin, self.tag = origin, tag


class Seq(list[Any]):
    """A list of a Compose file."""

    def __init__(self, items: Iterable[Any], origin: Origin, tag: str = "") -> None:
        super().__init__(items)
        self.origin, self.tag = origin, tag


class Reset:
    """``!reset`` or ``!override`` with null behind it."""

    def __init__(self, origin: Origin, tag: str) -> None:
        self.origin, self.tag = origin, tag


def origin_of(value: Any) -> Optional[Origin]:
    """Where a value was written; None for one that does not know."""
    return value.origin if isinstance(value, (Text, Number, Map, Seq, Reset)) else None


def tag_of(value: Any) -> str:
    """Compose's own tag before a value; empty without one."""
    return value.tag if isinstance(value, (Text, Map, Seq, Reset)) else ""
