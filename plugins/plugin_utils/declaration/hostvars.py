# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: cnm.fabric contributors
"""Which hosts are the topology, and their ``cnm_`` variables, out of Ansible's mappings."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Optional

from ...module_utils.plan.forms import OWNERS
from .module_objects import SANDBOXES, declared_entries


class UnknownHosts(ValueError):
    """``cnm_hosts`` names what the inventory does not have."""


def topology_hosts(selection: Any, groups: Mapping[str, Sequence[str]]) -> list[str]:
    """The hosts ``cnm_hosts`` names (a host, a group, or a list of them), sorted.

    Unset it means the group ``cnm_hosts`` if the inventory has one, else ``all``.
    """
    every = set(groups.get("all", ()))
    if selection is None:
        return sorted(groups.get("cnm_hosts", every))
    if isinstance(selection, str):
        words = selection.replace(":", ",").split(",")
    elif isinstance(selection, Sequence):
        words = list(selection)
    else:
        raise UnknownHosts(f"cnm_hosts: {selection!r} is neither a host, a group, nor a list of them")
    result: set[str] = set()
    for word in (str(item).strip() for item in words):
        if word in groups:
            result.update(groups[word])
        elif word in every:
            result.add(word)
        elif word:
            raise UnknownHosts(f"cnm_hosts: the inventory has no group or host {word!r}")
    return sorted(result)


def decrypted(value: Any) -> Any:
    """The value with vaulted text as text: ansible-core before 2.19 hands it out in a type of its own."""
    if isinstance(value, Mapping):
        return {key: decrypted(item) for key, item in value.items()}
    if type(value).__name__ == "AnsibleVaultEncryptedUnicode":
        return str(value)
    if isinstance(value, (list, tuple)):
        return [decrypted(item) for item in value]
    return value


def first_template(value: Any) -> Optional[str]:
    """The first text in a value that still has a template in it."""
    if isinstance(value, str):
        return value if "{{" in value or "{%" in value else None
    if isinstance(value, Mapping):
        return next((found for item in value.values() if (found := first_template(item))), None)
    if isinstance(value, (list, tuple)):
        return next((found for item in value if (found := first_template(item))), None)
    return None


def own_variables(variables: Mapping[str, Any], registered: Sequence[str] = ()) -> list[str]:
    """The names among a host's variables that are ours to read; registered results are not declarations."""
    return sorted(name for name in variables if str(name).startswith("cnm_") and name not in registered)


def declared_sandboxes(variables: Mapping[str, Any]) -> dict[str, Any]:
    """The sandboxes in a host's templated variables as they are written, right or wrong; not those of services."""
    return declared_entries(variables, SANDBOXES)


def namespace_owners(sandboxes: Mapping[str, Any]) -> list[dict[str, str]]:
    """Whose namespaces these sandboxes are to be: owner and reference of each."""
    found = [entry.get("namespace") for entry in sandboxes.values() if isinstance(entry, Mapping)]
    return [
        {"owner": str(owner), "reference": str(reference)}
        for namespace in found
        if isinstance(namespace, Mapping)
        for owner, reference in namespace.items()
        if owner in OWNERS and isinstance(reference, (str, int))
    ]


def is_shaped(entry: Any) -> bool:
    """Whether a sandbox or service, right or wrong, has an endpoint with limits or an emulated link."""
    networks = entry.get("networks") if isinstance(entry, Mapping) else None
    ends = networks.values() if isinstance(networks, Mapping) else ()
    return any(isinstance(end, Mapping) and not {"limits", "netem"}.isdisjoint(end) for end in ends)
