# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: cnm.fabric contributors
"""The inventory plugin, as `ansible-inventory` has it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from ansible_collections.cnm.fabric.plugins import inventory as ours
from ansible_collections.cnm.fabric.plugins.plugin_utils.leases.base import empty
from ansible_collections.cnm.fabric.plugins.plugin_utils.leases.parts import PartStore
from ansible_collections.cnm.fabric.plugins.plugin_utils.leases.sqlite import SqliteBackend
from ansible_collections.cnm.fabric.plugins.plugin_utils.leases.stores import DEFAULT_FILE

HOSTS = """
all:
  vars:
    cnm_networks: {front: {subnet: 10.0.0.0/24}, back-end: {driver: overlay, subnet: 10.9.0.0/24}}
    cnm_services: {redis: {networks: [back-end], deploy: {replicas: 3}}}
  hosts:
    node1:
      cnm_sandboxes:
        web: {networks: [front, back-end]}
        db: {networks: [front]}
        node2: {network_mode: none}
        bare: {network_mode: host}
        side: {network_mode: "sandbox:db"}
    node2:
      kind: web
      cnm_sandboxes: "{{ {kind: {'networks': ['front']}} }}"
"""


def _ansible_inventory(folder: Path, hosts: str = HOSTS, ours_too: str = "") -> Any:
    (folder / "hosts.yml").write_text(hosts, encoding="utf-8")
    (folder / "sandboxes.cnm.yml").write_text(f"plugin: cnm.fabric.sandboxes\n{ours_too}", encoding="utf-8")
    collections = str(Path(next(iter(ours.__path__))).parents[4])
    return subprocess.run(
        [str(Path(sys.executable).parent / "ansible-inventory"), "-i", str(folder), "--list"],
        env={**os.environ, "ANSIBLE_COLLECTIONS_PATH": collections, "ANSIBLE_INVENTORY_ANY_UNPARSED_IS_FAILED": "1"},
        capture_output=True,
        text=True,
        check=False,
    )


def _listed(folder: Path, hosts: str = HOSTS, ours_too: str = "") -> dict[str, Any]:
    run = _ansible_inventory(folder, hosts, ours_too)
    assert run.returncode == 0, run.stderr
    # Texts that are no templates come as an object of one member.
    found: dict[str, Any] = json.loads(run.stdout, object_hook=lambda item: item.get("__ansible_unsafe", item))
    return found


def test_sandboxes_and_tasks_are_hosts_in_groups_by_host_network_and_service(tmp_path: Path) -> None:
    found = _listed(tmp_path)
    groups = {name: entry["hosts"] for name, entry in found.items() if "hosts" in entry}
    assert groups == {
        "cnm_hosts": ["node1", "node2"],
        "cnm_sandboxes": ["db", "node2@node1", "side", "web@node1", "web@node2", "redis.1", "redis.2", "redis.3"],
        "cnm_host_node1": ["db", "node2@node1", "side", "web@node1", "redis.1", "redis.3"],
        "cnm_host_node2": ["web@node2", "redis.2"],
        "cnm_network_front": ["db", "web@node1", "web@node2"],
        "cnm_network_back_end": ["web@node1", "redis.1", "redis.2", "redis.3"],
        "cnm_service_redis": ["redis.1", "redis.2", "redis.3"],
    }
    variables = found["_meta"]["hostvars"]["web@node1"]
    assert {key: value for key, value in variables.items() if key not in ("cnm_networks", "cnm_services")} == {
        "ansible_connection": "cnm.fabric.netns",
        "cnm_netns_host": "node1",
        "cnm_netns_sandbox": "web",
        "cnm_sandbox": {"name": "web", "host": "node1", "networks": ["front", "back-end"], "service": ""},
    }
    assert found["_meta"]["hostvars"]["side"]["cnm_netns_sandbox"] == "db"
    assert sorted(item.name for item in tmp_path.iterdir()) == ["hosts.yml", "sandboxes.cnm.yml"]


def test_a_sandbox_takes_the_name_of_nobody_that_a_play_may_mean(tmp_path: Path) -> None:
    """Of a group, or of the controller itself: its tasks, and what they know, would run in the sandbox."""
    hosts = """
