# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: cnm.fabric contributors
"""Sandboxes in others' namespaces, after a container was started, has ended or was removed.

systemd hears of it (`units.OWNERS_PATH`) before the container runs, so its owner is asked again for a moment, and no
more: nothing runs afterwards.  What has another namespace now is connected; what has ended loses what it had of ours.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import field
from typing import Any, Optional

from ..kernel import namespaces, netns_owners
from ..kernel.host import Host
from ..kernel.netns_owners import Gone, OwnerError, Silent
from ..kernel.nft import RunCommand
from ..plan.forms import FormError, printable
from ..plan.nftables import DockerUser
from ..plan.plan import plan_data
from ..plan.records import dataclass
from ..resources.docker_user import DockerUserKind
from ..resources.foreign_netns_records import Record, mounted, records
from ..state.kept import State
from .restore import Restoration, Restored, last_failures, last_tried

_PAUSES_S = (0.0, 0.1, 0.2, 0.3, 0.4, 0.5)
"""Before each look.  A container has a namespace some 0.1 seconds after its folder; a restart takes no second."""


def reconnect(project: str, run_command: RunCommand, command: str) -> Restored:
    """Bring these sandboxes to where their owners are now; ``command`` is `Host.command`.  Raises as `Restoration.run`.

    Reasons that an earlier look has told of are not in the result.
    """
    return _Reconnection(project, run_command, command).run()


@dataclass
class _Seen:
    """What the owners say."""

    moved: dict[str, Optional[int]] = field(default_factory=dict)
    """Sandboxes that are not in their owners' present namespaces, with the cookies of these."""
    silent: bool = False
    """Whether an owner did not answer in time."""
    ended: dict[str, str] = field(default_factory=dict)
    """Sandboxes whose owners have ended, with the sentence that says so."""
    failed: dict[str, str] = field(default_factory=dict)
    """Parts of the plan whose owners cannot be asked, and why."""


def _part(sandbox: str) -> str:
    """The part of the plan that `parts_of` makes of its namespace."""
    return f"sandbox {sandbox}"


def _has_failed(sandbox: str, failures: Mapping[str, str]) -> bool:
    part = _part(sandbox)
    return any(other == part or other.endswith(f" in {part}") for other in failures)


class _Reconnection:
    def __init__(self, project: str, run_command: RunCommand, command: str) -> None:
        self._project = project
        self._run_command = run_command
        self._restoration = Restoration(project, run_command, command)
        self._told = last_failures(project)
        self._tried = last_tried(project)

    def run(self) -> Restored:
        total = Restored()
        if self._is_docker_shut():
            self._restoration.open_docker(total)
        seen, failed = _Seen(), dict[str, str]()
        for pause in _PAUSES_S:
            time.sleep(pause)
            seen = self._look()
            result = Restored()
            if seen.moved:
                self._restoration.connect(seen.moved, result)
            for name, number in result.changed.items():
                total.changed[name] = total.changed.get(name, 0) + number
            total.warnings += [text for text in result.warnings if text not in total.warnings]
            failed = {**seen.failed, **result.failed}
            if not (seen.ended or failed) or seen.silent:
                break
        total.failed = self._news({**total.failed, **failed})
        unasked = self._news(seen.failed)
        if unasked:
            self._restoration.note(unasked)
        there = records(self._project)
        ended = {name: why for name, why in seen.ended.items() if name in there or self._news({_part(name): why})}
        if ended:
            self._restoration.disconnect(ended, self._look_for_ended, total)
        return total

    def _look_for_ended(self, sandbox: str) -> str:
        return self._look().ended.get(sandbox, "")

    def _news(self, failed: Mapping[str, str]) -> dict[str, str]:
        """What has failed for another reason than the last time."""
        return {name: why for name, why in failed.items() if self._told.get(name) != printable(why)}

    def _look(self) -> _Seen:
        known, failures = records(self._project), last_failures(self._project)
        seen = _Seen()
        silent: dict[str, str] = {}
        for name, owner, reference in self._sandboxes():
            part = _part(name)
            if owner in silent:
                seen.failed[part] = silent[owner]
                continue
            try:
                owned = netns_owners.find(owner, reference, self._run_command)
            except Gone as error:
                seen.ended[name] = str(error)
            except Silent as error:
                seen.failed[part] = silent[owner] = str(error)
                seen.silent = True
            except (OwnerError, FormError) as error:
                seen.failed[part] = str(error)
            else:
                if _has_failed(name, failures) or not _is_attached(known, name, owned.number):
                    cookie = namespaces.cookie(owned.path)
                    # What it takes to try makes and removes files, of which systemd may hear as of a start.
                    if cookie is None or self._tried.get(name) != cookie:
                        seen.moved[name] = cookie
        return seen

    def _is_docker_shut(self) -> bool:
        """Whether a chain of Docker's lacks our rule."""
        wanted = [DockerUser(int(item["family"])) for item in self._planned("docker_user")]
        if not wanted:
            return False
        with Host(self._project, self._run_command) as host:
            return len(DockerUserKind().observe(host, wanted)) < len(wanted)

    def _sandboxes(self) -> list[tuple[str, str, str]]:
        """Sandboxes in others' namespaces: name, owner and reference.

        The whole plan is decoded, and its forms are checked, only when there is something to do.
        """
        found = (item for item in self._planned("namespace") if item.get("owner"))
        return [(str(item["name"]), str(item["owner"]), str(item["reference"])) for item in found]

    def _planned(self, kind: str) -> list[Mapping[str, Any]]:
        """The kept plan's resources of a kind, as plain data."""
        kept = State(self._project).kept
        resources = plan_data(kept["plan"])["resources"] if kept else ()
        return [item for item in resources if item["kind"] == kind]


def _is_attached(known: Mapping[str, Record], name: str, number: int) -> bool:
    """Whether the sandbox is in the namespace of that inode."""
    return name in known and known[name].number == number == mounted(name)
