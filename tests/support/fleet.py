# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: cnm.fabric contributors
"""A user's inventory over a lab: declare, run playbooks as a user does, look at what came of it."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Optional

import starting
import yaml
from lab import Lab
from on_host import call_on_host, run_command

HERE = Path(__file__).resolve().parent


@dataclass
class Run:
    """One ansible-playbook: its exit code, what it printed, and each task's result by host."""

    code: int
    output: str
    results: list[dict[str, Any]] = field(default_factory=list)

    def of(self, action: str, host: str) -> dict[str, Any]:
        """The result of a host's task with that action; KeyError if there was none."""
        for entry in self.results:
            if entry["host"] == host and entry["action"] == action:
                result: dict[str, Any] = {"status": entry["status"], **entry["result"]}
                return result
        raise KeyError(f"no {action} on {host} in:\n{self.output}")

    def operations(self, host: str) -> list[str]:
        """What converge did or would do on the host: ``create link c1/eth0``."""
        if self._settled(host):
            return []
        result = self.of("cnm.fabric.converge", host)
        if "operations" not in result:
            raise AssertionError(f"converge on {host}: {result.get('msg')}")
        return [f"{item['action']} {item['kind']} {item['name']}" for item in result["operations"]]

    def _settled(self, host: str) -> bool:
        """Whether converge did not run as every host was as planned."""
        run = [entry for entry in self.results if entry["action"] == "cnm.fabric.converge"]
        plans = [entry["result"] for entry in self.results if entry["action"] == "cnm.fabric.plan"]
        return not run and len(plans) == 1 and plans[0].get("settled", False) and host in plans[0]["hosts"]

    def refusals(self, host: str) -> list[str]:
        """What keeps the host from being as declared, as the plan has it."""
        (planned,) = (entry["result"] for entry in self.results if entry["action"] == "cnm.fabric.plan")
        found: list[str] = planned["hosts"][host].get("refused", [])
        return found

    @property
    def changed(self) -> list[str]:
        """Tasks that report a change, with their host."""
        return [f"{entry['host']}: {entry['task']}" for entry in self.results if entry["result"].get("changed")]


class Fleet:
    """An inventory folder in ``directory`` over the lab's hosts."""

    def __init__(self, lab: Lab, directory: Path, hosts: Optional[list[str]] = None) -> None:
        self.lab = lab
        directory.mkdir(exist_ok=True)
        self.directory = directory
        self.hosts = hosts or lab.hosts
        self.inventory = directory / "inventory.yml"
        self.store = directory / ".cnm-leases.sqlite3"
        self.ways = lab.inventory
        """The inventory that says how the hosts are reached."""
        self.patience = int(os.environ.get("CNM_PATIENCE", "1200" if "CNM_VM" in os.environ else "300"))
        """Seconds a playbook may take."""
        self.afresh = False
        """Whether each playbook is a new start of the program, as a user starts it."""
        self._runs = 0
        self.declare({})

    def declare(self, everyone: dict[str, Any], **by_host: dict[str, Any]) -> None:
        """Write the variables: those of all hosts, and those of single ones, as an inventory of the given order."""
        hosts = {name: by_host.get(name) or None for name in self.hosts}
        text = yaml.safe_dump({"all": {"hosts": hosts, "vars": everyone}}, sort_keys=False)
        self.inventory.write_text(text, encoding="utf-8")

    def play(self, playbook: str, *arguments: str) -> Run:
        """``ansible-playbook cnm.fabric.<playbook>``, or a playbook file, with the lab's ways to its hosts."""
        self._runs += 1
        record = self.directory / f"record-{self._runs}.jsonl"
        name = playbook if playbook.endswith(".yml") else f"cnm.fabric.{playbook}"
        inventories = ["-i", str(self.inventory), "-i", str(self.ways)]
        command = [name, *inventories, "--limit", ",".join(self.hosts), *arguments]
        environment = {
            **os.environ,
            "ANSIBLE_CONFIG": str(HERE.parent / "ansible.cfg"),
            "ANSIBLE_CALLBACK_PLUGINS": str(HERE / "callback"),
            "ANSIBLE_CALLBACKS_ENABLED": "record",
            "ANSIBLE_NOCOLOR": "1",
            "CNM_RECORD": str(record),
            "LC_ALL": "C.UTF-8",
        }
        start = self._start if self.afresh else starting.run
        code, output = start(command, environment, self.directory, self.patience)
        lines = record.read_text(encoding="utf-8").splitlines() if record.exists() else []
        return Run(code, output, [json.loads(line) for line in lines])

    @staticmethod
    def _start(argv: Sequence[str], environment: Mapping[str, str], folder: Path, patience: float) -> tuple[int, str]:
        command = [_beside_python("ansible-playbook"), *argv]
        output = subprocess.PIPE
        with subprocess.Popen(command, env=environment, cwd=folder, stdout=output, stderr=output, text=True) as process:
            try:
                said = process.communicate(timeout=patience)
            except BaseException:
                _kill(process.pid)
                raise
        return process.returncode, "".join(said)

    def site(self, *arguments: str) -> Run:
        """Run site; it must succeed."""
        run = self.play("site", *arguments)
        assert run.code == 0, run.output
        return run

    def teardown(self) -> Run:
        """Run teardown; it must succeed, whatever a test has left running in a sandbox."""
        run = self.play("teardown", "-e", "cnm_force=true")
        assert run.code == 0, run.output
        return run

    def clear(self) -> None:
        """Remove what is ours, of all projects, as teardown does, but on the hosts themselves: without Ansible.

        For the end of a test that does not ask whether teardown works.
        """
        from ansible_collections.cnm.fabric.plugins.module_utils import entrypoints

        def remove() -> None:
            kept = {path.parent.name for path in Path("/var/lib/cnm").glob("*/plan.json")}
            for project in sorted({"default", *kept}):
                entrypoints.converge(entrypoints.Request(project, absent=True, force=True), run_command)

        for host in self.hosts:
            call_on_host(self.lab, host, remove)

    def sh(self, host: str, script: str, check: bool = True) -> str:
        """What a shell script prints on a host."""
        return self.lab.run(host, ["sh", "-c", script], check=check).stdout


_SNAPSHOT = """
ip -d -o link | sed 's/promiscuity.*//; s/state UNKNOWN/state UP/'
ip -o addr | sed 's/valid_lft.*//; s/ tentative//'
ip route
ip -6 route | grep -v fe80
ip -4 rule
ip -6 rule
nft -s list ruleset
ls -1 /run/netns 2>/dev/null
find /run/cnm /var/lib/cnm /etc/netns -mindepth 0 2>/dev/null | sort
sysctl -n net.ipv4.ip_forward net.ipv4.conf.all.forwarding net.ipv6.conf.all.forwarding
ps -e -o comm= | grep -c dnsmasq
"""


def snapshot(fleet: Fleet, host: str) -> str:
    """A host's links, addresses, routes, rules, namespaces, files and resolvers as text, for comparing."""
    return fleet.sh(host, _SNAPSHOT, check=False)


def _kill(pid: int) -> None:
    """Kill a process and what it has started: Ansible's workers are in sessions of their own, and outlive it."""
    children = Path(f"/proc/{pid}/task/{pid}/children").read_text(encoding="ascii").split()
    os.kill(pid, signal.SIGKILL)
    for child in children:
        with contextlib.suppress(ProcessLookupError, FileNotFoundError):
            _kill(int(child))


def _beside_python(program: str) -> str:
    """A program of the environment the tests run in."""
    beside = Path(sys.executable).with_name(program)
    return str(beside) if beside.exists() else str(shutil.which(program))
