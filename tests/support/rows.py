# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: cnm.fabric contributors
"""The rows of the benchmarks' table: what each is, its aim, its peer; and what a run measured of them.

As a program it prints the table of one or several runs' JSON: ``python tests/support/rows.py [--before FILE…] FILE…``,
with ``--markdown`` as docs/development/performance.md has it.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import platform
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from statistics import median
from typing import Any, Optional

OVER, RATIO, VALUE = "over", "ratio", "value"
"""How a row's number comes from its samples: the median of differences to the peer's, of quotients, or of ours."""

NO_OP = "a no-op"
NOISE = 0.2
"""By how much an exponent may be greater than the work's before the row is marked."""


@dataclass(frozen=True)
class Row:
    """What a row is: its samples' unit, its aim as a relation and a number, "" if it is only reported."""

    key: str
    group: str
    what: str
    unit: str
    how: str = VALUE
    aim: str = ""
    peer: str = ""
    work: Optional[float] = None
    """The exponent with which the work grows in what growth is measured by: 1 in proportion, 0 not at all."""
    size: int = 0
    """What growth is measured by, in this row; a number found at less says so and reaches no aim."""

    def met(self, found: Measured) -> Optional[bool]:
        """Whether what was found reaches the aim; None without one, or if it was found at a smaller size."""
        number = found.number(self.how)
        relation, _space, limit = self.aim.partition(" ")
        if not relation or self.at(found):
            return None
        return number <= float(limit) if relation == "<=" else number >= float(limit)

    def at(self, found: Measured) -> str:
        """The size at which it was found, if that is not the row's own."""
        size = max(found.growth, default=self.size)
        return "" if size == self.size else f" at {size}"


_ONE, _FIFTY, _FLEET = "one host, 500 sandboxes", "one host, 50 sandboxes", "50 hosts of 4 sandboxes, one overlay"
_ENGINE, _PACKET, _PLAN = "the engine alone", "packets", "the controller"
_CALL, _TABLES, _NAMES, _STORES = "a call", "large tables", "names", "lease stores"
_CODEC, _TESTS = "our netlink codec", "namespaces that tests make"
_PLANES = "20 hosts of a sandbox, one overlay"

