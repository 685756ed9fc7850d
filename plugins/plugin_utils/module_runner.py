# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: cnm.fabric contributors
"""One call of the module network, sandbox, endpoint or service: read the host, plan it again, converge it.

Imports no Ansible; the actions pass plain data, and a function that runs a module on the host.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any, Optional, cast

from ..module_utils.plan.plan import Plan
from ..module_utils.plan.records import dataclass
from .declaration.errors import DeclarationError
from .declaration.module_objects import pack_declared, unpack_declared
from .declaration.topology import Host, Settings
from .facts import Facts
from .inspect.docker_json import inspect_document
from .inspect.docker_model import live_model, model_of_host
from .inspect.model import Model
from .leases.base import LeaseError
from .module_state.edits import (
    OPTIONS,
    Call,
    HostModel,
    Missing,
    Refusal,
    edit,
    format_errors,
    localize_message,
    with_link_names,
)
from .planner.planning import Stamp, plan_host
from .reports.models import own_model
from .reports.probe import read_probe

_ATTEMPTS = 5

Answer = dict[str, Any]
Execute = Callable[[str, Mapping[str, Any]], Answer]
"""Runs a module on the host, given its name and arguments."""

_ONE_OR_MORE = ("aliases", "dns", "dns_search", "dns_opt", "expose", "link_local_ips", "policies", "subnet")
_LISTS = ("networks", "ports", "routes")
_EITHER = ("labels", "extra_hosts", "sysctls")
_MAPPINGS = ("ipam", "driver_opts", "namespace", "deploy", "limits", "netem")
_FLAGS = ("internal", "enable_ipv4", "enable_ipv6", "attachable", "encrypted")


def argument_spec(module: str) -> dict[str, dict[str, Any]]:
    """The options of a model module, for Ansible; their values are validated by the declaration's readers."""
    spec: dict[str, dict[str, Any]] = {name: _argument(name) for name in OPTIONS[module]}
    for name in ("name",) if "name" in spec else ("network", "sandbox"):
        spec[name] = {"type": "str", "required": True}
    return {
        **spec,
        "state": {"type": "str", "choices": ["present", "absent"], "default": "present"},
        "project": {"type": "str"},
        "lock_timeout": {"type": "int", "default": 60},
    }


def _argument(name: str) -> dict[str, Any]:
    if name in _ONE_OR_MORE:
        return {"type": "list", "elements": "str"}
    if name == "gw_priority":
        return {"type": "int"}
    kinds = {"bool": _FLAGS, "dict": _MAPPINGS, "raw": (*_LISTS, *_EITHER)}
    return {"type": next((kind for kind, names in kinds.items() if name in names), "str")}


def from_text(options: Mapping[str, Any]) -> dict[str, Any]:
    """The given options, parsed as YAML where they are text, as all values on a command line are."""
    return {name: _yaml(name, value) for name, value in options.items() if value is not None}


def _yaml(name: str, value: Any) -> Any:
    if isinstance(value, str) and name in (*_LISTS, *_EITHER):
        return _structured(value)
    return value[0] if name == "subnet" and len(value) == 1 else value


def _structured(text: str) -> Any:
    if text.lstrip().startswith(("[", "{")):
        try:
            return json.loads(text)
        except ValueError:
            return text
    return [part.strip() for part in text.split(",") if part.strip()]


@dataclass(frozen=True)
class Run:
    """The input of a call; ``settings`` are the host's ``cnm_`` settings from the inventory."""

    call: Call
    settings: Mapping[str, Any]
    directory: str
    check: bool
    lock_timeout: int
    execute: Execute
    force: bool = False
    """Whether a sandbox is removed although processes run in it."""

    @property
    def project(self) -> str:
        """The project that the objects belong to."""
        return str(self.settings["cnm_project"])


def carry_out(run: Run) -> Answer:
    """The module's result.  Starts again if another run changed the host meanwhile."""
    for _attempt in range(_ATTEMPTS):
        answer = _once(run)
        if not answer.pop("overtaken", False):
            break
    return answer


