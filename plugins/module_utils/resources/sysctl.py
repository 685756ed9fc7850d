# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: cnm.fabric contributors
"""Kernel parameters.  The host's own value is recorded before it is changed, and put back when we let go."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Optional

from ..kernel.host import Host
from ..plan import Key, Sysctl
from ..state import State
from .base import Difference, Found, Kind, Operation


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
        ours = {("", name): None for name in State(host.project).before}
        result: dict[Key, Found[Sysctl]] = {}
        for namespace, name in sorted({(item.namespace, item.name) for item in wanted} | set(ours)):
            if namespace and namespace not in host.own_namespaces:
                continue
            value = host.run_in(namespace, read_sysctl, name)
            if value is not None:
                found = Sysctl(namespace, name, value)
                result[found.key] = Found(found, stale=(namespace, name) in ours)
        return result

    def differences(self, wanted: Sysctl, found: Sysctl) -> list[Difference]:
        return super().differences(wanted, Sysctl(found.namespace, found.name, " ".join(found.value.split())))

    def create(self, host: Host, resources: Sequence[Sysctl]) -> None:
        for item in resources:
            host.run_in(item.namespace, _write, [(item.name, item.value)])

    def change(self, host: Host, operations: Sequence[Operation[Sysctl]]) -> None:
        state = State(host.project)
        before = state.before
        for operation in operations:
            item = operation.resource
            if item.namespace or operation.found is None:
                continue
            if before.setdefault(item.name, operation.found.value) == item.value:
                del before[item.name]  # undone: it is the host's own value again
        state.remember_before(before)
        self.create(host, [operation.resource for operation in operations])

    def delete(self, host: Host, resources: Sequence[Sysctl]) -> None:
        state = State(host.project)
        before = state.before
        for item in resources:
            host.run_in(item.namespace, _write, [(item.name, before.pop(item.name, item.value))])
        state.remember_before(before)
