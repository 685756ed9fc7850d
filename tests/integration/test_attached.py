# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: cnm.fabric contributors
"""Sandboxes in namespaces that somebody else owns: nothing of theirs changes, and nothing of ours is left."""

from __future__ import annotations

import os
import socket
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from host import a_plan, becomes, compare, converge, on_a_host, resources_of, run_command, sh, snapshot, the_same, works

from ansible_collections.cnm.fabric.plugins.module_utils import entrypoints
from ansible_collections.cnm.fabric.plugins.module_utils.engine import engine
from ansible_collections.cnm.fabric.plugins.module_utils.hostd.restore import Restoration, Restored
from ansible_collections.cnm.fabric.plugins.module_utils.kernel.netns_owners import Owned
from ansible_collections.cnm.fabric.plugins.module_utils.plan.links import Link, Namespace
from ansible_collections.cnm.fabric.plugins.module_utils.resources import foreign_netns_records

Sandboxes = dict[str, Any]
THEIRS = "/run/theirs/box"
MAKE = f"mkdir -p /run/theirs; : > {THEIRS}; unshare --net={THEIRS} true; nsenter --net={THEIRS} ip link set lo up"
IN_THEIRS = f"nsenter --net={THEIRS} "


def joined(**namespace: Any) -> Sandboxes:
    """``own`` of ours and ``c1`` in what the test says."""
    return {"c1": {"networks": ["front", "back"], "namespace": namespace}, "own": {"networks": ["front"]}}


BY_PATH = joined(path=THEIRS)


def theirs() -> str:
    """The owner's namespace as its own tools show it."""
    # Not what the kernel finds out in its own time: which links have a carrier, which IPv6 addresses are nobody else's.
    look = 'ip -o link | sed "s/<.*> //; s/ state [A-Z]*//"; ip -4 -o address; ip route | sed "s/ linkdown//"; '
    look += "nft list ruleset; sysctl net.ipv4.ip_forward; ip -o link show up lo | wc -l"
    return sh(f"{IN_THEIRS} sh -ec '{look}'")


@contextmanager
def a_process() -> Iterator[int]:
    """Somebody's process in a network namespace of its own, whose lo is up."""
    process = subprocess.Popen(
        ["unshare", "--net", "sh", "-c", "ip link set lo up; echo; exec sleep 1000"], stdout=subprocess.PIPE
    )
    assert process.stdout is not None
    process.stdout.readline()
    try:
        yield process.pid
    finally:
        process.kill()
        process.wait()


