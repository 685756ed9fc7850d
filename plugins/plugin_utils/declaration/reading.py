# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: cnm.fabric contributors
"""The declaration's front door: the ``cnm_`` variables of all hosts → `Topology`, or every mistake in them.

Most hosts of a fleet say the same thing, so each distinct entry is read once and what came of it is shared.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Optional, Union

from . import not_yet
from .across import Draft, check
from .mistakes import DeclarationError, Mistake, NothingDeclared, Place, gather
from .networks import read_network
from .sandboxes import read_sandbox
from .schema import ENTRIES, SETTINGS
from .settings import read_settings
from .structure import did_you_mean, fit, plain, plain_key, plain_name
from .topology import Host, Network, Sandbox, Settings, Topology

_PREFIX = "cnm_"
_ADDRESSING = ("driver", "subnet", "ipam", "enable_ipv4", "enable_ipv6")


def read_topology(
    variables: Mapping[str, Mapping[str, Any]], groups: Optional[Mapping[str, Sequence[str]]] = None
) -> Topology:
    """Read and validate what every host of the topology declares.

    ``variables`` is {inventory host: its templated variables whose names begin with ``cnm_``}, ``groups`` {inventory
    group: its hosts}.  Raises `DeclarationError` with every mistake of every host, or `NothingDeclared`.
    """
    reader = _Reader(_places(variables, groups))
    drafts = [
        reader.host(plain_name(host), {plain_name(name): value for name, value in variables[host].items()})
        for host in sorted(variables)
    ]
    mistakes = gather([*reader.found, *check(drafts)])
    if mistakes:
        raise DeclarationError(mistakes)
    if not reader.declared:
        raise NothingDeclared(variables)
    return Topology(hosts=tuple(draft.host for draft in drafts))


def _places(variables: Mapping[str, Any], groups: Optional[Mapping[str, Sequence[str]]]) -> Optional[frozenset[str]]:
    """Hosts and groups that a service's placement may name; None if the groups are not known."""
    return None if groups is None else frozenset((*variables, *groups))


@dataclass(frozen=True)
class _Reading:
    """What came of one entry: the object (None if there is none to be had), and what is wrong with it.

    It is ``sound`` if what it says of addresses is right, even if it is not there yet.
    """

    result: Union[Network, Sandbox, None]
    sound: bool
    mistakes: tuple[Mistake, ...]


