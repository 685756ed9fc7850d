# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: cnm.fabric contributors
"""The engine on a host of its own: whatever it is like, a run makes it what is wanted; a second has nothing to do."""

from __future__ import annotations

import contextlib
import json
import os
import random
import re
import threading
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
from host import (
    LARGE,
    NETWORKS,
    SMALL,
    TOPOLOGIES,
    a_plan,
    becomes,
    compare,
    converge,
    differing,
    on_a_host,
    resources_of,
    run_command,
    sh,
    snapshot,
    the_same,
    works,
)

from ansible_collections.cnm.fabric.plugins.module_utils import entrypoints
from ansible_collections.cnm.fabric.plugins.module_utils.engine import engine, reporting
from ansible_collections.cnm.fabric.plugins.module_utils.kernel import namespaces, nft
from ansible_collections.cnm.fabric.plugins.module_utils.kernel.host import Host
from ansible_collections.cnm.fabric.plugins.module_utils.plan.base import Resource
from ansible_collections.cnm.fabric.plugins.module_utils.plan.links import Link, Namespace
from ansible_collections.cnm.fabric.plugins.module_utils.plan.settings import File, Sysctl
from ansible_collections.cnm.fabric.plugins.module_utils.resources import resolver, sysctl
from ansible_collections.cnm.fabric.plugins.module_utils.state.files import RUN
from ansible_collections.cnm.fabric.plugins.module_utils.state.lock import Locked, locked
from ansible_collections.cnm.fabric.plugins.module_utils.state.sysctls import original_values
from ansible_collections.cnm.fabric.plugins.module_utils.verify.names import resolving
from ansible_collections.cnm.fabric.plugins.plugin_utils.facts import Facts
from ansible_collections.cnm.fabric.plugins.plugin_utils.leases.base import empty
from ansible_collections.cnm.fabric.plugins.plugin_utils.module_state.reading import read_topology
from ansible_collections.cnm.fabric.plugins.plugin_utils.planner.plan import plan


class TestConverging:
    @pytest.mark.parametrize("name", TOPOLOGIES)
    @on_a_host
    def test_a_second_run_has_nothing_to_do(self, name: str) -> None:
        wanted = resources_of(TOPOLOGIES[name])
        done = converge(wanted)
        assert bool(done) == bool(wanted)
        assert compare(wanted) == []
        before = snapshot()
        assert converge(wanted) == []
        the_same(before, snapshot())

    @on_a_host
    def test_created_networks_work(self) -> None:
        converge(resources_of(SMALL))
        works([("c1", "c2", "10.0.0.3"), ("c2", "c1", "10.0.0.2"), ("c1", "c2.front", "10.0.0.3")])

    @pytest.mark.parametrize("first", TOPOLOGIES)
    @pytest.mark.parametrize("second", TOPOLOGIES)
    @on_a_host
    def test_converging_twice_equals_converging_to_the_second_plan(self, first: str, second: str) -> None:
        one, other = (resources_of(TOPOLOGIES[name]) for name in (first, second))
        converge(other)
        fresh = snapshot()
        converge(())
        converge(one)
        converge(other)
        the_same(fresh, snapshot())
        assert compare(other) == []

    @pytest.mark.parametrize("name", TOPOLOGIES)
    @on_a_host
    def test_an_empty_plan_leaves_nothing(self, name: str) -> None:
        before = snapshot()
        converge(resources_of(TOPOLOGIES[name]))
        converge(())
        the_same(before, snapshot())
        assert compare(()) == []
        assert not Path("/etc/netns").exists()
        assert not Path("/var/lib/cnm").exists()
        assert not list(Path("/run").glob("cnm/*"))

    @pytest.mark.parametrize("second", TOPOLOGIES)
    @on_a_host
    def test_check_mode_changes_nothing_and_predicts_the_run(self, second: str) -> None:
        converge(resources_of(SMALL))
        before = snapshot()
        wanted = resources_of(TOPOLOGIES[second])
        foretold = converge(wanted, check=True)
        the_same(before, snapshot())
        assert foretold == compare(wanted)
        assert foretold == converge(wanted)

    @on_a_host
    def test_a_sysctl_that_already_has_its_value_is_not_recorded(self) -> None:
        ports = sysctl.read_sysctl("net.ipv4.ip_local_port_range")
        assert ports == "32768 60999"
        converge(resources_of({"c1": {"networks": ["back"], "sysctls": {"net.ipv4.ip_local_port_range": ports}}}))
        assert not [name for name in original_values() if name.startswith("c1:")]

    @pytest.mark.parametrize("narrow", [False, True], ids=["full look", "narrow look"])
    @on_a_host
    def test_random_sequences_of_plans_converge(self, narrow: bool) -> None:
        chance = random.Random(20261121)
        known: Sequence[Resource] = ()
        names = [f"s{number}" for number in range(5)]
        leases = empty()
        for step in range(25):
            sandboxes = {
                name: {"networks": chance.sample(sorted(NETWORKS), chance.randint(1, 3))}
                for name in chance.sample(names, chance.randint(0, len(names)))
            }
            variables = {"node1": {"cnm_networks": NETWORKS, "cnm_sandboxes": sandboxes}}
            made = plan(read_topology(variables), {"node1": Facts()}, leases, "now")
            leases, wanted = made.leases, made.plans["node1"].resources
            foretold = compare(wanted)
            assert converge(wanted, since=known if narrow and known else None) == foretold, (step, sandboxes)
            assert compare(wanted) == [], (step, sandboxes)
            known = wanted
        walked = snapshot()
        converge(())
        converge(wanted)
        the_same(walked, snapshot())


