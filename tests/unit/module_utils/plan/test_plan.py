# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: cnm.fabric contributors
"""The plan's text: every kind survives it, equal plans give equal text, and what cannot be read is said in words."""

from __future__ import annotations

import hashlib
import json
import random
from dataclasses import MISSING, fields
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ansible_collections.cnm.fabric.plugins.module_utils.plan.addresses import Address, Fdb, Neighbours, Route, Rule
from ansible_collections.cnm.fabric.plugins.module_utils.plan.balancing import Ipvs, IpvsTimeouts, RealServer
from ansible_collections.cnm.fabric.plugins.module_utils.plan.base import PlanError, Resource
from ansible_collections.cnm.fabric.plugins.module_utils.plan.codec import content_digest, decode, encode
from ansible_collections.cnm.fabric.plugins.module_utils.plan.constants import LINK_MANAGERS
from ansible_collections.cnm.fabric.plugins.module_utils.plan.encryption import Xfrm
from ansible_collections.cnm.fabric.plugins.module_utils.plan.frr import Frr
from ansible_collections.cnm.fabric.plugins.module_utils.plan.kinds import KINDS
from ansible_collections.cnm.fabric.plugins.module_utils.plan.links import (
    BridgePort,
    Link,
    LinkManager,
    Namespace,
    VethPeer,
    Vxlan,
)
from ansible_collections.cnm.fabric.plugins.module_utils.plan.marks import mark, role_of, table_name
from ansible_collections.cnm.fabric.plugins.module_utils.plan.nftables import (
    TASKS,
    UDP_PORTS,
    Chain,
    DockerUser,
    Nftables,
    NftSet,
)
from ansible_collections.cnm.fabric.plugins.module_utils.plan.plan import SCHEMA, Plan
from ansible_collections.cnm.fabric.plugins.module_utils.plan.settings import (
    Boot,
    File,
    LoadedNames,
    Resolved,
    Resolver,
    Sysctl,
    Target,
)
from ansible_collections.cnm.fabric.plugins.module_utils.plan.shaping import Shaping

NAMES = st.from_regex(r"[a-z0-9][a-z0-9-]{0,14}", fullmatch=True)
SPACES = st.one_of(st.just(""), NAMES)
DIGESTS = st.text("0123456789abcdef", min_size=64, max_size=64)
OPTIONAL_DIGESTS = st.one_of(st.just(""), DIGESTS)
LINES = st.lists(st.text("abc 0123.:#=/-ü", max_size=20), max_size=3).map(
    lambda lines: "".join(f"{x}\n" for x in lines)
)
VALUES = st.sampled_from(["0", "1", "4096 16384 4194304"])
RULES = st.sampled_from(["accept", 'iifname "a;b" drop', "meta protocol { 8021q, 8021ad } drop"])
HOOKS = st.sampled_from(["", "type filter hook forward priority -1; policy accept"])
ELEMENTS = st.sampled_from(['"br0"', '"br0" . 10.0.0.0/24', "tcp . 80-90 : 10.0.0.2 . 80"])
DECLARATIONS = st.sampled_from(["type ifname;", "type ipv4_addr . ifname; flags interval;"])
ROLES = st.builds("{}/{}".format, NAMES, NAMES)
ADDRESSES = st.ip_addresses(v=4).map(str)
LENGTHS = st.integers(1, 32).map(str)
PREFIXES = st.sampled_from(["", "10.0.0.0/24", "fd00::/64"])
MACS = st.binary(min_size=6, max_size=6).map(lambda raw: raw.hex(":"))
OPTIONAL_BOOLEANS = st.one_of(st.none(), st.booleans())
PEERS = st.builds(VethPeer, SPACES, NAMES, SPACES, st.booleans(), st.booleans())
FLAGS = st.booleans()
PORTS = st.builds(BridgePort, NAMES, FLAGS, FLAGS, FLAGS, FLAGS, FLAGS)
VXLANS = st.builds(
    Vxlan, st.integers(1, 2**24 - 1), ADDRESSES, st.integers(1, 65535), FLAGS, FLAGS, st.integers(0, 65535)
)
VTEPS = st.lists(ADDRESSES, max_size=3, unique=True).map(sorted).map(tuple)
IDENTIFIERS = st.text("abcdefghijklmnopqrstuvwxyz_", min_size=1, max_size=15)
CHAINS = st.builds(Chain, IDENTIFIERS, HOOKS, st.lists(RULES, max_size=3).map(tuple), st.booleans())
COLLECTIONS = st.builds(
    NftSet,
    IDENTIFIERS,
    DECLARATIONS,
    st.lists(ELEMENTS, max_size=3).map(tuple),
    st.sampled_from(["", UDP_PORTS, *TASKS]),
    st.sampled_from([0, 4, 6]),
)

