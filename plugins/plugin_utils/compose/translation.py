# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: cnm.fabric contributors
"""A Compose project → entries of ``cnm_networks`` and ``cnm_sandboxes``, named as Compose names its objects.

Values stay as they are written, with their lines: the declaration's own readers check them.  Here is only what Compose
means otherwise than the declaration does.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import field
from typing import Any, Optional

from ...module_utils.plan.constants import SHARES
from ...module_utils.plan.records import dataclass
from ..declaration.keys import did_you_mean
from .located import Map, Number, Seq, Text, origin_of
from .merging import text_of
from .project import Project

NAMESPACES = ("docker", "podman", "own")
"""Whose the namespaces of the sandboxes are: containers of these engines, or the collection's own."""
_MODES = ("bridge", "host", "none")
_MOST_REPLICAS = 1000
_INTEGERS = ("gw_priority",)
_WITHOUT_A_NETWORK = (
    *("ports", "networks", "dns", "dns_opt", "dns_search", "extra_hosts", "hostname", "sysctls", "links"),
)
"""Keys without effect in the host's own network."""


@dataclass
class Entries:
    """``networks`` and ``sandboxes`` by name, as variables have them; ``paths`` are those of the sandboxes and networks
    in the project: ``{"cnm_sandboxes": {"shop-web-1": "services.web"}, …}``.
    """

    networks: dict[str, Any] = field(default_factory=dict)
    sandboxes: dict[str, Any] = field(default_factory=dict)
    paths: dict[str, dict[str, str]] = field(default_factory=lambda: {"cnm_networks": {}, "cnm_sandboxes": {}})
    taken_over: dict[str, tuple[str, ...]] = field(default_factory=dict)
    """Services of a container engine whose containers get their networks from us, each with its keys."""
    without_effect: dict[str, set[str]] = field(default_factory=dict)
    """Keys that have no effect where they stand, as with Docker, and their services."""


def translate(project: Project, root: str, namespaces: str) -> Entries:
    """The entries; errors are added to the project's."""
    return _Translation(project, root, namespaces).run()


