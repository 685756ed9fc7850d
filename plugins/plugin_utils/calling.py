# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: cnm.fabric contributors
"""Calls a host by Ansible's connection; the one file of the controller half that asks Ansible's settings."""

from __future__ import annotations

import shlex
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Optional

from ansible import constants
from ansible.module_utils.common.arg_spec import ArgumentSpecValidator

from ..module_utils.plan.calls import SPECS, secrets_of, without
from . import host_call
from .declaration.schema import BOOLEAN_WORDS
from .reports.answers import admitted

_DISCOVERED = ("", "None", "auto", "auto_legacy", "auto_silent", "auto_legacy_silent")
"""Values that leave the choice to Ansible."""


def ask(action: Any, module: str, arguments: Mapping[str, Any], variables: Mapping[str, Any]) -> dict[str, Any]:
    """Carry out a module of ours on an action's host; returns what of its answer may reach the play (`answers`).

    If the host keeps this version's host half, that is called, as it is there already; else it is sent.
    """
    name = module.rpartition(".")[2]
    unknown = ", ".join(sorted(arguments.keys() - SPECS[name].keys()))
    if unknown:
        return {"failed": True, "msg": f"{module} has no option {unknown}. It has {', '.join(sorted(SPECS[name]))}."}
    read = ArgumentSpecValidator(SPECS[name]).validate(_plain(arguments))
    if read.error_messages:
        return {"failed": True, "msg": f"{module}: {'; '.join(read.error_messages)}"}
    given = read.validated_parameters
    answer = _call(action, name, host_call.request(given, action._task.check_mode), variables)
    if isinstance(answer, Mapping) and answer.get("failed"):  # there may be what a terminal showed of the request
        answer = without(secrets_of(SPECS[name], given), answer)
    return admitted(module, str(variables["inventory_hostname"]), answer)


def _plain(value: Any) -> Any:
    """Containers copied item by item: Ansible's own have templates inside that are rendered as they are read."""
    if isinstance(value, Mapping):
        return {str(key): _plain(item) for key, item in value.items()}
    return [_plain(item) for item in value] if isinstance(value, (list, tuple)) else value


def _call(action: Any, name: str, request: bytes, variables: Mapping[str, Any]) -> Any:
    """The answer of the host half that the host keeps, or if it keeps none of this version, of the one that is sent."""
    if action._connection._shell.SHELL_FAMILY != "sh":
        return {"failed": True, "msg": "cnm.fabric needs a POSIX shell on the host: leave ansible_shell_type at sh"}
    python, pythons = _pythons(action, variables)
    environment = action._compute_environment_string()
    if BOOLEAN_WORDS.get(str(action._templar.template(variables.get("cnm_boot"))).lower()) is not False:
        done = _run(action, host_call.kept_command(name, environment, python), request)
        answer = host_call.answer(name, *done)
        if answer is not None:
            return answer
    sent = host_call.sent(Path(constants.DEFAULT_LOCAL_TMP))
    done = _run(action, host_call.sent_command(name, environment, python, pythons), sent + request)
    answer = host_call.answer(name, *done)
    if answer is not None:
        return answer
    return host_call.failure(f"cnm.fabric.{name} could not be started on the host", *done)


def _run(action: Any, command: str, data: bytes) -> tuple[int, str, str]:
    """Run a command that reads this: exit status, output, errors.

    Without pipelining the data is in a file of the action's temporary folder, as Ansible does it with modules.
    """
    if action._is_pipelining_enabled("new"):
        done = action._low_level_execute_command(command, in_data=data)
    else:
        shell = action._connection._shell
        if not shell.tmpdir:
            action._make_tmp_path()
        path = shell.join_path(shell.tmpdir, "request")
        action._transfer_data(path, data)
        action._fixup_perms2((shell.tmpdir, path), execute=False)
        done = action._low_level_execute_command(f"{command} <{shlex.quote(path)}")
    return done["rc"], done["stdout"], done["stderr"]


def _pythons(action: Any, variables: Mapping[str, Any]) -> tuple[Optional[str], list[str]]:
    """The interpreter that the user has chosen for the action's host, and those to look for if there is none."""
    if getattr(action._connection, "_remote_is_local", False):
        return str(variables["ansible_playbook_python"]), []
    delegated = action._task.delegate_to
    about = variables["ansible_delegated_vars"][delegated] if delegated else variables
    setting, several = (
        constants.config.get_config_value(name, variables=about)
        for name in ("INTERPRETER_PYTHON", "INTERPRETER_PYTHON_FALLBACK")
    )
    chosen = str(action._templar.template(setting)).strip()
    return None if chosen in _DISCOVERED else chosen, [str(each) for each in several]