ROWS: tuple[Row, ...] = (
    Row("500.unchanged", _ONE, "unchanged", "s", OVER, "<= 0.5", NO_OP, 1, 500),
    Row("500.more", _ONE, "one more", "s", OVER, "<= 0.7", NO_OP, 0, 500),
    Row("500.more.than.50", _ONE, "one more, less the same at 50", "s", OVER, "<= 0.2", "at 50"),
    Row("500.first", _ONE, "first time, with resolvers", "s", OVER, "<= 4", NO_OP, 1, 500),
    Row("500.removed", _ONE, "removed", "s", OVER, "<= 2", NO_OP, 1, 500),
    Row("500.memory", _ONE, "memory of a resolver (PSS)", "KiB", VALUE, "<= 295", "", 0, 500),
    Row("500.verified", _ONE, "verify, all is well", "s", VALUE, "<= 60"),
    Row("500.verified.dead", _ONE, "verify, no resolver runs", "s", VALUE, "<= 60"),
    Row("500.verified.silent", _ONE, "verify, nothing answers", "s", VALUE, "<= 60"),
    Row("boot.500", _ONE, "a boot until all answer / the run that made them", "s", RATIO, "<= 1", "site"),
    Row("boot.500.status", _ONE, "`cnm status`", "s", VALUE, "<= 0.5"),
    Row("boot.500.memory", _ONE, "memory of all that runs of it (PSS)", "MiB"),
    Row("50.unchanged", _FIFTY, "unchanged", "s", OVER, "<= 0.35", NO_OP),
    Row("50.more", _FIFTY, "one more", "s", OVER, "<= 0.5", NO_OP),
    Row("50.first", _FIFTY, "first time, with resolvers", "s", OVER, "<= 1", NO_OP),
    Row("50.removed", _FIFTY, "removed", "s", OVER, "", NO_OP),
    Row("50.tasks", _FIFTY, "first time / a task for each object", "s", RATIO, "<= 0.05", "tasks"),
    Row("fleet.unchanged", _FLEET, "unchanged", "s", RATIO, "<= 1.2", NO_OP, 1, 50),
    Row("fleet.unchanged.cpu", _FLEET, "unchanged, controller's processors", "s", RATIO, "<= 1.3", NO_OP, 1, 50),
    Row("fleet.more", _FLEET, "one more on one host", "s", RATIO, "<= 1.6", NO_OP, 1, 50),
    Row("fleet.more.cpu", _FLEET, "one more, controller's processors", "s", RATIO, "", NO_OP, 1, 50),
    Row("fleet.first", _FLEET, "first time", "s", OVER, "", NO_OP, 1, 50),
    *(
        Row(f"planes.{plane}.{what}", _PLANES, f"{said}: {text}", "s", how, "", NO_OP if how == OVER else "")
        for plane, said in (("static", "by the plan"), ("evpn", "by EVPN"))
        for what, text, how in (
            ("first", "first time", VALUE),
            ("more", "one sandbox more", OVER),
            ("reached", "then reached from the last host", VALUE),
        )
    ),
    Row("plan.seconds", _PLAN, "plan of 1000 hosts of 20 endpoints", "s", VALUE, "<= 3", "", 1, 1000),
    Row("plan.unchanged", _PLAN, "… unchanged", "s", VALUE, "<= 1", "", 1, 1000),
    Row("plan.memory", _PLAN, "… memory", "MB", VALUE, "<= 300", "", 1, 1000),
    Row("plan.text", _PLAN, "… texts", "MB", VALUE, "<= 40", "", 1, 1000),
    Row("plan.one", _PLAN, "plan of one host of 500 sandboxes", "ms", VALUE, "", "", 1, 500),
    Row("plan.guarded", _PLAN, "… under 100 policies", "ms", VALUE, "", "", 1, 500),
    Row("ipam.networks", _PLAN, "subnets for 2000 networks", "ms", VALUE, "", "", 1, 2000),
    Row("ipam.ranges", _PLAN, "2000 free prefixes / netaddr's IPSet", "ms", RATIO, "<= 1", "netaddr", 1, 2000),
    Row("ipam.prefix", _PLAN, "a prefix from its text / netaddr", "µs", RATIO, "", "netaddr"),
    Row("ipam.address", _PLAN, "an address from its text / netaddr", "µs", RATIO, "", "netaddr"),
    Row("ipam.mac", _PLAN, "a MAC address from an IPv4 address / netaddr", "µs", RATIO, "", "netaddr"),
    Row("call.import", _CALL, "import of the host half, processors", "ms", OVER, "<= 50", "Python alone"),
    Row("call.host", _CALL, "a run of one sandbox, unchanged, host's processors", "ms", OVER, "", NO_OP),
    Row(
        "engine.first", _ENGINE, "200 from nothing / a netlink program", "s", RATIO, "<= 1.5", "netlink program", 1, 200
    ),
    Row("engine.unchanged", _ENGINE, "500 unchanged / dumps alone", "s", RATIO, "<= 2", "dumps", 1, 500),
    Row("engine.removed", _ENGINE, "500 removed / by group and by name", "s", RATIO, "<= 2", "netlink program", 1, 500),
    Row("engine.one.cni", _ENGINE, "network and endpoint made / CNI plugin", "ms", RATIO, "<= 0.3", "bridge plugin"),
    Row("engine.one.docker", _ENGINE, "network and endpoint made / Docker's API", "ms", RATIO, "<= 0.1", "Engine"),
    Row("engine.less.cni", _ENGINE, "they removed / CNI plugin", "ms", RATIO, "<= 0.3", "bridge plugin"),
    Row("engine.less.docker", _ENGINE, "they removed / Docker's API", "ms", RATIO, "<= 0.1", "Engine"),
    Row("packet.overlay", _PACKET, "TCP between two hosts / VXLAN by hand", "Gbit/s", RATIO, ">= 0.97", "by hand"),
    Row("packet.overlay.latency", _PACKET, "… latency", "µs", RATIO, "<= 1.05", "by hand"),
    Row("packet.bridge", _PACKET, "TCP on one bridge / plain bridge by hand", "Gbit/s", RATIO, ">= 0.97", "by hand"),
    Row("packet.bridge.latency", _PACKET, "… latency", "µs", RATIO, "", "by hand"),
    Row("packet.among", _PACKET, "latency on one bridge among 480 sandboxes", "µs", VALUE, "", "", 0, 480),
    Row("packet.published", _PACKET, "TCP to a published port / DNAT by hand", "Gbit/s", RATIO, ">= 0.97", "by hand"),
    Row("packet.published.latency", _PACKET, "… latency", "µs", RATIO, "", "by hand"),
    Row("packet.policies", _PACKET, "TCP under 100 policies / without any", "Gbit/s", RATIO, ">= 0.97", "no policy"),
    Row("packet.policies.latency", _PACKET, "… latency", "µs", RATIO, "", "no policy"),
    Row("packet.vip.nftables", _PACKET, "requests by a VIP, nftables / straight", "/s", RATIO, ">= 0.95", "straight"),
    Row("packet.vip.nftables.late", _PACKET, "… 99th percentile", "µs", RATIO, "<= 1.3", "straight"),
    Row("packet.vip.ipvs", _PACKET, "requests by a VIP, IPVS / straight", "/s", RATIO, ">= 0.95", "straight"),
    Row("packet.vip.ipvs.late", _PACKET, "… 99th percentile", "µs", RATIO, "<= 1.3", "straight"),
    Row("fdb.first", _TABLES, "10,000 remote endpoints / ip -batch", "ms", RATIO, "<= 1.5", "batches", 1, 10000),
    Row("fdb.unchanged", _TABLES, "… unchanged / reading the tables", "ms", RATIO, "<= 3", "dump", 1, 10000),
    Row("ports.load", _TABLES, "10,000 published ports / nft -f", "ms", RATIO, "<= 1.3", "nft -f", 1, 10000),
    Row("ports.change", _TABLES, "… one of them changed", "ms", VALUE, "<= 5", "", 0, 10000),
    Row(
        "vips.nftables", _TABLES, "100 VIPs in 20 sandboxes, nftables / nft -f", "s", RATIO, "<= 1.5", "nft -f", 1, 100
    ),
    Row("vips.ipvs", _TABLES, "100 VIPs in 20 sandboxes, IPVS / ipvsadm", "s", RATIO, "<= 1.5", "ipvsadm", 1, 100),
    Row("vips.nftables.again", _TABLES, "… nftables, unchanged / first", "s", RATIO, "<= 0.3", "first", 1, 100),
    Row("vips.ipvs.again", _TABLES, "… IPVS, unchanged / first", "s", RATIO, "<= 0.3", "first", 1, 100),
    Row("names.start", _NAMES, "200 resolvers started / dnsmasq by hand", "s", RATIO, "", "by hand", 1, 200),
    Row("names.memory", _NAMES, "memory of each / dnsmasq by hand", "KiB", RATIO, "", "by hand"),
    Row("names.answers", _NAMES, "answers in a second / dnsmasq by hand", "/s", RATIO, ">= 0.97", "by hand"),
    Row("names.answers.docker", _NAMES, "answers in a second / a Docker Engine's", "/s", RATIO, ">= 1", "Engine"),
    *(
        Row(f"supervised.{suite}.{what}", _NAMES, f"500 under systemd on {suite}: {text}", unit, how, "", peer)
        for suite in ("bookworm", "trixie")
        for what, text, unit, how, peer in (
            ("start", "started / without it", "s", RATIO, "without systemd"),
            ("cpu", "… processor time", "s", RATIO, "without systemd"),
            ("memory", "… memory of each", "KiB", RATIO, "without systemd"),
            ("observed", "… observed", "s", RATIO, "without systemd"),
            ("systemd", "… systemd's own, for each", "KiB", VALUE, ""),
        )
    ),
    *(
        Row(f"leases.{store}.{what}", _STORES, f"{store}: 1000 hosts, {said}", unit)
        for store in ("sqlite", "etcd-3.4", "etcd-3.5", "zookeeper", "consul")
        for what, said, unit in (
            ("first", "first commit", "s"),
            ("read", "read", "s"),
            ("change", "one host's change", "s"),
            ("again", "read again", "s"),
            ("octets", "octets of the change", "kB"),
        )
        if (store, what) != ("sqlite", "octets")
    ),
    Row("netlink.made", _CODEC, "200 veth pairs made / pyroute2", "ms", RATIO, "<= 1", "pyroute2"),
    Row("netlink.read", _CODEC, "… read / pyroute2", "ms", RATIO, "<= 1", "pyroute2"),
    Row("netlink.import", _CODEC, "import / pyroute2", "ms", RATIO, "<= 1", "pyroute2"),
    Row("tests.batch", _TESTS, "20 namespaces by ip -batch / by a shell with ip", "ms", RATIO, "", "shell"),
    Row("tests.pyroute2", _TESTS, "20 namespaces by pyroute2 / by a shell with ip", "ms", RATIO, "", "shell"),
)
BY_KEY = {row.key: row for row in ROWS}


