# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: cnm.fabric contributors
"""What brings the networks back without a controller: the kept host half, the command ``cnm``, units of systemd.

A host has one of each for all projects.  Which projects want them stands beside their kept plans, in ``boot.json``; the
last one that does not any more removes them.
"""

from __future__ import annotations

import contextlib
import json
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Optional

from ..hostd import half, nftables_service, units
from ..kernel import systemd
from ..kernel.host import Host
from ..kernel.systemd import SystemdError
from ..plan.base import Key
from ..plan.forms import watched_owner
from ..plan.kept_half import digest
from ..plan.settings import Boot
from ..state.files import HALF_WRITTEN, LIB, forget, load, remove_empty, write_atomically
from ..state.kept import State
from . import kept_rules
from .base import Difference, Found, Kind, Operation

_RECORD = "boot.json"
_MISSING, _SUPERFLUOUS, _INACTIVE = "missing", "no longer wanted", "not active"
OTHER_VERSION = "another version"


def _record(project: str) -> Path:
    return LIB / project / _RECORD


def projects() -> list[str]:
    """The projects whose networks are restored on this host, sorted."""
    return sorted(path.parent.name for path in LIB.glob(f"*/{_RECORD}"))


def _recorded(project: str, what: str) -> tuple[str, ...]:
    """What a project has on record as ``awaited`` or ``owners``."""
    found = load(_record(project)).get(what)
    return tuple(map(str, found)) if isinstance(found, list) else ()


def _of_all(what: str, but: str = "") -> set[str]:
    """The same of all projects, except the one named."""
    return {name for project in projects() if project != but for name in _recorded(project, what)}


def _text(path: Path) -> Optional[str]:
    """The file's content as `units.files` has it; None if there is none."""
    with contextlib.suppress(OSError, ValueError):
        return f"-> {os.readlink(path)}" if path.is_symlink() else path.read_text(encoding="utf-8")
    return None


def _is_ours(path: Path) -> bool:
    if path.is_symlink():
        return Path(os.readlink(path)).name in units.NAMES
    return units.MARK in (_text(path) or "")


def _there() -> set[str]:
    """The paths of all that is ours."""
    found = [path for pattern in units.OURS for path in Path(units.UNITS).glob(pattern)]
    return {str(path) for path in [*map(Path, units.BESIDE), *found] if path.is_symlink() or path.exists()}


def _is_complete(path: Path, mode: int) -> bool:
    return path.is_symlink() or path.stat().st_mode & 0o777 == mode


def _mode(path: str) -> int:
    return 0o755 if path == units.COMMAND else 0o644


