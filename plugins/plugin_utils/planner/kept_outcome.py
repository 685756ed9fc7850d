# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: cnm.fabric contributors
"""The outcome of the last run of an inventory, kept on the controller: an unchanged fleet is not planned again.

It is used only if all that planning reads is as it was then: the variables, the facts, the leases, and the code.  It is
a file in the user's own cache; one that is lost, or cannot be read, costs the time to plan, and nothing else.
"""

from __future__ import annotations

import hashlib
import json
import os
import stat
import sys
import tempfile
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any, Optional

from ...module_utils.plan.codec import content_digest, decode, encode
from ...module_utils.plan.encryption import Xfrm
from ..declaration.errors import DeclarationError
from ..facts import Facts
from ..leases.base import LeaseError
from .outcome import Outcome, SentPlan

_FOR_THE_ACTION = ("seen", "settled", "shared", "declared", "model")
"""Facts that no pass reads; what a host keeps of its declarations is read by modules alone."""
_PLUGINS = Path(__file__).parents[2]
_CODE = (_PLUGINS / "plugin_utils", _PLUGINS / "module_utils")
_NO_VALUE = " object at 0x"
"""In the text of an object that does not say its value."""


def digest_of(parts: Iterable[Any]) -> str:
    """SHA-256 of plain values in their order; "" if there is one that is not plain."""
    result = hashlib.sha256()
    for part in parts:
        text = repr(part)
        if _NO_VALUE in text:
            return ""
        result.update(f"{len(text)}:".encode())
        result.update(text.encode("utf-8", "surrogatepass"))
    return result.hexdigest()


class KeptOutcome:
    """The kept outcome of an inventory, and the digest of what a run is given."""

    def __init__(self, inventory_directory: str, *given: Any) -> None:
        """``given`` is what planning reads beside the leases, of which a mapping of hosts to `Facts` is one."""
        base = os.environ.get("XDG_CACHE_HOME") or "~/.cache"
        directory = str(Path(inventory_directory).absolute())
        self._path = Path(base).expanduser() / "cnm.fabric" / f"plans-{content_digest(directory)[:16]}"
        self._given = digest_of([sys.version, *_code(), directory, *(part for each in given for part in _plain(each))])

    def read(self, leases: Callable[[], Mapping[str, str]]) -> Optional[Outcome]:
        """The outcome, if what it was made from is as it was; ``leases`` reads digests of the leases as they are."""
        try:
            with self._open() as stream:
                said = json.loads(stream.readline())
                if not self._given or said["given"] != self._given or said["leases"] != leases():
                    return None
                text = stream.readline()
                return _outcome(json.loads(text), stream) if content_digest(text) == said["outcome"] else None
        except (OSError, LookupError, TypeError, ValueError, DeclarationError, LeaseError):
            return None  # planning says what is wrong with the variables or the store

    def _open(self) -> Any:
        descriptor = os.open(self._path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
        found = os.fstat(descriptor)
        if not stat.S_ISREG(found.st_mode) or found.st_uid != os.geteuid() or found.st_mode & 0o077:
            os.close(descriptor)
            raise PermissionError
        return os.fdopen(descriptor, encoding="utf-8", newline="\n")

    def write(self, outcome: Outcome, leases: Mapping[str, str]) -> None:
        """Keep an outcome that follows from what was given and from leases of these digests."""
        if not self._given:
            return
        plans = [
            [
                *(each.host, each.project, each.digest, sorted(each.shared)),
                _packed(each.encryption),
                each.bgp,
                each.empty,
            ]
            for each in outcome.plans.values()
        ]
        rest = {**vars(outcome), "plans": plans, "unsigned": sorted(outcome.unsigned)}
        text = json.dumps(rest) + "\n"
        said = {"given": self._given, "leases": dict(leases), "outcome": content_digest(text)}
        name = ""
        try:
            self._path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            descriptor, name = tempfile.mkstemp(dir=self._path.parent, prefix=".plans-")  # 0600
            with os.fdopen(descriptor, "w", encoding="utf-8", newline="\n") as stream:
                stream.write(json.dumps(said) + "\n")
                stream.write(text)
                stream.writelines(f"{each.text}\n" for each in outcome.plans.values())
            os.replace(name, self._path)
        except (OSError, ValueError):
            if name:
                Path(name).unlink(missing_ok=True)


def _plain(given: Any) -> list[Any]:
    """An argument of planning in values that are the same whenever they are equal."""
    if not isinstance(given, Mapping):
        return [given]
    return [
        item for name, value in given.items() for item in (name, _facts(value) if isinstance(value, Facts) else value)
    ]


def _facts(facts: Facts) -> dict[str, Any]:
    read = {name: value for name, value in vars(facts).items() if name not in _FOR_THE_ACTION}
    return {**read, "foreign": {kind: sorted(names) for kind, names in facts.foreign.items()}}


def _code() -> list[Any]:
    """What changes when the collection does."""
    found = (path for folder in _CODE for path in sorted(folder.rglob("*.py")))
    return [(str(path), known.st_size, known.st_mtime_ns) for path in found for known in [path.stat()]]


def _packed(encryption: Optional[Xfrm]) -> Optional[dict[str, Any]]:
    return encode(encryption) if encryption is not None else None


def _outcome(data: dict[str, Any], texts: Iterable[str]) -> Optional[Outcome]:
    """The outcome; None if a plan's text is missing, or is another."""
    plans: dict[str, SentPlan] = {}
    for (host, project, digest, shared, encryption, *more), line in zip(data["plans"], texts):
        text = line.rstrip("\n")
        if content_digest(text) != digest:
            return None
        found = decode(encryption) if encryption is not None else None
        plans[host] = SentPlan(host, project, text, digest, frozenset(shared), found, *more)  # type: ignore[arg-type]
    return (
        Outcome(**{**data, "plans": plans, "unsigned": set(data["unsigned"])})
        if len(plans) == len(data["plans"])
        else None
    )
