# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: cnm.fabric contributors
"""Services and networks of Compose files in one form each, and how those of several files become one.

Mappings are merged, lists appended, other values replaced; what Compose lets people write as text, list or mapping is
first made what it is merged as.  ``!reset`` takes a value away, ``!override`` puts one in the place of another.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Optional

from .located import Map, Reset, Seq, Text, origin_of, tag_of


def _as_list(value: Any) -> Any:
    """One item as a list of it."""
    origin = origin_of(value)
    return Seq([value], origin) if origin and not isinstance(value, (Map, Seq, Reset)) else value


def _named(value: Any) -> Any:
    """A list of names as a mapping with nothing behind them."""
    if not isinstance(value, Seq) or not all(isinstance(item, Text) for item in value):
        return value
    return Map(dict.fromkeys(value), value.origin, value.tag)


def _pairs(value: Any) -> Any:
    """A list of ``name=value`` as a mapping."""
    if not isinstance(value, Seq) or not all(isinstance(item, Text) for item in value):
        return value
    found: dict[str, Any] = {}
    for item in value:
        name, _equals, text = item.partition("=")
        found.pop(name, None)
        found[Text(name, item.origin)] = Text(text, item.origin)
    return Map(found, value.origin, value.tag)


def _hosts(value: Any) -> Any:
    """A mapping from names to addresses as a list of ``name=address``."""
    if not isinstance(value, Map):
        return value
    found = []
    for name, addresses in value.items():
        for address in addresses if isinstance(addresses, Seq) else [addresses]:
            origin = origin_of(name) or value.origin
            found.append(Text(f"{name}={address}", origin))
    return Seq(found, value.origin, value.tag)


Form = Callable[[Any], Any]
SERVICE_FORMS: dict[str, Form] = {
    "networks": _named,
    "dns": _as_list,
    "dns_search": _as_list,
    "dns_opt": _as_list,
    "extra_hosts": _hosts,
    "sysctls": _pairs,
}
NETWORK_FORMS: dict[str, Form] = {"labels": _pairs}


def in_one_form(entry: Map, forms: dict[str, Form]) -> Map:
    """A service or a network with its parts in the forms they are merged in."""
    found = {key: forms[key](value) if key in forms else value for key, value in entry.items()}
    return Map(found, entry.origin, entry.tag)


def merge(base: Any, other: Any, way: tuple[str, ...] = ()) -> Any:
    """What two files say of one thing; ``way`` are the keys that lead to it."""
    if tag_of(other) == "!override":
        return None if isinstance(other, Reset) else other
    if isinstance(base, Map) and isinstance(other, Map):
        return _mappings(base, other, way)
    if isinstance(base, Seq) and isinstance(other, Seq):
        return Seq(_unique([*base, *other], way), base.origin, base.tag)
    return base if other is None else other


def _mappings(base: Map, other: Map, way: tuple[str, ...]) -> Map:
    found = dict(base)
    for key, value in other.items():
        if tag_of(value) == "!reset":
            found.pop(key, None)
            continue
        known = key in found
        merged = merge(found.pop(key), value, (*way, key)) if known else value
        found[key] = merged
    # Which network comes first, and so is eth0, is the order in which they were first named.
    ordered = {key: found[key] for key in base if key in found}
    later = {key: key for key in other}
    return Map({later.get(key, key): value for key, value in {**ordered, **found}.items()}, base.origin, base.tag)


def without_resets(value: Any) -> Any:
    """A document without what is tagged ``!reset`` in it: there is nothing yet that it could reset."""
    if isinstance(value, Map):
        kept = {key: without_resets(item) for key, item in value.items() if tag_of(item) != "!reset"}
        return Map(kept, value.origin)
    if isinstance(value, Seq):
        return Seq([without_resets(item) for item in value if tag_of(item) != "!reset"], value.origin)
    return None if isinstance(value, Reset) else value


def _unique(items: list[Any], way: tuple[str, ...]) -> list[Any]:
    """The list without what is in it again: the later one has the place of the earlier."""
    found: dict[Any, Any] = {}
    for index, item in enumerate(items):
        found[_identity(item, way, index)] = item
    return list(found.values())


def _identity(item: Any, way: tuple[str, ...], index: int) -> Any:
    if way[-1:] == ("config",) and isinstance(item, Map) and item.get("subnet"):
        return str(item["subnet"])
    if isinstance(item, Map):
        if way[-1:] != ("ports",):
            return index
        host = str(item.get("host_ip") or "0.0.0.0")
        return (host, str(item.get("published")), str(item.get("target")), str(item.get("protocol") or "tcp"))
    return str(item)


def text_of(value: Any) -> Optional[str]:
    """A scalar as text; None for anything else."""
    return str(value) if isinstance(value, (str, int)) and not isinstance(value, bool) else None
