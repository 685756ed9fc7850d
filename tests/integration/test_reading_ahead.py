# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: cnm.fabric contributors
"""Snapshots of namespaces that another process reads are those that this one would read."""

from __future__ import annotations

import os
from unittest import mock

from host import on_a_host, run_command, sh

from ansible_collections.cnm.fabric.plugins.module_utils.kernel.ahead import FEWEST
from ansible_collections.cnm.fabric.plugins.module_utils.kernel.host import Host, Snapshot

NAMES = [f"ns{number:03}" for number in range(2 * FEWEST)]


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
        host.read_ahead([*NAMES, "zz-there-is-none"])
        os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOWAIT)
        wanted = {name: other.snapshot(name) for name in NAMES}
        sh(f"ip netns del {NAMES[-1]}")
        assert {name: host.snapshot(name) for name in NAMES} == wanted
        assert {"lo", "b0"} == wanted[NAMES[-2]].links.keys()
        assert host.snapshot("zz-there-is-none") == Snapshot()
        assert not host.unreadable
        host.forget()
        assert host.snapshot(NAMES[-1]) == Snapshot()


@on_a_host
def test_what_was_read_ahead_is_not_used_after_a_change() -> None:
    sh(f"for name in {' '.join(NAMES)}; do ip netns add $name; done")
    with Host("default", run_command) as host:
        host.read_ahead(NAMES)
        sh(f"ip netns del {NAMES[-1]}")
        host.forget(but_own=True)
        host.read_ahead(NAMES)
        host.forget()
        assert host.snapshot(NAMES[-1]) == Snapshot()
        assert "lo" in host.snapshot(NAMES[-2]).links
