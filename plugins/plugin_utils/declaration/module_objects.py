# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: cnm.fabric contributors
"""Objects that the modules network, sandbox, endpoint and service made on a host, beside those declared there.  Pure.

A host's plan contains both, in the format of the variables.  A plan's JSON sorts its keys, so mappings whose
order counts (a sandbox's networks are eth0, eth1, …) are kept as lists of pairs: that is what `packed` is for.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import field, replace
from typing import Any, Optional

from ...module_utils.plan.constants import LINK_PREFIX, SHARES
from ...module_utils.plan.records import dataclass
from .errors import DeclarationError, ValidationError, VarPath
from .schema import ENTRIES
from .topology import Host, Sandbox, Topology, link_names
from .validation import plain

NETWORKS, SANDBOXES, SERVICES = "cnm_networks", "cnm_sandboxes", "cnm_services"
ADDRESS_SETS = "cnm_address_sets"
"""The declaration whose entries are lists."""
KEPT_SETTINGS = (
    "cnm_boot",
    "cnm_default_address_pools",
    "cnm_default_network_opts",
    "cnm_docker_user",
    "cnm_domain",
    "cnm_host_names",
    "cnm_lan_names",
    "cnm_ingress_mode",
    "cnm_keep_keys",
    "cnm_load_balancer",
    "cnm_node_labels",
    "cnm_project",
    "cnm_underlay_address",
)
"""Settings that one host's plan follows from; none of them is secret."""
OF_STORE = ("cnm_leases", "cnm_leases_options")
"""Settings that name the lease store; a host never gets to know them."""

Edits = Mapping[str, Optional[Mapping[str, Any]]]
"""Networks a sandbox was connected to, with the endpoint's options, and (None) those it was disconnected from."""

_MODULES = {NETWORKS: "network", SANDBOXES: "sandbox", SERVICES: "service"}
_ORDERED = (SANDBOXES, SERVICES)
"""Whose entries have networks in an order that counts."""


def kind_of(variable: str) -> Optional[str]:
    """``cnm_networks`` for ``cnm_networks`` and ``cnm_networks_lab``, and so on; None for any other variable."""
    for kind in ENTRIES:
        if variable == kind or (variable.startswith(f"{kind}_") and len(variable) > len(kind) + 1):
            return kind
    return None


def path_of(kind: str, name: str) -> str:
    """Where something a module made is said to stand: ``cnm.fabric.network(lab)``."""
    return f"cnm.fabric.{_MODULES[kind]}({name})"


@dataclass(frozen=True)
class ModuleState:
    """What modules made on one host, as it was given to them."""

    networks: Mapping[str, Any] = field(default_factory=dict)
    sandboxes: Mapping[str, Any] = field(default_factory=dict)
    endpoints: Mapping[str, Edits] = field(default_factory=dict)
    services: Mapping[str, Any] = field(default_factory=dict)

    @classmethod
    def unpacked(cls, data: Mapping[str, Any]) -> ModuleState:
        """Read the section ``module_state`` of a plan."""
        return cls(
            data.get(NETWORKS, {}),
            {name: _unpacked_sandbox(entry) for name, entry in data.get(SANDBOXES, {}).items()},
            {name: dict(pairs) for name, pairs in data.get("endpoints", {}).items()},
            {name: _unpacked_sandbox(entry) for name, entry in data.get(SERVICES, {}).items()},
        )

    def packed(self) -> dict[str, Any]:
        """The section ``module_state`` of a plan; empty if there is nothing to keep."""
        sections = {
            NETWORKS: dict(self.networks),
            SANDBOXES: {name: _packed_sandbox(entry) for name, entry in self.sandboxes.items()},
            "endpoints": {
                name: [list(pair) for pair in edits.items()] for name, edits in self.endpoints.items() if edits
            },
            SERVICES: {name: _packed_sandbox(entry) for name, entry in self.services.items()},
        }
        return _plain({name: section for name, section in sections.items() if section})

    def of(self, kind: str) -> Mapping[str, Any]:
        """The entries of ``cnm_networks``, ``cnm_sandboxes`` or ``cnm_services``."""
        return {NETWORKS: self.networks, SANDBOXES: self.sandboxes, SERVICES: self.services}.get(kind, {})


