# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: cnm.fabric contributors
"""Kernel parameters.  The host's own value is recorded before it is changed, and put back when we let go."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Optional

from ..kernel.host import Host
from ..plan import Key, Sysctl
from ..state import former_values, hold, release
from .base import Found, Kind, Operation


def sysctl_path(name: str) -> Path:
    """The file of a parameter in dotted form."""
    return Path("/proc/sys") / name.replace(".", "/")


def read_sysctl(name: str) -> Optional[str]:
    """The parameter's value in the thread's namespace, None if this kernel has none of that name."""
    try:
        return sysctl_path(name).read_text(encoding="utf-8").strip()
    except FileNotFoundError:
        return None


def _write(values: Sequence[tuple[str, str]]) -> None:
    for name, value in values:
        sysctl_path(name).write_text(value + "\n", encoding="utf-8")


class SysctlKind(Kind[Sysctl]):
    """What ``sysctl`` shows.  Set after the drops are in place, so that forwarding never opens a host."""

    name = "sysctl"
    stages = (10,)

    def observe(self, host: Host, wanted: Sequence[Sysctl]) -> dict[Key, Found[Sysctl]]:
        holders = {name: entry["holders"] for name, entry in former_values().items()}
        ours = {("", name) for name, projects in holders.items() if host.project in projects}
        result: dict[Key, Found[Sysctl]] = {}
        former = {(item.namespace, item.name): item.former for item in wanted}
        for namespace, name in sorted(set(former) | ours):
            if namespace and namespace not in host.own_namespaces:
                continue
            value = host.run_in(namespace, read_sysctl, name)
            if value is not None:
                # A value nobody has changed is the host's own: nothing will put another back.
                own = former.get((namespace, name))
                held = bool(namespace) or (namespace, name) in ours or (not holders.get(name) and own is None)
                found = Sysctl(namespace, name, " ".join(value.split()), held, own)
                result[found.key] = Found(found, stale=(namespace, name) in ours)
        return result

    def create(self, host: Host, resources: Sequence[Sysctl]) -> None:
        for item in resources:
            host.run_in(item.namespace, _write, [(item.name, item.value)])

    def change(self, host: Host, operations: Sequence[Operation[Sysctl]]) -> None:
        for operation in operations:
            item, found = operation.resource, operation.found
            if not item.namespace and found is not None:
                if item.value == former_values().get(item.name, {}).get("value"):
                    release(host.project, item.name)  # undone: it is the host's own value again
                else:
                    hold(host.project, item.name, item.former or found.value)
        self.create(host, [operation.resource for operation in operations])

    def delete(self, host: Host, resources: Sequence[Sysctl]) -> None:
        for item in resources:
            former = release(host.project, item.name)
            if former is not None:
                host.run_in(item.namespace, _write, [(item.name, former)])
