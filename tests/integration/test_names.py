# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: cnm.fabric contributors
"""What a program in a sandbox is told when it asks for a name, and what its resolver asks others."""

from __future__ import annotations

import contextlib
import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, TypeVar

import dns.exception
import pytest
from asking import (
    NO_SUCH_NAME,
    NOTHING_OF_THAT_TYPE,
    Answer,
    Upstream,
    ask,
    ask_patiently,
    ask_reverse,
    in_namespace,
)
from host import compare, converge, on_a_host, run_command, sh

from ansible_collections.cnm.fabric.plugins.module_utils.kernel.host import Host
from ansible_collections.cnm.fabric.plugins.module_utils.plan.plan import Plan
from ansible_collections.cnm.fabric.plugins.module_utils.plan.settings import File
from ansible_collections.cnm.fabric.plugins.module_utils.state.files import write_atomically
from ansible_collections.cnm.fabric.plugins.module_utils.verify.names import resolving
from ansible_collections.cnm.fabric.plugins.module_utils.verify.prover import verify
from ansible_collections.cnm.fabric.plugins.plugin_utils.facts import Facts
from ansible_collections.cnm.fabric.plugins.plugin_utils.inspect.verification import checks_of
from ansible_collections.cnm.fabric.plugins.plugin_utils.leases.base import empty
from ansible_collections.cnm.fabric.plugins.plugin_utils.module_state.reading import read_topology
from ansible_collections.cnm.fabric.plugins.plugin_utils.planner.plan import plan

T = TypeVar("T")

FIRST, SECOND, SIXTH = "192.0.2.1", "192.0.2.2", "2001:db8:53::1"
OUTSIDE: dict[str, dict[str, list[str]]] = {
    "outside.example": {"A": ["203.0.113.1"], "AAAA": ["2001:db8::1"], "MX": ["10 mail.outside.example."]},
    "app": {"SOA": ["ns.app. root.app. 1 2 3 4 5"]},
    "www.app": {"A": ["203.0.113.2"]},
    "many.example": {"A": [f"198.51.100.{number}" for number in range(1, 201)]},
}
NETWORKS: dict[str, Any] = {
    "front": {"subnet": "10.0.0.0/24"},
    "back": {"subnet": "10.0.1.0/24", "internal": True},
    "dual": {"subnet": ["10.0.2.0/24", "fd00:2::/64"], "enable_ipv6": True},
    "six": {"subnet": "fd00:3::/64", "enable_ipv6": True, "enable_ipv4": False},
    "app": {"subnet": "10.0.4.0/25"},
}


def planned(sandboxes: dict[str, Any], resolvers: tuple[str, ...] = (FIRST,)) -> Plan:
    variables = {"node1": {"cnm_networks": NETWORKS, "cnm_sandboxes": sandboxes}}
    made = plan(read_topology(variables), {"node1": Facts(resolvers=resolvers)}, empty(), "now")
    assert not made.refusals
    return made.plans["node1"]


def make(sandboxes: dict[str, Any], resolvers: tuple[str, ...] = (FIRST,)) -> list[str]:
    """Make the sandboxes on this host, and none others; what was done."""
    return converge(planned(sandboxes, resolvers).resources)


def inside(sandbox: str, function: Callable[..., T], *arguments: Any, **named: Any) -> T:
    return in_namespace(f"/run/netns/{sandbox}", function, *arguments, **named)


def pid(sandbox: str) -> int:
    return int(Path(f"/run/cnm/default/resolvers/{sandbox}.pid").read_text().splitlines()[0])


@contextlib.contextmanager
def upstream(address: str = FIRST, **more: Any) -> Iterator[Upstream]:
    """A server of the host's at an address that leads to it."""
    sh(f"ip address add {address}/{128 if ':' in address else 32} dev lo nodad")
    with contextlib.ExitStack() as stack:
        yield stack.enter_context(Upstream(address, OUTSIDE, **more).serving())


