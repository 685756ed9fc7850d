# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: cnm.fabric contributors
"""Tables that a newer nft wrote, a container's or a sandbox's: libnftables 1.0.6 crashes when it reads their sets."""

from __future__ import annotations

from collections.abc import Iterable
from functools import partial

import newer_nft
import pytest
from host import SMALL, becomes, compare, converge, on_a_host, resources_of, run_command, sh, snapshot, works

from ansible_collections.cnm.fabric.plugins.module_utils import entrypoints
from ansible_collections.cnm.fabric.plugins.module_utils.kernel import contained, namespaces, netfilter, nft
from ansible_collections.cnm.fabric.plugins.module_utils.kernel.host import Host
from ansible_collections.cnm.fabric.plugins.module_utils.probe.reader import probe


def put(namespace: str, *tables: tuple[str, str]) -> None:
    for table in tables:
        namespaces.run(namespace, netfilter.put, newer_nft.messages(*table))


def crashes(namespaces_of: Iterable[str]) -> bool:
    """Whether this machine's nft crashes on them at all."""
    library = nft.Library()
    said = contained.each(lambda name: namespaces.run(name, library.run, "list ruleset"), list(namespaces_of))
    return all(answer.broken for answer in said)


@on_a_host
def test_foreign_tables_of_a_newer_nft_stop_nothing() -> None:
    sh("nft add table ip before")
    wanted, other = resources_of(SMALL), resources_of({"c1": {"networks": ["front"], "ports": ["80:80"]}, "c2": {}})
    put("", ("ip", "theirs"))
    converge(wanted)
    put("c1", ("inet", "theirs"))
    works([("c1", "c2", "10.0.0.3")])
    assert compare(wanted) == []
    assert converge(other)
    assert compare(other) == []
    assert converge(wanted)
    assert compare(wanted) == []
    with Host("default", run_command) as host:
        probe(host)
    converge(())
    assert [table.name for table in netfilter.tables().values()] == ["before", "theirs"]
    assert namespaces.names() == []


@on_a_host
def test_our_unreadable_table_is_recreated() -> None:
    wanted = resources_of({"c1": {"networks": ["front"]}, "c2": {"networks": ["front"], "ports": ["80:80"]}})
    before = snapshot()
    converge(wanted)
    whole = snapshot()
    put("", ("inet", "cnm"))
    put("c1", ("inet", "cnm"))
    if not crashes(["", "c1"]):
        pytest.skip("this machine's nft reads what a newer one writes")
    expected = {"change nftables inet cnm (content)", "change nftables c1/inet cnm (content)"}
    assert set(compare(wanted)) == expected
    with Host("default", run_command) as host:
        probe(host)
    assert set(converge(wanted)) == expected
    becomes(whole)
    put("", ("inet", "cnm"))
    put("c2", ("inet", "cnm"), ("ip", "more"))
    converge(())
    becomes(before)


@on_a_host
def test_probe_and_teardown_modules() -> None:
    put("", ("ip", "theirs"), ("inet", "filter"))
    converge(resources_of(SMALL))
    put("c1", ("inet", "cnm"))
    said = entrypoints.probe("default", True, False, run_command)
    assert said["has_table"]
    entrypoints.converge(entrypoints.Request("default", absent=True), run_command)
    assert namespaces.names() == []


def test_the_user_s_rules_survive_a_copied_table() -> None:
    @on_a_host
    def work() -> None:
        wanted = resources_of(SMALL)
        converge(wanted)
        sh("nft add rule inet cnm user_forward ip saddr 192.0.2.9 drop; nft add chain inet cnm stray")
        put("", ("ip", "theirs"))
        assert converge(wanted) == ["change nftables inet cnm (chain stray)"]
        assert "192.0.2.9 drop" in sh("nft list table inet cnm")
        assert compare(wanted) == []

    work()


class TestContained:
    """What happens to the process of one piece of work."""

    @staticmethod
    def work(what: str) -> str:
        import ctypes
        import os
        import time

        if what == "crash":
            ctypes.string_at(0)
        if what == "hang":
            time.sleep(60)
        if what == "endless":
            return "x" * (contained._LONGEST + 1)
        if what == "end":
            os._exit(0)
        if what == "refuse":
            raise ValueError("no")
        return what

    def test_a_crash_affects_only_its_item(self) -> None:
        whats = ["a", "crash", "b", "hang", "refuse", "end", "endless", "c"]
        answers = contained.each(self.work, whats, patience=1.0)
        assert [answer.text for answer in answers] == ["a", "", "b", "", "", "", "", "c"]
        assert answers[4].error == "no"
        told = {what: answer.broken for what, answer in zip(whats, answers) if answer.broken}
        assert told == {
            "crash": "it crashed (SIGSEGV)",
            "hang": "it does not finish",
            "end": "it crashed",
            "endless": "its output is larger than 64 MB",
        }

    def test_no_items_start_no_process(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr("os.fork", partial(pytest.fail, "a process was made"))
        assert contained.each(self.work, []) == []
