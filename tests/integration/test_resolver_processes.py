# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: cnm.fabric contributors
"""Which processes are resolvers of ours, and what others can do to them: from the attacker's side.

Attackers here are processes of the unprivileged user nobody, or of the resolvers' own user inside one of them.
"""

from __future__ import annotations

import contextlib
import errno
import json
import os
import pwd
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Optional

import dns.message
import dns.query
import dns.rdataclass
import lookalike
import pytest
from asking import RESOLVER, in_namespace
from host import SMALL, a_plan, compare, converge, on_a_host, resources_of, sh, works

from ansible_collections.cnm.fabric.plugins.module_utils.engine import engine
from ansible_collections.cnm.fabric.plugins.module_utils.kernel import namespaces
from ansible_collections.cnm.fabric.plugins.module_utils.resources import resolver
from ansible_collections.cnm.fabric.plugins.module_utils.state.kept import State

NOBODY = 65534
PORT = 20053
FILES = Path("/run/cnm/default/resolvers")


@contextlib.contextmanager
def attacker(script: str, *arguments: str, uid: int = NOBODY, sandbox: str = "") -> Iterator[subprocess.Popen[str]]:
    """A process of that user in a sandbox, once it has said that it is ready."""
    inside = ["nsenter", f"--net=/run/netns/{sandbox}"] if sandbox else []
    argv = [*inside, "setpriv", f"--reuid={uid}", f"--regid={uid}", "--clear-groups", "/usr/bin/python3", "-c", script]
    with subprocess.Popen([*argv, *arguments], stdout=subprocess.PIPE, text=True, cwd="/") as process:
        try:
            assert process.stdout is not None
            assert process.stdout.readline() == "ready\n"
            yield process
        finally:
            process.kill()


def pid(sandbox: str) -> int:
    return int((FILES / f"{sandbox}.pid").read_text().splitlines()[0])


def resolvers() -> list[int]:
    """Every dnsmasq on the host, by the file it runs."""
    found = []
    for path in Path("/proc").iterdir():
        with contextlib.suppress(OSError):
            if path.name.isdigit() and os.readlink(path / "exe").endswith("/dnsmasq"):
                found.append(int(path.name))
    return found


def keep_plan() -> None:
    """As a run of the module does; by it namespaces are known whose record is lost."""
    made = a_plan(SMALL)
    State("default").keep(made.to_json(), made.digest, 1, {})


def alive(process: subprocess.Popen[str]) -> bool:
    return process.poll() is None


class TestLookalikeProcesses:
    @on_a_host
    def test_a_forged_command_line_has_no_effect(self) -> None:
        sh(lookalike.PLACES)
        wanted = resources_of(SMALL)
        converge(wanted)
        with contextlib.ExitStack() as stack:
            padding = "-" * 200
            evil = [stack.enter_context(attacker(lookalike.SCRIPT, target, padding)) for target in lookalike.TARGETS]
            assert f"--conf-file={lookalike.TARGETS[0]}\0" in Path(f"/proc/{evil[0].pid}/cmdline").read_text()
            assert compare(wanted) == []
            assert converge(wanted) == []
            converge(())
            assert all(alive(process) for process in evil)
        sh(lookalike.UNHARMED)

    @on_a_host
    def test_a_process_named_like_ours_is_not_killed(self) -> None:
        wanted = resources_of(SMALL)
        converge(wanted)
        with attacker(lookalike.SCRIPT, f"{FILES}/c1.conf", "-" * 200, sandbox="c1") as process:
            assert Path(f"/proc/{process.pid}/comm").read_text() == "dnsmasq\n"
            assert compare(wanted) == []
            converge(())
            assert alive(process)
        assert resolvers() == []

    @pytest.mark.parametrize("name", ["../../../../var/tmp/x", "..", ".hidden", "a b", "é"])
    @on_a_host
    def test_files_without_a_sandbox_s_name_are_not_read(self, name: str) -> None:
        wanted = resources_of(SMALL)
        converge(wanted)
        with contextlib.suppress(OSError):
            (FILES / f"{name}.conf").write_text("port=53\n")
        assert compare(wanted) == []

    @on_a_host
    def test_a_directory_that_others_can_write_to_is_refused(self) -> None:
        wanted = resources_of(SMALL)
        converge(wanted)
        FILES.chmod(0o777)
        with pytest.raises(engine.EXPECTED, match=rf"users other than root can write to {FILES}.*chmod go-w {FILES}"):
            compare(wanted)


