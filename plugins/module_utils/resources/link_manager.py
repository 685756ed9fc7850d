# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: cnm.fabric contributors
"""What tells the host's link managers (systemd-networkd, NetworkManager, udev) to leave our links alone.

Each reads a folder of files; each project has its own there, with its mark as the first line.  They are written before
links are made: networkd takes a link within a second.
"""

from __future__ import annotations

import contextlib
import os
import stat
from collections.abc import Container, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Optional

from ..kernel.host import Host
from ..kernel.programs import find_program
from ..plan import forms
from ..plan.base import Key
from ..plan.constants import OWN_LINKS
from ..plan.links import LinkManager
from ..plan.marks import mark
from ..plan.records import dataclass
from ..state.files import HALF_WRITTEN, forget, read_limited, remove_empty, write_atomically
from .base import Difference, Found, Kind, Operation, compare_fields

_ROLE = "link_manager"
_PATTERN = f"{OWN_LINKS}*"
_MODE = 0o644


@dataclass(frozen=True)
class _Manager:
    """A link manager: what it reads, and how it is told that there is something new."""

    path: str
    """The file with the links' names; the project's name is left open."""
    text: tuple[str, str, str]
    """What is before the names, between two of them, and after them."""
    unit: str
    reload: tuple[str, ...]
    """Only while its unit is active, as the command could start it."""
    rules: tuple[str, str] = ("", "")
    """A second file and its text, for policy rules."""

    def files(self, item: LinkManager, project: str) -> dict[str, str]:
        """The texts by path.  Raises FormError for a name that could be read as a pattern or as several."""
        before, between, after = self.text
        names = between.join((_PATTERN, *map(forms.plain_link_name, item.links)))
        path, rules = self.paths(project)
        result = {path: _head(project) + before.format(project) + names + after}
        if item.rules and rules:
            result[rules] = _head(project) + self.rules[1]
        return result

    def paths(self, project: str) -> tuple[str, str]:
        """Where the two files are or would be; "" for the second of one that has none."""
        return self.path.format(project), self.rules[0].format(project)

    def links(self, text: str, project: str) -> tuple[str, ...]:
        """The links that the file names beside those of our own names, if it is as we write it."""
        before, between, after = self.text
        start = _head(project) + before.format(project) + _PATTERN
        if not (text.startswith(start) and text.endswith(after)):
            return ()
        names = text[len(start) : len(text) - len(after)].split(between)[1:]
        return tuple(name for name in names if forms.plain_link_name.fits(name))


# A link is managed by the first file that matches it (systemd.network(5), systemd.link(5)).
_MANAGERS: Mapping[str, _Manager] = {
    "udev": _Manager(
        "/etc/systemd/network/05-cnm-{}.link",
        ("[Match]\nOriginalName=", " ", "\n\n[Link]\nNamePolicy=keep\nMACAddressPolicy=none\n"),
        "systemd-udevd.service",
        ("udevadm", "control", "--reload"),
    ),
    "networkd": _Manager(
        "/etc/systemd/network/05-cnm-{}.network",
        ("[Match]\nName=", " ", "\n\n[Link]\nUnmanaged=yes\n"),
        "systemd-networkd.service",
        ("networkctl", "reload"),
        # Whenever it configures a link, it removes all policy rules but its own.  It reads this when it starts.
        ("/etc/systemd/networkd.conf.d/05-cnm-{}.conf", "[Network]\nManageForeignRoutingPolicyRules=no\n"),
    ),
    # A section of its own adds to what users say; a list `unmanaged-devices` would replace theirs.
    "NetworkManager": _Manager(
        "/etc/NetworkManager/conf.d/05-cnm-{}.conf",
        ("[device-cnm-{}]\nmatch-device=interface-name:", ",interface-name:", "\nmanaged=0\n"),
        "NetworkManager.service",
        ("nmcli", "general", "reload", "conf"),
    ),
}


def _head(project: str) -> str:
    return f"# {mark(project, _ROLE)}\n"


