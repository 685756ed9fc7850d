# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: cnm.fabric contributors
"""A host that keeps this version's host half is called by it, and answers as by one that is sent."""

from __future__ import annotations

import re
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
import yaml
from fleet import Fleet, Run
from lab import Lab

from ansible_collections.cnm.fabric.plugins.plugin_utils.host_call import DIGEST

NETWORKS = {"cnm_networks": {"n": {"subnet": "10.0.0.0/24"}}}
ONE = {"cnm_sandboxes": {"c1": {"networks": ["n"]}}}
TWO = {"cnm_sandboxes": {"c1": {"networks": ["n"]}, "c2": {"networks": ["n"]}}}
HALF = f"/var/lib/cnm/.half/{DIGEST}"
BY_FILES = ("-e", "ansible_ssh_pipelining=false", "-e", "ansible_pipelining=false")
"""What a call reads is in a file then."""


@pytest.fixture(scope="module")
def fleet(lab: Lab, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Fleet]:
    """c1 on node1, as declared."""
    fleet = Fleet(lab, tmp_path_factory.mktemp("kept"), ["node1"])
    fleet.declare(NETWORKS, node1=ONE)
    fleet.site()
    yield fleet
    fleet.clear()


def sent(run: Run) -> int:
    """How many calls sent the host half (a run with -vvv)."""
    assert "/fabric/plugins/modules/" not in run.output
    return len(re.findall(r"SentHalf.*?main\(\*sys\.argv", run.output, re.DOTALL))


def answers(run: Run) -> list[dict[str, Any]]:
    """All results but what is another each time: names of directories, and what Ansible says of its own way."""
    found = []
    for entry in run.results:
        result = {key: value for key, value in entry["result"].items() if key not in ("directory", "_ansible_no_log")}
        found.append({**entry, "result": result})
    return found


def book(fleet: Fleet, *tasks: dict[str, Any]) -> str:
    path = fleet.directory / "book.yml"
    play = {"hosts": "all", "gather_facts": False, "tasks": list(tasks)}
    path.write_text(yaml.safe_dump([play]), encoding="utf-8")
    return str(path)


def test_the_host_keeps_the_files_that_the_controller_expects_compiled_and_roots_alone(fleet: Fleet) -> None:
    assert fleet.sh("node1", "ls /var/lib/cnm/.half").split() == [DIGEST]
    assert fleet.sh("node1", f"stat -c %a {HALF} /var/lib/cnm/.half").split() == ["700", "700"]
    assert fleet.sh("node1", f"find {HALF} -name 'calls.*.pyc' | wc -l").strip() == "2"


@pytest.mark.parametrize(
    ("playbook", "arguments", "code"),
    [
        ("site", (), 0),
        ("site", ("--check", "--diff", "-e", '{"cnm_sandboxes": {"c2": {"networks": ["n"]}}}'), 0),
        ("inspect", ("-e", "cnm_show=full"), 0),
        ("verify", (), 0),
        ("site", ("--check", "-e", '{"cnm_networks": {"n": {"driver": "macvlan", "parent": "none0"}}}'), 2),
    ],
)
def test_a_call_answers_the_same_whichever_way_it_is_made(
    fleet: Fleet, playbook: str, arguments: tuple[str, ...], code: int
) -> None:
    runs = [fleet.play(playbook, "-vvv", *way, *arguments) for way in ((), BY_FILES)]
    assert [run.code for run in runs] == [code, code], runs[1].output
    assert [sent(run) for run in runs] == [0, 0]
    assert answers(runs[0]) == answers(runs[1])


def test_a_change_and_a_refusal_are_told_the_same_way(fleet: Fleet) -> None:
    told = {}
    for way in ((), BY_FILES):
        fleet.declare(NETWORKS, node1=TWO)
        done = fleet.site("-vvv", "--diff", *way).of("cnm.fabric.converge", "node1")
        fleet.sh("node1", "ip link set dev $(ip -o link | sed -n 's/^[0-9]*: \\(cnm-b[^:@]*\\).*/\\1/p') mtu 1400")
        drifted = fleet.site("--diff", *way).of("cnm.fabric.converge", "node1")
        early = {
            "cnm.fabric.converge": {"state": "present", "plan": "{}", "digest": "0" * 64, "revision": 10**6},
            "ignore_errors": True,
        }
        refused = fleet.play(book(fleet, early), *way).of("cnm.fabric.converge", "node1")
        fleet.declare(NETWORKS, node1=ONE)
        fleet.site()
        told[way] = [done, drifted, refused]
        assert (done["changed"], drifted["changed"], refused["status"]) == (True, True, "failed")
        assert "digest does not match" in refused["msg"]
    assert told[()] == told[BY_FILES]


