# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: cnm.fabric contributors
"""What sandboxes carry on a bridge, out of one and on an overlay, against another checkout of the collection.

Four lab hosts: two as this checkout makes them, two as the one in ``CNM_BEFORE`` does (this one again if it is not set,
which shows how far equals are apart).  Aims: throughput and latency within 3 % of before.  Reported, not asserted.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest
from carrying import Way, compared, measure, serve
from fleet import Fleet
from lab import Lab

ROUNDS = int(os.environ.get("CNM_ROUNDS", "7"))
CHECKOUT = Path(__file__).resolve().parents[2]
PAIRS = {"before": ("node3", "node4"), "after": ("node1", "node2")}
_NETWORKS = {
    "mesh": {"driver": "overlay", "subnet": "10.60.0.0/24", "internal": True},
    "flat": {"subnet": "10.61.0.0/24"},
}


def _made_by(checkout: Path, fleet: Fleet, directory: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Bring the hosts to what is declared, with the collection of a checkout."""
    place = directory / "ansible_collections" / "cnm"
    place.mkdir(parents=True)
    (place / "fabric").symlink_to(checkout)
    monkeypatch.setenv("ANSIBLE_COLLECTIONS_PATH", str(directory))
    fleet.site()


def _boxes(pair: tuple[str, str]) -> dict[str, Any]:
    at = {"flat": {"ipv4_address": "10.61.0.11"}, "mesh": {"ipv4_address": "10.60.0.11"}}
    mate = {"networks": {"flat": {"ipv4_address": "10.61.0.12"}}}
    far = {"networks": {"mesh": {"ipv4_address": "10.60.0.21"}}}
    return {pair[0]: {"cnm_sandboxes": {"a": {"networks": at}, "b": mate}}, pair[1]: {"cnm_sandboxes": {"far": far}}}


def _ways(lab: Lab, name: str, pair: tuple[str, str]) -> list[Way]:
    caller = (pair[0], "a")
    return [
        Way(f"bridge, {name}", caller, (pair[0], "b"), "10.61.0.12"),
        Way(f"out, {name}", caller, (pair[1], ""), lab.address(pair[1], 4)),
        Way(f"overlay, {name}", caller, (pair[1], "far"), "10.60.0.21"),
    ]


def test_sandboxes_carry_what_they_did_before(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    checkouts = {"before": Path(os.environ.get("CNM_BEFORE", CHECKOUT)), "after": CHECKOUT}
    with Lab(f"pytest-before-{os.getpid()}", hosts=4) as lab:
        ways: dict[str, list[Way]] = {}
        for name, pair in PAIRS.items():
            fleet = Fleet(lab, tmp_path / name, list(pair))
            fleet.declare({"cnm_networks": _NETWORKS}, **_boxes(pair))
            _made_by(checkouts[name], fleet, tmp_path / f"with-{name}", monkeypatch)
            ways[name] = _ways(lab, name, pair)
            for way in ways[name]:
                serve(lab, way)
        found: dict[str, list[dict[str, float]]] = {way.name: [] for each in ways.values() for way in each}
        # What is compared is measured one right after the other, each of them first in turn: machines are not steady.
        for number in range(ROUNDS):
            for both in zip(*ways.values()):
                for way in both[:: -1 if number % 2 else 1]:
                    found[way.name].append(measure(lab, way, way.address))
    with capsys.disabled():
        print(f"\nTCP of sandboxes, medians of {ROUNDS}, by a Python sender; before: {checkouts['before']}")
        for name, rounds in found.items():
            print(f"  {name}: {compared(rounds, found[name.replace('after', 'before')])}")
        print("  (aims: Gbit/s x 0.97 or more, us x 1.03 or less)")
