# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: cnm.fabric contributors
"""Networks that span hosts, over three of them: the documents' multinet, and what may happen to it."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from asking import NO_SUCH_NAME, NOTHING_OF_THAT_TYPE, ask, ask_reverse, in_namespace
from fleet import Fleet, snapshot
from lab import OUTSIDE4, OUTSIDE6, Lab
from overlaying import (
    answered,
    capturing,
    ended,
    matrix,
    overlay,
    pinged,
    pinging,
    reached_by,
    sandboxes,
    seen,
    unanswered,
    wrong,
)
from sampling import WHOLE, some_of
from traffic import answers, serving

SUBNETS = {"multinet": ["10.10.2.0/24"], "second": ["10.10.3.0/24"]}
NETWORKS: dict[str, Any] = {"cnm_networks": {name: overlay(*subnets) for name, subnets in SUBNETS.items()}}
ALIASES = {("multinet", "c2"): ["web"], ("multinet", "c3"): ["web", "store"]}
HOSTS: dict[str, Any] = {
    "node1": sandboxes(c1=["multinet", "second"], c1b=["multinet"]),
    "node2": sandboxes(c2={"multinet": {"aliases": ["web"]}, "second": {}}),
    "node3": sandboxes(c3={"multinet": {"aliases": ["web", "store"]}}),
}
HOSTS["node2"]["cnm_sandboxes"]["c2"] = {"networks": {"multinet": {"aliases": ["web"]}, "second": {}}}
HOSTS["node3"]["cnm_sandboxes"]["c3"] = {"networks": {"multinet": {"aliases": ["web", "store"]}}}
MEMBERS = {
    "multinet": {"c1": "node1", "c1b": "node1", "c2": "node2", "c3": "node3"},
    "second": {"c1": "node1", "c2": "node2"},
}
ONE_EACH: dict[str, Any] = {f"node{n}": sandboxes(**{f"c{n}": ["multinet"]}) for n in (1, 2, 3)}
PLAIN = {"multinet": {f"c{n}": f"node{n}" for n in (1, 2, 3)}}


@pytest.fixture
def fleet(trio: Lab, tmp_path: Path) -> Iterator[Fleet]:
    """An empty inventory over three hosts, which are afterwards as they were before."""
    with ended(Fleet(trio, tmp_path)) as fleet:
        yield fleet


@pytest.fixture
def plain(fleet: Fleet) -> Fleet:
    """A sandbox of multinet on each host."""
    fleet.declare(NETWORKS, **ONE_EACH)
    fleet.site()
    return fleet


@pytest.fixture(scope="class")
def documents(trio: Lab, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Fleet]:
    """multinet on three hosts, second on two of them."""
    with ended(Fleet(trio, tmp_path_factory.mktemp("documents"))) as fleet:
        fleet.declare(NETWORKS, **HOSTS)
        foretold = fleet.site("--check", "--diff")
        done = fleet.site()
        for host in fleet.hosts:
            assert foretold.operations(host) == done.operations(host)
            assert len(done.operations(host)) > 10
        yield fleet
        fleet.teardown()


def inside(fleet: Fleet, host: str, sandbox: str) -> str:
    """Where the namespace of a sandbox is found from here."""
    return f"/proc/{fleet.lab.pid(host)}/root/run/netns/{sandbox}"


def in_place(fleet: Fleet, host: str, network: str) -> str:
    """Shell words: ``$N`` the namespace of an overlay, ``$V`` and ``$B`` its VXLAN link and its bridge."""
    place = seen(fleet, host).place(network)
    return f"N={place} B={place} V=vx-{place[3:]}; "


def all_is_well(fleet: Fleet) -> None:
    assert wrong(fleet, SUBNETS, PLAIN) == []
    assert unanswered(fleet, matrix(PLAIN)) == []


class TestTheDocumentsNetwork:
    def test_everybody_pings_everybody_by_each_name(self, documents: Fleet) -> None:
        assert unanswered(documents, matrix(MEMBERS, ALIASES)) == []

    def test_the_hosts_tables_and_names_are_what_the_inventory_says(self, documents: Fleet) -> None:
        assert wrong(documents, SUBNETS, MEMBERS, ALIASES) == []

    def test_the_third_host_has_no_trace_of_the_second_network(self, documents: Fleet) -> None:
        assert seen(documents, "node3").place("second") == ""
        traces = "ip -d -o link; ls /run/netns /run/cnm/default/names; cat /run/cnm/default/names/*; nft list ruleset"
        said = documents.sh("node3", f"({traces}; find /run/cnm /etc/netns) 2>/dev/null")
        assert "multinet" in said
        assert "second" not in said
        assert "10.10.3." not in said
        assert "001001" not in said

    def test_a_full_packet_passes_and_a_larger_one_does_not(self, documents: Fleet) -> None:
        trials = [("c1", "-M", "do", "-s", str(size), target) for size in (1422, 1423) for target in ("c2", "c3")]
        found = pinged(documents, "node1", trials)
        assert {trial: found[trial] for trial in trials} == {trial: trial[4] == "1422" for trial in trials}

    def test_names_answer_forwards_and_backwards_on_each_host(self, documents: Fleet) -> None:
        for host, sandbox in (("node1", "c1b"), ("node2", "c2"), ("node3", "c3")):
            place = inside(documents, host, sandbox)
            three = seen(documents, "node3").end("c3", SUBNETS["multinet"])[1]
            assert list(in_namespace(place, ask, "store").data) == three
            assert list(in_namespace(place, ask, "c3.multinet").data) == three
            assert set(in_namespace(place, ask, "web").data) == {"10.10.2.4", "10.10.2.5"}
            assert in_namespace(place, ask_reverse, three[0]).data == ("c3.multinet",)
            assert in_namespace(place, ask, "c3", "AAAA") == NOTHING_OF_THAT_TYPE
            assert in_namespace(place, ask, "nobody") == NO_SUCH_NAME
        assert in_namespace(inside(documents, "node3", "c3"), ask, "c1.second").code == "NXDOMAIN"

    def test_links_are_named_by_their_vni_and_macs_by_their_address(self, documents: Fleet) -> None:
        for host in documents.hosts:
            place = seen(documents, host).place("multinet")
            assert re.fullmatch(r"ov-001000-[0-9a-f]{5}", place)
            shown = documents.sh(host, f"ip -n {place} -d link show vx-{place[3:]}")
            assert f"vxlan id 4096 local {documents.lab.address(host)}" in shown
            assert "dstport 4789" in shown
            assert "nolearning" in shown
            assert "learning off flood off" in shown
            assert "neigh_suppress on" in shown
        assert seen(documents, "node3").end("c3", SUBNETS["multinet"]) == ("02:42:0a:0a:02:05", ["10.10.2.5"])

    def test_nothing_of_it_is_among_the_hosts_own_links(self, documents: Fleet) -> None:
        assert [link for link in seen(documents, "node1").host if link.startswith(("ov-", "vx-"))] == []

    def test_a_second_run_changes_nothing_and_sends_digests_only(self, documents: Fleet) -> None:
        before = {host: snapshot(documents, host) for host in documents.hosts}
        again = documents.site()
        assert again.changed == []
        for host in documents.hosts:
            assert again.of("cnm.fabric.plan", "node1")["hosts"][host]["kept"] is True
            assert snapshot(documents, host) == before[host]

    def test_verify_proves_it(self, documents: Fleet) -> None:
        verified = documents.play("verify")
        assert verified.code == 0, verified.output

    def test_verify_names_who_is_not_reached_on_another_host(self, documents: Fleet) -> None:
        documents.sh("node3", "ip -n c3 link set eth0 down")
        try:
            verified = documents.play("verify")
        finally:
            documents.site()
        assert verified.code != 0
        assert "node3: link eth0 of c3 on multinet (down)" in verified.output
        assert "explains 6 misses: c1 ↔ c3, c1b ↔ c3 and c2 ↔ c3" in verified.output


class TestMembership:
    def test_a_sandbox_that_moves_keeps_its_address_and_a_host_without_any_has_nothing_of_the_network(
        self, plain: Fleet
    ) -> None:
        address = seen(plain, "node1").end("c1", SUBNETS["multinet"])
        hosts = {"node2": sandboxes(c1=["multinet"], c2=["multinet"]), "node3": ONE_EACH["node3"]}
        plain.declare(NETWORKS, **hosts)
        plain.site()
        moved = {"multinet": {"c1": "node2", "c2": "node2", "c3": "node3"}}
        assert seen(plain, "node2").end("c1", SUBNETS["multinet"]) == address
        assert wrong(plain, SUBNETS, moved) == []
        assert unanswered(plain, matrix(moved)) == []
        assert plain.sh("node1", "ls /run/netns") == ""
        assert plain.sh("node1", "ip -o link show type veth | grep -v eth0 || :") == ""
        assert plain.site().changed == []

    @pytest.mark.whole
    def test_a_sandbox_with_another_mac_address_is_reached_at_once_by_who_knew_the_former(self, fleet: Fleet) -> None:
        subnets = {"multinet": ["10.10.2.0/24", "fd10:2::/64"]}
        networks = {"cnm_networks": {"multinet": overlay(*subnets["multinet"])}}
        trials = matrix(PLAIN, words=[["-4"], ["-6"]], whole=False)
        for own in (None, "02:00:00:00:00:07", "02:00:00:00:00:08", None):
            box = {"networks": {"multinet": {"mac_address": own} if own else {}}}
            fleet.declare(networks, **{**ONE_EACH, "node2": {"cnm_sandboxes": {"c2": box}}})
            fleet.site()
            assert unanswered(fleet, trials) == []
            assert wrong(fleet, subnets, PLAIN) == []

    @pytest.mark.whole
    def test_an_address_changes_its_owner_in_one_run(self, fleet: Fleet) -> None:
        def fixed(name: str, address: str) -> dict[str, Any]:
            return {"cnm_sandboxes": {name: {"networks": {"multinet": {"ipv4_address": address}}}}}

        one, other = "10.10.2.50", "10.10.2.60"
        for first, second in ((one, other), (other, one)):
            fleet.declare(NETWORKS, node1=fixed("c1", first), node2=fixed("c2", second), node3=ONE_EACH["node3"])
            fleet.site()
            assert seen(fleet, "node1").end("c1", SUBNETS["multinet"])[1] == [first]
            all_is_well(fleet)
        assert fleet.site().changed == []

    def test_a_name_twice_on_one_network_is_an_error_that_names_both_hosts(self, fleet: Fleet) -> None:
        fleet.declare(NETWORKS, node1=ONE_EACH["node1"], node3=ONE_EACH["node1"])
        run = fleet.play("site")
        assert run.code != 0
        assert "c1" in run.output
        assert "node1" in run.output
        assert "node3" in run.output
        assert fleet.sh("node1", "ls /run/netns 2>/dev/null || :") == ""

    def test_what_differs_between_hosts_and_must_not_is_an_error_that_names_them(self, fleet: Fleet) -> None:
        settings: dict[str, tuple[Any, Any]] = {
            "cnm_vni_range": ("4096-5000", "5001-6000"),
            "cnm_data_path_port": (4789, 4790),
            "cnm_flood": (True, False),
            "cnm_networks": ({"multinet": overlay("10.10.2.0/24")}, {"multinet": overlay("10.10.9.0/24")}),
        }
        own = [{setting: values[at] for setting, values in settings.items()} for at in (0, 1)]
        fleet.declare({}, node1={**ONE_EACH["node1"], **own[0]}, node2={**ONE_EACH["node2"], **own[1]})
        run = fleet.play("site")
        assert run.code != 0
        said = run.of("cnm.fabric.plan", "node1")["invocation"]["errors"]
        for setting in settings:
            assert any(setting in item["path"] and item["hosts"] == ["node1", "node2"] for item in said), (
                setting,
                said,
            )
        assert fleet.sh("node1", "ls /run/netns 2>/dev/null || :") == ""


_PORT = "$(ip -n $N -o link show type veth | sed 's/^[0-9]*: //; s/@.*//')"
_ANEW = "ip -n $N link delete $V; ip link add $V netns $N type vxlan id 4096"
DRIFTS = {
    "the VXLAN link deleted": ("ip -n $N link delete $V", {"create link $V", "create fdb $V"}),
    "a forwarding entry deleted": ("bridge -n $N fdb delete 02:42:0a:0a:02:03 dev $V self", {"change fdb $V"}),
    "its half on the bridge deleted": ("bridge -n $N fdb delete 02:42:0a:0a:02:03 dev $V master", {"change fdb $V"}),
    "a forwarding entry added": (
        "bridge -n $N fdb add 02:00:00:00:00:99 dev $V self permanent dst 198.51.100.99",
        {"change fdb $V"},
    ),
    "an entry led elsewhere": (
        "bridge -n $N fdb replace 02:42:0a:0a:02:03 dev $V self permanent dst 198.51.100.13",
        {"change fdb $V"},
    ),
    "an entry with a second way": (
        "bridge -n $N fdb append 00:00:00:00:00:00 dev $V self permanent dst 198.51.100.99",
        {"change fdb $V"},
    ),
    "a neighbour changed": (
        "ip -n $N neighbour replace 10.10.2.3 lladdr 02:00:00:00:00:99 dev $B nud permanent",
        {"change neighbour $B"},
    ),
    "a neighbour deleted": ("ip -n $N neighbour delete 10.10.2.3 dev $B", {"change neighbour $B"}),
    "a neighbour added": (
        "ip -n $N neighbour add 10.10.2.99 lladdr 02:00:00:00:00:99 dev $B nud permanent",
        {"change neighbour $B"},
    ),
    "the port's flags changed": (
        "bridge -n $N link set dev $V learning on flood on neigh_suppress off",
        {"change link $V"},
    ),
    "the VXLAN link taken down": ("ip -n $N link set $V down", {"change link $V"}),
    "the bridge taken down": ("ip -n $N link set $B down", {"change link $B"}),
    "a sandbox's port taken out": (
        f"ip -n $N link set {_PORT} nomaster",
        {"change link c1/eth0"},
    ),
    "a sandbox's port moved to another bridge": (
        f"ip -n $N link add other type bridge; ip -n $N link set {_PORT} master other",
        {"change link c1/eth0"},
    ),
    "the namespace deleted": ("ip netns delete $N", {"create namespace $N", "create link $V", "create link $B"}),
    "the VXLAN link's MTU changed": ("ip -n $N link set $V mtu 1300", {"change link $V"}),
    "the bridge's MTU changed": ("ip -n $N link set $B mtu 1300", {"change link $B"}),
    "a sandbox's MTU changed": ("ip -n c1 link set eth0 mtu 1300", {"change link c1/eth0"}),
    "the bridge's rules deleted": ("ip netns exec $N nft delete table bridge cnm", {"create nftables $N"}),
    "a rule of the bridge deleted": (
        "ip netns exec $N nft flush chain bridge cnm prerouting",
        {"change nftables $N"},
    ),
    "the VXLAN link made by somebody else": (
        f"{_ANEW} dstport 4790 local 198.51.100.11",
        {"replace link $V"},
    ),
    "the VXLAN link's endpoint changed": (
        f"{_ANEW} dstport 4789 remote 198.51.100.99; ip -n $N link set $V alias cnm:default:vxlan/multinet",
        {"replace link $V"},
    ),
}
TOGETHER = (
    "a forwarding entry deleted",
    "a forwarding entry added",
    "a neighbour changed",
    "a neighbour added",
    "the port's flags changed",
    "a sandbox's MTU changed",
    "a rule of the bridge deleted",
)
"""Drifts that do not hide each other, so that one run shows them all."""


class TestDrift:
    def test_each_is_named_by_check_and_repaired(self, plain: Fleet, subtests: pytest.Subtests) -> None:
        all_is_well(plain)
        words = in_place(plain, "node1", "multinet")
        place = seen(plain, "node1").place("multinet")
        others = [(name,) for name in DRIFTS if WHOLE or name not in TOGETHER]
        for names in [TOGETHER, *some_of(others, 1, "drifts of overlays")]:
            expected = {operation for name in names for operation in DRIFTS[name][1]}
            with subtests.test("; ".join(names)):
                for name in names:
                    plain.sh("node1", words + DRIFTS[name][0])
                foretold = plain.site("--check", "--diff")
                done = plain.site()
                for host in plain.hosts:
                    assert foretold.operations(host) == done.operations(host)
                assert foretold.operations("node2") == []
                for operation in expected:
                    wanted = re.sub(r"\$[BV]", place + r"/$&", operation).replace("$N", place)
                    wanted = wanted.replace("$&", "").rstrip("/") if "$" in wanted else wanted
                    assert any(item.startswith(wanted) for item in foretold.operations("node1")), (
                        wanted,
                        foretold.operations("node1"),
                    )
                all_is_well(plain)
                plain.sh("node1", f"ip -n {place} link delete other 2>/dev/null || :")
        assert plain.site().changed == []


@pytest.fixture(scope="class")
def several(trio: Lab, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Fleet]:
    """c1 on two overlays, c4 on one, b1 on a bridge network too, i2 and i3 on an internal one."""
    with ended(Fleet(trio, tmp_path_factory.mktemp("way-out"))) as fleet:
        more = {"inner": overlay("10.10.6.0/24", internal=True), "front": {"subnet": "10.20.0.0/24"}}
        fleet.declare(
            {"cnm_networks": {**NETWORKS["cnm_networks"], **more}},
            node1=sandboxes(
                c1={"networks": ["multinet", "second"], "ports": ["8080:80", "5300:53/udp"]}, c2=["multinet"]
            ),
            node2=sandboxes(c4=["multinet"], i2=["inner"]),
            node3=sandboxes(b1=["multinet", "front"], i3=["inner"]),
        )
        fleet.site()
        yield fleet


class TestTheWayOut:
    SUBNETS = {**SUBNETS, "inner": ["10.10.6.0/24"]}
    MEMBERS = {
        "multinet": {"c1": "node1", "c2": "node1", "c4": "node2", "b1": "node3"},
        "second": {"c1": "node1"},
        "inner": {"i2": "node2", "i3": "node3"},
    }

    def test_is_the_last_link_behind_the_hosts_address_and_leads_to_no_neighbour(self, several: Fleet) -> None:
        links = several.sh("node1", "ip -n c1 -br address")
        assert sorted(re.findall(r"(?m)^(eth\d)@\S+ +UP +(\d+\.\d+)", links)) == [
            ("eth0", "10.10"),
            ("eth1", "10.10"),
            ("eth2", "172.17"),
        ]
        assert "default via 172.17.0.1 dev eth2" in several.sh("node1", "ip -n c1 route")
        assert OUTSIDE4 in several.sh("node1", "ip netns exec c1 getent ahostsv4 outside.example")
        with serving(several, "node2", "", "tcp/6000"):
            neighbour = several.lab.address("node2")
            found = answers(several, "node1", "c1", [("tcp", neighbour, 6000)])
            assert found == [several.lab.address("node1")]
        other = re.findall(r"172\.17\.0\.\d+(?=/)", several.sh("node1", "ip -n c2 -br address"))[0]
        assert answered(several, "node1", "c1", OUTSIDE4)
        assert answered(several, "node1", "c1", "c4.multinet")
        assert not answered(several, "node1", "c1", other)
        isolated = several.sh("node1", "ip -d -o link show master cnm_gwbridge")
        assert isolated.count("isolated on") == 2

    def test_published_ports_are_reached_through_it_and_callers_keep_their_addresses(self, several: Fleet) -> None:
        one, two, three = (several.lab.address(host) for host in several.hosts)
        ((_mac, (c1, *_more)), (_other, (c4, *_rest))) = (
            seen(several, host).end(box, SUBNETS["multinet"]) for host, box in (("node1", "c1"), ("node2", "c4"))
        )
        with serving(several, "node1", "c1", "tcp/80", "udp/53"):
            calls = [("tcp", one, 8080), ("udp", one, 5300), ("tcp", one, 80)]
            assert answers(several, "node3", "", calls) == [three, three, None]
            assert answers(several, "node2", "c4", [("tcp", c1, 80)]) == [c4]
            assert answers(several, "node2", "c4", [("tcp", one, 8080)]) == [two]

    def test_an_internal_network_has_none_and_forwards_no_names(self, several: Fleet) -> None:
        assert wrong(several, self.SUBNETS, self.MEMBERS) == []
        assert unanswered(several, matrix(self.MEMBERS)) == []
        assert "default" not in several.sh("node2", "ip -n i2 route")
        assert "cnm_gwbridge" not in seen(several, "node3").host
        assert "default" not in several.sh("node3", "ip -n i3 route")
        assert not answered(several, "node3", "i3", OUTSIDE4)
        assert in_namespace(inside(several, "node3", "i3"), ask, "outside.example").code != "NOERROR"

    def test_a_sandbox_that_is_on_a_bridge_network_too_has_its_way_out_there(self, several: Fleet) -> None:
        assert "cnm_gwbridge" not in seen(several, "node3").host
        assert "cnm_gwbridge" in seen(several, "node2").host
        assert "default via 10.20.0.1 dev eth1" in several.sh("node3", "ip -n b1 route")
        assert answered(several, "node3", "b1", OUTSIDE4)
        assert answered(several, "node3", "b1", "c4")

    def test_a_second_run_changes_nothing(self, several: Fleet) -> None:
        assert several.site().changed == []


class TestADeclaredWayOut:
    def test_is_used(self, fleet: Fleet) -> None:
        declared = {
            "subnet": "10.30.0.0/24",
            "driver_opts": {
                "com.docker.network.bridge.name": "br-out",
                "com.docker.network.bridge.enable_icc": "false",
            },
        }
        networks = {"cnm_networks": {"multinet": overlay("10.10.2.0/24"), "cnm_gwbridge": declared}}
        fleet.declare(networks, **ONE_EACH)
        fleet.site()
        assert "cnm_gwbridge" not in seen(fleet, "node1").host
        assert "default via 10.30.0.1 dev eth1" in fleet.sh("node1", "ip -n c1 route")
        assert answered(fleet, "node1", "c1", OUTSIDE4)
        assert fleet.site().changed == []


@pytest.fixture(scope="class", params=[4, 6], ids=["over IPv4", "over IPv6"])
def underlay(request: pytest.FixtureRequest) -> int:
    """By which addresses the hosts reach each other."""
    family: int = request.param
    return family


FAMILIES = {"four": ["10.10.4.0/24"], "six": ["fd10:6::/64"], "dual": ["10.10.5.0/24", "fd10:5::/64"]}


@pytest.fixture(scope="class")
def families(trio: Lab, tmp_path_factory: pytest.TempPathFactory, underlay: int) -> Iterator[Fleet]:
    """All kinds of networks, with a sandbox on each of three hosts, and one that is on all of them on node1."""
    with ended(Fleet(trio, tmp_path_factory.mktemp("families"))) as fleet:
        networks = {name: overlay(*subnets) for name, subnets in FAMILIES.items()}
        networks["six"]["enable_ipv4"] = False
        hosts: dict[str, Any] = {}
        for host in fleet.hosts:
            boxes = sandboxes(**{f"{name}{host[4:]}": [name] for name in FAMILIES})
            hosts[host] = {**boxes, "cnm_underlay_address": trio.address(host, underlay)}
        hosts["node1"]["cnm_sandboxes"]["all"] = {"networks": list(FAMILIES)}
        fleet.declare({"cnm_networks": networks}, **hosts)
        fleet.site()
        yield fleet


class TestBothFamilies:
    """Sandboxes with IPv4, IPv6 or both, over an IPv4 and over an IPv6 underlay."""

    def members(self) -> dict[str, dict[str, str]]:
        return {name: {"all": "node1", **{f"{name}{n}": f"node{n}" for n in (1, 2, 3)}} for name in FAMILIES}

    def test_the_whole_matrix(self, families: Fleet, underlay: int) -> None:
        members = self.members()
        for name, words in (("four", ["-4"]), ("six", ["-6"]), ("dual", ["-4"]), ("dual", ["-6"])):
            trials = matrix({name: members[name]}, words=[words], whole=False)
            assert unanswered(families, trials) == []
        vteps = {host: families.lab.address(host, underlay) for host in families.hosts}
        assert wrong(families, FAMILIES, members, vteps=vteps) == []

    def test_full_packets_pass_and_larger_ones_do_not(self, families: Fleet, underlay: int) -> None:
        mtu = 1450 if underlay == 4 else 1430
        for box in ("four1", "six1", "dual1"):
            assert f"mtu {mtu} " in families.sh("node1", f"ip -n {box} link show eth0")
        wanted = {}
        for family, target in ((4, "four2"), (6, "six2"), (4, "dual3"), (6, "dual3")):
            fits = mtu - (28 if family == 4 else 48)
            sandbox = f"{target[:-1]}1"
            for size in (fits, fits + 1):
                wanted[(sandbox, f"-{family}", "-M", "do", "-s", str(size), target)] = size == fits
        assert pinged(families, "node1", list(wanted)) == wanted

    def test_names_have_addresses_of_each_family(self, families: Fleet) -> None:
        place = inside(families, "node1", "all")
        assert in_namespace(place, ask, "dual2").data == ("10.10.5.4",)
        assert in_namespace(place, ask, "dual2", "AAAA").data == ("fd10:5::4",)
        assert in_namespace(place, ask, "six3.six", "AAAA").data == ("fd10:6::5",)
        assert in_namespace(place, ask, "six3") == NOTHING_OF_THAT_TYPE
        assert in_namespace(place, ask_reverse, "fd10:5::4").data == ("dual2.dual",)

    def test_the_outside_is_reached_in_the_families_a_network_has(self, families: Fleet) -> None:
        wanted = {
            ("four2", OUTSIDE4): True,
            ("dual2", OUTSIDE4): True,
            ("dual2", OUTSIDE6): True,
            ("six2", OUTSIDE6): True,
        }
        assert pinged(families, "node2", list(wanted)) == wanted

    def test_a_second_run_changes_nothing_and_verify_proves_it(self, families: Fleet) -> None:
        assert families.site().changed == []
        verified = families.play("verify")
        assert verified.code == 0, verified.output


class TestSubnets:
    def test_all_of_a_networks_subnets_reach_each_other(self, fleet: Fleet) -> None:
        subnets = ["10.10.2.0/24", "10.40.0.0/20", "fd10:2::/60", "fd10:3:0:0:8000::/66"]
        chosen = [
            {"ipv4_address": "10.10.2.7", "ipv6_address": "fd10:2::7"},
            {"ipv4_address": "10.40.1.7", "ipv6_address": "fd10:3:0:0:8000::7"},
            {"ipv4_address": "10.40.2.7", "ipv6_address": "fd10:2::8"},
        ]
        hosts = {
            f"node{number}": {"cnm_sandboxes": {f"c{number}": {"networks": {"multinet": place}}}}
            for number, place in enumerate(chosen, 1)
        }
        fleet.declare({"cnm_networks": {"multinet": overlay(*subnets)}}, **hosts)
        fleet.site()
        assert wrong(fleet, {"multinet": subnets}, PLAIN) == []
        assert unanswered(fleet, matrix(PLAIN, words=[["-4"], ["-6"]])) == []
        again = fleet.site()
        assert again.changed == []

    def test_a_network_without_any_gets_the_same_on_each_host(self, fleet: Fleet) -> None:
        networks = {"cnm_networks": {"multinet": overlay(), "second": overlay(enable_ipv6=True)}}
        both = {host: sandboxes(**{f"c{host[4:]}": ["multinet", "second"]}) for host in fleet.hosts}
        fleet.declare(networks, **both)
        fleet.site()
        assert "10.0.0.2/24" in fleet.sh("node1", "ip -n c1 address show eth0")
        assert "10.0.0.4/24" in fleet.sh("node3", "ip -n c3 address show eth0")
        assert unanswered(fleet, matrix({"multinet": PLAIN["multinet"], "second": PLAIN["multinet"]})) == []
        assert unanswered(fleet, matrix({"second": PLAIN["multinet"]}, words=[["-6"]], whole=False)) == []


class TestSomeHosts:
    """Limited runs, hosts that are not reached, hosts that come and go."""

    def test_a_limited_run_does_its_hosts_and_says_who_is_behind(self, plain: Fleet) -> None:
        more = {**ONE_EACH, "node1": sandboxes(c1=["multinet"], c4=["multinet"])}
        plain.declare(NETWORKS, **more)
        limited = plain.site("--limit", "node1")
        for host in ("node2", "node3"):
            said = f"{host}: not part of this run; its peer table or names for multinet are"
            assert said in " ".join(limited.output.split())
        after = {"multinet": {**PLAIN["multinet"], "c4": "node1"}}
        assert wrong(plain, SUBNETS, after, hosts=["node1"]) == []
        assert unanswered(plain, matrix(PLAIN)) == []
        whole = plain.site()
        assert "not part of this run" not in " ".join(whole.output.split())
        assert wrong(plain, SUBNETS, after) == []
        assert unanswered(plain, matrix(after)) == []
        unchanged = plain.site("--limit", "node1")
        assert unchanged.changed == []
        assert "not part of this run" not in " ".join(unchanged.output.split())

    @pytest.mark.parametrize("host", ["node1", "node3"])
    def test_a_host_that_is_not_reached_does_not_stop_the_rest(self, fleet: Fleet, host: str) -> None:
        others = [name for name in fleet.hosts if name != host]
        reached_by(fleet, (), **{host: {"ansible_port": 23}})
        fleet.declare(NETWORKS, **ONE_EACH)
        run = fleet.play("site")
        assert run.code == 4, run.output
        assert host in run.output
        assert wrong(fleet, {"multinet": SUBNETS["multinet"]}, _without_box(host), hosts=others) != []
        group = {box: where for box, where in PLAIN["multinet"].items() if where != host}
        assert unanswered(fleet, matrix({"multinet": group})) == []
        reached_by(fleet)
        fleet.site()
        all_is_well(fleet)

    @pytest.mark.whole
    def test_what_changes_while_a_host_is_not_reached_reaches_it_later(self, plain: Fleet) -> None:
        reached_by(plain, node2={"ansible_port": 23})
        more = {**ONE_EACH, "node1": sandboxes(c1=["multinet"], c4=["multinet"])}
        plain.declare(NETWORKS, **more)
        assert plain.play("site").code == 4
        after = {"multinet": {**PLAIN["multinet"], "c4": "node1"}}
        assert wrong(plain, SUBNETS, after, hosts=["node1", "node3"]) == []
        assert unanswered(plain, matrix(PLAIN)) == []
        reached_by(plain)
        assert plain.site().operations("node1") == []
        assert wrong(plain, SUBNETS, after) == []

    @pytest.mark.whole
    def test_a_host_that_left_the_inventory_is_forgotten_by_the_others(self, plain: Fleet) -> None:
        hosts = plain.hosts
        plain.hosts = ["node1", "node2"]
        reached_by(plain, without=["node3"])
        plain.declare(NETWORKS, node1=ONE_EACH["node1"], node2=ONE_EACH["node2"])
        plain.site()
        plain.hosts = hosts
        left = {"multinet": {"c1": "node1", "c2": "node2"}}
        assert (
            wrong(plain, SUBNETS, left, hosts=["node1", "node2"]) == ["node3 has multinet"]
            or wrong(plain, SUBNETS, left, hosts=["node1", "node2"]) == []
        )
        reached_by(plain)
        plain.declare(NETWORKS, **ONE_EACH)
        plain.site()
        all_is_well(plain)

    @pytest.mark.whole
    def test_a_lost_lease_store_moves_nobody(self, fleet: Fleet) -> None:
        fleet.declare(NETWORKS, node2=sandboxes(c2=["second"]))
        fleet.site()
        fleet.declare(NETWORKS, node1=ONE_EACH["node1"], node2=sandboxes(c2=["second", "multinet"]))
        fleet.site()
        fleet.declare(NETWORKS, node1=sandboxes(a=["multinet"], c1=["multinet"]), node2=sandboxes(c2=["second"]))
        fleet.site()
        # From nothing the first by name would have the first VNI and address.
        assert "vxlan id 4097 " in fleet.sh("node1", in_place(fleet, "node1", "multinet") + "ip -d -n $N link show $V")
        assert "10.10.2.2/24" in fleet.sh("node1", "ip -n c1 address show eth0")
        fleet.store.unlink()
        assert fleet.site().changed == []
        assert fleet.store.exists()

    def test_a_change_of_an_underlay_address_is_followed(self, plain: Fleet) -> None:
        plain.sh("node2", "ip address add 198.51.100.112/24 dev eth0")
        try:
            moved = {**ONE_EACH, "node2": {**ONE_EACH["node2"], "cnm_underlay_address": "198.51.100.112"}}
            plain.declare(NETWORKS, **moved)
            plain.site()
            assert wrong(plain, SUBNETS, PLAIN, vteps={"node2": "198.51.100.112"}) == []
            assert unanswered(plain, matrix(PLAIN)) == []
            # No route has changed since: whatever the kernel remembers of its way there would still hold.
            plain.declare(NETWORKS, **ONE_EACH)
            plain.site()
            all_is_well(plain)
        finally:
            plain.sh("node2", "ip address delete 198.51.100.112/24 dev eth0")

    @pytest.mark.whole
    def test_hosts_with_another_mtu_are_named_and_the_smallest_counts_everywhere(self, fleet: Fleet) -> None:
        # What an open connection sends in packets of 1500 bytes would be dropped for ever: each task opens its own.
        reached_by(fleet, node3={"ansible_ssh_args": "-o ControlPath=none"})
        fleet.sh("node3", "ip link set eth0 mtu 1400")
        try:
            fleet.declare(NETWORKS, **ONE_EACH)
            run = fleet.site()
            said = " ".join(run.output.split())
            assert "1400 on node3" in said
            assert "the network has 1350 on all of them" in said
            for host in fleet.hosts:
                assert "mtu 1350 " in fleet.sh(host, f"ip -n c{host[4:]} link show eth0")
            assert pinged(fleet, "node1", [("c1", "-M", "do", "-s", "1322", "c3")]) == {
                ("c1", "-M", "do", "-s", "1322", "c3"): True
            }
        finally:
            fleet.sh("node3", "ip link set eth0 mtu 1500")
            reached_by(fleet)
        fleet.site()
        assert "mtu 1450 " in fleet.sh("node1", "ip -n c1 link show eth0")
        all_is_well(fleet)

    def test_underlays_of_both_families_are_refused(self, fleet: Fleet) -> None:
        hosts = {**ONE_EACH, "node2": {**ONE_EACH["node2"], "cnm_underlay_address": fleet.lab.address("node2", 6)}}
        fleet.declare(NETWORKS, **hosts)
        run = fleet.play("site")
        assert run.code != 0
        assert "IPv4 on node1 and node3 and IPv6 on node2" in " ".join(run.output.split())
        assert fleet.sh("node1", "ls /run/netns 2>/dev/null || :") == ""

    def test_an_underlay_address_that_the_host_does_not_have_is_refused(self, fleet: Fleet) -> None:
        hosts = {**ONE_EACH, "node2": {**ONE_EACH["node2"], "cnm_underlay_address": "198.51.100.200"}}
        fleet.declare(NETWORKS, **hosts)
        run = fleet.play("site")
        assert run.code != 0
        assert "198.51.100.200 is no address of this host" in " ".join(run.output.split())
        assert "198.51.100.12 on eth0" in " ".join(run.output.split())


def _without_box(host: str) -> dict[str, dict[str, str]]:
    return {"multinet": {box: where for box, where in PLAIN["multinet"].items() if where != host}}


_THEIRS = "/run/docker/netns/1-theirs"
FOREIGN = {
    "on the host": ("ip link add theirs type vxlan id 4096 dstport 4789 local {}", "ip link delete theirs"),
    "in a namespace of a Docker Engine": (
        f"""
        mkdir -p /run/docker/netns; touch {_THEIRS}; unshare --net={_THEIRS} true
        ip link add theirs type vxlan id 4097 dstport 4789 local {{}}; ip link set theirs netns {_THEIRS}
        """,
        f"nsenter --net={_THEIRS} ip link delete theirs; umount {_THEIRS}; rm -r /run/docker",
    ),
}


class TestTheVniOfSomebodyElse:
    @pytest.mark.whole
    def test_is_not_taken(self, fleet: Fleet) -> None:
        for host, (make, _remove) in zip(("node2", "node3"), FOREIGN.values()):
            fleet.sh(host, make.format(fleet.lab.address(host)))
        try:
            fleet.declare(NETWORKS, **ONE_EACH)
            fleet.site()
            assert seen(fleet, "node1").place("multinet").startswith("ov-001002-")
            all_is_well(fleet)
            assert fleet.site().changed == []
        finally:
            for host, (_make, remove) in zip(("node2", "node3"), FOREIGN.values()):
                fleet.sh(host, remove)
        assert fleet.site().changed == []

    def test_is_an_error_where_it_was_asked_for(self, fleet: Fleet) -> None:
        make, remove = FOREIGN["on the host"]
        fleet.sh("node2", make.format(fleet.lab.address("node2")))
        try:
            option = {"com.docker.network.driver.overlay.vxlanid_list": "4096"}
            fleet.declare({"cnm_networks": {"multinet": overlay("10.10.2.0/24", driver_opts=option)}}, **ONE_EACH)
            run = fleet.play("site")
            assert run.code != 0
            assert "the VNI 4096 is used by a foreign VXLAN on node2" in " ".join(run.output.split())
        finally:
            fleet.sh("node2", remove)

    @pytest.mark.whole
    def test_another_projects_networks_have_other_vnis_and_both_work(self, plain: Fleet, tmp_path: Path) -> None:
        (tmp_path / "other").mkdir()
        other = Fleet(plain.lab, tmp_path / "other")
        boxes = {host: sandboxes(**{f"x{host[4:]}": ["multinet"]}) for host in other.hosts}
        networks = {"multinet": overlay("10.50.0.0/24")}
        other.declare({"cnm_project": "other", "cnm_networks": networks}, **boxes)
        other.site()
        try:
            group = {f"x{n}": f"node{n}" for n in (1, 2, 3)}
            assert unanswered(other, matrix({"multinet": group})) == []
            assert other.sh("node1", "ls /run/netns | grep ov-").split()[0][:10] == "ov-001000-"
            assert [name[:10] for name in other.sh("node1", "ls /run/netns | grep ov-").split()] == [
                "ov-001000-",
                "ov-001001-",
            ]
            assert other.site().changed == []
            assert plain.site().changed == []
            assert unanswered(plain, matrix(PLAIN)) == []
        finally:
            other.teardown()
        all_is_well(plain)
        assert plain.site().changed == []


class TestWhileItRuns:
    def test_a_ping_through_it_loses_nothing_while_something_else_changes(
        self, plain: Fleet, subtests: pytest.Subtests
    ) -> None:
        more: dict[str, Any] = {
            "a sandbox is added on both ends": {
                **ONE_EACH,
                "node1": sandboxes(c1=["multinet"], c4=["multinet"]),
                "node2": sandboxes(c2=["multinet"], c5=["multinet"]),
            },
            "the first of another network": {
                **ONE_EACH,
                "node1": sandboxes(c1=["multinet"], c6=["second"]),
                "node2": sandboxes(c2=["multinet"], c7=["second"]),
            },
            "all of that goes": ONE_EACH,
            "a host leaves": {"node1": ONE_EACH["node1"], "node2": ONE_EACH["node2"]},
        }
        plain.sh("node1", in_place(plain, "node1", "multinet") + "ip -n $N neighbour delete 10.10.2.4 dev $B")
        for name, hosts in {"drift elsewhere is repaired": ONE_EACH, **more}.items():
            with subtests.test(name):
                plain.declare(NETWORKS, **hosts)
                with pinging(plain, "node1", "c1", "10.10.2.3") as counted:
                    assert plain.site().changed != []
                sent, received = counted
                assert sent > 30
                assert received == sent


_SHOUTER = r"""
import socket
with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as opened:
    opened.setsockopt(socket.SOL_SOCKET, socket.SO_BROADCAST, 1)
    opened.setsockopt(socket.SOL_SOCKET, socket.SO_BINDTODEVICE, b"eth0")
    for target in ("10.10.2.255", "255.255.255.255", "224.0.0.251"):
        opened.sendto(b"who", (target, 5353))
