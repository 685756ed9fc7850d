# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: cnm.fabric contributors
"""Edits of one host's module objects, for calls of the modules network, sandbox, endpoint and service.  Pure.

Each function in `EDITS` takes a call and the host's model and returns the module objects after it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from typing import Any, Optional

from ...module_utils.plan.records import dataclass
from ..declaration.egress import EGRESS
from ..declaration.errors import DeclarationError, ValidationError, word
from ..declaration.ingress import INGRESS
from ..declaration.ingress import SANDBOX as INGRESS_SANDBOX
from ..declaration.keys import did_you_mean
from ..declaration.module_objects import (
    KEPT_SETTINGS,
    NETWORKS,
    OF_STORE,
    SANDBOXES,
    SERVICES,
    ModuleState,
    connected,
    declared_entries,
    disconnect,
    kind_of,
    mode_of,
    own_networks,
    path_of,
    settle,
    unpack_declared,
)
from ..declaration.schema import ENDPOINT, NETWORK, SANDBOX, SERVICE
from ..declaration.services import of_host
from ..declaration.topology import PREDEFINED, Endpoint, Host, Sandbox, Service
from ..facts import Facts
from ..ipam.addresses import networks_in_use
from ..services.placement import is_of_one_host
from .reading import read_topology

COMMON = ("state", "project", "lock_timeout")
OPTIONS: dict[str, tuple[str, ...]] = {
    "network": ("name", *NETWORK["properties"]),
    "sandbox": ("name", *SANDBOX["properties"]),
    "endpoint": ("network", "sandbox", *ENDPOINT["properties"]),
    "service": ("name", *SERVICE["properties"]),
}


class Refusal(Exception):
    """The call cannot be carried out; the message says why, and what to do."""


class Missing(Refusal):
    """An object that the call needs does not exist; in check mode an earlier task may be the one that creates it."""


@dataclass(frozen=True)
class Call:
    """One call of a module; ``options`` are those that were given, including names."""

    module: str
    host: str
    options: Mapping[str, Any]
    absent: bool = False

    @property
    def label(self) -> str:
        """The object's name, or for an endpoint ``c1/lab``."""
        if self.module == "endpoint":
            return f"{self.options['sandbox']}/{self.options['network']}"
        return str(self.options["name"])

    @property
    def entry(self) -> dict[str, Any]:
        """The options as an entry of the variables."""
        names = ("network", "sandbox") if self.module == "endpoint" else ("name",)
        return {key: value for key, value in self.options.items() if key not in names and value is not None}


@dataclass(frozen=True)
class HostModel:
    """The variables of the host's present plan, and the objects that modules made there."""

    name: str
    declared: Mapping[str, Any]
    module_state: ModuleState
    host: Host

    @classmethod
    def of(cls, name: str, facts: Facts, current: Mapping[str, Any]) -> HostModel:
        """From what the host keeps; ``current`` are the settings as they are in the inventory now.

        Raises Refusal if the host has networks or sandboxes whose declaration it does not keep.
        """
        kept = unpack_declared(facts.declared) or {key: current[key] for key in KEPT_SETTINGS if key in current}
        settings = {key: current[key] for key in ("cnm_project", *OF_STORE) if key in current}
        declared = {NETWORKS: {}, **kept, **settings}
        module_state = settle(ModuleState.unpacked(facts.module_state), declared)
        known = cls(name, declared, module_state, _read(name, declared, module_state))
        planned = {*facts.model.get("sandboxes", ()), *(item["Name"] for item in facts.model.get("networks", ()))}
        tasks = {task for entry in facts.model.get("services", {}).values() for task in entry["tasks"]}
        ours = {*known.names(NETWORKS), *known.names(SANDBOXES), *PREDEFINED, EGRESS, INGRESS, INGRESS_SANDBOX}
        forgotten = planned - ours - tasks
        if forgotten:
            raise Refusal(
                f"this host's networks and sandboxes ({', '.join(sorted(forgotten))}) were made by a version that did "
                "not record their variables: run cnm.fabric.site once"
            )
        return known

    def with_(self, module_state: ModuleState) -> HostModel:
        """The same host with other module objects."""
        module_state = settle(module_state, self.declared)
        return replace(self, module_state=module_state, host=_read(self.name, self.declared, module_state))

    def names(self, kind: str) -> dict[str, Any]:
        """All networks or sandboxes of the host with their own entries."""
        return {**self.module_state.of(kind), **declared_entries(self.declared, kind)}

    def declares(self, kind: str, name: str) -> Optional[str]:
        """The variable that declares it in the inventory, or None."""
        for variable, value in self.declared.items():
            if kind_of(variable) == kind and name in value:
                return f"{variable}.{word(name)}"
        return None

    def without(self, kind: str, name: str) -> dict[str, Any]:
        """The declared variables without that entry."""
        return {
            variable: {key: entry for key, entry in value.items() if key != name}
            if kind_of(variable) == kind
            else value
            for variable, value in self.declared.items()
        }

    def sandbox(self, name: str) -> Optional[Sandbox]:
        """The sandbox of that name."""
        return _sandbox(self.host, name)

    def naming(self, network: str) -> list[str]:
        """Services whose declarations name a network."""
        return sorted(name for name, entry in self.names(SERVICES).items() if network in (own_networks(entry) or ()))