class TestAttached:
    @on_a_host
    def test_a_namespace_is_attached_by_its_path_and_detached(self) -> None:
        sh(MAKE)
        before, inside = snapshot(), theirs()
        wanted = resources_of(BY_PATH)
        assert "create namespace c1" in converge(wanted)
        assert sh("ip netns exec c1 ip -br link") == sh(f"{IN_THEIRS} ip -br link")
        works([("c1", "own", "10.0.0.3"), ("own", "c1", "10.0.0.2"), ("own", "c1.front", "10.0.0.2")])
        assert compare(wanted) == []
        assert converge(wanted) == []
        converge(())
        becomes(before)
        assert theirs() == inside

    @on_a_host
    def test_a_named_namespace_gets_a_second_name(self) -> None:
        sh("ip netns add theirs; ip -n theirs link set lo up; ip netns add more; ip -n more link set lo up")
        before = snapshot()
        wanted = resources_of(joined(path="/run/netns/theirs"))
        converge(wanted)
        works([("own", "c1", "10.0.0.2")])
        assert converge(wanted) == []
        other = resources_of(joined(path="/run/netns/more"))
        foretold = compare(other)
        assert converge(other) == foretold
        works([("own", "c1", "10.0.0.2")])
        assert converge(other) == []
        converge(())
        becomes(before)

    @on_a_host
    def test_a_namespace_that_already_has_the_name_keeps_it(self) -> None:
        sh("ip netns add c1; ip -n c1 link set lo up")
        before = snapshot()
        wanted = resources_of(joined(path="/run/netns/c1"))
        converge(wanted)
        works([("own", "c1", "10.0.0.2")])
        assert converge(wanted) == []
        converge(())
        becomes(before)

    @on_a_host
    def test_the_owner_s_objects_are_kept(self) -> None:
        sh(MAKE)
        sh(
            f"{IN_THEIRS} sh -ec 'ip link add dummy9 type bridge; ip link set dummy9 up;"
            "ip address add 192.0.2.9/24 dev dummy9; ip route add 198.51.100.0/24 via 192.0.2.1;"
            "nft add table inet mine; sysctl -qw net.ipv4.ip_forward=1; ip link set lo alias hello'"
        )
        inside = theirs()
        box = {**BY_PATH["c1"], "sysctls": {"net.ipv4.ip_forward": 0, "net.ipv4.tcp_syncookies": 0}}
        converge(resources_of({"c1": box}))
        assert sh(f"{IN_THEIRS} sysctl -n net.ipv4.ip_forward") == "0\n"
        converge(())
        assert theirs() == inside

    @on_a_host
    def test_a_process_is_attached_by_its_id_and_replaced_by_another(self) -> None:
        before = snapshot()
        with a_process() as first, a_process() as second:
            converge(resources_of(joined(pid=first)))
            works([("own", "c1", "10.0.0.2")])
            assert sh(f"nsenter --net=/proc/{first}/ns/net ip -br link show eth0")
            wanted = resources_of(joined(pid=second))
            foretold = compare(wanted)
            assert "replace namespace c1 (reference)" in foretold
            assert converge(wanted) == foretold
            works([("own", "c1", "10.0.0.2")])
            # The first is alive, and nothing of ours is in there.
            assert sh(f"nsenter --net=/proc/{first}/ns/net sh -c 'ip -br link; nft list ruleset'").count("\n") == 1
            assert compare(wanted) == []
            converge(())
            assert sh(f"nsenter --net=/proc/{second}/ns/net sh -c 'ip -br link; nft list ruleset'").count("\n") == 1
        becomes(before)

    @on_a_host
    def test_a_sandbox_moves_into_a_foreign_namespace_and_back(self) -> None:
        sh(MAKE)
        inside = theirs()
        own = {"c1": {"networks": ["front", "back"]}, "own": {"networks": ["front"]}}
        converge(resources_of(own))
        before = snapshot()
        for wanted in (BY_PATH, own):
            foretold = compare(resources_of(wanted))
            assert converge(resources_of(wanted)) == foretold
            works([("own", "c1", "10.0.0.2"), ("c1", "own", "10.0.0.3")])
        becomes(before)
        assert theirs() == inside


class TestReplacedNamespace:
    """The owner has another namespace now: a container that restarted."""

    AGAIN = f"umount -l {THEIRS}; {MAKE}"

    @on_a_host
    def test_the_new_namespace_is_connected_instead_of_the_old(self) -> None:
        sh(MAKE)
        before = snapshot()
        wanted = resources_of(BY_PATH)
        converge(wanted)
        sh(self.AGAIN)
        foretold = compare(wanted)
        assert "change namespace c1 (owner's namespace)" in foretold
        assert converge(wanted) == foretold
        assert compare(wanted) == []
        works([("own", "c1", "10.0.0.2"), ("c1", "own", "10.0.0.3")])
        assert sh("ip -br link show type veth").count("\n") == 2 + 1
        converge(())
        becomes(before)

    @on_a_host
    def test_an_old_namespace_kept_open_loses_our_objects(self) -> None:
        sh(MAKE)
        wanted = resources_of(BY_PATH)
        converge(wanted)
        with open(THEIRS, "rb") as held:
            sh(self.AGAIN)
            converge(wanted)
            assert "eth0" not in sh(f"nsenter --net=/proc/{os.getpid()}/fd/{held.fileno()} ip link")

    @on_a_host
    @pytest.mark.parametrize("ended", [False, True])
    def test_the_far_end_of_a_link_into_one_that_has_no_name_any_more_is_removed(self, ended: bool) -> None:
        sh(MAKE)
        made = a_plan(BY_PATH)
        entrypoints.converge(entrypoints.Request("default", made.to_json(), digest=made.digest), run_command)
        with open(THEIRS, "rb") as held:
            sh(f"umount -l /run/netns/c1; {self.AGAIN}")
            assert "eth0" in sh(f"nsenter --net=/proc/{os.getpid()}/fd/{held.fileno()} ip -br link")
            restoration, restored = Restoration("default", run_command, ""), Restored()
            if ended:
                restoration.disconnect(["c1"], lambda _name: "it has ended", restored)
                assert sh("ip -br link show type veth").count("\n") == 1
            else:
                restoration.connect({"c1": None}, restored)
                assert restored.failed == {}
                assert restored.changed.keys() == {
                    "sandbox c1",
                    *(f"network {it} in sandbox c1" for it in ("front", "back")),
                }
                works([("own", "c1", "10.0.0.2"), ("c1", "own", "10.0.0.3")])
                assert sh("ip -br link show type veth").count("\n") == 2 + 1

    @on_a_host
    def test_a_failed_run_leaves_the_new_namespace_unchanged(self) -> None:
        sh(MAKE)
        wanted = resources_of(BY_PATH)
        converge(wanted)
        sh(self.AGAIN)
        inside = theirs()
        with pytest.raises(engine.EngineError, match="The changes of this run were undone"):
            converge([*wanted, Link("", "br-wrong", "bridge", "network/wrong", mtu=20)])
        assert theirs() == inside
        converge(wanted)
        works([("own", "c1", "10.0.0.2")])

    @on_a_host
    def test_a_removed_name_is_restored(self) -> None:
        sh(MAKE)
        before = snapshot()
        wanted = resources_of(BY_PATH)
        converge(wanted)
        whole = snapshot()
        sh("umount /run/netns/c1; rm /run/netns/c1")
        assert converge(wanted) == ["change namespace c1 (owner's namespace)"]
        becomes(whole)
        sh("umount /run/netns/c1; rm /run/netns/c1")
        converge(())
        becomes(before)

    @on_a_host
    def test_a_lost_record_is_rebuilt(self) -> None:
        sh(MAKE)
        before = snapshot()
        wanted = resources_of(BY_PATH)
        converge(wanted)
        whole = snapshot()
        sh("rm -r /var/lib/cnm/default/attached")
        converge(wanted)
        becomes(whole)
        converge(())
        becomes(before)