def _remake(name: str, commands: str) -> str:
    return f"ip netns delete {name}; ip netns add {name}; ip -n {name} link set lo up; {commands}"


_RECORDED = "'s/(c1.{{5}}number.{{3}})[0-9]+/\\1'$(stat -Lc %i /run/netns/c1)/"
_MARKED = f"ip -n c1 link set lo alias cnm:default:sandbox/c1; sed -Ei {_RECORDED} /run/cnm/default/namespaces.json"
_STOP = (
    "p=$(head -n 1 /run/cnm/default/resolvers/c1.pid); kill $p; "
    "while [ -e /proc/$p ] && ! grep -q '^State:.Z' /proc/$p/status; do sleep 0.01; done"
)

HALF_MADE = {
    "a namespace marked and empty": _remake("c1", _MARKED),
    "a pair without marks": "ip -n c1 link delete eth0; ip link add {port} type veth peer name eth0 netns c1",
    "a pair with the near end marked alone": (
        "ip -n c1 link delete eth0; ip link add {port} type veth peer name eth0 netns c1;"
        "ip -n c1 link set eth0 alias cnm:default:endpoint/front/c1"
    ),
    "a pair with the far end marked alone": (
        "ip -n c1 link delete eth0; ip link add {port} type veth peer name eth0 netns c1;"
        "ip link set {port} alias cnm:default:port:endpoint/front/c1 addrgenmode none"
    ),
    "a pair down and out of the bridge": "ip link set {port} nomaster down; ip -n c1 link set eth0 down",
    "a far end alone": (
        "ip -n c1 link delete eth0; ip link add {port} type bridge;ip link set {port} alias cnm:default:port:x"
    ),
    "a bridge unmarked and down": (
        "m=$(cat /sys/class/net/{bridge}/address); ip link delete {bridge};ip link add {bridge} address $m type bridge"
    ),
    "a bridge marked and down, without address": "ip address flush dev {bridge}; ip link set {bridge} down",
    "an address without its route": "ip -n c1 route flush table main",
    "a resolver's configuration without its process": _STOP,
    "a resolver's configuration cut short": f"{_STOP}; echo port=20053 > /run/cnm/default/resolvers/c1.conf",
    "processes without a note of what they have loaded": "rm /run/cnm/default/loaded.json",
    "a note of what is loaded cut short": "echo '{{\"front' > /run/cnm/default/loaded.json",
    "a process without any file": "rm -r /run/cnm/default/resolvers",
    "two resolvers for one sandbox": (
        "mv /run/cnm/default/resolvers/c1.conf /tmp/c1; sed 's/20053/20054/; /keep-in/d' /tmp/c1"
        " > /run/cnm/default/resolvers/c1.conf;"
        "nsenter --net=/run/netns/c1 dnsmasq --conf-file=/run/cnm/default/resolvers/c1.conf"
    ),
    "files half written": "rm /etc/netns/c1/hosts; echo x > /etc/netns/c1/resolv.conf.new",
    "files left empty by a power cut": "for file in hosts resolv.conf hostname; do : >/etc/netns/c1/$file; done",
    "no files of names": "rm -r /run/cnm/default/names",
    "the host's table without its chains": "nft flush table inet cnm; nft delete chain inet cnm forward",
    "no table in the sandbox": "ip netns exec c1 nft delete table inet cnm",
    "forwarding noted and not yet turned on": "sysctl -qw net.ipv4.ip_forward=0",
    "forwarding turned on and not noted": "rm -r /var/lib/cnm",
}

NOT_KNOWN_AS_OURS = {
    "a bridge unmarked and down",
    "forwarding turned on and not noted",
    "files left empty by a power cut",
}
"""With nothing that wants them, these cannot be told from what is somebody else's."""


