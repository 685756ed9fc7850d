# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: cnm.fabric contributors
"""Controller action: derives a host's checks from its plan and shows their results."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, Optional

from ansible import constants
from ansible.plugins.action import ActionBase

from ansible_collections.cnm.fabric.plugins.module_utils.plan.peers import PeerTable
from ansible_collections.cnm.fabric.plugins.plugin_utils.action_common import (
    ask,
    plan_file,
    without_work,
)
from ansible_collections.cnm.fabric.plugins.plugin_utils.inspect.verification import checks_of
from ansible_collections.cnm.fabric.plugins.plugin_utils.refusals import of_one


class ActionModule(ActionBase):  # type: ignore[misc]
    """The action behind M(cnm.fabric.verify)."""

    _supports_check_mode = True
    _supports_async = False

    def run(self, tmp: Optional[str] = None, task_vars: Optional[dict[str, Any]] = None) -> dict[str, Any]:
        result: dict[str, Any] = super().run(tmp, task_vars)
        variables = task_vars or {}
        host = variables["inventory_hostname"]
        _validation, arguments = self.validate_argument_spec(
            argument_spec={
                **{key: {"type": "str"} for key in ("checks", "digest", "project")},
                "pairs": {"type": "int", "default": 100},
                "planned": {"type": "str", "default": "fabric_plan"},
            }
        )
        decided = without_work(variables, self._templar.template, (arguments["planned"],))
        if decided is not None:
            return {**result, **decided}
        planned = variables.get(arguments["planned"]) or {}
        planned_host = planned.get("hosts", {}).get(host)
        if planned_host is None or "refused" in planned_host:
            why = of_one(planned_host["refused"]) if planned_host else "run cnm.fabric.probe and cnm.fabric.plan first"
            return {**result, "failed": True, "msg": f"there is no plan to verify this host against: {why}"}
        directory = Path(planned["directory"])
        plan = json.loads((directory / plan_file(host)).read_text(encoding="utf-8"))
        peer_tables = [
            PeerTable.from_json((directory / name).read_text(encoding="utf-8")) for name in planned_host["peer_tables"]
        ]
        checks = checks_of(plan["model"], arguments["pairs"], peer_tables, host)
        arguments.update(checks=json.dumps(checks), digest=planned_host["digest"], project=planned_host["project"])
        answer = ask(self, "cnm.fabric.verify", arguments, variables)
        self._show(host, checks, answer)
        return {**result, **answer}

    def _show(self, host: str, checks: list[dict[str, Any]], answer: dict[str, Any]) -> None:
        """Print one line per sandbox with the number of checks, or a line for each failure."""
        missed: dict[str, list[dict[str, Any]]] = {}
        for miss in answer.get("misses", ()):
            missed.setdefault(miss["sandbox"], []).append(miss)
        connect: list[Any] = next((check["connect"] for check in checks if not check["sandbox"]), [])
        for check in [*(check for check in checks if check["sandbox"]), {"sandbox": "host", "connect": connect}]:
            name = check["sandbox"]
            if name == "host" and name not in missed and not connect:
                continue
            if "connect" in check:
                tried = f"{len(connect)} ports of hosts"
            else:
                tried = f"{len(check['reach'])} reached, {len(check['refuse'])} refused, {len(check['names'])} names"
            if name not in missed:
                self._display.display(f"  {host} {name}: ok ({tried})", color=constants.COLOR_OK)
            for miss in missed.get(name, ()):
                text = "MISS {check} {target}: wanted {wanted}, found {found}".format(**miss)
                self._display.display(f"  {host} {name}: {text}", color=constants.COLOR_ERROR)
