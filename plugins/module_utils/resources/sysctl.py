# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: cnm.fabric contributors
"""Kernel parameters.  The host's own value is recorded before a change and restored afterwards."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Optional

from ..kernel.forwarding import forwards_for_itself, is_wanted
from ..kernel.host import Host
from ..plan.base import Key
from ..plan.families import FORWARDING
from ..plan.forms import sysctl_name
from ..plan.settings import Sysctl
from ..state.sysctls import original_if_last_holder, original_values, record_original, release_original, remove_unused
from .base import Found, Kind, Operation

_SEPARATORS = str.maketrans("./", "/.")


def sysctl_path(name: str) -> Path:
    """The file of a parameter in dotted form; a slash stands for a dot in a link's name, as in sysctl(8).

    Raises FormError for an invalid name, so that a path is never outside /proc/sys/net.
    """
    return Path("/proc/sys") / sysctl_name(name).translate(_SEPARATORS)


def read_sysctl(name: str) -> Optional[str]:
    """The parameter's value in the thread's namespace, words separated by one space; None if there is none."""
    try:
        return " ".join(sysctl_path(name).read_text(encoding="utf-8", errors="backslashreplace").split())
    except FileNotFoundError:
        return None


def _write(name: str, value: str) -> None:
    sysctl_path(name).write_text(value + "\n", encoding="utf-8")


def forwarding_of(name: str, link: str) -> str:
    """The parameter of a link that changes with the forwarding of all links."""
    return f"net.ipv{4 if name == FORWARDING[4] else 6}.conf.{link.replace('.', '/')}.forwarding"


def host_forwards(family: int) -> bool:
    """Whether the host forwards without us: it did before, or has begun to."""
    name = FORWARDING[family]
    before = original_values().get(name, {}).get("value")
    return (read_sysctl(name) if before is None else before) == "1" or forwards_for_itself(family)


def _is_wanted_by_the_host(item: Sysctl) -> bool:
    """Whether it is forwarding that the host wants for itself by now."""
    return not item.namespace and any(name == item.name and is_wanted(family) for family, name in FORWARDING.items())


def _put_back(name: str, value: str) -> None:
    """Restore the host's own value; links that forwarded before continue to."""
    _write(name, value)
    for link in original_values().get(name, {}).get("links", ()):
        if read_sysctl(forwarding_of(name, link)) == "0":
            _write(forwarding_of(name, link), "1")


def _record_key(namespace: str, name: str) -> str:
    """The key of a recorded value."""
    return f"{namespace}:{name}" if namespace else name


class SysctlKind(Kind[Sysctl]):
    """Parameters, as ``sysctl`` shows them.  Set after firewall drops, so that forwarding never opens a host."""

    name = "sysctl"
    stages = (10, 11, 45)

    def stage(self, resource: Sysctl) -> int:
        """Parameters that keep a host's routes come before forwarding, those of a sandbox's link after the link."""
        if resource.namespace:
            return self.stages[2]
        return self.stages[1] if resource.name in FORWARDING.values() else self.stages[0]

    def observe(self, host: Host, wanted: Sequence[Sysctl]) -> dict[Key, Found[Sysctl]]:
        holders = {record_key: entry["holders"] for record_key, entry in original_values().items()}
        ours = {
            tuple(record_key.rpartition(":")[::2]) for record_key, names in holders.items() if host.project in names
        }
        result: dict[Key, Found[Sysctl]] = {}
        meant = {(item.namespace, item.name): item for item in wanted}
        for namespace, name in sorted(set(meant) | ours):
            if namespace and namespace not in host.own_namespaces | host.attached:
                continue
            value = host.run_in(namespace, read_sysctl, name)
            known = meant.get((namespace, name), Sysctl(namespace, name, ""))
            if value is None and known.optional:
                result[known.key] = Found(known, stale=False)
            elif value is not None:
                # An unchanged value is the host's own: nothing has to be restored later.
                is_ours = (namespace, name) in ours
                held = is_ours or (not holders.get(_record_key(namespace, name)) and known.former is None)
                result[known.key] = Found(replace(known, value=value, held=held), stale=is_ours)
        return result

    def create(self, host: Host, resources: Sequence[Sysctl]) -> None:
        """Parameters of a link or namespace that did not exist when the host was observed."""
        for item in resources:
            value = host.run_in(item.namespace, read_sysctl, item.name)
            if value is None and item.optional:
                continue
            if value is not None and value != item.value:
                record_original(host.project, _record_key(item.namespace, item.name), value)
            host.run_in(item.namespace, _write, item.name, item.value)

    def change(self, host: Host, operations: Sequence[Operation[Sysctl]]) -> None:
        let_go = []
        for operation in operations:
            item, found = operation.resource, operation.found
            record_key = _record_key(item.namespace, item.name)
            own = item.value == original_values().get(record_key, {}).get("value")
            if own or not item.held:
                let_go.append(record_key)  # undone: it has the host's own value again, or one that other projects need
            elif found is not None:
                record_original(host.project, record_key, item.former or found.value, item.links)
            host.run_in(item.namespace, _put_back if own else _write, item.name, item.value)
        for record_key in let_go:
            release_original(host.project, record_key)

    def delete(self, host: Host, resources: Sequence[Sysctl]) -> None:
        for item in resources:
            record_key = _record_key(item.namespace, item.name)
            # If a run is interrupted between the two, the next one repeats both.
            original = original_if_last_holder(host.project, record_key)
            if original is not None and not _is_wanted_by_the_host(item):
                host.run_in(item.namespace, _put_back, item.name, original)
            release_original(host.project, record_key)

    def remove_partial_files(self, host: Host, resource: Sysctl) -> None:
        """Also remove records of values that were never changed."""
        record_key = _record_key(resource.namespace, resource.name)
        own = original_values().get(record_key, {}).get("value", resource.value)
        there = own != resource.value and resource.namespace in host.observed_namespaces
        if there and host.run_in(resource.namespace, read_sysctl, resource.name) == own:
            release_original(host.project, record_key)
        remove_unused()
