# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: cnm.fabric contributors
"""Who may speak to whom on one host, tried with real packets: what docs/policies.md promises."""

from __future__ import annotations

import contextlib
import io
import json
import re
import socket
import subprocess
from collections.abc import Mapping, Sequence
from typing import Any

from forging import FORGE, python
from host import an_uplink, compare, converge, on_a_host, run_command, sh
from policing import connected, reaches, said, serving

from ansible_collections.cnm.fabric.plugins.module_utils import entrypoints
from ansible_collections.cnm.fabric.plugins.module_utils.hostd import cli
from ansible_collections.cnm.fabric.plugins.module_utils.kernel import namespaces
from ansible_collections.cnm.fabric.plugins.module_utils.plan.base import Resource
from ansible_collections.cnm.fabric.plugins.module_utils.plan.plan import Plan
from ansible_collections.cnm.fabric.plugins.plugin_utils.facts import Facts
from ansible_collections.cnm.fabric.plugins.plugin_utils.leases.base import empty
from ansible_collections.cnm.fabric.plugins.plugin_utils.module_state.reading import read_topology
from ansible_collections.cnm.fabric.plugins.plugin_utils.planner.plan import plan

NETWORKS: dict[str, Any] = {
    "front": {"subnet": ["10.9.1.0/24", "fd09:1::/64"]},
    "back": {"subnet": ["10.9.2.0/24", "fd09:2::/64"]},
}
PLACES = {"web": ("front", 10), "one": ("front", 11), "two": ("front", 12), "far": ("back", 20)}
NUMBERS = {"front": 1, "back": 2}
OUTSIDE = {4: "192.0.2.9", 6: "2001:db8::9"}
UPLINK = {4: "192.0.2.1", 6: "2001:db8::1"}


def address(name: str, family: int = 4) -> str:
    if name in ("outside", "host"):
        return (OUTSIDE if name == "outside" else UPLINK)[family]
    network, number = PLACES[name]
    return f"10.9.{NUMBERS[network]}.{number}" if family == 4 else f"fd09:{NUMBERS[network]}::{number:x}"


def planned(*arguments: Any, **named: Any) -> tuple[Resource, ...]:
    """The resources of `a_plan`."""
    return a_plan(*arguments, **named).resources


def a_plan(
    policies: Mapping[str, Any],
    held: Mapping[str, Sequence[str]],
    rejects: bool = False,
    ports: Sequence[Any] = ("8080:80", "8081:80/udp"),
    **more: Any,
) -> Plan:
    boxes = {
        name: {
            "networks": {network: {f"ipv{family}_address": address(name, family) for family in (4, 6)}},
            "policies": list(held.get(name, ())),
            "ports": list(ports) if name == "web" else [],
        }
        for name, (network, _number) in PLACES.items()
    }
    variables = {"cnm_networks": NETWORKS, "cnm_sandboxes": boxes, "cnm_policies": policies, **more}
    facts = Facts(
        rejects_bridged=rejects,
        resolvers=(OUTSIDE[4],),
        routes=(("default", "up0", OUTSIDE[4]),),
        addresses=tuple((item, "up0", 1500) for item in UPLINK.values()),
    )
    made = plan(read_topology({"node1": variables}), {"node1": facts}, empty(), "now")
    assert not made.refusals
    return made.plans["node1"]


def settle(wanted: Sequence[Resource]) -> None:
    converge(wanted)
    assert compare(wanted) == []


ALL = ("80/tcp", "81/tcp", "80/udp", "ping")


def allow(*peers: Mapping[str, str], **more: Any) -> dict[str, Any]:
    return {"action": "allow", **({"from": list(peers)} if peers else {}), **more}


def to(*peers: Mapping[str, str], **more: Any) -> dict[str, Any]:
    return {"action": "allow", **({"to": list(peers)} if peers else {}), **more}


