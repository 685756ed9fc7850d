# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: cnm.fabric contributors
"""Our netlink messages are, byte for byte, those of pyroute2, which also understands them; and we understand its own.

No kernel is asked: where a socket is needed a list of prepared answers plays its part.
"""

from __future__ import annotations

import errno
import ipaddress
import random
import socket
import struct
from collections.abc import Callable, Iterable, Sequence
from types import SimpleNamespace
from typing import Any, NamedTuple, Optional

import pytest
from hypothesis import given
from hypothesis import strategies as some
from pyroute2.netlink.rtnl.fibmsg import fibmsg
from pyroute2.netlink.rtnl.ifaddrmsg import ifaddrmsg
from pyroute2.netlink.rtnl.ifinfmsg import ifinfmsg
from pyroute2.netlink.rtnl.ndmsg import ndmsg
from pyroute2.netlink.rtnl.nsidmsg import nsidmsg
from pyroute2.netlink.rtnl.rtmsg import rtmsg

from ansible_collections.cnm.fabric.plugins.module_utils.kernel import netlink
from ansible_collections.cnm.fabric.plugins.module_utils.kernel.netlink import Message, Netlink, NetlinkError
from ansible_collections.cnm.fabric.plugins.module_utils.kernel.netlink.bulk import GroupingDecoder
from ansible_collections.cnm.fabric.plugins.module_utils.kernel.netlink.decode import (
    AlikeDecoder,
    decode_attributes,
    decode_neighbour,
)

INET, INET6, BRIDGE = socket.AF_INET, socket.AF_INET6, 7
REQUEST, MULTI, ACK, INTERRUPTED = 1, 2, 4, 0x10
CHANGE = REQUEST
REPLACE = CHANGE | 0x500
NEW = CHANGE | 0x600
APPEND = CHANGE | 0xC00
MAC = "02:42:0a:00:00:02"
Attributes = list[tuple[str, Any]]


def nest(*attributes: tuple[str, Any]) -> dict[str, Any]:
    return {"attrs": list(attributes)}


def info(kind: str, *data: tuple[str, Any]) -> tuple[str, Any]:
    attributes = [("IFLA_INFO_KIND", kind)]
    return ("IFLA_LINKINFO", nest(*attributes, *([("IFLA_INFO_DATA", nest(*data))] if data else [])))


def port(*flags: tuple[str, Any]) -> tuple[str, Any]:
    slave = ("IFLA_INFO_SLAVE_KIND", "bridge"), ("IFLA_INFO_SLAVE_DATA", nest(*flags))
    return ("IFLA_LINKINFO", nest(*slave))


def encoded(
    class_: Any, kind: int, flags: int, fields: dict[str, int], attributes: Iterable[Any], sequence: int = 0
) -> bytes:
    """What pyroute2 makes of a header and named attributes."""
    message = class_()
    message["header"] = {"type": kind, "flags": flags, "sequence_number": sequence, "pid": 0}
    for name, value in fields.items():
        message[name] = value
    message["attrs"] = list(attributes)
    message.encode()
    return bytes(message.data)


def plain(attributes: Iterable[Any]) -> list[Any]:
    """pyroute2's attributes as lists of (name, value), its wrappers taken off."""
    found = []
    for name, value in [(item[0], item[1]) for item in attributes]:
        inner = value["attrs"] if isinstance(value, dict) and "attrs" in value else None
        found.append((name, value if inner is None else plain(inner)))
    return found


class Form(NamedTuple):
    """The class pyroute2 has for a message, its number and flags."""

    theirs: Any
    kind: int
    flags: int


NEW_LINK = Form(ifinfmsg, 16, NEW)
CHANGED_LINK = Form(ifinfmsg, 16, CHANGE)
OLD_LINK = Form(ifinfmsg, 17, CHANGE)
NEW_ADDRESS = Form(ifaddrmsg, 20, REPLACE)
OLD_ADDRESS = Form(ifaddrmsg, 21, CHANGE)
NEW_ROUTE = Form(rtmsg, 24, REPLACE)
OLD_ROUTE = Form(rtmsg, 25, CHANGE)
NEW_NEIGHBOUR = Form(ndmsg, 28, REPLACE)
ONE_MORE_NEIGHBOUR = Form(ndmsg, 28, APPEND)
OLD_NEIGHBOUR = Form(ndmsg, 29, CHANGE)
NEW_RULE = Form(fibmsg, 32, NEW)
OLD_RULE = Form(fibmsg, 33, CHANGE)


class Case(NamedTuple):
    ours: Message
    form: Form
    fields: dict[str, int]
    attributes: Attributes
    text: str