def _read(name: str, declared: Mapping[str, Any], module_state: ModuleState) -> Host:
    topology = read_topology({name: declared}, None, {name: module_state})
    return disconnect(topology, {name: module_state}).host(name)


def _sandbox(host: Host, name: str) -> Optional[Sandbox]:
    return next((sandbox for sandbox in host.sandboxes if sandbox.name == name), None)


def edit(call: Call, known: HostModel) -> Optional[HostModel]:
    """The host after the call; None if there is nothing to do.  Raises Refusal and DeclarationError."""
    if call.absent and call.options.get("network", call.options.get("name")) in PREDEFINED and call.module == "network":
        raise Refusal(f"name: the network {call.label} is predefined and cannot be removed")
    module_state = EDITS[call.module](call, known)
    if module_state is None:
        return None
    wanted = known.with_(module_state)
    spanning = [
        name
        for name in networks_in_use(wanted.host)
        if (net := wanted.host.network(name)) and net.traits.scope == "global"
    ]
    spanning += [service.name for service in wanted.host.services if not is_of_one_host(service, wanted.host)]
    if spanning:
        raise Refusal(
            f"this host uses networks or services that span hosts ({', '.join(sorted(spanning))}), and modules cannot "
            "plan these yet: declare the change in the inventory and run cnm.fabric.site"
        )
    elsewhere = _hosts_named_by_policies(wanted.host) - {wanted.name}
    if elsewhere:
        raise Refusal(
            f"policies of this host's sandboxes name other hosts ({', '.join(sorted(elsewhere))}), whose addresses "
            "modules do not know: declare the change in the inventory and run cnm.fabric.site"
        )
    return wanted


def _hosts_named_by_policies(host: Host) -> set[str]:
    """The hosts that rules of policies which hold on a host name."""
    held = {name for owner in host.policed for name in owner.policies}
    return {
        peer.name
        for policy in host.policies
        if policy.name in held
        for rule in (*policy.ingress, *policy.egress)
        for peer in rule.peers
        if peer.kind == "host"
    }


def _network(call: Call, known: HostModel) -> Optional[ModuleState]:
    name, entry = str(call.options["name"]), call.entry
    where = known.declares(NETWORKS, name)
    if call.absent:
        if where:
            raise Refusal(f"the network {name} is declared in the inventory ({where}): remove it there")
        return _network_gone(name, known)
    if entry.get("driver") in ("host", "none"):
        raise Refusal(
            f"driver: the network of the driver {entry['driver']} is predefined: set network_mode: {entry['driver']} "
            "in sandboxes instead"
        )
    if name in PREDEFINED and not where:
        raise Refusal(f"name: the network {name} is predefined: set it in the inventory (cnm_networks.{name})")
    if where:
        _as_declared_network(name, entry, where, known)
        return known.module_state
    return replace(known.module_state, networks={**known.module_state.networks, name: entry})


def _without(entries: Mapping[str, Any], name: str) -> dict[str, Any]:
    return {key: entry for key, entry in entries.items() if key != name}


def _network_gone(name: str, known: HostModel) -> Optional[ModuleState]:
    if name not in known.module_state.networks:
        return None
    members = [sandbox.name for sandbox, _endpoint in networks_in_use(known.host).get(name, ())]
    if members:
        raise Refusal(
            f"the network {name} has active endpoints: {', '.join(members)}. Disconnect them first, with "
            "cnm.fabric.endpoint or where they are declared"
        )
    services = known.naming(name)
    if services:
        raise Refusal(f"the network {name} is used by the service {services[0]}: remove or change that first")
    naming = sorted(box for box, entry in known.names(SANDBOXES).items() if name in (own_networks(entry) or ()))
    if naming:
        raise Refusal(
            f"the network {name} is named in the declaration of {', '.join(naming)}, though disconnected: remove it "
            "there first"
        )
    return replace(known.module_state, networks=_without(known.module_state.networks, name))


