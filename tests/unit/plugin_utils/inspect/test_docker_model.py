# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: cnm.fabric contributors
"""Docker's keys, and the model without what is not there."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytest

from ansible_collections.cnm.fabric.plugins.module_utils.plan.plan import plan_data
from ansible_collections.cnm.fabric.plugins.plugin_utils.facts import Facts
from ansible_collections.cnm.fabric.plugins.plugin_utils.inspect.docker_json import inspect_document
from ansible_collections.cnm.fabric.plugins.plugin_utils.inspect.docker_model import live_model
from ansible_collections.cnm.fabric.plugins.plugin_utils.leases.base import empty
from ansible_collections.cnm.fabric.plugins.plugin_utils.module_state.reading import read_topology
from ansible_collections.cnm.fabric.plugins.plugin_utils.planner.plan import plan
from ansible_collections.cnm.fabric.plugins.plugin_utils.reports.models import MODEL

NOW = "2026-11-21T05:00:00Z"
NETWORKS: dict[str, Any] = {
    "front": {
        "labels": {"tier": "front"},
        "driver_opts": {"com.docker.network.bridge.name": "br-front"},
        "ipam": {
            "config": [
                {
                    "subnet": "10.0.0.0/24",
                    "ip_range": "10.0.0.128/25",
                    "gateway": "10.0.0.1",
                    "aux_addresses": {"router": "10.0.0.130"},
                }
            ]
        },
    },
    "back": {"subnet": "10.0.1.0/24", "internal": True},
}
SANDBOXES: dict[str, Any] = {
    "c1": {"networks": {"front": {"aliases": ["web"]}, "back": None}},
    "c2": {"networks": ["back"]},
    "h": {"network_mode": "host"},
    "n": {"network_mode": "none"},
}


def model(sandboxes: Any = None, networks: Any = None, host: str = "node1", **more: Any) -> dict[str, Any]:
    """The model a host's plan carries, as it is after its way through JSON."""
    variables = {host: {"cnm_networks": networks or NETWORKS, "cnm_sandboxes": sandboxes or SANDBOXES, **more}}
    made = plan(read_topology(variables), {host: Facts()}, empty(), NOW).plans[host]
    return dict(plan_data(made.to_json())["model"])


def document(of: Mapping[str, Any], name: str) -> dict[str, Any]:
    (found,) = (item for item in of["networks"] if item["Name"] == name)
    return inspect_document(found)


def names_on(of: Mapping[str, Any], network: str) -> set[str]:
    return {item["Name"] for item in document(of, network)["Containers"].values()}


def drift(action: str, kind: str, name: str) -> list[dict[str, Any]]:
    return [{"action": action, "kind": kind, "name": name}]


class TestInspect:
    def test_keys_are_docker_s_in_docker_s_order(self) -> None:
        for name in ("front", "bridge"):
            assert list(document(model(), name)) == [
                *("Name", "Id", "Created", "Scope", "Driver", "EnableIPv4", "EnableIPv6", "IPAM", "Internal"),
                *("Attachable", "Ingress", "ConfigFrom", "ConfigOnly", "Containers", "Options", "Labels"),
            ]

    def test_ipam_is_as_docker_writes_it(self) -> None:
        ipam = document(model(), "front")["IPAM"]
        assert list(ipam) == ["Driver", "Options", "Config"]
        (config,) = ipam["Config"]
        assert list(config.items()) == [
            ("Subnet", "10.0.0.0/24"),
            ("IPRange", "10.0.0.128/25"),
            ("Gateway", "10.0.0.1"),
            ("AuxiliaryAddresses", {"router": "10.0.0.130"}),
        ]

    def test_unset_properties_of_a_subnet_have_no_key(self) -> None:
        assert document(model(), "back")["IPAM"]["Config"] == [{"Subnet": "10.0.1.0/24", "Gateway": "10.0.1.1"}]

    def test_a_container_s_keys_and_values(self) -> None:
        (container,) = document(model(), "front")["Containers"].values()
        assert list(container) == ["Name", "EndpointID", "MacAddress", "IPv4Address", "IPv6Address"]
        assert container["Name"] == "c1"
        assert container["IPv4Address"] == "10.0.0.128/24"
        assert container["MacAddress"] == "02:42:0a:00:00:80"
        assert container["IPv6Address"] == ""

    def test_ids_are_64_hex_digits_and_all_different(self) -> None:
        made = model()
        ids = [item["Id"] for item in made["networks"]]
        ids += [c["EndpointID"] for item in made["networks"] for c in item["Containers"].values()]
        assert len(ids) == len(set(ids)) == 10
        assert all(len(word) == 64 and not set(word) - set("0123456789abcdef") for word in ids)

    def test_a_sandbox_has_one_id_on_all_its_networks(self) -> None:
        made = model()
        on_front, on_back = (set(document(made, name)["Containers"]) for name in ("front", "back"))
        assert on_front < on_back

    def test_hosts_do_not_share_ids(self) -> None:
        assert document(model(host="node1"), "front")["Id"] != document(model(host="node2"), "front")["Id"]

    def test_what_was_declared_is_shown(self) -> None:
        front, back = document(model(), "front"), document(model(), "back")
        assert front["Labels"] == {"tier": "front"}
        assert front["Options"] == {"com.docker.network.bridge.name": "br-front"}
        assert (front["Internal"], back["Internal"]) == (False, True)
        assert front["Created"] == NOW

    def test_predefined_networks_are_shown_as_docker_shows_them(self) -> None:
        made = model()
        assert [item["Name"] for item in made["networks"]] == ["back", "bridge", "front", "host", "none"]
        assert document(made, "none")["Driver"] == "null"
        assert document(made, "bridge")["Created"] == "0001-01-01T00:00:00Z"
        assert names_on(made, "host") == {"h"}
        assert names_on(made, "none") == {"n"}
        assert names_on(made, "bridge") == set()