CASES = {
    "bridge": Case(
        netlink.new_link("br-1", "bridge", mac=MAC, mtu=1450, up=True, data={"ageing_time": 30000, "stp_state": 0}),
        NEW_LINK,
        {"flags": 1, "change": 1},
        [
            ("IFLA_IFNAME", "br-1"),
            ("IFLA_ADDRESS", MAC),
            ("IFLA_MTU", 1450),
            info("bridge", ("IFLA_BR_AGEING_TIME", 30000), ("IFLA_BR_STP_STATE", 0)),
        ],
        "new link br-1",
    ),
    "bridge with every option": Case(
        netlink.new_link(
            "br-1",
            "bridge",
            data={
                "forward_delay": 1500,
                "hello_time": 200,
                "max_age": 2000,
                "ageing_time": 30000,
                "stp_state": 1,
                "priority": 32768,
                "vlan_filtering": True,
                "group_fwd_mask": 8,
                "mcast_snooping": False,
                "nf_call_iptables": False,
                "nf_call_ip6tables": True,
                "nf_call_arptables": False,
                "vlan_default_pvid": 1,
            },
        ),
        NEW_LINK,
        {},
        [
            ("IFLA_IFNAME", "br-1"),
            info(
                "bridge",
                ("IFLA_BR_FORWARD_DELAY", 1500),
                ("IFLA_BR_HELLO_TIME", 200),
                ("IFLA_BR_MAX_AGE", 2000),
                ("IFLA_BR_AGEING_TIME", 30000),
                ("IFLA_BR_STP_STATE", 1),
                ("IFLA_BR_PRIORITY", 32768),
                ("IFLA_BR_VLAN_FILTERING", 1),
                ("IFLA_BR_GROUP_FWD_MASK", 8),
                ("IFLA_BR_MCAST_SNOOPING", 0),
                ("IFLA_BR_NF_CALL_IPTABLES", 0),
                ("IFLA_BR_NF_CALL_IP6TABLES", 1),
                ("IFLA_BR_NF_CALL_ARPTABLES", 0),
                ("IFLA_BR_VLAN_DEFAULT_PVID", 1),
            ),
        ],
        "new link br-1",
    ),
    "veth whose peer is made in place": Case(
        netlink.new_link(
            "vh-1", "veth", master=7, up=True, peer={"name": "eth0", "netns_fd": 9, "mac": MAC, "mtu": 1400}
        ),
        NEW_LINK,
        {"flags": 1, "change": 1},
        [
            ("IFLA_IFNAME", "vh-1"),
            ("IFLA_MASTER", 7),
            info(
                "veth",
                (
                    "VETH_INFO_PEER",
                    nest(("IFLA_IFNAME", "eth0"), ("IFLA_NET_NS_FD", 9), ("IFLA_ADDRESS", MAC), ("IFLA_MTU", 1400)),
                ),
            ),
        ],
        "new link vh-1",
    ),
    "vxlan": Case(
        netlink.new_link(
            "vx-1",
            "vxlan",
            data={
                "id": 4097,
                "local": "192.0.2.1",
                "group": "239.1.1.1",
                "port": 4789,
                "learning": False,
                "ttl": 64,
                "proxy": True,
                "link": 2,
                "ageing": 300,
                "l2miss": False,
                "l3miss": True,
                "udp_csum": True,
                "source_ports": (50, 51),
            },
        ),
        NEW_LINK,
        {},
        [
            ("IFLA_IFNAME", "vx-1"),
            info(
                "vxlan",
                ("IFLA_VXLAN_ID", 4097),
                ("IFLA_VXLAN_LOCAL", "192.0.2.1"),
                ("IFLA_VXLAN_GROUP", "239.1.1.1"),
                ("IFLA_VXLAN_PORT", 4789),
                ("IFLA_VXLAN_LEARNING", 0),
                ("IFLA_VXLAN_TTL", 64),
                ("IFLA_VXLAN_PROXY", 1),
                ("IFLA_VXLAN_LINK", 2),
                ("IFLA_VXLAN_AGEING", 300),
                ("IFLA_VXLAN_L2MISS", 0),
                ("IFLA_VXLAN_L3MISS", 1),
                ("IFLA_VXLAN_UDP_CSUM", 1),
                ("IFLA_VXLAN_PORT_RANGE", {"low": 50, "high": 51}),
            ),
        ],
        "new link vx-1",
    ),
    "vxlan over IPv6": Case(
        netlink.new_link("vx-1", "vxlan", data={"id": 5, "local": "2001:db8::1", "group": "ff05::100"}),
        NEW_LINK,
        {},
        [
            ("IFLA_IFNAME", "vx-1"),
            info(
                "vxlan",
                ("IFLA_VXLAN_ID", 5),
                ("IFLA_VXLAN_LOCAL6", "2001:db8::1"),
                ("IFLA_VXLAN_GROUP6", "ff05::100"),
            ),
        ],
        "new link vx-1",
    ),
    **{
        f"geneve to {remote}": Case(
            netlink.new_link("ge-1", "geneve", data={"id": 77, "remote": remote, "port": 6081, "ttl": 64, "tos": 4}),
            NEW_LINK,
            {},
            [
                ("IFLA_IFNAME", "ge-1"),
                info(
                    "geneve",
                    ("IFLA_GENEVE_ID", 77),
                    (attribute, remote),
                    ("IFLA_GENEVE_PORT", 6081),
                    ("IFLA_GENEVE_TTL", 64),
                    ("IFLA_GENEVE_TOS", 4),
                ),
            ],
            "new link ge-1",
        )
        for remote, attribute in (("192.0.2.2", "IFLA_GENEVE_REMOTE"), ("2001:db8::2", "IFLA_GENEVE_REMOTE6"))
    },
    **{
        f"macvlan {mode}": Case(
            netlink.new_link("eth0", "macvlan", link=3, netns_fd=11, index=4, data={"mode": mode}),
            NEW_LINK,
            {"index": 4},
            [
                ("IFLA_IFNAME", "eth0"),
                ("IFLA_LINK", 3),
                ("IFLA_NET_NS_FD", 11),
                info("macvlan", ("IFLA_MACVLAN_MODE", mode)),
            ],
            "new link eth0",
        )
        for mode in ("private", "vepa", "bridge", "passthru", "source")
    },
    "ipvlan": Case(
        netlink.new_link("eth0", "ipvlan", link=3, data={"mode": "l3s"}),
        NEW_LINK,
        {},
        [("IFLA_IFNAME", "eth0"), ("IFLA_LINK", 3), info("ipvlan", ("IFLA_IPVLAN_MODE", 2))],
        "new link eth0",
    ),
    "vlan": Case(
        netlink.new_link("eth0.100", "vlan", link=3, group=5, data={"id": 100, "protocol": 0x88A8}),
        NEW_LINK,
        {},
        [
            ("IFLA_IFNAME", "eth0.100"),
            ("IFLA_GROUP", 5),
            ("IFLA_LINK", 3),
            info("vlan", ("IFLA_VLAN_ID", 100), ("IFLA_VLAN_PROTOCOL", 0x88A8)),
        ],
        "new link eth0.100",
    ),
    "dummy": Case(
        netlink.new_link("dm0", "dummy"), NEW_LINK, {}, [("IFLA_IFNAME", "dm0"), info("dummy")], "new link dm0"
    ),
    "link renamed, up": Case(
        netlink.set_link(5, name="eth1", up=True, mac=MAC, mtu=9000, group=3),
        CHANGED_LINK,
        {"index": 5, "flags": 1, "change": 1},
        [("IFLA_IFNAME", "eth1"), ("IFLA_ADDRESS", MAC), ("IFLA_MTU", 9000), ("IFLA_GROUP", 3)],
        "change of link 5 (name, mac, mtu, group, up)",
    ),
    "link down": Case(
        netlink.set_link(5, up=False), CHANGED_LINK, {"index": 5, "change": 1}, [], "change of link 5 (up)"
    ),
    "link released": Case(
        netlink.set_link(5, master=0),
        CHANGED_LINK,
        {"index": 5},
        [("IFLA_MASTER", 0)],
        "change of link 5 (master)",
    ),
    "link without IPv6 addresses of its own": Case(
        netlink.set_link(5, addr_gen_mode="none"),
        CHANGED_LINK,
        {"index": 5},
        [("IFLA_AF_SPEC", nest(("AF_INET6", nest(("IFLA_INET6_ADDR_GEN_MODE", 1)))))],
        "change of link 5 (addr_gen_mode)",
    ),
    "bridge port": Case(
        netlink.set_link(
            5,
            port={
                "hairpin": False,
                "guard": True,
                "root_block": True,
                "fast_leave": False,
                "learning": False,
                "flood": True,
                "mcast_flood": True,
                "mcast_to_unicast": False,
                "vlan_tunnel": False,
                "bcast_flood": False,
                "neigh_suppress": True,
                "isolated": True,
                "locked": True,
            },
        ),
        CHANGED_LINK,
        {"index": 5},
        [
            port(
                ("IFLA_BRPORT_MODE", 0),
                ("IFLA_BRPORT_GUARD", 1),
                ("IFLA_BRPORT_PROTECT", 1),
                ("IFLA_BRPORT_FAST_LEAVE", 0),
                ("IFLA_BRPORT_LEARNING", 0),
                ("IFLA_BRPORT_UNICAST_FLOOD", 1),
                ("IFLA_BRPORT_MCAST_FLOOD", 1),
                ("IFLA_BRPORT_MCAST_TO_UCAST", 0),
                ("IFLA_BRPORT_VLAN_TUNNEL", 0),
                ("IFLA_BRPORT_BCAST_FLOOD", 0),
                ("IFLA_BRPORT_NEIGH_SUPPRESS", 1),
                ("IFLA_BRPORT_ISOLATED", 1),
                ("IFLA_BRPORT_LOCKED", 1),
            )
        ],
        "change of link 5 (hairpin, guard, root_block, fast_leave, learning, flood, mcast_flood, mcast_to_unicast, "
        "vlan_tunnel, bcast_flood, neigh_suppress, isolated, locked)",
    ),
    "VXLAN's own settings": Case(
        netlink.set_link(5, kind="vxlan", data={"local": "fd00::1", "learning": False}),
        CHANGED_LINK,
        {"index": 5},
        [info("vxlan", ("IFLA_VXLAN_LOCAL6", "fd00::1"), ("IFLA_VXLAN_LEARNING", 0))],
        "change of link 5 (local, learning)",
    ),
    "link removed": Case(netlink.del_link(5), OLD_LINK, {"index": 5}, [], "removal of link 5"),
    "group removed": Case(
        netlink.del_group(77), OLD_LINK, {}, [("IFLA_GROUP", 77)], "removal of the links of group 77"
    ),
    "address": Case(
        netlink.new_address(5, "10.0.0.2/24"),
        NEW_ADDRESS,
        {"family": INET, "prefixlen": 24, "index": 5},
        [("IFA_LOCAL", "10.0.0.2"), ("IFA_ADDRESS", "10.0.0.2")],
        "new address 10.0.0.2/24 on link 5",
    ),
    "IPv6 address": Case(
        netlink.new_address(5, "fd00::2/64"),
        NEW_ADDRESS,
        {"family": INET6, "prefixlen": 64, "index": 5, "flags": 2},
        [("IFA_LOCAL", "fd00::2"), ("IFA_ADDRESS", "fd00::2")],
        "new address fd00::2/64 on link 5",
    ),
    "IPv6 address with duplicate detection": Case(
        netlink.new_address(5, "fd00::2", nodad=False),
        NEW_ADDRESS,
        {"family": INET6, "prefixlen": 128, "index": 5},
        [("IFA_LOCAL", "fd00::2"), ("IFA_ADDRESS", "fd00::2")],
        "new address fd00::2 on link 5",
    ),
    "address removed": Case(
        netlink.del_address(5, "10.0.0.2/24"),
        OLD_ADDRESS,
        {"family": INET, "prefixlen": 24, "index": 5},
        [("IFA_LOCAL", "10.0.0.2"), ("IFA_ADDRESS", "10.0.0.2")],
        "removal of address 10.0.0.2/24 from link 5",
    ),
    "default route": Case(
        netlink.new_route("default", via="10.0.0.1", dev=2, protocol=99),
        NEW_ROUTE,
        {"family": INET, "table": 254, "proto": 99, "type": 1},
        [("RTA_GATEWAY", "10.0.0.1"), ("RTA_OIF", 2), ("RTA_TABLE", 254)],
        "new route 0.0.0.0/0 via 10.0.0.1 on link 2",
    ),
    "IPv6 default route": Case(
        netlink.new_route("default", via="fe80::1", dev=2, protocol=99),
        NEW_ROUTE,
        {"family": INET6, "table": 254, "proto": 99, "type": 1},
        [("RTA_GATEWAY", "fe80::1"), ("RTA_OIF", 2), ("RTA_TABLE", 254)],
        "new route ::/0 via fe80::1 on link 2",
    ),
    "default route of a family": Case(
        netlink.new_route("default", dev=2, protocol=99, family=6),
        NEW_ROUTE,
        {"family": INET6, "table": 254, "proto": 99, "type": 1},
        [("RTA_OIF", 2), ("RTA_TABLE", 254)],
        "new route ::/0 on link 2",
    ),
    "route to what is on the link": Case(
        netlink.new_route("10.1.0.0/16", dev=2, protocol=99, table=1000, metric=50, source="10.0.0.2"),
        NEW_ROUTE,
        {"family": INET, "dst_len": 16, "table": 0, "proto": 99, "scope": 253, "type": 1},
        [
            ("RTA_DST", "10.1.0.0"),
            ("RTA_OIF", 2),
            ("RTA_PRIORITY", 50),
            ("RTA_PREFSRC", "10.0.0.2"),
            ("RTA_TABLE", 1000),
        ],
        "new route 10.1.0.0/16 on link 2",
    ),
    "route removed": Case(
        netlink.del_route("10.1.0.0/16", via="10.0.0.1", protocol=99),
        OLD_ROUTE,
        {"family": INET, "dst_len": 16, "table": 254, "proto": 99, "scope": 255},
        [("RTA_DST", "10.1.0.0"), ("RTA_GATEWAY", "10.0.0.1"), ("RTA_TABLE", 254)],
        "removal of route 10.1.0.0/16 via 10.0.0.1",
    ),
    "rule about what comes in by a link": Case(
        netlink.new_rule(6, priority=1000, protocol=137, iif="br-1"),
        NEW_RULE,
        {"family": INET6, "action": 6},
        [("FRA_IIFNAME", "br-1"), ("FRA_PRIORITY", 1000), ("FRA_PROTOCOL", 137)],
        "new ipv6 rule 1000 from br-1",
    ),
    "rule about what the host sends to a prefix": Case(
        netlink.new_rule(4, priority=1000, protocol=137, iif="lo", destination="10.0.0.0/24", table=254),
        NEW_RULE,
        {"family": INET, "dst_len": 24, "table": 254, "action": 1},
        [
            ("FRA_DST", "10.0.0.0"),
            ("FRA_IIFNAME", "lo"),
            ("FRA_PRIORITY", 1000),
            ("FRA_TABLE", 254),
            ("FRA_PROTOCOL", 137),
        ],
        "new ipv4 rule 1000 from lo to 10.0.0.0/24",
    ),
    "rule removed": Case(
        netlink.del_rule(6, priority=1001, protocol=137, destination="fd00::/64"),
        OLD_RULE,
        {"family": INET6, "dst_len": 64, "action": 6},
        [("FRA_DST", "fd00::"), ("FRA_PRIORITY", 1001), ("FRA_PROTOCOL", 137)],
        "removal of ipv6 rule 1001 to fd00::/64",
    ),
    "neighbour": Case(
        netlink.new_neighbour(5, "10.0.0.3", MAC),
        NEW_NEIGHBOUR,
        {"family": INET, "ifindex": 5, "state": 0x80},
        [("NDA_DST", "10.0.0.3"), ("NDA_LLADDR", MAC)],
        f"new neighbour 10.0.0.3 at {MAC} on link 5",
    ),
    "IPv6 neighbour": Case(
        netlink.new_neighbour(5, "fd00::3", MAC, state=netlink.NUD_NOARP),
        NEW_NEIGHBOUR,
        {"family": INET6, "ifindex": 5, "state": 0x40},
        [("NDA_DST", "fd00::3"), ("NDA_LLADDR", MAC)],
        f"new neighbour fd00::3 at {MAC} on link 5",
    ),
    "neighbour removed": Case(
        netlink.del_neighbour(5, "fd00::3"),
        OLD_NEIGHBOUR,
        {"family": INET6, "ifindex": 5},
        [("NDA_DST", "fd00::3")],
        "removal of neighbour fd00::3 on link 5",
    ),
    "forwarding entry of a VXLAN": Case(
        netlink.new_fdb(5, MAC, dst="192.0.2.9"),
        NEW_NEIGHBOUR,
        {"family": BRIDGE, "ifindex": 5, "state": 0x80, "flags": 2},
        [("NDA_LLADDR", MAC), ("NDA_DST", "192.0.2.9")],
        f"new forwarding entry {MAC} to 192.0.2.9 on link 5",
    ),
    "remote end for what has no entry": Case(
        netlink.new_fdb(5, "00:00:00:00:00:00", dst="2001:db8::9"),
        ONE_MORE_NEIGHBOUR,
        {"family": BRIDGE, "ifindex": 5, "state": 0x80, "flags": 2},
        [("NDA_LLADDR", "00:00:00:00:00:00"), ("NDA_DST", "2001:db8::9")],
        "new forwarding entry 00:00:00:00:00:00 to 2001:db8::9 on link 5",
    ),
    "forwarding entry of a bridge": Case(
        netlink.new_fdb(5, MAC, master=True, static=True, vlan=10),
        NEW_NEIGHBOUR,
        {"family": BRIDGE, "ifindex": 5, "state": 0x40, "flags": 4},
        [("NDA_LLADDR", MAC), ("NDA_VLAN", 10)],
        f"new forwarding entry {MAC} on link 5",
    ),
    "forwarding entry of a bridge that stays": Case(
        netlink.new_fdb(5, MAC, master=True, static=True, sticky=True),
        NEW_NEIGHBOUR,
        {"family": BRIDGE, "ifindex": 5, "state": 0x40, "flags": 0x44},
        [("NDA_LLADDR", MAC)],
        f"new forwarding entry {MAC} on link 5",
    ),
    "forwarding entry removed": Case(
        netlink.del_fdb(5, MAC, dst="192.0.2.9"),
        OLD_NEIGHBOUR,
        {"family": BRIDGE, "ifindex": 5, "state": 0x80, "flags": 2},
        [("NDA_LLADDR", MAC), ("NDA_DST", "192.0.2.9")],
        f"removal of forwarding entry {MAC} to 192.0.2.9 on link 5",
    ),
}


