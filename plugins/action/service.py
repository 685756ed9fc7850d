# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: cnm.fabric contributors
"""Controller action of the module service."""

from __future__ import annotations

from typing import ClassVar

from ansible_collections.cnm.fabric.plugins.action.network import ActionModule as ModelAction


class ActionModule(ModelAction):
    """The action behind M(cnm.fabric.service)."""

    MODULE: ClassVar[str] = "service"
