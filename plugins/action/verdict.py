# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: cnm.fabric contributors
"""Controller action: explains together what all hosts found."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Optional

from ansible.plugins.action import ActionBase

from ansible_collections.cnm.fabric.plugins.plugin_utils.action_common import (
    PlannedHosts,
    forged_facts,
    show_verdict,
)
from ansible_collections.cnm.fabric.plugins.plugin_utils.forms import printable
from ansible_collections.cnm.fabric.plugins.plugin_utils.inspect.findings import Findings, findings_of
from ansible_collections.cnm.fabric.plugins.plugin_utils.reports.answers import admitted
from ansible_collections.cnm.fabric.plugins.plugin_utils.shown import UnknownLevel, read_shown

_LONGEST = 200


class ActionModule(ActionBase):  # type: ignore[misc]
    """The action behind M(cnm.fabric.verdict)."""

    _supports_check_mode = True
    _supports_async = False

    def run(self, tmp: Optional[str] = None, task_vars: Optional[dict[str, Any]] = None) -> dict[str, Any]:
        result: dict[str, Any] = super().run(tmp, task_vars)
        variables = task_vars or {}
        _validation, arguments = self.validate_argument_spec(
            argument_spec={
                "planned": {"type": "str", "default": "fabric_plan"},
                "probes": {"type": "str", "default": "fabric_probe"},
                "results": {"type": "str", "default": "fabric_verify"},
            }
        )
        try:
            shown = read_shown(variables, self._templar.template)
        except UnknownLevel as error:
            return {**result, "failed": True, "msg": str(error)}
        planned = PlannedHosts(variables.get(arguments["planned"]) or {})
        findings: dict[str, Findings] = {}
        unasked: dict[str, str] = {}
        for host in variables["ansible_play_hosts_all"]:
            of_host = variables["hostvars"][host]
            answer = of_host.get(arguments["results"]) or {}
            if answer.get("skipped"):
                continue
            problem = forged_facts(of_host, tuple(arguments.values()))
            if not problem and "misses" in answer and not planned.problem(host):
                pairs = answer["pairs"]
                told = {key: value for key, value in answer.items() if key != "pairs"}
                told = admitted("cnm.fabric.verify", host, told)
                findings[host] = findings_of(host, planned.model(host), planned.peers(host), pairs, told)
            else:
                unasked[host] = problem or _why(answer or of_host.get(arguments["probes"]) or {})
        return {**result, "changed": False, **show_verdict(self._display, findings, unasked, shown)}


def _why(answer: Mapping[str, Any]) -> str:
    """Why a host gave no result."""
    if answer.get("unreachable"):
        return "Ansible does not reach it"
    message = str(answer.get("msg") or "").strip() or "it was not asked"
    return printable(message.splitlines()[0], _LONGEST)