class TestRecords:
    @on_a_host
    def test_a_record_is_private_and_identifies_one_process(self) -> None:
        wanted = resources_of(SMALL)
        converge(wanted)
        path = FILES / "c1.pid"
        assert path.stat().st_mode & 0o777 == 0o600
        first, second = path.read_text().splitlines()
        known = json.loads(second)
        assert known["pid"] == int(first)
        # another that has its id by now: as after many processes, or a reboot with the file kept
        with subprocess.Popen(["sleep", "600"]) as victim:
            for harm in ({"pid": victim.pid}, {"pid": victim.pid, "program": "sleep"}, {"started": 1}, {"boot": "x"}):
                path.write_text(f"{first}\n{json.dumps({**known, **harm})}\n")
                assert compare(wanted) == ["change resolver c1 (running)"]
                assert converge(wanted) == ["change resolver c1 (running)"]
                assert victim.poll() is None
                known = json.loads(path.read_text().splitlines()[1])
            path.write_text(f"{victim.pid}\n{json.dumps({**known, 'pid': victim.pid})}\n")
            converge(())
            assert victim.poll() is None
            victim.kill()
        assert resolvers() == []

    @pytest.mark.parametrize("text", ["", "1\n", "1\n[]\n", '1\n{"pid": 1}\n', "1\n{", "\xff\n\xff\n"])
    @on_a_host
    def test_an_unreadable_record_loses_no_process(self, text: str) -> None:
        wanted = resources_of(SMALL)
        converge(wanted)
        before = pid("c1")
        (FILES / "c1.pid").write_text(text, encoding="latin-1")
        assert converge(wanted) == ["change resolver c1 (running)"]
        assert compare(wanted) == []
        assert len(resolvers()) == 2
        assert before not in resolvers()

    @pytest.mark.parametrize("then", [SMALL, {"c2": SMALL["c2"]}, {}])
    @pytest.mark.parametrize("lost", ["/run/cnm", f"{FILES}/c1.pid", f"{FILES}"])
    @on_a_host
    def test_a_lost_record_loses_no_process(self, lost: str, then: dict[str, Any]) -> None:
        converge(resources_of(SMALL))
        keep_plan()
        sh(f"rm -r {lost}")
        converge(resources_of(then))
        assert compare(resources_of(then)) == []
        assert len(resolvers()) == len(then)

    @pytest.mark.parametrize("then", [SMALL, {"c2": SMALL["c2"]}, {}])
    @pytest.mark.parametrize("at", ["processes.record", "processes.keep_for_itself"])
    @pytest.mark.parametrize("call", range(4))
    @on_a_host
    def test_a_run_killed_while_starting_resolvers_loses_none(self, call: int, at: str, then: dict[str, Any]) -> None:
        with _killed_at(at, call):
            converge(resources_of(SMALL))
        converge(resources_of(then))
        assert compare(resources_of(then)) == []
        assert len(resolvers()) == len(then)

    @on_a_host
    def test_resolvers_of_another_project_are_not_touched(self) -> None:
        ours, theirs = a_plan(SMALL).resources, a_plan({"d1": {"networks": ["back"]}}, project="two").resources
        converge(ours)
        converge(theirs, project="two")
        keep_plan()
        sh("rm -r /run/cnm/default")
        converge(ours)
        assert compare(theirs, project="two") == []
        converge(())
        assert compare(theirs, project="two") == []
        assert len(resolvers()) == 1


class _Killed(BaseException):
    """The run is cut off here: nothing is undone."""


@contextlib.contextmanager
def _killed_at(name: str, call: int) -> Iterator[None]:
    """A run is killed at that call of a function, if it comes so far."""
    path, _dot, last = name.rpartition(".")
    owner = getattr(resolver, path) if path else resolver
    original, calls = getattr(owner, last), iter(range(1000))

    def die(*arguments: Any) -> Any:
        if next(calls) == call:
            raise _Killed
        return original(*arguments)

    setattr(owner, last, die)
    try:
        yield
    except _Killed:
        pass
    finally:
        setattr(owner, last, original)


