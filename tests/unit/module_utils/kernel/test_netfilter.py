# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: cnm.fabric contributors
"""nftables by netlink: our messages and pyroute2's are the same, and each is understood by the other.  No kernel."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import pytest
from pyroute2.netlink.nfnetlink.nftsocket import nft_chain_msg, nft_table_msg

from ansible_collections.cnm.fabric.plugins.module_utils.kernel import netfilter
from ansible_collections.cnm.fabric.plugins.module_utils.kernel.netlink import text_of

NEWTABLE, DELTABLE, NEWCHAIN = 0xA00, 0xA02, 0xA03
REQUEST, CREATE = 1, 0x400


def encoded(class_: Any, kind: int, flags: int, family: int, attributes: Iterable[Any]) -> bytes:
    """What pyroute2 makes of named attributes."""
    message = class_()
    message["header"] = {"type": kind, "flags": flags, "sequence_number": 0, "pid": 0}
    message["nfgen_family"] = family
    message["attrs"] = list(attributes)
    message.encode()
    return bytes(message.data)


def table(family: int, *attributes: tuple[str, Any], kind: int = NEWTABLE, flags: int = CREATE) -> bytes:
    return encoded(nft_table_msg, kind, REQUEST | flags, family, attributes)


def test_a_table_is_made_and_removed_as_pyroute2_does_it() -> None:
    made = netfilter.new_table("inet", "cnm", "cnm:default:host", bytes([0, 0, 0, 1]))
    userdata = ("NFTA_TABLE_USERDATA", b"\x00\x11cnm:default:host\x00")
    found = nft_table_msg(made.payload)
    found.decode()
    assert found.get_attr("NFTA_TABLE_NAME") == "cnm"
    assert found["nfgen_family"] == 1
    assert userdata[1] in made.payload
    assert netfilter.del_table("bridge", "x").payload == table(7, ("NFTA_TABLE_NAME", "x"), kind=DELTABLE, flags=0)
    assert netfilter.new_table("ip6", "y").payload == table(10, ("NFTA_TABLE_NAME", "y"))


def test_decoding_of_tables() -> None:
    # As recorded of `nft -i` with `table inet cnm { comment "hello"; flags owner; }`, its attributes in another order.
    for data, known in (
        (table(1, ("NFTA_TABLE_NAME", "cnm")), netfilter.Table("inet", "cnm", "", False)),
        (netfilter.new_table("bridge", "b", "hello").payload, netfilter.Table("bridge", "b", "hello", False)),
    ):
        assert netfilter._decode_table(data, 16, len(data)) == known
    owned = table(1, ("NFTA_TABLE_NAME", "cnm")) + b"\x08\x00\x07\x00\x00\x00\x00\x2a"
    assert netfilter._decode_table(owned, 16, len(owned)).owned


@pytest.mark.parametrize(
    ("family", "number", "hook", "policy"),
    [(1, 2, "forward", 0), (2, 1, "input", 1), (3, 0, "input", 0), (10, 4, "postrouting", 1), (5, 0, "ingress", 1)],
)
def test_decoding_of_chains(family: int, number: int, hook: str, policy: int) -> None:
    attributes = [
        ("NFTA_CHAIN_TABLE", "filter"),
        ("NFTA_CHAIN_NAME", "FORWARD"),
        ("NFTA_CHAIN_HOOK", {"attrs": [("NFTA_HOOK_HOOKNUM", number), ("NFTA_HOOK_PRIORITY", 0)]}),
        ("NFTA_CHAIN_POLICY", policy),
        ("NFTA_CHAIN_TYPE", "filter"),
    ]
    data = encoded(nft_chain_msg, NEWCHAIN, 0, family, attributes)
    found = netfilter._decode_chain(data, 16, len(data))
    families = netfilter.FAMILIES[family]
    assert found == netfilter.BaseChain(families, "filter", "FORWARD", "filter", hook, policy == 0)
    plain = encoded(nft_chain_msg, NEWCHAIN, 0, family, attributes[:2])
    assert netfilter._decode_chain(plain, 16, len(plain)) is None


def test_names_that_are_not_utf_8_can_be_written_as_json() -> None:
    assert text_of(b"eth\xff\0") == "eth\\xff"
    assert text_of("br-ö".encode()) == "br-ö"
    assert text_of(b"\xed\xa0\x80").encode() == b"\\xed\\xa0\\x80"