all:
  children: {web: {hosts: {node1: {}}}}
  vars: {cnm_sandboxes: {web: {network_mode: none}, localhost: {network_mode: none}, cnm_hosts: {network_mode: none}}}
"""
    found = _listed(tmp_path, hosts)
    assert found["cnm_sandboxes"]["hosts"] == ["cnm_hosts@node1", "localhost@node1", "web@node1"]


def test_tasks_are_where_the_lease_store_remembers_them(tmp_path: Path) -> None:
    store = PartStore(SqliteBackend(tmp_path / DEFAULT_FILE))
    placed = {"redis": {"tasks": {"1": "node2", "2": "node2"}}}
    store.write("default", store.read("default"), {**empty(), "services": placed}, 1)
    assert _listed(tmp_path)["cnm_host_node2"]["hosts"] == ["web@node2", "redis.1", "redis.2"]


def test_groups_and_variables_can_be_composed(tmp_path: Path) -> None:
    more = "groups: {tasks: cnm_sandbox.service != ''}\ncompose: {label: cnm_sandbox.name | upper}\n"
    found = _listed(tmp_path, ours_too=more)
    assert found["tasks"]["hosts"] == ["redis.1", "redis.2", "redis.3"]
    assert found["_meta"]["hostvars"]["db"]["label"] == "DB"


def test_the_group_of_the_topology_is_kept_and_sandboxes_listed_by_hand_are_not_in_it(tmp_path: Path) -> None:
    by_hand = "\n  children: {cnm_hosts: {hosts: {node1: }}}\n"
    found = _listed(tmp_path, HOSTS + by_hand)
    assert found["cnm_hosts"]["hosts"] == ["node1"]
    assert "cnm_host_node2" not in found
    one = "all: {hosts: {h: {cnm_sandboxes: {c: {}}}, c: {ansible_connection: cnm.fabric.netns, cnm_netns_host: h}}}"
    found = _listed(tmp_path, one)
    assert found["cnm_hosts"]["hosts"] == ["h"]
    assert found["cnm_sandboxes"]["hosts"] == ["c@h"]


def test_what_a_compose_file_declares_is_listed_too(tmp_path: Path) -> None:
    folder = tmp_path / "inventory"
    folder.mkdir()
    (tmp_path / "shop.yml").write_text("name: shop\nservices: {web: {image: nginx}}\n", encoding="utf-8")
    found = _listed(folder, "all: {hosts: {h: {cnm_compose: ../shop.yml}}}", "")
    (name,) = found["cnm_network_shop_default"]["hosts"]
    assert found["cnm_host_h"]["hosts"] == [name]
    run = _ansible_inventory(folder, "all: {hosts: {h: {cnm_compose: ../none.yml}}}")
    assert run.returncode != 0
    assert "none.yml" in run.stderr


@pytest.mark.parametrize(
    ("hosts", "said"),
    [
        ("all: {hosts: {h: {cnm_sandboxes: {c: {networks: [frnt]}}}}}", "cnm_sandboxes.c.networks"),
        ("all: {hosts: {h: {cnm_sandboxes: '{{ nothing }}'}}}", "h: "),
        ("all: {vars: {cnm_hosts: [nobody]}, hosts: {h: {cnm_sandboxes: {c: {}}}}}", "nobody"),
    ],
)
def test_what_is_wrong_is_an_error_that_names_it_and_adds_nothing(tmp_path: Path, hosts: str, said: str) -> None:
    run = _ansible_inventory(tmp_path, hosts)
    assert run.returncode != 0
    assert said in run.stderr


def test_an_inventory_that_declares_nothing_has_no_sandboxes(tmp_path: Path) -> None:
    assert "cnm_sandboxes" not in _listed(tmp_path, "all: {hosts: {h: }}")
