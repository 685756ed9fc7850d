# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: cnm.fabric contributors
"""Who starts a run: units, with or without mounts of their own, and users whose processes end with their session."""

from __future__ import annotations

import json
from collections.abc import Iterator

import pytest
from systems import Controller, System, systems

from ansible_collections.cnm.fabric.plugins.module_utils.hostd import cli

VARIABLES = {
    "cnm_networks": {"front": {"subnet": "10.0.0.0/24"}},
    "cnm_sandboxes": {"c1": {"networks": ["front"]}, "c2": {"networks": ["front"]}},
}

AGAIN = """
import json, sys
sys.path.insert(0, sys.argv[1])
package = sys.argv[2]
from importlib import import_module
entrypoints = import_module(package + ".entrypoints")
comparing = import_module(package + ".hostd.comparing")
kept = json.load(open("/var/lib/cnm/default/plan.json"))
request = entrypoints.Request("default", digest=kept["digest"], revision=kept["revision"])
try:
    print(json.dumps(entrypoints.converge(request, comparing.run_command)["changed"]))
except entrypoints.Refused as refusal:
    print(json.dumps(str(refusal)))
"""
"""What a module call comes to, on a host without Ansible: the half it keeps converges the plan it keeps."""


@pytest.fixture(scope="module")
def system(tmp_path_factory: pytest.TempPathFactory) -> Iterator[System]:
    """A system with a network."""
    folder = tmp_path_factory.mktemp("systems")
    with systems(folder, "n1") as (one,):
        Controller(folder, one).run("site", VARIABLES)
        one.write("/root/again.py", AGAIN)
        yield one


def by_a_unit(system: System, *options: str) -> object:
    """The outcome of a run that a oneshot service of systemd's makes."""
    (half,) = system.sh("ls -d /var/lib/cnm/.half/*").split()
    package = cli.__name__.rpartition(".hostd.")[0]
    command = f"systemd-run -q --wait --pipe --service-type=oneshot {' '.join(options)}"
    said = system.sh(f"{command} /usr/bin/python3 /root/again.py {half} {package}")
    return json.loads(said)


NAMES = "ip netns exec c1 getent hosts c2 && cnm status"


def test_what_a_unit_has_made_outlives_it_and_its_next_run_changes_nothing(system: System) -> None:
    system.sh("ip netns delete c1")
    assert by_a_unit(system) is True
    system.sh(NAMES)
    assert by_a_unit(system) is False
    system.sh(NAMES)


@pytest.mark.parametrize("option", ["PrivateTmp=yes", "ProtectSystem=strict", "PrivateMounts=yes"])
def test_a_run_by_a_unit_with_mounts_of_its_own_is_refused_in_words(system: System, option: str) -> None:
    system.sh("ip netns delete c1")
    said = by_a_unit(system, "-p", option)
    assert isinstance(said, str)
    assert "PrivateTmp=" in said
    assert system.sh("ip netns list").split()[0] == "c2"
    assert by_a_unit(system) is True
    system.sh(NAMES)


def test_the_command_refuses_the_same_way(system: System) -> None:
    done = system.run("systemd-run -q --wait --pipe -p PrivateTmp=yes cnm restore")
    assert done.returncode != 0
    assert "PrivateTmp=" in done.stderr + done.stdout
