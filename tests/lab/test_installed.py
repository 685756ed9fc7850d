# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: cnm.fabric contributors
"""What users get: the built collection, installed where there is no checkout, and the documents' example by it."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from fleet import Fleet, snapshot
from lab import Lab

CHECKOUT = Path(__file__).resolve().parents[2]
EXAMPLE = {"ps-bridge": {"driver": "bridge", "subnet": "10.0.0.0/24"}}


def of_ansible(program: str, *arguments: str) -> str:
    """What a program of the Ansible the tests run with says; it must succeed."""
    command = [str(Path(sys.executable).with_name(program)), *arguments]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.fixture
def installed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder of the installed collection; Ansible finds no other."""
    of_ansible("ansible-galaxy", "collection", "build", str(CHECKOUT), "--output-path", str(tmp_path))
    (archive,) = tmp_path.glob("cnm-fabric-*.tar.gz")
    place = tmp_path / "collections"
    # First of all: a collection that is found somewhere is not installed again.
    monkeypatch.setenv("ANSIBLE_COLLECTIONS_PATH", str(place))
    of_ansible("ansible-galaxy", "collection", "install", str(archive), "-p", str(place), "--offline")
    return place / "ansible_collections" / "cnm" / "fabric"


def test_the_documents_example_runs_from_the_installed_collection(installed: Path, lab: Lab, tmp_path: Path) -> None:
    found = json.loads(of_ansible("ansible-doc", "--json", "cnm.fabric.network"))
    assert found["cnm.fabric.network"]["doc"]["filename"] == str(installed / "plugins" / "modules" / "network.py")
    fleet = Fleet(lab, tmp_path / "inventory")
    fleet.afresh = True
    before = snapshot(fleet, "node1")
    boxes = {"cnm_sandboxes": {name: {"networks": ["ps-bridge"]} for name in ("c1", "c2")}}
    fleet.declare({"cnm_networks": EXAMPLE}, node1=boxes)
    try:
        fleet.site()
        assert "64 bytes from c1.ps-bridge (10.0.0.2)" in fleet.sh("node1", "ip netns exec c2 ping -c 1 -W 2 c1")
        assert fleet.site().operations("node1") == []
    finally:
        fleet.teardown()
    assert snapshot(fleet, "node1") == before


def test_an_execution_environment_gets_all_the_collection_needs(installed: Path, tmp_path: Path) -> None:
    # Where a builder looks for what collections want of Python, however the environment is put together.
    said = of_ansible("ansible-builder", "introspect", str(installed.parents[2]))
    wanted = yaml.safe_load(said[said.index("---") :])["python"]
    assert [item.partition("  #")[0] for item in wanted] == ["jsonschema>=4.17"]
    of_ansible(
        "ansible-builder", "create", "-f", str(installed / "execution-environment.yml"), "-c", str(tmp_path / "context")
    )
    assert "cnm.fabric" in (tmp_path / "context" / "_build" / "requirements.yml").read_text(encoding="utf-8")
