# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: cnm.fabric contributors
"""What verify's host half reads of the kernel, and what root in a sandbox answers to it."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import pytest
from host import SMALL, converge, on_a_host, resources_of, run_command, sh

from ansible_collections.cnm.fabric.plugins.module_utils.kernel import namespaces
from ansible_collections.cnm.fabric.plugins.module_utils.kernel.host import Host
from ansible_collections.cnm.fabric.plugins.module_utils.kernel.neighbour_tables import neighbour_tables
from ansible_collections.cnm.fabric.plugins.module_utils.verify.echo import answering
from ansible_collections.cnm.fabric.plugins.module_utils.verify.firewalls import Packet, foreign_drops
from ansible_collections.cnm.fabric.plugins.module_utils.verify.names import resolving

MINE = "nft 'add table inet mine; add chain inet mine c {{ type filter hook {} priority 0; policy {}; }}'"

INGRESS = "nft 'add table netdev mine; add chain netdev mine c { type filter hook ingress device lo priority 0; }'"
LEGACY_JUMP = "iptables-legacy -N MINE; iptables-legacy -A INPUT -m comment --comment 'a \"b' -j MINE"
LEGACY_ACCEPTS = (
    "iptables-legacy -A INPUT -i lo -j ACCEPT; iptables-legacy -A INPUT -p tcp --dport 22 -j ACCEPT; "
    "iptables-legacy -A INPUT -m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT"
)
JUMP = "iptables-nft -N MINE; iptables-nft -A INPUT -j MINE"


def drops(*packets: Packet) -> list[tuple[str, str, str]]:
    with Host("default", run_command) as host:
        return [(str(drop.packet), drop.chain, drop.rule) for drop in foreign_drops(host, packets)]


@pytest.mark.parametrize(
    ("script", "chain", "rule"),
    [
        (f"{MINE.format('input', 'accept')}; nft add rule inet mine c udp dport 4789 drop", "inet mine c", None),
        (f"{MINE.format('output', 'accept')}; nft add rule inet mine c udp dport 4789 drop", "inet mine c", None),
        (f"{MINE.format('prerouting', 'drop')}", "inet mine c", "policy drop"),
        (
            f"{INGRESS}; nft add rule netdev mine c udp dport 4789 drop",
            "netdev mine c",
            None,
        ),
        (
            "iptables-nft -A INPUT -p udp --dport 4789 -j DROP",
            "ip filter INPUT",
            "udp dport 4789 counter packets 0 bytes 0 drop",
        ),
        (
            f"{JUMP}; iptables-nft -A MINE -p udp -m multiport --dports 53,4789 -j REJECT",
            "ip filter MINE",
            "meta l4proto 17 udp dport { 53, 4789 } counter packets 0 bytes 0 reject",
        ),
        (
            f"{LEGACY_JUMP}; iptables-legacy -A MINE -p udp -m multiport --dports 53,4780:4789 -j DROP",
            "ip filter of iptables-legacy MINE",
            "meta l4proto 17 udp dport { 53, 4780-4789 } drop",
        ),
        (
            f"{LEGACY_ACCEPTS}; iptables-legacy -P INPUT DROP",
            "ip filter of iptables-legacy INPUT",
            "policy drop",
        ),
    ],
)
@on_a_host
def test_rules_and_policies_of_others_that_drop_vxlan_are_found(script: str, chain: str, rule: str | None) -> None:
    assert drops(Packet("udp", 4789)) == []
    sh(script)
    assert drops(Packet("udp", 4789)) == [("udp 4789", chain, rule or "udp dport 4789 drop")]
    assert drops(Packet("udp", 4790)) == ([("udp 4790", chain, rule)] if rule == "policy drop" else [])


@on_a_host
def test_our_own_rules_are_no_others() -> None:
    converge(resources_of(SMALL))
    assert " drop" in sh("nft list ruleset")
    assert drops(Packet("udp", 4789), Packet("icmp"), Packet("tcp", 80)) == []


@on_a_host
def test_neighbour_tables_are_seen_in_each_namespace() -> None:
    found = neighbour_tables()
    assert [table.family for table in found] == [4, 6]
    assert all(table.size > 0 for table in found)
    assert namespaces.run_in_new(neighbour_tables) == found


@contextmanager
def answered(reply: Callable[[bytes], bytes]) -> Iterator[None]:
    """Root in the sandbox answers DNS queries instead of the resolver, with what it likes."""
    sh("ip link set lo up; ip address add 127.0.0.11/32 dev lo")
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as server:
        server.bind(("127.0.0.11", 53))
        over = threading.Event()

        def serve() -> None:
            server.settimeout(0.1)
            while not over.is_set():
                try:
                    data, whom = server.recvfrom(4096)
                    server.sendto(reply(data), whom)
                except OSError:
                    continue

        thread = threading.Thread(target=serve)
        thread.start()
        try:
            yield
        finally:
            over.set()
            thread.join()


@pytest.mark.parametrize(
    "reply",
    [
        lambda query: b"",
        lambda query: query[:3],
        lambda query: query[:2] + b"\x81\x80\0\1\xff\xff\0\0\0\0" + query[12:],
        lambda query: query[:2] + b"\x81\x80\xff\xff\xff\xff\0\0\0\0" + b"\x3f" * 40,
        lambda query: query[:2] + b"\x81\x80\0\1\0\1\0\0\0\0" + query[12:] + b"\xc0\x0c\0\1\0\1\0\0\0\0\0\x03abc",
        lambda query: query[:2] + b"\x83\x80" + query[4:],
    ],
    ids=["empty", "short", "no answers", "no end", "a short address", "truncated, and no TCP"],
)
@on_a_host
def test_a_malformed_answer_to_a_query_is_none(reply: Callable[[bytes], bytes]) -> None:
    with answered(reply):
        started = time.monotonic()
        assert resolving(["c2"]) in ({}, {"c2": []})
        assert time.monotonic() - started < 15


@on_a_host
def test_short_icmp_messages_are_no_answers() -> None:
    sh("ip link set lo up")
    over = threading.Event()

    def send() -> None:
        with socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_ICMP) as raw:
            while not over.is_set():
                raw.sendto(b"\0\0", ("127.0.0.1", 0))
                time.sleep(0.005)

    thread = threading.Thread(target=send)
    thread.start()
    try:
        found = answering(["127.0.0.1", "127.0.0.2"], ["127.0.0.3"])
    finally:
        over.set()
        thread.join()
    assert {"127.0.0.1", "127.0.0.2"} <= found.small


@on_a_host
def test_the_kernel_says_why_it_sends_nothing() -> None:
    sh("ip link set lo up")
    found = answering(["192.0.2.1"], [])
    assert found.errors == {"192.0.2.1": "Network is unreachable"}
