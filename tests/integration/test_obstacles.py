# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: cnm.fabric contributors
"""What a host says of itself that may be in a plan's way, and sandboxes in which somebody's processes run."""

from __future__ import annotations

import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import pytest
from host import SMALL, a_plan, differing, on_a_host, run_command, sh, snapshot, the_same

from ansible_collections.cnm.fabric.plugins.module_utils import entrypoints, single_object
from ansible_collections.cnm.fabric.plugins.module_utils.kernel import modules, namespaces
from ansible_collections.cnm.fabric.plugins.module_utils.plan.links import Namespace
from ansible_collections.cnm.fabric.plugins.module_utils.plan.marks import SINGLE_OBJECT
from ansible_collections.cnm.fabric.plugins.module_utils.probe.obstacles import LINK_TYPES, Obstacles

C2 = {"c2": SMALL["c2"]}
LOCK = "/run/cnm/lock.json"


@contextmanager
def running(number: int, *where: str) -> Iterator[list[int]]:
    """As many processes somewhere, each told from its shell; they have started."""
    started = [subprocess.Popen([*where, "sleep", "300"]) for _each in range(number)]
    try:
        for process in started:
            deadline = time.monotonic() + 5
            while sh(f"cat /proc/{process.pid}/comm") != "sleep\n":
                assert time.monotonic() < deadline
                time.sleep(0.01)
        yield [process.pid for process in started]
    finally:
        for process in started:
            process.kill()
            process.wait()


IN_C1 = ("ip", "netns", "exec", "c1")


def request(sandboxes: dict[str, Any], **more: Any) -> entrypoints.Request:
    made = a_plan(sandboxes)
    return entrypoints.Request("default", made.to_json(), digest=made.digest, revision=1, **more)


def found(owners: tuple[dict[str, str], ...] = (), staying: Any = None) -> dict[str, Any]:
    """What the probe says is in the way."""
    answer = entrypoints.probe("default", False, False, run_command, obstacles=Obstacles(owners, staying))
    return {name: answer[name] for name in ("missing_links", "foreign", "absent_owners", "occupied")}


class TestProcesses:
    @on_a_host
    def test_a_sandbox_with_processes_is_not_removed_and_they_are_named(self) -> None:
        entrypoints.converge(request(SMALL), run_command)
        before = snapshot()
        with running(5, *IN_C1) as pids:
            words = ", ".join(rf"sleep \({pid}\)" for pid in pids[:3])
            said = rf"^sandbox c1 is to be removed, and processes run in it: {words} and 2 more\. .*cnm_force=true"
            for wanted in (request(C2), request({}, absent=True)):
                for check in (True, False):
                    with pytest.raises(entrypoints.Refused, match=said):
                        entrypoints.converge(replace(wanted, check=check), run_command)
                    assert differing(before, snapshot()).keys() <= {LOCK}
            entrypoints.converge(replace(request(C2), force=True), run_command)
            assert namespaces.names() == ["c2"]
            assert [sh(f"cat /proc/{pid}/comm") for pid in pids] == ["sleep\n"] * 5

    @on_a_host
    def test_one_without_goes_as_its_resolver_is_ours(self) -> None:
        before = snapshot()
        entrypoints.converge(request(SMALL), run_command)
        with running(1, "ip", "netns", "exec", "c2"):
            assert found(staying=["c1", "c2"])["occupied"] == {}
            assert found(staying=[])["occupied"].keys() == {"c2"}
            assert entrypoints.converge(request(C2), run_command)["changed"]
        entrypoints.converge(request({}, absent=True), run_command)
        the_same(before, snapshot())

    @on_a_host
    def test_one_that_a_module_made_is_no_sandbox_that_goes(self) -> None:
        blue = single_object.DesiredObject((Namespace("blue", SINGLE_OBJECT + "namespace"),))
        gone = single_object.DesiredObject(blue.resources, (("link", "blue"),))
        single_object.converge(blue, entrypoints.Request("default"), run_command)
        with running(1, "ip", "netns", "exec", "blue"):
            assert found(staying=[])["occupied"] == {}
            entrypoints.converge(request(C2), run_command)
            said = "namespace blue is to be removed, and processes run in it: sleep"
            with pytest.raises(entrypoints.Refused, match=said):
                single_object.converge(gone, entrypoints.Request("default", absent=True), run_command)
            with pytest.raises(entrypoints.Refused, match=said):
                entrypoints.converge(request({}, absent=True), run_command)
            single_object.converge(gone, entrypoints.Request("default", absent=True, force=True), run_command)
        assert namespaces.names() == ["c2"]

    @on_a_host
    def test_a_namespace_that_becomes_a_container_s_is_removed_too(self) -> None:
        entrypoints.converge(request(SMALL), run_command)
        sh("ip netns add theirs; ip -n theirs link set lo up")
        theirs = {**SMALL, "c1": {"networks": ["front"], "namespace": {"path": "/run/netns/theirs"}}}
        with running(1, *IN_C1), pytest.raises(entrypoints.Refused, match="sandbox c1 is to be removed, and processes"):
            entrypoints.converge(request(theirs), run_command)
        entrypoints.converge(request(theirs), run_command)
        with running(1, "ip", "netns", "exec", "theirs"):
            entrypoints.converge(request(C2), run_command)
            assert "theirs" in namespaces.names(), "one of others is let go, and stays"

    @on_a_host
    def test_what_its_root_writes_on_lo_takes_the_protection_from_nobody(self) -> None:
        entrypoints.converge(request(SMALL), run_command)
        sh('ip -n c1 link set lo alias ""')
        with running(1, *IN_C1), pytest.raises(entrypoints.Refused, match="sandbox c1 is to be removed"):
            entrypoints.converge(request(C2), run_command)


