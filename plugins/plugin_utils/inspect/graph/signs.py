# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: cnm.fabric contributors
"""The small parts of drawings: texts, tips, the shapes of states, the colours of lanes."""

from __future__ import annotations

from typing import Optional

from .fabric import State
from .markup import Markup, element

COLOURS = 8
"""How many lanes have colours of their own; the next begin again, as their places tell them apart too."""

SMALL, WORDS, NORMAL, HEADING = 6.7, 8.0, 7.6, 9.6
"""Widths of a letter: of addresses, states, names and hosts."""

_SIZE = 5.5
"""Half the size of a sign."""


def colour(place: int) -> str:
    """The class of a lane's colour."""
    return f"c{place % COLOURS}"


def label(x: float, y: float, text: str, class_: str = "", anchor: Optional[str] = None) -> Markup:
    """A text."""
    return element("text", text, x=x, y=y, class_=class_ or None, text_anchor=anchor)


def tip(text: str) -> Markup:
    """What is shown when the pointer rests on an element."""
    return element("title", text)


def sign(state: State, x: float, y: float, size: float = _SIZE) -> Markup:
    """The shape of a state: no two are alike, in whatever colour."""
    s, b, d, h = size, size * 0.8, size * 1.3, size / 2
    shapes = {
        "fine": f"M{_of(x - s, y)}a{s} {s} 0 1 0 {2 * s} 0a{s} {s} 0 1 0 {-2 * s} 0z",
        "new": f"M{_of(x - s, y)}h{2 * s}M{_of(x, y - s)}v{2 * s}",
        "lost": f"M{_of(x - b, y - b)}L{_of(x + b, y + b)}M{_of(x + b, y - b)}L{_of(x - b, y + b)}",
        "differs": f"M{_of(x, y - d)}L{_of(x + d, y)}L{_of(x, y + d)}L{_of(x - d, y)}z",
        "left": f"M{_of(x - s, y - s)}h{2 * s}v{2 * s}h{-2 * s}zM{_of(x - h, y)}h{s}",
        "unknown": f"M{_of(x - s, y)}L{_of(x - h, y - b)}h{s}L{_of(x + s, y)}L{_of(x + h, y + b)}h{-s}z",
    }
    return element("path", d=shapes[state.key], class_=f"sign s-{state.key}")


def _of(x: float, y: float) -> str:
    return f"{x:.1f} {y:.1f}"