class TestPolicies:
    POLICIES: dict[str, Any] = {
        "web": {
            "ingress": [
                {"action": "allow", "from": [{"network": "front"}], "ports": ["80", "9000-9010/udp"]},
                {"action": "drop", "protocols": ["icmp", "gre", 99], "icmp_types": ["echo-request", "icmpv6/3"]},
            ]
        },
        "unused": {"default": {"egress": "drop"}},
    }

    def test_the_model_has_those_that_hold_as_they_were_written(self) -> None:
        sandboxes = {**SANDBOXES, "c2": {"networks": ["back"], "policies": ["web"]}}
        networks = {**NETWORKS, "front": {**NETWORKS["front"], "policies": ["web"]}}
        found = model(sandboxes, networks, cnm_policies=self.POLICIES)
        assert found["policies"] == {
            "web": {
                "ingress": {
                    "default": "drop",
                    "rules": [
                        {"action": "allow", "peers": [["network", "front"]], "about": ["80/tcp", "9000-9010/udp"]},
                        {
                            "action": "drop",
                            "peers": [],
                            "about": ["icmp", "gre", "99", "echo-request", "time-exceeded"],
                        },
                    ],
                },
                "egress": {"default": "", "rules": []},
            }
        }
        assert found["traits"]["front"]["policies"] == ["web"]
        assert "policies" not in found["traits"]["back"]
        assert found["sandboxes"]["c1"]["policy"]["policies"] == ["web"]
        errors: list[tuple[str, str]] = []
        assert MODEL(found, errors) == found
        assert errors == []
        assert live_model(found, [])["policies"] == found["policies"]

    def test_without_policies_it_says_nothing_of_them(self) -> None:
        assert "policies" not in model(cnm_policies=self.POLICIES)


class TestLive:
    def test_without_drift_it_is_the_model(self) -> None:
        assert live_model(model(), []) == model()

    def test_a_missing_link_removes_only_its_endpoint(self) -> None:
        live = live_model(model(), drift("create", "link", "c1/eth1"))
        assert [item["link"] for item in live["sandboxes"]["c1"]["endpoints"]] == ["eth0"]
        assert names_on(live, "front") == {"c1"}
        assert names_on(live, "back") == {"c2"}
        assert live["sandboxes"]["c2"] == model()["sandboxes"]["c2"]

    def test_a_missing_namespace_removes_the_sandbox_from_all_networks(self) -> None:
        live = live_model(model(), drift("create", "namespace", "c1"))
        assert set(live["sandboxes"]) == {"c2", "h", "n"}
        assert names_on(live, "front") == set()
        assert names_on(live, "back") == {"c2"}

    def test_a_missing_namespace_removes_a_sandbox_without_networks(self) -> None:
        live = live_model(model(), drift("create", "namespace", "n"))
        assert names_on(live, "none") == set()
        assert names_on(live, "host") == {"h"}

    def test_a_sandbox_whose_namespace_is_awaited_is_not_there(self) -> None:
        live = live_model(model(), drift("wait for", "sandbox", "c2"))
        assert set(live["sandboxes"]) == {"c1", "h", "n"}
        assert names_on(live, "back") == {"c1"}

    @pytest.mark.parametrize(
        ("action", "kind", "name"),
        [
            ("change", "link", "c1/eth0"),
            ("delete", "link", "c1/eth9"),
            ("create", "address", "c1/eth0/10.0.0.128/24"),
            ("create", "file", "/etc/netns/c1"),
            ("create", "resolver", "c1"),
            ("create", "link", "br-front"),
        ],
    )
    def test_other_drift_hides_nothing(self, action: str, kind: str, name: str) -> None:
        assert live_model(model(), drift(action, kind, name)) == model()

    def test_the_model_itself_is_left_as_it_was(self) -> None:
        made = model()
        live_model(made, drift("create", "namespace", "c1"))
        assert made == model()

    def test_a_missing_bridge_of_a_sandbox_s_name_is_not_that_sandbox(self) -> None:
        networks = {"n": {"subnet": "10.0.0.0/24", "driver_opts": {"com.docker.network.bridge.name": "c1"}}}
        made = model({"c1": {"networks": ["n"]}}, networks)
        assert live_model(made, drift("create", "link", "c1")) == made
