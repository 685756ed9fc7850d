# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: cnm.fabric contributors
"""An error names the file and line of what it is about, as Ansible itself read them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from ansible.parsing.dataloader import DataLoader

from ansible_collections.cnm.fabric.plugins.action.plan import origin_of
from ansible_collections.cnm.fabric.plugins.plugin_utils.declaration.errors import DeclarationError, ValidationError
from ansible_collections.cnm.fabric.plugins.plugin_utils.declaration.origins import with_origin, with_origins

VARIABLES = """\
cnm_flood: maybe
cnm_networks:
  front: {subnet: 10.0.0.0/24}
  front.back:
    driver_opts:
      com.docker.network.bridge.name: x
      com.docker.network: y
    ipam:
      config:
        - subnet: 10.1.0.0/24
        - gateway: 10.2.0.1
          subnet: 10.2.0.0/24
  empty:
cnm_sandboxes:
  - c1
"""


@pytest.fixture
def read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    (tmp_path / "group_vars").mkdir()
    file = tmp_path / "group_vars" / "all.yml"
    file.write_text(VARIABLES, encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    found: dict[str, Any] = DataLoader().load_from_file(str(file))
    return found


def places(path: str, *hosts: dict[str, Any]) -> tuple[str, ...]:
    by_name = {f"node{number}": variables for number, variables in enumerate(hosts, 1)}
    error = DeclarationError([ValidationError(path, "It is wrong.", hosts=tuple(by_name))])
    return with_origins(error, lambda host, name: by_name[host].get(name), origin_of)[0].places


@pytest.mark.parametrize(
    ("path", "line"),
    [
        ("cnm_flood", 1),
        ("cnm_networks", 3),
        ("cnm_networks.front.subnet", 3),
        ("cnm_networks.front", 3),
        ("cnm_networks.front.nothing.there[3]", 3),
        ("cnm_networks.front.back", 4),
        ("cnm_networks.front.back.driver_opts.com.docker.network.bridge.name", 6),
        ("cnm_networks.front.back.driver_opts.com.docker.network", 7),
        ("cnm_networks.front.back.ipam.config[1]", 11),
        ("cnm_networks.front.back.ipam.config[1].subnet", 12),
        ("cnm_networks.front.back.ipam.config[9]", 9),
        ("cnm_networks.empty", 13),
        ("cnm_sandboxes", 15),
        ("cnm_sandboxes[0]", 15),
    ],
)
def test_the_closest_line_that_is_known_is_named(read: dict[str, Any], path: str, line: int) -> None:
    assert places(path, read) == (f"group_vars/all.yml:{line}",)


@pytest.mark.parametrize("path", ["cnm_boot", "cnm_boot.x[0]", "", "the predefined network bridge", "cnm_networks_x"])
def test_what_is_in_no_file_has_no_place(read: dict[str, Any], path: str) -> None:
    assert places(path, {**read, "cnm_boot": True, "cnm_networks_x": {"a": {"b": 1}}}) == ()


def test_each_file_is_named_once_and_those_elsewhere_with_their_whole_path(
    read: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    other = tmp_path / "node2.yml"
    other.write_text("cnm_flood: never\n", encoding="utf-8")
    of_node2 = DataLoader().load_from_file(str(other))
    assert places("cnm_flood", read, of_node2, read) == ("group_vars/all.yml:1", "node2.yml:1")
    monkeypatch.chdir(tmp_path / "group_vars")
    assert places("cnm_flood", read, of_node2) == ("all.yml:1", f"{other}:1")


def test_a_variable_that_a_file_overrides_is_of_that_file(read: dict[str, Any], tmp_path: Path) -> None:
    (tmp_path / "node1.yml").write_text("cnm_networks:\n  back: {}\n", encoding="utf-8")
    # As Ansible does it, which leaves the key of the one file with the value of the other.
    overridden = read | DataLoader().load_from_file(str(tmp_path / "node1.yml"))
    assert places("cnm_networks", overridden) == ("node1.yml:2",)
    assert places("cnm_networks.back", overridden) == ("node1.yml:2",)


def test_a_merged_mapping_has_the_places_of_its_values(read: dict[str, Any], tmp_path: Path) -> None:
    (tmp_path / "node1.yml").write_text("front:\n  subnet: 10.0.0.1/24\n", encoding="utf-8")
    merged = {"cnm_networks": read["cnm_networks"] | DataLoader().load_from_file(str(tmp_path / "node1.yml"))}
    assert places("cnm_networks.front.subnet", merged) == ("node1.yml:2",)


def test_the_text_of_an_error_has_its_places() -> None:
    error = ValidationError("cnm_flood", "It is wrong.", hosts=("node1",), places=("a.yml:1", "b.yml:2"))
    assert str(error) == "cnm_flood (on node1)\n  in:      a.yml:1 and b.yml:2\n  problem: It is wrong."


@pytest.mark.parametrize(
    ("reason", "place"),
    [
        ("cnm_networks.front: subnet 10.0.0.0/24 overlaps a route: eth0.", " (group_vars/all.yml:3)"),
        ("cnm_networks.front.back.ipam.config[1]: it is wrong", " (group_vars/all.yml:11)"),
        ("cnm_boot: it is in no file", ""),
        ("this host has no nft", ""),
        ("", ""),
    ],
)
def test_what_keeps_a_host_from_it_is_followed_by_the_place(read: dict[str, Any], reason: str, place: str) -> None:
    found = with_origin(reason, "node1", lambda _host, name: read.get(name), origin_of)
    assert found == reason + place