class TestNames:
    @on_a_host
    def test_each_of_an_endpoint_s_names_has_its_addresses(self) -> None:
        aliases = {"front": {"aliases": ["web", "www.shop.example"]}}
        make({"c1": {"networks": ["front"]}, "c2": {"networks": aliases, "hostname": "box.example"}})
        for name in ("c2", "web", "c2.front", "web.front", "www.shop.example", "box.example", "C2.Front", "WEB"):
            assert inside("c1", ask, name).data == ("10.0.0.3",), name
            assert inside("c1", ask, name, tcp=True).data == ("10.0.0.3",), name

    @on_a_host
    def test_an_address_has_the_sandbox_s_name_on_that_network(self) -> None:
        make({"c1": {"networks": ["front", "dual"]}, "c2": {"networks": {"dual": {"aliases": ["a"]}, "front": None}}})
        for address, name in (("10.0.0.3", "c2.front"), ("10.0.2.3", "c2.dual"), ("fd00:2::3", "c2.dual")):
            assert inside("c1", ask_reverse, address).data == (name,)

    @on_a_host
    def test_a_name_has_the_addresses_of_both_families(self) -> None:
        make({"c1": {"networks": ["front", "dual", "six"]}, "c2": {"networks": ["dual"]}, "c3": {"networks": ["six"]}})
        assert inside("c1", ask, "c2").data == ("10.0.2.3",)
        assert inside("c1", ask, "c2", "AAAA").data == ("fd00:2::3",)
        assert inside("c1", ask, "c3") == NOTHING_OF_THAT_TYPE
        assert inside("c1", ask, "c3.six", "AAAA").data == ("fd00:3::3",)
        with Host("default", run_command) as host:
            assert host.run_in("c1", resolving, ["c2", "c3"]) == {"c2": ["10.0.2.3", "fd00:2::3"], "c3": ["fd00:3::3"]}

    @on_a_host
    def test_shared_name_rotates_all_addresses(self) -> None:
        make({name: {"networks": {"front": {"aliases": ["web"]}}} for name in ("c1", "c2", "c3")})
        answers = [inside("c1", ask, "web").data for _time in range(12)]
        assert {tuple(sorted(data)) for data in answers} == {("10.0.0.2", "10.0.0.3", "10.0.0.4")}
        assert {data[0] for data in answers} == {"10.0.0.2", "10.0.0.3", "10.0.0.4"}

    @on_a_host
    def test_many_addresses_are_answered_by_tcp_and_verify_reads_them(self) -> None:
        fixed = {
            f"s{number}": {"networks": {"front": {"aliases": ["web"], "ipv4_address": f"10.0.0.{number}"}}}
            for number in range(2, 102)
        }
        # One sandbox of the hundred is enough to ask: the names are those of all.
        here = ("", "s2")
        wanted = [item for item in planned(fixed).resources if getattr(item, "namespace", item.key[1]) in here]
        converge([*wanted, *(item for item in planned(fixed).resources if isinstance(item, File))])
        addresses = {f"10.0.0.{number}" for number in range(2, 102)}
        assert inside("s2", ask, "web").truncated
        assert set(inside("s2", ask, "web", edns=1232).data) <= addresses
        assert set(inside("s2", ask, "web", tcp=True).data) == addresses
        assert set(inside("s2", resolving, ["web"])["web"]) == addresses

    @on_a_host
    def test_names_on_other_networks_do_not_resolve(self) -> None:
        with upstream() as server:
            make({"c1": {"networks": ["front"]}, "c2": {"networks": ["dual"]}})
            assert inside("c1", ask, "c2") == NO_SUCH_NAME
            assert server.asked == []
            assert inside("c1", ask, "c2.dual") == NO_SUCH_NAME
            assert inside("c1", ask_reverse, "10.0.2.2") == NO_SUCH_NAME


