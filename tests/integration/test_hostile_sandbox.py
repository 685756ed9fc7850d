# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: cnm.fabric contributors
"""What root in a sandbox, or a local user, can do so that a run on the host stops: it does not.

Each is done from where the attacker is.  His sandbox is repaired, is made anew, or fails alone.
"""

from __future__ import annotations

import json
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import pytest
from host import SMALL, a_plan, becomes, compare, converge, on_a_host, resources_of, run_command, sh, snapshot, works
from sampling import WHOLE

from ansible_collections.cnm.fabric.plugins.module_utils import entrypoints, verification
from ansible_collections.cnm.fabric.plugins.module_utils.engine import engine
from ansible_collections.cnm.fabric.plugins.module_utils.kernel import host as kernel_host
from ansible_collections.cnm.fabric.plugins.module_utils.kernel import namespaces, netfilter
from ansible_collections.cnm.fabric.plugins.module_utils.plan.codec import content_digest

IN = "ip netns exec c1 "


@contextmanager
def holding(script: str, *where: str) -> Iterator[int]:
    """A process of the attacker's in his sandbox, or elsewhere, that goes on after it has said that it is ready."""
    command = [*(where or ("ip", "netns", "exec", "c1")), "sh", "-c", script]
    process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    assert process.stdout.readline() == "ready\n"
    try:
        yield process.pid
    finally:
        process.kill()
        for stream in (process.stdin, process.stdout):
            if stream is not None:
                stream.close()
        process.wait()


@contextmanager
def owning(name: str = "c1", *where: str) -> Iterator[None]:
    """A process in a sandbox that has our table for itself."""
    script = "{ echo 'delete table inet cnm'; echo 'table inet cnm { flags owner; chain c { }; }'; cat; } | nft -i"
    with holding(f"echo ready; {script}", *where):
        deadline = time.monotonic() + 5
        while not any(table.owned for table in namespaces.run(name, netfilter.tables).values()):
            assert time.monotonic() < deadline
            time.sleep(0.02)
        yield


class TestOwnSandbox:
    @pytest.mark.parametrize(
        "alias", ['""', *(f"cnm:{mark}" for mark in ("default:sandbox/o", "o:sandbox/c1", "default:single_object/x"))]
    )
    @on_a_host
    def test_a_changed_mark_is_drift(self, alias: str) -> None:
        wanted = resources_of(SMALL)
        before = snapshot()
        converge(wanted)
        whole = snapshot()
        sh(f"{IN} ip link set lo alias {alias}")
        assert converge(wanted) == ["change namespace c1 (role)"]
        becomes(whole)
        sh(f"{IN} ip link set lo alias {alias}")
        converge(())
        becomes(before)

    @pytest.mark.parametrize("wanting", [True, False])
    @on_a_host
    def test_a_sandbox_whose_table_a_process_owns_is_recreated(self, wanting: bool) -> None:
        wanted = resources_of(SMALL) if wanting else ()
        before = snapshot()
        converge(resources_of(SMALL))
        with owning():
            foretold = compare(wanted)
            assert converge(wanted) == foretold
            assert compare(wanted) == []
            if wanting:
                assert "replace namespace c1 (content)" in foretold
                assert not any("c2" in text for text in foretold)
                works([("c1", "c2", "10.0.0.3"), ("c2", "c1", "10.0.0.2")])
        converge(())
        becomes(before)


THEIRS = "/run/theirs/box"
MAKE = f"mkdir -p /run/theirs; : > {THEIRS}; unshare --net={THEIRS} true; nsenter --net={THEIRS} ip link set lo up"
THERE = f"nsenter --net={THEIRS}"
ATTACHED: dict[str, Any] = {
    "c1": {"networks": ["front"]},
    "c2": {"networks": ["front"]},
    "box": {"networks": ["front"], "namespace": {"path": THEIRS}},
}


