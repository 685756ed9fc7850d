# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: cnm.fabric contributors
"""Options of the modules for single objects: spellings, and what must not get through."""

from __future__ import annotations

import pytest

from ansible_collections.cnm.fabric.plugins.module_utils.arguments import Options
from ansible_collections.cnm.fabric.plugins.module_utils.plan.forms import FormError, nft_statement
from ansible_collections.cnm.fabric.plugins.module_utils.plan.marks import is_pruned, mark, project_of


def options(**values: object) -> Options:
    return Options({"project": "default", **values})


@pytest.mark.parametrize(
    "text",
    [
        "drop",
        "tcp dport { 80, 443 } accept",
        'drop comment "not; ours # } \'"',
        "ct state vmap { established : accept, new : jump other }",
        "ip daddr 10.0.0.1 jump { accept; }",
        "meta mark & (0x1 | 0x2) == 0x1",
    ],
)
def test_a_single_statement_is_accepted(text: str) -> None:
    assert nft_statement(text) == text


@pytest.mark.parametrize(
    "text",
    [
        "drop; flush ruleset",
        "drop\nflush ruleset",
        "drop\r",
        "drop } ; flush ruleset ; {",
        "1.2.3.4 }; flush ruleset; add element inet t s { 1.2.3.5",
        'drop comment "open',
        'drop comment "a"; flush ruleset; "b"',
        "accept \\",
        "accept # the rest",
        "( ; )",
        "{ accept",
        "} {",
    ],
)
def test_text_that_ends_a_statement_early_is_refused(text: str) -> None:
    with pytest.raises(FormError):
        nft_statement(text)


@pytest.mark.parametrize(
    ("given", "read"),
    [
        (None, None),
        ([], ()),
        (["10.0.0.1/24", "10.0.0.1/255.255.255.0"], ("10.0.0.1/24",)),
        (["FD00:0::1/64"], ("fd00::1/64",)),
    ],
)
def test_addresses_are_spelled_as_the_kernel_does(given: object, read: object) -> None:
    asked = options(addresses=given)
    assert asked.addresses() == read
    assert asked.errors == []


@pytest.mark.parametrize(
    ("destination", "gateway", "read"),
    [
        ("default", None, ("default", 4)),
        ("default", "fd00::1", ("default", 6)),
        ("0.0.0.0/0", None, ("default", 4)),
        ("::/0", None, ("default", 6)),
        ("10.1.2.3/16", None, ("10.1.0.0/16", 4)),
        ("FD00::1/64", None, ("fd00::/64", 6)),
    ],
)
def test_destinations_are_spelled_as_the_kernel_does(destination: str, gateway: str, read: object) -> None:
    assert options(destination=destination).destination(gateway) == read


@pytest.mark.parametrize("name", ["lo", "all", "default", "", "a" * 16, ".", "a/b", "a b", "a:b", "ü", "a%d", "a\n"])
def test_invalid_link_names_are_refused(name: str) -> None:
    asked = options(name=name)
    asked.link()
    assert asked.errors


def test_module_objects_are_ours_and_not_pruned() -> None:
    assert project_of(mark("lab", "single_object/bridge")) == "lab"
    assert project_of("cnm: my own words") is None
    assert [
        is_pruned(role)
        for role in ("network/x", "port:endpoint/x/c1", "single_object/bridge", "port:single_object/veth/v0", None)
    ] == [
        True,
        True,
        False,
        False,
        False,
    ]