_ROUTER = """
for name in x y z; do
    ip netns add $name; ip link add to-$name type veth peer name eth0 netns $name; ip link set to-$name up
done
ip address add 192.0.2.1/26 dev to-x; ip address add 192.0.2.65/26 dev to-y; ip address add 192.0.2.129/26 dev to-z
n=2; for name in x y z; do
    ip -n $name address add 192.0.2.$n/26 dev eth0; ip -n $name link set eth0 up
    ip -n $name route add default via 192.0.2.$((n - 1)); n=$((n + 64))
done
sysctl -qw net.ipv4.conf.to-x.forwarding=1 net.ipv4.conf.to-y.forwarding=1 net.ipv6.conf.to-x.forwarding=1
"""
"""Links of which two route between each other and a third does not, with a host behind each."""


class TestForwardingOfSingleLinks:
    """As systemd-networkd's IPv4Forwarding= of a link makes it."""

    @pytest.mark.parametrize("record_lost", [False, True])
    @on_a_host
    def test_the_host_continues_to_forward_between_its_links_and_is_restored(self, record_lost: bool) -> None:
        sh(_ROUTER)
        before = self._links()
        assert self._reached() == {"y": True, "z": False}
        start = snapshot()
        wanted = self._planned()
        converge(wanted)
        assert self._reached() == {"y": True, "z": False}
        if record_lost:
            sh("rm /var/lib/cnm/before.json")
        assert self._planned() == wanted or record_lost
        converge(self._planned())
        assert compare(self._planned()) == []
        assert self._reached() == {"y": True, "z": False}
        converge(())
        assert {name: value for name, value in self._links().items() if "ipv4" in name or not record_lost} == {
            name: value for name, value in before.items() if "ipv4" in name or not record_lost
        }
        becomes(start)

    @on_a_host
    def test_a_failed_run_restores_the_forwarding_of_links(self) -> None:
        sh(_ROUTER)
        before = self._links()
        with pytest.raises(engine.EngineError, match="were undone"):
            converge([*self._planned(), Link("", "br-wrong", "bridge", "network/wrong", mtu=20)])
        assert self._links() == before
        assert self._reached() == {"y": True, "z": False}

    @staticmethod
    def _planned() -> tuple[Resource, ...]:
        """With a network of both families, so that both are turned on."""
        networks = {"both": {"subnet": ["10.0.0.0/24", "fd00::/64"]}}
        variables = {"node1": {"cnm_networks": networks, "cnm_sandboxes": {"c1": {"networks": ["both"]}}}}
        facts = Facts.from_probe(entrypoints.probe("default", False, False, run_command))
        return plan(read_topology(variables), {"node1": facts}, empty(), "now").plans["node1"].resources

    @staticmethod
    def _links() -> dict[str, str]:
        """Forwarding of every link of the host's own, all and default among them."""
        found = [path for path in Path("/proc/sys/net").glob("ipv?/conf/*/forwarding") if "br-" not in str(path)]
        return {str(path): path.read_text() for path in found if "cnm-p" not in str(path)}

    @staticmethod
    def _reached() -> dict[str, bool]:
        """Whom x reaches through the host."""
        pings = {
            name: f"ip netns exec x ping -c 1 -W 1 {at}" for name, at in (("y", "192.0.2.66"), ("z", "192.0.2.130"))
        }
        return {name: run_command(["sh", "-c", ping])[0] == 0 for name, ping in pings.items()}


