# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: cnm.fabric contributors
"""Plays whose hosts are sandboxes, over the real ssh of the host they are on."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from fleet import Fleet, Run, _beside_python
from lab import Lab

# What sudo does that Ansible relies on, for hosts that have none: root asks nobody, others give the password there is.
SUDO = """#!/bin/sh
user=root prompt=
while :; do
    case "$1" in -H | -S | -n) shift ;; -p) prompt=$2; shift 2 ;; -u) user=$2; shift 2 ;; *) break ;; esac
done
if [ "$(id -u)" != 0 ] && [ -e /etc/sudo-password ]; then
    [ -n "$prompt" ] || { echo "sudo: a password is required" >&2; exit 1; }
    printf %s "$prompt" >&2
    IFS= read -r word
    [ "$word" = "$(cat /etc/sudo-password)" ] || { echo "Sorry, try again." >&2; exit 1; }
fi
export HOME="$(getent passwd "$user" | cut -d: -f6)"
exec /usr/local/bin/be --reuid "$user" --regid "$(id -g "$user")" --clear-groups -- "$@"
"""
QUOTES = "a 'single' \"double\" $HOME `x` \\ back"


class Sandboxes:
    """c1 and c2 on node1, and an inventory in which they are hosts."""

    def __init__(self, fleet: Fleet, directory: Path) -> None:
        self.fleet = fleet
        self.directory = directory
        fleet.declare(
            {"cnm_networks": {"n": {"subnet": "10.9.1.0/24"}}, "cnm_hosts": "node1"},
            node1={"cnm_sandboxes": {"c1": {"networks": ["n"]}, "c2": {"networks": ["n"]}}},
        )
        fleet.site()
        inventory = yaml.safe_load(fleet.inventory.read_text())
        way = {"ansible_connection": "cnm.fabric.netns", "cnm_netns_host": "node1"}
        strange = {"lost": {"cnm_netns_host": "node9"}, "alias": {"cnm_netns_sandbox": "c1"}, "odd": {}, "gone": {}}
        strange.update({"circle": {"cnm_netns_host": "c1"}, "wrong": {"cnm_netns_sandbox": "../c1"}})
        hosts = {"c1": way, "c2": way, **{name: {**way, **variables} for name, variables in strange.items()}}
        inventory["all"]["children"] = {"sandboxes": {"hosts": hosts}}
        fleet.inventory.write_text(yaml.safe_dump(inventory))
        fleet.hosts = ["node1", *hosts]

    def play(
        self, tasks: list[dict[str, Any]], hosts: str = "c1", arguments: tuple[str, ...] = (), **variables: Any
    ) -> Run:
        path = self.directory / "play.yml"
        play = {"hosts": hosts, "gather_facts": False, "vars": variables, "tasks": tasks}
        path.write_text(yaml.safe_dump([play]))
        return self.fleet.play(str(path), *arguments)


@pytest.fixture(scope="module")
def sandboxes(lab: Lab, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Sandboxes]:
    directory = tmp_path_factory.mktemp("netns")
    fleet = Fleet(lab, directory)
    yield Sandboxes(fleet, directory)
    fleet.hosts = lab.hosts
    fleet.declare({"cnm_networks": {}})
    fleet.teardown()


@pytest.fixture
def alice(sandboxes: Sandboxes) -> Iterator[Sandboxes]:
    """Nobody logs in to node1 as root, but as alice, who may sudo."""
    lab = sandboxes.fleet.lab
    install = "cat >/usr/local/bin/sudo; cp /usr/bin/setpriv /usr/local/bin/be; chmod 4755 /usr/local/bin/be"
    user = "useradd -mp '*' -d /var/alice alice; chmod 644 /etc/ssh/lab_authorized_keys"
    lab.run("node1", ["sh", "-c", f"{install}; chmod 755 /usr/local/bin/sudo; {user}"], given=SUDO)
    before = sandboxes.fleet.inventory.read_text()
    inventory = yaml.safe_load(before)
    inventory["all"]["hosts"]["node1"]["ansible_user"] = "alice"
    sandboxes.fleet.inventory.write_text(yaml.safe_dump(inventory))
    yield sandboxes
    sandboxes.fleet.inventory.write_text(before)
    sandboxes.fleet.sh("node1", "pkill -u alice; userdel -rf alice; rm -f /usr/local/bin/sudo /usr/local/bin/be", False)
    sandboxes.fleet.sh("node1", "rm -f /etc/sudo-password")


def _words(run: Run) -> str:
    """What was printed, whatever YAML made of its lines and quotes."""
    return " ".join(run.output.split()).replace("''", "'")


def _command(*argv: str) -> dict[str, Any]:
    return {"ansible.builtin.command": {"argv": list(argv), "expand_argument_vars": False}, "changed_when": False}


@pytest.mark.parametrize("pipelining", [True, False])
def test_tasks_run_in_the_sandbox_with_its_names_and_the_host_s_files(sandboxes: Sandboxes, pipelining: bool) -> None:
    run = sandboxes.play(
        [
            _command("ip", "-o", "-4", "address", "show", "eth0"),
            _command("getent", "hosts", "c2"),
            _command("printf", "%s", QUOTES),
            {"ansible.builtin.ping": None},
            {"ansible.builtin.copy": {"content": QUOTES * 5000, "dest": "/run/cnm-test"}},
            {"ansible.builtin.slurp": {"src": "/run/cnm-test"}},
            {"ansible.builtin.file": {"path": "/run/cnm-test", "state": "absent"}},
        ],
        arguments=("-e", f"ansible_ssh_pipelining={pipelining}"),
    )
    assert run.code == 0, run.output
    said = [item["result"].get("stdout") for item in run.results]
    assert "inet 10.9.1.2/24" in said[0]
    assert said[1].split() == ["10.9.1.3", "c2"]
    assert said[2] == QUOTES
    assert run.results[5]["result"]["content"]


def test_one_sandbox_waits_for_another_s_server(sandboxes: Sandboxes) -> None:
    server = "timeout 20 /usr/bin/python3 -m http.server 8000 --directory /usr/share/common-licenses"
    run = sandboxes.play(
        [
            {"ansible.builtin.shell": f"{server} >/dev/null 2>&1 &", "when": "inventory_hostname == 'c2'"},
            {"ansible.builtin.wait_for": {"host": "c2", "port": 8000, "timeout": 10}},
            {"ansible.builtin.uri": {"url": "http://c2:8000/GPL-3", "return_content": True}},
        ],
        "c1:c2",
    )
    assert run.code == 0, run.output
    assert "GNU GENERAL PUBLIC LICENSE" in run.of("ansible.builtin.uri", "c1")["content"]


def test_facts_are_the_sandbox_s(sandboxes: Sandboxes) -> None:
    run = sandboxes.play([{"ansible.builtin.setup": {"gather_subset": ["!all", "network"]}}])
    assert run.code == 0, run.output
    assert run.of("ansible.builtin.setup", "c1")["ansible_facts"]["ansible_eth0"]["ipv4"]["address"] == "10.9.1.2"


def test_a_sandbox_that_is_not_there_is_named_with_what_to_do(sandboxes: Sandboxes) -> None:
    run = sandboxes.play([{"ansible.builtin.ping": None}], "gone")
    assert run.code != 0
    assert "there is no sandbox gone on node1: run cnm.fabric.site" in _words(run)


def test_a_host_that_is_not_there_is_named(sandboxes: Sandboxes) -> None:
    run = sandboxes.play([{"ansible.builtin.ping": None}], "lost")
    assert run.code != 0
    assert "the inventory has no host 'node9'" in _words(run)


@pytest.mark.parametrize(
    ("host", "sentence"),
    [
        ("circle", "c1 is a sandbox itself. Name the host that it is on."),
        ("wrong", "'../c1' is not a valid name of a sandbox"),
        ("odd", "there is no sandbox odd on node1"),
    ],
)
def test_what_is_no_sandbox_is_said(sandboxes: Sandboxes, host: str, sentence: str) -> None:
    sandboxes.fleet.sh("node1", "touch /run/netns/odd")
    try:
        run = sandboxes.play([{"ansible.builtin.ping": None}], host)
    finally:
        sandboxes.fleet.sh("node1", "rm /run/netns/odd")
    assert run.code != 0
    assert sentence in _words(run)


@pytest.mark.parametrize("pipelining", [True, False])
def test_a_missing_sandbox_is_unreachable_whoever_the_task_becomes(sandboxes: Sandboxes, pipelining: bool) -> None:
    task = {"ansible.builtin.ping": None, "become": True, "become_user": "nobody"}
    run = sandboxes.play([task], "gone", ansible_pipelining=pipelining)
    assert "unreachable=1" in run.output
    assert "there is no sandbox gone on node1" in _words(run)


@pytest.mark.parametrize("code", [1, 97, 253])
def test_a_command_s_own_exit_code_stays_its_own(sandboxes: Sandboxes, code: int) -> None:
    run = sandboxes.play([{"ansible.builtin.raw": f"exit {code}", "failed_when": False}])
    assert run.of("ansible.builtin.raw", "c1")["rc"] == code, run.output


@pytest.mark.parametrize("pipelining", [True, False])
def test_files_travel_as_they_are(sandboxes: Sandboxes, tmp_path: Path, pipelining: bool) -> None:
    _files_travel(sandboxes, tmp_path, pipelining)


def _files_travel(sandboxes: Sandboxes, directory: Path, pipelining: bool) -> None:
    name, content = "a 'file' $x", bytes(range(256)) * 12000
    (directory / name).write_bytes(content)
    (directory / "template").write_text("{{ inventory_hostname }}: {{ quotes }}\n")
    folder = "/var/tmp/cnm netns"
    run = sandboxes.play(
        [
            {"ansible.builtin.file": {"path": folder, "state": "directory"}},
            {"ansible.builtin.copy": {"src": str(directory / name), "dest": f"{folder}/{name}"}},
            {"ansible.builtin.template": {"src": str(directory / "template"), "dest": f"{folder}/template"}},
            *(
                {"ansible.builtin.fetch": {"src": source, "dest": f"{directory}/got/", "flat": True}}
                for source in (f"{folder}/{name}", f"{folder}/template", "/etc/hosts")
            ),
            {"ansible.builtin.file": {"path": folder, "state": "absent"}},
        ],
        ansible_pipelining=pipelining,
        quotes="{% raw %}" + QUOTES + "{% endraw %}",
    )
    assert run.code == 0, run.output
    assert (directory / "got" / name).read_bytes() == content
    assert (directory / "got" / "template").read_text() == f"c1: {QUOTES}\n"
    assert (directory / "got" / "hosts").read_text() == sandboxes.fleet.sh("node1", "cat /etc/netns/c1/hosts")
    assert sandboxes.fleet.sh("node1", "ls -d /tmp/cnm-netns.*", check=False) == ""


def test_a_sandbox_may_say_otherwise_than_its_host_about_pipelining(sandboxes: Sandboxes) -> None:
    for pipelining, puts in ((False, True), (True, False)):
        run = sandboxes.play([{"ansible.builtin.ping": None}], arguments=("-vvv",), ansible_pipelining=pipelining)
        assert (" PUT " in run.output) is puts


@pytest.mark.parametrize("pipelining", [True, False])
def test_its_python_is_found(sandboxes: Sandboxes, pipelining: bool) -> None:
    arguments = ("-e", "ansible_python_interpreter=auto_silent")
    run = sandboxes.play([{"ansible.builtin.ping": None}], arguments=arguments, ansible_pipelining=pipelining)
    assert run.code == 0, run.output
    found = run.of("ansible.builtin.ping", "c1")["ansible_facts"]["discovered_interpreter_python"]
    assert found.startswith("/usr/bin/python3")


def test_a_task_in_the_background_runs_there_too(sandboxes: Sandboxes) -> None:
    run = sandboxes.play([{**_command("ip", "-o", "-4", "address"), "async": 20, "poll": 1}])
    assert "inet 10.9.1.2/24" in run.of("ansible.builtin.command", "c1")["stdout"]


def test_tasks_are_delegated_to_it_and_from_it(sandboxes: Sandboxes) -> None:
    address = _command("ip", "-o", "-4", "address")
    run = sandboxes.play([{**address, "delegate_to": "c2"}], "node1")
    assert run.code == 0, run.output
    assert "inet 10.9.1.3/24" in run.of("ansible.builtin.command", "node1")["stdout"], run.output
    run = sandboxes.play([{**address, "delegate_to": "node1"}, {"ansible.builtin.meta": "reset_connection"}, address])
    said = [item["result"]["stdout"] for item in run.results if "stdout" in item["result"]]
    assert "inet 198.51.100.11/" in said[0]
    assert "inet 10.9.1.2/24" in said[1]


def test_a_sandbox_has_another_name_in_the_inventory(sandboxes: Sandboxes) -> None:
    run = sandboxes.play([_command("ip", "-o", "-4", "address")], "alias")
    assert "inet 10.9.1.2/24" in run.of("ansible.builtin.command", "alias")["stdout"]


def test_without_a_host_it_is_on_the_controller(sandboxes: Sandboxes) -> None:
    ansible = [_beside_python("ansible"), "-i", "c1,c3", "-e", "ansible_connection=cnm.fabric.netns"]
    ansible += ["-e", "ansible_python_interpreter=/usr/bin/python3", "all", "-m"]
    ansible += ["ansible.builtin.command", "-a", "getent hosts c2"]
    root = f"ANSIBLE_COLLECTIONS_PATH={os.environ['ANSIBLE_COLLECTIONS_PATH']}"
    done = sandboxes.fleet.lab.run("node1", ["env", root, "ANSIBLE_NOCOLOR=1", *ansible], check=False)
    assert "10.9.1.3        c2" in done.stdout, done.stderr
    assert "there is no sandbox c3 on the controller" in " ".join((done.stdout + done.stderr).split())


def test_site_passes_sandboxes_over(sandboxes: Sandboxes) -> None:
    assert sandboxes.fleet.site().changed == []


class TestAHostWhoseUserIsNotRoot:
    @pytest.mark.parametrize("pipelining", [True, False])
    def test_tasks_are_root_s(self, alice: Sandboxes, pipelining: bool) -> None:
        tasks = [
            _command("id", "-un"),
            _command("ip", "-o", "-4", "address"),
            _command("printf", "%s", QUOTES),
            {**_command("id", "-un"), "become": True},
            {**_command("id", "-un"), "become": True, "become_user": "nobody"},
            {"ansible.builtin.raw": "echo $HOME"},
        ]
        run = alice.play(tasks, ansible_pipelining=pipelining, ansible_shell_allow_world_readable_temp=True)
        assert run.code == 0, run.output
        said = [item["result"]["stdout"].strip() for item in run.results]
        assert "inet 10.9.1.2/24" in said.pop(1)
        assert said == ["root", QUOTES, "root", "nobody", "/root"]
        assert alice.fleet.sh("node1", "find /var/alice -user root") == ""

    @pytest.mark.parametrize("pipelining", [True, False])
    def test_files_travel_as_they_are(self, alice: Sandboxes, tmp_path: Path, pipelining: bool) -> None:
        _files_travel(alice, tmp_path, pipelining)

    @pytest.mark.parametrize("pipelining", [True, False])
    def test_a_missing_sandbox_is_named(self, alice: Sandboxes, pipelining: bool) -> None:
        run = alice.play([{"ansible.builtin.ping": None}], "gone", ansible_pipelining=pipelining)
        assert "unreachable=1" in run.output
        assert "there is no sandbox gone on node1" in _words(run)

    def test_a_password_is_given_once_and_its_want_is_said(self, alice: Sandboxes) -> None:
        alice.fleet.sh("node1", "echo sesame >/etc/sudo-password; chmod 644 /etc/sudo-password")
        ping = [{"ansible.builtin.ping": None}]
        for given, sentence in (("sesame", "ping: pong"), ("simsim", "Incorrect sudo password"), ("", "Missing sudo")):
            run = alice.play(ping, arguments=("-vv", *(("-e", f"ansible_become_password={given}") if given else ())))
            assert sentence in _words(run), run.output
            if given != "sesame":
                assert "unreachable=1" in run.output
                assert "entering the sandbox c1 on node1 requires root" in _words(run)


def test_it_becomes_another_user_inside(sandboxes: Sandboxes) -> None:
    task = {**_command("id", "-un"), "become": True, "become_user": "nobody", "become_method": "ansible.builtin.su"}
    run = sandboxes.play([task], ansible_become_flags="-s /bin/sh", ansible_shell_allow_world_readable_temp=True)
    assert run.code == 0, run.output
    assert run.of("ansible.builtin.command", "c1")["stdout"] == "nobody"


def test_a_source_of_the_inventory_lists_the_sandboxes_and_tasks_by_itself(lab: Lab, tmp_path: Path) -> None:
    fleet = Fleet(lab, tmp_path)
    service = {"networks": ["n"], "deploy": {"replicas": 2, "placement": {"hosts": ["node1"]}}}
    fleet.declare(
        {"cnm_networks": {"n": {"subnet": "10.9.2.0/24"}}, "cnm_hosts": "node1"},
        node1={"cnm_sandboxes": {"c1": {"networks": ["n"]}}, "cnm_services": {"web": service}},
    )
    source = tmp_path / "sandboxes.cnm.yml"
    source.write_text("plugin: cnm.fabric.sandboxes\n")
    book = tmp_path / "ask.yml"
    ask = {"ansible.builtin.command": {"argv": ["getent", "hosts", "c1"]}, "changed_when": False}
    book.write_text(yaml.safe_dump([{"hosts": "cnm_network_n", "gather_facts": False, "tasks": [ask]}]))
    listed = ("-i", str(source), "--limit", "all")
    try:
        fleet.site(*listed)
        run = fleet.play(str(book), *listed)
        assert run.code == 0, run.output
        asked = [run.of("ansible.builtin.command", host)["stdout"].split()[0] for host in ("c1", "web.1", "web.2")]
        assert asked == ["10.9.2.2"] * 3
        assert fleet.site(*listed).changed == []
    finally:
        fleet.declare({"cnm_networks": {}})
        fleet.teardown()