class TestIsolation:
    """What a resolver is given, and what somebody who has taken one over can do."""

    @on_a_host
    def test_a_resolver_inherits_nothing_from_the_run(self) -> None:
        os.set_inheritable(leak := os.open("/etc/shadow", os.O_RDONLY), True)
        converge(resources_of(SMALL))
        os.close(leak)
        (one, other) = (pid(name) for name in SMALL)
        status = dict(line.split(":\t", 1) for line in Path(f"/proc/{one}/status").read_text().splitlines())
        uid = str(pwd.getpwnam("cnm-resolver").pw_uid)
        assert status["Uid"].split() == [uid] * 4
        assert status["Groups"].split() == []
        assert status["Umask"] == "0022"
        assert {int(status[name], 16) for name in ("CapEff", "CapPrm", "CapInh", "CapAmb")} == {0}
        assert status["NSpid"].split()[-1] == "1"
        assert os.stat(f"/proc/{one}/ns/pid").st_ino != os.stat(f"/proc/{other}/ns/pid").st_ino
        assert os.getsid(one) == one
        assert os.readlink(f"/proc/{one}/cwd") == "/"
        opened = [os.readlink(path) for path in Path(f"/proc/{one}/fd").iterdir()]
        assert opened.count("/dev/null") == 3
        assert {name.partition(":")[0] for name in opened if name != "/dev/null"} <= {"socket", "pipe", "anon_inode"}
        assert Path(f"/proc/{one}/oom_score_adj").read_text() == "0\n"

    @on_a_host
    def test_a_compromised_resolver_cannot_reach_others(self) -> None:
        converge(resources_of(SMALL))
        own, other = pid("c1"), pid("c2")
        here = os.stat(f"/proc/{other}/ns/pid").st_ino

        def harm() -> list[str]:
            """As the code of dnsmasq: the resolvers' user, in the namespaces of one of them."""
            done = []
            for attempt in sorted({*range(1, 5000), own, other} - {os.getpid()}):
                with contextlib.suppress(OSError):
                    os.kill(attempt, signal.SIGKILL)
                    done.append(f"kill {attempt}")
            for path in (f"/proc/{other}/mem", f"/proc/{other}/maps", f"/proc/{other}/environ"):
                with contextlib.suppress(OSError), open(path, "rb") as stream:
                    stream.read(1)
                    done.append(f"read {path}")
            for name in ("fd", "ns/net"):
                with contextlib.suppress(OSError):
                    os.listdir(f"/proc/{other}/fd") if name == "fd" else os.readlink(f"/proc/{other}/{name}")
                    done.append(f"looked at {name}")
            return done

        # It finds itself, and nobody else.
        assert _as_a_resolver(own, harm) in (["kill 1"], [])
        assert os.stat(f"/proc/{other}/ns/pid").st_ino == here
        works([("c2", "c1", "10.0.0.2")])

    @on_a_host
    def test_user_nobody_cannot_end_a_resolver(self) -> None:
        wanted = resources_of(SMALL)
        converge(wanted)
        script = (
            "import os, sys\nfor pid in map(int, sys.argv[1:]):\n try: os.kill(pid, 9)\n except PermissionError: pass\n"
        )
        with attacker(script + "print('ready')", *(str(pid(name)) for name in SMALL)):
            assert compare(wanted) == []

    @on_a_host
    def test_a_resolver_with_a_tcp_child_counts_as_one(self) -> None:
        wanted = resources_of(SMALL)
        converge(wanted)

        def connect() -> socket.socket:
            return socket.create_connection((RESOLVER, 53))

        with in_namespace("/run/netns/c1", connect):
            deadline = time.monotonic() + 3
            while len(resolvers()) < 3:  # it forks for each
                assert time.monotonic() < deadline
                time.sleep(0.01)
            assert compare(wanted) == []
            assert converge(wanted) == []
            converge(())
        assert resolvers() == []

    @on_a_host
    def test_a_resolver_does_not_reveal_its_version(self) -> None:
        converge(resources_of(SMALL))
        for name in ("version.bind", "servers.bind", "authors.bind", "copyright.bind", "cachesize.bind", "auth.bind"):
            question = dns.message.make_query(name, "TXT", rdclass=dns.rdataclass.CH)
            answer = in_namespace("/run/netns/c1", dns.query.udp, question, RESOLVER, 3)
            assert (answer.rcode() != 0, answer.answer) == (True, []), answer


