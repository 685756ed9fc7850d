# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: cnm.fabric contributors
"""The generated rules mean what the declared policies say, by an oracle that reads these rule by rule."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from ipaddress import ip_address, ip_network
from typing import Any, Optional

import pytest
from hypothesis import given
from hypothesis import strategies as st
from sampling import sampled

from ansible_collections.cnm.fabric.plugins.module_utils.plan.nftables import Nftables
from ansible_collections.cnm.fabric.plugins.plugin_utils.facts import Facts
from ansible_collections.cnm.fabric.plugins.plugin_utils.firewall.policy_tables import merged
from ansible_collections.cnm.fabric.plugins.plugin_utils.leases.base import empty
from ansible_collections.cnm.fabric.plugins.plugin_utils.module_state.reading import read_topology
from ansible_collections.cnm.fabric.plugins.plugin_utils.planner.plan import Planned, plan

ADDRESSES = {
    "web": ("10.0.1.10", "fd00:1::10"),
    "one": ("10.0.1.11", "fd00:1::11"),
    "two": ("10.0.1.12", "fd00:1::12"),
    "far": ("10.0.2.20", "fd00:2::20"),
}
NETWORK = {"web": "front", "one": "front", "two": "front", "far": "back"}
SETS = {"office": ["192.0.2.0/24", "2001:db8::/64"], "corner": ["192.0.2.128/25", "10.0.1.12"]}
HOST = ("203.0.113.1",)
GATEWAYS = ("10.0.1.1", "10.0.2.1", "fd00:1::1", "fd00:2::1")
ENDS = [
    *(address for pair in ADDRESSES.values() for address in pair),
    *HOST,
    *GATEWAYS,
    *("192.0.2.1", "192.0.2.129", "198.51.100.1", "2001:db8::1", "2001:db8:1::1", "0.0.0.0", "255.255.255.255"),
]


def made(policies: Mapping[str, Any], held: list[str], facts: Optional[Facts] = None, **more: Any) -> Planned:
    variables: dict[str, Any] = {
        "cnm_networks": {
            "front": {"subnet": ["10.0.1.0/24", "fd00:1::/64"]},
            "back": {"subnet": ["10.0.2.0/24", "fd00:2::/64"]},
        },
        "cnm_sandboxes": {
            name: {
                "networks": {NETWORK[name]: {"ipv4_address": pair[0], "ipv6_address": pair[1]}},
                "policies": held if name == "web" else [],
            }
            for name, pair in ADDRESSES.items()
        },
        "cnm_policies": policies,
        "cnm_address_sets": SETS,
        **more,
    }
    known = facts or Facts(addresses=tuple((item, "up0", 1500) for item in HOST))
    return plan(read_topology({"node1": variables}), {"node1": known}, empty(), "now")


def table_of(planned: Planned) -> Nftables:
    tables = [item for item in planned.plans["node1"].resources if isinstance(item, Nftables)]
    return next(item for item in tables if item.family == "bridge")


@dataclass(frozen=True)
class Packet:
    """What opens a connection, or asks."""

    far: str
    protocol: int
    port: int = 0
    """Or the type of ICMP."""


class Rules:
    """What a table does with a packet, for the statements that judge what opens a connection."""

    def __init__(self, table: Nftables) -> None:
        self.sets = {item.name: item for item in table.sets}
        self.chains = {item.name: item.rules for item in table.chains}

    def class_of(self, address: str) -> int:
        family = ip_address(address).version
        for name in (f"policy_members{family}", f"policy_prefixes{family}"):
            for element in self.sets[name].elements:
                key, _colon, number = element.partition(" : ")
                first, _dash, last = key.partition("-")
                if int(ip_address(first)) <= int(ip_address(address)) <= int(ip_address(last or first)):
                    return int(number, 16)
        return 0

    def verdict(self, direction: str, packet: Packet) -> str:
        tcp = "_tcp" if packet.protocol == 6 else ""
        judging = [name for name in self.chains if re.fullmatch(rf"p[0-9a-f]{{10}}_{direction}{tcp}", name)]
        if not judging:
            return "allow"
        for rule in self.chains[judging[0]]:
            condition, verdict = re.fullmatch(r"(.*?)(return|goto \S+)", rule).groups()  # type: ignore[union-attr]
            if not condition or self._fits(condition, packet):
                return "allow" if verdict == "return" else "reject" if verdict.endswith("policy_reject") else "drop"
        raise AssertionError("the chain has no end")

    def _fits(self, condition: str, packet: Packet) -> bool:
        key, name = re.fullmatch(r"(.*) @(\S+) ", condition).groups()  # type: ignore[union-attr]
        has_ports = packet.protocol in (6, 17, 132)
        values = {
            "meta mark": self.class_of(packet.far),
            "meta l4proto": packet.protocol,
            "th dport": packet.port if has_ports else -1,
            "@th,0,8": packet.port if packet.protocol in (1, 58) else -1,
        }
        found = [values[part] for part in key.split(" . ")]
        return any(
            all(_within(value, text) for value, text in zip(found, element.split(" . "), strict=True))
            for element in self.sets[name].elements
        )


def _within(value: int, text: str) -> bool:
    first, _dash, last = text.partition("-")
    return int(first, 0) <= value <= int(last or first, 0)


# --- the oracle ---

_ICMP = {"echo-request": {(1, 8), (58, 128)}, "packet-too-big": {(58, 2)}, "icmp/13": {(1, 13)}}
_PROTOCOLS = {"tcp": {6}, "udp": {17}, "icmp": {1, 58}, "gre": {47}, 99: {99}}


def is_peer(peer: Mapping[str, str], far: str) -> bool:
    """Whether an address is of what a rule names."""
    (kind, name), address = next(iter(peer.items())), ip_address(far)
    if kind == "sandbox":
        return far in ADDRESSES[name]
    if kind == "network":
        return any(far in pair for box, pair in ADDRESSES.items() if NETWORK[box] == name)
    if kind == "host":
        return far in (*HOST, *GATEWAYS)
    prefixes = SETS[name] if kind == "addresses" else [name]
    return any(address in ip_network(prefix) for prefix in prefixes if ip_network(prefix).version == address.version)


def is_about(rule: Mapping[str, Any], packet: Packet) -> bool:
    """Whether a rule is about a packet."""
    peers = rule.get("from") or rule.get("to")
    if peers and not any(is_peer(peer, packet.far) for peer in peers):
        return False
    named = [key for key in ("ports", "protocols", "icmp_types") if key in rule]
    for text in rule.get("ports", ()):
        numbers, _slash, protocol = str(text).partition("/")
        first, _dash, last = numbers.partition("-")
        if {"tcp": 6, "udp": 17, "": 6}[protocol] == packet.protocol and int(first) <= packet.port <= int(
            last or first
        ):
            return True
    if any(packet.protocol in _PROTOCOLS[name] for name in rule.get("protocols", ())):
        return True
    return not named or any((packet.protocol, packet.port) in _ICMP[name] for name in rule.get("icmp_types", ()))


def expected(policies: Mapping[str, Any], held: list[str], direction: str, packet: Packet) -> str:
    rules = [rule for name in held for rule in policies[name].get(direction) or ()]
    actions = {rule["action"] for rule in rules if is_about(rule, packet)}
    defaults = set()
    for name in held:
        said = (policies[name].get("default") or {}).get(direction)
        if said or policies[name].get(direction):
            defaults.add(said or "drop")
    for found in (actions, defaults):
        for action in ("drop", "reject", "allow"):
            if action in found:
                # Nothing is answered to what goes to a sandbox.
                return "drop" if action == "reject" and direction == "ingress" else action
    return "allow"


_PEERS = st.sampled_from(
    [
        *({"sandbox": name} for name in ADDRESSES),
        *({"network": name} for name in ("front", "back")),
        *({"addresses": name} for name in SETS),
        *(
            {"cidr": text}
            for text in ("0.0.0.0/0", "::/0", "192.0.2.0/25", "10.0.0.0/16", "10.0.1.11", "2001:db8::/32")
        ),
        {"host": "node1"},
    ]
)
_MATCHES = st.fixed_dictionaries(
    {},
    optional={
        "ports": st.lists(
            st.sampled_from([80, "80/udp", "79-81/tcp", "82-90/tcp", "1-65535/udp", "53/udp"]), min_size=1, max_size=3
        ),
        "protocols": st.lists(st.sampled_from(list(_PROTOCOLS)), min_size=1, max_size=2),
        "icmp_types": st.lists(st.sampled_from(list(_ICMP)), min_size=1, max_size=2),
    },
)
_ACTIONS = st.sampled_from(["allow", "allow", "drop", "reject"])


def _rules(key: str) -> st.SearchStrategy[Any]:
    peers = st.lists(_PEERS, min_size=1, max_size=3)
    rule = st.builds(
        lambda action, found, matches: {"action": action, **({key: found} if found else {}), **matches},
        _ACTIONS,
        st.one_of(st.none(), peers, peers),
        _MATCHES,
    )
    return st.lists(rule, max_size=4)


_DEFAULT = st.fixed_dictionaries({}, optional={"ingress": _ACTIONS, "egress": _ACTIONS})
_POLICY = st.fixed_dictionaries({}, optional={"ingress": _rules("from"), "egress": _rules("to"), "default": _DEFAULT})
PACKETS = [
    Packet(far, protocol, port)
    for far in ENDS
    for protocol, port in (
        *((6, port) for port in (79, 80, 82, 90, 91)),
        *((17, port) for port in (53, 80)),
        *((1, 8), (1, 13), (1, 2), (58, 128), (58, 2), (47, 0), (99, 0), (132, 80)),
    )
    if protocol not in (1, 58) or (protocol == 58) == (":" in far)
]


@sampled(40, 1000)
@given(policies=st.dictionaries(st.sampled_from(["a", "b", "c"]), _POLICY, min_size=1))
def test_rules_mean_what_policies_say(policies: dict[str, Any]) -> None:
    held = sorted(policies)
    planned = made(policies, held)
    assert not planned.refusals
    rules = Rules(table_of(planned))
    for direction, name in (("ingress", "in"), ("egress", "out")):
        wrong = [
            (packet, found, wanted)
            for packet in PACKETS
            for found, wanted in [(rules.verdict(name, packet), expected(policies, held, direction, packet))]
            if found != wanted
        ]
        assert wrong == []


@given(spans=st.lists(st.tuples(st.integers(1, 60), st.integers(0, 20)), max_size=12))
@sampled(100, 2000)
def test_merged_ranges_have_the_same_numbers(spans: list[tuple[int, int]]) -> None:
    ranges = [(first, first + more) for first, more in spans]
    found = merged(ranges)
    assert {n for first, last in found for n in range(first, last + 1)} == {
        n for a, b in ranges for n in range(a, b + 1)
    }
    assert all(last + 1 < first for (_f, last), (first, _l) in zip(found, found[1:]))


SIMPLE = {"web": {"ingress": [{"action": "allow", "from": [{"network": "front"}], "ports": ["80"]}]}}


def test_a_new_member_of_a_network_is_one_element_for_each_of_its_addresses() -> None:
    before, after = (
        table_of(made(SIMPLE, ["web"], cnm_sandboxes_more=more))
        for more in (
            {},
            {"three": {"networks": {"front": {"ipv4_address": "10.0.1.13", "ipv6_address": "fd00:1::13"}}}},
        )
    )
    assert before.chains == after.chains
    changed = {
        new.name: set(new.elements) ^ set(old.elements)
        for old, new in zip(before.sets, after.sets, strict=True)
        if new.name.startswith(("policy_", "p")) and old.elements != new.elements
    }
    assert {name: len(elements) for name, elements in changed.items()} == {"policy_members4": 1, "policy_members6": 2}


def _classes(table: Nftables) -> dict[str, str]:
    """The class of each single address."""
    elements = (item for found in table.sets if found.name in MEMBERS for item in found.elements)
    return dict(item.split(" : ") for item in elements)


MEMBERS = ("policy_members4", "policy_members6")


def test_a_sandbox_is_meant_by_its_link_local_addresses_too() -> None:
    """It may send from them, and so would speak past a rule that drops what it sends."""
    policies = {"web": {"ingress": [{"action": "drop", "from": [{"sandbox": "three"}]}, {"action": "allow"}]}}
    own = {"ipv4_address": "10.0.1.13", "link_local_ips": ["169.254.8.8", "fe80::8"]}
    found = _classes(table_of(made(policies, ["web"], cnm_sandboxes_more={"three": {"networks": {"front": own}}})))
    assert found["169.254.8.8"] == found["10.0.1.13"]
    assert "fe80::8" in found


def test_a_host_is_not_meant_by_addresses_of_the_networks_whatever_it_reports() -> None:
    """Else a host could make others' rules about it be about sandboxes that it does not have."""
    forged = Facts(addresses=tuple((item, "up0", 1500) for item in ("203.0.113.2", "10.0.1.11", "fd00:1::11")))
    variables = {
        "cnm_networks": {"front": {"subnet": ["10.0.1.0/24", "fd00:1::/64"]}},
        "cnm_sandboxes": {"web": {"networks": ["front"], "policies": ["web"]}},
        "cnm_policies": {"web": {"ingress": [{"action": "allow", "from": [{"host": "node2"}]}]}},
    }
    topology = read_topology({"node1": variables, "node2": {}})
    assert sorted(_classes(table_of(plan(topology, {"node1": Facts(), "node2": forged}, empty(), "now")))) == [
        "203.0.113.2"
    ]