def refusal(sandboxes: Sandboxes, check: bool = False) -> str:
    """Why a run ends with an error; all but the sandboxes that it names is as planned, and a check changes nothing."""
    before = snapshot()
    wanted = resources_of(sandboxes)
    with pytest.raises(engine.Broken) as error:
        converge(wanted, check=check)
    if check:
        the_same(before, snapshot())
    else:
        with pytest.raises(engine.Broken) as again:
            converge(wanted)
        assert again.value.operations == []
    return str(error.value)


class TestRefused:
    @pytest.mark.parametrize("check", [False, True])
    @on_a_host
    def test_all_unavailable_namespaces_are_named_at_once(self, check: bool) -> None:
        Path("/run/plain").write_text("")
        said = refusal(
            {
                "a": {"networks": ["front"], "namespace": {"pid": 4000000}},
                "b": {"networks": ["front"], "namespace": {"path": "/run/nowhere"}},
                "c": {"networks": ["front"], "namespace": {"path": "/run/plain"}},
                "d": {"networks": ["front"], "namespace": {"path": "/proc/self/ns/mnt"}},
                "e": {"networks": ["front"], "namespace": {"pid": os.getpid()}},
                "f": {"networks": ["front"], "namespace": {"docker": "gone"}},
                "g": {"networks": ["front"], "namespace": {"machine": "gone"}},
                "own1": {"networks": ["front"]},
                "own2": {"networks": ["front"]},
            },
            check,
        )
        for part in (
            "sandbox a: there is no process 4000000 on this host",
            "sandbox b: /run/nowhere does not exist",
            "sandbox c: /run/plain is not a network namespace",
            "sandbox d: /proc/self/ns/mnt is not a network namespace",
            f"sandbox e: the process {os.getpid()} is in the host's own network namespace",
            "sandbox f: no Docker Engine answers at unix:///var/run/docker.sock (No such file or directory)",
            "sandbox g: ",
        ):
            assert part in said, part
        if not check:
            works([("own1", "own2", "10.0.0.10"), ("own2", "own1", "10.0.0.9")])

    @on_a_host
    def test_a_socket_that_refuses(self) -> None:
        os.environ["DOCKER_HOST"] = "unix:///run/refusing"
        with socket.socket(socket.AF_UNIX) as bound:
            bound.bind("/run/refusing")
            assert "no Docker Engine answers at unix:///run/refusing (Connection refused)" in refusal(
                joined(docker="web")
            )
        os.environ["DOCKER_HOST"] = "tcp://192.0.2.1:2375"
        assert "set it to a Docker Engine on this host" in refusal(joined(docker="web"))

    @on_a_host
    def test_conflicting_links_and_routes_of_the_owner_are_named(self) -> None:
        sh(MAKE)
        sh(f"{IN_THEIRS} sh -ec 'ip link add eth0 type bridge; ip link set eth0 up; ip route add default dev eth0'")
        inside = theirs()
        said = refusal(BY_PATH)
        assert "link c1/eth0" in said
        assert "route c1/default" in said
        assert theirs() == inside
        converge(resources_of({"c1": {"networks": ["front"]}}))
        assert "link eth0" in refusal({"c1": {"networks": ["front"], "namespace": {"path": THEIRS}}})

    @on_a_host
    def test_a_namespace_that_cannot_be_a_sandbox(self) -> None:
        sh(MAKE)
        sh(f"{IN_THEIRS} ip link set lo down")
        assert "lo is down in the namespace of /run/theirs/box" in refusal(BY_PATH)
        sh(f"{IN_THEIRS} ip link set lo up; ln -s {THEIRS} /run/theirs/same")
        two = {
            name: {"networks": ["front"], "namespace": {"path": path}}
            for name, path in (("c1", THEIRS), ("c2", "/run/theirs/same"))
        }
        assert "is already the namespace of the sandbox c1" in refusal(two)
        converge(resources_of({"own": {"networks": ["front"]}}))
        ours = {"own": {"networks": ["front"]}, "c1": {"networks": ["front"], "namespace": {"path": "/run/netns/own"}}}
        assert "a namespace that this collection created" in refusal(ours)

    @on_a_host
    def test_a_name_in_use_is_refused(self) -> None:
        sh(f"{MAKE}; ip netns add c1")
        with pytest.raises(engine.ForeignConflict, match="namespace c1"):
            converge(resources_of(BY_PATH))