class TestForwarding:
    @on_a_host
    def test_queries_for_our_names_are_never_forwarded(self) -> None:
        names = ("c1", "c1.front", "web.example", "web.example.front", "box.example")
        with upstream() as server:
            make({"c1": {"networks": {"front": {"aliases": ["web.example"]}}, "hostname": "box.example"}})
            for name in names:
                for kind in ("AAAA", "MX", "TXT", "SRV", "HTTPS", "SOA"):
                    assert inside("c1", ask, name, kind) == NOTHING_OF_THAT_TYPE, (name, kind)
            assert inside("c1", ask_reverse, "10.0.0.9") == NO_SUCH_NAME
            assert server.asked == []

    @on_a_host
    def test_an_unknown_name_without_a_dot_does_not_exist(self) -> None:
        with upstream(silent=True) as server:
            make({"c1": {"networks": ["front"]}})
            started = time.monotonic()
            for kind in ("A", "AAAA", "MX"):
                assert inside("c1", ask, "nobody", kind) == NO_SUCH_NAME
            assert time.monotonic() - started < 0.5
            assert server.asked == []

    @on_a_host
    def test_other_dotted_names_are_forwarded_for_every_type(self) -> None:
        with upstream() as server:
            make({"c1": {"networks": ["front"]}})
            for kind, data in OUTSIDE["outside.example"].items():
                assert inside("c1", ask, "outside.example", kind).data == tuple(item.rstrip(".") for item in data)
            assert inside("c1", ask, "none.example") == NO_SUCH_NAME
            assert inside("c1", ask_reverse, "192.0.2.77") == NO_SUCH_NAME
            assert ("77.2.0.192.in-addr.arpa", "PTR") in server.asked

    @on_a_host
    def test_a_network_hides_neither_a_domain_nor_the_rest_of_a_reverse_zone(self) -> None:
        with upstream() as server:
            make({"c1": {"networks": {"app": {"aliases": ["api"]}}}})
            assert inside("c1", ask, "c1.app").data == ("10.0.4.2",)
            assert inside("c1", ask, "api.app", "AAAA") == NOTHING_OF_THAT_TYPE
            assert server.asked == []
            assert inside("c1", ask, "www.app").data == ("203.0.113.2",)
            assert inside("c1", ask, "nobody.app") == NO_SUCH_NAME
            inside("c1", ask_reverse, "10.0.4.100")
            inside("c1", ask_reverse, "10.0.4.200")
            asked = [name for name, _kind in server.asked]
            assert asked == ["www.app", "nobody.app", "200.4.0.10.in-addr.arpa"]

    @pytest.mark.parametrize("declared", [{}, {"dns": [FIRST]}])
    @on_a_host
    def test_a_sandbox_only_on_internal_networks_forwards_nothing(self, declared: dict[str, Any]) -> None:
        with upstream() as server:
            make({"c1": {"networks": ["back"], **declared}, "c2": {"networks": ["back"]}})
            assert inside("c1", ask, "c2.back").data == ("10.0.1.3",)
            for name in ("outside.example", "secret.evil.example"):
                for kind in ("A", "TXT", "PTR"):
                    assert inside("c1", ask, name, kind) == NO_SUCH_NAME
            assert server.asked == []

    @on_a_host
    def test_a_sandbox_without_ipv4_forwards_over_ipv6(self) -> None:
        with upstream() as first, upstream(SIXTH) as sixth:
            make({"c6": {"networks": ["six"]}, "c4": {"networks": ["front"]}}, (FIRST, "fe80::1", SIXTH))
            assert inside("c6", ask, "outside.example").data == ("203.0.113.1",)
            assert (first.asked, len(sixth.asked)) == ([], 1)
            assert inside("c4", ask, "outside.example").data == ("203.0.113.1",)
            assert (len(first.asked), len(sixth.asked)) == (1, 1)

    @on_a_host
    def test_an_answer_too_long_for_a_datagram_comes_by_tcp(self) -> None:
        with upstream():
            make({"c1": {"networks": ["front"]}})
            assert inside("c1", ask, "many.example").truncated
            assert sorted(inside("c1", ask, "many.example", tcp=True).data) == sorted(OUTSIDE["many.example"]["A"])
            assert "198.51.100.200" in sh("ip netns exec c1 getent ahostsv4 many.example")

    @pytest.mark.parametrize("code", ["SERVFAIL", "REFUSED"])
    @on_a_host
    def test_an_error_of_the_only_server_comes_back_at_once(self, code: str) -> None:
        with upstream(code=code) as server:
            make({"c1": {"networks": ["front"]}})
            started = time.monotonic()
            for number in range(3):  # the first question to a server is treated in another way
                assert inside("c1", ask, f"{number}.example").code == code
            assert time.monotonic() - started < 1
            server.code = None
            assert inside("c1", ask, "outside.example").data == ("203.0.113.1",)

    @on_a_host
    def test_the_second_server_is_used_only_if_the_first_fails(self) -> None:
        with upstream() as first, upstream(SECOND) as second:
            make({"c1": {"networks": ["front"]}}, (FIRST, SECOND))
            for number in range(60):
                assert inside("c1", ask, f"{number}.example") == NO_SUCH_NAME
            assert (len(first.asked), len(second.asked)) == (60, 0)
            for code in ("SERVFAIL", "REFUSED"):
                first.code = code
                make({"c1": {"networks": ["front"]}}, (FIRST, SECOND))
                assert inside("c1", ask, f"{code}.outside.example") == NO_SUCH_NAME
                assert len(second.asked) == 1
                second.asked.clear()
            first.silent = True
            assert inside("c1", ask_patiently, "outside.example", 0.5, 4).data == ("203.0.113.1",)
            assert ("outside.example", "A") in first.asked