RESOURCES: dict[str, st.SearchStrategy[Any]] = {
    "namespace": st.builds(Namespace, NAMES, ROLES, st.booleans(), no_forwarding=st.sampled_from([(), (4,), (4, 6)])),
    "link": st.builds(
        Link,
        SPACES,
        NAMES,
        st.sampled_from(["bridge", "veth", "vxlan"]),
        ROLES,
        mac=st.one_of(st.none(), MACS),
        mtu=st.one_of(st.none(), st.integers(68, 65535)),
        up=st.booleans(),
        disable_ipv6=OPTIONAL_BOOLEANS,
        accept_ra=st.one_of(st.none(), st.integers(0, 2)),
        peer=st.one_of(st.none(), PEERS),
        group=st.one_of(st.none(), st.integers(0, 2**31)),
        port=st.one_of(st.none(), PORTS),
        vxlan=st.one_of(st.none(), VXLANS),
    ),
    "fdb": st.builds(Fdb, SPACES, NAMES, st.dictionaries(MACS, ADDRESSES, max_size=3), VTEPS, OPTIONAL_DIGESTS, FLAGS),
    "neighbour": st.builds(Neighbours, SPACES, NAMES, st.dictionaries(ADDRESSES, MACS, max_size=3), OPTIONAL_DIGESTS),
    "shaping": st.builds(Shaping, SPACES, NAMES, SPACES, SPACES, *[st.integers(0, 10**6)] * 6),
    "address": st.builds(Address, SPACES, NAMES, st.builds("{}/{}".format, ADDRESSES, LENGTHS), st.booleans()),
    "route": st.builds(
        Route, SPACES, st.just("default"), st.sampled_from([4, 6]), st.one_of(st.none(), ADDRESSES), SPACES
    ),
    "rule": st.builds(
        Rule, SPACES, st.sampled_from([4, 6]), st.integers(1, 9999), SPACES, PREFIXES, st.integers(0, 2**31)
    ),
    "sysctl": st.builds(
        Sysctl, SPACES, NAMES.map("net.ipv4.{}".format), VALUES, st.booleans(), st.one_of(st.none(), VALUES)
    ),
    "nftables": st.builds(
        Nftables,
        SPACES,
        st.just("inet"),
        IDENTIFIERS,
        ROLES,
        st.lists(COLLECTIONS, max_size=3).map(tuple),
        st.lists(CHAINS, max_size=3).map(tuple),
    ),
    "docker_user": st.builds(DockerUser, st.sampled_from([4, 6])),
    "xfrm": st.builds(Xfrm, ADDRESSES, st.integers(1, 65535), st.integers(1, 2**31 - 1), OPTIONAL_DIGESTS, VTEPS),
    "ipvs": st.builds(
        Ipvs,
        NAMES,
        st.sampled_from([4, 6]),
        st.integers(1, 2**32 - 1),
        scheduler=st.sampled_from(["rr", "sh"]),
        flags=st.sampled_from([(), ("fallback",)]),
        servers=st.lists(st.builds(RealServer, ADDRESSES, st.integers(0, 9)), max_size=3).map(tuple),
    ),
    "ipvs_timeouts": st.builds(IpvsTimeouts, NAMES, st.integers(1, 999), st.integers(1, 999), st.integers(1, 999)),
    "file": st.builds(File, st.builds("/etc/netns/{}".format, NAMES), ROLES, st.dictionaries(NAMES, LINES, max_size=3)),
    "resolver": st.builds(
        Resolver,
        NAMES,
        st.lists(st.sampled_from(["port=20053", "bind-interfaces"]), max_size=3).map(tuple),
        st.booleans(),
        lan=st.booleans(),
    ),
    "resolved": st.builds(Resolved, NAMES.map(lambda name: name[:15]), ADDRESSES, NAMES),
    "names": st.builds(
        LoadedNames, st.just("/run/cnm/default/names"), st.dictionaries(NAMES, OPTIONAL_DIGESTS, max_size=3)
    ),
    "link_manager": st.builds(LinkManager, st.sampled_from(LINK_MANAGERS), st.lists(NAMES, max_size=3).map(tuple)),
    "frr": st.builds(
        Frr,
        st.integers(1, 2**32 - 2),
        ADDRESSES,
        st.lists(ADDRESSES, max_size=3).map(tuple),
        st.lists(st.sampled_from(["192.0.2.0/24", "2001:db8::/64"]), max_size=2).map(tuple),
    ),
    "boot": st.builds(
        Boot,
        st.booleans(),
        st.lists(NAMES.map(lambda name: name[:15]), max_size=3).map(tuple),
        st.lists(st.sampled_from(["docker", "machine", "/run/netns"]), max_size=3).map(tuple),
    ),
    "target": st.builds(Target, NAMES, st.booleans()),
}
EVERY_KIND = sorted(RESOURCES)
LEAST: dict[str, Resource] = {
    "namespace": Namespace("c1"),
    "link": Link("c1", "eth0", "veth"),
    "address": Address("c1", "eth0", "10.0.0.2/24"),
    "fdb": Fdb("c1", "vx0"),
    "neighbour": Neighbours("c1", "br0"),
    "shaping": Shaping("c1", "vh0"),
    "route": Route("c1", "default"),
    "rule": Rule("c1", 4, 1000),
    "sysctl": Sysctl("c1", "net.ipv4.ip_forward", "1"),
    "nftables": Nftables("c1", "inet", "cnm"),
    "docker_user": DockerUser(4),
    "xfrm": Xfrm("192.0.2.1"),
    "ipvs": Ipvs("c1"),
    "ipvs_timeouts": IpvsTimeouts("c1"),
    "file": File("/etc/netns/c1"),
    "resolver": Resolver("c1"),
    "resolved": Resolved("cnm-b0"),
    "names": LoadedNames("/run/cnm/default/names"),
    "link_manager": LinkManager("udev"),
    "frr": Frr(65000, "192.0.2.1"),
    "boot": Boot(),
    "target": Target("c1"),
}
"""The least that can be said of an object of each kind."""


