# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: cnm.fabric contributors
"""Targets of systemd's for the units of applications: each is active while its sandbox is as planned.

A target is bound to the mount of its namespace, so it ends with it.  For which namespace each was started stands in a
record: systemd may not notice that another one was mounted in its place.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path

from ..hostd import units
from ..kernel import namespaces
from ..kernel.host import Host
from ..kernel.systemd import SystemdError, systemctl
from ..plan.base import Key
from ..plan.settings import Target
from ..state.files import RUN, boot_id, forget, load, remove_empty, write_atomically
from .base import Found, Kind, Operation

_RECORD = "targets.json"


def _path(project: str) -> Path:
    return RUN / project / _RECORD


def _started(project: str) -> dict[str, int]:
    """For which namespace, by inode, the target of each sandbox was started in this boot."""
    data = load(_path(project))
    names = data.get("started")
    if data.get("boot") != boot_id() or not isinstance(names, dict):
        return {}
    return {name: number for name, number in names.items() if isinstance(number, int)}


def _record(project: str, started: Mapping[str, int]) -> None:
    """Replace the record, without namespaces that are gone."""
    numbers = namespaces.numbers()
    kept = {name: number for name, number in sorted(started.items()) if numbers.get(name) == number}
    if kept:
        write_atomically(_path(project), json.dumps({"boot": boot_id(), "started": kept}), 0o600)
    else:
        forget(_path(project))
        remove_empty(RUN / project)


def _active(host: Host) -> set[str]:
    """Names of active targets of sandboxes."""
    output = systemctl(
        host.run_command,
        "list-units",
        "--plain",
        "--no-legend",
        "--no-pager",
        "--full",
        "--state=active",
        units.SANDBOXES,
    )
    return {line.split()[0] for line in output.splitlines() if line.strip()}


def stop_targets(host: Host, sandboxes: Sequence[str]) -> None:
    """Stop the targets of these sandboxes, and with them the units that are bound to them."""
    TargetKind().delete(host, [Target(name) for name in sandboxes if name in _started(host.project)])


class TargetKind(Kind[Target]):
    """``cnm-sandbox@NAME.target``."""

    name = "target"
    # After the unit's file, and when everything in the sandbox is there.
    stages = (95,)

    def __init__(self) -> None:
        self._is_pruned = False

    def observe(self, host: Host, wanted: Sequence[Target]) -> dict[Key, Found[Target]]:
        self._is_pruned = False
        started = _started(host.project) if host.command else {}
        names = {item.namespace for item in wanted} | started.keys()
        if not names or not host.command:
            return {}
        active, numbers = _active(host), namespaces.numbers()
        result: dict[Key, Found[Target]] = {}
        for name in sorted(names):
            if units.target_of(name) in active:
                is_current = numbers.get(name) == started.get(name, numbers.get(name))
                found = Target(name, is_current)
                result[found.key] = Found(found, stale=name in started)
        return result

    def create(self, host: Host, resources: Sequence[Target]) -> None:
        names = [item.namespace for item in resources]
        targets = [units.target_of(name) for name in names]
        # One that is still active was started for another namespace; to restart any other is to start it.
        try:
            systemctl(host.run_command, "restart", *targets)
        except SystemdError:
            # systemd reads mounts five times a second at most, so it may not know the namespaces' yet: now it does.
            systemctl(host.run_command, "daemon-reload")
            systemctl(host.run_command, "restart", *targets)
        numbers = namespaces.numbers()
        _record(host.project, {**_started(host.project), **{name: numbers.get(name, 0) for name in names}})

    def change(self, host: Host, operations: Sequence[Operation[Target]]) -> None:
        self.create(host, [operation.resource for operation in operations])

    def delete(self, host: Host, resources: Sequence[Target]) -> None:
        if not resources:
            return
        names = [item.namespace for item in resources]
        systemctl(host.run_command, "stop", *(units.target_of(name) for name in names))
        _record(host.project, {name: number for name, number in _started(host.project).items() if name not in names})

    def remove_partial_files(self, host: Host, resource: Target) -> None:
        del resource
        if not self._is_pruned:
            _record(host.project, _started(host.project))
            self._is_pruned = True