class _Translation:
    def __init__(self, project: Project, root: str, namespaces: str) -> None:
        self._project = project
        self._root = root
        self._namespaces = namespaces
        self._entries = Entries()
        self._names: dict[str, list[str]] = {}
        """The sandboxes of each service."""

    def run(self) -> Entries:
        services = self._project.services
        self._names = {name: self._sandbox_names(name, service) for name, service in services.items()}
        aliases = self._linked(services)
        for name, service in services.items():
            if service.get("provider") is not None:
                continue
            entry = self._sandbox(name, service, aliases.get(name, {}))
            if self._namespaces != "own" and not _is_elsewhere(entry):
                self._entries.taken_over[str(name)] = tuple(map(str, service))
            for sandbox in self._names[name]:
                if sandbox in self._entries.sandboxes:
                    self._wrong(name, "container_name", service, f"There is a container `{sandbox[:60]}` already.")
                self._entries.sandboxes[sandbox] = self._owned(entry, sandbox)
                self._entries.paths["cnm_sandboxes"][sandbox] = f"services.{name}"
        for key in self._used():
            self._network(key)
        return self._entries

    # Names

    def _sandbox_names(self, name: str, service: Map) -> list[str]:
        given = service.get("container_name")
        replicas = self._replicas(name, service)
        origin = origin_of(name) or service.origin
        if isinstance(given, Text):
            if replicas > 1:
                problem = f"The service has {replicas} containers, and only one can have this name."
                self._wrong(name, "container_name", service, problem, "Leave it out.")
            return [Text(given, given.origin)] if replicas else []
        project = self._project.name
        return [Text(f"{project}-{name}-{number}", origin) for number in range(1, replicas + 1)]

    def _replicas(self, name: str, service: Map) -> int:
        deploy = service.get("deploy")
        key, found = "scale", service.get("scale")
        if isinstance(deploy, Map) and deploy.get("replicas") is not None:
            key, found = "deploy", deploy["replicas"]
        text = text_of(found)
        if found is None:
            return 1
        if text is None or not text.isascii() or not text.isdigit() or len(text) > 9 or int(text) > _MOST_REPLICAS:
            problem = f"The number of containers must be a whole number from 0 to {_MOST_REPLICAS}."
            self._wrong(name, key, service, problem, "Write for example 3.")
            return 1
        return int(text)

    def _network_name(self, key: str) -> str:
        entry = self._project.networks.get(key, Map({}, ("", 0)))
        external = entry.get("external")
        name = external.get("name") if isinstance(external, Map) else None
        name = name or entry.get("name")
        if isinstance(name, str):
            return name
        return str(key) if _is_external(entry) else f"{self._project.name}_{key}"

    def _used(self) -> list[str]:
        """Networks to declare: those that are declared, and the implicit one if a service is on it."""
        on_default = any(
            not _networks(item) and not item.get("network_mode") for item in self._project.services.values()
        )
        used = {key for item in self._project.services.values() for key in _networks(item)}
        implicit = ["default"] if on_default or "default" in used else []
        return [key for key in dict.fromkeys([*self._project.networks, *implicit]) if key != "default" or implicit]

    # Networks

    def _network(self, key: str) -> None:
        entry = self._project.networks.get(key, Map({}, ("", 0)))
        name = self._network_name(key)
        if _is_external(entry):
            for other in entry:
                if other not in ("external", "name") and not other.startswith("x-"):
                    origin = origin_of(other) or entry.origin
                    problem = "An external network is declared elsewhere, with all its settings."
                    self._project.wrong(f"{self._root}.networks.{key}.{other}", origin, problem, "Leave this out.")
            return
        origin = origin_of(key) or entry.origin
        if name in self._entries.networks:
            problem = f"There is a network `{name[:60]}` already."
            self._project.wrong(f"{self._root}.networks.{key}.name", origin, problem, "Choose another name.")
        found = {
            inner: value
            for inner, value in entry.items()
            if inner not in ("name", "external") and not inner.startswith("x-")
        }
        self._entries.networks[Text(name, origin)] = Map({**found, **_own(entry)}, entry.origin)
        self._entries.paths["cnm_networks"][name] = f"networks.{key}"

    # Services

    def _sandbox(self, name: str, service: Map, aliases: dict[str, list[Text]]) -> dict[str, Any]:
        """What all containers of a service have in common."""
        mode = self._mode(name, service)
        if mode == "host":
            # As with Docker, nothing else has an effect.
            self._no_effect(name, service, _WITHOUT_A_NETWORK)
            return {**_keyed(service, "network_mode", mode), **_own(service)}
        found: dict[str, Any] = {}
        if mode is None:
            found[_key(service, "networks")] = self._endpoints(name, service, aliases)
        else:
            found.update(_keyed(service, "network_mode", mode))
        ports = self._ports(name, service)
        if ports and mode == "none":
            self._no_effect(name, service, ("ports",))
        elif ports:
            found[_key(service, "ports")] = ports
        for key in ("expose", "mac_address", "hostname", "domainname", "dns", "dns_search", "dns_opt", "extra_hosts"):
            if service.get(key):
                found[_key(service, key)] = service[key]
        sysctls = self._sysctls(name, service)
        if sysctls:
            found[_key(service, "sysctls")] = sysctls
        return {**found, **_own(service)}

    def _owned(self, entry: dict[str, Any], sandbox: str) -> Map:
        """The entry of one container, in its namespace."""
        origin = origin_of(sandbox) or ("", 0)
        owned = self._namespaces != "own" and not _is_elsewhere(entry)
        namespace = {"namespace": {self._namespaces: str(sandbox)}} if owned else {}
        return Map({**namespace, **entry}, origin)

    def _mode(self, name: str, service: Map) -> Optional[str]:
        mode = service.get("network_mode")
        if mode is None:
            return None
        if _networks(service):
            self._wrong(name, "network_mode", service, "Both network_mode and networks are given.", "Keep one of them.")
        if mode in _MODES:
            return str(mode) if not isinstance(mode, Text) else mode
        if mode == "default":
            return Text("bridge", mode.origin)
        kind, _colon, other = str(mode).partition(":")
        if kind in ("service", "container") and isinstance(mode, Text):
            return self._shared(name, service, mode, kind, other)
        problem = f"There is no network mode `{str(mode)[:60]}`."
        self._wrong(name, "network_mode", service, problem, f"Write one of {', '.join(_MODES)}, or use networks.")
        return None

    def _shared(self, name: str, service: Map, mode: Text, kind: str, other: str) -> Optional[str]:
        """The mode of a service in the namespace of another's first container, or of a container by its name."""
        services = self._project.services
        owner = other if kind == "service" else next((key for key, own in self._names.items() if other in own), "")
        seen = {str(name)}
        while owner in services and owner not in seen:
            seen.add(str(owner))
            inner = str(services[owner].get("network_mode") or "")
            if inner == "host":
                return Text("host", mode.origin)
            if not inner.startswith("service:"):
                break
            owner = inner.partition(":")[2]
        if owner in services and self._names[owner] and owner != name:
            return Text(f"{SHARES}{self._names[owner][0]}", mode.origin)
        if kind == "container":
            return Text(f"{SHARES}{other}", mode.origin)
        problem = f"There is no other service `{owner[:60]}` with a container."
        self._wrong(name, "network_mode", service, problem, did_you_mean(owner, services))
        return None

    def _endpoints(self, name: str, service: Map, aliases: dict[str, list[Text]]) -> Map:
        networks = _networks(service) or {"default": None}
        origin = origin_of(service.get("networks")) or service.origin
        found: dict[str, Any] = {}
        for key in sorted(networks, key=lambda key: -self._priority(networks[key])):
            if key not in self._project.networks and key != "default":
                where = origin_of(key) or origin
                problem = f"The file has no network `{key[:60]}`."
                self._project.wrong(
                    f"{self._root}.services.{name}.networks.{key}",
                    where,
                    problem,
                    f"Write `networks: {{{key}: }}` in it.",
                )
            network = self._network_name(key)
            options = networks[key] if isinstance(networks[key], Map) else Map({}, origin_of(key) or origin)
            found[Text(network, origin_of(key) or origin)] = self._endpoint(
                name, network, options, aliases.get(str(key), [])
            )
        return Map(found, origin)

    def _endpoint(self, name: str, network: str, options: Map, linked: list[Text]) -> Map:
        found: dict[str, Any] = {}
        for key, value in options.items():
            if key == "priority" or key.startswith("x-"):
                continue
            found[key] = _number(value) if key in _INTEGERS else value
        if network not in _MODES:
            given = found.get("aliases")
            own = [Text(name, origin_of(name) or options.origin)] if self._names[name] != [name] else []
            if given is None or isinstance(given, Seq):
                every = {str(alias): alias for alias in reversed([*own, *(given or ()), *linked])}
                key = next((key for key in options if key == "aliases"), "aliases")
                if every:
                    found.pop("aliases", None)
                    found[key] = Seq(reversed(every.values()), origin_of(given) or options.origin)
        return Map({**found, **_own(options)}, options.origin)

    @staticmethod
    def _priority(options: Any) -> int:
        found = _number(options.get("priority")) if isinstance(options, Map) else 0
        return found if isinstance(found, int) else 0

    def _ports(self, name: str, service: Map) -> Any:
        ports = service.get("ports")
        if not isinstance(ports, Seq):
            return ports
        return Seq([self._port(item) for item in ports], ports.origin)

    @staticmethod
    def _port(item: Any) -> Any:
        if not isinstance(item, Map):
            return item
        # `mode` is Swarm's.
        kept = {key: value for key, value in item.items() if key != "mode" and not key.startswith("x-")}
        return Map(kept, item.origin)

    def _sysctls(self, name: str, service: Map) -> Any:
        sysctls = service.get("sysctls")
        if not isinstance(sysctls, Map):
            return sysctls
        for key in sysctls:
            if not key.startswith("net."):
                self._project.passed_over.setdefault(f"sysctls.{key}", set()).add(name)
        kept = {key: value for key, value in sysctls.items() if key.startswith("net.")}
        return Map(kept, sysctls.origin) if kept else None

    # Links

    def _linked(self, services: dict[str, Map]) -> dict[str, dict[str, list[Text]]]:
        """{service: {network: aliases}} that links of others give it.

        Docker tells a link's name to who has the link alone; here it is the name for all on their networks, so it may
        mean one service only.
        """
        found: dict[str, dict[str, list[Text]]] = {}
        meant: dict[tuple[str, str], str] = {}
        for name, service in services.items():
            links = service.get("links")
            for link in links if isinstance(links, Seq) else ():
                target, _colon, alias = str(link).partition(":")
                origin = origin_of(link) or service.origin
                if target not in services:
                    problem = f"There is no service `{target[:60]}`."
                    self._project.wrong(f"{self._root}.services.{name}.links", origin, problem, "Leave the link out.")
                    continue
                mine = _networks(service) or {"default": None}
                common = [key for key in _networks(services[target]) or {"default": None} if key in mine]
                for key in common if alias and alias != target else ():
                    network = str(key)
                    other = meant.setdefault((network, alias), target)
                    if other != target or (alias in services and alias != target):
                        problem = (
                            f"On the network {network} `{alias[:60]}` is {other if other != target else alias}, too."
                        )
                        remedy = "Choose another name: on a network a name is the same for all."
                        self._project.wrong(f"{self._root}.services.{name}.links", origin, problem, remedy)
                        continue
                    found.setdefault(target, {}).setdefault(network, []).append(Text(alias, origin))
            self._external_links(name, service)
        return found

    def _external_links(self, name: str, service: Map) -> None:
        links = service.get("external_links")
        for link in links if isinstance(links, Seq) else ():
            target, _colon, alias = str(link).partition(":")
            if alias and alias != target:
                problem = "A container of elsewhere cannot be given another name here."
                remedy = f"Write `{target[:60]}` alone, and the name among the aliases where that one is declared."
                origin = origin_of(link) or service.origin
                self._project.wrong(f"{self._root}.services.{name}.external_links", origin, problem, remedy)

    # Notes

    def _no_effect(self, name: str, service: Map, keys: Collection[str]) -> None:
        for key in service:
            if key in keys and service[key]:
                self._entries.without_effect.setdefault(str(key), set()).add(name)

    def _wrong(self, name: str, key: str, service: Map, problem: str, remedy: str = "") -> None:
        origin = origin_of(service.get(key)) or origin_of(_key(service, key)) or service.origin
        self._project.wrong(f"{self._root}.services.{name}.{key}", origin, problem, remedy)


def _is_elsewhere(entry: dict[str, Any]) -> bool:
    """Whether a sandbox is in the namespace of the host or of another one."""
    mode = str(entry.get("network_mode") or "")
    return mode == "host" or mode.startswith(SHARES)


def _networks(service: Map) -> dict[str, Any]:
    found = service.get("networks")
    return found if isinstance(found, Map) else {}


def _is_external(entry: Any) -> bool:
    external = entry.get("external")
    return isinstance(external, Map) or str(external).lower() in ("true", "yes")


def _key(mapping: Map, key: str) -> str:
    """The mapping's own key, which knows its line."""
    return next((own for own in mapping if own == key), key)


def _keyed(mapping: Map, key: str, value: Any) -> dict[str, Any]:
    return {_key(mapping, key): value}


def _own(entry: Any) -> dict[str, Any]:
    """``x-cnm``: keys of ours that Compose has no words for."""
    found = entry.get("x-cnm")
    return dict(found) if isinstance(found, Map) else {}


def _number(value: Any) -> Any:
    """A number that interpolation has made text, as the number."""
    if isinstance(value, Text) and value.lstrip("-").isdigit() and value.isascii() and len(value) < 12:
        return Number(int(value), value.origin)
    return value