def a_plan(*resources: Resource) -> Plan:
    return Plan("node1", "default", resources, {"networks": []}, {"endpoints": {}, "networks": {}})


def test_there_is_a_test_for_every_kind() -> None:
    assert set(KINDS) == set(RESOURCES) == set(LEAST)


@pytest.mark.parametrize("kind", EVERY_KIND)
@settings(max_examples=50)
@given(data=st.data())
def test_a_resource_of_every_kind_survives_json(kind: str, data: st.DataObject) -> None:
    resource = data.draw(RESOURCES[kind])
    assert decode(json.loads(json.dumps(encode(resource)))) == resource


@settings(max_examples=50)
@given(st.lists(st.one_of(*RESOURCES.values()), max_size=6, unique_by=lambda item: item.key), st.randoms())
def test_a_plan_survives_json_and_is_the_same_text_whatever_the_order(
    resources: list[Resource], chance: random.Random
) -> None:
    shuffled = list(resources)
    chance.shuffle(shuffled)
    one, other = a_plan(*resources), a_plan(*shuffled)
    assert one.to_json() == other.to_json()
    assert one.digest == other.digest
    read = Plan.from_json(one.to_json())
    assert read.to_json() == one.to_json()
    assert sorted(read.resources, key=lambda item: item.key) == sorted(resources, key=lambda item: item.key)


@settings(max_examples=50)
@given(st.one_of(*RESOURCES.values()), st.one_of(*RESOURCES.values()))
def test_digests_are_equal_only_for_equal_plans(one: Resource, other: Resource) -> None:
    assert (a_plan(one).digest == a_plan(other).digest) == (one == other)


def test_the_digest_is_that_of_the_text_as_any_tool_computes_it() -> None:
    plan = Plan("node1", resources=(Namespace("c1", "sandbox/c1"),))
    text = (
        '{"host":"node1","leases":{},"model":{},"project":"default",'
        '"resources":[[1,{"=":{"kind":"namespace","name":"c1","role":"sandbox/c1"}}]],"schema":1}'
    )
    assert plan.to_json() == text
    assert plan.digest == hashlib.sha256(text.encode()).hexdigest()
    assert content_digest("abc") == "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"


def test_the_order_of_names_in_a_file_changes_no_digest() -> None:
    files = {"hosts": "a", "resolv.conf": "b"}
    one, other = File("/etc/netns/c1", "r", files), File("/etc/netns/c1", "r", dict(reversed(files.items())))
    assert a_plan(one).digest == a_plan(other).digest


@pytest.mark.parametrize("kind", EVERY_KIND)
def test_defaults_are_left_out_of_the_text_and_are_back_when_it_is_read(kind: str) -> None:
    least = LEAST[kind]
    needed = {item.name for item in fields(least) if item.default is MISSING and item.default_factory is MISSING}
    assert set(encode(least)) == {"kind", *needed}
    assert decode(encode(least)) == least