def _as_a_resolver(process: int, work: Callable[[], list[str]]) -> list[str]:
    """What the function returns for the resolvers' user in a resolver's namespaces of processes and network."""
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        for kind in ("pid", "net"):
            with open(f"/proc/{process}/ns/{kind}", "rb") as there:
                assert namespaces._libc.setns(there.fileno(), 0) == 0
        if (inner := os.fork()) == 0:
            os.setgroups([])
            who = pwd.getpwnam("cnm-resolver")
            os.setresgid(who.pw_gid, who.pw_gid, who.pw_gid)
            os.setresuid(who.pw_uid, who.pw_uid, who.pw_uid)
            os.write(writing, json.dumps(work()).encode())
            os._exit(0)
        os.waitpid(inner, 0)
        os._exit(0)
    os.close(writing)
    os.waitpid(child, 0)
    with os.fdopen(reading, encoding="utf-8") as stream:
        result: list[str] = json.loads(stream.read())
        return result


_TAKES = f"""
import socket, sys, time
for kind in (socket.SOCK_DGRAM, socket.SOCK_STREAM)[: int(sys.argv[2])]:
    taken = socket.socket(socket.AF_INET, kind)
    if sys.argv[1] == "shared":
        taken.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    taken.bind(("{RESOLVER}", {PORT}))
    if kind == socket.SOCK_STREAM:
        taken.listen()
    globals()[f"kept{{kind}}"] = taken
print("ready", flush=True)
time.sleep(600)
"""


class TestOccupiedPort:
    @pytest.mark.parametrize("how", ["alone", "shared"])
    @pytest.mark.parametrize("sockets", [1, 2])
    @on_a_host
    def test_a_process_on_the_resolver_s_port_is_named(self, how: str, sockets: int) -> None:
        wanted = resources_of(SMALL)
        converge(wanted)
        os.kill(pid("c1"), signal.SIGKILL)
        _until_gone(pid("c1"))
        with attacker(_TAKES, how, str(sockets), sandbox="c1") as process:
            said = rf"of c1 did not start: {RESOLVER} port {PORT} is in use there by python3.* \(pid {process.pid}\)"
            with pytest.raises(engine.EngineError, match=said):
                converge(wanted)
            assert alive(process)
            assert len(resolvers()) == 1
        assert converge(wanted) == ["change resolver c1 (running)"]
        works([("c1", "c2", "10.0.0.3")])

    @on_a_host
    def test_nobody_else_can_bind_the_port_of_a_running_resolver(self) -> None:
        converge(resources_of(SMALL))

        def take(kind: int, address: str) -> Optional[int]:
            with socket.socket(socket.AF_INET, kind) as one:
                one.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                try:
                    one.bind((address, PORT))
                    one.listen() if kind == socket.SOCK_STREAM else None
                except OSError as error:
                    return error.errno
                return None

        for kind in (socket.SOCK_DGRAM, socket.SOCK_STREAM):
            for address in (RESOLVER, "0.0.0.0"):
                assert in_namespace("/run/netns/c1", take, kind, address) == errno.EADDRINUSE

    @on_a_host
    def test_a_resolver_that_is_ending_is_waited_for(self) -> None:
        wanted = resources_of(SMALL)
        converge(wanted)
        for _attempt in range(20):
            before = pid("c1")
            os.kill(before, signal.SIGTERM)
            while pid("c1") == before:
                assert converge(wanted) in ([], ["change resolver c1 (running)"])
        assert compare(wanted) == []

    @on_a_host
    def test_a_restart_works_despite_lingering_connections(self) -> None:
        wanted = resources_of(SMALL)
        converge(wanted)

        def ask() -> None:
            question = dns.message.make_query("c2.", "A")
            assert dns.query.tcp(question, RESOLVER, 3).answer

        in_namespace("/run/netns/c1", ask)
        os.kill(pid("c1"), signal.SIGKILL)
        _until_gone(pid("c1"))
        assert converge(wanted) == ["change resolver c1 (running)"]
        in_namespace("/run/netns/c1", ask)


def _until_gone(process: int) -> None:
    deadline = time.monotonic() + 3
    while process in resolvers():
        assert time.monotonic() < deadline
        time.sleep(0.01)