class TestChanges:
    @on_a_host
    def test_one_sandbox_more_writes_no_file_of_other_resolvers(self) -> None:
        before = {"c1": {"networks": ["front"]}, "c2": {"networks": ["back"]}}
        make(before)
        directory = Path("/run/cnm/default/resolvers")
        kept = {path: path.stat() for path in directory.iterdir()}
        done = make({**before, "c3": {"networks": ["front"]}})
        assert [text for text in done if "resolver" in text] == ["create resolver c3"]
        assert {path: path.stat() for path in kept} == kept
        _until("c1", "c3", Answer("NOERROR", ("10.0.0.3",), ttls=frozenset({0})))
        assert inside("c2", ask, "c3") == inside("c2", ask, "c3.front") == NO_SUCH_NAME

    @on_a_host
    def test_names_changed_and_loaded_by_hand_are_put_right_and_loaded(self) -> None:
        sandboxes = {"c1": {"networks": ["front"]}, "c2": {"networks": ["front"]}}
        make(sandboxes)
        sh("cd /run/cnm/default; sed -i s/10.0.0.3/10.0.0.9/ names/front; kill -HUP $(head -qn 1 resolvers/*.pid)")
        _until("c1", "c2", Answer("NOERROR", ("10.0.0.9",), ttls=frozenset({0})))
        foretold = compare(planned(sandboxes).resources)
        directory = "/run/cnm/default/names"
        assert foretold == [f"change file {directory} (front)", f"change names {directory} (loaded)"]
        assert make(sandboxes) == foretold
        _until("c1", "c2", Answer("NOERROR", ("10.0.0.3",), ttls=frozenset({0})))

    @pytest.mark.parametrize("text", ["", "[]", '{"front": 7}', '{"front": ["x", 1, 2]}', '{"front": [{}, {}, {}]}'])
    @on_a_host
    def test_a_record_of_what_is_loaded_that_cannot_be_read_is_replaced(self, text: str) -> None:
        make({"c1": {"networks": ["front"]}})
        Path("/run/cnm/default/loaded.json").write_text(text)
        assert make({"c1": {"networks": ["front"]}}) == ["change names /run/cnm/default/names (loaded)"]
        assert make({"c1": {"networks": ["front"]}}) == []

    @on_a_host
    def test_a_changed_record_or_server_reaches_the_same_process(self) -> None:
        with upstream() as first, upstream(SECOND) as second:
            make({"c1": {"networks": ["front"]}})
            before = pid("c1")
            aliases = {"front": {"aliases": ["www.app", "web"]}}
            done = make({"c1": {"networks": aliases}, "c2": {"networks": ["front"]}}, (SECOND,))
            assert "change names /run/cnm/default/names (loaded)" in done
            _until("c1", "c2", Answer("NOERROR", ("10.0.0.3",), ttls=frozenset({0})))
            assert inside("c1", ask, "www.app").data == ("10.0.0.2",)
            assert inside("c1", ask, "www.app", "AAAA") == NOTHING_OF_THAT_TYPE
            assert inside("c1", ask, "outside.example").data == ("203.0.113.1",)
            assert (first.asked, second.asked) == ([], [("outside.example", "A")])
            make({"c1": {"networks": ["front"]}}, (SECOND,))
            _until("c1", "web", NO_SUCH_NAME)
            assert inside("c1", ask, "www.app").data == ("203.0.113.2",)
            assert inside("c1", ask, "c2") == NO_SUCH_NAME
            assert pid("c1") == before
            assert compare(planned({"c1": {"networks": ["front"]}}, (SECOND,)).resources) == []

    @on_a_host
    def test_no_query_is_lost_during_a_reload(self) -> None:
        crowd = {f"s{number}": {"networks": {"front": {"aliases": ["web"]}}} for number in range(30)}
        with upstream(delay=0.05):
            make(crowd)
            before = pid("s0")
            with contextlib.ExitStack() as stack:
                lost = [stack.enter_context(_asking("s0", name)) for name in ("s7", "s7.front", "{}.outside.example")]
                for number in range(50):
                    alias = {"front": {"aliases": [f"n{number}"]}}
                    _write_names(planned({**crowd, "s1": {"networks": alias}}))
                    os.kill(before, signal.SIGHUP)
                    time.sleep(0.02)
            for count, misses in lost:
                assert misses == []
                assert count[0] > 20
            _until("s0", "n49", Answer("NOERROR", ("10.0.0.3",), ttls=frozenset({0})))
            assert pid("s0") == before

    @on_a_host
    def test_a_resolver_that_was_stopped_is_replaced(self) -> None:
        wanted = planned({"c1": {"networks": ["front"]}}).resources
        converge(wanted)
        os.kill(pid("c1"), signal.SIGSTOP)
        while "State:\tT" not in Path(f"/proc/{pid('c1')}/status").read_text():
            time.sleep(0.01)
        assert converge(wanted) == ["change resolver c1 (running)"]
        assert inside("c1", ask, "c1").data == ("10.0.0.2",)
        assert compare(wanted) == []


