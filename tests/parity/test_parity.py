# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: cnm.fabric contributors
"""The same networks in a Docker Engine and in ours: who reaches whom, what names mean, what inspect says."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

import pytest
from known import EXPECTED, REACHED, RESOLVED, Known, differences, missing, plain, unexpected, unknown
from matrix import networks_of
from scenarios import SCENARIOS
from world import World

SIDE_BY_SIDE = [name for name, scenario in SCENARIOS.items() if scenario.docker]
NEWER_KEYS = {"EnableIPv4"}  # 28.0
OWN_VALUES = {"Id", "Created", "EndpointID"}


def _said(lines: list[str]) -> str:
    return "\n".join([f"{len(lines)} rows:", *lines])


@pytest.mark.parametrize("scenario", SIDE_BY_SIDE)
class TestSideBySide:
    def test_everybody_reaches_the_same_and_is_seen_as_the_same(self, world: World, scenario: str) -> None:
        docker, ours = world.docker.good().reached[scenario], world.ours.good().reached[scenario]
        assert any(plain(outcome) != "no" for outcome in docker.values())
        for row, outcome in docker.items():
            if plain(outcome) == "no" == plain(ours[row]) and outcome != ours[row]:
                print(f"nobody answers, in another way: {row[0]} to {row[1]}: Docker {outcome}, ours {ours[row]}")
        left = unknown(REACHED, scenario, differences(docker, ours))
        assert not left, _said(left)

    def test_names_mean_the_same(self, world: World, scenario: str) -> None:
        docker, ours = world.docker.good().resolved[scenario], world.ours.good().resolved[scenario]
        left = unknown(RESOLVED, scenario, differences(docker, ours))
        assert not left, _said(left)

    def test_addresses_are_handed_out_alike(self, world: World, scenario: str) -> None:
        for box, entry in SCENARIOS[scenario].boxes.items():
            for net in networks_of(entry):
                docker = world.docker.good().side.addresses(box, net)
                assert docker, f"Docker gave {box} no address on {net}"
                assert world.ours.good().side.addresses(box, net) == docker

    def test_inspect_has_docker_s_keys_and_values(self, world: World, scenario: str) -> None:
        for net in SCENARIOS[scenario].nets:
            docker = _comparable(world.docker.good().side.documents[net])
            ours = _comparable(world.ours.good().side.documents[net])
            assert ours.keys() - docker.keys() == NEWER_KEYS
            # Docker says a gateway only if it was given one.
            for mine, theirs in zip(ours["IPAM"]["Config"], docker["IPAM"]["Config"]):
                theirs.setdefault("Gateway", mine["Gateway"])
            assert {key: value for key, value in ours.items() if key not in NEWER_KEYS} == docker

    def test_links_are_alike(self, world: World, scenario: str) -> None:
        docker, ours = world.docker.good().side, world.ours.good().side
        for box in SCENARIOS[scenario].boxes:
            links = [_links(side.lab.run(side.node, _inside(side.namespaces[box])).stdout) for side in (docker, ours)]
            assert links[0] == links[1]


def _inside(namespace: str) -> list[str]:
    return ["nsenter", f"--net={namespace}", "ip", "-o", "link"]


def _links(text: str) -> dict[str, str]:
    """The names of the links, with their MTUs."""
    return {match[1]: match[2] for match in re.finditer(r"(?m)^\d+: ([^:@]+).* mtu (\d+)", text) if match[1] != "lo"}


def _comparable(document: Mapping[str, Any]) -> dict[str, Any]:
    """The document without what is each side's own, its containers by name."""
    values = {key: value for key, value in document.items() if key not in OWN_VALUES}
    containers = document["Containers"].values()
    values["Containers"] = {
        entry["Name"]: {key: value if key not in OWN_VALUES else "…" for key, value in entry.items()}
        for entry in containers
    }
    return {**values, **dict.fromkeys(OWN_VALUES & document.keys(), "…")}


@pytest.mark.parametrize("scenario", EXPECTED)
def test_gateway_modes_that_are_newer_than_this_docker(world: World, scenario: str) -> None:
    left = unexpected(EXPECTED[scenario], world.ours.good().reached[scenario])
    assert not left, _said(left)


@pytest.mark.parametrize("known", REACHED, ids=lambda known: known.what)
def test_a_known_difference_in_who_reaches_whom_occurs(world: World, known: Known) -> None:
    _occurs(known, world.docker.good().reached, world.ours.good().reached)


@pytest.mark.parametrize("known", RESOLVED, ids=lambda known: known.what)
def test_a_known_difference_in_names_occurs(world: World, known: Known) -> None:
    _occurs(known, world.docker.good().resolved, world.ours.good().resolved)


def _occurs(known: Known, docker: Mapping[str, Any], ours: Mapping[str, Any]) -> None:
    gone = [name for name in known.scenarios if missing(known, differences(docker[name], ours[name]))]
    assert not gone, f"there is no such difference any more in: {', '.join(gone)}"


def test_the_bridge_has_the_name_it_was_given(world: World) -> None:
    for result in (world.docker.good(), world.ours.good()):
        side = result.side
        said = side.lab.run(side.node, ["ip", "-o", "-d", "link", "show", "br-named"]).stdout
        assert " bridge " in said
        assert " mtu 1400 " in said