class TestUnfinishedObjects:
    """What a killed run, or somebody's hand, can leave."""

    @pytest.mark.parametrize("name", HALF_MADE)
    @on_a_host
    def test_an_unfinished_object_is_completed_by_the_next_run(self, name: str) -> None:
        wanted = resources_of(SMALL)
        converge(wanted)
        whole = snapshot()
        port, bridge = _ports(wanted)
        sh(HALF_MADE[name].format(port=port, bridge=bridge))
        assert compare(wanted) != []
        done = converge(wanted)
        assert done
        assert compare(wanted) == []
        the_same(whole, snapshot())
        works([("c1", "c2", "10.0.0.3"), ("c2", "c1", "10.0.0.2")])

    @pytest.mark.parametrize("name", sorted(set(HALF_MADE) - NOT_KNOWN_AS_OURS))
    @on_a_host
    def test_an_unfinished_object_is_removed_if_unwanted(self, name: str) -> None:
        before = snapshot()
        wanted = resources_of(SMALL)
        converge(wanted)
        port, bridge = _ports(wanted)
        sh(HALF_MADE[name].format(port=port, bridge=bridge))
        converge(())
        becomes(before)

    @on_a_host
    def test_an_unmarked_bridge_that_nothing_wants_is_left_alone(self) -> None:
        wanted = resources_of(SMALL)
        converge(wanted)
        _port, bridge = _ports(wanted)
        sh(HALF_MADE["a bridge unmarked and down"].format(bridge=bridge))
        converge(())
        assert [link["ifname"] for link in snapshot()[": links"]] == [bridge, "lo"]

    @on_a_host
    def test_links_of_the_user_s_in_a_sandbox_of_ours_stay(self) -> None:
        wanted = resources_of(SMALL)
        converge(wanted)
        sh("ip -n c1 link add theirs0 type veth peer name theirs1; ip -n c1 link add theirs2 up type bridge")
        whole = snapshot()
        assert compare(wanted) == []
        converge(resources_of({"c1": SMALL["c1"]}))
        converge(wanted)
        the_same(whole, snapshot())

    @on_a_host
    def test_a_leftover_file_of_a_namespace_is_reused(self) -> None:
        Path(namespaces.DIRECTORY).mkdir()
        Path(namespaces.DIRECTORY, "c1").touch()
        wanted = resources_of(SMALL)
        converge(wanted)
        assert compare(wanted) == []
        works([("c1", "c2", "10.0.0.3")])

    @on_a_host
    def test_written_names_that_were_not_loaded_are_loaded(self) -> None:
        converge(resources_of(SMALL))
        wanted = resources_of({**SMALL, "c0": {"networks": {"front": {"ipv4_address": "10.0.0.9"}}}})
        (file,) = (item for item in wanted if isinstance(item, File) and item.role == "names")
        Path("/run/cnm/default/names/front").write_text(file.files["front"])
        with Host("default", run_command) as host:
            assert host.run_in("c1", resolving, ["c0"]) == {"c0": []}
        assert "change names /run/cnm/default/names (loaded)" in converge(wanted)
        works([("c1", "c0", "10.0.0.9")])


def _ports(wanted: Sequence[Resource]) -> tuple[str, str]:
    """The far end of c1's link, and the bridge."""
    (link,) = (item for item in wanted if isinstance(item, Link) and item.key == ("link", "c1", "eth0"))
    assert link.peer is not None
    return link.peer.name, link.peer.master


FOREIGN = {
    "a namespace": ("ip netns add c1", "namespace c1"),
    "a namespace of another project": (
        "ip netns add c1; ip -n c1 link set lo up alias cnm:blue:sandbox/c1",
        "namespace c1",
    ),
    "a link where the bridge belongs": ("ip link add {bridge} type veth", "link {bridge}"),
    "a bridge where ours belongs": ("ip link add {bridge} type bridge", "link {bridge}"),
    "a link where a port belongs": ("ip link add {port} type bridge", "link {port}"),
    "a table of our name": ("nft add table inet cnm; nft add chain inet cnm theirs", "nftables inet cnm"),
    "a table of another project": (
        'nft "add table inet cnm {{ comment \\"cnm:blue:host\\"; }}"',
        "nftables inet cnm",
    ),
    "a file": ("mkdir -p /etc/netns/c1; echo nameserver 192.0.2.7 > /etc/netns/c1/resolv.conf", "/c1/resolv.conf"),
    "a symbolic link to a file": (
        "mkdir -p /etc/netns/c1; ln -s /etc/hosts /etc/netns/c1/hosts",
        "file /etc/netns/c1/hosts",
    ),
    "a symbolic link to a directory": ("mkdir -p /etc/netns /etc/x; ln -s /etc/x /etc/netns/c1", "file /etc/netns/c1"),
    "a directory where a file belongs": ("mkdir -p /etc/netns/c1/hosts", "file /etc/netns/c1/hosts"),
}


