# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: cnm.fabric contributors
"""A Compose file by Compose itself: with Docker's networks, and with ours in their place, as docs/from-compose.md says.

What each container finds and reaches, and who answers at the published ports, is compared row by row.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from containers import fill
from systems import Controller, System, systems

PACKAGES = ["docker.io", "docker-cli", "docker-compose"]
"""Of Debian 13, whose Compose knows ``!reset``."""

FILE = """
x-box: &box
  image: box
  command: ["/bin/sleep", "100000"]
  stop_grace_period: 0s
services:
  web:
    <<: *box
    ports: ["8080:80", "127.0.0.1:8443:443", "8053:53/udp"]
    hostname: www
    domainname: shop.example
    extra_hosts: ["legacy:203.0.113.7"]
    networks:
      front: {aliases: [gate]}
      back: {ipv4_address: 10.82.2.10, aliases: [gate-inside]}
  api:
    <<: *box
    scale: 2
    dns_search: [shop.example]
    networks: [back, six]
  db:
    <<: *box
    container_name: database
    networks: {back: {aliases: [store, store.example]}}
    mac_address: 02:42:0a:52:02:63
  six:
    <<: *box
    networks: {six: {ipv6_address: "fd00:82::77"}}
  helper:
    <<: *box
    network_mode: service:web
  lone:
    <<: *box
    network_mode: none
  plain:
    <<: *box
    scale: 2
    ports: ["9000-9001:80"]
networks:
  front: {ipam: {config: [{subnet: 10.82.1.0/24}]}}
  back: {internal: true, ipam: {config: [{subnet: 10.82.2.0/24}]}}
  six: {enable_ipv6: true, ipam: {config: [{subnet: 10.82.3.0/24}, {subnet: "fd00:82::/64"}]}}
"""
CONTAINERS = (
    *("shop-web-1", "shop-api-1", "shop-api-2", "database", "shop-six-1"),
    *("shop-helper-1", "shop-lone-1", "shop-plain-1", "shop-plain-2"),
)
NAMES = (
    *("web", "api", "db", "six", "helper", "lone", "plain"),
    *CONTAINERS,
    *("www", "www.shop.example", "gate", "gate-inside", "store", "store.example", "legacy", "WEB", "db.shop_back"),
)
SERVERS = ("shop-web-1", "shop-plain-1", "shop-plain-2")
PLACES = ("127.0.0.1 8080", "127.0.0.1 8443", "127.0.0.1 9000", "{host} 8080", "{host} 8443", "{host} 9001")
VARIABLES = {"n1": {"cnm_compose": "shop/compose.yml"}}

IMAGE = f"{fill('/var/tmp/box')}tar -C /var/tmp/box -c . | docker import - box"
LOOK = Path(__file__).with_name("compose_rows.py")
"""Prints the rows: it runs on the system."""

Shop = tuple[System, Controller, dict[str, Any]]


def look(system: System) -> dict[str, Any]:
    """What is found there, by row."""
    places = [place.format(host=system.address) for place in PLACES]
    asked = {"containers": CONTAINERS, "names": NAMES, "servers": SERVERS, "places": places}
    system.write("/srv/asked.json", json.dumps(asked))
    rows: dict[str, Any] = json.loads(system.sh("python3 /srv/compose_rows.py /srv/asked.json"))
    return rows


@pytest.fixture(scope="module")
def shop(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Shop]:
    """A system whose containers Compose has started without networks, and what there was before with Docker's."""
    folder = tmp_path_factory.mktemp("systems")
    with systems(folder, "n1", suite="trixie", packages=PACKAGES) as (system,):
        controller = Controller(folder, system)
        (folder / "shop").mkdir()
        (folder / "shop" / "compose.yml").write_text(FILE, encoding="utf-8")
        system.sh(f"mkdir /srv/shop; {IMAGE}")
        system.write("/srv/shop/compose.yml", FILE)
        system.write("/srv/compose_rows.py", LOOK.read_text(encoding="utf-8"))
        system.sh("cd /srv/shop; docker compose up --detach")
        docker = look(system)
        system.sh("cd /srv/shop; docker compose down")
        controller.run("compose", VARIABLES, "-e", f"cnm_declarations={folder}")
        system.write("/srv/shop/ours.yml", (folder / "n1.compose.override.yml").read_text(encoding="utf-8"))
        yield system, controller, docker


def compose(words: str) -> str:
    """A command that also has the file that takes Docker's networks away."""
    return f"cd /srv/shop; docker compose -f compose.yml -f ours.yml {words}"


def test_a_container_that_is_not_there_is_named_with_the_line_of_its_service(shop: Shop) -> None:
    system, controller, _docker = shop
    system.sh(compose("up --detach --scale plain=1"))
    line = FILE.splitlines().index("  plain:") + 1
    refused = controller.run("site", VARIABLES, fails=True).output
    assert "cnm_compose.services.plain" in refused
    assert "no container shop-plain-2" in refused
    assert f"shop/compose.yml:{line}" in refused, refused


def test_everybody_finds_and_reaches_the_same(shop: Shop) -> None:
    system, controller, docker = shop
    system.sh(compose("up --detach"))
    controller.run("site", VARIABLES)
    ours = look(system)
    assert len(docker) > 200
    assert {row: (docker.get(row), ours.get(row)) for row in docker.keys() | ours.keys()} == {
        row: (found, found) for row, found in docker.items()
    }
    assert controller.run("verify", VARIABLES).status == 0
    controller.settled("n1", VARIABLES)


def test_containers_that_compose_makes_anew_are_connected_again_by_the_host(shop: Shop) -> None:
    system, controller, _docker = shop
    before = look(system)
    system.sh(compose("up --detach --force-recreate web helper db"))
    system.until("cnm status", 30)
    assert look(system) == before
    controller.settled("n1", VARIABLES)
