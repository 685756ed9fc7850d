# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: cnm.fabric contributors
"""Which rule of another's table drops a packet, by tables as nft prints them."""

from __future__ import annotations

import time

import pytest

from ansible_collections.cnm.fabric.plugins.module_utils.verify.firewalls import Packet, drops_in

VXLAN, ECHO, WEB = Packet("udp", 4789), Packet("icmp"), Packet("tcp", 3000)

_INPUT = """table inet filter {{
    set ports {{
        type inet_service
        flags interval
        elements = {{ 53, 4780-4790,
        9000 }}
    }}

    chain input {{
        type filter hook input priority 0; policy {policy};
{rules}
    }}

    chain sub {{
        udp dport 4789 log prefix "a {{ b" drop
    }}
}}
"""


def found(packet: Packet, policy: str, *rules: str) -> list[tuple[str, str, bool]]:
    """Chain, rule, and whether it is sure."""
    text = _INPUT.format(policy=policy, rules="\n".join(rules))
    return [(drop.chain, drop.rule, drop.sure) for drop in drops_in("inet", "filter", text, [packet])]


@pytest.mark.parametrize(
    "rule",
    [
        "udp dport 4789 drop",
        "udp dport 4789 counter packets 12 bytes 900 drop",
        "udp dport { 53, 4789 } drop",
        "udp dport 4000-5000 reject with icmpx 3",
        "udp dport != 53 drop",
        "udp dport @ports drop",
        "th dport 4789 drop",
        "meta l4proto 17 drop",
        "ip protocol 17 drop",
        'udp dport 4789 drop comment "no { vxlan; here accept"',
        "ct state 0x1,0x8 udp dport 4789 drop",
        "meta l4proto 17 udp dport { 4789, 53 } counter packets 0 bytes 0 drop",
        "udp dport vmap { 53 : accept, 4789 : drop }",
        "drop",
    ],
)
def test_a_rule_that_matches_vxlan_whatever_is_in_it_surely_drops_it(rule: str) -> None:
    assert found(VXLAN, "accept", "tcp dport 22 accept", rule, "udp dport 4789 accept") == [
        ("inet filter input", rule, True)
    ]


@pytest.mark.parametrize(
    "rule",
    [
        "ip saddr 192.0.2.1 udp dport 4789 drop",
        'iifname "eth1" udp dport 4789 drop',
        "udp dport 4789 limit rate over 5/second drop",
    ],
)
def test_a_rule_with_conditions_that_names_the_port_may_drop_it(rule: str) -> None:
    assert found(VXLAN, "accept", rule, "accept") == [("inet filter input", rule, False)]


@pytest.mark.parametrize(
    "rule",
    [
        "tcp dport 4789 drop",
        "udp dport 53 drop",
        "udp dport != 4789 drop",
        "udp dport @unknown counter packets 0 bytes 0 accept",
        'iif "lo" drop',
        "ct state 0x2,0x4 drop",
        "ct state vmap { 0x1 : drop, 0x2 : accept }",
        "icmp type { 8, 0 } drop",
        "icmpv6 type 128 drop",
        "tcp flags syn / fin,syn,rst,ack drop",
        "ip saddr 192.0.2.1 drop",
        "meta l4proto { 1, 58 } drop",
        "esp spi 1 drop",
        "counter packets 1 bytes 2",
    ],
)
def test_other_rules_do_not(rule: str) -> None:
    assert found(VXLAN, "accept", rule) == []


def test_an_earlier_accept_saves_it_from_a_later_drop_and_from_the_policy() -> None:
    assert found(VXLAN, "drop", "udp dport 4789 accept", "udp dport 4789 drop") == []


def test_the_policy_drops_what_no_rule_accepts() -> None:
    assert found(VXLAN, "drop", "ct state 0x2,0x4 accept", 'iif "lo" accept', "tcp dport 22 accept") == [
        ("inet filter input", "policy drop", True)
    ]


def test_a_rule_that_may_accept_it_makes_the_policy_unsure() -> None:
    assert found(VXLAN, "drop", "ip saddr 192.0.2.0/24 accept") == [("inet filter input", "policy drop", False)]


