# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: cnm.fabric contributors
"""Which Python the user has chosen for a host; the one file of the controller half that asks Ansible's settings."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Optional

from ansible import constants

_DISCOVERED = ("", "None", "auto", "auto_legacy", "auto_silent", "auto_legacy_silent")
"""Values that leave the choice to Ansible."""


def chosen_python(action: Any, variables: Mapping[str, Any]) -> Optional[str]:
    """The interpreter that Ansible would run modules with on the action's host; None if it had to look for one."""
    if getattr(action._connection, "_remote_is_local", False):
        return str(variables["ansible_playbook_python"])
    delegated = action._task.delegate_to
    about = variables["ansible_delegated_vars"][delegated] if delegated else variables
    setting = constants.config.get_config_value("INTERPRETER_PYTHON", variables=about)
    chosen = str(action._templar.template(setting)).strip()
    return None if chosen in _DISCOVERED else chosen
