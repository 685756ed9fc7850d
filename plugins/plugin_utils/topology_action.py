# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: cnm.fabric contributors
"""What the actions that run on hosts share: who is in the topology, and whose project."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Optional

from ..module_utils.plan import content_digest
from .variables import UnknownHosts, topology_hosts


def plan_file(host: str) -> str:
    """The name of a host's file among the plans; a host's own name may be anything."""
    return f"{content_digest(host)[:32]}.json"


def reason_to_skip(variables: Mapping[str, Any], template: Callable[[Any], Any]) -> Optional[str]:
    """Why this host is passed over without a connection, or None if it belongs to the topology."""
    try:
        hosts = topology_hosts(template(variables.get("cnm_hosts")), variables["groups"])
    except UnknownHosts:
        return None  # the plan says so for all
    return None if variables["inventory_hostname"] in hosts else "not in the topology (cnm_hosts)"


def project_of(variables: Mapping[str, Any], arguments: Mapping[str, Any]) -> str:
    """The project the task names, else the host's ``cnm_project``, else the default."""
    return str(arguments.get("project") or variables.get("cnm_project") or "default")


def inventory_directory(variables: Mapping[str, Any], hosts: Sequence[str]) -> str:
    """The folder of the inventory the topology's first host stands in: the lease store is there by default."""
    directory = variables["hostvars"][hosts[0]].get("inventory_dir") if hosts else None
    # Ansible says "None" of hosts that stand on the command line.
    return str(directory) if directory and str(directory) != "None" else str(Path.cwd())
