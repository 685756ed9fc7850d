# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: cnm.fabric contributors
"""The nftables tables inside sandboxes: translation to the resolver, to tasks of virtual IPs, and of ingress ports."""

from __future__ import annotations

from collections.abc import Sequence

from ...module_utils.plan.marks import table_name
from ...module_utils.plan.nftables import Chain, Nftables
from ..services.balancing import Balancing
from ..services.ingress import IngressPort, ingress_rules

RESOLVER_ADDRESS = "127.0.0.11"

RESOLVER_PORT = 20053


def ingress_table(project: str, sandbox: str, ports: Sequence[IngressPort], inner: str) -> Nftables:
    """The table of a host's ingress sandbox, which forwards published ports to tasks on any host."""
    sets, chains = ingress_rules(ports, inner)
    table, role = table_name(project), f"ingress/{sandbox}"
    return Nftables(sandbox, "inet", table, role, sets=tuple(sets), chains=tuple(chains))


def sandbox_table(project: str, sandbox: str, balancing: Balancing = Balancing()) -> Nftables:  # noqa: B008 - frozen
    """The table that translates 127.0.0.11:53 to the sandbox's resolver, so that port 53 stays free for the sandbox
    itself, and virtual IPs to tasks.
    """
    to_resolver = (
        f"ip daddr {RESOLVER_ADDRESS} {protocol} dport 53 dnat ip to {RESOLVER_ADDRESS}:{RESOLVER_PORT}"
        for protocol in ("udp", "tcp")
    )
    hook = "type nat hook output priority -100; policy accept"
    return Nftables(
        namespace=sandbox,
        family="inet",
        name=table_name(project),
        role=f"resolver/{sandbox}",
        sets=balancing.sets,
        chains=(Chain("output", hook, (*to_resolver, *balancing.output)), *balancing.chains),
    )
