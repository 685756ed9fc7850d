# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: cnm.fabric contributors
"""The hosts' models as tables in the columns that Docker prints.

A table that is longer than its limit is folded: it has the rows that need attention, and says how many it leaves out.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Optional

from ...module_utils.plan.records import dataclass
from ..declaration.egress import EGRESS
from ..declaration.ingress import INGRESS, SANDBOX
from ..declaration.topology import DIRECTIONS, PREDEFINED
from ..forms import printable
from .health import DIFFERS, DRAINED, MISSING, READY, UP, HostView, counted, few, natural
from .model import Model, PortModel, ServiceModel, noted

Views = Mapping[str, HostView]
"""By host, in the inventory's order."""

_PLUMBING = (INGRESS, EGRESS)
"""Networks that no user declares: in a summary, sandboxes' addresses on them are left out."""
_WIDEST, _WIDEST_IN_FULL = 80, 4096
"""Characters of a cell."""
_UNITS = ("B", "kB", "MB", "GB", "TB", "PB")
_Key = tuple[str, str, str, str]


@dataclass(frozen=True)
class Row:
    """A row, whether what it shows is as planned, and whether a sentence about its host says that it is not."""

    cells: tuple[str, ...]
    fine: bool = True
    told: bool = False


@dataclass(frozen=True)
class Table:
    """Rows of things called ``noun``.

    With ``only_bad``, a folded table has only rows that are not fine, and at most half the limit.
    """

    header: tuple[str, ...]
    rows: Sequence[Row]
    noun: str
    limit: int
    only_bad: bool = False
    bad: str = "not as planned"
    """What rows are that are not fine."""

    def lines(self, stretch: Optional[int] = 1) -> list[str]:
        """The header and the rows.  Of more than ``stretch`` times the limit a last line says what is left out."""
        if not self.leaves_out(stretch):
            return table(self.header, [row.cells for row in self.rows], _WIDEST if stretch else _WIDEST_IN_FULL)
        most = self.limit * (stretch or 1) // (2 if self.only_bad else 1)
        bad = [row for row in self.rows if not row.fine and not row.told]
        shown = [*bad, *([] if self.only_bad else [row for row in self.rows if row.fine or row.told])][:most]
        worse = sum(not row.fine for row in self.rows) - sum(not row.fine for row in shown)
        how = f", {worse} of them {self.bad}" if worse else ", as planned" if self.only_bad else ""
        noun, beginning = (f"more {self.noun}", "and ") if shown else (self.noun, "")
        rest = f"{beginning}{counted(len(self.rows) - len(shown), noun)}{how}"
        return [*table(self.header, [row.cells for row in shown]), rest]

    def leaves_out(self, stretch: Optional[int] = 1) -> bool:
        """Whether there are too many rows."""
        return stretch is not None and len(self.rows) > self.limit * stretch


def table(header: Sequence[str], rows: Sequence[Sequence[str]], widest: int = _WIDEST) -> list[str]:
    """Columns as Docker aligns them, three spaces between; columns without text are left out; [] without rows."""
    kept = [place for place in range(len(header)) if any(row[place] for row in rows)]
    lines = [[printable(row[place], widest) for place in kept] for row in (header, *rows)] if rows else []
    widths = [max(map(len, column)) for column in zip(*lines)]
    return ["   ".join(cell.ljust(width) for cell, width in zip(line, widths)).rstrip() for line in lines]


def shown_networks(model: Model, only: Iterable[str] = ()) -> list[dict[str, Any]]:
    """The documents of networks, the predefined ones only if they have sandboxes or are asked for."""
    return [item for item in model["networks"] if item["Name"] not in {*PREDEFINED} - {*only} or item["Containers"]]


def tasks_of(model: Model) -> dict[str, str]:
    """The service of each task that is on the host."""
    return {task: name for name, service in model.get("services", {}).items() for task in service["tasks"]}


def plain_sandboxes(model: Model) -> list[str]:
    """Sandboxes that are neither tasks nor the ingress mesh's."""
    others = {SANDBOX, *tasks_of(model)}
    return [name for name in model["sandboxes"] if name not in others]


