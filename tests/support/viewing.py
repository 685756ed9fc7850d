# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: cnm.fabric contributors
"""Hosts as `inspect` sees them, from variables and from what their probes say differs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Optional

from ansible_collections.cnm.fabric.plugins.module_utils.plan.plan import plan_data
from ansible_collections.cnm.fabric.plugins.plugin_utils.facts import Facts, LinkFacts
from ansible_collections.cnm.fabric.plugins.plugin_utils.inspect.health import HostView
from ansible_collections.cnm.fabric.plugins.plugin_utils.leases.base import empty
from ansible_collections.cnm.fabric.plugins.plugin_utils.module_state.reading import read_topology
from ansible_collections.cnm.fabric.plugins.plugin_utils.planner.plan import plan
from ansible_collections.cnm.fabric.plugins.plugin_utils.reports.models import CHANGES, MODEL, OPERATIONS

Answer = Mapping[str, Any]
"""What a probe says: ``drift`` and ``repairs``."""


def views_of(
    variables: Mapping[str, dict[str, Any]], answers: Optional[Mapping[str, Answer]] = None
) -> dict[str, HostView]:
    """The view of each host, after what it says came through the door for hosts' answers."""
    facts = {
        host: Facts(
            resolvers=("192.0.2.254",),
            addresses=((f"192.0.2.{number}", "eth0", 1500),),
            routes=(("default", "eth0", "192.0.2.254"),),
            links={"eth0": LinkFacts()},
        )
        for number, host in enumerate(variables, 1)
    }
    made = plan(read_topology(dict(variables)), facts, empty(), "2026-11-21T05:00:00Z")
    assert made.refusals == {}
    models = {host: plan_data(made.plans[host].to_json())["model"] for host in variables}
    return {host: view_of(model, (answers or {}).get(host, {})) for host, model in models.items()}


def view_of(model: Mapping[str, Any], answer: Answer) -> HostView:
    """The view of a host with a model and an answer that have the right form."""
    errors: list[tuple[str, str]] = []
    drift, repairs = (list(answer.get(key, ())) for key in ("drift", "repairs"))
    counts = answer.get("policy_counts", {})
    view = HostView(MODEL(model, errors), OPERATIONS(drift, errors), CHANGES(repairs, errors), counts=counts)
    assert errors == []
    return view


def differs(kind: str, name: str, text: str, *operations: str) -> Answer:
    """A host of which one part differs: ``differs("sandbox", "c1", "resolver of c1 (down)", "change resolver c1")``."""
    drift = [dict(zip(("action", "kind", "name"), each.split(" ", 2))) for each in operations]
    return {"drift": drift, "repairs": [{"action": "repair", "kind": kind, "name": name or None, "text": text}]}


def lost(kind: str, name: str, *objects: str) -> Answer:
    """A host that has lost a sandbox or a network: ``lost("sandbox", "c1", "namespace c1")``."""
    return differs(kind, name, f"{kind} {name} (missing)", *(f"create {each}" for each in objects))


def waits(name: str, why: str) -> Answer:
    """A host on which a sandbox waits for its namespace."""
    return {
        "drift": [{"action": "wait for", "kind": "sandbox", "name": name, "reason": why}],
        "repairs": [{"action": "wait", "kind": "sandbox", "name": name, "text": f"sandbox {name}: {why}"}],
    }


def together(*answers: Answer) -> Answer:
    """A host of which all of it is true."""
    return {key: [item for answer in answers for item in answer[key]] for key in ("drift", "repairs")}


def without_sandboxes(names: Sequence[str]) -> Answer:
    """A host that has lost these sandboxes."""
    return together(*(lost("sandbox", name, f"namespace {name}", f"resolver {name}") for name in names))
