# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: cnm.fabric contributors
"""Keys of encrypted overlays: the standard's own vectors, and that no two that should differ are the same."""

from __future__ import annotations

from ipaddress import ip_address
from itertools import product

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ansible_collections.cnm.fabric.plugins.module_utils.engine.expand_plan import expand_plan
from ansible_collections.cnm.fabric.plugins.module_utils.entrypoints import Request
from ansible_collections.cnm.fabric.plugins.module_utils.plan.codec import content_digest, decode, encode
from ansible_collections.cnm.fabric.plugins.module_utils.plan.encryption import Xfrm
from ansible_collections.cnm.fabric.plugins.module_utils.plan.esp import (
    KEY_OCTETS,
    Way,
    epoch_of,
    security_index,
    ways,
)
from ansible_collections.cnm.fabric.plugins.module_utils.plan.marks import request_id
from ansible_collections.cnm.fabric.plugins.module_utils.plan.peers import PeerTable
from ansible_collections.cnm.fabric.plugins.module_utils.plan.plan import Plan
from ansible_collections.cnm.fabric.plugins.plugin_utils.networks.encryption import (
    epoch_key,
    fingerprint,
    hkdf_expand,
    hkdf_extract,
    pair_key,
    pair_keys,
)

VECTORS = {
    "A.1": (
        "0b" * 22,
        bytes(range(13)).hex(),
        bytes(range(0xF0, 0xFA)).hex(),
        "077709362c2e32df0ddc3f0dc47bba6390b6c73bb50f9c3122ec844ad7c2b3e5",
        "3cb25f25faacd57a90434f64d0362f2a2d2d0a90cf1a5a4c5db02d56ecc4c5bf34007208d5b887185865",
    ),
    "A.2": (
        bytes(range(0x50)).hex(),
        bytes(range(0x60, 0xB0)).hex(),
        bytes(range(0xB0, 0x100)).hex(),
        "06a6b88c5853361a06104c9ceb35b45cef760014904671014a193f40c15fc244",
        (
            "b11e398dc80327a1c8e7f78c596a49344f012eda2d4efad8a050cc4c19afa97c59045a99cac7827271cb41c65e590e09"
            "da3275600c2f09b8367793a9aca3db71cc30c58179ec3e87c14c01d5c1f3434f1d87"
        ),
    ),
    "A.3": (
        "0b" * 22,
        "",
        "",
        "19ef24a32c717b167f33a91d6f648bdf96596776afdb6377ac434c1c293ccb04",
        "8da4e775a563c18f715f802a063c5a31b8a11f5c5ee1879ec3454e5f3c738d2d9d201395faa4b61a96c8",
    ),
}
"""RFC 5869's for SHA-256: input, salt, info, extracted and expanded."""

SECRET = "correct horse battery staple"
ADDRESSES = st.one_of(st.ip_addresses(v=4), st.ip_addresses(v=6)).map(str)
PROJECTS = st.from_regex(r"[a-z][a-z0-9-]{0,11}", fullmatch=True)
EPOCHS = st.integers(1, 2**31 - 1)


@pytest.mark.parametrize("name", VECTORS)
def test_the_standard_s_vectors(name: str) -> None:
    material, salt, info, extracted, expanded = (bytes.fromhex(text) for text in VECTORS[name])
    assert hkdf_extract(salt, material) == extracted
    assert hkdf_expand(extracted, info, len(expanded)) == expanded


def test_keys_stay_the_same_from_version_to_version() -> None:
    """Hosts that are converged with different versions have to agree."""
    key = epoch_key(SECRET, "default", 1)
    assert key.hex() == "8bd3506c51bd58e671e16d3542283a2c87696b43abb50c830179681313b6b615"
    assert pair_key(key, "192.0.2.1", "192.0.2.2").hex() == "f551eec98536d7e479043657271f1d07e15d5306"
    assert pair_key(key, "2001:db8::1", "2001:db8::2").hex() == "65a3968cc52d41a7118de552d79797f9e7aa38e9"
    assert security_index("default", "192.0.2.1", 1) == 0x9BD47F65
    assert security_index("default", "2001:db8::1", 1) == 0xB6AAFB95
    assert request_id("default") == 0xC95DFAF2
    assert fingerprint(SECRET, "default") == "f82faeaf"


@pytest.mark.parametrize("epochs", [(4, 4), (4, 5), (5, 4)])
def test_each_of_two_hosts_hears_whatever_the_other_sends_in_whichever_of_two_epochs_they_are(
    epochs: tuple[int, int],
) -> None:
    local, peer = "192.0.2.1", "192.0.2.2"
    here = pair_keys(SECRET, "default", local, [peer], epochs[0])
    there = pair_keys(SECRET, "default", peer, [local], epochs[1])
    for sender, mine, others, epoch in ((local, here, there, epochs[0]), (peer, there, here, epochs[1])):
        sent = Way(epoch, sender, peer if sender == local else local).text
        assert mine[sent] == others[sent]


