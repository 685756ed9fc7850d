# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: cnm.fabric contributors
"""Files in ``host_vars`` and ``group_vars`` that Ansible passes over in silence, as nobody has their name.

What a misspelled file declares is not there, so a run would remove it.
"""

from __future__ import annotations

import os
import re
from collections.abc import Collection, Iterator, Sequence
from typing import Optional

from .keys import closest
from .origins import written

EXTENSIONS = (".yml", ".yaml", ".json")
"""Those of ``YAML_FILENAME_EXTENSIONS``, unless Ansible is configured otherwise."""

_DECLARES = re.compile(r"""^(?:\s*\{?\s*")?cnm_\w+"?\s*:""", re.MULTILINE)
_LARGEST = 1 << 20
_OF_ANSIBLE = ("localhost",)


def stray_files(
    directories: Sequence[str],
    hosts: Collection[str],
    groups: Collection[str],
    extensions: Sequence[str] = EXTENSIONS,
) -> Iterator[str]:
    """A sentence for each file that was probably meant for somebody else; ``directories`` are where Ansible looks.

    A folder may serve several inventories, so nothing is said of a file if nobody here has a name like it, or whoever
    has one has a file of his own, or the names differ by numbers alone.
    """
    for directory in dict.fromkeys(map(os.path.realpath, directories)):
        for noun, known, others, other in (("host", hosts, groups, "group"), ("group", groups, hosts, "host")):
            folder = os.path.join(directory, f"{noun}_vars")
            found = dict(_entries(folder, extensions))
            for path, name in found.items():
                if name in known or name in _OF_ANSIBLE:
                    continue
                near = _meant(name, set(known).difference(found.values()))
                if name in others:
                    why = f"{name} is no {noun} of the inventory; it is a {other}: such a file belongs in {other}_vars"
                elif near:
                    why = f"the inventory has no {noun} {name}; did you mean {near}?"
                else:
                    continue
                if _declares(path, extensions):
                    yield f"{written((path, 0))} has cnm_ variables, which nobody gets: {why}"


def _entries(folder: str, extensions: Sequence[str]) -> Iterator[tuple[str, str]]:
    """The files and folders that Ansible may read there, each with the name of the host or group that it is for."""
    try:
        names = sorted(os.listdir(folder))
    except OSError:
        return
    for name in names:
        path = os.path.join(folder, name)
        stem, extension = os.path.splitext(name)
        if name.startswith(".") or name.endswith("~"):
            continue
        if os.path.isdir(path) or not extension:
            yield path, name
        elif extension in extensions:
            yield path, stem


def _meant(name: str, known: Collection[str]) -> Optional[str]:
    """Whose name was probably meant: one that differs by its domain or its capitals, or else the closest."""
    others = {
        item.lower(): item for item in sorted(known) if item.lower() == name.lower() or _letters(item) != _letters(name)
    }
    same = [item for item in others.values() if _first(item) == _first(name)]
    near = closest(name.lower(), others)
    return same[0] if same else others[near] if near else None


def _first(name: str) -> str:
    return name.partition(".")[0].lower()


def _letters(name: str) -> str:
    return re.sub(r"\d+", "#", name.lower())


def _declares(path: str, extensions: Sequence[str]) -> bool:
    """Whether a file, or one in a folder, has a variable of ours; not if it cannot be read."""
    if os.path.isdir(path):
        return any(_declares(inner, extensions) for inner, _name in _entries(path, extensions))
    try:
        with open(path, encoding="utf-8", errors="replace") as stream:
            return _DECLARES.search(stream.read(_LARGEST)) is not None
    except OSError:
        return False