def test_sandboxes_with_the_same_policies_have_their_chains_in_common() -> None:
    boxes = {f"x{number}": {"networks": ["front"], "policies": ["web"]} for number in range(20)}
    one, many = (table_of(made(SIMPLE, ["web"], cnm_sandboxes_more=more)) for more in ({}, boxes))
    assert one.chains == many.chains


def test_a_host_without_policies_has_no_rules_about_any() -> None:
    assert table_of(made(SIMPLE, [])) == table_of(made({}, []))


def test_the_way_to_the_resolvers_is_open_unless_a_rule_closes_it() -> None:
    facts = Facts(resolvers=("198.51.100.1",), routes=(("default", "up0", "203.0.113.254"),))
    shut: dict[str, Any] = {"default": {"egress": "drop"}}
    query = Packet("198.51.100.1", 17, 53)
    assert Rules(table_of(made({"a": shut}, ["a"], facts))).verdict("out", query) == "allow"
    assert Rules(table_of(made({"a": shut}, ["a"], facts))).verdict("out", Packet("198.51.100.2", 17, 53)) == "drop"
    closing = {**shut, "egress": [{"action": "drop", "ports": ["53/udp"]}]}
    assert Rules(table_of(made({"a": closing}, ["a"], facts))).verdict("out", query) == "drop"


def test_a_host_that_cannot_filter_bridged_frames_refuses_policies() -> None:
    planned = made(SIMPLE, ["web"], Facts(filters_bridges=False))
    assert "the policies of web could not be enforced" in planned.refusals["node1"][0]


@pytest.mark.parametrize("rejects", [True, False])
def test_a_kernel_that_cannot_reject_gives_a_warning(rejects: bool) -> None:
    planned = made({"a": {"default": {"egress": "reject"}}}, ["a"], Facts(rejects_bridged=rejects))
    warned = [text for text in planned.warnings.get("node1", ()) if "CONFIG_NFT_BRIDGE_REJECT" in text]
    assert len(warned) == (not rejects)
    reject = next(chain for chain in table_of(planned).chains if chain.name == "policy_reject")
    assert any("reject" in rule for rule in reject.rules) == rejects