def pack_declared(variables: Mapping[str, Any]) -> dict[str, Any]:
    """The section ``declared`` of a plan: what of a host's variables the plan follows from, as plain data."""
    result: dict[str, Any] = {}
    for variable, value in sorted((str(name), value) for name, value in variables.items()):
        kind = kind_of(variable)
        if kind in _ORDERED and value:
            result[variable] = {name: _packed_sandbox(entry) for name, entry in value.items()}
        elif kind is not None and value:
            result[variable] = dict(value)
        elif variable in KEPT_SETTINGS and value is not None:
            result[variable] = value
    return _plain(result)


def unpack_declared(data: Mapping[str, Any]) -> dict[str, Any]:
    """The variables of a section ``declared``."""
    return {
        variable: {name: _unpacked_sandbox(entry) for name, entry in value.items()}
        if kind_of(variable) in _ORDERED
        else value
        for variable, value in data.items()
    }


def _plain(value: dict[str, Any]) -> dict[str, Any]:
    """The same in builtin types.  What has none was refused before anything is kept."""
    result: dict[str, Any] = plain(value, VarPath("", []))
    return result


def _packed_sandbox(entry: Any) -> Any:
    networks = entry.get("networks") if isinstance(entry, Mapping) else None
    if not isinstance(networks, Mapping):
        return {} if entry is None else entry
    return {**entry, "networks": [[name, options] for name, options in networks.items()]}


def _unpacked_sandbox(entry: Any) -> Any:
    networks = entry.get("networks")
    if not networks or not isinstance(networks[0], list):
        return entry
    return {**entry, "networks": dict(networks)}


def declared_entries(variables: Mapping[str, Any], kind: str) -> dict[str, Any]:
    """Names that the variables of that kind declare, with what they say."""
    return {
        str(name): entry
        for variable, value in variables.items()
        if kind_of(str(variable)) == kind and isinstance(value, Mapping)
        for name, entry in value.items()
    }


def own_networks(entry: Any) -> Optional[dict[str, Any]]:
    """The networks a sandbox's own entry puts it on, with the endpoints' options; None if that cannot be read.

    One of another ``network_mode`` than bridge is on no network; one that says nothing is on the predefined ``bridge``.
    """
    entry = {} if entry is None else entry
    if not isinstance(entry, Mapping):
        return None
    networks = entry.get("networks")
    mode = mode_of(entry)
    if mode is not None and (mode in ("host", "none") or mode.startswith(SHARES)):
        return {}
    if not networks:
        return {"bridge": None}
    if isinstance(networks, Mapping):
        return {str(name): options for name, options in networks.items()}
    if isinstance(networks, (list, tuple)) and all(isinstance(name, str) for name in networks):
        return dict.fromkeys(networks)
    return None


def mode_of(entry: Mapping[str, Any]) -> Optional[str]:
    """``host`` or ``none`` (or whatever it says) for a sandbox that is on no network by its own entry."""
    networks = entry.get("networks")
    if networks:
        return networks[0] if networks in (["host"], ["none"]) else None
    mode = entry.get("network_mode")
    return None if mode is None or mode == "bridge" else str(mode)


def settle(module_state: ModuleState, variables: Mapping[str, Any]) -> ModuleState:
    """What of it still counts beside the variables: what these declare under the same name is theirs from now on."""
    networks, sandboxes, services = (declared_entries(variables, kind) for kind in (NETWORKS, SANDBOXES, SERVICES))
    left = replace(
        module_state,
        networks={name: entry for name, entry in module_state.networks.items() if name not in networks},
        sandboxes={name: entry for name, entry in module_state.sandboxes.items() if name not in sandboxes},
        services={name: entry for name, entry in module_state.services.items() if name not in services},
    )
    every = {**left.sandboxes, **sandboxes}
    endpoints = {}
    for name, edits in module_state.endpoints.items():
        own = own_networks(every[name]) if name in every else {}
        counting = {net: edit for net, edit in edits.items() if own is None or (edit is None) == (net in own)}
        if counting and name in every:
            endpoints[name] = counting
    return replace(left, endpoints=endpoints)


