# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: cnm.fabric contributors
"""What the host's own resolver tells, whom, and what a sandbox's root can get of it."""

from __future__ import annotations

import contextlib
import os
import signal
from functools import partial
from pathlib import Path
from typing import Any

import dns.exception
import pytest
from asking import NO_SUCH_NAME, ask, in_namespace
from host import compare, converge, on_a_host, sh

from ansible_collections.cnm.fabric.plugins.module_utils.plan.base import Resource
from ansible_collections.cnm.fabric.plugins.plugin_utils.facts import Facts
from ansible_collections.cnm.fabric.plugins.plugin_utils.leases.base import empty
from ansible_collections.cnm.fabric.plugins.plugin_utils.module_state.reading import read_topology
from ansible_collections.cnm.fabric.plugins.plugin_utils.planner.plan import plan

HERE = "127.0.0.12"
NETWORKS = {"front": {"subnet": "10.0.0.0/24"}, "back": {"subnet": "10.0.1.0/24", "internal": True}}
BOTH: dict[str, Any] = {"c1": {"networks": ["front"]}, "c2": {"networks": ["back", "front"]}}
RECORD = Path("/run/cnm/default/resolvers/@host.pid")
OPEN_THE_WAY = (
    "ip -n c1 route del local 127.0.0.0/8 dev lo table local; ip -n c1 route del local 127.0.0.1 dev lo table local; "
    "ip -n c1 route add 127.0.0.12/32 via 10.0.0.1; ip -n c1 route add 127.0.0.12/32 via 10.0.0.1 table local; "
    "ip netns exec c1 sysctl -q net.ipv4.conf.all.route_localnet=1"
)
"""What a sandbox's root can do, so that packets to that address leave it."""


def wanted(sandboxes: dict[str, Any], **settings: Any) -> tuple[Resource, ...]:
    variables = {"cnm_host_names": True, "cnm_networks": NETWORKS, "cnm_sandboxes": sandboxes, **settings}
    made = plan(read_topology({"node1": variables}), {"node1": Facts()}, empty(), "now")
    assert not made.refusals
    return made.plans["node1"].resources


class TestHostNames:
    @on_a_host
    def test_it_knows_the_names_in_its_domain_and_refuses_all_others(self) -> None:
        converge(wanted(BOTH))
        assert converge(wanted(BOTH)) == []
        for tcp in (False, True):
            assert ask("c1.cnm.internal", of=HERE, tcp=tcp).data == ("10.0.0.2",)
            assert sorted(ask("c2.cnm.internal", of=HERE, tcp=tcp).data) == ["10.0.0.3", "10.0.1.2"]
            assert ask("c2.back.cnm.internal", of=HERE, tcp=tcp).data == ("10.0.1.2",)
            assert ask("c3.cnm.internal", of=HERE, tcp=tcp).code == NO_SUCH_NAME.code
            for other in ("example.com", "c1.front", "cnm.internal.example", ".", "version.bind"):
                assert ask(other, of=HERE, tcp=tcp).code == "REFUSED", other

    @on_a_host
    def test_a_sandbox_neither_reaches_it_nor_gets_names_of_other_networks(self) -> None:
        converge(wanted(BOTH))
        for name in ("c2.cnm.internal", "c2.back.cnm.internal", "c2.back"):
            assert in_namespace("/run/netns/c1", ask, name).data == (), name
        sh(OPEN_THE_WAY)
        for address in (HERE, "10.0.0.1"):
            with pytest.raises((dns.exception.Timeout, OSError)):
                in_namespace("/run/netns/c1", ask, "c2.cnm.internal", of=address, timeout=0.5)
        assert ask("c2.back.cnm.internal", of=HERE).data == ("10.0.1.2",)

    @on_a_host
    def test_one_that_has_ended_is_started_again_and_one_without_a_record_replaced(self) -> None:
        converge(wanted(BOTH))
        os.kill(int(RECORD.read_text().splitlines()[0]), signal.SIGKILL)
        assert converge(wanted(BOTH)) == ["change resolver host (running)"]
        first = int(RECORD.read_text().splitlines()[0])
        RECORD.unlink()
        assert converge(wanted(BOTH)) == ["change resolver host (running)"]
        assert not Path(f"/proc/{first}").exists()
        assert ask("c1.cnm.internal", of=HERE).data == ("10.0.0.2",)
        assert compare(wanted(BOTH)) == []

    @on_a_host
    def test_names_follow_the_sandboxes_and_end_with_the_setting(self) -> None:
        converge(wanted(BOTH))
        before = RECORD.read_text()
        converge(wanted({"c1": BOTH["c1"]}))
        assert ask("c2.cnm.internal", of=HERE).code == NO_SUCH_NAME.code
        assert RECORD.read_text() == before, "it was restarted"
        converge(wanted({"c1": BOTH["c1"]}, cnm_host_names=False))
        assert not RECORD.exists()
        assert compare(wanted({"c1": BOTH["c1"]}, cnm_host_names=False)) == []
        with pytest.raises((dns.exception.Timeout, OSError)):
            ask("c1.cnm.internal", of=HERE, timeout=0.5)
        converge(())
        assert not Path("/run/cnm/default").exists()

    @on_a_host
    def test_two_projects_have_one_each(self) -> None:
        converge(wanted({"c1": BOTH["c1"]}))
        other = {
            "cnm_project": "lab",
            "cnm_domain": "lab.example",
            "cnm_networks": {"n": {"subnet": "10.7.0.0/24"}},
        }
        lab = wanted({"d1": {"networks": ["n"]}}, **other)
        converge(lab, project="lab")
        address = next(item.config[1] for item in lab if item.key == ("resolver", "")).partition("=")[2]  # type: ignore[attr-defined]
        assert ask("d1.lab.example", of=address).data == ("10.7.0.2",)
        assert ask("c1.cnm.internal", of=address).code == "REFUSED"
        assert compare(wanted({"c1": BOTH["c1"]})) == []
        assert compare(lab, project="lab") == []