@dataclass
class Measured:
    """What a run found of a row: samples in the row's unit, those of the peer pairwise."""

    ours: list[float]
    peer: list[float] = field(default_factory=list)
    growth: dict[int, float] = field(default_factory=dict)
    """What ours costs by size, where it was measured at several."""

    def number(self, how: str) -> float:
        pairs = list(zip(self.ours, self.peer))
        if how == OVER:
            return median(ours - peer for ours, peer in pairs)
        if how == RATIO:
            return median(ours / peer for ours, peer in pairs)
        return median(self.ours)

    def slope(self) -> Optional[float]:
        """The exponent of growth: the slope of the straight line through logarithms of size and cost."""
        if len(self.growth) < 2:
            return None
        points = [(math.log(size), math.log(max(cost, 1e-9))) for size, cost in self.growth.items()]
        middle, height = (sum(point[axis] for point in points) / len(points) for axis in (0, 1))
        across = sum((x - middle) ** 2 for x, _y in points)
        return sum((x - middle) * (y - height) for x, y in points) / across


class Table:
    """What has been measured, by the rows' keys."""

    def __init__(self) -> None:
        self.measured: dict[str, Measured] = {}

    def add(self, key: str, ours: Sequence[float], peer: Sequence[float] = ()) -> None:
        """Samples of a row, in its unit.  KeyError for a row that is not in ROWS."""
        row = BY_KEY[key]
        assert ours and (row.how == VALUE) == (not peer) and len(peer) in (0, len(ours)), (key, ours, peer)
        growth = self.measured[key].growth if key in self.measured else {}
        self.measured[key] = Measured(list(ours), list(peer), growth)

    def grew(self, key: str, size: int, ours: Sequence[float], peer: Sequence[float] = ()) -> None:
        """Samples of a row at one size; those at the largest are the row's own."""
        row = BY_KEY[key]
        growth = dict(self.measured[key].growth) if key in self.measured else {}
        if not growth or size > max(growth):
            self.add(key, ours, peer)
        growth[size] = Measured(list(ours), list(peer)).number(OVER if row.how == OVER else VALUE)
        self.measured[key].growth = growth

    def to_json(self) -> dict[str, Any]:
        rows = {}
        for row in ROWS:
            if found := self.measured.get(row.key):
                number = found.number(row.how)
                rows[row.key] = {
                    **asdict(row),
                    "measured": number,
                    "met": row.met(found),
                    "samples": {"ours": found.ours, "peer": found.peer},
                    "growth": found.growth,
                    "slope": found.slope(),
                }
        return {"machine": machine(), "rows": rows}

    def read(self, path: Path) -> None:
        """What an earlier run has written; rows that are no more are passed over."""
        for key, row in json.loads(path.read_text(encoding="utf-8"))["rows"].items():
            if key in BY_KEY:
                growth = {int(size): cost for size, cost in row["growth"].items()}
                self.measured[key] = Measured(row["samples"]["ours"], row["samples"]["peer"], growth)


