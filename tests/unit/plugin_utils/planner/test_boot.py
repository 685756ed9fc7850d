# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: cnm.fabric contributors
"""Which hosts are planned to bring their networks back by themselves, and with what."""

from __future__ import annotations

from typing import Any, Optional

from ansible_collections.cnm.fabric.plugins.module_utils.plan.settings import Boot, Resolver, Target
from ansible_collections.cnm.fabric.plugins.plugin_utils.facts import Facts, LinkFacts
from ansible_collections.cnm.fabric.plugins.plugin_utils.leases.base import empty
from ansible_collections.cnm.fabric.plugins.plugin_utils.module_state.reading import read_topology
from ansible_collections.cnm.fabric.plugins.plugin_utils.planner.plan import Planned, plan

FRONT: dict[str, Any] = {
    "cnm_networks": {"front": {"subnet": "10.0.0.0/24"}},
    "cnm_sandboxes": {"c1": {"networks": ["front"]}},
}
HIDDEN: dict[str, Any] = {
    "cnm_overlay_secret": "not-so-secret-as-it-should-be",
    "cnm_networks": {"hidden": {"driver": "overlay", "encrypted": True, "subnet": "10.10.0.0/24"}},
    "cnm_sandboxes": {"h1": {"networks": ["hidden"]}},
}
WARNING = "cnm_keep_keys is false: after a reboot hidden stays down until cnm.fabric.site is run"


def office(name: str, parent: str, subnet: str) -> dict[str, Any]:
    return {name: {"driver": "macvlan", "subnet": subnet, "driver_opts": {"parent": parent}}}


def planned(variables: dict[str, Any], systemd: bool = True, docker_user: tuple[int, ...] = (), **more: Any) -> Planned:
    facts = Facts(
        addresses=(("192.0.2.1", "eth0", 1500),),
        routes=(("192.0.2.0/24", "eth0", None), ("default", "eth0", "192.0.2.254")),
        links={"eth0": LinkFacts(), "eth1": LinkFacts()},
        systemd=systemd,
        docker_user=docker_user,
        flushing="/etc/nftables.conf",
    )
    made = plan(read_topology({"node1": {**variables, **more}}), {"node1": facts}, empty(), "now")
    assert not made.refusals
    return made


def boot(made: Planned) -> Optional[Boot]:
    found = [item for item in made.plans["node1"].resources if isinstance(item, Boot)]
    assert len(found) < 2
    return found[0] if found else None


def warnings(made: Planned) -> list[str]:
    return made.warnings.get("node1", [])


def test_a_host_with_systemd_and_networks_brings_them_back_by_itself() -> None:
    assert boot(planned(FRONT)) == Boot()


def test_a_host_without_systemd_keeps_the_command_and_no_keys() -> None:
    assert boot(planned(HIDDEN, systemd=False)) == Boot()
    assert boot(planned(FRONT, systemd=False, cnm_boot=False)) is None


def test_systemd_supervises_resolvers_where_it_brings_networks_back() -> None:
    def supervised(**variables: Any) -> set[bool]:
        made = planned(FRONT, **variables)
        return {item.supervised for item in made.plans["node1"].resources if isinstance(item, Resolver)}

    assert supervised() == {True}
    assert supervised(cnm_boot=False) == supervised(systemd=False) == {False}


def test_no_other_host_does() -> None:
    assert boot(planned(FRONT, cnm_boot=False)) is None
    assert boot(planned({"cnm_networks": {}})) is None


def test_keys_are_kept_only_where_there_are_some_and_they_may_be() -> None:
    assert boot(planned(HIDDEN)) == Boot(keep_keys=True)
    assert boot(planned(HIDDEN, cnm_keep_keys=False)) == Boot()
    assert boot(planned(FRONT)) == Boot(keep_keys=False)


def test_docker_s_start_is_followed_where_its_chain_is_opened_and_its_containers_are_not() -> None:
    assert boot(planned(FRONT, docker_user=(4,))) == Boot(owners=("docker.service",))
    assert boot(planned(FRONT, docker_user=(4,), cnm_docker_user=False)) == Boot()


def test_who_has_no_keys_kept_is_warned_of_what_stays_down() -> None:
    assert WARNING in warnings(planned(HIDDEN, cnm_keep_keys=False))
    assert WARNING not in warnings(planned(HIDDEN))
    assert WARNING not in warnings(planned(HIDDEN, cnm_keep_keys=False, cnm_boot=False))
    assert WARNING not in warnings(planned(HIDDEN, systemd=False, cnm_keep_keys=False))


def test_links_of_others_that_networks_are_made_on_are_awaited() -> None:
    networks = {
        **office("lan", "eth1", "198.51.100.0/24"),
        **office("vlan", "eth0.10", "203.0.113.0/24"),
        "front": {"subnet": "10.0.0.0/24"},
    }
    made = planned({"cnm_networks": networks, "cnm_sandboxes": {"m1": {"networks": ["lan", "vlan", "front"]}}})
    # eth0.10 is made by us, on eth0.
    assert boot(made) == Boot(awaited=("eth0", "eth1"))


def test_owners_of_namespaces_are_followed_and_paths_by_their_directory() -> None:
    namespaces = {
        "web": {"docker": "web"},
        "pod": {"podman": "pod"},
        "m1": {"machine": "m1"},
        "job": {"pid": 4242},
        "old": {"path": "/run/netns/other"},
        "odd": {"path": "/run/a place/other"},
        "process": {"path": "/proc/4242/ns/net"},
    }
    sandboxes = {name: {"networks": ["front"], "namespace": value} for name, value in namespaces.items()}
    made = planned({**FRONT, "cnm_sandboxes": sandboxes})
    assert boot(made) == Boot(owners=("/run/netns", "docker", "machine", "path", "pid", "podman"))


def test_a_ruleset_that_is_flushed_is_warned_of_where_nothing_follows_it() -> None:
    def flushed(made: Planned) -> bool:
        return any("flush ruleset" in text for text in warnings(made))

    assert not flushed(planned(FRONT))
    assert flushed(planned(FRONT, cnm_boot=False))


def test_each_sandbox_with_a_namespace_gets_a_target_for_applications_where_systemd_runs() -> None:
    sandboxes = {"c1": {"networks": ["front"]}, "n1": {"network_mode": "none"}, "h1": {"network_mode": "host"}}

    def targets(made: Planned) -> list[Target]:
        return [item for item in made.plans["node1"].resources if isinstance(item, Target)]

    assert targets(planned({**FRONT, "cnm_sandboxes": sandboxes})) == [Target("c1"), Target("n1")]
    assert targets(planned(FRONT, systemd=False)) == targets(planned(FRONT, cnm_boot=False)) == []