def _as_declared_network(name: str, entry: Mapping[str, Any], where: str, known: HostModel) -> None:
    """Raise Refusal unless the entry equals the inventory's, and the network is on the host."""
    module_state = ModuleState({name: entry})
    own = _read(known.name, {**known.without(NETWORKS, name), **_no_sandboxes(known)}, module_state).network(name)
    theirs = known.host.network(name)
    if own and theirs and replace(own, standing=False) != theirs:
        raise Refusal(f"the network {name} is declared differently in the inventory ({where}): change it there")
    if name not in networks_in_use(known.host):
        raise Refusal(
            f"the network {name} is declared in the inventory ({where}), and exists on this host only while a sandbox "
            "here uses it: connect one"
        )


def _no_sandboxes(known: HostModel) -> dict[str, Any]:
    return {variable: {} for variable in known.declared if kind_of(variable) == SANDBOXES}


def _sandbox_edit(call: Call, known: HostModel) -> Optional[ModuleState]:
    name, entry = str(call.options["name"]), call.entry
    where = known.declares(SANDBOXES, name)
    if call.absent:
        if where:
            raise Refusal(f"the sandbox {name} is declared in the inventory ({where}): remove it there")
        if name not in known.module_state.sandboxes:
            return None
        return replace(known.module_state, sandboxes=_without(known.module_state.sandboxes, name))
    own = own_networks(entry)
    _require_networks("networks", own or (), known)
    if where:
        _as_declared_sandbox(name, entry, where, known)
        return known.module_state
    return replace(known.module_state, sandboxes={**known.module_state.sandboxes, name: entry})


def _as_declared_sandbox(name: str, entry: Mapping[str, Any], where: str, known: HostModel) -> None:
    unedited = _without(known.module_state.endpoints, name)
    module_state = replace(known.module_state, endpoints=unedited)
    theirs = _sandbox(_read(known.name, known.declared, module_state), name)
    module_state = replace(module_state, sandboxes={**module_state.sandboxes, name: entry})
    if _sandbox(_read(known.name, known.without(SANDBOXES, name), module_state), name) != theirs:
        raise Refusal(f"the sandbox {name} is declared differently in the inventory ({where}): change it there")


def _require_networks(option: str, names: Iterable[str], known: HostModel) -> None:
    there = known.names(NETWORKS)
    for name in names:
        if name not in there and name not in PREDEFINED:
            near = did_you_mean(name, there, "Create it first, with cnm.fabric.network.")
            raise Missing(f"{option}: there is no network {word(name)} on this host. {near}")


def _service_edit(call: Call, known: HostModel) -> Optional[ModuleState]:
    name, entry = str(call.options["name"]), call.entry
    where = known.declares(SERVICES, name)
    if call.absent:
        if where:
            raise Refusal(f"the service {name} is declared in the inventory ({where}): remove it there")
        if name not in known.module_state.services:
            return None
        return replace(known.module_state, services=_without(known.module_state.services, name))
    if (entry.get("deploy") or {}).get("placement") is not None:
        raise Refusal(
            "deploy.placement: this module runs all tasks on one host: remove placement, or declare the service in the "
            "inventory"
        )
    _require_networks("networks", own_networks(entry) or (), known)
    module_state = replace(known.module_state, services={**known.module_state.services, name: entry})
    if where:
        _as_declared_service(name, module_state, where, known)
        return known.module_state
    return module_state


def _as_declared_service(name: str, module_state: ModuleState, where: str, known: HostModel) -> None:
    """Raise Refusal unless the inventory declares the same service, only for this host."""
    own = _service(_read(known.name, known.without(SERVICES, name), module_state), name)
    theirs = _service(known.host, name)
    if theirs is None or own is None or of_host(theirs, known.name) != own or not is_of_one_host(theirs, known.host):
        raise Refusal(f"the service {name} is declared differently in the inventory ({where}): change it there")


def _service(host: Host, name: str) -> Optional[Service]:
    return next((service for service in host.services if service.name == name), None)


def _endpoint(call: Call, known: HostModel) -> Optional[ModuleState]:
    sandbox, network = str(call.options["sandbox"]), str(call.options["network"])
    boxes = known.names(SANDBOXES)
    edits = dict(known.module_state.endpoints.get(sandbox, {}))
    own = own_networks(boxes.get(sandbox)) or {} if sandbox in boxes else {}
    if call.absent:
        if (network not in own and network not in edits) or edits.get(network, own) is None:
            return None
        edits.pop(network, None)
        return _with_edits(known, sandbox, {**edits, network: None} if network in own else edits)
    if sandbox not in boxes:
        near = did_you_mean(sandbox, boxes, "Create it first, with cnm.fabric.sandbox.")
        raise Missing(f"sandbox: there is no sandbox {word(sandbox)} on this host. {near}")
    if network in ("host", "none"):
        raise Refusal(f"network: only network_mode connects a sandbox to the network {network}: set it in the sandbox")
    mode = mode_of(boxes[sandbox] or {})
    if mode is not None:
        raise Refusal(
            f"sandbox: {sandbox} has network_mode {mode} and cannot be connected to a network: remove its network_mode"
        )
    _require_networks("network", [network], known)
    if network in own:
        _as_own(call, known, boxes[sandbox], own)
        edits.pop(network, None)
        return _with_edits(known, sandbox, edits)
    link = (edits.get(network) or {}).get("interface_name")
    entry = {"interface_name": link, **call.entry} if link else call.entry
    return _with_edits(known, sandbox, {**edits, network: entry})