def test_an_empty_peer_is_not_the_same_as_none() -> None:
    link = Link("c1", "eth0", "veth", peer=VethPeer())
    assert encode(link)["peer"] == {}
    assert decode(encode(link)) == link != LEAST["link"]


def test_a_vxlan_and_its_bridge_port_flags_survive_json() -> None:
    link = Link("ov", "vx0", "vxlan", port=BridgePort("br0", learning=False), vxlan=Vxlan(5, "192.0.2.1"))
    assert encode(link) == {
        "kind": "link",
        "namespace": "ov",
        "name": "vx0",
        "type": "vxlan",
        "port": {"master": "br0", "learning": False},
        "vxlan": {"id": 5, "local": "192.0.2.1"},
    }
    assert decode(encode(link)) == link


@pytest.mark.parametrize("kind", EVERY_KIND)
def test_a_key_begins_with_the_kind_and_a_label_names_the_object(kind: str) -> None:
    least = LEAST[kind]
    assert KINDS[kind].kind == kind
    assert least.key[0] == kind
    assert all(isinstance(part, str) for part in least.key)
    assert least.label.startswith(
        {
            **{
                "file": "/etc/netns/c1",
                "names": "/run/cnm/default/names",
                "docker_user": "DOCKER-USER",
                "xfrm": "overlays",
                "boot": "host",
                "frr": "evpn",
            },
            "link_manager": "udev",
            "resolved": "cnm-b0",
        }.get(kind, "c1")
    )


@pytest.mark.parametrize("kind", EVERY_KIND)
def test_attributes_do_not_change_the_key(kind: str) -> None:
    changed = {
        "namespace": Namespace("c1", "sandbox/c1", False),
        "link": Link("c1", "eth0", "bridge", "network/n", "02:42:0a:00:00:02", 1400, False),
        "address": Address("c1", "eth0", "10.0.0.2/24", False),
        "fdb": Fdb("c1", "vx0", {"02:42:0a:00:00:02": "192.0.2.2"}, ("192.0.2.2",)),
        "neighbour": Neighbours("c1", "br0", {"10.0.0.2": "02:42:0a:00:00:02"}),
        "shaping": Shaping("c1", "vh0", "c1", "eth0", 1, 2, 3, 4, 5, 6),
        "route": Route("c1", "default", via="10.0.0.1", link="eth0"),
        "rule": Rule("c1", 4, 1000, table=254),
        "sysctl": Sysctl("c1", "net.ipv4.ip_forward", "0", False, "1"),
        "nftables": Nftables("c1", "inet", "cnm", "host", (NftSet("s", "type ifname;"),), (Chain("c"),)),
        "docker_user": DockerUser(4),
        "xfrm": Xfrm("192.0.2.1", epoch=2, peers=("192.0.2.2",)),
        "ipvs": Ipvs("c1", scheduler="sh", servers=(RealServer("10.0.0.3"),)),
        "ipvs_timeouts": IpvsTimeouts("c1", 1),
        "file": File("/etc/netns/c1", "role", {"hosts": ""}),
        "resolver": Resolver("c1", ("port=53",), False),
        "resolved": Resolved("cnm-b0", "127.0.0.12", "cnm.internal"),
        "names": LoadedNames("/run/cnm/default/names", {"front": "d"}),
        "link_manager": LinkManager("udev", ("cnm0",), True),
        "frr": Frr(65001, "192.0.2.2", ("192.0.2.3",), ("192.0.2.0/24",)),
        "boot": Boot(True, ("eth1",), ("docker",)),
        "target": Target("c1", False),
    }[kind]
    assert changed != LEAST[kind] or kind == "docker_user"
    assert changed.key == LEAST[kind].key


def test_keys_in_different_namespaces_differ() -> None:
    resources = [
        *LEAST.values(),
        Link("", "eth0", "veth"),
        Link("c1", "eth1", "veth"),
        Address("c1", "eth0", "10.0.0.3/24"),
        Address("", "eth0", "10.0.0.2/24"),
        Route("c1", "default", 6),
        Route("c1", "10.0.0.0/8"),
        Rule("c1", 6, 1000),
        Rule("c1", 4, 1000, "lo", "10.0.0.0/8"),
        Nftables("", "inet", "cnm"),
        Nftables("c1", "inet", "cnm_blue"),
    ]
    assert len({item.key for item in resources}) == len(resources)


