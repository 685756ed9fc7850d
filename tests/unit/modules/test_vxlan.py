# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: cnm.fabric contributors
"""Peers of the module vxlan: what they come to on one host of a mesh, and which lists make no sense."""

from __future__ import annotations

from typing import Any

import pytest

from ansible_collections.cnm.fabric.plugins.module_utils.arguments import Options
from ansible_collections.cnm.fabric.plugins.module_utils.plan.addresses import Fdb, Neighbours
from ansible_collections.cnm.fabric.plugins.module_utils.plan.links import Link
from ansible_collections.cnm.fabric.plugins.module_utils.vxlan_peers import Peers, read_peers
from ansible_collections.cnm.fabric.plugins.modules.vxlan import read

TWO = {"vtep": "192.0.2.12", "mac_address": "02:42:0A:2B:00:02", "addresses": ["10.43.0.2", "FD00:43:0::2"]}
THREE = {"vtep": "192.0.2.13", "mac_address": "02-42-0a-2b-00-03"}


def options(**values: Any) -> Options:
    given = {"project": "default", "state": "present", "name": "vx0", "vni": 43, "port": 4789, "flood": True}
    return Options({**given, "neigh_suppress": False, "up": True, "local": "192.0.2.11", **values})


def peers(*items: Any) -> tuple[Any, list[str]]:
    asked = options(peers=list(items))
    return read_peers(asked, "192.0.2.11"), asked.errors


def test_omitted_peers_differ_from_an_empty_list() -> None:
    assert read_peers(options(), "192.0.2.11") is None
    assert peers() == (Peers(), [])


def test_peers_have_no_duplicates_and_not_the_host_itself() -> None:
    assert peers("192.0.2.11", "192.0.2.13", "192.0.2.12", "192.0.2.13") == (Peers(["192.0.2.13", "192.0.2.12"]), [])


def test_known_peers_are_spelled_as_the_kernel_spells_them() -> None:
    itself = {"vtep": "192.0.2.11", "mac_address": "02:42:0a:2b:00:01", "addresses": ["10.43.0.1"]}
    known, errors = peers(itself, TWO, THREE)
    assert errors == []
    assert known.entries == {"02:42:0a:2b:00:02": "192.0.2.12", "02:42:0a:2b:00:03": "192.0.2.13"}
    assert known.neighbours == dict.fromkeys(("10.43.0.2", "fd00:43::2"), "02:42:0a:2b:00:02")
    assert known.answers


def test_a_flooding_link_does_not_answer_itself() -> None:
    known, errors = peers("192.0.2.12", "192.0.2.13", TWO)
    assert errors == []
    assert not known.answers


@pytest.mark.parametrize(
    ("items", "said"),
    [
        (["192.0.2.13", TWO], "peers[1].vtep: 192.0.2.12 would get no flooded frames"),
        (["fd00::12"], "peers[0]: fd00::12 and local, 192.0.2.11, are not of the same IP version"),
        (["0.0.0.0"], "peers[0]: '0.0.0.0' cannot be the address of a VTEP"),
        (["169.254.0.1"], "peers[0]: 169.254.0.1 is a link-local address"),
        (["192.0.2.12/24"], "peers[0]: '192.0.2.12/24' is not the address of a VTEP"),
        ([{}], "peers[0]: vtep and mac_address must be given"),
        ([{**TWO, "vtep": "fd00::12"}], "peers[0].vtep: fd00::12 and local"),
        ([{**TWO, "mac_address": "ff:ff:ff:ff:ff:ff"}], "peers[0].mac_address: 'ff:ff:ff:ff:ff:ff' is not a link's"),
        ([{**TWO, "addresses": "10.43.0.2"}], "peers[0].addresses: '10.43.0.2' is not a list: write it in brackets"),
        ([{**TWO, "mac": ""}], "peers[0]: a peer has no key mac"),
        ([TWO, {**TWO, "vtep": "192.0.2.13"}], "peers[1].mac_address: 02:42:0a:2b:00:02 is already at VTEP 192.0.2.12"),
        (
            [TWO, {**THREE, "addresses": ["fd00:43::2"]}],
            "peers[1].addresses[0]: fd00:43::2 already belongs to 02:42:0a:2b:00",
        ),
    ],
)
def test_an_invalid_peer_is_reported_with_its_position(items: list[Any], said: str) -> None:
    _read, errors = peers(*items)
    assert [text for text in errors if text.startswith(said)], errors


@pytest.mark.parametrize(
    ("given", "without_ipv6"),
    [
        ({}, None),
        ({"bridge": "br0"}, True),
        ({"addresses": ["10.43.0.1/24"]}, True),
        ({"peers": [THREE, {**TWO, "addresses": ["10.43.0.2"]}]}, True),
        ({"bridge": "br0", "peers": [TWO]}, False),
        ({"addresses": ["10.43.0.1/24", "fd00:43::1/64"]}, False),
    ],
)
def test_ipv6_is_enabled_only_with_ipv6_addresses_or_peers(given: dict[str, Any], without_ipv6: object) -> None:
    link = read(options(**given)).resources[0]
    assert isinstance(link, Link)
    assert link.disable_ipv6 is without_ipv6


def test_an_empty_table_is_not_created_but_compared() -> None:
    desired = read(options(peers=["192.0.2.11"]))
    assert not [item for item in desired.resources if isinstance(item, (Fdb, Neighbours))]
    assert ("fdb", "", "vx0") in desired
    assert ("neighbour", "", "vx0") in desired
    assert ("fdb", "", "vx0") not in read(options())
