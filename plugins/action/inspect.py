# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: cnm.fabric contributors
"""Controller action: shows what the hosts have, and what of it is not as planned."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any, Optional, cast

from ansible import constants
from ansible.plugins.action import ActionBase

from ansible_collections.cnm.fabric.plugins.plugin_utils.action_common import live_report
from ansible_collections.cnm.fabric.plugins.plugin_utils.inspect.docker_json import inspect_document, merge_documents
from ansible_collections.cnm.fabric.plugins.plugin_utils.inspect.docker_model import live_model
from ansible_collections.cnm.fabric.plugins.plugin_utils.inspect.health import HostView
from ansible_collections.cnm.fabric.plugins.plugin_utils.inspect.model import NOTHING, Model
from ansible_collections.cnm.fabric.plugins.plugin_utils.inspect.summary import (
    Selection,
    UnknownName,
    counts,
    problems,
    select,
    tables,
)
from ansible_collections.cnm.fabric.plugins.plugin_utils.inspect.tables import shown_networks
from ansible_collections.cnm.fabric.plugins.plugin_utils.shown import FULL, QUIET, Shown, UnknownLevel, read_shown


class ActionModule(ActionBase):  # type: ignore[misc]
    """The action behind M(cnm.fabric.inspect)."""

    _supports_check_mode = True
    _supports_async = False

    def run(self, tmp: Optional[str] = None, task_vars: Optional[dict[str, Any]] = None) -> dict[str, Any]:
        result: dict[str, Any] = super().run(tmp, task_vars)
        _validation, arguments = self.validate_argument_spec(
            argument_spec={
                "probes": {"type": "str", "default": "fabric_probe"},
                "quiet": {"type": "bool", "default": False},
            }
        )
        variables = task_vars or {}
        try:
            shown = read_shown(variables, self._templar.template)
            views = self._views(variables, arguments["probes"])
            selection = select(views, shown.only)
        except (UnknownLevel, UnknownName) as problem:
            return {**result, "failed": True, "msg": str(problem)}
        models = {
            host: live_model(view.planned, view.drift) for host, view in views.items() if view.planned["networks"]
        }
        documents = merge_documents({host: model["networks"] for host, model in models.items()})
        networks = {host: [inspect_document(document) for document in group] for host, group in documents.items()}
        if not arguments["quiet"]:
            self._show(selection, shown, networks)
        drift = {host: view.drift for host, view in views.items() if view.drift}
        policies = {host: found for host, view in views.items() if (found := _policies(view))}
        return {**result, "changed": False, "networks": networks, "drift": drift, "policies": policies}

    def _views(self, variables: Mapping[str, Any], probes: str) -> dict[str, HostView]:
        """What is known of each host of the play, without those that are not in the topology or not yet read."""
        views = {}
        for host in variables["ansible_play_hosts_all"]:
            probe = variables["hostvars"][host].get(probes) or {}
            if probe.get("skipped") or (not probe and host in variables["ansible_play_hosts"]):
                continue
            if "kept" not in probe:
                views[host] = HostView(NOTHING, answered=False)
                continue
            problem, data, model = live_report(self._display, host, variables, probes)
            if problem:
                views[host] = HostView(NOTHING, answered=False)
                continue
            planned: Model = cast("Model", model) if model else NOTHING
            drift, repairs = (data.get(key, ()) for key in ("drift", "repairs"))
            views[host] = HostView(planned, drift, repairs, counts=data.get("policy_counts", {}))
        return views

    def _show(self, selection: Selection, shown: Shown, networks: Mapping[str, list[dict[str, Any]]]) -> None:
        views = selection.views
        if all(view.answered and not view.planned["networks"] for view in views.values()) and not shown.only:
            self._display.display("No host has networks of this project yet: run cnm.fabric.site first.")
            return
        self._display.display(
            "\n".join([counts(selection), *(tables(selection, shown) if shown.level != QUIET else [])])
        )
        if shown.level == FULL:
            ids = {item["Id"] for view in views.values() for item in shown_networks(view.model, shown.only)}
            by_id = {item["Id"]: item for host in views for item in networks.get(host, ()) if item["Id"] in ids}
            self._display.display("\n" + json.dumps(list(by_id.values()), indent=4))
        wrong = problems(selection, shown)
        if wrong:
            self._display.display("\n".join(["", *wrong]), color=constants.COLOR_WARN)


def _policies(view: HostView) -> dict[str, Any]:
    """By sandbox with policies their names, and what was counted."""
    return {
        name: {"policies": entry["policy"]["policies"], **view.counts.get(name, {})}
        for name, entry in view.planned["sandboxes"].items()
        if "policy" in entry and entry["policy"]["policies"]
    }
