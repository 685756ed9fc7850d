# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: cnm.fabric contributors
"""Three hosts of which one may lie: an answer recorded on a real host, made each host's own, and their controller.

node1 and node2 are on the overlay multinet, node3 is not; each has a network of its own.
"""

from __future__ import annotations

import copy
import json
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Optional

from ansible_collections.cnm.fabric.plugins.plugin_utils.planner.planning import Outcome, make_plans
from ansible_collections.cnm.fabric.plugins.plugin_utils.reports.probe import read_probe

Answer = dict[str, Any]
NOW = "2026-11-21T05:00:00Z"
HOSTS = ("node1", "node2", "node3")
RECORDED: Answer = json.loads(
    (Path(__file__).parents[1] / "unit" / "answers" / "probe.json").read_text(encoding="utf-8")
)
NETWORKS = {
    "multinet": {"driver": "overlay", "subnet": "10.20.0.0/24"},
    "front": {"subnet": "10.21.0.0/24"},
    "auto": {},
}
REDIS = {"redis": {"networks": ["multinet"], "deploy": {"replicas": 2, "placement": {"hosts": ["node1", "node2"]}}}}
VARIABLES: dict[str, Any] = {
    "node1": {"cnm_networks": NETWORKS, "cnm_services": REDIS, "cnm_sandboxes": {"c1": {"networks": ["multinet"]}}},
    "node2": {"cnm_networks": NETWORKS, "cnm_services": REDIS, "cnm_sandboxes": {"c2": {"networks": ["multinet"]}}},
    "node3": {
        "cnm_networks": NETWORKS,
        "cnm_services": REDIS,
        "cnm_sandboxes": {"c3": {"networks": ["front", "auto"]}},
    },
}


def answer_of(host: str, **kept: Any) -> Answer:
    """What the probe of a host that keeps nothing, or what is given, answers."""
    answer = copy.deepcopy(RECORDED)
    number = HOSTS.index(host) + 11
    answer["addresses"] = [{"address": f"198.51.100.{number}", "link": "eth0", "mtu": 1500}]
    answer["kept"] = {
        "revision": 0,
        "digest": "",
        "shared": [],
        "leases": {},
        "module_state": {},
        "signature": "",
        **kept,
    }
    return answer


class Controller:
    """Plans the hosts as an inventory declares them; what it remembers is in ``directory``."""

    def __init__(self, directory: Path, variables: Optional[Mapping[str, Any]] = None) -> None:
        self.directory = directory
        directory.mkdir(exist_ok=True)
        self.variables = VARIABLES if variables is None else variables
        self.kept: dict[str, Answer] = {}

    def copied(self, directory: Path) -> Controller:
        """The same in another place; what becomes of it there is not remembered here."""
        shutil.rmtree(directory, ignore_errors=True)
        shutil.copytree(self.directory, directory)
        other = Controller(directory, self.variables)
        other.kept = copy.deepcopy(self.kept)
        return other

    @property
    def store(self) -> Path:
        """The file of leases."""
        return self.directory / ".cnm-leases.sqlite3"

    def answers(self) -> dict[str, Answer]:
        """What honest hosts answer, that did as they were told."""
        return {host: answer_of(host, **copy.deepcopy(self.kept.get(host, {}))) for host in HOSTS}

    def run(self, answers: Mapping[str, Any], remember: bool = True) -> Outcome:
        """As the action of the module plan: read, plan, and hand out."""
        reports = {host: read_probe(host, answer) for host, answer in answers.items()}
        facts = {host: found for host, report in reports.items() if (found := report.facts) is not None}
        groups = {"all": list(self.variables)}
        outcome = make_plans(self.variables, groups, facts, str(self.directory), NOW, remember)
        for host, report in reports.items():
            if report.refusal:
                outcome.refusals[host] = [report.refusal]
            outcome.warnings[host] = [*report.warnings, *outcome.warnings.get(host, ())]
        for host, plan in outcome.plans.items():
            self.kept[host] = {
                "revision": outcome.revisions[host],
                "digest": plan.digest,
                "signature": outcome.signatures[host],
                **json.loads(json.dumps({"leases": plan.leases, "module_state": plan.module_state})),
            }
        return outcome


def texts(outcome: Outcome, *without: str) -> dict[str, str]:
    """The plans of all hosts but some, as they are sent, with what they share."""
    plans = {host: plan for host, plan in outcome.plans.items() if host not in without}
    shared = sorted({digest for plan in plans.values() for digest in plan.shared})
    return {**{host: plan.text for host, plan in plans.items()}, **{key: outcome.shared[key] for key in shared}}
