# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: cnm.fabric contributors
"""Controller action: reads the variables of all hosts and writes a plan file for each.  Runs once per play."""

from __future__ import annotations

import os
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any, Optional

from ansible import constants
from ansible.errors import AnsibleError
from ansible.plugins.action import ActionBase

from ansible_collections.cnm.fabric.plugins.module_utils.plan.codec import encode
from ansible_collections.cnm.fabric.plugins.module_utils.plan.constants import FRR, STEPS
from ansible_collections.cnm.fabric.plugins.plugin_utils.action_common import (
    directories_of_files,
    inventory_directory,
    is_linear,
    plan_file,
    play_of,
    without_facts,
)
from ansible_collections.cnm.fabric.plugins.plugin_utils.compose.importing import (
    Imported,
    Importer,
    errors_in_words_of_compose,
    in_words_of_compose,
)
from ansible_collections.cnm.fabric.plugins.plugin_utils.compose.located import origin_of as compose_origin
from ansible_collections.cnm.fabric.plugins.plugin_utils.declaration.errors import DeclarationError
from ansible_collections.cnm.fabric.plugins.plugin_utils.declaration.hostvars import (
    UnknownHosts,
    decrypted,
    first_template,
    own_variables,
    topology_hosts,
)
from ansible_collections.cnm.fabric.plugins.plugin_utils.declaration.origins import Origin, with_origin, with_origins
from ansible_collections.cnm.fabric.plugins.plugin_utils.declaration.stray_files import stray_files
from ansible_collections.cnm.fabric.plugins.plugin_utils.declaration.validation import MISSING_LIBRARY
from ansible_collections.cnm.fabric.plugins.plugin_utils.facts import Facts
from ansible_collections.cnm.fabric.plugins.plugin_utils.inspect.roll_lines import lines_of_rolls
from ansible_collections.cnm.fabric.plugins.plugin_utils.leases.base import LeaseError
from ansible_collections.cnm.fabric.plugins.plugin_utils.planner.outcome import Outcome
from ansible_collections.cnm.fabric.plugins.plugin_utils.planner.planning import make_plans
from ansible_collections.cnm.fabric.plugins.plugin_utils.refusals import UNANSWERED, of_all, stopped
from ansible_collections.cnm.fabric.plugins.plugin_utils.reports.answers import forged, forgery
from ansible_collections.cnm.fabric.plugins.plugin_utils.reports.probe import read_probe
from ansible_collections.cnm.fabric.plugins.plugin_utils.services.rolling import BEGIN, DONE, STEP
from ansible_collections.cnm.fabric.plugins.plugin_utils.shown import QUIET, Shown, UnknownLevel, read_shown

try:
    from ansible._internal._datatag._tags import Origin as _Tag
except ImportError:  # ansible-core 2.18
    _Tag = None

PROBES = "fabric_probe"


def _write(path: Path, text: str) -> None:
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "w", encoding="utf-8") as stream:
        stream.write(text)


def origin_of(value: Any) -> Optional[Origin]:
    """Where a value that Ansible read was written: by its tag, or before 2.19 by its type's own attribute.

    Values of Compose files know it themselves.
    """
    if (written := compose_origin(value)) is not None:
        return written
    if _Tag is None:
        position = getattr(value, "ansible_pos", None)
        return (str(position[0]), int(position[1])) if position and position[0] else None
    tag = _Tag.get_tag(value)
    if tag is None or tag is _Tag.UNKNOWN:
        return None
    return (str(tag.path), tag.line_num or 0) if tag.path else (str(tag.description).strip("<>"), 0)


class _HostVariables(dict[str, Mapping[str, Any]]):
    """Hosts' variables, templated on access; those that facts must not set are taken from the inventory."""

    def __init__(self, hostvars: Any, templar: Any, register: str) -> None:
        super().__init__()
        self._hostvars = hostvars
        self._templar = templar
        self._register = register
        self._forged: dict[str, list[str]] = {}

    def __missing__(self, name: str) -> Mapping[str, Any]:
        found: Mapping[str, Any] = self._hostvars[name]
        self._forged[name] = forged(found.get("ansible_facts"), (self._register,))
        if self._forged[name]:
            found = self._without(name, self._forged[name])
        self[name] = found
        return found

    def _without(self, name: str, names: list[str]) -> Mapping[str, Any]:
        try:
            inventory = without_facts(self._hostvars, name)
        except AttributeError as error:
            raise AnsibleError(f"{name}: {forgery(names)}") from error
        given = {key: value for key, value in self._hostvars.raw_get(name).items() if key not in names}
        given.update({key: inventory[key] for key in names if key in inventory})
        return _Templated(given, self._templar.copy_with_new_env(available_variables=given))

    def variable_of(self, name: str, variable: str, variables: Mapping[str, Any]) -> Any:
        """A variable of a host.  For the task's own host it comes from ``variables``, as the play may set it too."""
        found = self[name]
        return found.get(variable) if variable in self._forged[name] else variables.get(variable)

    def forgery(self, name: str) -> Optional[str]:
        """A sentence that names the forbidden variables among a host's facts; None if there are none."""
        return forgery(self._forged.get(name, ()))