class BootKind(Kind[Boot]):
    """Files below `half.HALVES` and `units.UNITS`, and the command."""

    name = "boot"
    # Last, so that it is there for what was carried out.
    stages = (90,)

    def __init__(self) -> None:
        self._running: Optional[dict[str, bytes]] = None
        self._newer: Optional[tuple[str, half.About]] = None
        self._own = self._sound = ""

    def prepare(self, host: Host, wanted: Sequence[Boot]) -> None:
        """A later version's host half is left in place, with its command and units."""
        self._newer = half.newer() if host.command else None

    def _half(self) -> dict[str, bytes]:
        if self._running is None:
            self._running = half.running()
        return self._running

    def _files(self, host: Host, but: str = "") -> dict[str, str]:
        """What all projects on record want, except the one named."""
        of_half = units.HostHalf(half.usual_python(), str(half.folder(self._digest())), host.command)
        owners = filter(watched_owner.fits, _of_all("owners", but))
        files = units.files(of_half, _of_all("awaited", but), owners)
        drop_in = nftables_service.drop_in()
        if drop_in is not None:
            files[nftables_service.DROP_IN] = drop_in
        return {path: text for path, text in files.items() if self._is_wanted(path)}

    def _is_wanted(self, path: str) -> bool:
        return self._is_for_this_version(path) and (path in units.BESIDE or systemd.is_running())

    def _is_for_this_version(self, path: str) -> bool:
        return self._newer is None or units.is_of_a_parent(path)

    def _digest(self) -> str:
        if self._newer:
            return self._newer[0]
        self._own = self._own or digest(self._half())
        return self._own

    def _is_kept(self) -> bool:
        """Whether the host half is kept.  A run that does not touch it reads it once, not before and after."""
        name = self._digest()
        if self._sound != name and half.kept(name):
            self._sound = name
        return self._sound == name

    def _superfluous(self, files: Mapping[str, str]) -> set[str]:
        return {path for path in _there() - files.keys() if self._is_for_this_version(path)}

    def observe(self, host: Host, wanted: Sequence[Boot]) -> dict[Key, Found[Boot]]:
        if not _record(host.project).is_file():
            return {}
        state = State(host.project)
        asked = any(item.keep_keys for item in wanted)
        keeps = state.keeps_keys(host.pair_keys, host.bgp_password) if asked else state.keeps_keys({})
        found = Boot(keeps, _recorded(host.project, "awaited"), _recorded(host.project, "owners"))
        if wanted and host.command:
            found = replace(found, flaws=dict(self._flaws(host)))
        return {found.key: Found(found)}

    def _flaws(self, host: Host) -> Iterator[tuple[str, str]]:
        if not self._is_kept():
            yield str(half.HALVES), OTHER_VERSION if half.HALVES.is_dir() else _MISSING
        files = self._files(host)
        for path, text in files.items():
            found = _text(Path(path))
            if found != text:
                yield path, _MISSING if found is None else OTHER_VERSION
            elif not _is_complete(Path(path), _mode(path)):
                yield path, f"not of mode {_mode(path):o}"
        # Without it no restart of a container is heard of; systemd gives it up if it got no inotify instance once.
        if f"{units.UNITS}/{units.OWNERS_PATH}" in files and not systemd.is_active(host.run_command, units.OWNERS_PATH):
            yield units.OWNERS_PATH, _INACTIVE
        if host.own_tables and not kept_rules.path(host.project).is_file():
            yield str(kept_rules.path(host.project)), _MISSING
        for path in sorted(self._superfluous(files)):
            if _is_ours(Path(path)):
                yield path, _SUPERFLUOUS

    def differences(self, wanted: Boot, found: Boot) -> list[Difference]:
        result = [
            Difference(name, getattr(wanted, name), getattr(found, name))
            for name in ("keep_keys", "awaited", "owners")
            if getattr(wanted, name) != getattr(found, name)
        ]
        result += [Difference(path, "as this version has it", flaw) for path, flaw in found.flaws.items()]
        return result

    def check_conflicts(self, host: Host, wanted: Sequence[Boot]) -> list[str]:
        if not wanted or not host.command:
            return []
        if self._newer is not None and self._newer[1].plan_format != half.About().plan_format:
            later, own = self._newer[1], half.About()
            sentence = (
                f"version {later.version} of this collection keeps this host's networks, and reads plans of format "
                f"{later.plan_format}; this is version {own.version}, with plans of format {own.plan_format}: run "
                f"version {later.version} or a later one, or set cnm_boot: false"
            )
            return [sentence]
        return [
            f"{path} is there and not made by this collection: rename it, or set cnm_boot: false"
            for path in self._files(host)
            if _text(Path(path)) is not None and not _is_ours(Path(path))
        ]

    def create(self, host: Host, resources: Sequence[Boot]) -> None:
        self._sound = ""
        for item in resources:
            record = {name: getattr(item, name) for name in ("awaited", "owners")}
            write_atomically(_record(host.project), json.dumps(record), 0o600, lasting=True)
            state = State(host.project)
            if item.keep_keys:
                state.keep_keys(host.pair_keys, host.bgp_password)
            else:
                state.forget_keys()
            if host.own_tables and not kept_rules.path(host.project).is_file():
                kept_rules.write(host.project, host.own_tables)
            if self._newer is None:
                half.keep(self._half())
            files = self._files(host)
            owners_path = f"{units.UNITS}/{units.OWNERS_PATH}"
            is_current = owners_path in files and _text(Path(owners_path)) == files[owners_path]
            for path, text in files.items():
                if _text(Path(path)) != text or not _is_complete(Path(path), _mode(path)):
                    _put(Path(path), text)
            self._take_away(host, self._superfluous(files))
            _ask(host, "daemon-reload")
            _ask(host, "start", "--no-block", units.STARTED)
            if owners_path in files:
                _ask(host, "start" if is_current else "restart", units.OWNERS_PATH)

    def change(self, host: Host, operations: Sequence[Operation[Boot]]) -> None:
        self.create(host, [operation.resource for operation in operations])

    def delete(self, host: Host, resources: Sequence[Boot]) -> None:
        for _item in resources:
            left = [project for project in projects() if project != host.project]
            if left:
                stale = self._superfluous(self._files(host, host.project))
            else:
                stale = _there()
                with contextlib.suppress(SystemdError):  # if somebody has removed them
                    _ask(host, "stop", "--no-block", units.SANDBOXES)
            self._take_away(host, stale)
            _ask(host, "daemon-reload")
            State(host.project).forget_keys()
            forget(kept_rules.path(host.project))
            if not left:
                half.remove_others(None)
            forget(_record(host.project))
            remove_empty(LIB / host.project, LIB)

    def remove_partial_files(self, host: Host, resource: Boot) -> None:
        """Only now is nothing left that could need the earlier host half."""
        record = _record(host.project)
        record.with_name(record.name + HALF_WRITTEN).unlink(missing_ok=True)
        if projects() and host.command:
            half.remove_others(self._digest())

    def _take_away(self, host: Host, paths: set[str]) -> None:
        """Stop and remove units, the first before the second: what they run as they stop is removed, too."""
        active = [name for name in units.ACTIVE if f"{units.UNITS}/{name.replace('@*', '@')}" in paths]
        if active:
            _ask(host, "stop", *active)
        _remove(paths)


def _ask(host: Host, *arguments: str) -> None:
    """Run systemctl, where there are units.  Raises SystemdError."""
    if systemd.is_running():
        systemd.systemctl(host.run_command, *arguments)


def _put(path: Path, text: str) -> None:
    """Replace the file or link in one step.  Raises OSError and Unsafe."""
    if not units.is_link(text):
        write_atomically(path, text, _mode(str(path)), lasting=True)
        return
    path.parent.mkdir(mode=0o755, exist_ok=True)
    temporary = path.with_name(path.name + HALF_WRITTEN)
    temporary.unlink(missing_ok=True)
    temporary.symlink_to(units.target(text))
    temporary.replace(path)


def _remove(paths: set[str]) -> None:
    for path in sorted(paths):
        if _is_ours(Path(path)):
            forget(Path(path))
            if Path(path).parent.suffix in (".wants", ".d"):
                remove_empty(Path(path).parent)
            elif path in (units.COMPLETION, units.MANUAL):
                remove_empty(Path(path).parent, *([Path(path).parents[1]] if path == units.COMPLETION else []))