class _Reader:
    """Reads host after host; collects ``found`` as (host, mistake), and whether anything is ``declared`` at all."""

    def __init__(self, places: Optional[frozenset[str]]) -> None:
        self.found: list[tuple[str, Mistake]] = []
        self.declared = False
        self._places = places
        self._readings: dict[tuple[str, str, str, str], _Reading] = {}

    def host(self, name: str, variables: Mapping[str, Any]) -> Draft:
        """Read one host's variables."""
        notes: list[Mistake] = []
        entries = self._entries(variables, notes)
        settings = _settings(variables, notes)
        readings = {
            kind: {key: self._entry(kind, key, path, raw) for key, (path, raw) in entries[kind].items()}
            for kind in ENTRIES
        }
        for reading in (reading for group in readings.values() for reading in group.values()):
            notes.extend(reading.mistakes)
        self.found.extend((name, mistake) for mistake in notes)
        networks = readings["cnm_networks"]
        host = Host(
            name=name,
            settings=settings,
            networks=tuple(r.result for _key, r in sorted(networks.items()) if isinstance(r.result, Network)),
            sandboxes=tuple(
                replace(reading.result, host=name)
                for _key, reading in sorted(readings["cnm_sandboxes"].items())
                if isinstance(reading.result, Sandbox)
            ),
        )
        broken = frozenset(key for key, reading in networks.items() if not reading.sound)
        return Draft(host, frozenset(networks), broken)

    def _entries(self, variables: Mapping[str, Any], notes: list[Mistake]) -> dict[str, dict[str, tuple[str, Any]]]:
        """``cnm_networks`` and all ``cnm_networks_SUFFIX``, and so on → {kind: {name: (variable, raw value)}}."""
        merged: dict[str, dict[str, tuple[str, Any]]] = {kind: {} for kind in ENTRIES}
        for variable in sorted(variables):
            kind = kind_of(variable)
            value = variables[variable]
            if kind is None or value is None:
                continue
            self.declared = True
            if not isinstance(value, Mapping):
                Place(variable, notes).wrong(
                    f"This must be a mapping whose keys are names of {kind.removeprefix(_PREFIX)}.",
                    f"Write `{variable}: {{}}` for none.",
                    value,
                )
                continue
            for raw_key, entry in value.items():
                key = plain_key(raw_key, Place(variable, notes))
                if key in merged[kind]:
                    (Place(variable, notes) / key).wrong(
                        f"`{key[:63]}` is declared in {merged[kind][key][0]} and in {variable}.",
                        "Keep one of them, or rename one.",
                    )
                else:
                    merged[kind][key] = (variable, entry)
        return merged

    def _entry(self, kind: str, key: str, variable: str, raw: Any) -> _Reading:
        notes: list[Mistake] = []
        place = Place(variable, notes) / key
        stated = _stated(raw)
        value = plain({} if raw is None else raw, place)
        if notes:
            return self._read(kind, key, value, stated, place)
        identity = (kind, variable, key, json.dumps(value))
        if identity not in self._readings:
            self._readings[identity] = self._read(kind, key, value, stated, place)
        return self._readings[identity]

    def _read(self, kind: str, key: str, raw: Any, stated: frozenset[str], place: Place) -> _Reading:
        value = fit(raw, ENTRIES[kind], place)
        if value is None:
            return _Reading(None, False, tuple(place.notes))
        result: Union[Network, Sandbox, None] = None
        if kind == "cnm_networks":
            result = read_network(key, value, place)
        elif kind == "cnm_sandboxes":
            result = read_sandbox(key, value, place)
        else:
            self._check_placement(value, place)
        sound = not any(note.path.startswith(tuple((place / key).path for key in _ADDRESSING)) for note in place.notes)
        not_yet.refuse(kind, value, stated, place)
        return _Reading(result, sound, tuple(place.notes))

    def _check_placement(self, service: Mapping[str, Any], place: Place) -> None:
        hosts = ((service.get("deploy") or {}).get("placement") or {}).get("hosts") or ()
        for index, name in enumerate(hosts):
            if self._places is not None and name is not None and name not in self._places:
                (place / "deploy" / "placement" / "hosts" / index).wrong(
                    "There is no such host or group in the topology.",
                    did_you_mean(name, self._places, "Name hosts or groups of the inventory."),
                    name,
                )


def _stated(raw: Any) -> frozenset[str]:
    """Keys that have a value, right or wrong."""
    if not isinstance(raw, Mapping):
        return frozenset()
    return frozenset(key for key, item in raw.items() if isinstance(key, str) and item is not None)


def kind_of(variable: str) -> Optional[str]:
    """``cnm_networks`` for ``cnm_networks`` and ``cnm_networks_lab``, and so on; None for any other variable."""
    for kind in ENTRIES:
        if variable == kind or (variable.startswith(f"{kind}_") and len(variable) > len(kind) + 1):
            return kind
    return None


def _settings(variables: Mapping[str, Any], notes: list[Mistake]) -> Settings:
    """Read the settings among the variables; a ``cnm_`` variable that nobody knows is noted."""
    known: dict[str, Any] = SETTINGS["properties"]
    place = Place("", notes)
    raw = {}
    for variable in sorted(variables):
        if variable in known:
            raw[variable] = variables[variable]
        elif variable.startswith(_PREFIX) and kind_of(variable) is None:
            (place / variable).wrong(
                "There is no such variable.",
                did_you_mean(variable, (*known, *ENTRIES), "Names that begin with cnm_ are the collection's own."),
            )
    value = fit({variable: plain(item, place / variable) for variable, item in raw.items()}, SETTINGS, place)
    not_yet.refuse("settings", value, _stated(raw), place)
    return read_settings(value, place)
