# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: cnm.fabric contributors
"""What ``cnm.fabric.inspect`` prints: counts, tables that fit a screen, and what is not as planned.  Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from ...module_utils.plan.records import dataclass
from ..declaration.ingress import SANDBOX
from ..declaration.keys import did_you_mean
from ..forms import printable
from ..shown import FULL, Shown
from .health import HostView, counted, few
from .model import Model
from .tables import (
    Views,
    host_table,
    network_table,
    policy_table,
    sandbox_table,
    service_table,
    shown_networks,
    task_table,
    tasks_of,
)

_LINES_A_HOST = 4
_LINES = 12
_WIDEST = 240
_STRETCH = 3
"""How many times longer tables may be if the user asked for something in particular."""
_HINT = "-e cnm_only=NAME shows one host, network, sandbox or service; -e cnm_show=full shows everything."


class UnknownName(ValueError):
    """``cnm_only`` names nothing that there is; the message says what was probably meant."""


@dataclass(frozen=True)
class Selection:
    """The hosts' views, narrowed to what ``cnm_only`` names."""

    views: Views
    all: Views
    about: Mapping[str, frozenset[str]]
    """For hosts of which only parts are selected: the names of those."""
    only: frozenset[str] = frozenset()


def select(views: Views, only: frozenset[str]) -> Selection:
    """Keep what the names say: hosts, networks, sandboxes, services.  Raises UnknownName."""
    if not only:
        return Selection(views, views, {})
    known = {*views, *(name for view in views.values() for name in _names(view.model))}
    silent = [host for host, view in views.items() if not view.answered]
    for name in sorted(only - known):
        near = did_you_mean(name, known, "Names of hosts, networks, sandboxes and services can be given.")
        unsure = f" {few(silent)} did not answer." if silent else ""
        raise UnknownName(f"cnm_only: nothing here is named `{printable(name)}`. {printable(near, 300)}{unsure}")
    kept: dict[str, HostView] = {}
    about: dict[str, frozenset[str]] = {}
    for host, view in views.items():
        if host in only or (not view.answered and not only <= views.keys()):
            kept[host] = view
            continue
        model = _narrowed(view.model, only)
        if model["networks"] or model["sandboxes"]:
            kept[host] = replace(view, selected=model)
            about[host] = only | model["sandboxes"].keys()
    return Selection(kept, views, about, only)


def _names(model: Model) -> set[str]:
    return {item["Name"] for item in model["networks"]} | {*model["sandboxes"], *model.get("services", {})}


def _narrowed(model: Model, only: frozenset[str]) -> Model:
    """Sandboxes and services of these names or on these networks, and the networks of those named."""
    services = {
        name: entry
        for name, entry in model.get("services", {}).items()
        if not only.isdisjoint((name, *entry["networks"], *entry["tasks"]))
    }
    tasks = {task for name, entry in services.items() if name in only for task in entry["tasks"]}
    named = (only | tasks) & model["sandboxes"].keys()
    networks = {*only, *(end["network"] for name in named for end in model["sandboxes"][name]["endpoints"])}
    networks |= {network for name, entry in services.items() if name in only for network in entry["networks"]}
    sandboxes = {
        name: entry
        for name, entry in model["sandboxes"].items()
        if name in named
        or not only.isdisjoint((entry["network_mode"], *(end["network"] for end in entry["endpoints"])))
    }
    for name, entry in services.items():
        services[name] = {**entry, "tasks": {task: each for task, each in entry["tasks"].items() if task in sandboxes}}
    documents = [item for item in model["networks"] if item["Name"] in networks]
    return {**model, "networks": documents, "sandboxes": sandboxes, "services": services}


def counts(selection: Selection) -> str:
    """One line: how many hosts, networks, sandboxes and services there are, and how many hosts are not as planned."""
    views = selection.views
    answered = [view for view in views.values() if view.answered]
    networks = {item["Name"] for view in answered for item in shown_networks(view.model, selection.only)}
    sandboxes = sum(len(view.model["sandboxes"].keys() - {SANDBOX}) for view in answered)
    tasks = sum(len(tasks_of(view.model)) for view in answered)
    services = {name for view in answered for name in view.model.get("services", {})}
    told = ", ".join((counted(len(views), "host"), counted(len(networks), "network"), counted(sandboxes, "sandbox")))
    told += f" ({counted(tasks, 'task')} of {counted(len(services), 'service')})" if services else ""
    differ, silent = (sum(not view.fine for view in answered), len(views) - len(answered))
    states = [f"{counted(differ, 'host')} {'is' if differ == 1 else 'are'} not as planned"] if differ else []
    states += [f"{counted(silent, 'host')} did not answer"] if silent else []
    about = f"{', '.join(sorted(selection.only))}: " if selection.only else ""
    return f"{about}{told}; {', '.join(states) or 'all as planned'}"


def tables(selection: Selection, shown: Shown) -> list[str]:
    """Lines of the tables, an empty one before each, and of how to see what they leave out."""
    full, views = shown.level == FULL, selection.views
    stretch = None if full else _STRETCH if shown.only else 1
    made = (
        host_table(views, full),
        network_table(views, full, shown.only),
        service_table(views, selection.all, full),
        task_table(views, full),
        sandbox_table(views, full),
        policy_table(views, full),
    )
    lines = [line for each in made if each.rows for line in ("", *each.lines(stretch))]
    return [*lines, *(["", _HINT] if any(each.leaves_out(stretch) for each in made) else [])]


def problems(selection: Selection, shown: Shown) -> list[str]:
    """What is not as planned, a line a part, and which hosts have nothing or did not answer."""
    full = shown.level == FULL
    most = None if full else 3
    texts = {host: view.problems(most, selection.about.get(host)) for host, view in selection.views.items()}
    told = _by_text(texts)
    if not full and len(told) > _LINES:
        told = _by_text({host: _first(each) for host, each in texts.items()})
    lines = [printable(f"  {few(hosts, most)}: {text}", 10_000 if full else _WIDEST) for text, hosts in told.items()]
    if not full and len(lines) > _LINES:
        lines = [*lines[: _LINES - 1], f"  and {len(lines) - _LINES + 1} more lines: -e cnm_show=full"]
    result = ["Not as planned (cnm.fabric.site repairs it):", *lines] if lines else []
    silent = [host for host, view in selection.views.items() if not view.answered]
    empty = [host for host, view in selection.views.items() if view.answered and not view.planned["sandboxes"]]
    result += [f"No usable answer from {few(silent)}."] if silent else []
    result += [f"Without sandboxes: {few(empty)}."] if empty and not shown.only else []
    return result


def _by_text(texts: Mapping[str, list[str]]) -> dict[str, list[str]]:
    """The hosts of which something is said."""
    result: dict[str, list[str]] = {}
    for host, each in texts.items():
        # Once a host: it must not count for others.
        for text in dict.fromkeys(each):
            result.setdefault(text, []).append(host)
    return result


def _first(texts: list[str]) -> list[str]:
    more = len(texts) - _LINES_A_HOST
    return texts if more <= 0 else [*texts[: _LINES_A_HOST - 1], counted(more + 1, "more difference")]
