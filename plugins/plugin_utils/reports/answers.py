# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: cnm.fabric contributors
"""Filters modules' answers: only documented keys with values of the right form reach the play.  Pure.

Ansible acts on some keys of a result (``ansible_facts`` become variables, ``add_host`` adds a host), and a module's
answer is what a host says.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, Optional

from ..forms import Form, ReportErrors, Unfit, flag, matching, number, printable, shown, written
from .models import CHANGES, DIFF, OPERATIONS, VERIFY
from .probe import PROBE_KEYS, read_probe

_LONG = written(2**20)
_OF_ANSIBLE: dict[str, Form] = {
    "changed": flag,
    "failed": flag,
    "skipped": flag,
    "unreachable": flag,
    "msg": _LONG,
    "rc": number(-(2**31), 2**31),
    "module_stdout": _LONG,
    "module_stderr": _LONG,
}
"""Keys of a result that Ansible adds, as when a module fails or does not run."""
_FOR_DISPLAY = ("warnings", "deprecations", "exception")
_SILENT = ("invocation", "stdout_lines", "stderr_lines", "stdout", "stderr", "failed_when_result")
_CONVERGE: dict[str, Form] = {
    "operations": OPERATIONS,
    "changes": CHANGES,
    "diff": DIFF,
    "digest": matching("[0-9a-f]{64}", 64, "digest"),
    "overtaken": flag,
}
_FORMS: dict[str, dict[str, Form]] = {
    "cnm.fabric.converge": _CONVERGE,
    "cnm.fabric.verify": VERIFY,
    "cnm.fabric.probe": {},
}
_ALWAYS = {
    "cnm.fabric.converge": ("changed", "operations"),
    "cnm.fabric.verify": ("misses", "counts"),
    "cnm.fabric.probe": ("kept",),
}
"""Keys that an answer must have unless it reports a failure."""
_MOST = 20


def admitted(module: str, host: str, answer: Any) -> dict[str, Any]:
    """The answer in builtin types, with only the module's documented keys; ignored values become warnings.

    If a probe's answer cannot be used, the result is a failure of that host.
    """
    if not isinstance(answer, Mapping):
        return {"failed": True, "msg": f"{module} answered with {shown(answer)} instead of a mapping"}
    errors: ReportErrors = []
    result: dict[str, Any] = {}
    forms = {**_OF_ANSIBLE, **_FORMS[module]}
    own = PROBE_KEYS if module == "cnm.fabric.probe" else ()
    for key, value in answer.items():
        form = forms.get(key) if isinstance(key, str) else None
        if form is not None:
            try:
                result[str.__str__(key)] = form(value, errors)
            except Unfit as problem:
                errors.append((str(key), str(problem)))
        elif key not in (*own, *_FOR_DISPLAY, *_SILENT) and not str(key).startswith("_ansible_"):
            errors.append((printable(str(key)), "unknown key"))
    warnings = [_warning(item) for item in _items(answer.get("warnings"))]
    for key in ("deprecations", "exception"):
        if key in answer:
            found = answer[key]
            result[key] = [_warning(item) for item in _items(found)] if key == "deprecations" else _warning(found)
    if own and "kept" in answer and not result.get("failed"):
        report = read_probe(host, answer)
        if report.refusal:
            return {"failed": True, "msg": report.refusal}
        result.update(report.data)
        warnings += [f"{host}: {sentence}" for sentence in report.warnings]
    missing = [key for key in _ALWAYS[module] if key not in result]
    if missing and not result.get("failed"):
        message = f"the answer of {module} lacks {', '.join(missing)}: check the Python on this host"
        result.update(failed=True, msg=message)
    warnings += [
        f"{host}: ignored `{printable(path, 120)}` in the answer of {module}: {why}" for path, why in errors[:_MOST]
    ]
    if warnings:
        result["warnings"] = warnings
    return result


def _items(value: Any) -> Iterable[Any]:
    return value[:_MOST] if isinstance(value, (list, tuple)) else ()


def _warning(value: Any) -> Any:
    """A warning with texts made printable; other objects come from Ansible itself."""
    if isinstance(value, str):
        return "\n".join(printable(line, 1000) for line in str.__str__(value)[: 2**16].split("\n"))
    return {str(key): _warning(item) for key, item in value.items()} if isinstance(value, Mapping) else value


def forged(facts: Any, also: Iterable[str] = ()) -> list[str]:
    """Names among a host's facts that facts must not set: ``cnm_*``, ``inventory_dir``, and registered variables."""
    if not isinstance(facts, Mapping):
        return []
    others = {"inventory_dir", *also}
    return sorted(str(name) for name in facts if str(name).startswith("cnm_") or name in others)


def forgery(names: Iterable[str]) -> Optional[str]:
    """A sentence about these names; None if there are none."""
    found = ", ".join(printable(name, 60) for name in names)
    if not found:
        return None
    return (
        f"this host's facts contain {found}, which a host must not set itself. Set it in the inventory, and clear the "
        "facts (ansible-playbook --flush-cache)"
    )