class TestVerifying:
    SANDBOXES: dict[str, Any] = {
        "c1": {"networks": ["dual"]},
        "c2": {"networks": ["dual", "back"]},
        "c6": {"networks": ["six"]},
    }

    @on_a_host
    def test_verify_succeeds_in_both_families(self) -> None:
        made = planned(self.SANDBOXES)
        converge(made.resources)
        result = _verified(made)
        assert result["misses"] == []
        assert result["counts"] == {"reach": 9, "refuse": 7, "names": 2, "egress": 3, "connect": 0}

    @pytest.mark.parametrize(
        ("harm", "check", "target"),
        [
            ("ip -n c2 -6 address flush dev eth0 scope global", "reach", "fd00:2::3"),
            ("ip -n c1 -6 route delete default", "egress", "outside over IPv6"),
            ("ip -n c1 route delete default", "egress", "outside over IPv4"),
            ("ip -n c2 link set eth0 mtu 1300", "mtu", "fd00:2::3"),
            (
                "cd /run/cnm/default; sed -i /fd00:2::3/d names/dual; kill -HUP $(head -qn 1 resolvers/*.pid)",
                "resolve",
                "c2",
            ),
            ("ip -n c1 -6 route add fd00:3::/64 via fd00:2::1; nft flush table inet cnm", "refuse", "fd00:3::2"),
        ],
    )
    @on_a_host
    def test_verify_names_failures_in_ipv6(self, harm: str, check: str, target: str) -> None:
        made = planned(self.SANDBOXES)
        converge(made.resources)
        sh(harm)
        # The host asks for neighbours from its link-local addresses, once it is sure of them.
        sh('for t in $(seq 50); do [ "$(ip -6 address show tentative)" ] || break; sleep 0.1; done')
        assert (check, target) in {(miss["check"], miss["target"]) for miss in _verified(made)["misses"]}