@pytest.mark.parametrize("case", CASES.values(), ids=CASES.keys())
def test_a_message_is_the_one_pyroute2_makes(case: Case) -> None:
    assert case.ours.payload == encoded(*case.form, case.fields, case.attributes)
    assert case.ours.text == case.text


@pytest.mark.parametrize("case", CASES.values(), ids=CASES.keys())
def test_pyroute2_reads_a_message_as_it_is_meant(case: Case) -> None:
    read = case.form.theirs(case.ours.payload)
    read.decode()
    assert read["header"]["length"] == len(case.ours.payload)
    assert (read["header"]["type"], read["header"]["flags"]) == case.form[1:]
    assert {name: read[name] for name in case.fields} == case.fields
    assert plain(read["attrs"]) == plain(case.attributes)


def test_setting_one_option_bit_of_a_bridge_keeps_the_others() -> None:
    """pyroute2 does not know the attribute: a value and a mask of 32 bits, IFLA_BR_MULTI_BOOLOPT (46)."""
    for value in (False, True):
        payload = netlink.set_link(5, kind="bridge", data={"no_linklocal_learn": value}).payload
        assert payload.endswith(struct.pack("=HHHHII", 16, 2, 12, 46, value, 1))


def test_an_alias_is_sent_without_nul() -> None:
    read = ifinfmsg(netlink.set_link(5, alias="cnm:default:sandbox/c1").payload)
    read.decode()
    assert read.get_attr("IFLA_IFALIAS") == "cnm:default:sandbox/c1"
    header = encoded(ifinfmsg, 16, CHANGE, {"index": 5}, [])
    empty = struct.pack("=HH", 4, 20)
    assert netlink.set_link(5, alias="").payload == struct.pack("=I", len(header) + 4) + header[4:] + empty