def test_parents_of_each_kind() -> None:
    namespace, link = Namespace("c1").key, Link("c1", "eth0", "veth").key
    parents = {kind: least.parents for kind, least in LEAST.items()}
    assert parents == {
        "namespace": (),
        "link": (),
        "address": (namespace, link),
        "fdb": (namespace, ("link", "c1", "vx0")),
        "neighbour": (namespace, ("link", "c1", "br0")),
        "shaping": (),
        "route": (namespace, ("link", "c1", ""), ("addresses", "c1", "")),
        "rule": (namespace,),
        "sysctl": (namespace,),
        "nftables": (namespace,),
        "docker_user": (),
        "xfrm": (),
        "ipvs": (namespace,),
        "ipvs_timeouts": (namespace,),
        "file": (),
        "resolver": (),
        "resolved": (("link", "", "cnm-b0"),),
        "names": (),
        "link_manager": (),
        "frr": (),
        "boot": (),
        "target": (namespace,),
    }
    assert Link("c1", "eth0", "veth", peer=VethPeer("", "veth1")).parents == ()
    assert Link("", "br0", "bridge").parents == ()
    assert Link("c1", "br0", "bridge").parents == (namespace,)
    assert Link("c1", "vx0", "vxlan").parents == ()
    assert Nftables("", "inet", "cnm").parents == Sysctl("", "x", "1").parents == ()


def test_a_label_contains_the_namespace() -> None:
    assert Nftables("", "inet", "cnm").label == "inet cnm"
    assert Nftables("c1", "inet", "cnm").label == "c1/inet cnm"
    assert Link("", "br0", "bridge").label == "br0"
    assert Address("c1", "eth0", "10.0.0.2/24").label == "c1/eth0/10.0.0.2/24"
    assert Route("c1", "default", via="10.0.0.1").label == "c1/default"
    assert Sysctl("", "net.ipv4.ip_forward", "1").label == "net.ipv4.ip_forward"


def test_the_declaration_distinguishes_sets_from_maps() -> None:
    assert NftSet("s", "type ifname;").noun == "set"
    assert NftSet("m", "type ipv4_addr : verdict;").noun == "map"


REFUSED = {
    "no JSON": ("{", "the plan is not JSON"),
    "a list": ("[]", "the plan's format is None, and this version reads 1"),
    "no format": ("{}", "the plan's format is None"),
    "another format": (
        json.dumps({"schema": SCHEMA + 1}),
        f"the plan's format is {SCHEMA + 1}, and this version reads {SCHEMA}: use the same version of the collection",
    ),
}


@pytest.mark.parametrize("case", REFUSED)
def test_a_text_of_another_format_is_refused_with_a_sentence(case: str) -> None:
    text, said = REFUSED[case]
    with pytest.raises(PlanError) as refusal:
        Plan.from_json(text)
    assert said in str(refusal.value)


@pytest.mark.parametrize(
    ("resource", "said"),
    [
        ({"kind": "wormhole", "name": "c1"}, "kind 'wormhole', which this version does not know"),
        ({"name": "c1"}, "kind 'None', which this version does not know"),
        ({"kind": "link", "name": "eth0"}, "a link that cannot be read: "),
        ({"kind": "nftables", "namespace": "", "family": "inet", "name": "cnm", "chains": [{}]}, "a nftables that"),
    ],
    ids=["unknown kind", "no kind", "a field missing", "a field missing inside"],
)
def test_an_unreadable_resource_is_refused_with_a_sentence(resource: dict[str, Any], said: str) -> None:
    text = json.loads(a_plan().to_json())
    text["resources"] = [[1, {"=": resource}]]
    with pytest.raises(PlanError) as refusal:
        Plan.from_json(json.dumps(text))
    assert said in str(refusal.value)


@given(NAMES, st.text(max_size=30))
def test_only_its_own_project_recognises_a_mark(project: str, role: str) -> None:
    assert role_of(mark(project, role), project) == role
    assert role_of(mark(project, role), f"{project}x") is None
    assert role_of(f"x{mark(project, role)}", project) is None


def test_a_mark_reads_as_documented() -> None:
    assert mark("default", "sandbox/c1") == "cnm:default:sandbox/c1"
    assert role_of("", "default") is None
    assert role_of("cnm:default", "default") is None
    assert role_of("uplink to the switch", "default") is None


def test_each_project_has_a_table_of_its_own() -> None:
    assert [table_name(project) for project in ("default", "blue", "blue-1")] == ["cnm", "cnm_blue", "cnm_blue_1"]
