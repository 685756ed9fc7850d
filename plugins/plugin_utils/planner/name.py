# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: cnm.fabric contributors
"""The pass that names: records, resolvers, and the namespaces and files of sandboxes."""

from __future__ import annotations

from dataclasses import replace
from typing import Optional

from ...module_utils.plan.base import Resource
from ...module_utils.plan.settings import Sysctl
from ..declaration.ingress import SANDBOX as INGRESS_SANDBOX
from ..declaration.topology import Host, Sandbox
from ..dns.outside import names_outside
from ..dns.resolvers import Naming, names_of_host
from ..facts import Facts
from ..firewall.kernel_settings import closed_families
from .allocation import HostAllocation


def name_sandboxes(host: Host, facts: Facts, allocated: HostAllocation) -> list[Resource]:
    """The records of a host's networks, and each sandbox's namespace, files, sysctls and resolver."""
    outside = names_outside(host, facts, allocated.every)
    names = names_of_host(host.settings.project, facts, allocated.every, outside.files)
    resources: list[Resource] = [names.file, names.loaded] if names.file.files else []
    resources += outside.resources
    for sandbox in sorted(host.sandboxes, key=lambda item: item.name):
        if mode_of(host, sandbox) != "host" and not sandbox.shared_with:
            endpoints = allocated.endpoints[sandbox.name]
            resources += _of_sandbox(Naming(host.settings.project, facts, names, sandbox, endpoints))
    return resources


def mode_of(host: Host, sandbox: Sandbox) -> Optional[str]:
    """The mode of a sandbox without networks of its own, by network_mode or a network of that driver."""
    if sandbox.network_mode:
        return sandbox.network_mode
    networks = [host.network(endpoint.network) for endpoint in sandbox.endpoints]
    return next((network.traits.mode for network in networks if network and network.traits.mode), None)


def _of_sandbox(naming: Naming) -> list[Resource]:
    sandbox, namespace = naming.sandbox, naming.namespace()
    if not namespace.owner and sandbox.name != INGRESS_SANDBOX:
        links = [endpoint.endpoint for endpoint in naming.endpoints]
        namespace = replace(namespace, no_forwarding=closed_families(sandbox, links))
    resolver = [naming.resolver()] if naming.endpoints and sandbox.name != INGRESS_SANDBOX else []
    sysctls = [Sysctl(sandbox.name, parameter, value) for parameter, value in sandbox.sysctls]
    return [namespace, naming.files(), *sysctls, *resolver]
