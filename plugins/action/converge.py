# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: cnm.fabric contributors
"""Controller action: sends a host its plan, or only the plan's digest if the host has that plan already."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Optional

from ansible.plugins.action import ActionBase

from ansible_collections.cnm.fabric.plugins.module_utils.plan.codec import decode
from ansible_collections.cnm.fabric.plugins.module_utils.plan.constants import STEPS
from ansible_collections.cnm.fabric.plugins.module_utils.plan.encryption import Xfrm
from ansible_collections.cnm.fabric.plugins.module_utils.plan.peers import PeerTable
from ansible_collections.cnm.fabric.plugins.plugin_utils.action_common import (
    forced,
    plan_file,
    project_of,
    switched_on,
    without_work,
)
from ansible_collections.cnm.fabric.plugins.plugin_utils.calling import ask
from ansible_collections.cnm.fabric.plugins.plugin_utils.declaration.hostvars import decrypted
from ansible_collections.cnm.fabric.plugins.plugin_utils.networks.encryption import pair_keys
from ansible_collections.cnm.fabric.plugins.plugin_utils.refusals import of_one
from ansible_collections.cnm.fabric.plugins.plugin_utils.shown import UnknownLevel, read_shown

_NOTHING_TO_DO: dict[str, Any] = {
    "changed": False,
    "operations": [],
    "changes": [],
    "diff": {"before": "", "after": ""},
    "warnings": [],
}
"""The result for a host that the probe found as planned: the module is not called."""


class ActionModule(ActionBase):  # type: ignore[misc]
    """The action behind M(cnm.fabric.converge)."""

    _supports_check_mode = True
    _supports_async = False

    def run(self, tmp: Optional[str] = None, task_vars: Optional[dict[str, Any]] = None) -> dict[str, Any]:
        result: dict[str, Any] = super().run(tmp, task_vars)
        variables = task_vars or {}
        decided = without_work(variables, self._templar.template, (str(self._task.args.get("planned", "fabric_plan")),))
        if decided is not None:
            return {**result, **decided}
        try:
            read_shown(variables, self._templar.template)
        except UnknownLevel as error:  # before anything changes, not when it is to be told
            return {**result, "failed": True, "msg": str(error)}
        arguments = dict(self._task.args)
        templated = {"cnm_project": self._templar.template(variables.get("cnm_project"))}
        arguments["project"] = project_of(templated, arguments)
        arguments.setdefault("force", forced(variables, self._templar.template))
        if arguments.get("state", "present") == "present" and "plan" not in arguments:
            problem = self._add_plan(arguments, variables)
            if problem:
                return {**result, "failed": True, "msg": problem}
            if arguments.pop("settled", False):
                return {**result, **_NOTHING_TO_DO, "digest": arguments["digest"]}
        answer = ask(self, "cnm.fabric.converge", arguments, variables)
        if "diff" in answer:
            header = f"networks of {variables['inventory_hostname']}"
            answer["diff"].update(before_header=header, after_header=header)
        return {**result, **answer}

    def _pair_keys(
        self, planned_host: Mapping[str, Any], directory: Path, project: str, variables: Mapping[str, Any]
    ) -> dict[str, str]:
        """The host's own keys of encrypted overlays; only this module call contains them."""
        wanted = decode(planned_host["encryption"]) if "encryption" in planned_host else None
        if not isinstance(wanted, Xfrm):
            return {}
        host = variables["inventory_hostname"]
        texts = ((directory / digest).read_text(encoding="utf-8") for digest in wanted.tables)
        peers = {address for text in texts for address in PeerTable.from_json(text).others(host).values()}
        secret = decrypted(self._templar.template(variables["cnm_overlay_secret"]))
        return pair_keys(str(secret), project, wanted.local, sorted(peers - {wanted.local}), wanted.epoch)

    def _add_plan(self, arguments: dict[str, Any], variables: dict[str, Any]) -> Optional[str]:
        host = variables["inventory_hostname"]
        planned = variables.get(arguments.pop("planned", "fabric_plan")) or {}
        planned_host = planned.get("hosts", {}).get(host)
        if planned_host is None:
            return "there is no plan for this host: run cnm.fabric.probe and cnm.fabric.plan first, in the same play"
        if "refused" in planned_host:
            return of_one(planned_host["refused"])
        arguments.update(
            {name: planned_host[name] for name in ("digest", "revision", "signature", "project", "based_on", "seen")}
        )
        arguments.update({name: planned_host[name] for name in STEPS if name in planned_host})
        if switched_on(variables, "cnm_full_look", self._templar.template):
            arguments["seen"] = ""
        if planned_host["settled"]:
            arguments["settled"] = True
            return None
        directory = Path(planned["directory"])
        arguments["pair_keys"] = self._pair_keys(planned_host, directory, planned_host["project"], variables)
        if planned_host.get("bgp"):
            evpn = self._templar.template(variables["cnm_evpn"])
            arguments["bgp_password"] = str(decrypted(evpn["password"]))
        if not planned_host["kept"]:
            arguments["plan"] = (directory / plan_file(host)).read_text(encoding="utf-8")
            arguments["shared"] = {
                digest: (directory / digest).read_text(encoding="utf-8") for digest in planned_host["shared"]
            }
        return None