def _verified(made: Plan) -> dict[str, Any]:
    with Host("default", run_command) as host:
        return verify(host, checks_of(made.model, 100))


def _write_names(made: Plan) -> None:
    """The files of names alone, as a run writes them."""
    (file,) = (item for item in made.resources if isinstance(item, File) and item.directory.startswith("/run/cnm"))
    for name, text in file.files.items():
        write_atomically(Path(file.directory, name), text)


@contextlib.contextmanager
def _asking(sandbox: str, name: str) -> Iterator[tuple[list[int], list[str]]]:
    """Ask all the time, each question once and without patience; how many there were, and those that got no answer."""
    count, misses, over = [0], [], threading.Event()

    def work() -> None:
        while not over.is_set():
            count[0] += 1
            try:
                code = ask(name.format(count[0]), timeout=2).code
                if code != ("NXDOMAIN" if "outside" in name else "NOERROR"):
                    misses.append(code)
            except dns.exception.Timeout:
                misses.append("no answer")

    thread = threading.Thread(target=inside, args=(sandbox, work))
    thread.start()
    try:
        yield count, misses
    finally:
        over.set()
        thread.join()


def _until(sandbox: str, name: str, wanted: Answer) -> None:
    """A resolver reads its names when it gets round to it."""
    deadline = time.monotonic() + 3
    while (found := inside(sandbox, ask, name)) != wanted:
        assert time.monotonic() < deadline, found
        time.sleep(0.02)


@on_a_host
def test_500_resolvers_start_and_reload() -> None:
    """More processes than the kernel has inotify instances for one user."""
    names = [f"s{number:03}" for number in range(500)]
    networks = {"wide": {"subnet": "10.8.0.0/16"}}

    def wanted(aliases: list[str]) -> Plan:
        sandboxes: dict[str, Any] = {name: {"networks": ["wide"]} for name in names}
        sandboxes["s000"] = {"networks": {"wide": {"aliases": aliases}}}
        variables = {"node1": {"cnm_networks": networks, "cnm_sandboxes": sandboxes}}
        return plan(read_topology(variables), {"node1": Facts(resolvers=(FIRST,))}, empty(), "now").plans["node1"]

    converge(wanted([]).resources)
    before = {name: pid(name) for name in names}
    assert len(set(before.values())) == 500
    done = converge(wanted(["new"]).resources)
    directory = "/run/cnm/default/names"
    servers = next(name for name in os.listdir(directory) if name.startswith("@"))
    assert done == [f"change file {directory} ({servers}, wide)", f"change names {directory} (loaded)"]
    for name in names:
        _until(name, "new", Answer("NOERROR", ("10.8.0.2",), ttls=frozenset({0})))
    assert {name: pid(name) for name in names} == before
    watching = [
        target
        for process in before.values()
        for target in map(os.readlink, Path(f"/proc/{process}/fd").iterdir())
        if "inotify" in target
    ]
    assert watching == []
