# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: cnm.fabric contributors
"""Two versions of the controller on one host: the later one's half stays, and none is fought over."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from systems import Controller, System, systems

VARIABLES: dict[str, Any] = {
    "cnm_networks": {"front": {"subnet": "10.0.0.0/24"}},
    "cnm_sandboxes": {"c1": {"networks": ["front"]}},
}
MORE = {**VARIABLES, "cnm_sandboxes": {**VARIABLES["cnm_sandboxes"], "c2": {"networks": ["front"]}}}

EXCHANGE = """
import json, pathlib, shutil, sys
halves = pathlib.Path("/var/lib/cnm/.half")
(old,) = halves.iterdir()
package = "ansible_collections/cnm/fabric/plugins/module_utils"
sys.path.insert(0, str(old))
sys.dont_write_bytecode = True
from ansible_collections.cnm.fabric.plugins.module_utils.hostd import half
version, plan_format = sys.argv[1], int(sys.argv[2])
constants = old / package / "plan/constants.py"
text = constants.read_text()
constants.write_text(text.replace(f'VERSION = "{half.VERSION}"', f'VERSION = "{version}"'))
name = half.digest(half.files_in(old / package))
(old / "version.json").write_text(json.dumps({"version": version, "plan_format": plan_format}))
command = pathlib.Path("/usr/local/sbin/cnm")
command.write_text(command.read_text().replace(old.name, name))
for path in old.rglob("__pycache__"):
    shutil.rmtree(path)
old.rename(halves / name)
unit = pathlib.Path("/etc/systemd/system/cnm-networks.service")
unit.write_text(unit.read_text().replace("as last planned", f"by {version}"))
"""
"""Make the host half one of another version, with units of its own."""


@pytest.fixture(scope="module")
def here(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[System, Controller]]:
    """A system with a network."""
    folder = tmp_path_factory.mktemp("versions")
    with systems(folder, "n1") as (system,):
        controller = Controller(folder, system)
        controller.run("site", VARIABLES)
        system.write("/root/exchange.py", EXCHANGE)
        yield system, controller


def version(system: System) -> str:
    """The version of the command, and that the units are of it."""
    assert system.sh("ls /var/lib/cnm/.half").count("\n") == 1
    return system.sh("cnm --version").split()[1]


class TestVersions:
    """In this order, on one system."""

    def test_what_is_kept_is_compiled_for_the_first_start(self, here: tuple[System, Controller]) -> None:
        system, _controller = here
        assert system.sh("find /var/lib/cnm/.half -path '*engine/__pycache__/engine.*.pyc'").count("\n") == 1

    def test_a_run_of_an_earlier_version_leaves_a_later_half_and_its_units_and_changes_nothing(
        self, here: tuple[System, Controller]
    ) -> None:
        system, controller = here
        system.sh("python3 /root/exchange.py 9.0.0 1; systemctl daemon-reload")
        assert controller.run("site", VARIABLES).changed("n1") == 0
        assert controller.run("site", MORE).changed("n1")
        assert controller.run("site", MORE).changed("n1") == 0
        assert version(system) == "9.0.0"
        assert "by 9.0.0" in system.sh("cat /etc/systemd/system/cnm-networks.service")
        assert system.sh("cnm ps -q") == "c1\nc2\n"

    def test_it_is_refused_if_that_cannot_read_its_plans(self, here: tuple[System, Controller]) -> None:
        system, controller = here
        system.sh("python3 /root/exchange.py 9.1.0 2")
        run = controller.run("site", VARIABLES, fails=True)
        assert "version 9.1.0 of this collection keeps this host's networks, and reads plans of format 2" in run.output
        assert "run version 9.1.0 or a later one, or set cnm_boot: false" in run.output.replace("\n", " ")
        assert system.sh("ip netns list").split()[0] in ("c1", "c2")
        assert len(system.sh("cnm ps -q").split()) == 2

    @pytest.mark.parametrize("other", ["0.0.9", "0.1.0-dev1"])
    def test_a_run_of_a_later_version_replaces_an_earlier_half(
        self, here: tuple[System, Controller], other: str
    ) -> None:
        system, controller = here
        system.sh(f"python3 /root/exchange.py {other} 1")
        assert controller.run("site", VARIABLES).changed("n1")
        assert version(system) == "0.1.0"
        assert "as last planned" in system.sh("cat /etc/systemd/system/cnm-networks.service")
        assert controller.run("site", VARIABLES).changed("n1") == 0

    def test_a_teardown_by_an_earlier_version_leaves_nothing_of_a_later_one(
        self, here: tuple[System, Controller]
    ) -> None:
        system, controller = here
        system.sh("python3 /root/exchange.py 9.0.0 1")
        controller.run("teardown", VARIABLES)
        assert system.run("ls -d /var/lib/cnm /usr/local/sbin/cnm; find /etc/systemd -name 'cnm-*'").stdout == ""