CASES: dict[str, tuple[dict[str, Any], dict[str, list[str]], dict[tuple[str, str], Sequence[str]]]] = {
    "no policy": ({}, {}, {("one", "web"): ALL, ("web", "one"): ALL, ("host", "web"): ALL, ("web", "outside"): ALL}),
    "a port from a sandbox": (
        {"web": {"ingress": [allow({"sandbox": "one"}, ports=["80/tcp"])]}},
        {"web": ["web"]},
        {
            ("one", "web"): ["80/tcp"],
            ("two", "web"): [],
            ("host", "web"): [],
            ("web", "one"): ALL,
            ("web", "outside"): ALL,
            ("one", "two"): ALL,
        },
    ),
    "a network, without the host": (
        {"web": {"ingress": [allow({"network": "front"})]}},
        {"web": ["web"]},
        {("one", "web"): ALL, ("two", "web"): ALL, ("host", "web"): [], ("web", "two"): ALL},
    ),
    "the host": (
        {"web": {"ingress": [allow({"host": "node1"}, ports=["80/tcp", "80/udp"])]}},
        {"web": ["web"]},
        {("one", "web"): [], ("host", "web"): ["80/tcp", "80/udp"]},
    ),
    "anybody, one protocol": (
        {"web": {"ingress": [allow(protocols=["udp"])]}},
        {"web": ["web"]},
        {("one", "web"): ["80/udp"], ("host", "web"): ["80/udp"]},
    ),
    "anybody, pings": (
        {"web": {"ingress": [allow(icmp_types=["echo-request"])]}},
        {"web": ["web"]},
        {("one", "web"): ["ping"], ("host", "web"): ["ping"], ("web", "one"): ALL},
    ),
    "drop wins over allow, wherever it stands": (
        {
            "open": {"ingress": [allow({"network": "front"})]},
            "shut": {"ingress": [{"action": "drop", "from": [{"sandbox": "two"}], "ports": ["80-90"]}]},
        },
        {"web": ["open", "shut"]},
        {("one", "web"): ALL, ("two", "web"): ["80/udp", "ping"]},
    ),
    "default allow": (
        {"web": {"ingress": [{"action": "drop", "ports": ["81/tcp"]}], "default": {"ingress": "allow"}}},
        {"web": ["web"]},
        {("one", "web"): ["80/tcp", "80/udp", "ping"], ("web", "one"): ALL, ("web", "outside"): ALL},
    ),
    "a default alone": (
        {"shut": {"default": {"ingress": "drop", "egress": "drop"}}},
        {"web": ["shut"]},
        {("one", "web"): [], ("web", "one"): [], ("web", "outside"): [], ("host", "web"): []},
    ),
    "egress to a sandbox": (
        {"out": {"egress": [to({"sandbox": "two"}, ports=["80/tcp", "80/udp"])]}},
        {"one": ["out"]},
        {
            ("one", "two"): ["80/tcp", "80/udp"],
            ("one", "web"): [],
            ("one", "outside"): [],
            ("web", "one"): ALL,
            ("host", "one"): ALL,
        },
    ),
    "egress to prefixes": (
        {
            "out": {
                "egress": [
                    to({"cidr": "192.0.2.0/24"}, ports=["80/tcp"]),
                    to({"cidr": "2001:db8::/32"}, ports=["80/tcp"]),
                ]
            }
        },
        {"one": ["out"]},
        {("one", "outside"): ["80/tcp"], ("one", "web"): []},
    ),
    "both directions at both ends": (
        {
            "server": {"ingress": [allow({"sandbox": "one"}, ports=["80"])], "default": {"egress": "drop"}},
            "client": {"egress": [to({"sandbox": "web"}, ports=["80"])], "default": {"ingress": "drop"}},
        },
        {"web": ["server"], "one": ["client"]},
        {("one", "web"): ["80/tcp"], ("web", "one"): [], ("two", "web"): [], ("one", "two"): []},
    ),
}


class TestTheTable:
    @on_a_host
    def test_what_is_allowed_reaches_and_nothing_else(self) -> None:
        an_uplink("outside", UPLINK, OUTSIDE)
        wrong = []
        for case, (policies, held, expected) in CASES.items():
            settle(planned(policies, held))
            with serving("web", "one", "two", "outside"):
                for (caller, called), reached in expected.items():
                    for family in (4, 6):
                        place = "" if caller == "host" else caller
                        found = [what for what in ALL if reaches(place, address(called, family), what) == "yes"]
                        if found != [what for what in ALL if what in reached]:
                            wrong.append(f"{case}: {caller} → {called}, IPv{family}: {found}")
        assert wrong == []


_OPEN: dict[str, Any] = {"default": {"ingress": "allow"}}


def _no_longer(*boxes: str) -> dict[str, Any]:
    """A policy under which these sandboxes cannot call any more."""
    return {"web": {"ingress": [{"action": "drop", "from": [{"sandbox": name} for name in boxes]}, allow()]}}


