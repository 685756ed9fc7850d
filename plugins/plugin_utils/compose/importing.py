# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: cnm.fabric contributors
"""``cnm_compose``: a host's variables, and the same with what the Compose files say in place of the files' names."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import field, replace
from typing import Any, Optional

from ...module_utils.plan.forms import printable
from ...module_utils.plan.records import dataclass
from ..declaration.errors import DeclarationError, ValidationError, VarPath, gather
from ..declaration.origins import written
from ..declaration.schema import COMPOSE
from ..declaration.validation import fit, plain
from . import files
from .document import Unreadable
from .project import Choice, Project, load
from .translation import NAMESPACES, translate

VARIABLE = "cnm_compose"
_KINDS = ("cnm_networks", "cnm_sandboxes")
_MOST_NAMED = 4
_ENTRY = re.compile(r"cnm_(?:networks|sandboxes)_compose\w*\.[\w.\[\]-]+")
_OF_SWARM = ("deploy.endpoint_mode", "deploy.mode", "deploy.placement", "deploy.update_config")


@dataclass
class Imported:
    """What came of one variable: variables with entries, the places of these in the files, and what to tell of it."""

    variables: dict[str, dict[str, Any]] = field(default_factory=dict)
    paths: dict[str, str] = field(default_factory=dict)
    """``cnm_sandboxes_compose.shop-web-1`` → ``cnm_compose.services.web``."""
    notes: tuple[str, ...] = ()
    """What was passed over, as lines for people."""
    warnings: tuple[str, ...] = ()
    taken_over: dict[str, tuple[str, ...]] = field(default_factory=dict)
    """The services whose containers get their networks from us, each with the keys it has."""
    files: tuple[str, ...] = ()
    """The files that were named."""


def is_compose(variable: str) -> bool:
    """Whether a variable names Compose files: ``cnm_compose``, and that with a suffix."""
    return variable == VARIABLE or (variable.startswith(f"{VARIABLE}_") and len(variable) > len(VARIABLE) + 1)


class Importer:
    """Reads the Compose files of hosts, each project once."""

    def __init__(self) -> None:
        self._read: dict[str, tuple[Optional[Imported], tuple[ValidationError, ...]]] = {}

    def all_expanded(
        self, variables: Mapping[str, Mapping[str, Any]], directories: Mapping[str, Sequence[str]]
    ) -> tuple[dict[str, dict[str, Any]], dict[str, dict[str, Imported]]]:
        """As `expanded`, of all hosts by name.

        Raises DeclarationError for what is wrong in a file, alone: without its networks much else would look wrong.
        """
        result, imported, errors = {}, {}, []
        for host, own in variables.items():
            result[host], imported[host], wrong = self.expanded(own, directories[host])
            errors += [(host, error) for error in wrong]
        if errors:
            raise DeclarationError(gather(errors))
        return result, imported

    def expanded(
        self, variables: Mapping[str, Any], directories: Sequence[str]
    ) -> tuple[dict[str, Any], dict[str, Imported], tuple[ValidationError, ...]]:
        """A host's templated variables with entries in place of Compose files, what came of each, and errors.

        ``directories`` are those that relative paths are looked for in.
        """
        result = {name: value for name, value in variables.items() if not is_compose(name)}
        imported: dict[str, Imported] = {}
        errors: list[ValidationError] = []
        for name in sorted(name for name in variables if is_compose(name) and variables[name] is not None):
            found, wrong = self._import(name, variables[name], directories)
            errors.extend(wrong)
            if found is None:
                continue
            clash = next((key for key in found.variables if key in result), None)
            if clash is not None:
                VarPath(clash, errors).wrong(f"What {name} declares has this name.", "Choose another suffix.")
                continue
            result.update(found.variables)
            imported[name] = found
        return result, imported, tuple(errors)

    def _import(
        self, name: str, value: Any, directories: Sequence[str]
    ) -> tuple[Optional[Imported], tuple[ValidationError, ...]]:
        errors: list[ValidationError] = []
        data = plain(value, VarPath(name, errors))
        identity = repr((name, data, tuple(directories)))
        if identity not in self._read:
            self._read[identity] = (None, tuple(errors)) if errors else _import(name, data, directories)
        return self._read[identity]


def _import(
    name: str, value: Any, directories: Sequence[str]
) -> tuple[Optional[Imported], tuple[ValidationError, ...]]:
    errors: list[ValidationError] = []
    path = VarPath(name, errors)
    entry = fit(value if isinstance(value, dict) else {"files": value}, COMPOSE, path)
    named = entry.get("files") if isinstance(entry, dict) else None
    names = [named] if isinstance(named, str) else [item for item in named or () if item]
    if not names and not errors:
        path.wrong("There is no Compose file in this.", f"Write for example `{name}: compose.yml`.")
    if errors:
        return None, tuple(errors)
    environment = {key: _text(item) for key, item in (entry.get("environment") or {}).items() if item is not None}
    profiles = entry.get("profiles") or ()
    choice = Choice(
        entry.get("project_name") or "", tuple([profiles] if isinstance(profiles, str) else profiles), environment
    )
    try:
        paths = [path for item in names for path in files.find(item, directories, (name, 0))]
        project = load(paths, choice, name, (name, 0))
    except Unreadable as error:
        at = () if error.origin == (name, 0) else (written(error.origin),)
        return None, (_shown(ValidationError(name, error.problem, error.remedy, places=at)),)
    entries = translate(project, name, entry.get("namespaces") or NAMESPACES[0])
    if project.errors:
        return None, tuple(map(_shown, project.errors))
    suffix = name.removeprefix("cnm_")
    variables = {f"{kind}_{suffix}": found for kind, found in zip(_KINDS, (entries.networks, entries.sandboxes))}
    places = {
        f"{kind}_{suffix}.{key}": f"{name}.{place}" for kind in _KINDS for key, place in entries.paths[kind].items()
    }
    return (
        Imported(
            variables,
            places,
            tuple(map(printable, _notes(project, entries.without_effect, written((str(paths[0]), 0))))),
            tuple(map(printable, _warnings(project))),
            entries.taken_over,
            tuple(written((str(path), 0)) for path in paths),
        ),
        (),
    )


def _shown(error: ValidationError) -> ValidationError:
    """An error as a terminal may show it: keys are in it, which a file can make of any characters."""
    return replace(error, path=printable(error.path), problem=printable(error.problem), remedy=printable(error.remedy))


def _text(value: Any) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)


def _notes(project: Project, without_effect: Mapping[str, set[str]], file: str) -> tuple[str, ...]:
    """What was passed over, one line a reason."""
    lines = []
    swarms = {key: names for key, names in project.passed_over.items() if key in _OF_SWARM}
    containers = {key: names for key, names in project.passed_over.items() if key not in _OF_SWARM}
    if containers:
        lines.append(f"{file}: passed over, as it is the containers' own: {_listed(containers)}")
    if swarms:
        lines.append(f"{file}: passed over, as it is Swarm's, not Compose's: {_listed(swarms)}")
    if without_effect:
        lines.append(f"{file}: without effect with this network_mode, as with Docker: {_listed(without_effect)}")
    if project.inactive:
        lines.append(f"{file}: left out, as their profiles are not chosen: {', '.join(project.inactive)}")
    return tuple(lines)


def _listed(keys: Mapping[str, set[str]]) -> str:
    return ", ".join(f"{key} ({_named(keys[key])})" if keys[key] else key for key in sorted(keys))


def _named(services: Iterable[str]) -> str:
    names = sorted(services)
    if len(names) <= _MOST_NAMED:
        return ", ".join(names)
    return f"{', '.join(names[: _MOST_NAMED - 1])} and {len(names) - _MOST_NAMED + 1} more"


def _warnings(project: Project) -> tuple[str, ...]:
    return tuple(
        f"{written(origin)}: the variable {name} is not set, so it is empty"
        for name, origin in sorted(project.unset.items())
    )


def in_words_of_compose(text: str, paths: Mapping[str, str]) -> str:
    """A text with paths of entries as those of Compose files; ``paths`` are `Imported.paths`."""

    def renamed(match: re.Match[str]) -> str:
        for end in range(len(match[0]), 0, -1):
            place = paths.get(match[0][:end])
            if place is not None and match[0][end : end + 1] in ("", ".", "["):
                return place + match[0][end:]
        return match[0]

    return _ENTRY.sub(renamed, text) if paths else text


def errors_in_words_of_compose(
    errors: Iterable[ValidationError], paths: Mapping[str, str]
) -> tuple[ValidationError, ...]:
    """The errors with paths of Compose files, what is the same for several containers once."""

    def renamed(item: ValidationError) -> ValidationError:
        path, problem, remedy = (in_words_of_compose(text, paths) for text in (item.path, item.problem, item.remedy))
        return replace(item, path=path, problem=problem, remedy=remedy)

    return tuple(sorted(set(map(renamed, errors))))
