# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: cnm.fabric contributors
"""The example of another collection's driver with a Geneve tunnel, which the lab's kernel lacks."""

from __future__ import annotations

from pathlib import Path

import pytest
from fleet import Fleet
from host import becomes, converge, on_a_host, snapshot
from lab import Lab
from overlaying import answered, ended, sandboxes
from test_drivers_of_others import CHECKOUT, WIRE
from test_kinds import DRIFTS, a_geneve
from test_kinds import TestDrift as _Drifts

pytestmark = pytest.mark.vm


@pytest.mark.whole
def test_a_geneve_tunnel_comes_is_repaired_and_goes(lab: Lab, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    found = tmp_path / "collections" / "ansible_collections"
    for name, place in (("cnm/fabric", CHECKOUT), ("acme/net", CHECKOUT / "examples/collections/acme/net")):
        (found / name).parent.mkdir(parents=True, exist_ok=True)
        (found / name).symlink_to(place)
    monkeypatch.setenv("ANSIBLE_COLLECTIONS_PATH", str(found.parent))
    fleet = Fleet(lab, tmp_path / "inventory", ["node1", "node2"])
    fleet.afresh = True
    with ended(fleet):
        networks = {"wire": {**WIRE, "driver_opts": {"encapsulation": "geneve", "vni": 77}}}
        fleet.declare({"cnm_networks": networks}, node1=sandboxes(c1=["wire"]), node2=sandboxes(c2=["wire"]))
        fleet.site()
        assert answered(fleet, "node1", "c1", "-M", "do", "-s", "1422", "c2.wire")
        place = fleet.sh("node1", "ls /run/netns | grep ^wi-").strip()
        shown = fleet.sh("node1", f"ip -d -n {place} link show type geneve")
        assert "geneve id 77 remote" in shown
        fleet.sh("node1", f"ip -n {place} link delete {place.replace('wi-', 'wt-')}")
        again = fleet.site()
        assert [line for line in again.operations("node1") if "link" in line]
        assert again.operations("node2") == []
        assert answered(fleet, "node1", "c1", "c2.wire")


@on_a_host
def test_a_changed_geneve_link_is_seen_and_repaired() -> None:
    wanted = a_geneve()
    converge(wanted)
    whole = snapshot()
    for name, drift in DRIFTS["link"].items():
        if name.startswith("geneve"):
            _Drifts.seen_and_repaired(f"link.{name}", drift, wanted)
    becomes(whole)