class TestForeign:
    @pytest.mark.parametrize("name", FOREIGN)
    @on_a_host
    def test_a_foreign_object_is_named_and_nothing_changes(self, name: str) -> None:
        wanted = resources_of(SMALL)
        port, bridge = _ports(wanted)
        harm, named = (text.format(port=port, bridge=bridge) for text in FOREIGN[name])
        sh(harm)
        before = snapshot()
        for check in (True, False):
            with pytest.raises(engine.ForeignConflict) as refusal:
                converge(wanted, check=check)
            assert named in str(refusal.value)
            assert "Nothing was changed" in str(refusal.value)
        the_same(before, snapshot())

    @on_a_host
    def test_all_foreign_objects_are_named_at_once(self) -> None:
        wanted = resources_of(SMALL)
        port, _bridge = _ports(wanted)
        sh(f"ip netns add c2; ip link add {port} type bridge; nft add table inet cnm")
        with pytest.raises(engine.ForeignConflict) as refusal:
            compare(wanted)
        for named in ("namespace c2", f"link {port}", "nftables inet cnm"):
            assert named in str(refusal.value)

    @on_a_host
    def test_foreign_objects_beside_ours_are_not_changed(self) -> None:
        sh(
            """
            ip netns add theirs; ip -n theirs link set lo up; ip link add theirs0 type bridge; ip link set theirs0 up
            ip address add 192.0.2.1/24 dev theirs0; ip route add 198.51.100.0/24 via 192.0.2.9
            nft add table inet theirs; nft add chain inet theirs c; nft add rule inet theirs c accept
            mkdir -p /etc/netns/theirs; echo nameserver 192.0.2.7 > /etc/netns/theirs/resolv.conf
            """
        )
        before = snapshot()
        for topology in (SMALL, LARGE, {}):
            converge(resources_of(topology))
        converge(())
        the_same(before, snapshot())

    @on_a_host
    def test_two_projects_do_not_see_each_other(self) -> None:
        default, blue = resources_of(SMALL), a_plan({"b1": {"networks": ["apart"]}}, "blue").resources
        # The name of a bridge is declared, or derived from the project's name.
        converge(default)
        alone = snapshot()
        converge(blue, "blue")
        assert compare(default) == []
        assert compare(blue, "blue") == []
        converge((), "blue")
        the_same(alone, snapshot())

    @on_a_host
    def test_the_user_s_own_files_beside_ours_stay(self) -> None:
        wanted = resources_of(SMALL)
        converge(wanted)
        sh("echo 'route' > /etc/netns/c1/gai.conf; chmod 644 /etc/netns/c1/gai.conf")
        assert compare(wanted) == []
        converge(())
        assert Path("/etc/netns/c1/gai.conf").read_text() == "route\n"
        assert sorted(os.listdir("/etc/netns/c1")) == ["gai.conf"]

    @pytest.mark.parametrize("wanted_again", [True, False])
    @on_a_host
    def test_the_user_s_own_secrets_beside_ours_stay(self, wanted_again: bool) -> None:
        wanted = resources_of(SMALL)
        converge(wanted)
        sh("cd /etc/netns/c1; echo 'x : PSK y' > ipsec.secrets; touch e; touch empty; chmod 600 ipsec.secrets e")
        converge(wanted if wanted_again else ())
        assert Path("/etc/netns/c1/ipsec.secrets").read_text() == "x : PSK y\n"
        assert {"empty", "e", "ipsec.secrets"} <= set(os.listdir("/etc/netns/c1"))

    @pytest.mark.parametrize("harm", ["chmod 600 *", "chmod 600 hosts; : > hosts; : > hostname"])
    @on_a_host
    def test_our_unreadable_files_are_repaired_and_removed(self, harm: str) -> None:
        before = snapshot()
        wanted = resources_of(SMALL)
        converge(wanted)
        whole = snapshot()
        sh(f"cd /etc/netns/c1; {harm}")
        harmed = snapshot()
        with pytest.raises(engine.EngineError, match="were undone"):
            converge([*wanted, Link("", "br-wrong", "bridge", "network/wrong", mtu=20)])
        the_same(harmed, snapshot())
        assert converge(wanted)
        the_same(whole, snapshot())
        sh(f"cd /etc/netns/c1; {harm}")
        converge(())
        the_same(before, snapshot())


