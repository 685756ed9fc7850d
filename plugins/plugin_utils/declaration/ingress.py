# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: cnm.fabric contributors
"""The ingress network and its sandbox, which each host has while a service publishes a port on all hosts."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace

from .topology import Endpoint, Network, Port, Sandbox, Service

INGRESS = "ingress"
SANDBOX = "ingress_sbox"
_PREDEFINED = Network(
    INGRESS, driver="overlay", enable_ipv6=True, discovery=False, path=f"the predefined network {INGRESS}"
)


def ingress_ports(services: Iterable[Service]) -> list[Port]:
    """All ports that are published on every host, sorted."""
    found = (port for service in services for port in service.ports if port.mode == "ingress")
    return sorted(found, key=lambda port: (port.published, port.protocol, port.host_ip or ""))


def ingress_network(networks: Mapping[str, Network]) -> Network:
    """The ingress network as the host declares it, else the predefined one."""
    declared = networks.get(INGRESS)
    return replace(declared, discovery=False) if declared is not None else _PREDEFINED


def ingress_sandbox(host: str, ports: Sequence[Port]) -> Sandbox:
    """The host's sandbox on the ingress network, to which its ports lead: each to the same number there."""
    return Sandbox(
        SANDBOX,
        host,
        (Endpoint(INGRESS, path=_PREDEFINED.path),),
        ports=tuple(replace(port, target=port.published) for port in ports),
        everywhere=True,
        path=_PREDEFINED.path,
    )
