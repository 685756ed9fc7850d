# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: cnm.fabric contributors
"""What a distribution's nftables.service runs, and the drop-in that loads our tables together with its own."""

from __future__ import annotations

from pathlib import Path
from typing import Optional

import pytest

from ansible_collections.cnm.fabric.plugins.module_utils.hostd.nftables_service import drop_in

DEBIAN = """[Service]
ExecStart=/usr/sbin/nft -f /etc/nftables.conf
ExecReload=/usr/sbin/nft -f /etc/nftables.conf
ExecStop=/usr/sbin/nft flush ruleset
"""

FEDORA = """[Service]
ExecStart=/sbin/nft -f /etc/sysconfig/nftables.conf
ExecReload=/sbin/nft 'flush ruleset; include "/etc/sysconfig/nftables.conf";'
ExecStop=/sbin/nft flush ruleset
"""


def made(folder: Path, unit: Optional[str], **drop_ins: str) -> Optional[str]:
    """The drop-in for a unit with drop-ins, by their names without suffix."""
    admin, vendor = folder / "etc", folder / "usr"
    for path in (admin / "nftables.service.d", vendor):
        path.mkdir(parents=True, exist_ok=True)
    if unit is not None:
        (vendor / "nftables.service").write_text(unit, encoding="utf-8")
    for name, text in drop_ins.items():
        (admin / "nftables.service.d" / f"{name}.conf").write_text(text, encoding="utf-8")
    return drop_in([str(admin), str(vendor)])


def loaded(text: Optional[str]) -> list[str]:
    """What each command of a drop-in loads, in nft's language."""
    assert text is not None
    return [line.rpartition("' sh ")[2] for line in text.splitlines() if "' sh " in line]


@pytest.mark.parametrize(
    ("unit", "texts"),
    [
        (DEBIAN, ['include "/etc/nftables.conf"', 'include "/etc/nftables.conf"', "flush ruleset"]),
        (
            FEDORA,
            [
                'include "/etc/sysconfig/nftables.conf"',
                'flush ruleset; include "/etc/sysconfig/nftables.conf"',
                "flush ruleset",
            ],
        ),
    ],
    ids=["debian", "fedora"],
)
def test_each_command_does_its_own_work_in_one_transaction_with_ours(
    tmp_path: Path, unit: str, texts: list[str]
) -> None:
    text = made(tmp_path, unit)
    assert loaded(text) == ['"' + item.replace('"', '\\"') + '"' for item in texts]
    assert made(tmp_path, unit, cnm=text or "") == text


def test_where_there_is_no_such_service_there_is_no_drop_in(tmp_path: Path) -> None:
    assert made(tmp_path, None) is None


@pytest.mark.parametrize(
    "changed",
    [
        "[Service]\nExecStart=\nExecStart=/bin/true\n",
        "[Service]\nExecStart=/usr/sbin/nft -f /etc/more.conf\n",
        "[Service]\nExecStop=\n",
        "[Service]\nExecReload=\nExecReload=/usr/sbin/nft -f /etc/$FILE\n",
        "[Service]\nExecReload=\nExecReload=/usr/sbin/nft -f '/etc/a b.conf'\n",
        '[Service]\nExecStop=\nExecStop=/usr/sbin/nft flush ruleset; include "/etc/x\\";\n',
        "[Service]\nExecStop=\nExecStop=-/usr/sbin/nft flush ruleset\n",
    ],
)
def test_what_somebody_has_changed_is_left_alone(tmp_path: Path, changed: str) -> None:
    assert made(tmp_path, DEBIAN, override=changed) is None


def test_a_drop_in_of_somebodys_that_changes_no_command_changes_nothing(tmp_path: Path) -> None:
    assert made(tmp_path, DEBIAN, quiet="[Unit]\nStartLimitIntervalSec=0\n") == made(tmp_path, DEBIAN)


def test_a_unit_of_the_administrators_is_the_one_that_counts(tmp_path: Path) -> None:
    made(tmp_path, DEBIAN)
    (tmp_path / "etc" / "nftables.service").write_text(DEBIAN.replace("nftables.conf", "mine.conf"), encoding="utf-8")
    assert loaded(made(tmp_path, DEBIAN))[0] == '"include \\"/etc/mine.conf\\""'
