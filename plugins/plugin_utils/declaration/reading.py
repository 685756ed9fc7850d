# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: cnm.fabric contributors
"""Reads the ``cnm_`` variables of all hosts: a `Topology`, or all errors in them.

Most hosts have the same entries, so each distinct entry is read once and its result is shared.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, Optional, Union

from ...module_utils.plan.records import dataclass
from .cross_checks import Draft, check, same_store
from .driver import DriverError, Drivers
from .egress import with_egress
from .errors import DeclarationError, NothingDeclared, ValidationError, VarPath, gather, word
from .ingress import INGRESS, ingress_network, ingress_ports, ingress_sandbox
from .keys import did_you_mean, flow
from .module_objects import ModuleState, connected, kind_of, path_of
from .names import OBJECT
from .networks import predefined_bridge, read_network, with_traits
from .options import read_options
from .placement import check_hostnames
from .policies import read_address_set, read_policy
from .policy_checks import check_policies
from .ports import with_address_sets
from .published import chosen_ports
from .sandboxes import read_sandbox
from .schema import ENTRIES, HOSTS, OF_CONNECTIONS, OF_PLAYBOOKS, SETTINGS
from .service_checks import check_services
from .services import of_host, read_service
from .settings import read_settings
from .topology import AddressSet, Host, LeaseStore, Network, Policy, Port, Sandbox, Service, Settings, Topology
from .validation import fit, plain, plain_key, plain_name

_PREFIX = "cnm_"
_EXAMPLES = {
    "cnm_networks": ("ps-bridge", "{driver: bridge}"),
    "cnm_sandboxes": ("c1", "{networks: [ps-bridge]}"),
    "cnm_services": ("web", "{networks: [ps-overlay]}"),
    "cnm_policies": ("web", "{ingress: [{action: allow, from: [{network: front}]}]}"),
    "cnm_address_sets": ("office", "[192.0.2.0/24]"),
}
"""An entry of each kind: its name, and what could stand there."""

_NOUNS = {
    "cnm_networks": "network",
    "cnm_sandboxes": "sandbox",
    "cnm_services": "service",
    "cnm_policies": "policy",
}

Declared = Union[Network, Sandbox, Service, Policy, AddressSet]

DEFAULT_OPTS = "cnm_default_network_opts"

_ADDRESSING = ("driver", "subnet", "ipam", "enable_ipv4", "enable_ipv6")


def read_topology(
    variables: Mapping[str, Mapping[str, Any]],
    groups: Optional[Mapping[str, Sequence[str]]] = None,
    module_state: Optional[Mapping[str, ModuleState]] = None,
    *,
    drivers: Drivers,
) -> Topology:
    """Read and validate what every host of the topology declares.

    ``variables`` is {inventory host: its templated variables whose names begin with ``cnm_``}, ``groups`` {inventory
    group: its hosts}, ``module_state`` what modules made on hosts, settled beside these variables, ``drivers`` those
    there are.  Raises `DeclarationError` with every error of every host, or `NothingDeclared`.
    """
    reader = _Reader(drivers, _topology_hosts(variables, groups), groups or {}, module_state or {})
    drafts = [
        reader.host(plain_name(host), {plain_name(name): value for name, value in variables[host].items()})
        for host in sorted(variables)
    ]
    drafts = _with_ingress(drafts, drivers)
    errors = gather(
        [
            *reader.found,
            *check(drafts, drivers),
            *check_services(drafts),
            *check_policies([draft.host for draft in drafts], complete=groups is not None),
        ]
    )
    if errors:
        raise DeclarationError(errors)
    if not reader.declared:
        raise NothingDeclared(variables)
    return Topology(hosts=tuple(draft.host for draft in drafts))


def _with_ingress(drafts: Sequence[Draft], drivers: Drivers) -> list[Draft]:
    """Every host with its part in the ingress mesh, once a service publishes a port there.

    With ``cnm_ingress_mode: local`` there is no mesh: a host's ports lead to its own tasks.
    """
    services = {service.name: service for draft in reversed(drafts) for service in draft.host.services}
    ports = ingress_ports(services.values())
    return [
        _connected_to_ingress(draft, ports, drivers) if ports and draft.host.settings.ingress_mode == "snat" else draft
        for draft in drafts
    ]


def _connected_to_ingress(draft: Draft, ports: Sequence[Port], drivers: Drivers) -> Draft:
    host = draft.host
    networks = {**draft.networks, INGRESS: with_traits(ingress_network(draft.networks), drivers)}
    sandboxes = [*host.sandboxes, ingress_sandbox(host.name, ports)]
    found, connected = with_egress(networks, sandboxes, host.settings.project, drivers)
    complete = replace(host, networks=tuple(network for _key, network in sorted(found.items())), sandboxes=connected)
    return Draft(complete, frozenset({*draft.declared, *found}), draft.broken)


def _topology_hosts(
    variables: Mapping[str, Any], groups: Optional[Mapping[str, Sequence[str]]]
) -> Optional[frozenset[str]]:
    """Hosts and groups that a service's placement may name; None if the groups are not known."""
    return None if groups is None else frozenset((*variables, *groups))


