# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: cnm.fabric contributors
"""Tables in a real kernel, in namespaces without a name: what is loaded is what is found, and any drift is mended."""

from __future__ import annotations

import subprocess
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import pytest

from ansible_collections.cnm.fabric.plugins.module_utils.kernel import namespaces, netfilter, nft
from ansible_collections.cnm.fabric.plugins.module_utils.kernel.host import Host
from ansible_collections.cnm.fabric.plugins.module_utils.plan.nftables import Chain, Nftables, NftSet
from ansible_collections.cnm.fabric.plugins.module_utils.resources.base import Operation
from ansible_collections.cnm.fabric.plugins.module_utils.resources.nftables import NftablesKind, script
from ansible_collections.cnm.fabric.plugins.module_utils.resources.nftables_reading import UNREADABLE, parse
from ansible_collections.cnm.fabric.plugins.plugin_utils.planner.checks import REPLACE_TABLE

TABLE = Nftables(
    namespace="",
    family="inet",
    name="cnm",
    role="host",
    sets=(
        NftSet("bridges", "type ifname;", ('"br-a"', '"br-b"')),
        NftSet("subnets", "type ipv4_addr; flags interval;", ("10.0.0.0/24", "10.0.1.0/24")),
        NftSet("empty", "type ifname . ifname;"),
    ),
    chains=(
        Chain("user_forward", user=True),
        Chain(
            "forward",
            "type filter hook forward priority 0; policy accept",
            ("jump user_forward", "ct state established,related accept", "oifname @bridges drop"),
        ),
        Chain(
            "postrouting",
            "type nat hook postrouting priority 100; policy accept",
            ("ip saddr @subnets oifname != @bridges masquerade",),
        ),
    ),
)


def run_command(arguments: list[str], data: str = "") -> tuple[int, str, str]:
    done = subprocess.run(arguments, input=data, capture_output=True, text=True, check=False)
    return done.returncode, done.stdout, done.stderr


SPEAKERS: list[Callable[[], nft.Nft]] = [nft.Library, lambda: nft.Program(run_command)]


@pytest.fixture(params=SPEAKERS, ids=["library", "program"])
def speaker(request: pytest.FixtureRequest) -> nft.Nft:
    made: nft.Nft = request.param()
    return made


def in_a_host(work: Callable[[Host, NftablesKind], Any], speaker: nft.Nft) -> Any:
    """Call with a host whose own namespace is a new one."""

    def inside() -> Any:
        with Host("default", run_command) as host:
            host._nft, host._nft_sought = speaker, True
            kind = NftablesKind()
            kind.prepare(host, [TABLE])
            return work(host, kind)

    return namespaces.run_in_new(inside)


def found(host: Host, kind: NftablesKind) -> Nftables:
    host.forget()
    (entry,) = kind.observe(host, [TABLE]).values()
    assert entry.ours
    return entry.resource


def test_what_a_warning_advises_instead_of_a_flush_is_understood_by_this_nft(speaker: nft.Nft) -> None:
    def loaded_twice() -> str:
        conf = REPLACE_TABLE.replace("NAME", "mine") + "table inet mine { chain c { }; }"
        speaker.run(conf)
        speaker.run(conf)
        return speaker.run("list ruleset")

    assert namespaces.run_in_new(loaded_twice).count("chain c") == 1


def test_a_created_table_is_found_without_differences(speaker: nft.Nft) -> None:
    def work(host: Host, kind: NftablesKind) -> None:
        assert kind.observe(host, [TABLE]) == {}
        kind.create(host, [TABLE])
        assert kind.differences(TABLE, found(host, kind)) == []

    in_a_host(work, speaker)


DRIFTS = {
    "a rule added": ("add rule inet cnm forward accept", {"chain forward"}),
    "a rule put first": ("insert rule inet cnm forward accept", {"chain forward"}),
    "all rules gone": ("flush chain inet cnm forward", {"chain forward"}),
    "a policy changed": ("chain inet cnm forward { policy drop; }", {"chain forward"}),
    "an element added": ('add element inet cnm bridges { "eth0" }', {"set bridges"}),
    "an element removed": ("delete element inet cnm subnets { 10.0.0.0/24 }", {"set subnets"}),
    "a set deleted with the rule that used it": (
        "flush chain inet cnm postrouting; delete set inet cnm subnets",
        {"set subnets", "chain postrouting"},
    ),
    "a chain added": ("add chain inet cnm stray", {"chain stray"}),
    "a set added": ("add set inet cnm stray { type ipv4_addr; }", {"set stray"}),
    "a chain deleted": ("flush chain inet cnm postrouting; delete chain inet cnm postrouting", {"chain postrouting"}),
    "a hook moved": (
        "delete chain inet cnm postrouting; add chain inet cnm postrouting { type nat hook postrouting priority 90; }",
        {"chain postrouting"},
    ),
    "a set of another type": (
        "flush chain inet cnm postrouting; delete set inet cnm subnets; add set inet cnm subnets { type ipv6_addr; }",
        {"set subnets", "chain postrouting"},
    ),
    "put to sleep": ("add table inet cnm { flags dormant; }", {"flags"}),
}


