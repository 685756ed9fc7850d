# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: cnm.fabric contributors
"""Controller action: variables of all hosts in, a plan file a host out.  Runs once a play."""

from __future__ import annotations

import os
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Optional

from ansible import constants
from ansible.errors import AnsibleError
from ansible.plugins.action import ActionBase

from ansible_collections.cnm.fabric.plugins.module_utils.plan import encode
from ansible_collections.cnm.fabric.plugins.plugin_utils.controller import make_plans
from ansible_collections.cnm.fabric.plugins.plugin_utils.declaration.mistakes import DeclarationError
from ansible_collections.cnm.fabric.plugins.plugin_utils.declaration.structure import MISSING_LIBRARY
from ansible_collections.cnm.fabric.plugins.plugin_utils.facts import Facts
from ansible_collections.cnm.fabric.plugins.plugin_utils.leases.base import LeaseError
from ansible_collections.cnm.fabric.plugins.plugin_utils.topology_action import inventory_directory, plan_file
from ansible_collections.cnm.fabric.plugins.plugin_utils.variables import (
    UnknownHosts,
    decrypted,
    first_template,
    own_variables,
    topology_hosts,
)

PROBES = "fabric_probe"


def _write(path: Path, text: str) -> None:
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "w", encoding="utf-8") as stream:
        stream.write(text)


class ActionModule(ActionBase):  # type: ignore[misc]
    """The action behind M(cnm.fabric.plan)."""

    TRANSFERS_FILES = False
    _supports_check_mode = True
    _supports_async = False

    def run(self, tmp: Optional[str] = None, task_vars: Optional[dict[str, Any]] = None) -> dict[str, Any]:
        result: dict[str, Any] = super().run(tmp, task_vars)
        variables = task_vars or {}
        _validation, arguments = self.validate_argument_spec(
            argument_spec={
                "probes": {"type": "str", "default": PROBES},
                "scope": {"type": "str", "choices": ["topology", "host"], "default": "topology"},
                "project": {"type": "str"},
            }
        )
        problem = self._misplaced(arguments["scope"])
        if problem:
            return {**result, "failed": True, "msg": problem}
        try:
            return {**result, **self._plan(variables, arguments)}
        except UnknownHosts as error:
            return {**result, "failed": True, "msg": str(error)}
        except LeaseError as error:
            return {**result, "failed": True, "msg": str(error)}
        except DeclarationError as error:
            self._display.display(str(error), color=constants.COLOR_ERROR, stderr=True)
            mistakes = [str(mistake) for mistake in error.mistakes]
            count = f"{len(mistakes)} mistake{'s' if len(mistakes) > 1 else ''}" if mistakes else str(error)
            message = f"{count} in the variables, written out above. Nothing was changed." if mistakes else count
            return {**result, "failed": True, "msg": message, "mistakes": mistakes}

    def _misplaced(self, scope: str) -> Optional[str]:
        if MISSING_LIBRARY is not None:
            return (
                f"the Python that runs Ansible lacks {MISSING_LIBRARY}: install what meta/ee-requirements.txt of the "
                "collection cnm.fabric lists"
            )
        if scope == "host":
            return None
        play = getattr(getattr(self._task, "_parent", None), "_play", None)
        if not self._task.run_once:
            return "cnm.fabric.plan plans all hosts at once: write run_once: true"
        if play is not None and (play.strategy not in (None, "linear", "ansible.builtin.linear") or play.serial):
            return "cnm.fabric.plan must see all hosts at the same time: use strategy linear and no serial"
        return None

    def _plan(self, variables: dict[str, Any], arguments: Mapping[str, Any]) -> dict[str, Any]:
        hostvars, groups = variables["hostvars"], variables["groups"]
        hosts = topology_hosts(self._templar.template(variables.get("cnm_hosts")), groups)
        if arguments["scope"] == "host":
            hosts = [name for name in hosts if name == variables["inventory_hostname"]]
        probes = {name: self._probe(hostvars[name], arguments["probes"]) for name in hosts}
        facts = {name: Facts.from_probe(probe) for name, probe in probes.items() if probe is not None}
        named = {"cnm_project": arguments["project"]} if arguments["project"] else {}
        outcome = make_plans(
            {name: {**self._variables(name, hostvars[name]), **named} for name in hosts},
            groups,
            facts,
            inventory_directory(variables, hosts),
            time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
            remember=not self._task.check_mode,
            whole=arguments["scope"] == "topology",
            connections={name: str(hostvars[name].get("ansible_host") or "") for name in hosts},
        )
        for host, warnings in sorted(outcome.warnings.items()):
            for warning in warnings:
                self._display.warning(f"{host}: {warning}")
        directory = Path(tempfile.mkdtemp(prefix="cnm-plans-", dir=constants.DEFAULT_LOCAL_TMP))
        for digest, text in outcome.shared.items():
            _write(directory / digest, text)
        summary: dict[str, Any] = {}
        for name, plan in outcome.plans.items():
            _write(directory / plan_file(name), plan.to_json())
            summary[name] = {
                "project": plan.project,
                "digest": plan.digest,
                "revision": outcome.revisions[name],
                "based_on": facts[name].digest,
                "kept": facts[name].digest == plan.digest,
                # Without the keys the probe cannot tell whether encryption is as planned.
                "settled": facts[name].digest == plan.digest and facts[name].settled and plan.encryption is None,
                **({"encryption": encode(plan.encryption)} if plan.encryption is not None else {}),
                "meshes": outcome.meshes[name],
                "shared": sorted(plan.shared - set(facts[name].shared)),
                "missing": list(facts[name].missing) if plan.resources else [],
            }
        for name, reasons in outcome.refusals.items():
            summary[name] = {"refused": reasons}
        return {"changed": False, "directory": str(directory), "hosts": summary}

    @staticmethod
    def _probe(variables: Mapping[str, Any], register: str) -> Optional[Mapping[str, Any]]:
        probe = variables.get(register)
        usable = isinstance(probe, Mapping) and not probe.get("failed") and not probe.get("unreachable")
        return probe if usable and "kept" in probe else None  # type: ignore[operator]

    @staticmethod
    def _variables(name: str, variables: Mapping[str, Any]) -> dict[str, Any]:
        result = {}
        for variable in own_variables(variables):
            try:
                result[variable] = decrypted(variables[variable])
            except AnsibleError as error:
                raise AnsibleError(f"{variable} on {name} cannot be rendered: {error}") from error
            # ansible-core 2.18 leaves a template it cannot render as it is.
            if unrendered := first_template(result[variable]):
                raise AnsibleError(f"{variable} on {name} cannot be rendered: {unrendered} uses what is not defined")
        return result
