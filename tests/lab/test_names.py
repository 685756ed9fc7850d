# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: cnm.fabric contributors
"""Names as a user has them: declared in variables, made by site, asked for from inside the sandboxes."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from typing import Any, TypeVar

import pytest
from asking import NO_SUCH_NAME, NOTHING_OF_THAT_TYPE, Upstream, ask, ask_patiently, ask_reverse, in_namespace
from fleet import Fleet, snapshot
from lab import DOMAIN, OUTSIDE4, OUTSIDE6, SWITCH, Lab, address

T = TypeVar("T")

FIRST, SECOND = "203.0.113.53", "203.0.113.54"
NETWORKS: dict[str, Any] = {
    "front": {"subnet": "10.7.1.0/24"},
    "inner": {"subnet": "10.7.2.0/24", "internal": True},
    "dual": {"subnet": ["10.7.3.0/24", "fd07:3::/64"], "enable_ipv6": True},
    "six": {"subnet": "fd07:6::/64", "enable_ipv4": False, "enable_ipv6": True},
    "app": {"subnet": "10.7.4.0/24"},
}
SANDBOXES: dict[str, Any] = {
    "c1": {"networks": ["front"]},
    "c2": {"networks": {"front": {"aliases": ["web", "www.shop.example"]}, "inner": None}},
    "hidden": {"networks": ["inner"], "dns": [FIRST]},
    "both": {
        "networks": ["dual"],
        "dns_search": ["dual", "example"],
        "dns_opt": ["timeout:1", "attempts:3"],
        "extra_hosts": {"printer": "192.0.2.7", "host.docker.internal": "host-gateway"},
    },
    "twin": {"networks": {"dual": {"aliases": ["web"]}}},
    "modern": {"networks": ["six"], "dns": [address(SWITCH), address(SWITCH, 6)]},
    "api": {"networks": ["app"], "dns": [FIRST, SECOND]},
}
OUTSIDE: dict[str, dict[str, list[str]]] = {
    "www.app": {"A": ["198.51.100.80"]},
    "many.example": {"A": [f"192.0.2.{number}" for number in range(1, 101)]},
}


@pytest.fixture(scope="module")
def fleet(lab: Lab, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Fleet]:
    """All of the above on node1."""
    made = Fleet(lab, tmp_path_factory.mktemp("names"))
    before = snapshot(made, "node1")
    made.declare({"cnm_networks": NETWORKS}, node1={"cnm_sandboxes": SANDBOXES})
    made.site()
    yield made
    made.teardown()
    assert snapshot(made, "node1") == before


@pytest.fixture(scope="module")
def servers(lab: Lab, fleet: Fleet) -> Iterator[list[Upstream]]:
    """Two DNS servers outside."""
    with ExitStack() as stack:
        result = []
        for place in (FIRST, SECOND):
            fleet.sh(SWITCH, f"ip address add {place}/32 dev outside")
            stack.callback(fleet.sh, SWITCH, f"ip address del {place}/32 dev outside")
            serving = Upstream(place, OUTSIDE).serving()
            result.append(in_namespace(f"/proc/{lab.pid(SWITCH)}/ns/net", stack.enter_context, serving))
        yield result


@pytest.fixture
def upstreams(servers: list[Upstream]) -> Iterator[list[Upstream]]:
    """The same, answering and not asked yet."""
    for server in servers:
        server.silent, server.code = False, None
        server.asked.clear()
    yield servers


def inside(fleet: Fleet, sandbox: str, function: Callable[..., T], *arguments: Any, **named: Any) -> T:
    path = f"/proc/{fleet.lab.pid('node1')}/root/run/netns/{sandbox}"
    return in_namespace(path, function, *arguments, **named)


class TestNames:
    @pytest.mark.parametrize("name", ["c2", "c2.front", "web", "web.front", "www.shop.example", "C2.FRONT"])
    def test_a_neighbour_is_found_by_each_of_its_names(self, fleet: Fleet, name: str) -> None:
        assert inside(fleet, "c1", ask, name).data == ("10.7.1.3",)
        assert inside(fleet, "c1", ask, name, tcp=True).data == ("10.7.1.3",)
        assert inside(fleet, "c1", ask, name, "AAAA") == NOTHING_OF_THAT_TYPE
        assert inside(fleet, "c1", ask, name, "MX") == NOTHING_OF_THAT_TYPE

    def test_an_alias_is_known_on_its_network_alone(self, fleet: Fleet) -> None:
        assert inside(fleet, "both", ask, "web").data == ("10.7.3.3",)
        assert inside(fleet, "hidden", ask, "web") == NO_SUCH_NAME
        assert inside(fleet, "hidden", ask, "c2").data == ("10.7.2.2",)

    def test_both_families_are_there_for_programs_too(self, fleet: Fleet) -> None:
        assert inside(fleet, "both", ask, "twin.dual", "AAAA").data == ("fd07:3::3",)
        said = fleet.sh("node1", "ip netns exec both getent ahosts twin")
        assert {line.split()[0] for line in said.splitlines()} == {"10.7.3.3", "fd07:3::3"}
        fleet.sh("node1", "ip netns exec both ping -6 -c 1 -W 2 twin")

    def test_an_address_has_its_name_on_the_network(self, fleet: Fleet) -> None:
        assert inside(fleet, "both", ask_reverse, "10.7.3.3").data == ("twin.dual",)
        assert inside(fleet, "both", ask_reverse, "fd07:3::3").data == ("twin.dual",)
        assert inside(fleet, "c1", ask_reverse, "10.7.1.3").data == ("c2.front",)
        assert "c2.front" in fleet.sh("node1", "ip netns exec c1 getent hosts 10.7.1.3")

    def test_search_domains_options_and_extra_hosts_are_in_the_files(self, fleet: Fleet) -> None:
        assert fleet.sh("node1", "ip netns exec both cat /etc/resolv.conf").splitlines()[1:] == [
            "nameserver 127.0.0.11",
            "search dual example",
            "options timeout:1 attempts:3 ndots:0",
        ]
        assert "192.0.2.7" in fleet.sh("node1", "ip netns exec both getent hosts printer")
        said = fleet.sh("node1", "ip netns exec both getent ahosts host.docker.internal")
        assert {line.split()[0] for line in said.splitlines()} == {"10.7.3.1", "fd07:3::1"}
        assert inside(fleet, "twin", ask, "printer") == NO_SUCH_NAME

    def test_verify_finds_nothing_amiss_in_either_family(self, fleet: Fleet) -> None:
        run = fleet.play("verify")
        assert run.code == 0, run.output
        assert run.of("cnm.fabric.verify", "node1")["counts"]["egress"] == len(SANDBOXES)


class TestForwarding:
    def test_the_outside_is_found_by_the_host_s_server(self, fleet: Fleet) -> None:
        assert inside(fleet, "c1", ask, DOMAIN).data == (OUTSIDE4,)
        assert inside(fleet, "c1", ask, DOMAIN, "AAAA").data == (OUTSIDE6,)

    def test_a_sandbox_without_ipv4_asks_over_ipv6(self, fleet: Fleet) -> None:
        assert inside(fleet, "modern", ask, DOMAIN, "AAAA").data == (OUTSIDE6,)

    def test_a_real_domain_called_like_a_network_is_found(self, fleet: Fleet, upstreams: list[Upstream]) -> None:
        assert inside(fleet, "api", ask, "api.app").data == ("10.7.4.2",)
        assert inside(fleet, "api", ask, "api.app", "AAAA") == NOTHING_OF_THAT_TYPE
        assert inside(fleet, "api", ask_reverse, "10.7.4.77") == NO_SUCH_NAME
        assert upstreams[0].asked == []
        assert inside(fleet, "api", ask, "www.app").data == ("198.51.100.80",)

    def test_a_name_without_a_dot_is_denied_at_once(self, fleet: Fleet, upstreams: list[Upstream]) -> None:
        upstreams[0].silent = upstreams[1].silent = True
        started = time.monotonic()
        assert inside(fleet, "api", ask, "nobody") == NO_SUCH_NAME
        assert time.monotonic() - started < 0.5
        assert upstreams[0].asked == upstreams[1].asked == []

    def test_nothing_leaves_an_internal_network_by_its_resolver(self, fleet: Fleet, upstreams: list[Upstream]) -> None:
        for kind in ("A", "TXT"):
            assert inside(fleet, "hidden", ask, "secret.evil.example", kind) == NO_SUCH_NAME
        assert inside(fleet, "hidden", ask, DOMAIN) == NO_SUCH_NAME
        assert upstreams[0].asked == []

    def test_an_answer_longer_than_a_datagram_arrives(self, fleet: Fleet, upstreams: list[Upstream]) -> None:
        assert inside(fleet, "api", ask, "many.example").truncated
        assert set(inside(fleet, "api", ask, "many.example", tcp=True).data) == set(OUTSIDE["many.example"]["A"])
        said = fleet.sh("node1", "ip netns exec api getent ahostsv4 many.example")
        assert len({line.split()[0] for line in said.splitlines()}) == 100

    def test_the_next_server_is_asked_when_one_fails_or_is_silent(
        self, fleet: Fleet, upstreams: list[Upstream]
    ) -> None:
        first, second = upstreams
        assert inside(fleet, "api", ask, "one.www.app") == NO_SUCH_NAME
        assert (len(first.asked), len(second.asked)) == (1, 0)
        first.code = "SERVFAIL"
        assert inside(fleet, "api", ask, "two.www.app") == NO_SUCH_NAME
        assert (len(first.asked), len(second.asked)) == (2, 1)
        first.silent = True
        assert inside(fleet, "api", ask_patiently, "www.app", 0.5, 4).data == ("198.51.100.80",)


class TestWarnings:
    def test_resolvers_of_which_none_answers_are_named_before_anything_is_changed(
        self, fleet: Fleet, upstreams: list[Upstream]
    ) -> None:
        fleet.site()
        first, second = upstreams
        first.code, second.code = "REFUSED", "SERVFAIL"
        fleet.sh("node1", f"printf 'nameserver %s\\n' {FIRST} {SECOND} >/etc/resolv.conf")
        try:
            output = " ".join(fleet.site("--check").output.split())
            assert (
                f"node1: external names will not resolve in api, both, c1, c2, twin: resolver {FIRST} answers REFUSED, "
                f"{SECOND} answers SERVFAIL. Set `dns` to one that resolves names for this host"
            ) in output, output
            assert first.asked == second.asked == [("", "NS")]
            # One of them is enough, and the host asks nothing for sandboxes that forward nothing.
            second.code = None
            assert "external names" not in fleet.site("--check").output
            fleet.declare({"cnm_networks": NETWORKS}, node1={"cnm_sandboxes": {"hidden": SANDBOXES["hidden"]}})
            second.code = "REFUSED"
            assert "external names" not in fleet.site().output
            first.asked.clear()
            assert fleet.site().changed == []
            assert first.asked == []
        finally:
            fleet.sh("node1", f"echo nameserver {address(SWITCH)} >/etc/resolv.conf")
            fleet.declare({"cnm_networks": NETWORKS}, node1={"cnm_sandboxes": SANDBOXES})
            fleet.site()


class TestChanges:
    """Last: they change what the others look at, and put it back."""

    def test_records_and_servers_change_in_the_same_process(self, fleet: Fleet, upstreams: list[Upstream]) -> None:
        fleet.site()
        before = fleet.sh("node1", "cat /run/cnm/default/resolvers/*.pid")
        more = {**SANDBOXES, "c2": {"networks": {"front": {"aliases": ["www.app", "cache"]}, "inner": None}}}
        fleet.declare({"cnm_networks": NETWORKS}, node1={"cnm_sandboxes": more})
        # The host's own resolver is a stub from now on, with another server behind it.
        stub = "mkdir -p /run/systemd/resolve; echo nameserver 127.0.0.53 > /etc/resolv.conf"
        fleet.sh("node1", f"{stub}; echo nameserver {FIRST} > /run/systemd/resolve/resolv.conf")
        try:
            changed = fleet.site().operations("node1")
            assert all(item.startswith(("change file", "change names")) for item in changed), changed
            assert "change names /run/cnm/default/names" in changed
            for name, data in (("cache", ("10.7.1.3",)), ("www.app", ("10.7.1.3",)), ("web.front", ())):
                assert inside(fleet, "c1", ask, name).data == data
            assert inside(fleet, "c1", ask, "www.app", "AAAA") == NOTHING_OF_THAT_TYPE
            assert inside(fleet, "both", ask, "www.app").data == ("198.51.100.80",)
            assert ("www.app", "A") in upstreams[0].asked
        finally:
            fleet.sh("node1", f"echo nameserver {address(SWITCH)} > /etc/resolv.conf; rm -r /run/systemd/resolve")
            fleet.declare({"cnm_networks": NETWORKS}, node1={"cnm_sandboxes": SANDBOXES})
        fleet.site()
        assert fleet.sh("node1", "cat /run/cnm/default/resolvers/*.pid") == before
        assert inside(fleet, "c1", ask, "web").data == ("10.7.1.3",)
        assert fleet.site().changed == []
