# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: cnm.fabric contributors
"""Kernel parameters.  The host's own value is recorded before it is changed, and put back when we let go."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Optional

from ..kernel.host import Host
from ..plan import Key, Sysctl
from ..state import former_values, hold, owed, release, tidy
from .base import Found, Kind, Operation

_LAST = ("net.ipv4.ip_forward", "net.ipv6.conf.all.forwarding")


def sysctl_path(name: str) -> Path:
    """The file of a parameter in dotted form; a slash in it is a dot of a link's name, as in sysctl(8)."""
    return Path("/proc/sys") / name.translate(str.maketrans("./", "/."))


def read_sysctl(name: str) -> Optional[str]:
    """The parameter's value in the thread's namespace, its words with a space between them; None if there is none."""
    try:
        return " ".join(sysctl_path(name).read_text(encoding="utf-8").split())
    except FileNotFoundError:
        return None


def _write(values: Sequence[tuple[str, str]]) -> None:
    for name, value in values:
        sysctl_path(name).write_text(value + "\n", encoding="utf-8")


def _place(namespace: str, name: str) -> str:
    """Under what a value is remembered."""
    return f"{namespace}:{name}" if namespace else name


class SysctlKind(Kind[Sysctl]):
    """What ``sysctl`` shows.  Set after the drops are in place, so that forwarding never opens a host."""

    name = "sysctl"
    stages = (10, 11, 45)

    def stage(self, resource: Sysctl) -> int:
        """What keeps a host's routes comes before forwarding, what a sandbox's link has when the link is there."""
        if resource.namespace:
            return self.stages[2]
        return self.stages[1] if resource.name in _LAST else self.stages[0]

    def observe(self, host: Host, wanted: Sequence[Sysctl]) -> dict[Key, Found[Sysctl]]:
        holders = {place: entry["holders"] for place, entry in former_values().items()}
        ours = {tuple(place.rpartition(":")[::2]) for place, names in holders.items() if host.project in names}
        result: dict[Key, Found[Sysctl]] = {}
        former = {(item.namespace, item.name): item.former for item in wanted}
        optional = {(item.namespace, item.name): item for item in wanted if item.optional}
        for namespace, name in sorted(set(former) | ours):
            if namespace and namespace not in host.own_namespaces | host.attached:
                continue
            value = host.run_in(namespace, read_sysctl, name)
            does_without = optional.get((namespace, name))
            if value is None and does_without is not None:
                result[does_without.key] = Found(does_without, stale=False)
            elif value is not None:
                # A value nobody has changed is the host's own: nothing will put another back.
                own = former.get((namespace, name))
                mine = (namespace, name) in ours
                held = mine or (not holders.get(_place(namespace, name)) and own is None)
                found = Sysctl(namespace, name, value, held, own, does_without is not None)
                result[found.key] = Found(found, stale=mine)
        return result

    def create(self, host: Host, resources: Sequence[Sysctl]) -> None:
        """The parameter is one of a link or namespace that was not there when the host was observed."""
        for item in resources:
            value = host.run_in(item.namespace, read_sysctl, item.name)
            if value is None and item.optional:
                continue
            if value is not None and value != item.value:
                hold(host.project, _place(item.namespace, item.name), value)
            host.run_in(item.namespace, _write, [(item.name, item.value)])

    def change(self, host: Host, operations: Sequence[Operation[Sysctl]]) -> None:
        own = []
        for operation in operations:
            item, found = operation.resource, operation.found
            place = _place(item.namespace, item.name)
            if found is not None:
                if item.value == former_values().get(place, {}).get("value"):
                    own.append(place)  # undone: it is the host's own value again
                else:
                    hold(host.project, place, item.former or found.value)
            host.run_in(item.namespace, _write, [(item.name, item.value)])
        for place in own:
            release(host.project, place)

    def delete(self, host: Host, resources: Sequence[Sysctl]) -> None:
        for item in resources:
            place = _place(item.namespace, item.name)
            # A run killed after the first of the two does both again, and nothing is lost.
            former = owed(host.project, place)
            if former is not None:
                host.run_in(item.namespace, _write, [(item.name, former)])
            release(host.project, place)

    def clean(self, host: Host, resource: Sysctl) -> None:
        tidy()