def machine() -> dict[str, object]:
    return {"processors": os.cpu_count(), "kernel": platform.release(), "python": platform.python_version()}


# --- as text ---------------------------------------------------------------------------------------------------------

_RELATIONS = {"<=": "≤", ">=": "≥"}


def _number(value: float) -> str:
    return f"{value:.0f}" if abs(value) >= 100 else f"{value:.1f}" if abs(value) >= 10 else f"{value:.2f}"


def _aim(row: Row) -> str:
    relation, _space, limit = row.aim.partition(" ")
    return f"{_RELATIONS[relation]} {limit}" if relation else ""


def _cells(row: Row, found: Measured, before: Optional[Measured]) -> list[str]:
    number, slope = found.number(row.how), found.slope()
    unit = "×" if row.how == RATIO else row.unit
    missed = "missed" if row.met(found) is False else ""
    peer = f"{row.peer} {_number(median(found.peer))} {row.unit}" if found.peer else row.peer
    ours = f"{_number(median(found.ours))} {row.unit}"
    faster = " faster than its work" if slope is not None and row.work is not None and slope > row.work + NOISE else ""
    grows = "" if slope is None else f"{slope:.2f}{faster} ({', '.join(map(str, sorted(found.growth)))})"
    earlier = [] if before is None else [_number(before.number(row.how))]
    return [row.what, *earlier, f"{_number(number)} {unit}{row.at(found)}", _aim(row), missed, ours, peer, grows]


