# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: cnm.fabric contributors
"""What keeps a host from being as declared: what it lacks, and what is in the way.  Each refuses the host."""

from __future__ import annotations

from collections.abc import Container, Iterable, Iterator, Mapping, Sequence

from ...module_utils.plan.base import Resource
from ...module_utils.plan.constants import MODULES_PACKAGE
from ...module_utils.plan.links import Link, Namespace
from ...module_utils.plan.nftables import Nftables
from ..declaration.driver import DriverError
from ..declaration.topology import Host
from ..drivers.base import PlannedEndpoint, PlannedNetwork
from ..drivers.parents import PARENT
from ..drivers.registry import driver_of
from ..facts import Facts

_MODULES = {"vlan": "8021q"}
"""Of types of links whose module has another name."""
_INSTEAD = {
    "ifb": "name a `parent`",
    "ipvlan": "write `driver: macvlan`",
    "macvlan": "write `driver: ipvlan`",
    "vlan": "write a `parent` that is there",
}
"""What does without a type of link."""
_REMOVE_OR_RENAME = "was not created by this project: remove or rename it, or choose another name for yours"


def missing_link_errors(
    facts: Facts, networks: Mapping[str, PlannedNetwork], endpoints: Iterable[PlannedEndpoint]
) -> list[str]:
    """Errors of networks that are made of links which the host's kernel cannot make."""
    if not facts.missing_links:
        return []
    needed: dict[str, set[str]] = {}
    try:
        for network in networks.values():
            needed.setdefault(network.name, set()).update(_types(driver_of(network).network_resources(network)))
        for endpoint in endpoints:
            needed[endpoint.network.name].update(_types(driver_of(endpoint.network).endpoint_resources(endpoint)))
    except DriverError:
        return []  # the pass that connects tells of it
    return [
        _missing(networks[name], kind)
        for name, types in sorted(needed.items())
        for kind in sorted(types.intersection(facts.missing_links))
    ]


def _types(resources: Iterable[Resource]) -> set[str]:
    return {item.type for item in resources if isinstance(item, Link)}


def _missing(network: PlannedNetwork, kind: str) -> str:
    module = _MODULES.get(kind, kind)
    path = network.network.path
    if path.startswith("cnm_networks"):  # and not made by a module, or predefined
        path += f".driver_opts.{PARENT}" if kind == "vlan" else ".driver"
    what = "VLANs (802.1Q)" if kind == "vlan" else f"links of the type {kind}"
    instead = f", or {_INSTEAD[kind]}" if kind in _INSTEAD else ""
    return (
        f"{path}: this host's kernel has no {what}: load its module {module} (modprobe {module}; {MODULES_PACKAGE})"
        f"{instead}."
    )


_SHAPING = {
    "netem": ("delay_us", "jitter_us", "loss_ppm", "rate"),
    "police": ("egress",),
    "tbf": ("ingress",),
}
"""The parts of a shape that take each."""
_SHAPED_BY = {
    "netem": ("netem", "sch_netem"),
    "police": ("limits.egress", "act_police"),
    "tbf": ("limits.ingress", "sch_tbf"),
}
"""Where that is declared, and the module."""


def missing_shaping_errors(facts: Facts, endpoints: Iterable[PlannedEndpoint]) -> list[str]:
    """Errors of endpoints that the host's kernel cannot shape."""
    shaped = [(item.endpoint.path, item.endpoint.shape) for item in endpoints if item.endpoint.shape is not None]
    return [
        f"{path}.{_SHAPED_BY[name][0]}: this host's kernel cannot do that: load its module {_SHAPED_BY[name][1]} "
        f"(modprobe {_SHAPED_BY[name][1]}; {MODULES_PACKAGE}), or leave it out."
        for name in facts.missing_shaping
        for path, shape in shaped
        if any(getattr(shape, part) for part in _SHAPING[name])
    ]


def absent_owner_errors(host: Host, facts: Facts) -> list[str]:
    """Errors of sandboxes in namespaces of owners that are not there or do not run."""
    return [f"{problem}." for problem in _absent_owners(host, facts, kept=False)]


def stopped_owner_warnings(host: Host, facts: Facts) -> list[str]:
    """Warnings of sandboxes that the host has had and whose owners are gone: each fails alone, as if it had stopped
    during the run."""
    return [f"{problem}; the sandbox is left as it is" for problem in _absent_owners(host, facts, kept=True)]


def _absent_owners(host: Host, facts: Facts, kept: bool) -> Iterator[str]:
    for sandbox in host.sandboxes:
        owner = sandbox.namespace.owner
        problem, is_kept = facts.absent_owners.get((owner, sandbox.namespace.reference), ("", False))
        if problem and is_kept == kept:
            yield f"{sandbox.path}.namespace.{owner}: {problem}"


def foreign_errors(host: Host, facts: Facts, resources: Iterable[Resource]) -> list[str]:
    """Errors of objects of others that have the names of planned ones."""
    return sorted(set(_foreign(host, facts, resources)))


def _foreign(host: Host, facts: Facts, resources: Iterable[Resource]) -> Iterator[str]:
    links, namespaces, tables = (facts.foreign.get(kind, frozenset()) for kind in ("link", "namespace", "nftables"))
    for item in resources:
        if isinstance(item, Namespace) and not item.owner and item.name in namespaces:
            yield f"{_path(host, item.role)}the namespace /run/netns/{item.name} is there and {_REMOVE_OR_RENAME}."
        elif isinstance(item, Nftables) and not item.namespace and (name := f"{item.family} {item.name}") in tables:
            yield (
                f"cnm_project: the table {name} of nftables is there and was not created by this project: remove it "
                f"(nft delete table {name}), or choose another name for the project."
            )
        elif isinstance(item, Link):
            names = [] if item.namespace or (item.adopts_existing and item.name in facts.bridges) else [item.name]
            names += [item.peer.name] if item.peer is not None and not item.peer.namespace else []
            for name in links.intersection(names):
                yield f"{_path(host, item.role)}the link {name} is there and {_REMOVE_OR_RENAME}."


def _path(host: Host, role: str) -> str:
    """Where the sandbox or network of a role is declared, with a colon; "" if the role has another form."""
    noun, _slash, names = role.partition("/")
    if noun == "sandbox":
        paths = [each.path for each in host.sandboxes if each.name == names]
    else:
        network = host.network(names.partition("/")[0])
        paths = [network.path] if network is not None else []
    return f"{paths[0]}: " if paths and paths[0] else ""


def occupied_errors(facts: Facts, resources: Sequence[Resource], ending: Container[str]) -> list[str]:
    """Errors of sandboxes that are to go although processes run in them; those that are ``ending`` may be stopped."""
    staying = {item.name for item in resources if isinstance(item, Namespace) and not item.owner}
    return [
        f"cnm_sandboxes: {name} is no longer declared, and processes run in it: {words}. End them, declare it again, "
        "or remove it all the same with -e cnm_force=true."
        for name, words in sorted(facts.occupied.items())
        if name not in staying and name not in ending
    ]