def _with_edits(known: HostModel, sandbox: str, edits: Mapping[str, Any]) -> ModuleState:
    return replace(known.module_state, endpoints={**known.module_state.endpoints, sandbox: edits})


def _as_own(call: Call, known: HostModel, raw: Any, own: Mapping[str, Any]) -> None:
    """Raise Refusal if the options differ from those that the sandbox's own declaration gives the endpoint."""
    if not call.entry:
        return
    sandbox, network = str(call.options["sandbox"]), str(call.options["network"])
    changed = connected(raw, {network: {**(own[network] or {}), **call.entry}})
    ends = [_own_endpoint(known, sandbox, network, entry) for entry in (raw, changed)]
    if ends[0] != ends[1]:
        where = known.declares(SANDBOXES, sandbox)
        where_declared = f"in the inventory ({where})" if where else "with cnm.fabric.sandbox"
        raise Refusal(f"{sandbox} is declared on {network} {where_declared}: change the endpoint's options there")


def _own_endpoint(known: HostModel, name: str, network: str, entry: Any) -> Optional[Endpoint]:
    module_state = replace(
        known.module_state,
        sandboxes={**known.module_state.sandboxes, name: entry},
        endpoints=_without(known.module_state.endpoints, name),
    )
    sandbox = _sandbox(_read(known.name, known.without(SANDBOXES, name), module_state), name)
    return next((end for end in sandbox.endpoints if end.network == network), None) if sandbox else None


EDITS: dict[str, Callable[[Call, HostModel], Optional[ModuleState]]] = {
    "network": _network,
    "sandbox": _sandbox_edit,
    "endpoint": _endpoint,
    "service": _service_edit,
}


def with_link_names(module_state: ModuleState, model: Mapping[str, Any]) -> ModuleState:
    """The endpoints that modules connected, each with its link's name, so that it keeps the name if others go."""
    endpoints = {}
    for sandbox, edits in module_state.endpoints.items():
        links = {end["network"]: end["link"] for end in model["sandboxes"].get(sandbox, {}).get("endpoints", ())}
        endpoints[sandbox] = {
            network: {**entry, "interface_name": links[network]}
            if entry is not None and network in links and not entry.get("interface_name")
            else entry
            for network, entry in edits.items()
        }
    return replace(module_state, endpoints=endpoints)


def format_errors(error: DeclarationError, call: Call, known: Optional[HostModel]) -> str:
    """The errors, one per line, with paths replaced by the module's option names."""
    before = _prefix(call, known)
    return "\n".join(_line(item, before, call) for item in error.errors)


def localize_message(text: str, call: Call, known: HostModel) -> str:
    """A planner's message with paths replaced by the module's option names."""
    before = _prefix(call, known)
    return text[len(before) + 2 :] if text.startswith(f"{before}: ") else text


def _prefix(call: Call, known: Optional[HostModel]) -> str:
    if call.module == "endpoint":
        sandbox = str(call.options["sandbox"])
        where = (known.declares(SANDBOXES, sandbox) if known else None) or path_of(SANDBOXES, sandbox)
        return f"{where}.networks.{word(str(call.options['network']))}"
    return path_of({"network": NETWORKS, "service": SERVICES}.get(call.module, SANDBOXES), call.label)


def _line(error: ValidationError, before: str, call: Call) -> str:
    where = error.path
    if where == before or where.startswith((f"{before}.", f"{before}[")):
        where = where[len(before) :].lstrip(".") or _option_of_entry(error, call)
    return replace(error, path=where, problem=error.problem.replace(f" ({before})", "")).in_one_line


def _option_of_entry(error: ValidationError, call: Call) -> str:
    """The option that an error about the whole entry is attributed to."""
    if error.problem.startswith("The subnet "):
        return "subnet"
    return "network" if call.module == "endpoint" else "name"


def unknown_options(module: str, given: Iterable[str]) -> str:
    """A sentence about unknown options; empty if there are none."""
    known = (*OPTIONS[module], *COMMON)
    wrong = [
        f"there is no option {word(name)}. {did_you_mean(name, known)}".rstrip() for name in given if name not in known
    ]
    return "; ".join(wrong)