class TestProbe:
    @on_a_host
    def test_objects_of_others_are_told_and_ours_are_not(self) -> None:
        sh("ip link add br-x type bridge; ip netns add other; nft add table inet cnm; nft add table inet theirs")
        before = found()["foreign"]
        assert "br-x" in before["link"]
        assert (before["namespace"], before["nftables"]) == (["other"], ["inet cnm"])
        sh("nft delete table inet cnm")
        entrypoints.converge(request(SMALL), run_command)
        after = found()["foreign"]
        assert after == {**before, "nftables": []}

    @on_a_host
    def test_owners_are_looked_for(self) -> None:
        sh("ip netns add other")
        with running(1) as (here,):
            asked = (
                {"owner": "path", "reference": "/run/netns/other"},
                {"owner": "path", "reference": "/run/netns/none"},
                {"owner": "pid", "reference": str(here)},
                {"owner": "pid", "reference": "-1"},
                {"owner": "docker", "reference": "web"},
            )
            answers = {item["reference"]: item["problem"] for item in found(asked)["absent_owners"]}
        assert answers.keys() == {"/run/netns/none", str(here), "-1", "web"}
        assert answers["/run/netns/none"] == "/run/netns/none does not exist"
        assert "in the host's own network namespace" in answers[str(here)]
        assert "no Docker Engine answers" in answers["web"]

    @on_a_host
    def test_one_of_the_kept_plan_that_has_gone_is_told_as_such(self) -> None:
        sh("ip netns add other; ip -n other link set lo up")
        asked = {"owner": "path", "reference": "/run/netns/other"}
        entrypoints.converge(
            request({**C2, "box": {"networks": ["front"], "namespace": {"path": asked["reference"]}}}), run_command
        )
        assert found((asked,))["absent_owners"] == []
        sh("ip netns delete other; umount /run/netns/box; rm /run/netns/box")
        (said,) = found((asked,))["absent_owners"]
        assert said == {**asked, "problem": "/run/netns/other does not exist", "kept": True}

    @on_a_host
    def test_types_of_links_are_those_that_ip_can_make(self) -> None:
        below = {"macvlan": "link d0", "ipvlan": "link d0", "vlan": "link d0"}
        more = {"vlan": "id 7", "vxlan": "id 7 dstport 4789 dev d0"}

        def fails(kind: str) -> bool:
            script = f"ip link add d0 type ifb; ip link add t0 {below.get(kind, '')} type {kind} {more.get(kind, '')}"
            return (
                subprocess.run(["unshare", "-n", "sh", "-c", script], capture_output=True, check=False).returncode > 0
            )

        assert modules.missing_link_types([*LINK_TYPES, "nonsense"], run_command) == sorted(
            ["nonsense", *(kind for kind in LINK_TYPES if fails(kind))]
        )