class TestFiles:
    """The owner's resolv.conf and hosts: what is written, kept and put back.  Real containers are in tests/parity."""

    @pytest.fixture
    def owned(self, tmp_path: Path) -> Owned:
        files = {"resolv.conf": tmp_path / "resolv.conf", "hosts": tmp_path / "hosts"}
        files["resolv.conf"].write_text("nameserver 192.0.2.1\n")
        files["hosts"].write_text("127.0.0.1 localhost\n192.0.2.7 db\n" * 20)
        return Owned("", 1, {name: str(path) for name, path in files.items()})

    WANTED = Namespace(
        "c1", files={"resolv.conf": "# cnm:default:sandbox/c1\nnameserver 127.0.0.11\n", "hosts": "# cnm:x\n"}
    )

    def said(self, owned: Owned) -> dict[str, str]:
        return {name: Path(path).read_text() for name, path in owned.files.items()}

    def test_the_owner_s_files_are_written_in_place_and_restored(self, owned: Owned) -> None:
        before, inodes = self.said(owned), [os.stat(path).st_ino for path in owned.files.values()]
        known = foreign_netns_records.put(owned, self.WANTED, {})
        foreign_netns_records.write(known, self.WANTED.files)
        now = self.said(owned)
        assert now["resolv.conf"] == self.WANTED.files["resolv.conf"]
        assert now["hosts"] == self.WANTED.files["hosts"] + before["hosts"]
        record = foreign_netns_records.Record("", "docker", "web", 1, files=known)
        assert foreign_netns_records.found_files(owned.files, record) == self.WANTED.files
        assert foreign_netns_records.put(owned, self.WANTED, known) == known
        foreign_netns_records.put_back(known)
        assert self.said(owned) == before
        assert [os.stat(path).st_ino for path in owned.files.values()] == inodes

    def test_a_file_rewritten_by_its_owner_is_not_restored(self, owned: Owned) -> None:
        known = foreign_netns_records.put(owned, self.WANTED, {})
        foreign_netns_records.write(known, self.WANTED.files)
        Path(owned.files["hosts"]).write_text("127.0.0.1 anew\n")
        record = foreign_netns_records.Record("", "docker", "web", 1, files=known)
        assert foreign_netns_records.found_files(owned.files, record)["hosts"] == "127.0.0.1 anew\n"
        again = foreign_netns_records.put(owned, self.WANTED, known)
        foreign_netns_records.write(again, self.WANTED.files)
        assert self.said(owned)["hosts"] == "# cnm:x\n127.0.0.1 anew\n"
        foreign_netns_records.put_back(again)
        assert self.said(owned) == {"resolv.conf": "nameserver 192.0.2.1\n", "hosts": "127.0.0.1 anew\n"}

    def test_missing_files_and_symlinks_are_not_written(self, owned: Owned, tmp_path: Path) -> None:
        known = foreign_netns_records.put(owned, self.WANTED, {})
        foreign_netns_records.write(known, self.WANTED.files)
        precious = tmp_path / "precious"
        precious.write_text("# cnm: precious")
        Path(owned.files["hosts"]).unlink()
        Path(owned.files["resolv.conf"]).unlink()
        Path(owned.files["resolv.conf"]).symlink_to(precious)
        foreign_netns_records.put_back(known)
        assert foreign_netns_records.put(owned, self.WANTED, {}) == {}
        assert precious.read_text() == "# cnm: precious"
