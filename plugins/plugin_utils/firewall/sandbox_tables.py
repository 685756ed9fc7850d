# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: cnm.fabric contributors
"""The nftables tables inside sandboxes: the way to the resolver, to tasks of virtual IPs, and of ingress ports."""

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


_ASKED, _LOCAL = f"ip daddr {RESOLVER_ADDRESS}", f"ip saddr {RESOLVER_ADDRESS}"

_QUOTED_53 = f"@th,240,16 set 53 @th,32,16 set {RESOLVER_PORT - 53}"

_TO_RESOLVER = Chain(
    "resolver",
    # Before conntrack, which is to have no part in it: in a sandbox that nothing else needs it for, it is then not on,
    # and it would cost each packet more than all of the other rules that the packet meets.
    "type filter hook output priority -300; policy accept",
    (
        'oif != "lo" accept',
        *(f"{_ASKED} {each} dport 53 {each} dport set {RESOLVER_PORT} notrack" for each in ("udp", "tcp")),
        *(f"{_LOCAL} {each} sport {RESOLVER_PORT} {each} sport set 53 notrack" for each in ("udp", "tcp")),
        # The refusal by a resolver that is not there: the port in the packet that it quotes.  The difference goes into
        # the field that is unused (RFC 792), so that the checksum stays right.
        f"{_LOCAL} icmp type destination-unreachable @th,240,16 {RESOLVER_PORT} {_QUOTED_53}",
    ),
)


def sandbox_table(project: str, sandbox: str, balancing: Balancing = Balancing()) -> Nftables:  # noqa: B008 - frozen
    """The table that exchanges port 53 of 127.0.0.11 and the resolver's own, so that port 53 stays free for the sandbox
    itself, and translates virtual IPs to tasks.
    """
    hook = "type nat hook output priority -100; policy accept"
    translated = (Chain("output", hook, balancing.output),) if balancing.output else ()
    return Nftables(
        namespace=sandbox,
        family="inet",
        name=table_name(project),
        role=f"resolver/{sandbox}",
        sets=balancing.sets,
        chains=(_TO_RESOLVER, *translated, *balancing.chains),
    )
