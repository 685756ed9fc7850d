# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: cnm.fabric contributors
"""What the host's own settings say of forwarding."""

from __future__ import annotations

from pathlib import Path

import pytest

from ansible_collections.cnm.fabric.plugins.module_utils.kernel import forwarding


@pytest.mark.parametrize(
    ("files", "found"),
    [
        ({}, False),
        ({"admin/10-router.conf": "net.ipv4.ip_forward = 1"}, True),
        ({"admin/10-router.conf": "net/ipv4/ip_forward=1"}, True),
        ({"admin/10-router.conf": "-net.ipv4.conf.all.forwarding=1"}, True),
        ({"admin/10-router.conf": "# net.ipv4.ip_forward=1\n;net.ipv4.ip_forward=1\nnonsense"}, False),
        ({"admin/10-router.conf": "net.ipv4.ip_forward=1", "vendor/20-no.conf": "net.ipv4.ip_forward=0"}, False),
        ({"admin/10-router.conf": "", "vendor/10-router.conf": "net.ipv4.ip_forward=1"}, False),
        ({"vendor/10-router.conf": "net.ipv4.ip_forward=1", "last.conf": "net.ipv4.ip_forward=0"}, False),
        ({"last.conf": "net.ipv4.ip_forward=1"}, True),
        ({"admin/10-router.txt": "net.ipv4.ip_forward=1"}, False),
        ({"admin/10-router.conf": "net.ipv6.conf.all.forwarding=1"}, False),
    ],
)
def test_the_last_setting_counts_as_sysctl_reads_them(tmp_path: Path, files: dict[str, str], found: bool) -> None:
    for name, text in files.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(text, encoding="utf-8")
    folders = [str(tmp_path / "admin"), str(tmp_path / "vendor")]
    assert forwarding._is_set("net.ipv4.ip_forward", folders, str(tmp_path / "last.conf")) is found
