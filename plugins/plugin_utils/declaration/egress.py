# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: cnm.fabric contributors
"""The egress network: the bridge by which sandboxes on overlays only reach the outside, as Docker's docker_gwbridge."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import cache

from .driver import Drivers
from .networks import with_traits
from .published import default_route
from .topology import Endpoint, Network, Sandbox

EGRESS = "cnm_gwbridge"
_BRIDGE = "com.docker.network.bridge."


@cache
def _predefined(project: str, families: frozenset[int]) -> Network:
    """Only the default project's bridge has the network's name: another project's would be in its way."""
    options = {f"{_BRIDGE}enable_icc": "false", **({f"{_BRIDGE}name": EGRESS} if project == "default" else {})}
    return Network(
        EGRESS,
        enable_ipv4=4 in families,
        enable_ipv6=6 in families,
        driver_opts=tuple(sorted(options.items())),
        discovery=False,
        path=f"the predefined network {EGRESS}",
    )


def with_egress(
    networks: Mapping[str, Network], sandboxes: Sequence[Sandbox], project: str, drivers: Drivers
) -> tuple[dict[str, Network], tuple[Sandbox, ...]]:
    """The networks and sandboxes of a host, those that need a way out connected to the egress network as their last.

    As in Docker it is those on an overlay that is not internal, and on no network that has a gateway.  One that is
    declared under that name is what they are connected to.
    """
    families = {
        sandbox.key: [family for family in (4, 6) if any(net.has(family) for net in _outward(sandbox, networks))]
        for sandbox in sandboxes
    }
    connected = tuple(
        replace(sandbox, endpoints=(*sandbox.endpoints, Endpoint(EGRESS, path=sandbox.path)))
        if families[sandbox.key] and EGRESS not in _names(sandbox)
        else sandbox
        for sandbox in sandboxes
    )
    every = frozenset(family for found in families.values() for family in found)
    found = dict(networks)
    predefined = with_traits(_predefined(project, every), drivers)
    if EGRESS in found and found[EGRESS].path != predefined.path:
        found[EGRESS] = replace(found[EGRESS], discovery=False)
    elif every:
        found[EGRESS] = predefined
    return found, connected


def _names(sandbox: Sandbox) -> set[str]:
    return {endpoint.network for endpoint in sandbox.endpoints}


def _outward(sandbox: Sandbox, networks: Mapping[str, Network]) -> list[Network]:
    """The overlays that call for a way out; none if another network of the sandbox has one."""
    others = [end for end in sandbox.endpoints if end.network in networks and end.network != EGRESS]
    members = [(end, networks[end.network]) for end in others]
    if any(default_route(members, family) for family in (4, 6)):
        return []
    return [net for _end, net in members if net.traits.egress]
