# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: cnm.fabric contributors
"""A Compose file whose containers are a real Docker Engine's: named as Compose names them, with networks of ours."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from docker_engine import DockerEngine, missing, remove_groups
from fleet import Fleet
from overlaying import lab_of
from traffic import answers, serving

FILE = """
services:
  web:
    image: box
    ports: ["8080:80"]
    networks: [front, back]
    hostname: www
  db:
    image: box
    networks: {back: {aliases: [store]}}
  helper:
    image: box
    network_mode: "service:web"
  twin:
    image: box
    scale: 2
    networks: [back]
networks:
  front:
  back: {internal: true, ipam: {config: [{subnet: 10.0.2.0/24}]}}
"""


@pytest.fixture
def shop(tmp_path: Path) -> Iterator[tuple[Fleet, DockerEngine]]:
    """node1 with the containers as `docker compose` starts them beside the file that cnm.fabric.compose writes."""
    if missing():
        pytest.fail(f"there is no {missing()}: install the package, as ./run test parity does", pytrace=False)
    with lab_of(2, "compose") as lab:
        fleet = Fleet(lab, tmp_path)
        (tmp_path / "shop").mkdir()
        (tmp_path / "shop" / "compose.yml").write_text(FILE, encoding="utf-8")
        fleet.declare({}, node1={"cnm_compose": "shop/compose.yml"})
        engine = DockerEngine(lab, "node1", ip6tables=False)
        engine.start()
        for name in ("web", "db", "twin"):
            engine.run(f"shop-{name}-1", network="none")
        engine.run("shop-helper-1", network="container:shop-web-1")
        yield fleet, engine
    remove_groups()


def test_containers_of_a_compose_file(shop: tuple[Fleet, DockerEngine], subtests: pytest.Subtests) -> None:
    fleet, engine = shop
    with subtests.test("a container that is not there is named, with its service's line"):
        refused = fleet.play("site")
        assert refused.code != 0
        assert "cnm_compose.services.twin" in refused.output
        assert "no container shop-twin-2" in refused.output
    engine.run("shop-twin-2", network="none")
    written = fleet.play("compose", "-e", f"cnm_declarations={fleet.directory}")
    assert written.code == 0, written.output
    assert "network_mode: none" in (fleet.directory / "node1.compose.override.yml").read_text(encoding="utf-8")
    fleet.site()
    with subtests.test("they find each other by the names of their services"):
        calls = [
            ("web", "db"),
            ("web", "store"),
            ("db", "web"),
            ("db", "www"),
            ("db", "shop-web-1"),
            ("helper", "db"),
            ("twin", "twin"),
        ]
        for who, name in calls:
            box = engine.client.containers.get(f"shop-{who}-1")
            assert box.exec_run(["ping", "-c", "1", "-W", "2", name]).exit_code == 0, (who, name)
    with subtests.test("a port leads to its service"):
        here, there = fleet.lab.address("node1"), fleet.lab.address("node2")
        with serving(fleet, "node1", "shop-web-1", "tcp/80"):
            assert answers(fleet, "node2", "", [("tcp", here, 8080)]) == [there]
    with subtests.test("verify proves it, and nothing is left to do"):
        verified = fleet.play("verify")
        assert verified.code == 0, verified.output
        assert fleet.site().changed == []
