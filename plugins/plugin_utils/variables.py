# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: cnm.fabric contributors
"""Which hosts are the topology, and their ``cnm_`` variables, out of Ansible's mappings."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any


class UnknownHosts(ValueError):
    """``cnm_hosts`` names what the inventory does not have."""


def topology_hosts(selection: Any, groups: Mapping[str, Sequence[str]]) -> list[str]:
    """The hosts ``cnm_hosts`` names (a host, a group, or a list of them), sorted.

    Unset it means the group ``cnm_hosts`` if the inventory has one, else ``all``.
    """
    every = set(groups.get("all", ()))
    if selection is None:
        return sorted(groups.get("cnm_hosts", every))
    words = selection.replace(":", ",").split(",") if isinstance(selection, str) else list(selection)
    result: set[str] = set()
    for word in (str(item).strip() for item in words):
        if word in groups:
            result.update(groups[word])
        elif word in every:
            result.add(word)
        elif word:
            raise UnknownHosts(f"cnm_hosts: the inventory has no group or host {word!r}")
    return sorted(result)


def own_variables(variables: Mapping[str, Any], registered: Sequence[str] = ()) -> list[str]:
    """The names among a host's variables that are ours to read; registered results are not declarations."""
    return sorted(name for name in variables if str(name).startswith("cnm_") and name not in registered)