class TestAdoptedBridge:
    """One that somebody else made, and a network names: as in Docker it is used, and stays when the network goes."""

    MADE = """
    ip link add br-apart type bridge; ip link set br-apart mtu 1450 address 02:00:00:00:00:09 up
    ip address add 10.0.2.1/24 dev br-apart; ip address add 192.0.2.1/24 dev br-apart
    ip route add 198.51.100.0/24 via 192.0.2.9
    ip link add theirs0 type veth peer name theirs1; ip link set theirs0 master br-apart up
    """

    @on_a_host
    def test_an_adopted_bridge_is_marked_used_and_released(self) -> None:
        sh(self.MADE)
        before = snapshot()
        wanted = resources_of(LARGE)
        foretold = converge(wanted, check=True)
        assert "change link br-apart (role, group)" in foretold
        assert not any("address br-apart" in line for line in foretold)
        the_same(before, snapshot())
        assert converge(wanted) == foretold
        works([("c3", "c3", "10.0.2.9")])
        sh("ip netns exec c3 ping -c 1 -W 5 10.0.2.1")
        whole = snapshot()
        assert converge(wanted) == []
        sh("ip link set br-apart group default")
        assert converge(wanted) == ["change link br-apart (group)"]
        the_same(whole, snapshot())
        gone = converge(resources_of(SMALL))
        assert "delete link br-apart" in gone
        converge(())
        becomes(before)

    @on_a_host
    def test_the_diff_of_an_adopted_bridge_says_it_is_kept(self) -> None:
        sh(self.MADE)
        wanted = resources_of(LARGE)
        with Host("default", run_command) as host:
            said = reporting.diff(engine.Engine(host).converge(wanted, check=False))
        assert "link br-apart\n  role: \n  group: 0\n" in said["before"]
        assert "link br-apart\n  role: adopted/network/apart\n" in said["after"]
        with Host("default", run_command) as host:
            said = reporting.diff(engine.Engine(host).converge((), check=False))
        assert "link br-apart  kept because it is not this project's" in said["after"]

    @on_a_host
    def test_a_failed_run_restores_the_adopted_bridge(self) -> None:
        sh(self.MADE)
        wrong = Link("", "br-wrong", "bridge", "network/wrong", mtu=20)
        before = snapshot()
        with pytest.raises(engine.EngineError, match="were undone"):
            converge([*resources_of(LARGE), wrong])
        becomes(before)
        converge(resources_of(LARGE))
        used = snapshot()
        with pytest.raises(engine.EngineError, match="were undone"):
            converge([*resources_of(SMALL), wrong])
        becomes(used)

    @on_a_host
    def test_an_adopted_bridge_gets_no_address(self) -> None:
        sh(self.MADE + "ip address del 10.0.2.1/24 dev br-apart")
        before = snapshot()
        for check in (True, False):
            with pytest.raises(engine.EngineError, match=r"adopted bridge br-apart .* 10\.0\.2\.1/24: add"):
                converge(resources_of(LARGE), check=check)
        the_same(before, snapshot())

    @on_a_host
    def test_a_missing_bridge_is_created_and_removed(self) -> None:
        before = snapshot()
        assert "create link br-apart" in converge(resources_of(LARGE))
        converge(())
        becomes(before)

    @pytest.mark.parametrize("harm", ["type bridge; ip link set br-apart alias mine", "type veth peer name theirs9"])
    @on_a_host
    def test_a_marked_bridge_or_another_link_is_not_adopted(self, harm: str) -> None:
        sh(f"ip link add br-apart {harm}")
        before = snapshot()
        with pytest.raises(engine.ForeignConflict, match="link br-apart"):
            converge(resources_of(LARGE))
        the_same(before, snapshot())


class TestLock:
    @on_a_host
    def test_a_second_run_waits_for_the_first(self) -> None:
        order: list[str] = []
        inside = threading.Event()

        def first() -> None:
            with locked("project default", 1):
                inside.set()
                time.sleep(0.5)
                order.append("first")

        thread = threading.Thread(target=first)
        thread.start()
        inside.wait()
        with locked("project blue", 10):
            order.append("second")
        thread.join()
        assert order == ["first", "second"]

    @on_a_host
    def test_a_timeout_names_the_holder_of_the_lock(self) -> None:
        with locked("project blue", 1):
            started = time.monotonic()
            with pytest.raises(Locked) as refusal, locked("project default", 0.3):
                pass
            assert 0.3 <= time.monotonic() - started < 3
            said = str(refusal.value)
        assert re.fullmatch(
            rf"another run is working on this host: project blue, process {os.getpid()}, since [\d:]+ UTC. .*", said
        )

    @on_a_host
    def test_a_run_without_the_lock_is_refused_and_changes_nothing(self) -> None:
        made = a_plan(SMALL)
        request = entrypoints.Request("default", made.to_json(), digest=made.digest, revision=1, lock_timeout=0.2)
        with locked("project blue", 1):
            before = snapshot()
            with pytest.raises(entrypoints.Refused, match="another run is working on this host: project blue"):
                entrypoints.converge(request, run_command)
            the_same(before, snapshot())
        assert entrypoints.converge(request, run_command)["changed"]

    @on_a_host
    def test_the_lock_of_a_killed_run_is_free(self) -> None:
        child = os.fork()
        if child == 0:
            with locked("project default", 1):
                os.kill(os.getpid(), 9)
        os.waitpid(child, 0)
        with locked("project default", 0):
            assert json.loads((RUN / "lock.json").read_text())["pid"] == os.getpid()

    @on_a_host
    def test_the_last_teardown_removes_the_lock_file_and_the_next_run_creates_it(self) -> None:
        with locked("project default", 1, last_out=True):
            assert (RUN / "lock.json").exists()
        assert not RUN.exists()
        with locked("project default", 1):
            assert (RUN / "lock.json").exists()

    @on_a_host
    def test_a_teardown_keeps_the_files_of_another_project(self) -> None:
        (RUN / "blue").mkdir(parents=True)
        with locked("project default", 1, last_out=True):
            pass
        assert (RUN / "blue").is_dir()