class TestContainer:
    """Root in a namespace that is not ours, which is a sandbox: it is not made anew, and fails alone."""

    @pytest.mark.parametrize(
        ("harm", "mend", "sentence"),
        [
            (
                "ip link delete eth0; ip link add eth0 type bridge",
                "ip link delete eth0",
                "already in its namespace and not created by this project: link box/eth0",
            ),
            ("ip link set eth0 alias mine", "ip link delete eth0", "link box/eth0"),
            ("ip link set lo down", "ip link set lo up", "lo is down"),
            ("ip link set lo alias cnm:default:sandbox/box", "ip link set lo alias ''", "this collection created"),
        ],
    )
    @on_a_host
    def test_a_conflicting_link_in_a_container_fails_alone(self, harm: str, mend: str, sentence: str) -> None:
        sh(MAKE)
        before = snapshot()
        wanted = resources_of(ATTACHED)
        converge(wanted)
        whole = snapshot()
        sh(f'{THERE} sh -ec "{harm}"; ip netns delete c1')
        for _again in range(2):
            with pytest.raises(engine.Broken, match=sentence):
                converge(wanted)
            works([("c1", "c2", "10.0.0.4"), ("c2", "c1", "10.0.0.3")])
        sh(f'{THERE} sh -ec "{mend}"')
        converge(wanted)
        becomes(whole)
        sh(f'{THERE} sh -ec "{harm}"')
        converge(())
        sh(f'{THERE} sh -ec "{mend}" || true')
        becomes(before)

    @on_a_host
    def test_a_container_that_owns_our_table_fails_alone(self) -> None:
        sh(MAKE)
        wanted = resources_of(ATTACHED)
        converge(wanted)
        with owning("box", "nsenter", f"--net={THEIRS}"):
            sh("ip netns delete c1")
            with pytest.raises(engine.Broken, match=r"sandbox box: .*nftables box/inet cnm"):
                converge(wanted)
            works([("c1", "c2", "10.0.0.4"), ("c2", "c1", "10.0.0.3")])
            converge(resources_of(SMALL))
            assert compare(resources_of(SMALL)) == []
        converge(())

    @on_a_host
    def test_the_module_keeps_the_plan_and_says_so(self) -> None:
        sh(MAKE)
        plan = a_plan(ATTACHED).to_json()
        request = entrypoints.Request("default", plan=plan, digest=content_digest(plan), revision=1)
        entrypoints.converge(request, run_command)
        assert entrypoints.probe("default", False, False, run_command)["settled"]
        sh(f"{THERE} ip link set lo down")
        with pytest.raises(entrypoints.Partly, match="sandbox box: lo is down") as error:
            entrypoints.converge(request, run_command)
        assert error.value.result["changed"] is False
        said = entrypoints.probe("default", True, False, run_command)
        assert not said["settled"]
        assert [item["name"] for item in said["drift"]] == ["box"]
        misses = verification.verify("default", content_digest(plan), [], run_command)["misses"]
        assert [(item["target"], item["found"].partition(":")[0]) for item in misses] == [
            ("sandbox box", "is unavailable")
        ]
        with pytest.raises(entrypoints.Partly, match="sandbox box: lo is down"):
            entrypoints.converge(replace(request, check=True), run_command)
        sh(f"{THERE} ip link set lo up")
        assert not entrypoints.converge(request, run_command)["changed"]
        entrypoints.converge(entrypoints.Request("default", absent=True), run_command)
        assert namespaces.names() == []


class TestForged:
    """Marks in namespaces that are not ours."""

    @pytest.mark.parametrize("record", ["kept", "lost"])
    @on_a_host
    def test_a_forged_mark_on_a_loopback_removes_no_namespace(self, record: str) -> None:
        sh("ip netns add theirs; ip -n theirs link set lo alias cnm:default:sandbox/theirs")
        plan = a_plan(SMALL).to_json()
        request = entrypoints.Request("default", plan=plan, digest=content_digest(plan), revision=1)
        inside = ("unshare", "--user", "--map-root-user", "--net")
        with holding("ip link set lo alias cnm:default:sandbox/forged; echo ready; cat", *inside) as process:
            sh(f"ip netns attach forged {process}")
            entrypoints.converge(request, run_command)
            if record == "lost":
                sh("rm /run/cnm/default/namespaces.json")
            done = entrypoints.converge(request, run_command)["operations"]
            assert [item["name"] for item in done] == ([] if record == "kept" else ["c1", "c2"])
            assert entrypoints.converge(request, run_command)["operations"] == []
            entrypoints.converge(entrypoints.Request("default", absent=True), run_command)
            assert namespaces.names() == ["forged", "theirs"]
            sh("umount /run/netns/forged; rm /run/netns/forged")

    @on_a_host
    def test_a_marked_namespace_of_another_user_is_never_ours(self) -> None:
        plan = a_plan(SMALL).to_json()
        entrypoints.converge(entrypoints.Request("default", plan=plan, revision=1), run_command)
        sh("ip netns delete c1; rm /run/cnm/default/namespaces.json")
        with holding("ip link set lo alias cnm:default:sandbox/c1; echo ready; cat", "unshare", "-Urn") as process:
            sh(f"ip netns attach c1 {process}")
            with pytest.raises(
                entrypoints.Refused, match=r"already on this host and not created by this project.*namespace c1"
            ):
                entrypoints.converge(entrypoints.Request("default", plan=plan, revision=1), run_command)
            entrypoints.converge(entrypoints.Request("default", absent=True), run_command)
            assert namespaces.names() == ["c1"]

    @on_a_host
    def test_marks_in_foreign_namespaces_are_ignored(self) -> None:
        wanted = resources_of(SMALL)
        converge(wanted)
        sh("ip netns add aaa; ip -n aaa link add br0 type bridge")
        sh("ip -n aaa link add port type veth peer name other; ip -n aaa link set br0 alias cnm:default:network/front")
        sh("ip -n aaa link set port alias cnm:default:port:endpoint/front/c1")
        assert compare(wanted) == []
        converge(())
        assert "br0" in sh("ip -n aaa link") and "port" in sh("ip -n aaa link")