def test_chains_that_are_jumped_to_are_walked() -> None:
    rule = 'udp dport 4789 log prefix "a { b" drop'
    assert found(VXLAN, "accept", "jump sub") == [("inet filter sub", rule, True)]
    assert found(VXLAN, "accept", 'iifname "eth0" jump sub') == []
    assert found(VXLAN, "accept", 'udp dport 4789 iifname "eth0" jump sub') == [("inet filter sub", rule, False)]
    assert found(VXLAN, "drop", "udp dport 53 goto sub", "accept") == []


def test_a_chain_that_jumps_to_itself_ends() -> None:
    assert found(VXLAN, "accept", "jump input") == []


def test_echo_requests_and_ports_are_looked_for_likewise() -> None:
    assert found(ECHO, "drop", "icmp type { 0, 8 } accept") == []
    assert found(ECHO, "accept", "icmp type 8 drop") == [("inet filter input", "icmp type 8 drop", True)]
    assert found(ECHO, "accept", "ip protocol 1 drop") == [("inet filter input", "ip protocol 1 drop", True)]
    assert found(WEB, "accept", "tcp dport 3000 reject") == [("inet filter input", "tcp dport 3000 reject", True)]


def test_each_base_chain_is_looked_at_but_only_ports_are_forwarded() -> None:
    text = "table ip filter {\n" + "".join(
        f"\tchain {name} {{\n\t\ttype {kind} hook {name} priority 0; policy drop;\n\t}}\n"
        for name, kind in (("input", "filter"), ("forward", "filter"), ("output", "filter"), ("postrouting", "nat"))
    )
    assert [drop.hook for drop in drops_in("ip", "filter", text + "}\n", [VXLAN])] == ["input", "output"]
    assert [drop.hook for drop in drops_in("ip", "filter", text + "}\n", [WEB])] == ["input", "forward", "output"]


def test_text_that_is_no_table_drops_nothing() -> None:
    assert drops_in("inet", "t", "chain { { } \x00 type filter hook", [VXLAN]) == []


def _timed(text: str, packet: Packet) -> list[tuple[str, bool]]:
    started = time.monotonic()
    drops = [(drop.rule, drop.sure) for drop in drops_in("inet", "x", text, [packet])]
    assert time.monotonic() - started < 10
    return drops


def test_a_set_of_a_hundred_thousand_addresses_is_soon_read() -> None:
    rows = ",\n\t\t".join(f"10.{n >> 8}.{n & 255}.1, 10.{n >> 8}.{n & 255}.2" for n in range(50_000))
    chain = "chain input {\n\ttype filter hook input priority 0; policy accept;\n\tip saddr @bad drop\n\tdrop\n}"
    text = f"table inet x {{\n\tset bad {{\n\t\telements = {{ {rows} }}\n\t}}\n\t{chain}\n}}"
    assert _timed(text, VXLAN) == [("drop", True)]


def test_chains_that_jump_to_each_other_end() -> None:
    chains = "".join(f"chain c{n} {{\n{f'ip saddr 10.0.0.1 jump c{n + 1}{chr(10)}' * 10}}}\n" for n in range(20))
    base = "chain input {\ntype filter hook input priority 0; policy drop;\njump c0\n}"
    assert _timed(f"table inet x {{\n{base}\n{chains}}}", VXLAN) == [("policy drop", False)]


def test_numbers_of_any_spelling_are_read() -> None:
    assert found(VXLAN, "accept", "udp dport 010 drop", "udp dport 04789 drop")[0][1:] == ("udp dport 04789 drop", True)
    assert found(VXLAN, "accept", f"udp dport {'9' * 5000} drop") == []


def test_a_rule_for_new_connections_does_not_accept_what_conntrack_does_not_see() -> None:
    of_tunnel = VXLAN._replace(tracked=False)
    assert found(VXLAN, "drop", "ct state 0x8 udp dport 4789 accept") == []
    assert found(of_tunnel, "drop", "ct state 0x8 udp dport 4789 accept") == [
        ("inet filter input", "policy drop", True)
    ]
    assert found(of_tunnel, "drop", "ct state 0x8,0x40 udp dport 4789 accept") == []
    assert found(of_tunnel, "drop", "ct state vmap { 0x2 : accept, 0x40 : accept }") == []