def test_ipvlan_flags_which_pyroute2_does_not_know_are_those_of_the_kernels_header() -> None:
    plain_one = netlink.new_link("eth0", "ipvlan", link=3, data={"mode": "l2"}).payload
    for flags, number in (("bridge", 0), ("private", 1), ("vepa", 2)):
        message = netlink.new_link("eth0", "ipvlan", link=3, data={"mode": "l2", "flags": flags}).payload
        assert message[-8:] == struct.pack("=HHHxx", 6, 2, number)
        assert len(message) == len(plain_one) + 8


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: netlink.new_link("a", "vxlan", data={"vni": 1}), "a link of kind vxlan has no option 'vni'"),
        (
            lambda: netlink.new_link("a", "dummy", data={"id": 1}),
            "a link of kind dummy has no option 'id'; it has none",
        ),
        (lambda: netlink.new_link("a", "macvlan", data={"mode": "l2"}), "'l2' is not one of private, vepa"),
        (lambda: netlink.new_link("a", "veth", peer={"name": "b", "up": True}), "a peer has no option 'up'"),
        (lambda: netlink.set_link(1, port={"isolate": True}), "a bridge port has no option 'isolate'"),
        (lambda: netlink.set_link(1, mac="02:42"), "'02:42' is not a MAC address"),
        (lambda: netlink.del_group(0), "group 0"),
        (lambda: netlink.new_address(1, "10.0.0.300/24"), "'10.0.0.300' is not an IP address"),
        (lambda: netlink.new_address(1, "10.0.0.3/33"), "no prefix length from 0 to 32"),
        (lambda: netlink.new_route("10.0.0.0/8", protocol=1, family=6), "not a destination of family 6"),
        (
            lambda: netlink.new_rule(6, priority=1, protocol=1, destination="10.0.0.0/8"),
            "not a destination of family 6",
        ),
    ],
)
def test_invalid_values_are_refused_before_sending(make: Callable[[], Message], words: str) -> None:
    with pytest.raises(ValueError) as caught:
        make()
    assert words in str(caught.value)