MANY = 100 if WHOLE else 10
"""MANY * 200 entries are read at most, MANY * 201 exist.  The kernel's time grows with the square of the addresses."""


class TestUnusualContent:
    @on_a_host
    def test_names_and_aliases_that_are_not_utf_8(self) -> None:
        wanted = resources_of(SMALL)
        converge(wanted)
        subprocess.run([b"ip", b"-n", b"c1", b"link", b"add", b"\xff\xfe", b"type", b"bridge"], check=True)
        alias = b"cnm:default:endpoint/\xff"
        subprocess.run([b"ip", b"-n", b"c1", b"link", b"set", b"\xff\xfe", b"alias", alias], check=True)
        plan = a_plan(SMALL).to_json()
        request = entrypoints.Request("default", plan=plan, digest=content_digest(plan), revision=1)
        said = entrypoints.converge(request, run_command)
        json.dumps(said, ensure_ascii=False).encode()
        assert [item["name"] for item in said["operations"]] == ["c1/\\xff\\xfe"]
        json.dumps(entrypoints.probe("default", True, True, run_command), ensure_ascii=False).encode()
        assert compare(wanted) == []

    @pytest.mark.parametrize(
        "harm",
        [
            "for n in $(seq 400); do echo link add d$n type bridge; echo link set d$n alias cnm:default:network/d;done",
            f"for a in $(seq {MANY}); do for b in $(seq 201); do echo route add 198.18.$a.$b/32 dev lo; done; done",
            f"for a in $(seq {MANY}); do for b in $(seq 201); do echo address add 198.18.$a.$b/32 dev lo; done; done",
        ],
        ids=["links", "routes", "addresses"],
    )
    @on_a_host
    def test_excessive_numbers_of_objects(self, harm: str, monkeypatch: pytest.MonkeyPatch) -> None:
        if not WHOLE:
            monkeypatch.setattr(kernel_host, "_ENTRIES_AT_MOST", MANY * 200)
        wanted = resources_of(SMALL)
        converge(wanted)
        whole = snapshot()
        sh(f"({harm}) | ip -n c1 -batch -")
        started = time.monotonic()
        assert converge(wanted)
        assert time.monotonic() - started < 10
        assert compare(wanted) == []
        becomes(whole)

    @on_a_host
    def test_a_held_lock_of_the_namespace_directory(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(namespaces, "_PATIENCE_S", 0.2)
        wanted = resources_of(SMALL)
        converge(wanted)
        lock = "import fcntl, os, sys; fcntl.flock(os.open('/run/netns', 0), 2); print('ready', flush=True)"
        lock += "; sys.stdin.read()"
        nobody = ("setpriv", "--reuid=65534", "--regid=65534", "--clear-groups")
        with holding(f'exec /usr/bin/python3 -c "{lock}"', *nobody) as it:
            assert converge(wanted) == []
            sh("ip -n c1 link delete eth0")
            converge(wanted)
            more = resources_of({**SMALL, "c3": {"networks": ["front"]}})
            with pytest.raises(engine.EngineError, match=rf"\(process {it}\) has held its lock") as error:
                converge(more)
            assert "were undone" in str(error.value)
        converge(more)