LAN = "192.0.2.1"
NEIGHBOUR = (
    "ip netns add mate; ip link add eth0 type veth peer name eth0 netns mate; ip -n mate link set eth0 up; "
    "ip link set eth0 up; ip -n mate address add 192.0.2.9/24 dev eth0; ip -n mate link set lo up"
)
"""A neighbour on the host's LAN."""
PUBLISHED = {**BOTH, "web": {"networks": ["front"], "ports": ["8080:80"]}}


class TestLanNames:
    @on_a_host
    def test_a_neighbour_gets_the_names_of_what_it_reaches_and_no_others(self) -> None:
        sh(NEIGHBOUR)
        sh(f"ip address add {LAN}/24 dev eth0")
        converge(wanted(PUBLISHED, cnm_lan_names=LAN))
        assert converge(wanted(PUBLISHED, cnm_lan_names=LAN)) == []
        for tcp in (False, True):
            there = partial(in_namespace, "/run/netns/mate", ask, of=LAN, tcp=tcp)
            assert there("web.cnm.internal").data == (LAN,)
            assert there("c1.cnm.internal").code == NO_SUCH_NAME.code
            assert there("web.front.cnm.internal").code == NO_SUCH_NAME.code
            for other in ("example.com", "web", "web.front", ".", "version.bind", "1.2.0.192.in-addr.arpa"):
                assert there(other).code in ("REFUSED", NO_SUCH_NAME.code), other
        assert ask("c1.cnm.internal", of=HERE).data == ("10.0.0.2",)
        with pytest.raises((dns.exception.Timeout, OSError)):
            in_namespace("/run/netns/mate", ask, "c1.cnm.internal", of="10.0.0.1", timeout=0.5)

    @on_a_host
    def test_it_answers_as_soon_as_the_host_has_the_address(self) -> None:
        sh(NEIGHBOUR)
        converge(wanted(PUBLISHED, cnm_lan_names=LAN))
        assert compare(wanted(PUBLISHED, cnm_lan_names=LAN)) == []
        sh(f"ip address add {LAN}/24 dev eth0")
        there = partial(in_namespace, "/run/netns/mate", ask, "web.cnm.internal", of=LAN, timeout=0.5)
        for _try in range(20):
            with contextlib.suppress(dns.exception.Timeout, OSError):
                assert there().data == (LAN,)
                break
        else:
            raise AssertionError("it does not answer")
        assert converge(wanted(PUBLISHED, cnm_lan_names=LAN)) == []

    @on_a_host
    def test_each_of_the_two_is_started_again_and_ends_by_itself(self) -> None:
        sh(f"ip address add {LAN}/32 dev lo")
        both = wanted(PUBLISHED, cnm_lan_names=LAN)
        converge(both)
        record = RECORD.with_name("@lan.pid")
        os.kill(int(record.read_text().splitlines()[0]), signal.SIGKILL)
        assert converge(both) == ["change resolver LAN (running)"]
        first = int(record.read_text().splitlines()[0])
        record.unlink()
        # Of two processes there without a record, nobody can tell which is whose.
        assert sorted(converge(both)) == ["change resolver LAN (running)", "change resolver host (running)"]
        assert not Path(f"/proc/{first}").exists()
        assert ask("web.cnm.internal", of=LAN).data == (LAN,)
        converge(wanted(PUBLISHED))
        assert not record.exists()
        with pytest.raises((dns.exception.Timeout, OSError)):
            ask("web.cnm.internal", of=LAN, timeout=0.5)
        assert ask("c1.cnm.internal", of=HERE).data == ("10.0.0.2",)
        converge(())
        assert not Path("/run/cnm/default").exists()

    @on_a_host
    def test_names_follow_the_ports_without_a_restart(self) -> None:
        sh(f"ip address add {LAN}/32 dev lo")
        converge(wanted(PUBLISHED, cnm_lan_names=LAN, cnm_host_names=False))
        before = RECORD.with_name("@lan.pid").read_text()
        more = {**PUBLISHED, "www": {"networks": ["front"], "ports": ["8081:80"]}}
        converge(wanted(more, cnm_lan_names=LAN, cnm_host_names=False))
        assert ask("www.cnm.internal", of=LAN).data == (LAN,)
        assert RECORD.with_name("@lan.pid").read_text() == before, "it was restarted"
