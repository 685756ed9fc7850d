# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: cnm.fabric contributors
"""The places of hosts, networks and sandboxes, which a page remembers: what is there keeps its place, what is new comes
after it, so that a sandbox more moves nothing else.
"""

from __future__ import annotations

import json
import re
from collections.abc import Collection, Iterable, Mapping
from dataclasses import field
from typing import Any

from ....module_utils.plan.records import dataclass
from ...forms import Unfit, listing, mapping, record, text
from ..health import natural

MARK = "cnm-order"
"""The id of the element in which a page remembers the order."""
LONGEST = 64 * 2**20
"""Characters of a page that is read."""

_NAMES = listing(text(255))
_FORM = record({"hosts": _NAMES, "networks": _NAMES, "sandboxes": mapping(text(255), _NAMES)})


@dataclass(frozen=True)
class Order:
    """Names in the order in which they are shown, sandboxes by host."""

    hosts: tuple[str, ...] = ()
    networks: tuple[str, ...] = ()
    sandboxes: Mapping[str, tuple[str, ...]] = field(default_factory=dict)

    def to_json(self) -> str:
        """As JSON text that can stand in a script element: it has no ``<``."""
        data = {
            "hosts": list(self.hosts),
            "networks": list(self.networks),
            "sandboxes": {host: list(names) for host, names in self.sandboxes.items()},
        }
        return json.dumps(data, separators=(",", ":")).replace("<", "\\u003c")


def order_in(page: str) -> Order:
    """The order that an earlier page remembers; an empty one if it has none of the right form."""
    found = re.search(f'<script type="application/json" id="{MARK}">([^<]*)</script>', page)
    if found is None:
        return Order()
    try:
        data: dict[str, Any] = _FORM(json.loads(found[1]), [])
    except (ValueError, RecursionError, Unfit):
        return Order()
    sandboxes = {host: tuple(names) for host, names in data.get("sandboxes", {}).items()}
    return Order(tuple(data.get("hosts", ())), tuple(data.get("networks", ())), sandboxes)


def arranged(names: Collection[str], remembered: Iterable[str]) -> list[str]:
    """The names: those that are remembered first, in that order, then the others in natural order."""
    first = [name for name in dict.fromkeys(remembered) if name in names]
    return [*first, *sorted(set(names).difference(first), key=natural)]
