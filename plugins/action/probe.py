# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: cnm.fabric contributors
"""Controller action: skips hosts outside the topology, and passes the project's name to the module."""

from __future__ import annotations

import contextlib
from typing import Any, Optional

from ansible.errors import AnsibleError
from ansible.plugins.action import ActionBase

from ansible_collections.cnm.fabric.plugins.plugin_utils.action_common import (
    directories_of_files,
    forced,
    project_of,
    without_work,
)
from ansible_collections.cnm.fabric.plugins.plugin_utils.calling import ask
from ansible_collections.cnm.fabric.plugins.plugin_utils.compose.importing import Importer, is_compose
from ansible_collections.cnm.fabric.plugins.plugin_utils.declaration.hostvars import (
    declared_sandboxes,
    is_shaped,
    namespace_owners,
    own_variables,
)
from ansible_collections.cnm.fabric.plugins.plugin_utils.declaration.module_objects import (
    SANDBOXES,
    SERVICES,
    declared_entries,
    kind_of,
)
from ansible_collections.cnm.fabric.plugins.plugin_utils.declaration.validation import MISSING_LIBRARY

_FORWARDING = ("cnm_compose", "cnm_sandboxes", "cnm_services")
"""Variables without which a host has no resolver that forwards names."""


class ActionModule(ActionBase):  # type: ignore[misc]
    """The action behind M(cnm.fabric.probe)."""

    _supports_check_mode = True
    _supports_async = False

    def run(self, tmp: Optional[str] = None, task_vars: Optional[dict[str, Any]] = None) -> dict[str, Any]:
        result: dict[str, Any] = super().run(tmp, task_vars)
        variables = task_vars or {}
        decided = without_work(variables, self._templar.template)
        if decided is not None:
            return {**result, **decided}
        arguments = {**self._task.args, "project": self._project(variables)}
        arguments.setdefault("encryption", "cnm_overlay_secret" in variables)
        if not any(name.startswith(_FORWARDING) for name in variables):
            arguments.pop("ask_resolvers", None)
        if arguments.get("obstacles", True):
            declared = self._declared(variables)
            sandboxes = declared_sandboxes(declared)
            entries = [*sandboxes.values(), *declared_entries(declared, SERVICES).values()]
            arguments.setdefault("owners", namespace_owners(sandboxes))
            arguments.setdefault("shaping", any(map(is_shaped, entries)))
            if not forced(variables, self._templar.template):
                arguments.setdefault("staying", sorted(sandboxes))
        answer = ask(self, "cnm.fabric.probe", arguments, variables)
        return {**result, **answer}

    def _declared(self, variables: dict[str, Any]) -> dict[str, Any]:
        """The host's declared sandboxes and services by variable; the plan tells of what cannot be rendered."""
        result = {}
        for name in own_variables(variables):
            if kind_of(name) in (SANDBOXES, SERVICES) or is_compose(name):
                with contextlib.suppress(AnsibleError):
                    result[name] = self._templar.template(variables[name])
        if MISSING_LIBRARY is not None:
            return result  # the plan says so
        return Importer().expanded(result, directories_of_files(variables))[0]

    def _project(self, variables: dict[str, Any]) -> str:
        templated = {"cnm_project": self._templar.template(variables.get("cnm_project"))}
        return project_of(templated, self._task.args)
