# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: cnm.fabric contributors
"""HTML and SVG elements as text.  Whatever is not markup already is made printable and escaped."""

from __future__ import annotations

from collections.abc import Iterable
from html import escape
from typing import Union

from ...forms import printable

LONGEST = 2000
"""Characters of one text; a longer one is cut."""


class Markup(str):
    """Text in which everything that needs it is escaped."""

    __slots__ = ()


Content = Union[str, Iterable["Content"]]
Attribute = Union[str, int, float, bool, None]

_VOID = frozenset({"br", "circle", "col", "hr", "input", "line", "meta", "path", "polygon", "rect", "use"})


def text(content: Content) -> Markup:
    """The content as markup: each plain text printable and escaped, an iterable piece after piece."""
    if isinstance(content, Markup):
        return content
    if isinstance(content, str):
        return Markup(escape(printable(content, LONGEST)))
    return Markup("".join(map(text, content)))


def element(tag: str, /, *content: Content, **attributes: Attribute) -> Markup:
    """An element.  ``class_`` and ``for_`` are written without the underscore, ``aria_label`` with a hyphen; an
    attribute that is None or False is left out, one that is True is empty.
    """
    parts = [tag]
    for key, value in attributes.items():
        if value is None or value is False:
            continue
        written = key.rstrip("_").replace("_", "-")
        parts.append(f'{written}="{"" if value is True else text(_number(value))}"')
    opening = " ".join(parts)
    return Markup(f"<{opening}/>" if tag in _VOID and not content else f"<{opening}>{text(content)}</{tag}>")


def _number(value: Union[str, float]) -> str:
    return value if isinstance(value, str) else f"{value:.1f}".rstrip("0").rstrip(".")