@pytest.mark.parametrize("name", DRIFTS)
def test_each_drift_is_named_and_repaired_and_the_user_s_rules_stay(name: str, speaker: nft.Nft) -> None:
    harm, expected = DRIFTS[name]

    def work(host: Host, kind: NftablesKind) -> None:
        kind.create(host, [TABLE])
        speaker.run('add rule inet cnm user_forward iifname "eth9" drop')
        assert kind.differences(TABLE, found(host, kind)) == []
        assert host.verified_tables.keys() >= {"inet cnm"}
        speaker.run(
            harm.replace("; add chain", "\nadd chain").replace("; delete", "\ndelete").replace("; add set", "\nadd set")
        )
        drifted = found(host, kind)
        differences = kind.differences(TABLE, drifted)
        assert {difference.attribute for difference in differences} == expected
        kind.change(host, [Operation("change", TABLE, drifted, tuple(differences))])
        assert kind.differences(TABLE, found(host, kind)) == []
        assert 'iifname "eth9" drop' in speaker.run("list chain inet cnm user_forward")

    in_a_host(work, speaker)


class Silent:
    """Speaks to nobody."""

    def run(self, commands: str) -> str:
        raise AssertionError(commands)

    @contextmanager
    def together(self) -> Iterator[Callable[[str], str]]:
        yield self.run

    def close(self) -> None:
        """Nothing is kept."""


def test_a_verified_table_is_not_listed_until_a_transaction(speaker: nft.Nft) -> None:
    def work(host: Host, kind: NftablesKind) -> None:
        kind.create(host, [TABLE])
        assert found(host, kind) != TABLE
        host._nft = Silent()
        kind = NftablesKind()
        kind.prepare(host, [TABLE])
        assert found(host, kind) is TABLE
        assert kind.differences(TABLE, TABLE) == []
        another = Nftables("", "inet", "cnm", "host", chains=(Chain("forward", "", ("accept",)),))
        with pytest.raises(AssertionError, match="accept"):
            kind.prepare(host, [another])
        speaker.run("add table ip somebody")
        assert found(host, kind).flags == UNREADABLE

    in_a_host(work, speaker)


def test_a_transaction_raises_the_generation_of_its_namespace_only(speaker: nft.Nft) -> None:
    def work() -> tuple[int, int]:
        first, again = netfilter.generation(), netfilter.generation()
        assert first is not None
        assert first == again
        namespaces.run_in_new(speaker.run, "add table ip somebody")
        assert netfilter.generation() == first
        speaker.run("add table ip somebody")
        second = netfilter.generation()
        speaker.run("list ruleset")
        assert netfilter.generation() == second != first
        assert second is not None and second[0] == first[0]
        return second

    one, other = (namespaces.run_in_new(work) for _namespace in range(2))
    assert one[0] != other[0]


def test_a_found_table_can_be_restored(speaker: nft.Nft) -> None:
    def work(host: Host, kind: NftablesKind) -> None:
        kind.create(host, [TABLE])
        speaker.run('add rule inet cnm user_forward iifname "eth9" drop')
        before = found(host, kind)
        kind.prepare(host, [before])
        kind.delete(host, [before])
        kind.create(host, [before])
        assert found(host, kind) == before
        assert 'iifname "eth9" drop' in speaker.run("list chain inet cnm user_forward")

    in_a_host(work, speaker)


def test_a_table_without_our_mark_is_not_ours(speaker: nft.Nft) -> None:
    def work(host: Host, kind: NftablesKind) -> None:
        speaker.run("add table inet cnm")
        (entry,) = kind.observe(host, [TABLE]).values()
        assert not entry.ours
        assert not entry.stale
        assert kind.observe(host, []) == {}

    in_a_host(work, speaker)


def test_a_table_the_kernel_refuses_is_reported_before_changes(speaker: nft.Nft) -> None:
    wrong = Nftables("s1", "inet", "cnm", "host", chains=(Chain("forward", "", ("jump nowhere",)),))

    def work(host: Host, kind: NftablesKind) -> None:
        with pytest.raises(nft.NftError, match=r"^table s1/inet cnm: .* inet cnm "):
            kind.prepare(host, [replace(TABLE, flags="dormant"), wrong, replace(wrong, chains=())])
        assert kind.observe(host, [TABLE]) == {}

    in_a_host(work, speaker)


def test_tables_that_differ_only_in_their_sandbox_are_loaded_once(speaker: nft.Nft) -> None:
    """And the rest beside them, in one transaction."""
    said: list[str] = []

    class Telling(Silent):
        def run(self, commands: str) -> str:
            said.append(commands)
            return speaker.run(commands)

    boxes = [replace(TABLE, namespace=f"s{number}", role=f"resolver/s{number}") for number in range(9)]
    other = Nftables("", "bridge", "cnm", "host", chains=(Chain("forward", "", ("drop",)),))

    def work(host: Host, kind: NftablesKind) -> None:
        kind = NftablesKind()
        host._nft = Telling()
        kind.prepare(host, [*boxes, other])
        assert [text.count("add table ") for text in said] == [2, 0]
        for table in (boxes[3], other):
            speaker.run(script(replace(table, namespace=""), "default"))
            printed = speaker.run(f"list table {table.family} {table.name}")
            found = parse(printed, "default", table.namespace, frozenset({"user_forward"}))
            assert found is not None
            assert kind.differences(table, found) == []
            assert [item.attribute for item in kind.differences(boxes[4], found)][:1] == ["role"]

    in_a_host(work, speaker)


def test_library_and_program_print_the_same() -> None:
    def listed(speaker: nft.Nft) -> str:
        speaker.run(script(TABLE, "default"))
        return speaker.run("list table inet cnm")

    library, program = (namespaces.run_in_new(listed, make()) for make in SPEAKERS)
    assert library == program