class TestRuns:
    """A run with its lock and the plan it keeps, as the module converge has it."""

    @on_a_host
    def test_a_kept_plan_is_applied_by_its_digest(self) -> None:
        made = a_plan(SMALL)
        entrypoints.converge(
            entrypoints.Request("default", made.to_json(), digest=made.digest, revision=1), run_command
        )
        sh("ip -n c1 link set eth0 down")
        again = entrypoints.converge(entrypoints.Request("default", digest=made.digest, revision=1), run_command)
        assert again["changed"]
        assert compare(made.resources) == []

    @on_a_host
    def test_tables_are_listed_once_after_a_transaction(self) -> None:
        def listed() -> int:
            said: list[str] = []

            class Listening(nft.Library):
                def run(self, commands: str) -> str:
                    said.append(commands)
                    return super().run(commands)

            with pytest.MonkeyPatch.context() as patch:
                patch.setattr(nft, "find", lambda _run_command: Listening())
                assert entrypoints.probe("default", False, False, run_command)["settled"]
            return len(said)

        made = a_plan(SMALL)
        entrypoints.converge(
            entrypoints.Request("default", made.to_json(), digest=made.digest, revision=1), run_command
        )
        few = listed()
        sh("nft add table ip somebody")
        assert listed() > few
        assert listed() == few
        sh("nft flush chain inet cnm forward")
        assert not entrypoints.probe("default", False, False, run_command)["settled"]
        sh("rm -r /run/cnm")
        assert not entrypoints.probe("default", False, False, run_command)["settled"]
        assert not RUN.exists()

    @on_a_host
    def test_a_check_on_a_bare_host_leaves_no_trace(self) -> None:
        before = snapshot()
        made = a_plan(SMALL)
        request = entrypoints.Request("default", made.to_json(), digest=made.digest, revision=1, check=True)
        assert entrypoints.converge(request, run_command)["changed"]
        the_same(before, snapshot())
        assert not RUN.exists()

    @pytest.mark.parametrize(
        ("changed", "said"),
        [
            ({"revision": 1}, "already has a newer plan"),
            ({"plan": None, "digest": "0" * 64}, "does not have the plan with that digest"),
            ({"digest": "0" * 64}, "digest does not match its text"),
            ({"project": "blue"}, "the plan is for project default, the call for blue"),
            ({"plan": "{}", "digest": None}, "the plan's format is None"),
        ],
        ids=["an older plan", "an unknown digest", "another digest", "another project", "no plan"],
    )
    @on_a_host
    def test_an_invalid_request_is_refused_with_a_sentence(self, changed: dict[str, Any], said: str) -> None:
        made = a_plan(SMALL)
        right = {"project": "default", "plan": made.to_json(), "digest": made.digest, "revision": 2}
        entrypoints.converge(entrypoints.Request(**right), run_command)
        before = snapshot()
        with pytest.raises(entrypoints.Refused, match=said):
            entrypoints.converge(entrypoints.Request(**{**right, **changed}), run_command)
        assert {key: value for key, value in differing(before, snapshot()).items() if key != "/run/cnm/lock.json"} == {}

    @on_a_host
    def test_absent_removes_everything_of_the_project(self) -> None:
        before = snapshot()
        made = a_plan(LARGE)
        entrypoints.converge(
            entrypoints.Request("default", made.to_json(), digest=made.digest, revision=1), run_command
        )
        assert entrypoints.converge(entrypoints.Request("default", absent=True), run_command)["changed"]
        the_same(before, snapshot())
        assert not entrypoints.converge(entrypoints.Request("default", absent=True), run_command)["changed"]

    @on_a_host
    def test_a_teardown_continues_after_errors_and_reports_all(self) -> None:
        before = snapshot()
        made = a_plan(LARGE)
        entrypoints.converge(
            entrypoints.Request("default", made.to_json(), digest=made.digest, revision=1), run_command
        )
        held = [f"/etc/netns/{name}/hosts" for name in ("c1", "c3")]
        sh("".join(f"mount --bind {path} {path};" for path in held))
        with pytest.raises(entrypoints.Refused) as refusal:
            entrypoints.converge(entrypoints.Request("default", absent=True), run_command)
        said = str(refusal.value)
        for path in held:
            assert path.rpartition("/")[0] in said, said
        assert said.count("Device or resource busy") == 2
        assert said.endswith("Everything else of this project was removed.")
        left = {key: value for key, value in differing(before, snapshot()).items() if "/etc/netns/" not in key}
        kept = {f"/var/lib/cnm/default/{name}" for name in ("plan.json", "rules.nft")} | {
            "/run/cnm/default/tables.json"
        }
        assert set(left) <= {*kept, "/run/cnm/lock.json"}, left
        sh("".join(f"umount {path};" for path in held))
        assert entrypoints.converge(entrypoints.Request("default", absent=True), run_command)["changed"]
        the_same(before, snapshot())

    @on_a_host
    def test_only_our_leftover_namespace_files_are_removed(self) -> None:
        made = a_plan(SMALL)
        entrypoints.converge(
            entrypoints.Request("default", made.to_json(), digest=made.digest, revision=1), run_command
        )
        sh("touch /run/netns/theirs")
        with _dies(namespaces.os, "unlink", before=True):
            entrypoints.converge(entrypoints.Request("default", absent=True), run_command)
        assert sorted(os.listdir(namespaces.DIRECTORY)) != ["theirs"]
        assert not entrypoints.converge(entrypoints.Request("default", absent=True, check=True), run_command)[
            "warnings"
        ]
        finished = entrypoints.converge(entrypoints.Request("default", absent=True), run_command)
        assert finished["warnings"] == ["An earlier run on this host was interrupted; this run completed its work."]
        assert not RUN.exists()
        assert os.listdir(namespaces.DIRECTORY) == ["theirs"]


