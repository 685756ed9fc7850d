# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: cnm.fabric contributors
"""Snapshots of namespaces that another process reads are those that this one would read."""

from __future__ import annotations

import os
import re
from unittest import mock

from host import a_plan, on_a_host, run_command, sh

from ansible_collections.cnm.fabric.plugins.module_utils import entrypoints
from ansible_collections.cnm.fabric.plugins.module_utils.kernel.host import Host, Snapshot

NAMES = [f"ns{number:03}" for number in range(128)]


@on_a_host
def test_snapshots_read_ahead_are_those_of_the_kernel() -> None:
    sh(
        f"for name in {' '.join(NAMES)}; do ip netns add $name; done; ip -n {NAMES[-2]} link add b0 type bridge; "
        f"ip -n {NAMES[-2]} address add 10.0.0.1/24 dev b0; ip -n {NAMES[-2]} link set b0 up; "
        f"ip netns exec {NAMES[-2]} nft add table inet t"
    )
    with (
        Host("default", run_command) as host,
        Host("default", run_command) as other,
        mock.patch("os.sched_getaffinity", lambda _process: {0, 1}),
    ):
        host.read_ahead([*NAMES, "zz-there-is-none"], {"more": lambda: ["plain", 1]})
        os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOWAIT)
        wanted = {name: other.snapshot(name) for name in NAMES}
        sh(f"ip netns del {NAMES[-1]}")
        assert {name: host.snapshot(name) for name in NAMES} == wanted
        assert {"lo", "b0"} == wanted[NAMES[-2]].links.keys()
        assert host.snapshot("zz-there-is-none") == Snapshot()
        assert not host.unreadable
        assert [host.take_ahead("more"), host.take_ahead("more")] == [["plain", 1], None]
        host.forget()
        assert host.snapshot(NAMES[-1]) == Snapshot()


@on_a_host
def test_of_few_namespaces_nothing_is_read_ahead() -> None:
    with Host("default", run_command) as host, mock.patch("os.sched_getaffinity", lambda _process: {0, 1}):
        for count, more in ((63, None), (64, ["plain", 1])):
            host.read_ahead(NAMES[:count], {"more": lambda: ["plain", 1]})
            assert host.take_ahead("more") == more


@on_a_host
def test_what_was_read_ahead_is_not_used_after_a_change() -> None:
    sh(f"for name in {' '.join(NAMES)}; do ip netns add $name; done")
    with Host("default", run_command) as host:
        host.read_ahead(NAMES, {})
        sh(f"ip netns del {NAMES[-1]}")
        host.forget(but_own=True)
        host.read_ahead(NAMES, {})
        host.forget()
        assert host.snapshot(NAMES[-1]) == Snapshot()
        assert "lo" in host.snapshot(NAMES[-2]).links


@on_a_host
def test_what_another_process_sees_of_many_sandboxes_is_what_one_sees() -> None:
    """Each drift of what is read ahead, by ``cnm status``."""
    made = a_plan({f"s{number:02}": {"networks": ["front"]} for number in range(70)})
    entrypoints.converge(entrypoints.Request("default", made.to_json(), digest=made.digest), run_command)
    assert sh("cnm status") == "project default: as planned\n"
    sh(
        "cd /run/cnm/default/resolvers; kill -STOP $(head -n 1 s65.pid); kill -9 $(head -n 1 s66.pid);"
        "echo cache-size=7 >>s67.conf; echo other >>/etc/netns/s68/resolv.conf;"
        "ip -n s69 address flush dev eth0; ip -n s01 link set eth0 mtu 1400"
    )
    alone, together = (sh(f"taskset -c {cpus} cnm status -v || :") for cpus in ("0", "0-1"))
    assert alone == together
    assert re.findall(r"^  .*sandbox (\w+) differs", together, re.MULTILINE) == [
        "s01",
        "s69",
        "s65",
        "s66",
        "s67",
        "s68",
    ]
    assert "cnm: " not in together
