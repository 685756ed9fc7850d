# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: cnm.fabric contributors
"""Controller action: shows, checks, moves, exports and imports leases.  Runs once per play."""

from __future__ import annotations

import contextlib
import os
import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from ansible_collections.cnm.fabric.plugins.action.plan import PROBES
from ansible_collections.cnm.fabric.plugins.action.plan import ActionModule as Plan
from ansible_collections.cnm.fabric.plugins.plugin_utils.action_common import inventory_directory
from ansible_collections.cnm.fabric.plugins.plugin_utils.declaration.hostvars import decrypted
from ansible_collections.cnm.fabric.plugins.plugin_utils.declaration.reading import read_all_settings, read_other_store
from ansible_collections.cnm.fabric.plugins.plugin_utils.declaration.topology import LeaseStore
from ansible_collections.cnm.fabric.plugins.plugin_utils.leases import transfer
from ansible_collections.cnm.fabric.plugins.plugin_utils.leases.base import LeaseError, split
from ansible_collections.cnm.fabric.plugins.plugin_utils.leases.stores import open_store
from ansible_collections.cnm.fabric.plugins.plugin_utils.planner.lease_check import check_leases

Answer = dict[str, Any]


class ActionModule(Plan):
    """The action behind M(cnm.fabric.leases)."""

    ARGUMENTS: Mapping[str, Any] = {
        "do": {"type": "str", "choices": ["show", "check", "move", "export", "import"], "default": "show"},
        "to": {"type": "str"},
        "to_options": {"type": "dict", "no_log": True},
        "file": {"type": "path", "default": "cnm-leases.json"},
        "probes": {"type": "str", "default": PROBES},
    }

    def _work(self, variables: dict[str, Any], arguments: Mapping[str, Any]) -> Answer:
        about, hosts = self._topology(variables, arguments["probes"])
        own = self._declared(hosts, about)
        settings = read_all_settings(own)
        if not settings:
            return {"changed": False, "msg": "The topology has no host."}
        store = next(iter(settings.values())).leases
        projects = sorted({item.project for item in settings.values()})
        directory = inventory_directory({"hostvars": about}, hosts)
        remember = not self._task.check_mode
        file = Path(directory) / arguments["file"]
        if arguments["do"] == "check":
            facts, refused = self._read(hosts, about, arguments["probes"])
            return self._check(check_leases(own, variables["groups"], facts, directory, remember), refused)
        if arguments["do"] == "move":
            if not arguments["to"]:
                raise LeaseError("which store shall it move to? Write `-e cnm_leases_to=etcd://store1:2379/cnm`")
            target = read_other_store(arguments["to"], decrypted(arguments["to_options"]))
            return self._move(store, target, projects, directory, remember)
        with contextlib.closing(open_store(store, directory)) as opened:
            if arguments["do"] == "export":
                return self._export(transfer.exported(opened, projects), file, remember)
            if arguments["do"] == "import":
                return self._import(opened, projects, file, remember)
            return self._show(opened, store, projects)

    def _show(self, opened: Any, store: LeaseStore, projects: Sequence[str]) -> Answer:
        found: dict[str, Any] = {}
        for project in projects:
            snapshot = opened.read(project)
            parts, spanning = split(snapshot.leases)
            found[project] = {
                "revision": snapshot.revision,
                "hosts": {host: len(part["endpoints"]) for host, part in sorted(parts.items())},
                "endpoints": len(snapshot.leases["endpoints"]),
                "networks": sorted(spanning["overlays"]),
                "services": sorted(spanning["services"]),
            }
            counts = [
                _count(len(found[project]["hosts"]), "host"),
                _count(found[project]["endpoints"], "endpoint"),
                _count(len(found[project]["networks"]), "network that spans hosts", "networks that span hosts"),
                _count(len(found[project]["services"]), "service"),
            ]
            self._say(f"{_name(store)}, project {project}: revision {snapshot.revision}, {', '.join(counts)}")
            for host, count in found[project]["hosts"].items():
                self._say(f"  {host}: {_count(count, 'endpoint')}")
        return {"changed": False, "projects": found}

    def _check(self, found: Mapping[str, Any], refused: Mapping[str, Sequence[str]]) -> Answer:
        wrong: dict[str, list[str]] = {host: list(reasons) for host, reasons in refused.items()}
        remains = 0
        for project, checked in found.items():
            remains += len(checked.remains)
            for host, sentences in checked.wrong.items():
                wrong.setdefault(host, []).extend(sentences)
            for host, sentences in sorted(checked.notes.items()):
                for sentence in sentences:
                    self._say(f"{host}: {sentence}")
            left = f", {_count(len(checked.remains), 'part')} of dead controllers deleted" if checked.remains else ""
            if self._task.check_mode:
                left = left.replace(" deleted", " would be deleted")
            self._say(f"project {project}: revision {checked.revision}{left}")
        lines = [f"{host or 'the store'}: {sentence}" for host, found in sorted(wrong.items()) for sentence in found]
        answer = {"changed": bool(remains), "wrong": wrong}
        if not lines:
            return answer
        return {**answer, "failed": True, "msg": "\n".join(lines)}

    def _move(
        self, source: LeaseStore, target: LeaseStore, projects: Sequence[str], directory: str, remember: bool
    ) -> Answer:
        if (source.kind, source.addresses, source.where) == (target.kind, target.addresses, target.where):
            raise LeaseError("cnm_leases_to is the store that cnm_leases names already")
        changed = False
        today = time.strftime("%Y-%m-%d", time.gmtime())
        with contextlib.ExitStack() as stack:
            old, new = (
                stack.enter_context(contextlib.closing(open_store(item, directory))) for item in (source, target)
            )
            for project in projects:
                revision = transfer.move(old, new, project, _name(target), today, remember)
                changed = changed or bool(revision)
                done = "would be moved" if not remember else "moved"
                said = f"revision {revision} {done} from {_name(source)} to {_name(target)}"
                self._say(f"project {project}: {said if revision else 'nothing to move'}")
        self._say(f"Set cnm_leases (and cnm_leases_options) to {_name(target)} now, before anything else is run.")
        return {"changed": changed}

    def _export(self, text: str, file: Path, remember: bool) -> Answer:
        with contextlib.suppress(OSError, UnicodeDecodeError):
            if file.read_text(encoding="utf-8") == text:
                self._say(f"{file} is as the store is.")
                return {"changed": False}
        if remember:
            try:
                _write(file, text)
            except OSError as error:
                raise LeaseError(f"{file} cannot be written: {error.strerror}") from None
        self._say(f"{file} {'has' if remember else 'would have'} what the store has, without its key.")
        return {"changed": True}

    def _import(self, opened: Any, projects: Sequence[str], file: Path, remember: bool) -> Answer:
        try:
            text = file.read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError) as error:
            raise LeaseError(f"{file} cannot be read: {getattr(error, 'strerror', None) or 'it is no text'}") from None
        found = transfer.read_export(text)
        if strange := sorted(found.keys() - set(projects)):
            raise LeaseError(f"{file} has leases of {', '.join(strange)}, which no host's cnm_project is")
        changed = False
        for project, (revision, leases) in found.items():
            done = transfer.import_into(opened, project, revision, leases, remember)
            changed = changed or done
            said = f"revision {revision} {'' if remember else 'would be '}imported" if done else "nothing to import"
            self._say(f"project {project}: {said}")
        return {"changed": changed}

    def _say(self, text: str) -> None:
        self._display.display(text)


def _name(store: LeaseStore) -> str:
    return store.url or "the default store"


def _count(number: int, one: str, several: str = "") -> str:
    return f"{number} {one if number == 1 else several or one + 's'}"


def _write(file: Path, text: str) -> None:
    """A file that only its owner can read, all of it or as it was."""
    descriptor, name = tempfile.mkstemp(prefix=f".{file.name}.", dir=file.parent)
    try:
        with os.fdopen(descriptor, "w", encoding="utf-8") as stream:
            stream.write(text)
        os.replace(name, file)
    except BaseException:
        Path(name).unlink(missing_ok=True)
        raise
