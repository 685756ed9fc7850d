# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: cnm.fabric contributors
"""Files of variables that Ansible passes over, as there is no host or group of their name."""

from __future__ import annotations

from pathlib import Path

import pytest

from ansible_collections.cnm.fabric.plugins.plugin_utils.declaration.stray_files import stray_files

HOSTS = ["node1", "gw2", "db.example.org"]
GROUPS = ["all", "ungrouped", "workers"]
OURS = "# mine\ncnm_sandboxes:\n  c1: {networks: [front]}\n"


def told(folder: Path, files: dict[str, str]) -> list[str]:
    for path, text in files.items():
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        (folder / path).write_text(text, encoding="utf-8")
    return [text.replace(f"{folder}/", "") for text in stray_files([str(folder), str(folder)], HOSTS, GROUPS)]


@pytest.mark.parametrize(
    ("path", "near"),
    [
        ("host_vars/nodel.yml", "did you mean node1?"),
        ("host_vars/Node1.yaml", "did you mean node1?"),
        ("host_vars/nod1", "did you mean node1?"),
        ("host_vars/nod1/networks.yml", "did you mean node1?"),
        ("host_vars/node1.example.org.yml", "did you mean node1?"),
        ("host_vars/db.yml", "did you mean db.example.org?"),
        ("host_vars/workers.yml", "it is a group: such a file belongs in group_vars"),
        ("group_vars/wrokers.yml", "did you mean workers?"),
        ("group_vars/node1.yml", "it is a host: such a file belongs in host_vars"),
    ],
)
def test_a_file_of_no_host_or_group_is_named_with_whom_it_may_be_for(path: str, near: str, tmp_path: Path) -> None:
    kind, name = path.split("/")[:2]
    noun = kind.removesuffix("_vars")
    stem = name if not name.endswith((".yml", ".yaml")) else name.rpartition(".")[0]
    shown = f"{kind}/{name}"
    assert told(tmp_path, {path: OURS}) == [
        f"{shown} has cnm_ variables, which nobody gets: the inventory has no {noun} {stem}; {near}"
        if "belongs" not in near
        else f"{shown} has cnm_ variables, which nobody gets: {stem} is no {noun} of the inventory; {near}"
    ]


@pytest.mark.parametrize(
    "files",
    [
        {"host_vars/node1.yml": OURS, "group_vars/all/networks.yml": OURS, "group_vars/workers": OURS},
        {"host_vars/nodel.yml": "ntp_server: 192.0.2.1\nx: {cnm_sandboxes: 1}\n"},
        {"host_vars/nodel.yml": "$ANSIBLE_VAULT;1.1;AES256\n6162\n"},
        {"host_vars/nodel.yml~": OURS, "host_vars/.nodel.yml.swp": OURS, "host_vars/node1.yml.bak": OURS},
        # Of a host of another inventory in the same folder, or of one that is no more.
        {"host_vars/nodel.yml": OURS, "host_vars/node1.yml": OURS},
        {"host_vars/node2.yml": OURS, "host_vars/gw3.yml": OURS},
        {"host_vars/monitoring.yml": OURS},
        {"host_vars/localhost.yml": OURS},
        {},
    ],
)
def test_nothing_is_said_of_a_file_that_may_be_meant_so(files: dict[str, str], tmp_path: Path) -> None:
    assert told(tmp_path, files) == []
