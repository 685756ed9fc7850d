# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: cnm.fabric contributors
"""Shared by the actions: the topology's hosts, the project's name, plans and reports."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Optional, cast

from ..module_utils.plan.codec import content_digest
from ..module_utils.plan.peers import PeerTable
from ..module_utils.plan.plan import plan_data
from .declaration.hostvars import UnknownHosts, topology_hosts
from .declaration.schema import BOOLEAN_WORDS
from .inspect.ends import PeerIndex
from .inspect.findings import Findings
from .inspect.model import Model
from .inspect.verdict import judge
from .refusals import of_one
from .reports.answers import forged, forgery
from .reports.models import own_model
from .reports.probe import read_probe
from .shown import Shown

_COLOURS = {False: "green", True: "red"}


def plan_file(host: str) -> str:
    """The name of a host's plan file; it is a digest, as a host's name may contain any character."""
    return f"{content_digest(host)[:32]}.json"


class PlannedHosts:
    """What M(cnm.fabric.plan) registered, and the models and peer tables that it left on the controller."""

    def __init__(self, planned: Mapping[str, Any]) -> None:
        self._directory = Path(planned.get("directory", "."))
        self._hosts: Mapping[str, Any] = planned.get("hosts", {})
        self._peers: dict[str, PeerIndex] = {}

    def problem(self, host: str) -> str:
        """Why there is no plan for a host; "" if there is one."""
        if host not in self._hosts:
            return "run cnm.fabric.probe and cnm.fabric.plan first"
        refused = self._hosts[host].get("refused")
        return of_one(refused) if refused is not None else ""

    def of(self, host: str) -> Mapping[str, Any]:
        """What was registered of a host: digest, project, peer_tables."""
        found: Mapping[str, Any] = self._hosts[host]
        return found

    def found(self, host: str) -> Mapping[str, Any]:
        """The same; empty for a host that was not planned."""
        found: Mapping[str, Any] = self._hosts.get(host, {})
        return found

    def plan(self, host: str) -> dict[str, Any]:
        """A host's plan as JSON data; see `module_utils.plan.plan`."""
        return plan_data((self._directory / plan_file(host)).read_text(encoding="utf-8"))

    def model(self, host: str) -> Model:
        """The model of a host's plan."""
        return cast("Model", self.plan(host)["model"])

    def peers(self, host: str) -> list[PeerIndex]:
        """The peer tables of a host; those that several hosts have are read once."""
        names = self._hosts[host]["peer_tables"]
        for name in names:
            if name not in self._peers:
                text = (self._directory / name).read_text(encoding="utf-8")
                self._peers[name] = PeerIndex(PeerTable.from_json(text))
        return [self._peers[name] for name in names]


def without_work(
    variables: Mapping[str, Any], template: Callable[[Any], Any], also: Sequence[str] = ()
) -> Optional[dict[str, Any]]:
    """The result for a host that has forged facts (see `forged_facts`) or is not in the topology; None for others."""
    problem = forged_facts(variables, also)
    if problem:
        return {"failed": True, "msg": problem}
    try:
        hosts = topology_hosts(template(variables.get("cnm_hosts")), variables["groups"])
    except UnknownHosts:
        return None  # cnm.fabric.plan reports it once for all hosts
    if variables["inventory_hostname"] in hosts:
        return None
    return {"skipped": True, "skip_reason": "not in the topology (cnm_hosts)"}


def project_of(variables: Mapping[str, Any], arguments: Mapping[str, Any]) -> str:
    """The task's project, or else the host's ``cnm_project``, or else the default."""
    return str(arguments.get("project") or variables.get("cnm_project") or "default")


def play_of(task: Any) -> Any:
    """The play that a task is in; None for one that is in none."""
    return getattr(getattr(task, "_parent", None), "_play", None)


def is_linear(play: Any) -> bool:
    """Whether a task of the play runs on all hosts before the next one does, so that it can run once for them all."""
    return play is None or play.strategy in (None, "linear", "ansible.builtin.linear")


def forced(variables: Mapping[str, Any], template: Callable[[Any], Any]) -> bool:
    """Whether sandboxes are to be removed although processes run in them (``cnm_force``)."""
    return switched_on(variables, "cnm_force", template)


def switched_on(variables: Mapping[str, Any], name: str, template: Callable[[Any], Any]) -> bool:
    """Whether a variable of the playbooks is true, also as a word on the command line."""
    return BOOLEAN_WORDS.get(str(template(variables.get(name))).lower(), False)


def inventory_directory(variables: Mapping[str, Any], hosts: Sequence[str]) -> str:
    """The directory of the inventory that has the topology's first host: the default place of the lease store."""
    directory = variables["hostvars"][hosts[0]].get("inventory_dir") if hosts else None
    # Ansible has "None" for hosts given on the command line.
    return str(directory) if directory and str(directory) != "None" else str(Path.cwd())


def directories_of_files(variables: Mapping[str, Any]) -> list[str]:
    """Where relative paths in a host's variables lead from: the inventory, the playbook, the current directory."""
    found = [variables.get(name) for name in ("inventory_dir", "playbook_dir")]
    return list(dict.fromkeys([*(str(name) for name in found if name and str(name) != "None"), str(Path.cwd())]))


class _NoFacts(dict[str, Any]):
    """An empty fact cache for all hosts."""

    def get(self, _host: Any, _default: Any = None) -> Any:
        return {}


def without_facts(hostvars: Any, host: str) -> Mapping[str, Any]:
    """A host's variables, not templated, as they would be without facts.

    Ansible merges facts over the inventory and cannot return the inventory alone, so this uses a copy of its variable
    manager with an empty fact cache.  Raises AttributeError if this Ansible's variable manager has no fact cache.
    """
    manager = hostvars._variable_manager
    copy = object.__new__(type(manager))
    copy.__dict__.update(manager.__dict__)
    if not hasattr(copy, "_fact_cache"):
        raise AttributeError("Ansible's variable manager has no fact cache")
    copy._fact_cache = _NoFacts()
    found: Mapping[str, Any] = copy.get_vars(host=hostvars._inventory.get_host(host), include_hostvars=False)
    return found


def forged_facts(variables: Mapping[str, Any], also: Sequence[str] = ()) -> Optional[str]:
    """A sentence about variables among a host's facts that facts must not set; None if there are none."""
    return forgery(forged(variables.get("ansible_facts"), also))


def live_report(
    display: Any, host: str, variables: Mapping[str, Any], register: str
) -> tuple[str, Mapping[str, Any], dict[str, Any]]:
    """What a host reported in a probe with ``live``: why it cannot be used, else the report and its own kept model.

    Whatever is wrong with it is displayed as warnings.
    """
    about = variables["hostvars"][host]
    report = read_probe(host, about[register])
    problem = report.refusal or forged_facts(about, (register,)) or ""
    for sentence in [problem] if problem else report.warnings:
        display.warning(f"{host}: {sentence}")
    if problem:
        return problem, {}, {}
    project = project_of({"cnm_project": about.get("cnm_project")}, {})
    return "", report.data, own_model(report.data["kept"].get("model", {}), host, project)


def show_verdict(
    display: Any, findings: Mapping[str, Findings], unasked: Mapping[str, str], shown: Shown
) -> dict[str, Any]:
    """Print what hosts found in verification; returns a result, which has failed if anything is wrong."""
    verdict = judge(findings, unasked, shown)
    for text in verdict.warnings:
        display.warning(text)
    for line in verdict.lines:
        display.display(line, color=_COLOURS[verdict.failed])
    if verdict.failed:
        return {"failed": True, "msg": verdict.summary}
    return {"msg": verdict.summary}