@pytest.mark.parametrize(
    "damage",
    [
        "rm -r /var/lib/cnm/.half",
        f"mv {HALF} /var/lib/cnm/.half/{'0' * 64}",
        f"echo /usr/bin/python3.0 >{HALF}/python; rm {HALF}/ansible_collections/__init__.py",
        f"find {HALF} -name calls.py -delete",
        f"find {HALF} -name engine.py | while read f; do echo '# mine' >>$f; done",
        f"find {HALF} -name entrypoints.py | while read f; do echo 'import nothing' >$f; done",
    ],
)
def test_without_a_whole_host_half_it_is_sent_and_kept_again(fleet: Fleet, damage: str) -> None:
    fleet.sh("node1", damage)
    run = fleet.site("-vvv", "-e", "ansible_python_interpreter=auto_silent")
    assert sent(run) == 2
    assert run.operations("node1") == ["change boot host"]
    again = fleet.site("-vvv", "-e", "ansible_python_interpreter=auto_silent")
    assert (sent(again), again.operations("node1")) == (0, [])
    assert fleet.sh("node1", f"cat {HALF}/python") == "/usr/bin/python3\n"


def test_the_users_interpreter_is_the_one_that_runs(fleet: Fleet) -> None:
    own = '#!/bin/sh\necho "$@" >>/run/calls\nexec /usr/bin/python3 "$@"\n'
    fleet.sh("node1", f"cat >/run/own <<'EOF'\n{own}EOF\nchmod +x /run/own")
    try:
        fleet.site("-e", "ansible_python_interpreter=/run/own")
        assert fleet.sh("node1", "cat /run/calls").count(HALF) == 1
    finally:
        fleet.sh("node1", "rm -f /run/own /run/calls")


def test_with_cnm_boot_false_nothing_is_kept_and_it_is_sent_each_time(fleet: Fleet) -> None:
    run = fleet.site("-vvv", "-e", "cnm_boot=false")
    assert sent(run) == 2
    assert fleet.sh("node1", "ls -d /var/lib/cnm/.half || true") == ""
    runs = [fleet.site("-vvv", "-e", "cnm_boot=false", *way) for way in ((), BY_FILES)]
    assert [sent(run) for run in runs] == [1, 1]
    assert answers(runs[0]) == answers(runs[1])
    fleet.site()


def test_what_a_call_read_from_a_file_is_gone_afterwards(fleet: Fleet) -> None:
    for boot in ("false", "true"):
        fleet.site("-e", f"cnm_boot={boot}", *BY_FILES)
        assert fleet.sh("node1", "find /root/.ansible /tmp /var/tmp -name request 2>/dev/null || true") == ""


SECRET = "hush-2f9c41aa"


def test_secrets_are_in_no_argument_list_and_no_log(fleet: Fleet, lab: Lab) -> None:
    """The call waits for the host's lock, so that what runs can be looked at."""
    converge = {"state": "absent", "project": "other", "bgp_password": SECRET, "lock_timeout": 2}
    play = book(fleet, {"cnm.fabric.converge": converge, "ignore_errors": True})
    hold = "mkdir -p /run/cnm; exec flock /run/cnm/lock.json sleep 4"
    with ThreadPoolExecutor() as pool:
        held = pool.submit(fleet.sh, "node1", hold)
        running = pool.submit(fleet.play, play, "-vvvv")
        seen: set[str] = set()
        while not running.done():
            for path in Path("/proc").glob("[0-9]*/cmdline"):
                try:
                    seen.add(path.read_bytes().decode(errors="replace"))
                except OSError:
                    continue
        run = running.result()
        held.result()
    assert "another run" in run.of("cnm.fabric.converge", "node1")["msg"]
    calls = [line for line in seen if f"{HALF}\0converge" in line]
    assert calls != []
    assert [line for line in seen if SECRET in line and "pytest" not in line] == []
    assert SECRET not in run.output
    assert fleet.sh("node1", f"grep -rl {SECRET} /var/log /run /var/lib/cnm 2>/dev/null || true") == ""


def test_what_a_login_shell_prints_does_no_harm(fleet: Fleet) -> None:
    fleet.sh("node1", "cp -p /root/.bashrc /run/bashrc 2>/dev/null; printf 'echo \"{ hello [\"\\n' >/root/.bashrc")
    try:
        assert fleet.site("-vvv").operations("node1") == []
    finally:
        fleet.sh("node1", "mv /run/bashrc /root/.bashrc 2>/dev/null || rm /root/.bashrc")


@pytest.mark.parametrize(
    ("forged", "said"),
    [
        ("print('[1, 2]')", "answered with"),
        ("print('{\"kept\"')", "is not JSON"),
        ("import os; os.kill(os.getpid(), 9)", "ended on the host without an answer"),
        ('print(\'{"changed": false, "ansible_facts": {"cnm_project": "x"}}\')', "lacks kept"),
    ],
)
def test_a_forged_answer_is_refused_in_words(fleet: Fleet, forged: str, said: str) -> None:
    calls = f"{HALF}/ansible_collections/cnm/fabric/plugins/module_utils/calls.py"
    program = f"def main(name):\n    print('<cnm-answer>', flush=True)\n    {forged}\n    print('</cnm-answer>')\n"
    fleet.sh("node1", f"cp -p {calls} /run/calls.py; cat >{calls} <<'EOF'\n{program}EOF")
    try:
        run = fleet.play("inspect")
        assert said in run.of("cnm.fabric.probe", "node1")["msg"]
    finally:
        fleet.sh("node1", f"mv /run/calls.py {calls}")
    assert fleet.site().operations("node1") == []
