# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: cnm.fabric contributors
"""Controller action: prints what a run changed on all hosts, in the words of the inventory."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Optional

from ansible import constants
from ansible.plugins.action import ActionBase

from ansible_collections.cnm.fabric.plugins.plugin_utils.action_common import (
    PlannedHosts,
    forged_facts,
    is_linear,
    play_of,
)
from ansible_collections.cnm.fabric.plugins.plugin_utils.forms import printable
from ansible_collections.cnm.fabric.plugins.plugin_utils.inspect.change_lines import change_lines
from ansible_collections.cnm.fabric.plugins.plugin_utils.reports.answers import admitted
from ansible_collections.cnm.fabric.plugins.plugin_utils.shown import UnknownLevel, read_shown

_COLORS = {
    "add": constants.COLOR_DIFF_ADD,
    "change": constants.COLOR_CHANGED,
    "remove": constants.COLOR_DIFF_REMOVE,
    "repair": constants.COLOR_WARN,
    "wait": constants.COLOR_WARN,
    "failed": constants.COLOR_ERROR,
}


class ActionModule(ActionBase):  # type: ignore[misc]
    """The action behind M(cnm.fabric.summary)."""

    _supports_check_mode = True
    _supports_async = False

    def run(self, tmp: Optional[str] = None, task_vars: Optional[dict[str, Any]] = None) -> dict[str, Any]:
        result: dict[str, Any] = super().run(tmp, task_vars)
        _validation, arguments = self.validate_argument_spec(
            argument_spec={
                "results": {"type": "str", "default": "fabric_result"},
                "probes": {"type": "str", "default": "fabric_probe"},
                "planned": {"type": "str", "default": "fabric_plan"},
                "state": {"type": "str", "choices": ["present", "absent"], "default": "present"},
            }
        )
        variables = task_vars or {}
        try:
            shown = read_shown(variables, self._templar.template)
        except UnknownLevel as error:
            return {**result, "failed": True, "msg": str(error)}
        changes: dict[str, Any] = {}
        failures: dict[str, str] = {}
        for host in self._hosts(variables):
            about = variables["hostvars"][host]
            names = (arguments["results"], arguments["probes"], arguments["planned"])
            if forged_facts(about, names):
                failures[host] = "its facts contain variables that a host must not set itself"
                continue
            found, why = self._read(host, about, names)
            if found is not None:
                changes[host] = found
            if why:
                failures[host] = why
        absent = arguments["state"] == "absent"
        for line in change_lines(changes, failures, shown, self._task.check_mode, absent):
            self._display.display(f"  {line.text}", color=_COLORS.get(line.action))
        return {**result, "changed": False, "changes": changes, "failures": failures}

    def _hosts(self, variables: Mapping[str, Any]) -> list[str]:
        """All hosts of the batch and those that failed; its own alone if the task runs on each of them."""
        if not self._task.run_once or not is_linear(play_of(self._task)):
            return [str(variables["inventory_hostname"])]
        left, batch = (set(variables[name]) for name in ("ansible_play_hosts", "ansible_play_batch"))
        return [str(host) for host in variables["ansible_play_hosts_all"] if host in batch or host not in left]

    @staticmethod
    def _read(host: str, about: Mapping[str, Any], names: tuple[str, str, str]) -> tuple[Optional[list[Any]], str]:
        """The changes of a host, None if it came to none, and why it failed, "" if it did not."""
        *answers, planned = names
        for name in answers:
            answer = about.get(name)
            if not isinstance(answer, Mapping) or answer.get("skipped"):
                continue
            if answer.get("unreachable"):
                return None, "it was not reached"
            if answer.get("failed"):
                told = admitted("cnm.fabric.converge", host, {**answer, "warnings": ()})
                return told.get("changes"), printable(str(told.get("msg", "see above")).partition("\n")[0], 1000)
            if name == names[0]:
                return admitted("cnm.fabric.converge", host, {**answer, "warnings": ()}).get("changes"), ""
        of_host = PlannedHosts(about.get(planned) or {}).found(host)
        return ([], "") if of_host.get("settled") else (None, "")
