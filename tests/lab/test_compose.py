# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: cnm.fabric contributors
"""Compose files like those of real projects, as they stand: converged, verified, and nothing left to do.

``tests/lab/compose`` has a directory for each, with the files as Compose wants them; what they say of images, commands
and volumes is short.  All are on the two hosts of a lab at once, in namespaces of our own.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml
from fleet import Fleet, Run
from lab import Lab

PROJECTS = sorted(path for path in (Path(__file__).parent / "compose").iterdir() if path.is_dir())
NOTES = Path(__file__).parent / "compose" / "notes.yml"
ELSEWHERE = {"cnm_networks": {"proxy": {"subnet": "10.77.0.0/24"}}}


def host_of(number: int) -> str:
    return f"node{number % 2 + 1}"


def host_with(name: str) -> str:
    return next(host_of(number) for number, project in enumerate(PROJECTS) if project.name == name)


@pytest.fixture(scope="module")
def fleet(lab: Lab, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Fleet]:
    """Every project on one of two hosts."""
    fleet = Fleet(lab, tmp_path_factory.mktemp("compose"))
    by_host: dict[str, dict[str, object]] = {"node1": {}, "node2": {}}
    for number, project in enumerate(PROJECTS):
        settings = {"files": str(project), "namespaces": "own", "profiles": ["chosen"]}
        by_host[host_of(number)][f"cnm_compose_{project.name}"] = settings
    everyone = {**ELSEWHERE, "cnm_default_network_opts": {"bridge": {"com.docker.network.driver.mtu": 1442}}}
    fleet.declare(everyone, **by_host)
    yield fleet
    fleet.clear()


@pytest.fixture(scope="module")
def first(fleet: Fleet) -> Run:
    return fleet.site()


def test_there_are_twelve_projects() -> None:
    assert len(PROJECTS) >= 12


def test_what_is_passed_over_is_listed_once(first: Run) -> None:
    for name, lines in yaml.safe_load(NOTES.read_text(encoding="utf-8")).items():
        for line in lines:
            assert first.output.count(f"{name}/{line}") == 1, f"{name}/{line}\n{first.output}"


def test_they_work(fleet: Fleet, first: Run) -> None:
    assert first.changed
    verified = fleet.play("verify")
    assert verified.code == 0, verified.output


def test_a_second_run_changes_nothing(fleet: Fleet, first: Run) -> None:
    assert first.code == 0
    assert fleet.site().changed == []


def test_a_service_in_the_namespace_of_another_is_entered_there(fleet: Fleet, first: Run) -> None:
    host = host_with("vpn")
    shown = fleet.sh(host, "cnm ps vpn-torrent-1")
    assert "sandbox:gluetun" in shown
    assert "up" in shown
    assert first.code == 0
    addresses = [fleet.sh(host, f"cnm exec {name} ip -o address show eth0") for name in ("gluetun", "vpn-torrent-1")]
    assert addresses[0] == addresses[1]


def test_words_of_services_are_what_they_mean(fleet: Fleet, first: Run) -> None:
    assert first.code == 0
    host = host_with("chain")
    shown = [fleet.sh(host, f"cnm ps chain-node-{number}") for number in (1, 2)]
    assert all("30303/tcp, 30303/udp" in text for text in shown)
    assert [f":{port}->8545/tcp" in text for text, port in zip(shown, (8545, 8546))] == [True, True]
    assert "node.chain.example.com" in fleet.sh(host, "cnm exec chain-node-1 getent hosts node.chain.example.com")
    assert "02:42:ac:19:00:99" in fleet.sh(host, "cnm exec chain-bootnode-1 ip link show peer0")
    assert "/28" in fleet.sh(host, "cnm exec chain-node-1 ip -4 -o address show eth1")


def test_networks_of_compose_files_have_the_default_options(fleet: Fleet, first: Run) -> None:
    assert first.code == 0
    assert "mtu 1442" in fleet.sh(host_with("voting"), "cnm exec voting-db-1 ip link show eth0")
    assert "mtu 1400" in fleet.sh(host_with("search"), "cnm exec es-es02-1 ip link show eth0")