HEADS = ("row", "measured", "aim", "", "ours", "peer", "growth")


def lines(table: Table, before: Optional[Table] = None, markdown: bool = False) -> Iterable[str]:
    """The table; a second one is an earlier run's, whose numbers stand before."""
    heads = ["row", *(["before"] if before else []), *HEADS[1:]]
    rows: list[tuple[str, list[str]]] = []
    for row in ROWS:
        if found := table.measured.get(row.key):
            earlier = before.measured.get(row.key) if before else None
            cells = _cells(row, found, earlier)
            if before and earlier is None:
                cells.insert(1, "–")
            rows.append((row.group, cells))
    if markdown:
        yield f"| {' | '.join(heads)} |"
        yield f"|{' --- |' * len(heads)}"
    widths = [
        max((len(cells[place]) for _group, cells in [("", heads), *rows]), default=0) for place in range(len(heads))
    ]
    widths[0] += 2
    if not markdown:
        yield "  ".join(head.ljust(width) for head, width in zip(heads, widths)).rstrip()
    last = ""
    for group, cells in rows:
        if group != last:
            last = group
            yield f"| **{group}** |{' |' * (len(heads) - 1)}" if markdown else group
        if markdown:
            yield f"| {' | '.join(cells)} |"
        else:
            yield "  ".join(text.ljust(width) for text, width in zip(["  " + cells[0], *cells[1:]], widths)).rstrip()


def missing(table: Table) -> list[str]:
    """The groups of the rows that have no samples."""
    return [row.group for row in ROWS if row.key not in table.measured]


def default_path() -> Path:
    """Where a run writes its JSON: ``CNM_BENCHMARKS``, else the cache of ``./run``, else the current folder."""
    if given := os.environ.get("CNM_BENCHMARKS"):
        return Path(given)
    cache = Path(os.environ.get("CNM_CACHE", "/var/cache/cnm.fabric"))
    return (cache if os.access(cache, os.W_OK) else Path()) / "benchmarks.json"


def _read(paths: Sequence[Path]) -> Table:
    table = Table()
    for path in paths:
        table.read(path)
    return table


def main(arguments: Optional[Sequence[str]] = None) -> None:
    parser = argparse.ArgumentParser(description="print the table of benchmarks that earlier runs wrote as JSON")
    parser.add_argument("--markdown", action="store_true")
    parser.add_argument("--before", type=Path, nargs="*", default=[])
    parser.add_argument("files", type=Path, nargs="+")
    asked = parser.parse_args(arguments)
    before = _read(asked.before) if asked.before else None
    for line in lines(_read(asked.files), before, asked.markdown):
        print(line)


if __name__ == "__main__":
    main()