def host_table(views: Views, full: bool, limit: int = 10) -> Table:
    """Like ``docker node ls``.  If there are many hosts, those that are fine share a row."""
    few_hosts = full or len(views) <= limit
    chosen = [host for host, view in views.items() if few_hosts or not view.fine]
    alone = dict.fromkeys(chosen if few_hosts else chosen[:limit])
    groups = [(host, views[host].state, [views[host]]) for host in alone]
    others: dict[str, list[HostView]] = {}
    for host, view in views.items():
        if host not in alone:
            others.setdefault(view.state if view.fine else DIFFERS, []).append(view)
    groups += [(counted(len(group), "other" if alone else "host"), state, group) for state, group in others.items()]
    rows = [
        Row(
            (
                name,
                state,
                _span(len(shown_networks(view.model)) for view in group),
                _span(len(view.model["sandboxes"]) - (SANDBOX in view.model["sandboxes"]) for view in group),
                _span(len(tasks_of(view.model)) for view in group),
                ", ".join(sorted({view.model.get("load_balancer", "") for view in group} - {""})),
            )
        )
        for name, state, group in groups
    ]
    return Table(("HOST", "STATE", "NETWORKS", "SANDBOXES", "TASKS", "BALANCER"), rows, "host", len(rows))


def _span(numbers: Iterable[int]) -> str:
    """The number, or the least and the greatest; "" for 0."""
    found = sorted(set(numbers))
    low, high = found[0], found[-1]
    return f"{low}-{high}" if low != high else str(low or "")


def network_table(views: Views, full: bool, only: Iterable[str] = ()) -> Table:
    """Like ``docker network ls``: a row for all hosts on which a network is the same; in full, one a network ID."""
    sandboxes: dict[_Key, dict[str, int]] = {}
    subnets: dict[_Key, Counter[str]] = {}
    for host, view in views.items():
        for item in shown_networks(view.model, only):
            key = (item["Id"][:12] if full else "", item["Name"], item["Driver"], item["Scope"])
            sandboxes.setdefault(key, {})[host] = len(item["Containers"])
            subnets.setdefault(key, Counter()).update(config["Subnet"] for config in item["IPAM"]["Config"])
    differing = {item["name"] for view in views.values() for item in view.repairs if item["kind"] == "network"}
    held = {
        name: item.get("policies", ()) for view in views.values() for name, item in view.model.get("traits", {}).items()
    }
    most, most_subnets = (None, None) if full else (3, 2)
    rows = []
    for key in sorted(sandboxes, key=lambda key: [natural(word) for word in key[1:]]):
        found, common = sandboxes[key], [subnet for subnet, _times in subnets[key].most_common()]
        policies = _listed(held.get(key[1], ()), full)
        cells = (*key, few(common, most_subnets), few(list(found), most), str(sum(found.values())), policies)
        rows.append(Row(cells, key[1] not in differing))
    return Table(
        ("NETWORK ID", "NAME", "DRIVER", "SCOPE", "SUBNETS", "HOSTS", "SANDBOXES", "POLICIES"),
        rows,
        "network",
        12,
    )


def service_table(views: Views, all_views: Views, full: bool) -> Table:
    """Like ``docker service ls``, with virtual addresses and aliases; REPLICAS are tasks that are there on any host."""
    known: dict[str, ServiceModel] = {}
    running: dict[str, set[str]] = {}
    for view in views.values():
        for name, entry in view.model.get("services", {}).items():
            complete = known.setdefault(name, {**entry, "tasks": {}, "networks": {}})
            complete["networks"].update(entry["networks"])
    for view in all_views.values():
        for name in view.model.get("services", {}).keys() & known.keys():
            tasks = view.model["services"][name]["tasks"]
            running.setdefault(name, set()).update(task for task in tasks if view.is_there(task))
    rows = [
        Row(
            (
                name,
                entry["mode"],
                f"{len(running[name])}/{entry['wanted']}",
                _listed((f"{net} {' '.join(vip['vips']) or 'dnsrr'}" for net, vip in entry["networks"].items()), full),
                _listed({word for vip in entry["networks"].values() for word in vip["names"]} - {name}, full),
                few([port_text(port) for port in entry["ports"]], None if full else 3),
            ),
            len(running[name]) >= entry["wanted"],
        )
        for name, entry in sorted(known.items(), key=lambda item: natural(item[0]))
    ]
    return Table(("NAME", "MODE", "REPLICAS", "VIPS", "ALIASES", "PORTS"), rows, "service", 10)