class TestOpenConnections:
    @on_a_host
    def test_those_that_a_new_policy_forbids_end_and_the_others_go_on(self) -> None:
        """Also those that are older than the sandbox's first policy, of both directions."""
        an_uplink("outside", UPLINK, OUTSIDE)
        settle(planned({}, {}))
        with serving("web", "one", "two", "outside"):
            kept, ended = {}, {}
            for family in (4, 6):
                web = address("web", family)
                kept[f"one, IPv{family}"] = connected("one", web, 80)
                kept[f"one, udp, IPv{family}"] = connected("one", web, 80, "udp")
                kept[f"to outside, IPv{family}"] = connected("web", address("outside", family), 80)
                kept[f"to one, IPv{family}"] = connected("web", address("one", family), 80)
                ended[f"two, IPv{family}"] = connected("two", web, 80)
                ended[f"two, udp, IPv{family}"] = connected("two", web, 80, "udp")
            ended["two, IPv4, from a low port"] = connected("two", address("web"), 81, "tcp", 700)
            every = {**kept, **ended}
            assert {name: said(opened) for name, opened in every.items()} == dict.fromkeys(every, "yes")
            # What a server pushes first, when nothing is known of the connection, arrives too.
            settle(planned(_no_longer("two"), {"web": ["web"]}))
            assert {name: said(opened) for name, opened in kept.items()} == dict.fromkeys(kept, "yes")
            assert {said(opened) for opened in ended.values()} == {"no"}
            settle(planned(_no_longer("two", "one"), {"web": ["web"]}))
            assert {name: said(opened) == "yes" for name, opened in kept.items()} == {
                name: name.startswith("to ") for name in kept
            }
            for opened in every.values():
                opened.close()

    @on_a_host
    def test_a_server_that_may_open_nothing_answers_and_pushes(self) -> None:
        an_uplink("outside", UPLINK, OUTSIDE)
        settle(planned({}, {}))
        with serving("web", "one", "outside"):
            held = {f: connected("one", address("web", f), 80) for f in (4, 6)}
            assert {said(opened) for opened in held.values()} == {"yes"}
            settle(planned({"shut": {"default": {"egress": "drop"}}}, {"web": ["shut"]}))
            assert {said(opened) for opened in held.values()} == {"yes"}
            for family in (4, 6):
                web = address("web", family)
                assert [reaches("one", web, what) for what in ALL] == ["yes"] * 4
                assert [reaches("web", address("one", family), what) for what in ALL] == ["no"] * 4
                assert reaches("one", web, "80/tcp", source=700 + family) == "yes"


class TestConnectionsThatEnd:
    """They are forgotten soon, and end as they would without policies."""

    @on_a_host
    def test_a_table_is_not_full_of_them(self) -> None:
        policies = {"in": {"default": {"ingress": "drop"}}, "out": {"default": {"egress": "drop"}}}
        site(a_plan(policies, {"web": ["in"], "one": ["out"]}))
        with serving("web", "one", "two"):
            before = {name: counts(name) for name in ("web", "one")}
            for caller, called in (("web", "two"), ("two", "one"), ("web", "one")):
                for family in (4, 6):
                    for _time in range(10):
                        assert reaches(caller, address(called, family), "80/tcp") == "yes"
            held = connected("web", address("two"), 80)
            assert said(held) == "yes"
            for name, direction in (("web", "ingress"), ("one", "egress")):
                now, then = counts(name)[direction], before[name][direction]
                assert now["dropped"] - then["dropped"] <= 2, (name, now, then)  # what goes to everybody
            for family, left in ((4, 1), (6, 0)):
                flows = sh(f"nft list set bridge cnm policy_flows{family}").count("tcp")
                assert flows <= left + 1, flows  # the type of the set has the word, too
                assert sh(f"nft list set bridge cnm policy_closing{family}").count(" . 80 ") >= 30
            held.close()

    @on_a_host
    def test_who_has_said_all_can_still_be_spoken_to(self) -> None:
        settle(planned({"in": {"default": {"ingress": "drop"}}}, {"web": ["in"]}))
        listening = namespaces.run("two", _listening, 90)
        calling = connected("web", address("two"), 90)
        heard, _address = listening.accept()
        heard.shutdown(socket.SHUT_WR)
        assert calling.recv(10) == b""
        for _time in range(20):
            calling.sendall(b"x" * 100_000)
            got = 0
            while got < 100_000:
                got += len(heard.recv(65536))
        for each in (calling, heard, listening):
            each.close()


