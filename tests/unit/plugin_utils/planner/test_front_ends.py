# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: cnm.fabric contributors
"""What ufw and firewalld are told to let by."""

from __future__ import annotations

import shlex

import pytest

from ansible_collections.cnm.fabric.plugins.plugin_utils.facts import Facts
from ansible_collections.cnm.fabric.plugins.plugin_utils.networks.spanning import TunnelEnds
from ansible_collections.cnm.fabric.plugins.plugin_utils.planner.front_ends import warnings

UFW = Facts(front_ends=("ufw",), dropping=("ip filter FORWARD",), closed=("ip filter INPUT", "ip6 filter INPUT"))
FIREWALLD = Facts(front_ends=("firewalld",), dropping=("inet firewalld",), closed=("inet firewalld",))
TUNNEL = TunnelEnds(4096, 4789, 1450, False, {"n1": "192.0.2.1", "n2": "192.0.2.2"})
SIX = TunnelEnds(4097, 14789, 1400, False, {"n1": "2001:db8::1", "n2": "2001:db8::2"})


def commands(facts: Facts, *bridges: str, encrypted: bool = False, tunnel: TunnelEnds = TUNNEL) -> list[str]:
    (said,) = warnings("n1", facts, bridges, [(tunnel, encrypted)])
    return said.partition(": ")[2].split(" && ")


def test_ufw_lets_by_both_ways_of_a_bridge_and_what_the_other_hosts_send() -> None:
    assert commands(UFW, "br0") == [
        "ufw route allow in on br0",
        "ufw route allow out on br0",
        "ufw allow proto udp from 192.0.2.2 to any port 4789",
    ]


def test_firewalld_takes_them_at_its_next_reload() -> None:
    rule = 'rule family="ipv6" source address="2001:db8::2"'
    assert commands(FIREWALLD, "br0", encrypted=True, tunnel=SIX) == [
        "firewall-cmd --permanent --zone=trusted --add-interface=br0",
        f"firewall-cmd --permanent --add-rich-rule='{rule} protocol value=\"esp\" accept'",
        f'firewall-cmd --permanent --add-rich-rule=\'{rule} port port="14789" protocol="udp" accept\'',
        "firewall-cmd --reload",
    ]


def test_who_knows_nothing_of_us_or_drops_nothing_is_told_nothing() -> None:
    assert warnings("n1", Facts(), ["br0"], [(TUNNEL, False)]) == []
    assert warnings("n1", Facts(front_ends=("ufw", "firewalld")), ["br0"], [(TUNNEL, False)]) == []


def test_only_what_is_missing_is_named() -> None:
    facts = Facts(**{**vars(UFW), "let_by": ("in br0", "udp 192.0.2.2 4789")})
    assert commands(facts, "br0", encrypted=True) == [
        "ufw route allow out on br0",
        "ufw allow proto esp from 192.0.2.2",
    ]


@pytest.mark.parametrize("facts", [UFW, FIREWALLD])
@pytest.mark.parametrize("name", ["a;reboot", "$(id)", "a b", "'", "-x"])
def test_a_link_s_name_is_one_word_of_the_command(facts: Facts, name: str) -> None:
    first = commands(facts, name)[0]
    assert name in shlex.split(first)[-1]
    assert len(shlex.split(first)) in (4, 6)