"""
_HEARER = r"""
import socket, sys
with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as opened:
    opened.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    opened.bind(("", 5353))
    group = socket.inet_aton("224.0.0.251") + socket.inet_aton(sys.argv[1])
    opened.setsockopt(socket.IPPROTO_IP, socket.IP_ADD_MEMBERSHIP, group)
    opened.settimeout(0.8)
    print("ready", flush=True)
    sys.stdin.read()
    heard = 0
    try:
        while True:
            opened.recv(100)
            heard += 1
    except TimeoutError:
        print(heard)
"""


@pytest.mark.whole
class TestFlooding:
    """Broadcast and multicast, as mDNS sends it."""

    def heard(self, fleet: Fleet) -> tuple[list[int], int]:
        """How much of what c1 shouts its neighbours on this and on other hosts hear, and what left node1 for it."""
        listeners = []
        for host, box, address in (("node1", "c0", 2), ("node2", "c2", 4), ("node3", "c3", 5)):
            argv = ["ip", "netns", "exec", box, "/usr/bin/python3", "-c", _HEARER, f"10.10.2.{address}"]
            listeners.append(fleet.lab.popen(host, argv, stdin=-1, stdout=-1))
        for listener in listeners:
            assert listener.stdout is not None
            assert listener.stdout.readline() == "ready\n"
        with capturing(fleet, "node1") as left:
            shout = ["ip", "netns", "exec", "c1", "/usr/bin/python3", "-c", _SHOUTER]
            fleet.lab.run("node1", shout)
            found = [int(listener.communicate()[0]) for listener in listeners]
        return found, left[0]

    def test_reaches_other_hosts_only_if_it_is_asked_for(self, fleet: Fleet) -> None:
        boxes = {**ONE_EACH, "node1": sandboxes(c0=["multinet"], c1=["multinet"])}
        for flooded in (True, False, True):
            fleet.declare({**NETWORKS, "cnm_flood": flooded}, **boxes)
            fleet.site()
            heard, left = self.heard(fleet)
            assert heard == ([3, 3, 3] if flooded else [3, 0, 0])
            assert (left >= 6) is flooded
            assert left == 0 or flooded
            assert fleet.site().changed == []
        assert unanswered(fleet, matrix({"multinet": {"c0": "node1", **PLAIN["multinet"]}})) == []