@given(ADDRESSES, ADDRESSES, EPOCHS)
def test_a_way_is_read_as_it_was_written(local: str, peer: str, epoch: int) -> None:
    assert [Way.from_text(way.text) for way in ways(local, peer, epoch)] == ways(local, peer, epoch)


@pytest.mark.parametrize("text", ["", "1 192.0.2.1", "x 192.0.2.1 192.0.2.2", "1 192.0.2.1 192.0.2.2 192.0.2.3"])
def test_what_is_no_way_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r"."):
        Way.from_text(text)


@given(st.binary(min_size=32, max_size=32), ADDRESSES, ADDRESSES)
def test_the_keys_of_pairs_are_hkdf_too(parent: bytes, one: str, other: str) -> None:
    key = pair_key(parent, one, other)
    assert len(key) == KEY_OCTETS
    assert key == pair_key(parent, one, other)
    packed = b"".join(ip_address(address).packed for address in (one, other))
    assert key == hkdf_expand(parent, b"cnm.fabric esp " + packed, KEY_OCTETS)


@given(st.lists(st.tuples(st.text(min_size=16), PROJECTS, EPOCHS), min_size=2, max_size=5, unique=True))
def test_another_secret_project_or_epoch_has_other_keys(given_: list[tuple[str, str, int]]) -> None:
    assert len({epoch_key(*each) for each in given_}) == len(given_)
    prints = {fingerprint(secret, project) for secret, project, _epoch in given_}
    assert len(prints) == len({(secret, project) for secret, project, _epoch in given_})


# The VTEPs of a network are all of one family.
@given(st.sampled_from([4, 6]).flatmap(lambda v: st.lists(st.ip_addresses(v=v).map(str), min_size=2, unique=True)))
def test_every_pair_and_direction_has_a_key_of_its_own(addresses: list[str]) -> None:
    ways = [way for way in product(addresses, repeat=2) if way[0] != way[1]]
    epochs = [epoch_key(SECRET, "default", epoch) for epoch in (0, 1, 2)]
    assert len({pair_key(key, *way) for key in epochs for way in ways}) == len(ways) * len(epochs)


@given(PROJECTS, ADDRESSES, EPOCHS)
def test_spis_of_epochs_that_are_live_together_differ_and_none_is_reserved(
    project: str, address: str, epoch: int
) -> None:
    found = [security_index(project, address, epoch + offset) for offset in (-1, 0, 1, 2)]
    assert len(set(found)) == 4
    assert all(256 <= spi < 2**32 for spi in found)
    assert [epoch_of(spi, epoch) for spi in found] == [epoch - 1, epoch, epoch + 1, epoch + 2]


@given(PROJECTS, st.sets(st.integers(0, 2**24 - 1), max_size=50), EPOCHS)
def test_hosts_of_one_network_never_have_the_same_spi(project: str, numbers: set[int], epoch: int) -> None:
    addresses = [f"10.{number >> 16}.{number >> 8 & 255}.{number & 255}" for number in numbers]
    assert len({security_index(project, address, epoch) for address in addresses}) == len(addresses)


@given(st.lists(PROJECTS, unique=True, max_size=6))
def test_projects_have_reqids_of_their_own_that_no_key_daemon_counts_to(projects: list[str]) -> None:
    found = [request_id(project) for project in projects]
    assert len(set(found)) == len(projects)
    assert all(2**31 <= number < 2**32 for number in found)
    assert 0xD0C4E3 not in found


def test_the_plan_has_no_key_and_its_peers_come_from_the_tables() -> None:
    peer_tables = [
        PeerTable("one", 4096, {"a": "192.0.2.1", "b": "192.0.2.2"}, ()),
        PeerTable("two", 4097, {"a": "192.0.2.1", "c": "192.0.2.3", "b": "192.0.2.2"}, ()),
    ]
    texts = {content_digest(table.to_json()): table.to_json() for table in peer_tables}
    item = Xfrm("192.0.2.1", epoch=7, fingerprint=fingerprint(SECRET, "default"), tables=tuple(texts))
    made = Plan("a", resources=(item,))
    assert made.shared == set(texts)
    assert decode(encode(item)) == item
    (found,) = expand_plan(made, texts)
    assert isinstance(found, Xfrm)
    assert (found.peers, found.tables, found.epoch) == (("192.0.2.2", "192.0.2.3"), (), 7)
    for key in pair_keys(SECRET, "default", found.local, found.peers, 7).values():
        assert key not in made.to_json()


def test_a_request_does_not_show_its_keys() -> None:
    assert "5ec4e7" not in repr(Request("default", pair_keys={"1 192.0.2.1 192.0.2.2": "5ec4e7" * 6}))
