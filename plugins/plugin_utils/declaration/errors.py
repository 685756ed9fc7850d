# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: cnm.fabric contributors
"""Errors in the variables as data, and the exception that carries all of them.

A `VarPath` is a place in the user's variables (``cnm_sandboxes.c1.networks.ps-bridge.ipv4_address``) where an error can
be noted; readers pass it down as they descend: ``path / "ipam" / "config" / 0``.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import Any, Optional, Union

from ...module_utils.plan.records import dataclass

_LONGEST = 60
_SECRET = re.compile(r"secret|passw|passphrase|token|credential|private", re.IGNORECASE)
_USERINFO = re.compile(r"(?<=://)[^/\s]*@")
_HOSTS_SHOWN = 2
_LARGEST = 2**64

HIDDEN = "(not shown)"


@dataclass(frozen=True, order=True)
class ValidationError:
    """One thing to put right: where it stands, the rule it breaks, what to write instead, and on which hosts.

    ``value`` is what was found, as text for people: shortened, and never a secret; empty if it says nothing.
    ``places`` are the files and lines that it was written in, as far as Ansible knows them (see `origins`).
    """

    path: str
    problem: str
    remedy: str = ""
    hosts: tuple[str, ...] = ()
    value: str = ""
    places: tuple[str, ...] = ()

    def __str__(self) -> str:
        where = f"{self.path} (on {name_hosts(self.hosts)})" if self.hosts else self.path
        places = name_hosts(self.places)
        parts = (("in:", places), ("value:", self.value), ("problem:", self.problem), ("remedy:", self.remedy))
        return "\n".join([where, *(f"  {label:<9}{text}" for label, text in parts if text)])

    @property
    def in_one_line(self) -> str:
        """The same as one line of text, without the hosts."""
        value = f" ({self.value})" if self.value else ""
        return f"{self.path}{value}: {' '.join(part for part in (self.problem, self.remedy) if part)}"


class DeclarationError(Exception):
    """The variables are wrong: ``errors`` has every error of every host, sorted."""

    def __init__(self, errors: Iterable[ValidationError]) -> None:
        self.errors = tuple(sorted(errors))
        super().__init__(self.errors)

    def __str__(self) -> str:
        count = len(self.errors)
        head = f"The cnm_ variables have {count} error{'s' if count != 1 else ''}; no host was changed."
        return "\n\n".join([head, *(str(error) for error in self.errors)])


class NothingDeclared(DeclarationError):
    """No host of the topology declares anything: most likely the wrong inventory."""

    def __init__(self, hosts: Iterable[str]) -> None:
        super().__init__(
            [
                ValidationError(
                    path="cnm_networks, cnm_sandboxes, cnm_services",
                    problem="There is no cnm_ declaration on any host of the topology. Is it the right inventory (-i)?",
                    remedy="Declare networks and sandboxes in group_vars or host_vars. To remove everything that is "
                    "ours, write `cnm_networks: {}`, or run the playbook cnm.fabric.teardown.",
                    hosts=tuple(sorted(hosts)),
                )
            ]
        )


class VarPath:
    """A path in the variables.  Errors at it and below it are collected in one list."""

    __slots__ = ("_above", "_key", "errors")

    def __init__(self, key: Union[str, int], errors: list[ValidationError], above: Optional[VarPath] = None) -> None:
        self._key = key
        self._above = above
        self.errors = errors

    def __truediv__(self, key: Union[str, int]) -> VarPath:
        """The path one level below: a key of a mapping, or an index of a list."""
        return VarPath(key, self.errors, self)

    @property
    def path(self) -> str:
        """The path as text.  The first key is taken as it is, so it may be a path itself."""
        if self._above is None:
            return str(self._key)
        above = self._above.path
        if isinstance(self._key, int):
            return f"{above}[{self._key}]"
        return f"{above}.{word(self._key)}" if above else word(self._key)

    @property
    def is_wrong(self) -> bool:
        """Whether an error was noted at the path or below it; ``driver_opts`` is not below ``driver``."""
        if not self.errors:
            return False
        path = self.path
        return any(note.path == path or note.path.startswith((f"{path}.", f"{path}[")) for note in self.errors)

    def wrong(self, problem: str, remedy: str = "", value: Any = None) -> None:
        """Add an error.  ``value`` is shown unless the path's name says that it is secret."""
        shown = HIDDEN if value is not None and secret(self.path) else show(value)
        self.errors.append(ValidationError(self.path, problem, remedy, (), shown))


def secret(path: str) -> bool:
    """Whether what stands at a path, or under a key, is not for everybody's eyes."""
    return _SECRET.search(path) is not None


def gather(found: Iterable[tuple[str, ValidationError]]) -> tuple[ValidationError, ...]:
    """(host, error) pairs → sorted errors, each with all the hosts it was found on."""
    hosts: dict[ValidationError, set[str]] = {}
    for host, error in found:
        hosts.setdefault(replace(error, hosts=()), set()).update((host, *error.hosts))
    return tuple(sorted(replace(error, hosts=tuple(sorted(names))) for error, names in hosts.items()))


def name_hosts(hosts: Sequence[str]) -> str:
    """Names of hosts, or of files: ``node1``, ``node1 and node2``, ``node1, node2 and 5 more``."""
    if len(hosts) <= _HOSTS_SHOWN + 1:
        return " and ".join(part for part in (", ".join(hosts[:-1]), *hosts[-1:]) if part)
    return f"{', '.join(hosts[:_HOSTS_SHOWN])} and {len(hosts) - _HOSTS_SHOWN} more"


def word(text: str) -> str:
    """A name as it can be printed in one line: as it is, or shortened and escaped."""
    short = text if len(text) <= _LONGEST else text[: _LONGEST - 1] + "…"
    return short if short.isprintable() and short else repr(short)


def show(value: Any) -> str:
    """A value for people: one short line, in YAML's words; nothing of mappings and lists."""
    if value is None or isinstance(value, (dict, list)):
        return ""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, str):
        return word(_USERINFO.sub("…@", value))
    if isinstance(value, int) and abs(value) >= _LARGEST:
        return "a very large number"
    return word(repr(value))