class _Harm(Exception):
    """The run is cut off here."""


@contextlib.contextmanager
def _dies(owner: Any, name: str, before: bool) -> Iterator[None]:
    """A run is killed where it would call that function, before it does or when it has."""
    original = getattr(owner, name)

    def die(*arguments: Any, **named: Any) -> None:
        if not before:
            original(*arguments, **named)
        raise _Harm

    setattr(owner, name, die)
    try:
        with pytest.raises(_Harm):
            yield
    finally:
        setattr(owner, name, original)


class TestKilled:
    """A run that dies at a given place: no undo, as after kill -9."""

    @on_a_host
    def test_a_run_can_be_killed_after_any_of_its_steps(self) -> None:
        wanted = resources_of(LARGE)
        with Host("default", run_command) as host:
            made = engine.Engine(host)
            steps = engine.order(made.compare(wanted), made._registry)
        converge(wanted)
        whole = snapshot()
        assert len(steps) >= 10
        for count in range(len(steps)):
            for first, second in ((resources_of({}), wanted), (wanted, ())):
                converge(())
                converge(first)
                _apply_some(second, count)
                converge(second)
                assert compare(second) == [], count
                if second:
                    the_same(whole, snapshot(), count)

    @on_a_host
    def test_the_original_sysctl_survives_a_run_killed_while_restoring_it(self) -> None:
        converge(resources_of(SMALL))
        with _dies(sysctl, "_write", before=True):
            converge(())
        converge(())
        assert sysctl.read_sysctl("net.ipv4.ip_forward") == "0"

    @on_a_host
    def test_undoing_a_run_drops_the_record_of_an_unwritten_sysctl(self) -> None:
        sh("ip netns add theirs")
        converge(resources_of({"c1": {"networks": ["back"]}}))
        before = snapshot()
        wanted = resources_of({"c1": {"networks": ["back"], "sysctls": {"net.ipv4.ip_no_pmtu_disc": "1"}}})
        with _dies(sysctl, "_write", before=True):
            converge(wanted)
        with pytest.raises(engine.EngineError, match=r"were undone\.$"):
            converge([*wanted, Namespace("theirs", "sandbox/theirs")])
        the_same(before, snapshot())

    @on_a_host
    def test_undoing_a_run_releases_a_sysctl_of_another_project(self) -> None:
        converge(resources_of(SMALL))
        before = snapshot()
        wrong = Link("", "br-wrong", "bridge", "network/wrong", mtu=20)
        with pytest.raises(engine.EngineError, match=r"were undone\.$"):
            converge([Sysctl("", "net.ipv4.ip_forward", "1"), wrong], project="two")
        the_same(before, snapshot())

    @on_a_host
    def test_a_resolver_reloads_names_restored_by_an_undone_run(self) -> None:
        small = resources_of(SMALL)
        converge(small)
        fixed = {"c0": {"networks": {"front": {"ipv4_address": "10.0.0.9"}}}}
        with _dies(resolver.processes, "send", before=False):
            converge([item for item in resources_of({**SMALL, **fixed}) if item.key != ("resolver", "c0")])
        _wait_for("c1", "c0", ["10.0.0.9"])
        converge(small)
        _wait_for("c1", "c0", [])


def _apply_some(wanted: Sequence[Resource], count: int) -> None:
    """As many steps of a run, and no more."""
    with Host("default", run_command) as host:
        made = engine.Engine(host)
        operations = made.compare(wanted)
        for step in engine.order(operations, made._registry)[:count]:
            kind = made._registry[step.kind]
            if step.method == "change":
                kind.change(host, step.operations)
            elif step.method == "delete":
                kind.delete(host, [item.found for item in step.operations])
            else:
                getattr(kind, step.method)(host, [item.resource for item in step.operations])


def _wait_for(sandbox: str, name: str, addresses: list[str]) -> None:
    """A resolver reads its names when it gets round to it."""
    deadline = time.monotonic() + 3
    with Host("default", run_command) as host:
        while (found := host.run_in(sandbox, resolving, [name])) != {name: addresses}:
            assert time.monotonic() < deadline, found
            time.sleep(0.05)