class TestCallersOfAPort:
    @on_a_host
    def test_only_they_reach_it_and_the_host_itself(self) -> None:
        an_uplink("outside", UPLINK, OUTSIDE)
        published = [
            {"target": 80, "published": 8080, "allow_from": ["198.51.100.0/24", "@office"]},
            {"target": 80, "published": 8081, "protocol": "udp", "host_ip": UPLINK[4], "allow_from": ["192.0.2.0/24"]},
            "8082:80",
        ]
        for prefixes, callers in (
            (["192.0.2.0/28", "192.0.2.9", "2001:db8::/64"], {4: "yes", 6: "yes"}),
            (["192.0.2.9"], {4: "yes", 6: "no"}),
            (["203.0.113.1", "2001:db8::9"], {4: "no", 6: "yes"}),
        ):
            settle(planned({}, {}, ports=published, cnm_address_sets={"office": prefixes}))
            with serving("web", "outside"):
                for family in (4, 6):
                    assert reaches("outside", UPLINK[family], "8080/tcp") == callers[family], (prefixes, family)
                    assert reaches("", UPLINK[family], "8080/tcp") == "yes"
                    assert reaches("two", UPLINK[family], "8080/tcp") == "no"
                    assert reaches("two", UPLINK[family], "8082/tcp") == "yes"
                assert reaches("outside", UPLINK[4], "8081/udp") == "yes"
                assert reaches("two", UPLINK[4], "8081/udp") == "no"

    @on_a_host
    def test_connections_of_who_may_not_call_any_more_end(self) -> None:
        an_uplink("outside", UPLINK, OUTSIDE)
        port = {"target": 80, "published": 8080}
        settle(planned({}, {}, ports=[port]))
        with serving("web"), connected("outside", UPLINK[4], 8080) as opened:
            assert said(opened) == "yes"
            settle(planned({}, {}, ports=[{**port, "allow_from": ["198.51.100.7"]}]))
            assert said(opened) == "no"


def site(made: Plan) -> None:
    """A controller's run, whose plan the host keeps."""
    entrypoints.converge(entrypoints.Request("default", made.to_json(), digest=made.digest), run_command)


def command(*words: str) -> str:
    """What the command ``cnm`` prints; it must succeed."""
    told = io.StringIO()
    with contextlib.redirect_stdout(told):
        assert cli.main(words) == 0, told.getvalue()
    return told.getvalue()


def counts(name: str) -> dict[str, dict[str, int]]:
    """What the host has counted of a sandbox, as the probe reports it."""
    found: dict[str, dict[str, int]] = entrypoints.probe("default", True, False, run_command)["policy_counts"][name]
    return found