@dataclass(frozen=True)
class _Reading:
    """The result of one entry: the object (None if it cannot be read), and its errors.

    It is ``is_valid`` if what it says of addresses is right, even if it is not there yet.
    """

    result: Optional[Declared]
    is_valid: bool
    errors: tuple[ValidationError, ...]


class _Reader:
    """Reads host after host; collects ``found`` as (host, error), and whether anything is ``declared`` at all."""

    def __init__(
        self,
        drivers: Drivers,
        known_hosts: Optional[frozenset[str]],
        groups: Mapping[str, Sequence[str]],
        module_state: Mapping[str, ModuleState],
    ) -> None:
        self.found: list[tuple[str, ValidationError]] = []
        self.declared = False
        self._drivers = drivers
        self._known_hosts = known_hosts
        self._groups = groups
        self._module_state = module_state
        self._readings: dict[tuple[str, str, str, str], _Reading] = {}
        self._fitting: set[tuple[str, str]] = set()

    def host(self, name: str, variables: Mapping[str, Any]) -> Draft:
        """Read one host's variables."""
        errors: list[ValidationError] = []
        module_state = self._module_state.get(name, ModuleState())
        declared, again = self._entries(variables, errors)
        for kind, key, variable, raw in again:
            errors.extend(self._entry(kind, key, variable, raw).errors)
        settings = _settings(variables, errors)
        entries = _with_module_state(declared, module_state)
        entries["cnm_networks"] = self._with_default_opts(entries["cnm_networks"], variables, errors)
        readings = {
            kind: {key: self._entry(kind, key, variable, raw) for key, (variable, raw) in entries[kind].items()}
            for kind in ENTRIES
        }
        for reading in (reading for group in readings.values() for reading in group.values()):
            errors.extend(reading.errors)
        networks = readings["cnm_networks"]
        sandboxes = tuple(
            replace(reading.result, host=name)
            for _key, reading in sorted(readings["cnm_sandboxes"].items())
            if isinstance(reading.result, Sandbox)
        )
        sandboxes = chosen_ports(sandboxes, errors)
        self.found.extend((name, error) for error in errors)
        found = {
            key: replace(reading.result, standing=True) if key in module_state.networks else reading.result
            for key, reading in networks.items()
            if isinstance(reading.result, Network)
        }
        if any(endpoint.network == "bridge" for sandbox in sandboxes for endpoint in sandbox.endpoints):
            found.setdefault("bridge", predefined_bridge(self._drivers))
        found, sandboxes = with_egress(found, sandboxes, settings.project, self._drivers)
        services = tuple(
            of_host(reading.result, name) if key in module_state.services else reading.result
            for key, reading in sorted(readings["cnm_services"].items())
            if isinstance(reading.result, Service)
        )
        sets = {
            key: reading.result.prefixes
            for key, reading in readings["cnm_address_sets"].items()
            if isinstance(reading.result, AddressSet)
        }
        unknown: list[ValidationError] = []
        sandboxes = tuple(replace(box, ports=with_address_sets(box.ports, sets, unknown)) for box in sandboxes)
        services = tuple(replace(item, ports=with_address_sets(item.ports, sets, unknown)) for item in services)
        self.found.extend((name, error) for error in unknown)
        host = Host(
            name,
            settings,
            tuple(network for _key, network in sorted(found.items())),
            sandboxes,
            services,
            tuple(each.result for each in readings["cnm_policies"].values() if isinstance(each.result, Policy)),
            tuple(each.result for each in readings["cnm_address_sets"].values() if isinstance(each.result, AddressSet)),
        )
        broken = frozenset(key for key, reading in networks.items() if not reading.is_valid)
        return Draft(host, frozenset({*networks, *found}), broken)

    def _with_default_opts(
        self, networks: Mapping[str, tuple[str, Any]], variables: Mapping[str, Any], errors: list[ValidationError]
    ) -> dict[str, tuple[str, Any]]:
        """Networks with the options that ``cnm_default_network_opts`` has for their drivers where they say nothing.

        As in Docker, the predefined bridge has none of them.
        """
        given = variables.get(DEFAULT_OPTS)
        if not given:
            return dict(networks)
        noted: list[ValidationError] = []
        defaults = {}
        for name, options in given.items() if isinstance(given, Mapping) else ():
            path = VarPath(DEFAULT_OPTS, noted) / plain_name(str(name))
            try:
                driver = self._drivers.find(plain_name(str(name)))
            except DriverError as error:
                path.wrong(error.problem, error.remedy)
                continue
            value = plain(options, path)
            if isinstance(value, dict) and all(isinstance(item, (str, int)) for item in value.values()):
                defaults[driver.name] = value
                read_options(value, driver, self._drivers, path)
        errors.extend(noted)
        return {key: (found[0], _defaulted(key, found[1], defaults)) for key, found in networks.items()}

    def _entries(
        self, variables: Mapping[str, Any], errors: list[ValidationError]
    ) -> tuple[dict[str, dict[str, tuple[str, Any]]], list[tuple[str, str, str, Any]]]:
        """``cnm_networks`` and all ``cnm_networks_SUFFIX``, and so on → {kind: {name: (variable, raw value)}}.

        Beside it (kind, name, variable, raw value) of entries whose name another one has: they may be wrong, too.
        """
        merged: dict[str, dict[str, tuple[str, Any]]] = {kind: {} for kind in ENTRIES}
        again: list[tuple[str, str, str, Any]] = []
        for variable in sorted(variables):
            kind = kind_of(variable)
            value = variables[variable]
            if kind is None or value is None:
                continue
            self.declared = True
            if not isinstance(value, Mapping):
                VarPath(variable, errors).wrong(
                    f"This must be a mapping whose keys are names of {kind.removeprefix(_PREFIX)}.",
                    f"Write the names as keys: `{variable}: {{{_as_key(value, kind)}}}`.",
                    value,
                )
                continue
            above = ""
            for raw_key, entry in value.items():
                key = plain_key(raw_key, VarPath(variable, errors))
                above = key if entry is None else above
                if above and _belongs_above(key, entry, kind):
                    (VarPath(variable, errors) / key).wrong(
                        f"`{key}` is a key of a {_NOUNS[kind]}, but stands here as the name of one.",
                        f"Is it a key of `{word(above)}`? Indent it further.",
                    )
                elif key in merged[kind]:
                    (VarPath(variable, errors) / key).wrong(
                        f"`{key[:63]}` is declared in {merged[kind][key][0]} and in {variable}.",
                        "Keep one of them, or rename one.",
                    )
                    again.append((kind, key, variable, entry))
                else:
                    merged[kind][key] = (variable, entry)
        return merged, again

    def _entry(self, kind: str, key: str, variable: str, raw: Any) -> _Reading:
        errors: list[ValidationError] = []
        path = VarPath(variable, errors) / key if kind_of(variable) else VarPath(variable, errors)
        value = plain({} if raw is None else raw, path)
        if errors:
            return self._read(kind, key, value, path)
        text = json.dumps(value)
        identity = (kind, variable, key, text)
        if identity not in self._readings:
            self._readings[identity] = self._read(kind, key, value, path, (kind, text) in self._fitting)
            if not self._readings[identity].errors:
                self._fitting.add((kind, text))
        return self._readings[identity]

    def _read(self, kind: str, key: str, raw: Any, path: VarPath, fits: bool = False) -> _Reading:
        if _is_of_networks(raw) and "networks" in ENTRIES[kind].get("properties", {}):
            names = [raw] if isinstance(raw, str) else raw
            path.wrong(
                f"This must be {ENTRIES[kind]['title']}; it is {'text' if isinstance(raw, str) else 'a list'}.",
                f"Write `{word(key)}: {{networks: {flow(names, key)}}}`.",
                raw,
            )
            return _Reading(None, False, tuple(path.errors))
        value = raw if fits else fit(raw, ENTRIES[kind], path)
        if value is None:
            return _Reading(None, False, tuple(path.errors))
        result: Optional[Declared] = None
        if kind == "cnm_networks":
            result = read_network(key, value, self._drivers, path)
        elif kind == "cnm_sandboxes":
            result = read_sandbox(key, value, path)
        elif kind == "cnm_policies":
            result = read_policy(key, value, path)
        elif kind == "cnm_address_sets":
            result = read_address_set(key, value, path)
        else:
            result = self._placed(read_service(key, value, path))
            self._check_placement(value, path)
        is_valid = not any((path / key).is_wrong for key in _ADDRESSING)
        return _Reading(result, is_valid, tuple(path.errors))

    def _placed(self, service: Service) -> Service:
        """The service with hosts in place of the groups it names."""
        placement = service.placement
        if placement.hosts is None:
            return service
        named = [host for name in placement.hosts for host in self._groups.get(name, (name,))]
        return replace(service, placement=replace(placement, hosts=tuple(sorted(set(named)))))

    def _check_placement(self, service: Mapping[str, Any], path: VarPath) -> None:
        placement = (service.get("deploy") or {}).get("placement") or {}
        spot = path / "deploy" / "placement"
        every = None if self._known_hosts is None else self._known_hosts - self._groups.keys()
        check_hostnames(placement.get("constraints"), every, spot / "constraints")
        for index, name in enumerate(placement.get("hosts") or ()):
            if self._known_hosts is not None and name is not None and name not in self._known_hosts:
                there = name in self._groups.get("all", ())
                (spot / "hosts" / index).wrong(
                    f"This host is in the inventory, but not in the topology ({HOSTS})."
                    if there
                    else f"There is no such host or group in the topology ({HOSTS}).",
                    f"Add it to {HOSTS}, or name other hosts."
                    if there
                    else did_you_mean(name, self._known_hosts, "Name hosts or groups of the inventory."),
                    name,
                )