@given(some.ip_addresses(), some.binary(min_size=6, max_size=6), some.integers(1, 2**31 - 1))
def test_any_neighbour_reads_back_the_same(address: Any, mac: bytes, index: int) -> None:
    payload = netlink.new_neighbour(index, str(address), mac.hex(":")).payload
    read = decode_neighbour(payload, 16, len(payload))
    expected = {"index": index, "address": str(address), "mac": mac.hex(":"), "state": 0x80, "permanent": True}
    assert read is not None
    assert {**read, "address": str(ipaddress.ip_address(read["address"]))} == expected


@given(some.ip_addresses().flatmap(lambda a: some.tuples(some.just(a), some.integers(0, a.max_prefixlen))))
def test_any_prefix_is_packed_as_pyroute2_does(prefix: tuple[Any, int]) -> None:
    address, length = prefix
    fields = {"family": INET if address.version == 4 else INET6, "prefixlen": length, "index": 3}
    attributes = [("IFA_LOCAL", str(address)), ("IFA_ADDRESS", str(address))]
    theirs = encoded(ifaddrmsg, 21, CHANGE, fields, attributes)
    assert netlink.del_address(3, f"{address}/{length}").payload == theirs


@given(some.binary(max_size=200))
def test_broken_attributes_do_not_stop_the_reader(data: bytes) -> None:
    decode_attributes({1: ("one", bytes), 2: ("two", bytes)}, data)


_ATTRIBUTES = some.lists(some.tuples(some.integers(1, 4), some.binary(max_size=9)), max_size=5).map(
    lambda items: b"".join(netlink.pack_attribute(number, value) for number, value in items)
)


@given(some.lists(_ATTRIBUTES | some.binary(max_size=60), max_size=12))
def test_attributes_are_read_the_same_whatever_was_read_before(messages: list[bytes]) -> None:
    decoders: dict[int, tuple[str, Callable[[bytes], Any]]] = {1: ("one", bytes), 3: ("three", bytes)}
    alike = AlikeDecoder(decoders)
    assert [alike(data) for data in messages * 2] == [decode_attributes(decoders, data) for data in messages * 2]


def test_attributes_of_any_number_of_lengths_are_read() -> None:
    alike = AlikeDecoder({1: ("one", bytes)})
    for length in (*range(600), *range(600)):
        assert alike(netlink.pack_attribute(1, b"x" * length)) == {"one": b"x" * length}


# --- Reading, from a socket that answers what pyroute2 encodes ---


class Answers:
    """In the place of a socket: keeps what is sent, and gives for each request the next list of datagrams."""

    def __init__(self, *scripts: Callable[[bytes], Sequence[bytes]]) -> None:
        self.scripts = list(scripts)
        self.sent: list[bytes] = []
        self.waiting: list[bytes] = []
        self.closed = False

    def setsockopt(self, *_arguments: Any) -> None:
        pass

    def bind(self, _address: Any) -> None:
        pass

    def send(self, data: bytes) -> int:
        self.sent.append(bytes(data))
        self.waiting += self.scripts.pop(0)(bytes(data))
        return len(data)

    def recv_into(self, buffer: bytearray, _size: int, _flags: int) -> int:
        datagram = self.waiting.pop(0)
        kept = datagram[: len(buffer)]
        buffer[: len(kept)] = kept
        return len(datagram)

    def close(self) -> None:
        self.closed = True


@pytest.fixture
def answering(monkeypatch: pytest.MonkeyPatch) -> Callable[..., tuple[Netlink, Answers]]:
    def make(*scripts: Callable[[bytes], Sequence[bytes]]) -> tuple[Netlink, Answers]:
        answers = Answers(*scripts)
        monkeypatch.setattr(netlink.socket, "socket", SimpleNamespace(**{**vars(socket), "socket": lambda *_: answers}))
        return Netlink(), answers

    return make


def requests(data: bytes) -> list[tuple[int, int, int, bytes]]:
    """What was sent in one go: type, flags, sequence number and the whole message."""
    found = []
    while data:
        length, kind, flags, sequence, _port = struct.unpack_from("=IHHII", data)
        found.append((kind, flags, sequence, data[:length]))
        data = data[length:]
    return found


def verdict(sequence: int, code: int = 0, words: str = "", echoed: bytes = b"", kind: int = 2, flags: int = 0) -> bytes:
    """An acknowledgement or error as the kernel gives it: capped unless the whole request is echoed."""
    body = struct.pack("=i", code) + (echoed or struct.pack("=IHHII", 500, 16, 5, sequence, 0))
    if words:
        text = words.encode() + b"\0"
        body += struct.pack("=HH", 4 + len(text), 1) + text + b"\0" * (-len(text) & 3)
    flags |= (0 if echoed else 0x100) | (0x200 if words else 0)
    return struct.pack("=IHHII", 16 + len(body), kind, flags, sequence, 0) + body


def done(sequence: int, code: int = 0, flags: int = 0) -> bytes:
    return struct.pack("=IHHIIi", 20, 3, MULTI | flags, sequence, 0, code)


def dump(class_: Any, kind: int, *entries: tuple[dict[str, int], Attributes], flags: int = 0) -> Callable[[bytes], Any]:
    """Answers a dump with these entries in one datagram and the end of it in another."""

    def script(request: bytes) -> list[bytes]:
        ((_kind, _flags, sequence, _data),) = requests(request)
        found = [encoded(class_, kind, MULTI | flags, fields, more, sequence) for fields, more in entries]
        return [b"".join(found), done(sequence)]

    return script


ABSENT: dict[str, Any] = {
    "mac": "",
    "mtu": 0,
    "up": False,
    "running": False,
    "carrier": False,
    "loopback": False,
    "master": 0,
    "link": 0,
    "link_netnsid": None,
    "slave": "",
    "alias": "",
    "group": 0,
    "kind": "",
    "data": {},
    "port": {},
    "forwarding4": None,
    "forwarding6": None,
    "accept_ra": None,
    "disable_ipv6": None,
    "addr_gen_mode": None,
    "rp_filter": None,
    "route_localnet": None,
}