def connected(entry: Any, edits: Edits) -> Any:
    """A sandbox's entry with the networks that it was connected to."""
    more = {network: options for network, options in edits.items() if options is not None}
    own = own_networks(entry)
    if not more or own is None:
        return entry
    entry = {} if entry is None else entry
    rest = {key: value for key, value in entry.items() if (key, value) != ("network_mode", "bridge")}
    return {**rest, "networks": {**own, **more}}


def disconnect(topology: Topology, module_state: Mapping[str, ModuleState]) -> Topology:
    """The topology without the endpoints that were disconnected; the others' links keep their names."""
    return Topology(tuple(_disconnected(host, module_state.get(host.name, ModuleState())) for host in topology.hosts))


def _disconnected(host: Host, module_state: ModuleState) -> Host:
    sandboxes = []
    for sandbox in host.sandboxes:
        gone = {network for network, edit in module_state.endpoints.get(sandbox.name, {}).items() if edit is None}
        sandboxes.append(_without(host, sandbox, gone) if gone else sandbox)
    return replace(host, sandboxes=tuple(sandboxes))


def _without(host: Host, sandbox: Sandbox, gone: set[str]) -> Sandbox:
    networks = [host.network(endpoint.network) for endpoint in sandbox.endpoints]
    links = link_names(
        (endpoint.interface_name, network.link_prefix if network else LINK_PREFIX)
        for endpoint, network in zip(sandbox.endpoints, networks)
    )
    names = dict(zip((endpoint.network for endpoint in sandbox.endpoints), links))
    left = tuple(
        replace(endpoint, interface_name=names[endpoint.network])
        for endpoint in sandbox.endpoints
        if endpoint.network not in gone
    )
    mode = sandbox.network_mode if left or not sandbox.endpoints else "none"
    return replace(sandbox, endpoints=left, network_mode=mode)


def explained(error: DeclarationError, module_state: Mapping[str, ModuleState]) -> DeclarationError:
    """The errors, with how to be rid of what a module made where one is about that."""
    return DeclarationError(
        replace(item, remedy=" ".join(part for part in (item.remedy, *_removal_hints(item, module_state)) if part))
        for item in error.errors
    )


def _removal_hints(error: ValidationError, module_state: Mapping[str, ModuleState]) -> Iterable[str]:
    for host in error.hosts:
        yield from module_removal_hint(f"{error.path} {error.problem}", host, module_state.get(host, ModuleState()))


def module_removal_hint(text: str, host: str, module_state: ModuleState) -> list[str]:
    """Sentences about what a text names and a module made: how to remove it."""
    result = []
    for kind, module in _MODULES.items():
        for name in sorted(module_state.of(kind)):
            if path_of(kind, name) in text:
                call = _call(host, module, f"name={name} state=absent")
                result.append(f"The {module} `{name}` was made by the module cnm.fabric.{module}: {call} removes it.")
    for sandbox, edits in sorted(module_state.endpoints.items()):
        for network in edits:
            if re.search(rf"[.(]{re.escape(sandbox)}\)?\.networks\.{re.escape(network)}(?![\w-])", text):
                call = _call(host, "endpoint", f"network={network} sandbox={sandbox} state=absent")
                result.append(
                    f"`{sandbox}` was connected to `{network}` by the module cnm.fabric.endpoint: {call} ends it."
                )
    return result


def _call(host: str, module: str, arguments: str) -> str:
    return f"`ansible {host} -m cnm.fabric.{module} -a '{arguments}'`"