class _Templated(Mapping[str, Any]):
    """One host's variables, templated on access."""

    def __init__(self, variables: Mapping[str, Any], templar: Any) -> None:
        self._variables = variables
        self._templar = templar

    def __getitem__(self, name: str) -> Any:
        return self._templar.template(self._variables[name])

    def __iter__(self) -> Iterator[str]:
        return iter(self._variables)

    def __len__(self) -> int:
        return len(self._variables)


class ActionModule(ActionBase):  # type: ignore[misc]
    """The action behind M(cnm.fabric.plan)."""

    TRANSFERS_FILES = False
    ARGUMENTS: Mapping[str, Any] = {
        "probes": {"type": "str", "default": PROBES},
        "scope": {"type": "str", "choices": ["topology", "host"], "default": "topology"},
        "project": {"type": "str"},
        "all_or_nothing": {"type": "bool", "default": True},
        "rolling": {"type": "str", "choices": [DONE, BEGIN, STEP], "default": DONE},
    }
    _supports_check_mode = True
    _supports_async = False

    def __init__(self, *arguments: Any, **named: Any) -> None:
        super().__init__(*arguments, **named)
        self._importer = Importer()
        self._imported: dict[str, dict[str, Imported]] = {}
        """What came of each host's Compose files, by variable."""

    def run(self, tmp: Optional[str] = None, task_vars: Optional[dict[str, Any]] = None) -> dict[str, Any]:
        result: dict[str, Any] = super().run(tmp, task_vars)
        variables = task_vars or {}
        _validation, arguments = self.validate_argument_spec(argument_spec=self.ARGUMENTS)
        problem = self._misplaced(arguments.get("scope", "topology"))
        if problem:
            return {**result, "failed": True, "msg": problem}
        try:
            return {**result, **self._work(variables, arguments)}
        except (UnknownHosts, UnknownLevel, LeaseError) as error:
            return {**result, "failed": True, "msg": str(error)}
        except DeclarationError as error:
            return {**result, **self._refused(error, variables)}

    def _refused(self, error: DeclarationError, variables: Mapping[str, Any]) -> dict[str, Any]:
        """The result for variables that are wrong; the errors are displayed here.

        In the result they are below ``invocation``, which callbacks print with -vvv only: nobody reads them twice.
        """
        found = with_origins(error, self._written(variables), origin_of)
        found = errors_in_words_of_compose(found, self._compose_paths)
        self._display.display(str(DeclarationError(found)), color=constants.COLOR_ERROR, stderr=True)
        count = f"{len(found)} error{'s' if len(found) > 1 else ''}"
        message = f"{count} in the variables, listed above. Nothing was changed."
        return {"failed": True, "msg": message, "invocation": {"errors": [asdict(item) for item in found]}}

    def _written(self, variables: Mapping[str, Any]) -> Callable[[str, str], Any]:
        """A host's variable as Ansible has it, or as a Compose file has it."""

        def variable(host: str, name: str) -> Any:
            imported = {
                key: item for part in self._imported.get(host, {}).values() for key, item in part.variables.items()
            }
            return imported[name] if name in imported else variables["hostvars"][host].get(name)

        return variable

    def _misplaced(self, scope: str) -> Optional[str]:
        if MISSING_LIBRARY is not None:
            return (
                f"the Python that runs Ansible lacks {MISSING_LIBRARY}: install the packages listed in "
                "meta/ee-requirements.txt of the collection cnm.fabric"
            )
        if scope == "host":
            return None
        play = play_of(self._task)
        if not self._task.run_once:
            return f"{self._task.action} is for all hosts at once: set run_once: true"
        if not is_linear(play) or getattr(play, "serial", None):
            return f"{self._task.action} needs all hosts at the same time: use strategy linear and no serial"
        return None

    def _work(self, variables: dict[str, Any], arguments: Mapping[str, Any]) -> dict[str, Any]:
        groups = variables["groups"]
        shown = read_shown(variables, self._templar.template)
        about, hosts = self._topology(variables, arguments["probes"])
        if arguments["scope"] == "topology" and arguments["all_or_nothing"]:
            self._tell_of_stray_files(variables)
        if arguments["scope"] == "host":
            hosts = [name for name in hosts if name == variables["inventory_hostname"]]
        facts, refused = self._read(hosts, about, arguments["probes"])
        asked = variables.get("ansible_play_hosts_all", ())
        unanswered = [name for name in hosts if name in asked and name not in facts and name not in refused]
        lost = [name for name in asked if name not in variables.get("ansible_play_hosts", asked)]
        if arguments["rolling"] == STEP and lost:
            return {"failed": True, "msg": stopped(lost)}
        named = {"cnm_project": arguments["project"]} if arguments["project"] else {}
        outcome = make_plans(
            {name: {**own, **named} for name, own in self._declared(hosts, about).items()},
            groups,
            facts,
            inventory_directory({"hostvars": about}, hosts),
            time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
            remember=not self._task.check_mode,
            complete=arguments["scope"] == "topology",
            connections={name: str(about[name].get("ansible_host") or "") for name in hosts},
            failed=[*refused, *unanswered],
            rolling=DONE if self._task.check_mode else arguments["rolling"],
        )
        paths = self._compose_paths
        for host, warnings in sorted(outcome.warnings.items()):
            for warning in warnings:
                self._display.warning(f"{host}: {in_words_of_compose(warning, paths)}")
        if arguments["all_or_nothing"]:  # plays that change no host need not say it again
            self._tell_of_compose(shown)
        unused = [name for name in outcome.unused if shown.includes(name) and shown.level != QUIET]
        if unused:
            self._display.display(f"Declared, but used by no sandbox or service, so not created: {', '.join(unused)}")
        if arguments["rolling"] != DONE and shown.level != QUIET:
            rolls = {name: roll for name, roll in outcome.rolls.items() if shown.includes(name)}
            held = [name for name in outcome.held if shown.includes(name)]
            for line in lines_of_rolls(rolls, held, self._task.check_mode, arguments["rolling"] == STEP):
                self._display.display(f"  {line}")
        refused.update(outcome.refusals)
        all_or_nothing = outcome.all_or_nothing and arguments["all_or_nothing"]
        written = self._written(variables)
        located = {
            name: [in_words_of_compose(with_origin(reason, name, written, origin_of), paths) for reason in reasons]
            for name, reasons in refused.items()
        }
        problem = self._tell(located, unanswered, len(hosts), all_or_nothing)
        if problem:
            return {"failed": True, "msg": problem}
        directory, summary = self._write_plans(outcome, facts)
        for name, reasons in refused.items():
            summary[name] = {"refused": [in_words_of_compose(reason, paths) for reason in reasons]}
        # If a host has failed, the run has to go on: Ansible forgets that when it ends a play early.
        settled = len(variables.get("ansible_play_hosts", ())) == len(asked) and all(
            summary.get(name, {}).get("settled", False) for name in hosts if name in asked
        )
        steps = max((roll["steps_left"] for roll in outcome.rolls.values()), default=0)
        rest = 0 if self._task.check_mode or arguments["rolling"] == DONE else steps
        return {
            "changed": False,
            "directory": str(directory),
            "hosts": summary,
            "settled": settled and not rest,
            "steps_left": rest,
            "pause": max((roll["pause"] for roll in outcome.rolls.values()), default=0) / 1000,
        }

    @staticmethod
    def _write_plans(outcome: Outcome, facts: Mapping[str, Facts]) -> tuple[Path, dict[str, Any]]:
        """Write the plans into a directory of this user alone; what later actions have to know of each host's."""
        directory = Path(tempfile.mkdtemp(prefix="cnm-plans-", dir=constants.DEFAULT_LOCAL_TMP))
        for digest, text in outcome.shared.items():
            _write(directory / digest, text)
        summary: dict[str, Any] = {}
        for name, plan in outcome.plans.items():
            _write(directory / plan_file(name), plan.text)
            waits = {key: found for key in STEPS if (found := getattr(outcome, key).get(name))}
            summary[name] = {
                "project": plan.project,
                "digest": plan.digest,
                "revision": outcome.revisions[name],
                "signature": outcome.signatures[name],
                "based_on": facts[name].digest,
                "seen": facts[name].seen,
                "kept": facts[name].digest == plan.digest,
                # The probe cannot compare encryption, as it does not have the keys.
                "settled": facts[name].digest == plan.digest
                and facts[name].settled
                and plan.encryption is None
                and name not in outcome.unsigned
                and not waits,
                **waits,
                **({"encryption": encode(plan.encryption)} if plan.encryption is not None else {}),
                **({"bgp": True} if plan.bgp else {}),
                "peer_tables": outcome.peer_tables[name],
                "shared": sorted(plan.shared - set(facts[name].shared)),
                "missing": [item for item in facts[name].missing if not plan.empty and (item != FRR or plan.bgp)],
            }
        return directory, summary

    def _tell(
        self, refused: Mapping[str, list[str]], unanswered: list[str], hosts: int, all_or_nothing: bool
    ) -> Optional[str]:
        """List what keeps hosts from being as declared; returns a sentence if therefore no host is to be changed."""
        listed = {**refused, **({name: [UNANSWERED] for name in unanswered} if all_or_nothing else {})}
        if listed:
            self._display.display(of_all(listed, hosts, all_or_nothing), color=constants.COLOR_ERROR, stderr=True)
        if not (listed and all_or_nothing):
            return None
        return "no host is changed (cnm_all_or_nothing): what is in the way is listed above"

    def _topology(self, variables: Mapping[str, Any], register: str) -> tuple[_HostVariables, list[str]]:
        """What is known of the hosts, and which of them are the topology."""
        about = _HostVariables(variables["hostvars"], self._templar, register)
        selection = about.variable_of(variables["inventory_hostname"], "cnm_hosts", variables)
        return about, topology_hosts(self._templar.template(selection), variables["groups"])

    def _read(
        self, hosts: list[str], about: _HostVariables, register: str
    ) -> tuple[dict[str, Facts], dict[str, list[str]]]:
        """The facts of the hosts, and for hosts whose report cannot be used the reasons."""
        facts, refused = {}, {}
        for name in hosts:
            probe = self._probe(about[name], register)
            if probe is None:
                continue
            report = read_probe(name, probe)
            problem = about.forgery(name) or report.refusal
            found = report.facts
            if problem or found is None:
                refused[name] = [problem]
                continue
            facts[name] = found
            for warning in report.warnings:
                self._display.warning(f"{name}: {warning}")
        return facts, refused

    @staticmethod
    def _probe(variables: Mapping[str, Any], register: str) -> Optional[Mapping[str, Any]]:
        probe = variables.get(register)
        usable = isinstance(probe, Mapping) and not probe.get("failed") and not probe.get("unreachable")
        return probe if usable and "kept" in probe else None  # type: ignore[operator]

    def _declared(self, hosts: list[str], about: Mapping[str, Mapping[str, Any]]) -> dict[str, dict[str, Any]]:
        """The hosts' own variables, with what their Compose files declare.  Raises DeclarationError for such a file."""
        own = {name: self._variables(name, about[name]) for name in hosts}
        directories = {name: directories_of_files(about[name]) for name in hosts}
        result, self._imported = self._importer.all_expanded(own, directories)
        return result

    def _tell_of_stray_files(self, variables: Mapping[str, Any]) -> None:
        """Warn of files of variables that nobody gets, for what they declare would be removed.

        Which inventories there are Ansible tells nobody, so this is silent if an Ansible has another name for it.
        """
        sources = getattr(getattr(variables["hostvars"], "_inventory", None), "_sources", None) or ()
        files = [str(source) for source in sources if source and os.path.exists(source)]
        directories = [path if os.path.isdir(path) else os.path.dirname(path) for path in files]
        if variables.get("playbook_dir"):
            directories.append(str(variables["playbook_dir"]))
        groups = variables["groups"]
        for text in stray_files(directories, groups["all"], groups, constants.YAML_FILENAME_EXTENSIONS):
            self._display.warning(text)

    @property
    def _compose_paths(self) -> dict[str, str]:
        """`Imported.paths` of all hosts."""
        every = (item for part in self._imported.values() for item in part.values())
        return {entry: path for item in every for entry, path in item.paths.items()}

    def _tell_of_compose(self, shown: Shown) -> None:
        """What of the Compose files was passed over, once for all hosts."""
        every = [item for part in self._imported.values() for item in part.values()]
        for text in dict.fromkeys(text for item in every for text in item.warnings):
            self._display.warning(text)
        for text in dict.fromkeys(text for item in every for text in item.notes):
            if shown.level != QUIET:
                self._display.display(text)

    @staticmethod
    def _variables(name: str, variables: Mapping[str, Any]) -> dict[str, Any]:
        result = {}
        for variable in own_variables(variables):
            try:
                result[variable] = decrypted(variables[variable])
            except AnsibleError as error:
                raise AnsibleError(f"{variable} on {name} cannot be rendered: {error}") from error
            # ansible-core 2.18 leaves a template that it cannot render unchanged.
            if unrendered := first_template(result[variable]):
                raise AnsibleError(f"{variable} on {name} cannot be rendered: {unrendered} uses an undefined variable")
        return result
