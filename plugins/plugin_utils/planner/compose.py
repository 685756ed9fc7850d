# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: cnm.fabric contributors
"""The pass that composes: a host's plan of all its resources, with the model that people read."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace
from types import MappingProxyType

from ...module_utils.plan import forms
from ...module_utils.plan.addresses import Rule
from ...module_utils.plan.base import Resource
from ...module_utils.plan.constants import OWN_LINKS
from ...module_utils.plan.encryption import Xfrm
from ...module_utils.plan.forms import watched_owner
from ...module_utils.plan.frr import Frr
from ...module_utils.plan.links import Link, LinkManager, Namespace
from ...module_utils.plan.nftables import DockerUser
from ...module_utils.plan.plan import Plan
from ...module_utils.plan.settings import Boot, Resolver, Target
from ..declaration.driver import DriverError
from ..declaration.topology import Host
from ..facts import Facts
from ..firewall.policy_samples import samples
from ..inspect.docker_model import model_of_host
from ..leases.base import Leases
from ..services.balancing import balancing_engine
from ..services.placement import Placement
from .allocation import HostAllocation


def compose(
    host: Host,
    facts: Facts,
    allocated: HostAllocation,
    placement: Placement,
    resources: Iterable[Resource],
    leases: Leases,
    of_hosts: Mapping[str, Iterable[str]] = MappingProxyType({}),
) -> Plan:
    """The plan of a host; its resources are sorted, so that the same inventory gives the same text."""
    resources = list(resources)
    if host.settings.boot and (
        allocated.networks or host.sandboxes or any(isinstance(each, Frr) for each in resources)
    ):
        if facts.systemd:
            resources = [replace(item, supervised=True) if isinstance(item, Resolver) else item for item in resources]
            resources += _targets(resources)
        resources.append(_boot(host, facts, resources))
    resources += _link_managers(resources, facts)
    resources.sort(key=lambda item: item.key)
    for one, other in zip(resources, resources[1:]):
        if one.key == other.key:
            raise DriverError(f"Two parts of the plan make {one.kind} {one.label}: a driver's names must be its own.")
    _check_link_names(resources)
    engine = balancing_engine(host, facts)
    judged = samples(host, allocated.networks, allocated.endpoints, of_hosts)
    return Plan(
        host=host.name,
        project=host.settings.project,
        resources=tuple(resources),
        model=dict(
            model_of_host(host, allocated.networks, allocated.endpoints, placement.found.values(), engine, judged)
        ),
        leases=dict(leases),
    )


def _boot(host: Host, facts: Facts, resources: Iterable[Resource]) -> Boot:
    """What brings the resources back without a controller: with systemd by itself, elsewhere by the command alone."""
    if not facts.systemd:
        return Boot()
    resources = list(resources)
    links = [item for item in resources if isinstance(item, Link)]
    own = {item.name for item in links if not item.namespace}
    parents = {item.parent.link for item in links if item.parent is not None} - own
    has_keys = any(isinstance(item, (Xfrm, Frr)) for item in resources)
    owners = {_watched(item) for item in resources if isinstance(item, Namespace)} - {""}
    if any(isinstance(item, DockerUser) for item in resources):
        owners.add("docker.service")  # whose start closes what was opened in its chain
    return Boot(has_keys and host.settings.keep_keys, tuple(sorted(parents)), tuple(sorted(owners)))


def _targets(resources: Iterable[Resource]) -> list[Target]:
    """What units of applications are bound to, one for each sandbox that has a namespace."""
    namespaces = [item for item in resources if isinstance(item, Namespace)]
    return [Target(item.name) for item in namespaces if item.role == f"sandbox/{item.name}"]


def _watched(sandbox: Namespace) -> str:
    """Whose starts and ends are watched for a sandbox: the owner, or the directory of a path."""
    directory = sandbox.reference.rpartition("/")[0]
    watched = sandbox.owner == "path" and watched_owner.fits(directory) and not directory.startswith("/proc/")
    return directory if watched else sandbox.owner


def _host_links(resources: Iterable[Resource]) -> Iterator[tuple[str, Link]]:
    """The links in the host's own namespace by name, with the resource each is of."""
    for item in resources:
        if isinstance(item, Link) and not item.namespace:
            yield item.name, item
        if isinstance(item, Link) and item.peer is not None and not item.peer.namespace:
            yield item.peer.name, item


def _link_managers(resources: Iterable[Resource], facts: Facts) -> list[Resource]:
    """What the host's link managers are told of our links.  A bridge of others stays with whoever configures it."""
    names = {name for name, item in _host_links(resources) if not _is_of_others(name, item, facts)}
    if not names:
        return []
    plain = tuple(sorted(name for name in names if not name.startswith(OWN_LINKS) and forms.plain_link_name.fits(name)))
    rules = any(isinstance(item, Rule) and not item.namespace for item in resources)
    return [LinkManager(manager, plain, rules and manager == "networkd") for manager in facts.link_managers]


def _is_of_others(name: str, item: Link, facts: Facts) -> bool:
    there = facts.links.get(name)
    return item.adopts_existing and there is not None and not there.ours


def _check_link_names(resources: Iterable[Resource]) -> None:
    """Names of links are short forms of ids: two that are the same are noticed here, not in the kernel."""
    roles: dict[str, str] = {}
    for name, item in _host_links(resources):
        if roles.setdefault(name, item.role) != item.role:
            raise DriverError(
                f"Two links of the host would have the name {name}, {roles[name]} and {item.role}: rename one."
            )