class TestUser:
    @on_a_host
    def test_a_missing_user_is_reported_with_the_command_to_add_it(self) -> None:
        sh("sed -i /cnm-resolver/d /etc/passwd")
        with pytest.raises(engine.EngineError, match=r"no system user cnm-resolver.*role cnm\.fabric\.host.*useradd"):
            converge(resources_of(SMALL))
        assert namespaces.names() == []
        sh("useradd --system --user-group --home-dir /nonexistent --shell /usr/sbin/nologin cnm-resolver || true")


class TestVisibleProcesses:
    """Hosts that see each other's processes, with the same paths and names: each has its own resolvers."""

    @pytest.mark.parametrize("own_ids", [False, True])
    @on_a_host
    def test_a_resolver_cannot_signal_other_processes(self, own_ids: bool) -> None:
        wanted = resources_of(SMALL)
        converge(wanted)
        with another_host(own_ids) as ask:
            assert ask("converge") != []
            for _round in range(2):
                assert compare(wanted) == [] == ask("compare")
                assert converge(wanted) == [] == ask("converge")
            works([("c1", "c2", "10.0.0.3")])
            assert len(resolvers()) == 4
            keep_plan()
            sh("rm -r /run/cnm")
            converge(wanted)
            assert compare(wanted) == [] == ask("compare")
            converge(())
            assert ask("works") == []
            # Both have one disk here, so one's teardown takes what the other keeps for `cnm`.
            assert [text for text in ask("compare") if "boot" not in text] == []
            converge(wanted)
            ask("teardown")
            assert [text for text in compare(wanted) if "boot" not in text] == []
            assert len(resolvers()) == 2


@contextlib.contextmanager
def another_host(own_ids: bool) -> Iterator[Callable[[str], list[str]]]:
    """A host whose processes this one sees, as a machine those of its containers; what it is asked to do is done there.

    Without ``own_ids`` it sees this one's, too.
    """
    from lab import CLONE_NEWNET, CLONE_NEWNS, CLONE_NEWPID, CLONE_NEWUTS, SWITCH, _furnish, _own_root, _unshare

    here, there = socket.socketpair()
    child = os.fork()
    if child == 0:
        here.close()
        _unshare(CLONE_NEWNET | CLONE_NEWNS | CLONE_NEWUTS | (CLONE_NEWPID if own_ids else 0))
        if own_ids and (inner := os.fork()):
            os.waitpid(inner, 0)
            os._exit(0)
        _own_root()
        _furnish(SWITCH, {"hosts": "0", "lab": "other"})
        if hasattr(sys.modules["host"], "resolver_user"):
            sys.modules["host"].resolver_user()
        sh("ip link set lo up")
        with there.makefile("rw", encoding="utf-8") as stream:
            for line in stream:
                stream.write(json.dumps(_done(line.strip())) + "\n")
                stream.flush()
        os._exit(0)
    there.close()
    with here.makefile("rw", encoding="utf-8") as stream:

        def ask(what: str) -> list[str]:
            stream.write(f"{what}\n")
            stream.flush()
            result: list[str] = json.loads(stream.readline())
            return result

        yield ask
    here.close()
    os.waitpid(child, 0)


def _done(what: str) -> list[str]:
    wanted = resources_of(SMALL)
    try:
        if what == "works":
            works([("c1", "c2", "10.0.0.3")])
            return []
        return {"converge": converge, "compare": compare, "teardown": lambda _wanted: converge(())}[what](wanted)
    except BaseException as error:
        return [repr(error)]


_REFUSED = """
import socket
for kind in (socket.SOCK_DGRAM, socket.SOCK_STREAM):
    with socket.socket(socket.AF_INET, kind) as client:
        client.settimeout(2)
        try:
            client.connect(("127.0.0.11", 53))
            client.send(b"question")
            print(client.recv(512))
        except OSError as error:
            print(type(error).__name__)
"""


@on_a_host
def test_a_sandbox_tracks_nothing_and_questions_are_refused_at_once_where_no_resolver_runs() -> None:
    converge(resources_of(SMALL))
    works([("c1", "c2", "10.0.0.3")])
    assert sh("ip netns exec c1 cat /proc/sys/net/netfilter/nf_conntrack_count") == "0\n"
    os.kill(pid("c1"), signal.SIGKILL)
    said = sh(f"ip netns exec c1 /usr/bin/python3 -c '{_REFUSED}'")
    assert said.split() == ["ConnectionRefusedError", "ConnectionRefusedError"]
