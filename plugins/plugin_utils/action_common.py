# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: cnm.fabric contributors
"""What the actions have in common: the topology's hosts, the project's name, calling a module."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Optional

from ..module_utils.plan.codec import content_digest
from .declaration.hostvars import UnknownHosts, topology_hosts
from .reports.answers import admitted, forged, forgery


def plan_file(host: str) -> str:
    """The name of a host's file among the plans; a host's own name may be anything."""
    return f"{content_digest(host)[:32]}.json"


def without_work(
    variables: Mapping[str, Any], template: Callable[[Any], Any], also: Sequence[str] = ()
) -> Optional[dict[str, Any]]:
    """The result for a host that has forged facts (see `forged_facts`) or is not in the topology; None for others."""
    problem = forged_facts(variables, also)
    if problem:
        return {"failed": True, "msg": problem}
    try:
        hosts = topology_hosts(template(variables.get("cnm_hosts")), variables["groups"])
    except UnknownHosts:
        return None  # the plan says so for all
    if variables["inventory_hostname"] in hosts:
        return None
    return {"skipped": True, "skip_reason": "not in the topology (cnm_hosts)"}


def project_of(variables: Mapping[str, Any], arguments: Mapping[str, Any]) -> str:
    """The project the task names, else the host's ``cnm_project``, else the default."""
    return str(arguments.get("project") or variables.get("cnm_project") or "default")


def inventory_directory(variables: Mapping[str, Any], hosts: Sequence[str]) -> str:
    """The folder of the inventory the topology's first host stands in: the lease store is there by default."""
    directory = variables["hostvars"][hosts[0]].get("inventory_dir") if hosts else None
    # Ansible says "None" of hosts that stand on the command line.
    return str(directory) if directory and str(directory) != "None" else str(Path.cwd())


def ask(action: Any, module: str, arguments: Mapping[str, Any], variables: Mapping[str, Any]) -> dict[str, Any]:
    """Run a module of ours on an action's host; its answer as far as it may reach the play (see `answers`).

    Of facts it has but the Python that Ansible found there, which Ansible notes as one.
    """
    answer = action._execute_module(module_name=module, module_args=dict(arguments), task_vars=variables)
    if isinstance(answer, Mapping):
        answer = {
            key: value for key, value in answer.items() if key != "ansible_facts" or not _is_python(action, value)
        }
    result = admitted(module, str(variables["inventory_hostname"]), answer)
    name = getattr(action, "_discovered_interpreter_key", None)
    return {**result, "ansible_facts": {name: str(action._discovered_interpreter)}} if name else result


def _is_python(action: Any, facts: Any) -> bool:
    """Whether these facts are but the Python that Ansible found."""
    return isinstance(facts, Mapping) and set(facts) == {getattr(action, "_discovered_interpreter_key", None)}


class _NoFacts(dict[str, Any]):
    """Stands for the cache of facts of hosts that have reported nothing."""

    def get(self, _host: Any, _default: Any = None) -> Any:
        return {}


def without_facts(hostvars: Any, host: str) -> Mapping[str, Any]:
    """A host's variables, not templated, as they would be if it had reported no facts.

    Ansible lays facts over the inventory and has no way to ask for one without the other, so this asks a copy of its
    own manager of variables that has no facts.  Raises AttributeError with an Ansible that is made otherwise.
    """
    manager = hostvars._variable_manager
    copy = object.__new__(type(manager))
    copy.__dict__.update(manager.__dict__)
    if not hasattr(copy, "_fact_cache"):
        raise AttributeError("Ansible's manager of variables has no cache of facts any more")
    copy._fact_cache = _NoFacts()
    found: Mapping[str, Any] = copy.get_vars(host=hostvars._inventory.get_host(host), include_hostvars=False)
    return found


def forged_facts(variables: Mapping[str, Any], also: Sequence[str] = ()) -> Optional[str]:
    """A sentence if a host's facts have what only the inventory may say; None if they do not."""
    return forgery(forged(variables.get("ansible_facts"), also))