def _text(path: str) -> Optional[str]:
    """The content of a file of mode 0644; "" for what is there and is none; None if there is nothing."""
    try:
        mode = os.lstat(path).st_mode
        return read_limited(path).decode(errors="replace") if mode == stat.S_IFREG | _MODE else ""
    except FileNotFoundError:
        return None
    except OSError:
        return ""


def _is_ours(path: str, project: str) -> bool:
    with contextlib.suppress(OSError):
        return read_limited(path).startswith(_head(project).encode())
    return False


class LinkManagerKind(Kind[LinkManager]):
    """Our files in the folders of link managers."""

    name = "link_manager"
    # Before links are made, and after they were removed.
    stages = (5,)

    def observe(self, host: Host, wanted: Sequence[LinkManager]) -> dict[Key, Found[LinkManager]]:
        result: dict[Key, Found[LinkManager]] = {}
        for name, manager in _MANAGERS.items():
            ours = [path for path in manager.paths(host.project) if path and _is_ours(path, host.project)]
            if ours:
                path, rules = manager.paths(host.project)
                found = LinkManager(name, manager.links(_text(path) or "", host.project), rules in ours)
                texts = {path: _text(path) for path in {*ours, path}}
                found = replace(found, edited=texts != manager.files(found, host.project))
                result[found.key] = Found(found)
        return result

    def differences(self, wanted: LinkManager, found: LinkManager) -> list[Difference]:
        result = compare_fields(replace(wanted, edited=found.edited), found)
        return [*result, Difference("edited", False, True)] if found.edited and not wanted.edited else result

    def check_conflicts(self, host: Host, wanted: Sequence[LinkManager]) -> list[str]:
        return [
            f"{path} is there and not made by this project: rename or remove it"
            for item in wanted
            for path in _MANAGERS[item.manager].files(item, host.project)
            if os.path.lexists(path) and not _is_ours(path, host.project)
        ]

    def create(self, host: Host, resources: Sequence[LinkManager]) -> None:
        for item in resources:
            manager = _MANAGERS[item.manager]
            files = manager.files(item, host.project)
            rules = manager.paths(host.project)[1]
            anew = rules in files and _text(rules) != files[rules]
            for path, text in files.items():
                write_atomically(Path(path), text, _MODE, lasting=True)
            self._remove(host, manager, files)
            self._tell(host, manager, anew)

    def change(self, host: Host, operations: Sequence[Operation[LinkManager]]) -> None:
        self.create(host, [operation.resource for operation in operations])

    def delete(self, host: Host, resources: Sequence[LinkManager]) -> None:
        for item in resources:
            self._remove(host, _MANAGERS[item.manager])
            self._tell(host, _MANAGERS[item.manager])

    def remove_partial_files(self, host: Host, resource: LinkManager) -> None:
        for path in filter(None, _MANAGERS[resource.manager].paths(host.project)):
            Path(path + HALF_WRITTEN).unlink(missing_ok=True)

    @staticmethod
    def _remove(host: Host, manager: _Manager, but: Container[str] = ()) -> None:
        path, rules = manager.paths(host.project)
        for each in (path, rules):
            if each and each not in but and _is_ours(each, host.project):
                forget(Path(each))
        if rules and rules not in but:
            remove_empty(Path(rules).parent)  # which no package has

    @staticmethod
    def _tell(host: Host, manager: _Manager, anew: bool = False) -> None:
        """Have it read its files, if it runs; ``anew`` those too that it reads when it starts.

        A restart is no more than that for a link that networkd has configured: it keeps what it has.  Without a D-Bus
        nothing else makes it read anything.
        """
        systemctl = find_program("systemctl")
        if systemctl is None or host.run_command([systemctl, "is-active", "--quiet", manager.unit])[0]:
            return
        program = find_program(manager.reload[0])
        if not anew and program is not None and not host.run_command([program, *manager.reload[1:]])[0]:
            return
        code, _output, errors = host.run_command([systemctl, "try-restart", manager.unit])
        if code:
            host.warnings.append(
                f"{manager.unit} could not be told to leave the links of networks alone ({errors.strip()[:200]}): "
                f"systemctl restart {manager.unit}"
            )
