# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: cnm.fabric contributors
"""Compose files → one project: its networks, and of its services what is about networks, with lines.

Files are merged, ``extends`` and ``include`` followed, variables interpolated, profiles chosen, as `docker compose`
does.  What is a container's own is not even interpolated: only its keys are noted.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import field
from pathlib import Path
from typing import Any, Optional

from ...module_utils.plan.records import dataclass
from ..declaration.errors import ValidationError
from ..declaration.keys import OF_CONTAINERS, did_you_mean
from ..declaration.origins import written
from . import files
from .document import Unreadable, read_document
from .interpolation import Budget, Interpolation, read_env
from .located import Map, Origin, Seq, Text, origin_of, tag_of
from .merging import NETWORK_FORMS, SERVICE_FORMS, in_one_form, merge, text_of, without_resets

OF_NETWORKS = (
    "container_name", "dns", "dns_opt", "dns_search", "domainname", "expose", "external_links", "extra_hosts",
    "hostname", "links", "mac_address", "network_mode", "networks", "ports", "scale", "sysctls",
)  # fmt: skip
"""Keys of a service that are about networks, or say how many containers it has and what they are called."""
_OTHERS = ("deploy", "extends", "profiles", "provider", "x-cnm")
_TOP = ("configs", "include", "models", "name", "networks", "secrets", "services", "version", "volumes")
_OF_DEPLOY = ("replicas",)
_DEEPEST = 20
_MOST_FILES = 500
"""Times that a file is read into a project; two includes of two each, and so on, are soon millions."""
_NOT_OF_NAMES = re.compile(r"[^-_a-z0-9]")
_PROJECT = re.compile(r"[a-z0-9][a-z0-9_-]*")


@dataclass(frozen=True)
class Choice:
    """What the inventory says of a project beside its files."""

    name: str = ""
    profiles: tuple[str, ...] = ()
    environment: Mapping[str, str] = field(default_factory=dict)


@dataclass
class Project:
    """A project: ``services`` and ``networks`` by name, as they are written, merged; and what was noted."""

    name: str = ""
    services: dict[str, Map] = field(default_factory=dict)
    networks: dict[str, Map] = field(default_factory=dict)
    passed_over: dict[str, set[str]] = field(default_factory=dict)
    """Keys that are not about networks, and the services that have them; none for a key of the file itself."""
    inactive: tuple[str, ...] = ()
    """Services of profiles that were not chosen."""
    unset: dict[str, Origin] = field(default_factory=dict)
    """Variables without a value, and where each is used first."""
    errors: list[ValidationError] = field(default_factory=list)

    def wrong(self, path: str, origin: Origin, problem: str, remedy: str = "") -> None:
        """Note an error at a path in the project, and where it was written."""
        self.errors.append(ValidationError(path, problem, remedy, places=(written(origin),)))


def load(paths: Sequence[Path], choice: Choice, root: str, origin: Origin) -> Project:
    """Read the files of a project, which are merged.

    ``root`` is the variable that names them, at ``origin``.  Raises `Unreadable` for what cannot be read at all.
    """
    project = Project()
    directory = paths[0].parent
    loader = _Loader(project, root, directory.resolve())
    loader.check_values(directory / ".env", (), origin)
    environment = _environment(directory, None, choice.environment, origin)
    model = loader.model(paths, directory, environment, origin, 0)
    project.name = _project_name(model, choice, environment, directory, project, root)
    profiles = {*choice.profiles, *environment.get("COMPOSE_PROFILES", "").split(",")} - {""}
    active = {name: service for name, service in model.services.items() if _is_active(service, profiles)}
    project.services = active
    project.inactive = tuple(sorted(model.services.keys() - active.keys()))
    project.networks = model.networks
    for name, service in active.items():
        for key in _of_containers(service):
            project.passed_over.setdefault(key, set()).add(name)
    return project


def _environment(directory: Path, named: Optional[Path], given: Mapping[str, str], origin: Origin) -> dict[str, str]:
    path = named or directory / ".env"
    found = read_env(files.read(path, origin), given, str(path)) if named or path.is_file() else {}
    return {**found, **given}


def _project_name(
    model: _Model, choice: Choice, environment: Mapping[str, str], directory: Path, project: Project, root: str
) -> str:
    written = choice.name or environment.get("COMPOSE_PROJECT_NAME", "") or model.name
    if not written:
        return _NOT_OF_NAMES.sub("", directory.resolve().name.lower()).lstrip("-_") or "default"
    if not _PROJECT.fullmatch(written):
        origin = origin_of(model.name) or (str(directory), 0)
        problem = f"`{written[:60]}` is no name of a project: it has small letters, digits, `-` and `_`."
        project.wrong(f"{root}.name", origin, problem, "Choose a name like `shop`.")
        return "default"
    return written


def _is_active(service: Map, profiles: set[str]) -> bool:
    own = service.get("profiles")
    names = {str(item) for item in own} if isinstance(own, Seq) else set()
    return not names or "*" in profiles or bool(names & profiles)


def _of_containers(service: Map) -> Iterable[str]:
    for key, value in service.items():
        if key in OF_CONTAINERS and key not in (*OF_NETWORKS, *_OTHERS):
            yield str(key)
        elif key == "deploy" and isinstance(value, Map):
            yield from (f"deploy.{inner}" for inner in value if inner not in _OF_DEPLOY and not inner.startswith("x-"))


@dataclass
class _Model:
    """What one or several files say, before profiles are chosen."""

    name: str = ""
    services: dict[str, Map] = field(default_factory=dict)
    networks: dict[str, Map] = field(default_factory=dict)


class _Loader:
    def __init__(self, project: Project, root: str, home: Path) -> None:
        """``home`` is the directory of the file that the inventory names."""
        self._project = project
        self._root = root
        self._documents: dict[Path, Map] = {}
        self._budget = Budget()
        self._files = 0
        self._home = home

    def model(
        self, paths: Sequence[Path], directory: Path, environment: Mapping[str, str], origin: Origin, depth: int
    ) -> _Model:
        """The model of files that are merged, with what they include."""
        if depth > _DEEPEST:
            raise Unreadable("Files include each other.", "Take one of the includes out.", origin)
        result = _Model()
        interpolation = Interpolation(environment, self._budget)
        for path in paths:
            self._files += 1
            if self._files > _MOST_FILES:
                raise Unreadable(
                    f"With what it includes this has more than {_MOST_FILES} files.",
                    "Include each file once.",
                    origin,
                )
            document = self._document(path, origin)
            for key in ("services", "networks"):
                if document.get(key) is not None and not isinstance(document[key], Map):
                    where = origin_of(document[key]) or document.origin
                    self._project.wrong(f"{self._root}.{key}", where, f"This must be a mapping of {key}.")
            self._include(document, result, directory, environment, depth)
            found = self._interpolated(document, "name", f"{self._root}.name", interpolation)
            result.name = found or result.name
            for name, raw in _mapping(document, "networks").items():
                network = self._network(name, raw, interpolation)
                _merge_into(result.networks, name, network, "networks")
            for name, raw in _mapping(document, "services").items():
                if tag_of(raw) == "!reset":
                    result.services.pop(name, None)
                    continue
                service = self._service(name, raw, path, interpolation, ())
                if service is not None:
                    _merge_into(result.services, name, service, "services")
            self._check_top(document)
        for name, where in interpolation.unset.items():
            self._project.unset.setdefault(name, where)
        return result

    def _document(self, path: Path, origin: Origin) -> Map:
        if path not in self._documents:
            document = read_document(files.read(path, origin), str(path))
            if document is None:
                document = Map({}, (str(path), 1))
            if not isinstance(document, Map):
                raise Unreadable("This is no Compose file.", "It is a mapping with the key `services`.", (str(path), 1))
            self._documents[path] = document
        return self._documents[path]

    def _check_top(self, document: Map) -> None:
        for key in document:
            if key in ("configs", "models", "secrets", "volumes"):
                self._project.passed_over.setdefault(f"{key} of the file", set())
            elif key not in _TOP and not key.startswith("x-"):
                where = origin_of(key) or document.origin
                remedy = did_you_mean(key, _TOP, f"The keys here are {', '.join(_TOP)}.")
                self._project.wrong(f"{self._root}.{key}", where, f"There is no key `{key[:60]}` here.", remedy)

    def _include(
        self, document: Map, into: _Model, directory: Path, environment: Mapping[str, str], depth: int
    ) -> None:
        includes = document.get("include")
        for item in includes if isinstance(includes, Seq) else () if includes is None else [includes]:
            entry = item if isinstance(item, Map) else {"path": item}
            origin = origin_of(item) or document.origin
            interpolation = Interpolation(environment, self._budget)
            entry = {
                key: self._interpolate(value, f"{self._root}.include", interpolation) for key, value in entry.items()
            }
            named = entry.get("path")
            texts = [text for text in (named if isinstance(named, Seq) else [named]) if isinstance(text, str)]
            if not texts:
                self._project.wrong(
                    f"{self._root}.include",
                    origin,
                    "There is no path in this entry.",
                    "Write `path: other/compose.yml`.",
                )
                continue
            paths = [directory / text for text in texts]
            if paths[0].is_dir():
                paths = files.in_directory(paths[0]) or paths
            own = entry.get("project_directory")
            home = directory / own if isinstance(own, str) else paths[0].parent
            env_files = entry.get("env_file")
            known = dict(environment)
            names = [
                name for name in (env_files if isinstance(env_files, Seq) else [env_files]) if isinstance(name, str)
            ]
            env_paths: list[Optional[Path]] = [directory / name for name in names]
            for env_file in env_paths or [None]:
                self.check_values(env_file or home / ".env", paths, origin)
                known = {**_environment(home, env_file, environment, origin), **known}
            part = self.model(paths, home, known, origin, depth + 1)
            for kind in ("services", "networks"):
                for name, thing in getattr(part, kind).items():
                    other = getattr(into, kind).get(name)
                    if other is not None and other != thing:
                        where = origin_of(name) or thing.origin
                        problem = f"An included file declares {name[:60]} of {kind} differently."
                        self._project.wrong(f"{self._root}.{kind}.{name}", where, problem, "Rename one of them.")
                    getattr(into, kind).setdefault(name, thing)

    def check_values(self, file: Path, included: Sequence[Path], origin: Origin) -> None:
        """Refuse values from beside the project: a file says where they are, and so could publish any secret that the
        user can read.  An included project's own are right for its own files.
        """
        place = file.resolve()
        others = [path.resolve() for path in included]
        own = others and all(
            path.is_relative_to(place.parent) and not path.is_relative_to(self._home) for path in others
        )
        if file.is_file() and not (own or place.is_relative_to(self._home)):
            raise Unreadable(
                f"The values of {place} are not for these files: it is outside of {self._home}.",
                "Give the values in the inventory, as `environment` beside `files`.",
                origin,
            )

    def _network(self, name: str, raw: Any, interpolation: Interpolation) -> Map:
        path, origin = f"{self._root}.networks.{name}", origin_of(name) or ("", 0)
        raw = self._interpolate(raw, path, interpolation)
        if raw is None:
            return Map({}, origin)
        if not isinstance(raw, Map):
            where = origin_of(raw) or origin
            self._project.wrong(path, where, "This must be a mapping of network settings, or nothing.")
            return Map({}, origin)
        return in_one_form(raw, NETWORK_FORMS)

    def _service(
        self, name: str, raw: Any, file: Path, interpolation: Interpolation, chain: tuple[tuple[str, str], ...]
    ) -> Optional[Map]:
        """A service with what it extends; ``chain`` are the (file, service) pairs that extend it."""
        path, origin = f"{self._root}.services.{name}", origin_of(name) or ("", 0)
        if not isinstance(raw, Map):
            self._project.wrong(path, origin_of(raw) or origin, "This must be a mapping.", "Write `image: …` below it.")
            return None
        kept = {}
        for key, value in raw.items():
            if key in OF_NETWORKS or key in _OTHERS:
                kept[key] = self._interpolate(value, f"{path}.{key}", interpolation)
            elif key in OF_CONTAINERS:
                kept[key] = None
            elif not key.startswith("x-"):
                known = (*OF_NETWORKS, *OF_CONTAINERS)
                remedy = did_you_mean(key, known, "Names of your own begin with `x-`.")
                where = origin_of(key) or raw.origin
                self._project.wrong(f"{path}.{key}", where, f"Compose has no key `{key[:60]}` of a service.", remedy)
        service = in_one_form(Map(kept, raw.origin, raw.tag), SERVICE_FORMS)
        extends = service.pop("extends", None)
        if extends is None:
            return service
        base = self._extended(extends, file, path, interpolation, (*chain, (str(file), str(name))))
        merged = merge(base, service, ("services",)) if base is not None else service
        return merged if isinstance(merged, Map) else service

    def _extended(
        self, extends: Any, file: Path, path: str, interpolation: Interpolation, chain: tuple[tuple[str, str], ...]
    ) -> Optional[Map]:
        origin = origin_of(extends) or (str(file), 0)
        entry = extends if isinstance(extends, Map) else {"service": extends}
        service, other = entry.get("service"), entry.get("file")
        if not isinstance(service, str) or not (other is None or isinstance(other, str)):
            remedy = "Write `extends: {service: base, file: other.yml}`."
            self._project.wrong(f"{path}.extends", origin, "There is no service in this.", remedy)
            return None
        source = file.parent / other if other else file
        if (str(source), service) in chain or len(chain) > _DEEPEST:
            self._project.wrong(f"{path}.extends", origin, "Services extend each other.", "Take one of these out.")
            return None
        services = _mapping(self._document(source, origin), "services")
        key = next((key for key in services if key == service), None)
        if key is None:
            remedy, shown = did_you_mean(service, services), written((str(source), 0))
            self._project.wrong(
                f"{path}.extends",
                origin,
                f"There is no service `{service[:60]}` in {shown}.",
                remedy,
            )
            return None
        found = self._service(key, services[key], source, interpolation, chain)
        if found is not None:
            found.pop("profiles", None)
        return found

    def _interpolated(self, document: Map, key: str, path: str, interpolation: Interpolation) -> str:
        return text_of(self._interpolate(document.get(key), path, interpolation)) or ""

    def _interpolate(self, value: Any, path: str, interpolation: Interpolation) -> Any:
        return interpolation(value, lambda origin, problem: self._project.wrong(path, origin, problem))


def _mapping(document: Map, key: str) -> Map:
    found = document.get(key)
    return found if isinstance(found, Map) else Map({}, document.origin)


def _merge_into(known: dict[str, Map], name: str, entry: Map, kind: str) -> None:
    if name not in known:
        known[Text(name, origin_of(name) or entry.origin)] = without_resets(entry)
        return
    merged = merge(known[name], entry, (kind, name))
    known[name] = without_resets(merged) if isinstance(merged, Map) else Map({}, entry.origin)