def _listed(words: Iterable[str], full: bool) -> str:
    return few(sorted(words), None if full else 3)


def port_text(port: PortModel) -> str:
    """A port as in ``docker service ls``: ``*:3000->6379/tcp``, and what it is for."""
    published, target = (
        str(low) if low == high else f"{low}-{high}" for low, high in (port["published"], port["target"])
    )
    shown = f"{port['host_ip'] or '*'}:{published}->{target}/{port['protocol']}"
    return noted(shown, port.get("note", ""))


def task_table(views: Views, full: bool) -> Table:
    """Like ``docker service ps`` of all services: where each task is, and whether it gets connections."""
    rows: list[tuple[Any, Row]] = []
    for place, (host, view) in enumerate(views.items()):
        for name, service in view.model.get("services", {}).items():
            for task, entry in service["tasks"].items():
                state = view.state_of(task)
                health = state if state != UP else READY if entry["weight"] else DRAINED
                cells = _sandbox_cells(view, task, full)
                row = Row((task, host, health, cells[0], cells[2]), state == UP, view.gone)
                rows.append(((natural(name), natural(task), place), row))
    header = ("TASK", "HOST", "STATE", "ADDRESSES", "PORTS")
    return Table(header, [row for _key, row in sorted(rows, key=lambda item: item[0])], "task", 20, only_bad=True)


def sandbox_table(views: Views, full: bool) -> Table:
    """Sandboxes that are no tasks, by host, with their addresses, aliases and published ports."""
    rows = []
    for host, view in views.items():
        names = plain_sandboxes(view.model)
        names += [SANDBOX] if SANDBOX in view.model["sandboxes"] and (full or view.state_of(SANDBOX) != UP) else []
        for name in sorted(names, key=natural):
            state = view.state_of(name)
            rows.append(Row((name, host, state, *_sandbox_cells(view, name, full)), state == UP, view.gone))
    return Table(("SANDBOX", "HOST", "STATE", "ADDRESSES", "ALIASES", "PORTS"), rows, "sandbox", 20, only_bad=True)


def policy_table(views: Views, full: bool) -> Table:
    """Sandboxes with policies, by host, with the packets that passed and those that were dropped.

    Those of which packets were dropped stand first, if not all are shown.
    """
    rows = []
    for host, view in views.items():
        for name, entry in sorted(view.model["sandboxes"].items(), key=lambda item: natural(item[0])):
            names = entry["policy"]["policies"] if "policy" in entry else []
            if not names:
                continue
            found = [view.counts.get(name, {}).get(direction) for direction in DIRECTIONS]
            cells = [cell for each in found for cell in (_passed(each), str(each["dropped"]) if each else "?")]
            fine = not any(each and each["dropped"] for each in found)
            rows.append(Row((name, host, _listed(names, full), *cells), fine))
    header = ("SANDBOX", "HOST", "POLICIES", "PASSED TO IT", "DROPPED", "PASSED FROM IT", "DROPPED")
    return Table(header, rows, "sandbox", 20, bad="with dropped packets")


def _passed(counts: Optional[Mapping[str, int]]) -> str:
    """``1203 packets, 98.1 kB``."""
    if counts is None:
        return "?"
    size, place = float(counts["passed_bytes"]), 0
    while size >= 1000 and place < len(_UNITS) - 1:
        size, place = size / 1000, place + 1
    return f"{counted(counts['passed'], 'packet')}, {size:.{min(place, 1)}f} {_UNITS[place]}"


def _sandbox_cells(view: HostView, name: str, full: bool) -> tuple[str, str, str]:
    """Addresses by network, aliases, ports."""
    entry = view.model["sandboxes"][name]
    found = [end for end in entry["endpoints"] if full or end["network"] not in _PLUMBING]
    addresses = [entry["network_mode"]] if entry["network_mode"] else []
    for end in found:
        own = end["addresses"] if full else [address.partition("/")[0] for address in end["addresses"]]
        there = view.has_endpoint(name, end["link"]) or view.state_of(name) == MISSING
        words = [end["link"] if full else "", end["network"], *(own if there else ["missing"])]
        addresses.append(" ".join(filter(None, words)))
    aliases = {word for end in found for word in end["names"]} - {name}
    ports = entry["ports"] if full or name != SANDBOX else []
    return few(addresses, None if full else 3), _listed(aliases, full), few(ports, None if full else 3)
