# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: cnm.fabric contributors
"""Controller action: prints the hosts' networks in Docker's formats."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any, Optional, cast

from ansible.plugins.action import ActionBase

from ansible_collections.cnm.fabric.plugins.plugin_utils.action_common import forged_facts, project_of
from ansible_collections.cnm.fabric.plugins.plugin_utils.declaration.topology import PREDEFINED
from ansible_collections.cnm.fabric.plugins.plugin_utils.inspect.docker_json import inspect_document, merge_documents
from ansible_collections.cnm.fabric.plugins.plugin_utils.inspect.docker_model import live_model
from ansible_collections.cnm.fabric.plugins.plugin_utils.inspect.model import Model
from ansible_collections.cnm.fabric.plugins.plugin_utils.inspect.tables import (
    balancer_line,
    network_table,
    sandbox_table,
    service_table,
    task_table,
)
from ansible_collections.cnm.fabric.plugins.plugin_utils.reports.models import own_model
from ansible_collections.cnm.fabric.plugins.plugin_utils.reports.probe import read_probe


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
        models: dict[str, Model] = {}
        drift: dict[str, list[dict[str, Any]]] = {}
        for host in variables["ansible_play_hosts"]:
            probe = variables["hostvars"][host].get(arguments["probes"]) or {}
            if "kept" not in probe:
                continue
            report = read_probe(host, probe)
            problem = report.refusal or forged_facts(variables["hostvars"][host], (arguments["probes"],))
            for sentence in [problem] if problem else report.warnings:
                self._display.warning(f"{host}: {sentence}")
            if problem:
                continue
            found = report.data.get("drift", ())
            project = project_of({"cnm_project": variables["hostvars"][host].get("cnm_project")}, {})
            model = own_model(report.data["kept"].get("model", {}), host, project)
            if model:
                models[host] = live_model(cast("Model", model), found)
            if found:
                drift[host] = found
        documents = merge_documents({host: model["networks"] for host, model in models.items()})
        networks = {host: [inspect_document(document) for document in group] for host, group in documents.items()}
        if not arguments["quiet"]:
            self._show(models, networks, drift)
        return {**result, "changed": False, "networks": networks, "drift": drift}

    def _show(
        self,
        models: Mapping[str, Model],
        networks: Mapping[str, list[dict[str, Any]]],
        drift: Mapping[str, list[dict[str, Any]]],
    ) -> None:
        if not models:
            self._display.display("No host has networks of this project yet: run cnm.fabric.site first.")
            return
        by_id = {document["Id"]: document for _host, documents in sorted(networks.items()) for document in documents}
        declared = [document for document in by_id.values() if document["Name"] not in PREDEFINED]
        made = (network_table, sandbox_table, service_table, task_table, balancer_line)
        for text in (*filter(None, (make(models) for make in made)), json.dumps(declared, indent=4)):
            self._display.display(f"{text}\n")
        for host, operations in sorted(drift.items()):
            for operation in operations:
                what = f"{operation['kind']} {operation['name']}"
                self._display.warning(f"{host} is not as planned: {what} (a run would {operation['action']} it)")