def _belongs_above(key: str, entry: Any, kind: str) -> bool:
    """Whether what stands as an entry's name and value is a key of an entry, with what is no entry."""
    known = ENTRIES[kind].get("properties", {})
    if key not in known or entry is None:
        return False
    return not isinstance(entry, Mapping) or not (entry.keys() & known.keys() or not entry)


def _is_of_networks(raw: Any) -> bool:
    """Whether in place of an entry there is the name of a network, or some."""
    names = raw if isinstance(raw, list) else [raw]
    return bool(names) and all(
        isinstance(name, str) and len(name) <= OBJECT.longest and OBJECT.pattern.fullmatch(name) for name in names
    )


def _defaulted(key: str, raw: Any, defaults: Mapping[str, Mapping[str, Any]]) -> Any:
    """A network's raw value with default options; as it is if it has none, or cannot be read."""
    entry = {} if raw is None else raw
    if key == "bridge" or not defaults or not isinstance(entry, Mapping):
        return raw
    own, options = entry.get("driver_opts") or {}, defaults.get(str(entry.get("driver") or "bridge"), {})
    return {**entry, "driver_opts": {**options, **own}} if options and isinstance(own, Mapping) else raw


def _as_key(value: Any, kind: str) -> str:
    """What should have been a mapping from names, as one: with the first name in it, else one that would do."""
    first = next(iter(value), None) if isinstance(value, (list, tuple)) else value
    found = first.get("name") if isinstance(first, Mapping) else first
    name, settings = _EXAMPLES[kind]
    if isinstance(found, str) and len(found) <= OBJECT.longest and OBJECT.pattern.fullmatch(found):
        name = plain_name(found)
    return f"{name}: {settings}"