def settings(**values: int) -> bytes:
    """The array of a link's IPv6 settings, all 9 but those."""
    array = [9] * 57
    for name, place in (("forwarding", 0), ("accept_ra", 3), ("disable_ipv6", 26), ("addr_gen_mode", 47)):
        array[place] = values.get(name, 9)
    return struct.pack("=57i", *array)


def test_links_are_read_as_pyroute2_writes_them(answering: Any) -> None:
    inet6 = (b"\x00", settings(forwarding=1, accept_ra=2, disable_ipv6=0, addr_gen_mode=1))
    conf = struct.pack("=HH", 4 + len(inet6[1]), 2) + inet6[1]
    nested = struct.pack("=HH", 4 + len(conf), 0x8000 | 10) + conf
    inet4 = struct.pack("=33i", *(int(place in (1, 26)) for place in range(1, 34)))
    conf4 = struct.pack("=HH", 4 + len(inet4), 1) + inet4
    nested += struct.pack("=HH", 4 + len(conf4), 0x8000 | 2) + conf4
    entries = [
        ({"index": 1, "flags": 0x10049}, [("IFLA_IFNAME", "lo"), ("IFLA_MTU", 65536)]),
        (
            {"index": 2, "flags": 0x1003},
            [
                ("IFLA_IFNAME", "vh-1"),
                ("IFLA_ADDRESS", MAC),
                ("IFLA_MASTER", 3),
                ("IFLA_LINK", 4),
                ("IFLA_LINK_NETNSID", 0),
                ("IFLA_IFALIAS", "cnm:default:port"),
                ("IFLA_GROUP", 7),
                (
                    "IFLA_LINKINFO",
                    nest(
                        ("IFLA_INFO_KIND", "veth"),
                        ("IFLA_INFO_SLAVE_KIND", "bridge"),
                        (
                            "IFLA_INFO_SLAVE_DATA",
                            nest(("IFLA_BRPORT_ISOLATED", 1), ("IFLA_BRPORT_UNICAST_FLOOD", 0)),
                        ),
                    ),
                ),
            ],
        ),
        (
            {"index": 3},
            [
                ("IFLA_IFNAME", "vx-1"),
                info("vxlan", ("IFLA_VXLAN_ID", 9), ("IFLA_VXLAN_LOCAL6", "fd00::1"), ("IFLA_VXLAN_PORT", 4789)),
            ],
        ),
    ]
    link = encoded(ifinfmsg, 16, MULTI, {"index": 4}, [("IFLA_IFNAME", "in6")])
    link += struct.pack("=HH", 4 + len(nested), 26) + nested

    def script(request: bytes) -> list[bytes]:
        first, last = dump(ifinfmsg, 16, *entries)(request)
        one = struct.pack("=I", len(link)) + link[4:8] + request[8:12] + link[12:]
        return [first, one + last]

    kernel, answers = answering(script)
    assert kernel.links() == [
        {**ABSENT, "index": 1, "name": "lo", "mtu": 65536, "up": True, "running": True, "carrier": True}
        | {"loopback": True},
        {**ABSENT, "index": 2, "name": "vh-1", "mac": MAC, "up": True, "master": 3, "link": 4, "link_netnsid": 0}
        | {"alias": "cnm:default:port", "group": 7, "kind": "veth", "port": {"isolated": True, "flood": False}}
        | {"slave": "bridge"},
        {**ABSENT, "index": 3, "name": "vx-1", "kind": "vxlan"} | {"data": {"id": 9, "local": "fd00::1", "port": 4789}},
        {**ABSENT, "index": 4, "name": "in6", "forwarding6": 1, "accept_ra": 2, "disable_ipv6": 0}
        | {"addr_gen_mode": "none", "forwarding4": 1, "rp_filter": 0, "route_localnet": 1},
    ]
    ((kind, flags, _sequence, data),) = requests(answers.sent[0])
    assert (kind, flags) == (18, REQUEST | 0x300)
    asked = ifinfmsg(data)
    asked.decode()
    assert plain(asked["attrs"]) == [("IFLA_EXT_MASK", 8)]


def test_addresses_are_read_as_pyroute2_writes_them(answering: Any) -> None:
    kernel, _answers = answering(
        dump(
            ifaddrmsg,
            20,
            (
                {"family": INET, "index": 2, "prefixlen": 24, "flags": 0x80},
                [("IFA_ADDRESS", "10.0.0.9"), ("IFA_LOCAL", "10.0.0.2"), ("IFA_FLAGS", 0x280)],
            ),
            (
                {"family": INET6, "index": 2, "prefixlen": 64, "scope": 253, "flags": 0x2},
                [("IFA_ADDRESS", "fe80::2")],
            ),
        )
    )
    first = {"index": 2, "address": "10.0.0.2/24", "family": 4, "scope": 0, "permanent": True, "flags": 0x280}
    second = {"index": 2, "address": "fe80::2/64", "family": 6, "scope": 253, "permanent": False, "flags": 2}
    assert kernel.addresses() == [first, second]


def test_routes_are_read_as_pyroute2_writes_them_and_only_unicast_ones_outside_the_local_table(answering: Any) -> None:
    main = {"family": INET, "table": 254, "proto": 99, "type": 1}
    kernel, answers = answering(
        dump(
            rtmsg,
            24,
            (main, [("RTA_TABLE", 254), ("RTA_GATEWAY", "10.0.0.1"), ("RTA_OIF", 2)]),
            (
                {**main, "dst_len": 16, "table": 0, "scope": 253},
                [
                    ("RTA_TABLE", 1000),
                    ("RTA_DST", "10.1.0.0"),
                    ("RTA_PRIORITY", 5),
                    ("RTA_PREFSRC", "10.0.0.2"),
                    ("RTA_OIF", 3),
                ],
            ),
            ({**main, "family": INET6, "dst_len": 64}, [("RTA_DST", "fd00::")]),
            ({**main, "table": 255}, [("RTA_DST", "10.0.0.2")]),
            ({**main, "type": 2}, [("RTA_DST", "10.0.0.2")]),
            ({**main, "flags": 0x200}, [("RTA_DST", "10.0.0.2")]),
            ({**main, "family": 28}, []),
        )
    )
    absent = {"via": None, "dev": None, "metric": None, "source": None, "type": 1, "protocol": 99, "scope": 0}
    assert kernel.routes() == [
        {**absent, "destination": "default", "family": 4, "table": 254, "via": "10.0.0.1", "dev": 2},
        {**absent, "destination": "10.1.0.0/16", "family": 4, "table": 1000, "metric": 5, "source": "10.0.0.2"}
        | {"dev": 3, "scope": 253},
        {**absent, "destination": "fd00::/64", "family": 6, "table": 254},
    ]
    asked = rtmsg(answers.sent[0])
    asked.decode()
    assert (asked["type"], asked["family"], asked["table"]) == (1, 0, 0)


