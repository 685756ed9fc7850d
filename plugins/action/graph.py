# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: cnm.fabric contributors
"""Controller action: draws what is declared and what the hosts have, as a page and as diagrams.  Runs once per play."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Optional, cast

from ansible import constants
from ansible.plugins.action import ActionBase

from ansible_collections.cnm.fabric.plugins.plugin_utils.action_common import (
    PlannedHosts,
    forged_facts,
    live_report,
    project_of,
)
from ansible_collections.cnm.fabric.plugins.plugin_utils.forms import printable
from ansible_collections.cnm.fabric.plugins.plugin_utils.inspect.graph.attribution import roles_of
from ansible_collections.cnm.fabric.plugins.plugin_utils.inspect.graph.comparing import fabric_of
from ansible_collections.cnm.fabric.plugins.plugin_utils.inspect.graph.dot import dot
from ansible_collections.cnm.fabric.plugins.plugin_utils.inspect.graph.fabric import UNKNOWN, Fabric
from ansible_collections.cnm.fabric.plugins.plugin_utils.inspect.graph.mermaid import mermaid
from ansible_collections.cnm.fabric.plugins.plugin_utils.inspect.graph.order import LONGEST, Order, order_in
from ansible_collections.cnm.fabric.plugins.plugin_utils.inspect.graph.page import page
from ansible_collections.cnm.fabric.plugins.plugin_utils.inspect.graph.report import EMPTY, HostReport
from ansible_collections.cnm.fabric.plugins.plugin_utils.inspect.health import counted
from ansible_collections.cnm.fabric.plugins.plugin_utils.inspect.model import Model

_ENDINGS = (".html", ".htm")


class ActionModule(ActionBase):  # type: ignore[misc]
    """The action behind M(cnm.fabric.graph)."""

    _supports_check_mode = True
    _supports_async = False

    def run(self, tmp: Optional[str] = None, task_vars: Optional[dict[str, Any]] = None) -> dict[str, Any]:
        result: dict[str, Any] = super().run(tmp, task_vars)
        _validation, arguments = self.validate_argument_spec(
            argument_spec={
                "file": {"type": "path", "default": "cnm_graph.html"},
                "probes": {"type": "str", "default": "fabric_probe"},
                "planned": {"type": "str", "default": "fabric_plan"},
            }
        )
        variables = task_vars or {}
        path = Path(arguments["file"]).absolute()
        if path.suffix not in _ENDINGS:
            message = f"{path}: the page's name has to end in .html; the diagrams beside it get .mmd and .dot"
            return {**result, "failed": True, "msg": message}
        # A host must not choose which files of the controller are written and read.
        facts = variables.get("ansible_facts") or {}
        if "cnm_graph_file" in facts or arguments["planned"] in facts:
            return {**result, "failed": True, "msg": forged_facts(variables, (arguments["planned"],))}
        asked = [
            host
            for host in variables["ansible_play_hosts_all"]
            if not (variables["hostvars"][host].get(arguments["probes"]) or {}).get("skipped")
        ]
        plans = variables.get(arguments["planned"]) or {}
        reports = {host: self._report(host, variables, plans, arguments) for host in asked}
        projects = {self._project(host, variables) for host in asked} or {"default"}
        fabric = fabric_of(reports, ", ".join(sorted(projects)), _remembered(path))
        texts = {path: page(fabric), path.with_suffix(".mmd"): mermaid(fabric), path.with_suffix(".dot"): dot(fabric)}
        try:
            changed = [str(each) for each, text in texts.items() if _write(each, text)]
        except OSError as error:
            why = f"{path.parent}: {error.strerror}. Name a place that this user can write to (cnm_graph_file)"
            return {**result, "failed": True, "msg": f"the graph cannot be written to {why}"}
        self._show(fabric, path)
        files = [str(each) for each in texts]
        return {**result, "changed": bool(changed), "files": files, "differences": fabric.known_differences}

    def _report(
        self, host: str, variables: Mapping[str, Any], plans: Mapping[str, Any], arguments: Mapping[str, Any]
    ) -> HostReport:
        planned = plans.get("hosts", {}).get(host, {})
        declared, roles, refused = None, {}, " ".join(planned.get("refused", ()))
        if planned and not refused:
            plan = PlannedHosts(plans).plan(host)
            declared, roles = cast(Model, {**EMPTY, **plan["model"]}), roles_of(plan["resources"])
        probe = variables["hostvars"][host].get(arguments["probes"]) or {}
        if "kept" not in probe or probe.get("failed") or probe.get("unreachable"):
            standing = "could not be read" if probe.get("failed") else "did not answer"
            why = printable(" ".join(str(probe.get("msg") or "the play did not ask it").split()), 400)
            return HostReport(declared, problem=f"{standing}: {why}", standing=standing, roles=roles)
        problem, data, kept = live_report(self._display, host, variables, arguments["probes"])
        if problem:
            return HostReport(declared, problem=problem, standing="its answer cannot be used", roles=roles)
        found = data.get("drift", ())
        return HostReport(declared, cast(Model, {**EMPTY, **kept}), found, refused=refused, roles=roles)

    @staticmethod
    def _project(host: str, variables: Mapping[str, Any]) -> str:
        return project_of({"cnm_project": variables["hostvars"][host].get("cnm_project")}, {})

    def _show(self, fabric: Fabric, path: Path) -> None:
        silent = [host.name for host in fabric.hosts if host.state is UNKNOWN]
        found = fabric.known_differences
        said = [counted(len(fabric.hosts), "host"), counted(len(fabric.sandboxes), "sandbox")]
        said += [counted(found, "difference")] if found else []
        said += [f"{counted(len(silent), 'host')} not known"] if silent else []
        said += [] if found or silent else ["as declared"]
        colour = constants.COLOR_WARN if found or silent else constants.COLOR_OK
        self._display.display(f"{path}: {', '.join(said)}", color=colour)
        for host in fabric.hosts:
            if host.name in silent:
                self._display.warning(f"{host.name} {host.differences[0].words}")


def _remembered(path: Path) -> Order:
    """The order that the page there remembers, if there is one."""
    try:
        if not path.is_file() or path.stat().st_size > LONGEST:
            return Order()  # reading a device or a pipe may not end
        return order_in(path.read_text(encoding="utf-8", errors="replace"))
    except OSError:
        return Order()


def _write(path: Path, text: str) -> bool:
    """Put the text in place at once, and say whether it is another than before."""
    data = text.encode("utf-8", errors="replace")
    if path.is_file() and path.stat().st_size == len(data) and path.read_bytes() == data:
        return False
    descriptor, name = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)
    try:
        with os.fdopen(descriptor, "wb") as stream:
            stream.write(data)
        mask = os.umask(0)
        os.umask(mask)
        os.chmod(name, 0o666 & ~mask)
        os.replace(name, path)
    except BaseException:
        os.unlink(name)
        raise
    return True