class TestWhatWasCounted:
    @on_a_host
    def test_what_passed_and_what_was_dropped_and_of_whom_lately(self) -> None:
        policies = {
            "web": {"ingress": [allow({"sandbox": "one"}, ports=["80"])]},
            "shy": {"egress": [{"action": "reject", "to": [{"sandbox": "web"}]}, to({"sandbox": "two"})]},
        }
        site(a_plan(policies, {"web": ["web"], "far": ["shy"]}))
        with serving("web", "one", "two"):
            before = counts("web")
            assert reaches("one", address("web"), "80/tcp") == "yes"
            after = counts("web")
            assert after["ingress"]["passed"] >= before["ingress"]["passed"] + 4
            assert after["egress"]["passed_bytes"] > before["egress"]["passed_bytes"]
            assert after["egress"]["dropped"] == 0
            assert "dropped" not in command("status")
            assert reaches("one", address("web"), "81/tcp") == "no"
            assert reaches("two", address("web", 6), "80/udp") == "no"
            assert reaches("far", address("web"), "80/udp") != "yes"
            found = counts("web")
            assert found["ingress"]["dropped"] >= after["ingress"]["dropped"] + 2
            assert found["ingress"]["dropped_bytes"] >= found["ingress"]["dropped"] * 28
            assert found["egress"]["dropped"] == 0
            assert counts("far")["egress"]["dropped"] >= 1
        lines = command("status").splitlines()
        assert lines[0] == "project default: as planned"
        assert sorted(re.sub(r"\d+", "#", line).replace("packets", "packet") for line in lines[1:]) == [
            "  policies dropped # packet from sandbox far, the last # s ago",
            "  policies dropped # packet to sandbox web, the last # s ago",
        ]
        lately = json.loads(command("status", "--json"))["default"]["dropped"]
        assert [(item["sandbox"], item["direction"]) for item in lately] == [("far", "egress"), ("web", "ingress")]
        assert 2 <= lately[1]["packets"] <= found["ingress"]["dropped"]
        (shown,) = json.loads(command("inspect", "web"))
        assert shown["policies"] == ["web"]
        assert shown["policy_counts"]["ingress"]["dropped"] >= found["ingress"]["dropped"]
        (shown,) = json.loads(command("inspect", "one"))
        assert not {"policies", "policy_counts"} & shown.keys()

    @on_a_host
    def test_what_a_policy_s_change_keeps(self) -> None:
        """Counters of sandboxes with the same policies as before, whatever becomes of others."""
        policies = {"web": {"ingress": [allow({"sandbox": "one"}, ports=["80"])]}}
        site(a_plan(policies, {"web": ["web"]}))
        for _time in range(10):
            assert reaches("two", address("web"), "80/tcp") == "no"
        before = counts("web")["ingress"]["dropped"]
        assert before >= 10
        site(a_plan(policies, {"web": ["web"], "one": ["web"]}))
        assert counts("web")["ingress"]["dropped"] >= before
        assert counts("one")["egress"]["dropped"] == 0
        other = {**policies, "also": {"ingress": [allow({"sandbox": "two"}, ports=["80"])]}}
        site(a_plan(other, {"web": ["web", "also"]}))
        with serving("web"):
            assert reaches("two", address("web"), "80/tcp") == "yes"
        now = counts("web")["ingress"]
        assert now["passed"] >= 4
        assert now["dropped"] <= 2  # what goes to everybody
        site(a_plan(policies, {}))
        assert entrypoints.probe("default", True, False, run_command)["policy_counts"] == {}


class TestFragments:
    @on_a_host
    def test_datagrams_in_fragments_pass_where_their_ports_may(self) -> None:
        policies = {
            "web": {"ingress": [allow({"sandbox": "one"}, ports=["80/udp"])], "default": {"egress": "drop"}},
            "client": {"egress": [to({"network": "front"}, ports=["80/udp"])], "default": {"ingress": "drop"}},
        }
        settle(planned(policies, {"web": ["web"], "one": ["client"]}))
        large = bytes(range(256)) * 20
        with serving("web", "two"):
            for family in (4, 6):
                web = address("web", family)
                assert reaches("one", web, "80/udp", text=large) == "yes"
                assert reaches("one", web, "5353/udp", text=large) == "no"
                assert reaches("two", web, "80/udp", text=large) == "no"
                assert reaches("one", address("two", family), "80/udp", text=large) == "yes"


