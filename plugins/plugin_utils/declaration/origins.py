# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: cnm.fabric contributors
"""Where what an error is about was written: the file and line of the closest value that Ansible knows them of."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import cache
from typing import Any, Optional

from .errors import DeclarationError, ValidationError, show, word

Origin = tuple[str, int]
"""A file, or what else the value is from (``CLI option '-e'``), and the line; 0 if there is none."""
OriginOf = Callable[[Any], Optional[Origin]]

_VARIABLE = re.compile(r"\w+")
_INDEX = re.compile(r"\[(\d+)\]")
_MOST_HOSTS = 5
"""Of an error on many hosts so many are looked at: they have it from the same file, more often than not."""


def with_origins(
    error: DeclarationError, variable: Callable[[str, str], Any], origin_of: OriginOf
) -> tuple[ValidationError, ...]:
    """The errors, each with where it was written; those that say so already, as they are.

    ``variable`` returns a host's variable as Ansible has it, ``origin_of`` the origin of a key or a value.
    """
    variable = cache(variable)

    def located(item: ValidationError) -> ValidationError:
        return item if item.places else replace(item, places=_places(item.path, item.hosts, variable, origin_of))

    return tuple(map(located, error.errors))


def with_origin(reason: str, host: str, variable: Callable[[str, str], Any], origin_of: OriginOf) -> str:
    """A reason ``variable path: problem``, followed by where the host's variable was written: ``(all.yml:7)``."""
    places = _places(reason.partition(": ")[0], (host,), variable, origin_of)
    return f"{reason} ({places[0]})" if places else reason


def _places(
    path: str, hosts: Sequence[str], variable: Callable[[str, str], Any], origin_of: OriginOf
) -> tuple[str, ...]:
    name = _VARIABLE.match(path)
    if name is None:
        return ()
    found = (_origin(variable(host, name[0]), path[name.end() :], origin_of) for host in hosts[:_MOST_HOSTS])
    return tuple(dict.fromkeys(written(origin) for origin in found if origin is not None))


def _origin(value: Any, rest: str, origin_of: OriginOf) -> Optional[Origin]:
    """The origin of what stands at a path in a value, or of the closest thing above it.

    That of the variable's own name is not looked at: where a file overrides another, it is of either.
    """
    found = _inside(value, origin_of)
    while rest:
        index = _INDEX.match(rest)
        if isinstance(value, Mapping) and rest[0] == ".":
            key = _key(value, rest[1:])
            if key is None:
                break
            value, rest = value[key], rest[1 + len(_text(key)) :]
            of_key, of_value = origin_of(key), _inside(value, origin_of)
            # Merged mappings have keys of the one file with values of the other.
            found = of_key if of_key and (not of_value or of_key[0] == of_value[0]) else of_value or found
        elif isinstance(value, (list, tuple)) and index is not None and int(index[1]) < len(value):
            value, rest = value[int(index[1])], rest[index.end() :]
            found = _inside(value, origin_of) or found
        else:
            break
    return found


def _key(mapping: Mapping[Any, Any], rest: str) -> Any:
    """The key that a path goes on with; the longest one, as keys may have dots."""
    fitting = [key for key in mapping if rest == _text(key) or rest.startswith((f"{_text(key)}.", f"{_text(key)}["))]
    return max(fitting, key=lambda key: len(_text(key)), default=None)


def _text(key: Any) -> str:
    return word(str.__str__(key)) if isinstance(key, str) else show(key)


def _inside(value: Any, origin_of: OriginOf) -> Optional[Origin]:
    """The origin of a value, or of the first key or item in it: Ansible before 2.19 knows none of mappings."""
    if origin_of(value) is None and isinstance(value, (Mapping, list, tuple)) and value:
        return origin_of(next(iter(value)))
    return origin_of(value)


def written(origin: Origin) -> str:
    """``group_vars/all.yml:7``: relative if it is below the current directory."""
    path, line = origin
    relative = os.path.relpath(path) if path.startswith("/") else path
    path = path if relative.startswith("..") else relative
    shown = path if path.isprintable() else repr(path)
    return f"{shown}:{line}" if line else shown