def test_rules_are_read_as_pyroute2_writes_them(answering: Any) -> None:
    kernel, answers = answering(
        dump(
            fibmsg,
            32,
            ({"family": INET, "table": 255, "action": 1}, [("FRA_TABLE", 255), ("FRA_PROTOCOL", 2)]),
            (
                {"family": INET6, "dst_len": 64, "action": 6},
                [("FRA_DST", "fd00::"), ("FRA_IIFNAME", "br-1"), ("FRA_PRIORITY", 1000), ("FRA_PROTOCOL", 137)],
            ),
            ({"family": 128, "action": 1}, []),
        )
    )
    assert kernel.rules() == [
        {"family": 4, "priority": 0, "iif": "", "destination": "", "table": 255, "action": 1, "protocol": 2},
        {"family": 6, "priority": 1000, "iif": "br-1", "destination": "fd00::/64", "table": 0, "action": 6}
        | {"protocol": 137},
    ]
    asked = fibmsg(answers.sent[0])
    asked.decode()
    assert (asked["family"], asked["table"], asked["action"]) == (0, 0, 0)


def test_neighbours_and_forwarding_entries_are_read_as_pyroute2_writes_them(answering: Any) -> None:
    kernel, _answers = answering(
        dump(
            ndmsg,
            28,
            (
                {"family": INET, "ifindex": 2, "state": 0x80},
                [("NDA_DST", "10.0.0.3"), ("NDA_LLADDR", MAC), ("NDA_PROBES", 0)],
            ),
            ({"family": INET6, "ifindex": 2, "state": 0x20}, [("NDA_DST", "fd00::3")]),
        ),
        dump(
            ndmsg,
            28,
            (
                {"family": BRIDGE, "ifindex": 5, "state": 0x80, "flags": 2},
                [("NDA_LLADDR", MAC), ("NDA_DST", "fd00::9")],
            ),
            (
                {"family": BRIDGE, "ifindex": 6, "state": 0x40, "flags": 0x10},
                [("NDA_LLADDR", MAC), ("NDA_MASTER", 3), ("NDA_VLAN", 10)],
            ),
        ),
    )
    assert kernel.neighbours() == [
        {"index": 2, "address": "10.0.0.3", "mac": MAC, "state": 0x80, "permanent": True},
        {"index": 2, "address": "fd00::3", "mac": "", "state": 0x20, "permanent": False},
    ]
    no = {"self": False, "permanent": False, "static": False, "sticky": False, "extern_learn": False}
    assert kernel.fdb() == [
        {**no, "index": 5, "mac": MAC, "dst": "fd00::9", "master": None, "vlan": None, "self": True, "permanent": True},
        {**no, "index": 6, "mac": MAC, "dst": None, "master": 3, "vlan": 10, "static": True, "extern_learn": True},
    ]


def _an_entry(chance: random.Random) -> tuple[dict[str, int], Attributes]:
    """A neighbour or a forwarding entry such as kernels send, of few different kinds, so that many are alike."""
    family = chance.choice([INET, INET6, BRIDGE, 99])
    fields = {"family": family, "ifindex": chance.choice([2, 3]), "state": chance.choice([0x80, 0x40])}
    fields["flags"] = chance.choice([0, 2])
    to4, to6 = f"10.0.0.{chance.randrange(256)}", f"fd00::{chance.randrange(1, 256):x}"
    address: Attributes = [
        ("NDA_DST", chance.choice([to4, to6]) if family == BRIDGE else to4 if family == INET else to6)
    ]
    mac: Attributes = [("NDA_LLADDR", f"02:00:00:00:00:{chance.randrange(256):02x}")]
    age: Attributes = [("NDA_CACHEINFO", {"ndm_confirmed": chance.randrange(9), "ndm_used": chance.randrange(9)})]
    if family == BRIDGE:
        more = chance.choice([address, [("NDA_MASTER", chance.choice([7, 8]))]])
        return fields, [*mac, *more, *age, *chance.choice([[], [("NDA_VLAN", 1)]])]
    return fields, [*address, *chance.choice([mac, []]), *age, ("NDA_PROBES", chance.randrange(3))]


def _one_by_one(groups: list[netlink.Alike], name: str) -> list[dict[str, Any]]:
    """What the entries of groups are, each with its own addresses."""
    result = []
    for group in groups:
        first = {key: value for key, value in group.first.items() if key not in (name, "mac")}
        addresses: list[Any] = netlink.address_texts(group.addresses) or [None] * group.size
        macs = [mac.hex(":") for mac in group.macs] or [""] * group.size
        assert len(addresses) == len(macs) == group.size
        result += [{**first, name: address, "mac": mac} for address, mac in zip(addresses, macs)] if first else []
    return result


@pytest.mark.parametrize("seed", range(20))
def test_grouped_decoding_gives_the_same_entries(answering: Any, seed: int) -> None:
    chance = random.Random(seed)
    kinds = [_an_entry(chance) for _kind in range(chance.randrange(1, 4))]
    every = [chance.choice(kinds) if seed % 2 else _an_entry(chance) for _entry in range(200)]
    script = dump(ndmsg, 28, *every)
    kernel, _answers = answering(*[script] * 4)
    assert _one_by_one(kernel.neighbours_alike(), "address") == kernel.neighbours()
    assert _one_by_one(kernel.fdb_alike(), "dst") == kernel.fdb()


def test_hundreds_of_entries_that_are_alike_are_a_handful_of_groups(answering: Any) -> None:
    entry = {"family": BRIDGE, "ifindex": 5, "state": 0x80, "flags": 2}
    rows = [(entry, [("NDA_LLADDR", f"02:00:00:00:00:{n:02x}"), ("NDA_DST", "10.0.0.1")]) for n in range(256)]
    kernel, answers = answering(*[dump(ndmsg, 28, *rows)] * 2)
    assert len(kernel.fdb_alike(5)) < 5
    assert kernel.fdb_alike(6) == []
    asked = ndmsg(answers.sent[0])
    asked.decode()
    assert (asked["family"], asked["ifindex"]) == (BRIDGE, 5)


@given(some.binary(max_size=120), some.integers(0, 60))
def test_broken_entries_do_not_stop_grouped_decoding(data: bytes, length: int) -> None:
    at, end = 16, min(16 + 12 + length, 28 + len(data))
    group = GroupingDecoder(lambda *_: {})(bytes(28) + data, at, end)
    assert group.size >= 1