def _once(run: Run) -> Answer:
    probe = run.execute("cnm.fabric.probe", {"project": run.project, "declared": True})
    if "kept" not in probe:
        return {**probe, "failed": True}
    report = read_probe(run.call.host, probe)
    facts = report.facts
    if facts is None:
        return _failed(report.refusal)
    known: Optional[HostModel] = None
    try:
        known = HostModel.of(run.call.host, facts, run.settings)
        wanted = edit(run.call, known)
        if wanted is None:
            return _result(run, facts.model, facts.model, {"changed": False, "operations": []})
        planned, stamp = plan_host(wanted.host, facts, run.directory, _now(), remember=not run.check)
    except Missing as error:
        return _foretold(run.call, str(error)) if run.check else _failed(str(error))
    except (Refusal, LeaseError) as error:
        return _failed(str(error))
    except DeclarationError as error:
        return _failed(format_errors(error, run.call, known))
    if run.call.host in planned.refusals:
        return _failed("\n".join(localize_message(text, run.call, wanted) for text in planned.refusals[run.call.host]))
    made = planned.plans[run.call.host]
    module_state = with_link_names(wanted.module_state, made.model)
    # Unchanged, so that the plan equals the one that site makes.
    declared = pack_declared(unpack_declared(facts.declared))
    plan = replace(made, declared=declared, module_state=module_state.packed())
    answer = _converge(run, plan, stamp, facts)
    warnings = [*probe.get("warnings", ()), *planned.warnings.get(run.call.host, ()), *answer.get("warnings", ())]
    answer = {**answer, **({"warnings": warnings} if warnings else {})}
    return answer if answer.get("failed") else _result(run, facts.model, plan.model, answer)


def _now() -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())


def _converge(run: Run, plan: Plan, stamp: Stamp, facts: Facts) -> Answer:
    digest = plan.digest
    arguments: dict[str, Any] = {
        "project": run.project,
        "digest": digest,
        "revision": stamp.revision_of(plan, facts),
        "signature": stamp.signature_of(plan),
        "based_on": facts.digest,
        "seen": facts.seen,
        "strict": True,
        "lock_timeout": run.lock_timeout,
        "force": run.force,
    }
    if digest != facts.digest:
        arguments["plan"] = plan.to_json()
    return run.execute("cnm.fabric.converge", arguments)


def _failed(message: str) -> Answer:
    return {"failed": True, "msg": message}


def _foretold(call: Call, message: str) -> Answer:
    """The result of check mode if an object is missing that an earlier task of the play may create."""
    warning = f"{message} Without check mode this fails, unless an earlier task creates it."
    operation = {"action": "create", "kind": call.module, "name": call.label}
    diff = {"before": {}, "after": {f"{call.module} {call.label}": call.entry}}
    return {"changed": True, "operations": [operation], "diff": diff, "warnings": [warning]}


def _result(run: Run, before: Mapping[str, Any], after: Mapping[str, Any], answer: Answer) -> Answer:
    """The answer, with the network or sandbox as users see it; if only that differs, this is an operation too."""
    kind = run.call.module if run.call.module in ("network", "service") else "sandbox"
    name = str(run.call.options["name" if "name" in run.call.options else "sandbox"])
    was, becomes = (_shown(kind, model, name) for model in (before, after))
    answer = dict(answer)
    if not answer["operations"] and was != becomes:
        answer = {**answer, **_shown_operation(kind, name, was, becomes)}
    answer.pop("digest", None)
    return {**answer, kind: _document(kind, after, name)}


def _shown(kind: str, model: Mapping[str, Any], name: str) -> Answer:
    """A network's or sandbox's attributes as results show them; empty if it does not exist."""
    document = _document(kind, model, name)
    return {key: value for key, value in (document or {}).items() if key != "Containers"}


def _document(kind: str, model: Mapping[str, Any], name: str) -> Optional[Answer]:
    if kind == "network":
        documents = (item for item in model.get("networks", ()) if item["Name"] == name)
        return next((inspect_document(item) for item in documents), None)
    entry = model.get("services" if kind == "service" else "sandboxes", {}).get(name)
    return {"name": name, **entry} if entry is not None else None


def _shown_operation(kind: str, name: str, was: Answer, becomes: Answer) -> Answer:
    action = "change" if was and becomes else "create" if becomes else "delete"
    operation: Answer = {"action": action, "kind": kind, "name": name}
    keys = [key for key in {**was, **becomes} if was.get(key) != becomes.get(key)]
    if action == "change":
        operation["differences"] = [
            {"attribute": key, "found": was.get(key), "wanted": becomes.get(key)} for key in keys
        ]
    sides = (("before", was), ("after", becomes))
    diff = {
        side: {f"{kind} {name}": {key: text[key] for key in keys if key in text}} if text else {}
        for side, text in sides
    }
    return {"changed": True, "operations": [operation], "diff": diff}


def network_documents(probe: Mapping[str, Any], host: str, project: str) -> list[Answer]:
    """The documents of all networks of a probed host as they are now, always including the predefined ones."""
    kept = own_model(probe["kept"].get("model") or {}, host, project)
    model = cast(Model, kept) if kept else model_of_host(Host(host, Settings(project)), {}, {})
    return [inspect_document(item) for item in live_model(model, probe.get("drift", ()))["networks"]]
