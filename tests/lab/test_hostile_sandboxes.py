# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: cnm.fabric contributors
"""Root in a sandbox, and other programs on the host, do what they can against a run: `site` and the rest go on."""

from __future__ import annotations

from collections.abc import Iterator

import newer_nft
import pytest
from fleet import Fleet, snapshot
from lab import Lab

THEIRS = "/run/theirs/box"
IN = "ip netns exec c1 sh -ec"


@pytest.fixture(scope="module")
def fleet(lab: Lab, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Fleet]:
    """Two sandboxes of ours on node1, and one in somebody else's namespace."""
    made = Fleet(lab, tmp_path_factory.mktemp("hostile"), ["node1"])
    made.sh("node1", f"mkdir -p /run/theirs; : > {THEIRS}; unshare --net={THEIRS} true")
    made.sh("node1", f"nsenter --net={THEIRS} ip link set lo up")
    made.sh("node1", newer_nft.script("ip", "theirs"))
    before = snapshot(made, "node1")
    boxes = {name: {"networks": ["n"]} for name in ("c1", "c2")}
    made.declare(
        {"cnm_networks": {"n": {"subnet": "10.9.1.0/24"}}},
        node1={"cnm_sandboxes": {**boxes, "box": {"networks": ["n"], "namespace": {"path": THEIRS}}}},
    )
    made.site()
    yield made
    made.sh("node1", f"nsenter --net={THEIRS} ip link set lo up")
    made.teardown()
    assert snapshot(made, "node1") == before
    made.sh("node1", newer_nft.removal("ip", "theirs"))
    made.sh("node1", f"umount {THEIRS}; rm -r /run/theirs; nft list ruleset >/dev/null")


def ours_work(fleet: Fleet) -> None:
    fleet.sh("node1", "ip netns exec c1 ping -c 1 -W 2 c2; ip netns exec c2 ping -c 1 -W 2 c1")


def settled(fleet: Fleet) -> None:
    assert fleet.site().changed == []
    assert fleet.play("verify").code == 0
    ours_work(fleet)


def test_sets_of_a_newer_nft_on_the_host_and_in_sandboxes(fleet: Fleet) -> None:
    settled(fleet)
    fleet.sh("node1", _in_c1("cnm"))
    fleet.sh("node1", _in_c1("own"))
    assert fleet.play("inspect").code == 0
    run = fleet.site()
    assert run.operations("node1") == ["change nftables c1/inet cnm"]
    settled(fleet)


def _in_c1(table: str) -> str:
    return f"ip netns exec c1 {newer_nft.script('inet', table)}"


def test_marks_names_and_tables_in_a_sandbox(fleet: Fleet) -> None:
    fleet.sh("node1", f'{IN} \'ip link set lo alias ""; ip link add $(printf "x\\377") type bridge\'')
    fleet.sh("node1", f"{IN} 'ip link set $(printf \"x\\377\") alias cnm:default:network/n'")
    owner = '(echo "delete table inet cnm; table inet cnm { flags owner; }"; sleep 1000) | nft -i >/dev/null'
    fleet.sh("node1", f"ip netns exec c2 setsid sh -c '{owner}' >/dev/null 2>&1 & sleep 1")
    assert fleet.play("inspect").code == 0
    foretold = fleet.site("--check").operations("node1")
    run = fleet.site()
    assert run.operations("node1") == foretold
    assert {"change namespace c1", "replace namespace c2"} <= set(foretold)
    settled(fleet)


def test_a_namespace_of_somebody_fails_alone(fleet: Fleet) -> None:
    fleet.sh("node1", f"nsenter --net={THEIRS} ip link set lo down; ip netns delete c1")
    for _again in range(2):
        run = fleet.play("site")
        assert run.code != 0
        assert "sandbox box: lo is down in the namespace of /run/theirs/box" in run.output
        ours_work(fleet)
    run = fleet.play("verify")
    assert run.code != 0
    assert "sandbox box is unavailable" in run.output
    fleet.sh("node1", f"nsenter --net={THEIRS} ip link set lo up")
    fleet.site()
    settled(fleet)
