# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: cnm.fabric contributors
"""Controller action of the module network, and the base class of those of endpoint, sandbox and service."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar, Optional

from ansible.errors import AnsibleError
from ansible.plugins.action import ActionBase

from ansible_collections.cnm.fabric.plugins.plugin_utils.action_common import (
    forced,
    forged_facts,
    inventory_directory,
    project_of,
)
from ansible_collections.cnm.fabric.plugins.plugin_utils.calling import ask
from ansible_collections.cnm.fabric.plugins.plugin_utils.declaration.hostvars import (
    UnknownHosts,
    decrypted,
    topology_hosts,
)
from ansible_collections.cnm.fabric.plugins.plugin_utils.declaration.module_objects import KEPT_SETTINGS, OF_STORE
from ansible_collections.cnm.fabric.plugins.plugin_utils.declaration.validation import MISSING_LIBRARY
from ansible_collections.cnm.fabric.plugins.plugin_utils.module_runner import Run, argument_spec, carry_out, from_text
from ansible_collections.cnm.fabric.plugins.plugin_utils.module_state.edits import Call, unknown_options


class ActionModule(ActionBase):  # type: ignore[misc]
    """Plans the whole host with the requested change, and converges it."""

    TRANSFERS_FILES = False
    _supports_check_mode = True
    _supports_async = False
    MODULE: ClassVar[str] = "network"

    def run(self, tmp: Optional[str] = None, task_vars: Optional[dict[str, Any]] = None) -> dict[str, Any]:
        result: dict[str, Any] = super().run(tmp, task_vars)
        variables = task_vars or {}
        problem = self._problem() or forged_facts(variables)
        if problem:
            return {**result, "failed": True, "msg": problem}
        _validation, arguments = self.validate_argument_spec(argument_spec=argument_spec(self.MODULE))
        state, lock_timeout = arguments.pop("state"), arguments.pop("lock_timeout")
        settings = self._settings(variables)
        settings["cnm_project"] = project_of(settings, {"project": arguments.pop("project")})
        host = str(variables["inventory_hostname"])
        call = Call(self.MODULE, host, from_text(decrypted(arguments)), absent=state == "absent")

        def execute(module: str, options: Mapping[str, Any]) -> dict[str, Any]:
            return ask(self, module, options, variables)

        directory = inventory_directory(variables, self._topology(variables))
        check = bool(self._task.check_mode)
        force = forced(variables, self._templar.template)
        answer = carry_out(Run(call, settings, directory, check, lock_timeout, execute, force))
        return {**result, **answer}

    def _problem(self) -> Optional[str]:
        if MISSING_LIBRARY is not None:
            return (
                f"the Python that runs Ansible lacks {MISSING_LIBRARY}: install the packages listed in "
                "meta/ee-requirements.txt of the collection cnm.fabric"
            )
        return unknown_options(self.MODULE, self._task.args) or None

    def _topology(self, variables: Mapping[str, Any]) -> list[str]:
        """The hosts of the topology, which share the lease store; only this host if it is not one of them."""
        host = str(variables["inventory_hostname"])
        try:
            hosts = topology_hosts(self._templar.template(variables.get("cnm_hosts")), variables["groups"])
        except UnknownHosts:
            hosts = []
        return hosts if host in hosts else [host]

    def _settings(self, variables: Mapping[str, Any]) -> dict[str, Any]:
        """The host's settings as they are in the inventory now."""
        result = {}
        for name in (*KEPT_SETTINGS, *OF_STORE):
            if variables.get(name) is None:
                continue
            try:
                result[name] = decrypted(self._templar.template(variables[name]))
            except AnsibleError as error:
                raise AnsibleError(f"{name} cannot be rendered: {error}") from error
        return result