def test_an_interrupted_dump_is_read_again(answering: Any) -> None:
    torn = dump(ndmsg, 28, ({"family": INET}, [("NDA_DST", "10.0.0.1")]), flags=INTERRUPTED)
    whole = dump(ndmsg, 28, ({"family": INET}, [("NDA_DST", "10.0.0.2")]))
    kernel, answers = answering(torn, torn, whole)
    assert [entry["address"] for entry in kernel.neighbours()] == ["10.0.0.2"]
    assert len(answers.sent) == 3

    kernel, answers = answering(*[torn] * 10, whole)
    with pytest.raises(NetlinkError) as caught:
        kernel.neighbours()
    assert caught.value.errno == errno.EAGAIN
    assert "list of neighbours failed: the table changed" in str(caught.value)
    assert len(answers.sent) == 10


def test_a_dump_marked_interrupted_only_at_its_end_is_read_again(answering: Any) -> None:
    def torn(request: bytes) -> list[bytes]:
        return [done(requests(request)[0][2], flags=INTERRUPTED)]

    kernel, answers = answering(torn, dump(ndmsg, 28))
    assert kernel.neighbours() == []
    assert len(answers.sent) == 2


def test_an_error_instead_of_a_dump_or_at_its_end_is_raised(answering: Any) -> None:
    def refused(request: bytes) -> list[bytes]:
        return [verdict(requests(request)[0][2], -errno.EPERM)]

    def failed(request: bytes) -> list[bytes]:
        return [done(requests(request)[0][2], -errno.ENOMEM)]

    kernel, _answers = answering(refused, failed)
    for code in (errno.EPERM, errno.ENOMEM):
        with pytest.raises(NetlinkError) as caught:
            kernel.links()
        assert caught.value.errno == code


def acknowledged(refused: Optional[dict[int, bytes]] = None) -> Callable[[bytes], list[bytes]]:
    """A datagram for each position in ``refused`` and for what asks for one, with the sequence number put in."""

    def script(request: bytes) -> list[bytes]:
        answers = []
        for position, (_kind, flags, sequence, _data) in enumerate(requests(request)):
            answer = (refused or {}).get(position, verdict(0) if flags & ACK else b"")
            if answer:
                answers.append(answer[:8] + struct.pack("=I", sequence) + answer[12:])
        return answers

    return script


def test_a_batch_is_sent_at_once_and_errors_are_assigned_to_messages(answering: Any) -> None:
    messages = [netlink.del_link(index) for index in range(1, 5)]
    stray = verdict(4000, -errno.EIO)
    refusals = {1: verdict(0, -errno.ENODEV), 3: verdict(0, -errno.EBUSY, "Device is in use")}

    def script(request: bytes) -> list[bytes]:
        return [stray, *acknowledged(refusals)(request)]

    kernel, answers = answering(script, script)
    errors = kernel.try_send(messages)
    assert [error and error.errno for error in errors] == [None, errno.ENODEV, None, errno.EBUSY]
    assert str(errors[1]) == "removal of link 2 failed: No such device (ENODEV)"
    assert errors[3].message == "Device is in use"
    assert errors[3].request == "removal of link 4"
    sent = requests(answers.sent[0])
    assert [flags for _kind, flags, _sequence, _data in sent] == [CHANGE, CHANGE, CHANGE, CHANGE | ACK]
    assert [sequence for _kind, _flags, sequence, _data in sent] == [1, 2, 3, 4]
    assert [data[16:] for _kind, _flags, _sequence, data in sent] == [message.payload[16:] for message in messages]
    with pytest.raises(NetlinkError) as caught:
        kernel.send(messages)
    assert caught.value.errno == errno.ENODEV
    assert answers.waiting == []


def test_the_kernel_s_message_is_found_after_an_echoed_request(answering: Any) -> None:
    message = netlink.new_link("a", "bridge")
    kernel, _answers = answering(acknowledged({0: verdict(0, -errno.EINVAL, "Attribute rejected", message.payload)}))
    (error,) = kernel.try_send([message])
    assert str(error) == "new link a failed: Attribute rejected (EINVAL)"


def test_long_batches_are_split_and_an_error_stops_the_rest(answering: Any) -> None:
    many = [netlink.del_link(1)] * 450
    kernel, answers = answering(*[acknowledged()] * 3)
    kernel.send(many)
    assert [len(requests(data)) for data in answers.sent] == [200, 200, 50]

    large = [netlink.set_link(1, alias="x" * 30000)] * 5
    kernel, answers = answering(*[acknowledged()] * 3)
    assert kernel.try_send(large) == [None] * 5
    assert [len(requests(data)) for data in answers.sent] == [2, 2, 1]

    kernel, answers = answering(acknowledged({199: verdict(0, -errno.EPERM)}))
    with pytest.raises(NetlinkError):
        kernel.send(many)
    assert len(answers.sent) == 1
    kernel, answers = answering()
    kernel.send([])
    assert answers.sent == []


def test_the_number_of_a_namespace_is_asked_for_by_an_open_file(answering: Any) -> None:
    def numbered(number: int) -> Callable[[bytes], list[bytes]]:
        def script(request: bytes) -> list[bytes]:
            sequence = requests(request)[0][2]
            answer = struct.pack("=IHHIIB3xHHi", 28, 88, 0, sequence, 0, 0, 8, 1, number)
            return [answer, verdict(sequence)]

        return script

    kernel, answers = answering(numbered(3), numbered(-1))
    assert kernel.namespace_id(9) == 3
    assert kernel.namespace_id(9) is None
    asked = nsidmsg(answers.sent[0])
    asked.decode()
    assert (asked["header"]["type"], asked["header"]["flags"]) == (90, REQUEST | ACK)
    assert asked.get_attr("NETNSA_FD") == 9


def test_an_answer_larger_than_the_buffer_is_an_error(answering: Any) -> None:
    kernel, _answers = answering(lambda _request: [b"\0" * 70000])
    with pytest.raises(NetlinkError) as caught:
        kernel.links()
    assert caught.value.errno == errno.EMSGSIZE


def test_the_socket_is_closed_with_its_block(answering: Any) -> None:
    kernel, answers = answering()
    with kernel:
        assert not answers.closed
    assert answers.closed


def test_an_error_is_an_oserror_that_reads_as_a_sentence() -> None:
    error = NetlinkError(errno.EEXIST, request="new link veth1a2b")
    assert isinstance(error, OSError)
    assert (error.errno, error.message, error.request) == (errno.EEXIST, "File exists", "new link veth1a2b")
    assert str(error) == "new link veth1a2b failed: File exists (EEXIST)"
    assert str(NetlinkError(99999)).startswith("a netlink request failed: Unknown error 99999")