def _with_module_state(
    entries: Mapping[str, Mapping[str, tuple[str, Any]]], module_state: ModuleState
) -> dict[str, dict[str, tuple[str, Any]]]:
    """What the variables declare and what modules made: {kind: {name: (variable or place, raw value)}}."""
    result = {
        kind: {**{name: (path_of(kind, name), raw) for name, raw in module_state.of(kind).items()}, **group}
        for kind, group in entries.items()
    }
    for name, edits in module_state.endpoints.items():
        if name in result["cnm_sandboxes"]:
            variable, raw = result["cnm_sandboxes"][name]
            result["cnm_sandboxes"][name] = (variable, connected(raw, edits))
    return result


def _settings(variables: Mapping[str, Any], errors: list[ValidationError]) -> Settings:
    """Read the settings among the variables; an unknown ``cnm_`` variable is noted."""
    known: dict[str, Any] = SETTINGS["properties"]
    path = VarPath("", errors)
    raw = {}
    for variable in sorted(variables):
        if variable in known:
            raw[variable] = variables[variable]
        elif (
            variable.startswith(_PREFIX)
            and kind_of(variable) is None
            and variable not in (*OF_PLAYBOOKS, *OF_CONNECTIONS)
        ):
            (path / variable).wrong(
                "There is no such variable.",
                did_you_mean(variable, (*known, *ENTRIES), "Names that begin with cnm_ are the collection's own."),
            )
    value = fit({variable: plain(item, path / variable) for variable, item in raw.items()}, SETTINGS, path)
    return read_settings(value, path)


def read_all_settings(variables: Mapping[str, Mapping[str, Any]]) -> dict[str, Settings]:
    """The settings of all hosts, which have one lease store in common.  Raises DeclarationError."""
    found: dict[str, Settings] = {}
    errors: list[tuple[str, ValidationError]] = []
    for host, own in variables.items():
        noted: list[ValidationError] = []
        found[host] = _settings({plain_name(name): value for name, value in own.items()}, noted)
        errors += [(host, error) for error in noted]
    errors += same_store(found)
    if errors:
        raise DeclarationError(gather(errors))
    return found


def read_other_store(url: Any, options: Any) -> LeaseStore:
    """The store that ``cnm_leases_to`` and ``cnm_leases_to_options`` name.  Raises DeclarationError."""
    errors: list[ValidationError] = []
    found = _settings({"cnm_leases": url, "cnm_leases_options": options}, errors)
    if errors:
        raise DeclarationError(
            replace(error, path=error.path.replace("cnm_leases", "cnm_leases_to", 1)) for error in errors
        )
    return found.leases