class TestWhoIsRootInASandbox:
    """Root in a sandbox sends what it likes, and answers nobody has asked for."""

    @on_a_host
    def test_an_answer_needs_a_question(self) -> None:
        """From the port that the other may call, UDP reaches it only after it has called."""
        policies = {"client": {"egress": [to({"sandbox": "two"}, ports=["53/udp"])], "default": {"ingress": "drop"}}}
        settle(planned(policies, {"one": ["client"]}))
        with serving("one"):
            for family in (4, 6):
                assert reaches("two", address("one", family), "5353/udp", source=53) == "no"

    @on_a_host
    def test_a_rule_of_one_family_says_nothing_of_the_other(self) -> None:
        """Nor does a set of addresses beside it."""
        mixed = {"web": {"ingress": [allow({"cidr": "10.9.1.0/24"}, {"addresses": "some"}, ports=["80"])]}}
        settle(planned(mixed, {"web": ["web"]}, cnm_address_sets={"some": ["10.9.9.9", "fd09:9::/64"]}))
        with serving("web"):
            assert reaches("one", address("web"), "80/tcp") == "yes"
            assert reaches("one", address("web", 6), "80/tcp") == "no"

    @on_a_host
    def test_link_local_addresses_are_the_sandbox_s_own(self) -> None:
        policies = {"web": {"ingress": [allow({"sandbox": "one"}, ports=["80"])]}}
        settle(planned(policies, {"web": ["web"]}))
        scoped = sh("ip -n web -6 -o address show dev eth0 scope link").split()[3].partition("/")[0]
        with serving("web"):
            assert reaches("one", scoped, "80/tcp") == "yes"
            assert reaches("two", scoped, "80/tcp") == "no"

    @on_a_host
    def test_neither_fragments_nor_extension_headers_hide_a_port(self) -> None:
        """Nor do fragments alone get anywhere, which a program in league with the sender could read from the link."""
        settle(planned({"web": {"ingress": [allow({"sandbox": "one"}, ports=["80/udp"])]}}, {"web": ["web"]}))
        mac = sh("ip netns exec web cat /sys/class/net/eth0/address").strip()
        for sender, words in (("one", {"whole", "split", "extended"}), ("two", set())):
            listening = namespaces.run("web", _bound, 80)
            watching = namespaces.run("web", _watching)
            ends = [address(name, family) for family in (4, 6) for name in (sender, "web")]
            subprocess.run(python(sender, _HIDDEN, mac, *ends), check=True)
            assert {word.decode() for word in received(listening)} == words
            assert not [frame for frame in received(watching) if b"alone" in frame]
            listening.close()
            watching.close()

    @on_a_host
    def test_messages_to_neighbours_reach_nobody_behind_a_router(self) -> None:
        """Neighbour discovery and MLD need no rule, and a router would forward them as anything else."""
        an_uplink("outside", UPLINK, OUTSIDE)
        settle(planned({"shut": {"default": {"egress": "drop", "ingress": "drop"}}}, {"web": ["shut"]}))
        front = sh("ip -n web -6 route show default").split()[2]
        gateway = next(item for item in sh("ip -o -6 address show").splitlines() if f" {front}/" in item).split()[1]
        macs = {"web": sh(f"cat /sys/class/net/{gateway}/address"), "outside": sh("cat /sys/class/net/up0/address")}
        for sender, target, watcher in (("web", "outside", "outside"), ("outside", "web", "web")):
            watching = namespaces.run(watcher, _watching)
            ends = (address(sender, 6), address(target, 6))
            subprocess.run(python(sender, _TO_NEIGHBOURS, macs[sender].strip(), *ends), check=True)
            heard = {frame[54] for frame in received(watching) if b"carried away" in frame}
            assert heard == set(), (sender, heard)
            watching.close()


_TO_NEIGHBOURS = (
    FORGE
    + r"""
mac, source, target = sys.argv[1:]
for kind in (*range(130, 138), 143):
    message = struct.pack("!BBHI", kind, 0, 0, 0) + socket.inet_pton(socket.AF_INET6, source) + b"carried away"
    frame(mac, source, target, message, protocol=58, place=2)
"""
)

_HIDDEN = (
    FORGE
    + r"""
mac, source, target, source6, target6 = sys.argv[1:]

def datagram(word):
    return struct.pack("!HHHH", 9, 80, 8 + len(word), 0) + word

def fragment(number, offset, more, body):
    ends = socket.inet_aton(source) + socket.inet_aton(target)
    head = struct.pack("!BBHHHBBH", 0x45, 0, 20 + len(body), number, offset // 8 | more << 13, 64, 17, 0) + ends
    packet = head[:10] + struct.pack("!H", checksum(head)) + head[12:] + body
    send(octets(mac) + octets(mac_of("eth0")) + b"\x08\x00" + packet, "eth0")

frame(mac, source, target, datagram(b"whole"))
frame(mac, source6, target6, datagram(b"extended"), extension=bytes((17, 0, 1, 4, 0, 0, 0, 0)))
fragment(77, 0, 1, datagram(b"split")[:8])
fragment(77, 8, 0, datagram(b"split")[8:])
fragment(78, 8, 0, b"alone")
"""
)
"""A datagram to port 80 in several shapes; the last is a fragment whose first one never was."""


def _listening(port: int) -> socket.socket:
    opened = socket.create_server(("", port))
    opened.settimeout(2)
    return opened


def _bound(port: int) -> socket.socket:
    opened = socket.socket(socket.AF_INET6, socket.SOCK_DGRAM)
    opened.bind(("::", port))
    opened.settimeout(0.3)
    return opened


def _watching() -> socket.socket:
    opened = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(3))
    opened.settimeout(0.3)
    return opened


def received(opened: socket.socket) -> list[bytes]:
    """All that comes until nothing does."""
    found = []
    with contextlib.suppress(TimeoutError):
        while True:
            found.append(opened.recv(2000))
    return found
