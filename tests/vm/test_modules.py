# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: cnm.fabric contributors
"""Which types of links a kernel with modules can make, by what modprobe says: none is loaded to find out."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from on_host import run_command

from ansible_collections.cnm.fabric.plugins.module_utils.kernel import modules
from ansible_collections.cnm.fabric.plugins.module_utils.probe.obstacles import LINK_TYPES

pytestmark = pytest.mark.vm

RULES = Path("/etc/modprobe.d/cnm-test.conf")


@pytest.fixture(autouse=True)
def unloaded() -> Iterator[None]:
    """No module of these types is loaded, and modprobe's rules are as they were."""
    subprocess.run(["modprobe", "-r", "-q", "ipvlan", "geneve", "8021q"], check=False)
    yield
    RULES.unlink(missing_ok=True)


def loaded() -> set[str]:
    return {line.split()[0] for line in Path("/proc/modules").read_text(encoding="ascii").splitlines()}


def test_none_is_missing_and_none_is_loaded() -> None:
    before = loaded()
    assert "ipvlan" not in before
    assert modules.missing_link_types(LINK_TYPES, run_command) == []
    assert loaded() == before


@pytest.mark.parametrize("rule", ["install ipvlan /bin/false", "blacklist ipvlan"])
def test_one_that_modprobe_denies_cannot_be_loaded(rule: str) -> None:
    """By this root's modprobe; the kernel asks that of the machine's, whose rules are not these."""
    RULES.write_text(f"{rule}\n", encoding="ascii")
    assert [kind for kind in LINK_TYPES if not modules._can_load(f"rtnl-link-{kind}", run_command)] == ["ipvlan"]
    RULES.unlink()
    assert modules._can_load("rtnl-link-ipvlan", run_command)
    assert "ipvlan" not in loaded()
