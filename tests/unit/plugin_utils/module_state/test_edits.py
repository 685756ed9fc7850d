# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: cnm.fabric contributors
"""What modules made, beside what the inventory declares: kept, settled, put together, and told apart in mistakes."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, ClassVar, Optional

import pytest

from ansible_collections.cnm.fabric.plugins.module_utils.entrypoints import Overtaken, Request, _plan_text
from ansible_collections.cnm.fabric.plugins.module_utils.plan.links import Link
from ansible_collections.cnm.fabric.plugins.module_utils.plan.plan import Plan
from ansible_collections.cnm.fabric.plugins.plugin_utils.declaration.errors import DeclarationError, NothingDeclared
from ansible_collections.cnm.fabric.plugins.plugin_utils.declaration.module_objects import (
    ModuleState,
    connected,
    disconnect,
    own_networks,
    pack_declared,
    settle,
    unpack_declared,
)
from ansible_collections.cnm.fabric.plugins.plugin_utils.declaration.topology import LeaseStore
from ansible_collections.cnm.fabric.plugins.plugin_utils.facts import Facts
from ansible_collections.cnm.fabric.plugins.plugin_utils.leases.base import Leases, empty
from ansible_collections.cnm.fabric.plugins.plugin_utils.leases.belief import Claim, Part, believe
from ansible_collections.cnm.fabric.plugins.plugin_utils.leases.stores import open_store
from ansible_collections.cnm.fabric.plugins.plugin_utils.module_runner import from_text
from ansible_collections.cnm.fabric.plugins.plugin_utils.module_state.edits import (
    Call,
    HostModel,
    Missing,
    Refusal,
    edit,
    format_errors,
)
from ansible_collections.cnm.fabric.plugins.plugin_utils.module_state.reading import read_topology
from ansible_collections.cnm.fabric.plugins.plugin_utils.planner.planning import (
    Outcome,
    make_plans,
    plan_host,
)

NOW = "2026-11-21T05:00:00Z"

FRONT = {"cnm_networks": {"front": {"subnet": "10.1.0.0/24"}}, "cnm_sandboxes": {"web": {"networks": ["front"]}}}
LAB = {"lab": {"subnet": "10.0.0.0/24"}}
C1 = {"c1": {"networks": ["lab"]}}


def call(module: str, absent: bool = False, **options: Any) -> Call:
    return Call(module, "node1", options, absent)


def known(alone: ModuleState, variables: Optional[dict[str, Any]] = None) -> HostModel:
    facts = Facts(module_state=alone.packed(), declared=pack_declared(FRONT if variables is None else variables))
    return HostModel.of("node1", facts, {"cnm_project": "default"})


def edited(alone: ModuleState, request: Call, variables: Optional[dict[str, Any]] = None) -> ModuleState:
    wanted = edit(request, known(alone, variables))
    assert wanted is not None
    return wanted.module_state


def outcome(directory: Path, variables: dict[str, Any], alone: Optional[ModuleState] = None, **more: Any) -> Outcome:
    facts = {"node1": Facts(module_state=(alone or ModuleState()).packed(), **more)}
    return make_plans({"node1": variables}, {}, facts, str(directory), NOW, remember=True)


class TestKept:
    def test_the_order_of_networks_survives_sorted_json(self) -> None:
        ends = {"z": {"aliases": ["a"]}, "b": None, "a": {}}
        alone = ModuleState(LAB, {"c1": {"networks": ends, "ports": ["80:80"]}, "c2": {}}, {"web": ends})
        text = Plan("node1", module_state=alone.packed()).to_json()
        read = ModuleState.unpacked(Plan.from_json(text).module_state)
        assert read == alone
        assert list(read.sandboxes["c1"]["networks"]) == list(read.endpoints["web"]) == ["z", "b", "a"]

    def test_kept_variables_have_their_names_but_no_secrets_and_no_empty_values(self) -> None:
        variables = {
            "cnm_networks": {},
            "cnm_networks_lab": LAB,
            "cnm_sandboxes": {"web": {"networks": {"z": None, "a": {"gw_priority": 1}}}, "x": None},
            "cnm_default_address_pools": [{"base": "10.8.0.0/16", "size": 24}],
            "cnm_overlay_secret": "hush",
            "cnm_leases": "sqlite:////secret",
            "cnm_hosts": "all",
        }
        packed = pack_declared(variables)
        assert "hush" not in json.dumps(packed)
        assert sorted(packed) == ["cnm_default_address_pools", "cnm_networks_lab", "cnm_sandboxes"]
        read = unpack_declared(json.loads(json.dumps(packed, sort_keys=True)))
        assert list(read["cnm_sandboxes"]["web"]["networks"]) == ["z", "a"]
        assert pack_declared(read) == packed

    def test_an_empty_module_state_is_not_in_the_plan(self) -> None:
        assert ModuleState().packed() == ModuleState(endpoints={"c1": {}}).packed() == {}
        assert {"module_state", "declared"}.isdisjoint(json.loads(Plan("node1").to_json()))

    def test_a_plan_without_module_state_is_read(self) -> None:
        text = Plan("node1").to_json()
        assert (Plan.from_json(text).module_state, Plan.from_json(text).declared) == ({}, {})


@pytest.mark.parametrize(
    ("entry", "networks"),
    [
        (None, {"bridge": None}),
        ({"network_mode": "bridge"}, {"bridge": None}),
        ({"network_mode": "none"}, {}),
        ({"networks": ["host"]}, {}),
        ({"networks": ["b", "a"]}, {"b": None, "a": None}),
        ({"networks": {"a": {"gw_priority": 1}}}, {"a": {"gw_priority": 1}}),
        ({"networks": [1]}, None),
        ({"networks": "a"}, None),
        ("a", None),
    ],
)
def test_own_networks_of_a_sandbox(entry: Any, networks: Any) -> None:
    assert own_networks(entry) == networks


class TestSettling:
    def test_an_object_that_the_inventory_declares_leaves_the_module_state(self) -> None:
        alone = ModuleState({**LAB, "other": {}}, {**C1, "c2": {}})
        left = settle(alone, {"cnm_networks_x": LAB, "cnm_sandboxes": {"c1": {}}})
        assert (list(left.networks), list(left.sandboxes)) == (["other"], ["c2"])

    @pytest.mark.parametrize(
        ("declared", "left"),
        [
            (["front"], {"lab": {}, "front": None}),
            (["front", "lab"], {"front": None}),
            (["lab"], {}),
            (["other"], {"lab": {}}),
        ],
    )
    def test_an_endpoint_is_kept_until_its_sandbox_is_declared_on_the_network(self, declared: Any, left: Any) -> None:
        alone = ModuleState(endpoints={"web": {"lab": {}, "front": None}})
        settled = settle(alone, {"cnm_sandboxes": {"web": {"networks": declared}}})
        assert settled.endpoints == ({"web": left} if left else {})

    def test_an_endpoint_is_removed_with_its_sandbox(self) -> None:
        assert settle(ModuleState(endpoints={"web": {"lab": {}}}), {}) == ModuleState()

    def test_settling_twice_changes_nothing(self) -> None:
        alone = ModuleState(LAB, C1, {"c1": {"lab": None, "x": {}}, "web": {"lab": {}}})
        assert settle(settle(alone, FRONT), FRONT) == settle(alone, FRONT)


class TestVariablesAndModuleObjects:
    def test_module_networks_exist_without_sandboxes_and_edits_connect_sandboxes(self) -> None:
        alone = {
            "node1": ModuleState(LAB, C1, {"web": {"lab": {}, "front": None}, "c1": {"front": {"aliases": ["x"]}}})
        }
        host = disconnect(read_topology({"node1": FRONT}, None, alone), alone).host("node1")
        assert {network.name: network.standing for network in host.networks} == {"front": False, "lab": True}
        ends = {box.name: [(end.network, end.interface_name) for end in box.endpoints] for box in host.sandboxes}
        assert ends == {"web": [("lab", "eth1")], "c1": [("lab", None), ("front", None)]}

    def test_a_sandbox_without_its_last_network_has_none(self) -> None:
        alone = {"node1": ModuleState(endpoints={"web": {"front": None}})}
        (web,) = disconnect(read_topology({"node1": FRONT}, None, alone), alone).host("node1").sandboxes
        assert (web.endpoints, web.network_mode) == ((), "none")

    @pytest.mark.parametrize("entry", [None, {"network_mode": "bridge"}, {}])
    def test_connecting_keeps_the_predefined_network(self, entry: Any) -> None:
        assert connected(entry, {"lab": {}}) == {"networks": {"bridge": None, "lab": {}}}

    def test_site_plans_both_and_keeps_both(self, tmp_path: Path) -> None:
        made = outcome(tmp_path, FRONT, ModuleState(LAB, C1)).plans["node1"].plan
        assert {item["Name"] for item in made.model["networks"]} >= {"front", "lab"}
        assert (made.module_state, made.declared) == (ModuleState(LAB, C1).packed(), pack_declared(FRONT))

    def test_an_object_taken_over_by_the_inventory_has_the_same_resources(self, tmp_path: Path) -> None:
        before = outcome(tmp_path, FRONT, ModuleState(LAB, C1)).plans["node1"].plan
        inventory = {
            "cnm_networks": {**FRONT["cnm_networks"], **LAB},
            "cnm_sandboxes": {**FRONT["cnm_sandboxes"], **C1},
        }
        after = outcome(tmp_path, inventory, ModuleState(LAB, C1)).plans["node1"].plan
        assert (after.resources, after.model, after.module_state) == (before.resources, before.model, {})

    def test_an_inventory_without_declarations_is_refused_whatever_modules_made(self, tmp_path: Path) -> None:
        with pytest.raises(NothingDeclared):
            outcome(tmp_path, {}, ModuleState(LAB, C1))


class TestMistakes:
    def test_an_error_about_a_module_object_says_how_to_remove_it(self, tmp_path: Path) -> None:
        variables = {"cnm_networks": {"new": {"subnet": "10.0.0.0/16"}, "a": {"subnett": 1}}}
        with pytest.raises(DeclarationError) as caught:
            outcome(tmp_path, variables, ModuleState(LAB))
        ours, theirs = sorted(caught.value.errors, key=lambda item: "lab" not in item.path + item.problem)
        assert "`ansible node1 -m cnm.fabric.network -a 'name=lab state=absent'` removes it." in ours.remedy
        assert "cnm.fabric" not in str(theirs)

    def test_an_error_about_a_module_connection_says_how_to_remove_it(self, tmp_path: Path) -> None:
        refused = outcome(tmp_path, FRONT, ModuleState(endpoints={"web": {"lab": {}}})).refusals["node1"]
        assert "'network=lab sandbox=web state=absent'` ends it" in refused[0]

    def test_a_refusal_of_one_host_says_how_to_remove_the_module_object(self, tmp_path: Path) -> None:
        refused = outcome(tmp_path, FRONT, ModuleState(LAB), routes=(("10.0.0.0/16", "eth1", None),)).refusals["node1"]
        assert "-a 'name=lab state=absent'` removes it." in refused[0]

    @pytest.mark.parametrize(
        ("options", "said"),
        [
            ({"subnet": "10.1.0.0/16"}, "cnm_networks.front (10.1.0.0/24): "),
            ({"subnet": "10.1.0.128/25"}, "subnet (10.1.0.128/25): "),
            ({"driver_opts": {"parent": "eth0"}}, "driver_opts.parent: "),
        ],
    )
    def test_errors_of_a_module_call_name_its_options(self, options: dict[str, Any], said: str) -> None:
        request = call("network", name="new", **options)
        with pytest.raises(DeclarationError) as caught:
            edit(request, known(ModuleState()))
        text = format_errors(caught.value, request, known(ModuleState()))
        assert text.startswith(said)
        assert "cnm.fabric.network(" not in text


class TestServices:
    WEB: ClassVar = {"web2": {"networks": {"lab": None, "front": {"aliases": ["www"]}}, "ports": ["8080:80"]}}

    def test_module_services_are_kept_with_their_networks_in_order(self) -> None:
        packed = ModuleState(LAB, services=self.WEB).packed()
        read = ModuleState.unpacked(json.loads(json.dumps(packed, sort_keys=True)))
        assert list(read.services["web2"]["networks"]) == ["lab", "front"]

    def test_a_module_service_has_its_tasks_and_ports_on_the_host(self, tmp_path: Path) -> None:
        made = outcome(tmp_path, FRONT, ModuleState(LAB, services=self.WEB)).plans["node1"].plan
        (task,) = made.model["services"]["web2"]["tasks"]
        assert made.model["sandboxes"][task]["ports"] == ["0.0.0.0:8080->80/tcp"]
        assert "ingress_sbox" not in made.model["sandboxes"]

    def test_a_service_that_the_inventory_declares_leaves_the_module_state(self) -> None:
        left = settle(ModuleState(LAB, services=self.WEB), {"cnm_services": {"web2": {}}})
        assert left.services == {}

    def test_a_service_of_several_hosts_is_not_planned_for_one(self) -> None:
        declared = {**FRONT, "cnm_services": {"api": {"networks": ["front"]}}}
        with pytest.raises(Refusal, match=r"services that span hosts .*api.*run cnm.fabric.site"):
            edit(call("network", name="lab"), known(ModuleState(), declared))
        placed = {"networks": ["front"], "deploy": {"placement": {"hosts": ["node1"]}}}
        assert edit(call("network", name="lab"), known(ModuleState(), {**FRONT, "cnm_services": {"api": placed}}))


class TestEdits:
    def test_the_last_call_wins_and_the_link_keeps_its_name(self) -> None:
        alone = ModuleState(LAB, C1, {"web": {"lab": {"aliases": ["x"], "interface_name": "eth1"}}})
        again = edited(alone, call("endpoint", network="lab", sandbox="web", gw_priority=1))
        assert again.endpoints == {"web": {"lab": {"interface_name": "eth1", "gw_priority": 1}}}

    def test_a_call_for_a_sandbox_keeps_its_connections(self) -> None:
        alone = ModuleState(LAB, C1, {"c1": {"front": {}}})
        assert edited(alone, call("sandbox", name="c1", networks={"lab": {}})).endpoints == alone.endpoints
        assert edited(alone, call("sandbox", name="c1", absent=True)).endpoints == {}
        assert edited(alone, call("sandbox", name="c1", networks=["front"])).endpoints == {}

    def test_disconnecting_a_declared_endpoint_is_kept_until_it_is_connected(self) -> None:
        gone = edited(ModuleState(), call("endpoint", network="front", sandbox="web", absent=True))
        assert gone.endpoints == {"web": {"front": None}}
        assert edit(call("endpoint", network="front", sandbox="web", absent=True), known(gone)) is None
        assert edited(gone, call("endpoint", network="front", sandbox="web")) == ModuleState()

    def test_a_call_that_needs_a_missing_object_raises_missing(self) -> None:
        for request in (
            call("endpoint", network="lab", sandbox="web"),
            call("endpoint", network="front", sandbox="c9"),
            call("sandbox", name="c9", networks=["lab"]),
        ):
            with pytest.raises(Missing):
                edit(request, known(ModuleState()))

    def test_a_network_named_by_a_disconnected_sandbox_is_not_removed(self) -> None:
        alone = ModuleState(LAB, C1, {"c1": {"lab": None}})
        with pytest.raises(Refusal, match="is named in the declaration of c1"):
            edit(call("network", name="lab", absent=True), known(alone))

    def test_a_host_with_only_module_objects_has_the_inventory_s_settings(self) -> None:
        pools = [{"base": "10.8.0.0/16", "size": 24}]
        host = HostModel.of("node1", Facts(), {"cnm_project": "lab", "cnm_default_address_pools": pools}).host
        assert (host.settings.project, host.settings.default_address_pools) == ("lab", (("10.8.0.0/16", 24),))

    def test_a_host_whose_plan_lacks_its_variables_is_refused(self, tmp_path: Path) -> None:
        made = outcome(tmp_path, FRONT).plans["node1"].plan
        with pytest.raises(Refusal, match=r"\(front, web\) were made by a version .* run cnm.fabric.site once"):
            HostModel.of("node1", Facts(model=made.model), {"cnm_project": "default"})
        HostModel.of("node1", Facts(model=made.model, declared=made.declared), {"cnm_project": "default"})

    def test_a_policy_may_name_what_is_on_other_hosts_but_not_these_themselves(self) -> None:
        """Their addresses are not known to a call, and without them the rules would be others than site's."""

        def variables(peer: dict[str, str]) -> dict[str, Any]:
            return {**FRONT, "cnm_policies": {"shut": {"ingress": [{"action": "allow", "from": [peer]}]}}}

        request = call("sandbox", name="c1", networks=["front"], policies=["shut"])
        for peer in ({"sandbox": "elsewhere"}, {"service": "far"}, {"network": "there"}, {"host": "node1"}):
            wanted = edit(request, known(ModuleState(), variables(peer)))
            assert wanted is not None
            sandbox = wanted.sandbox("c1")
            assert sandbox is not None and sandbox.policies == ("shut",)
        far = variables({"host": "node2"})
        assert edited(ModuleState(), call("sandbox", name="c1", networks=["front"]), far).sandboxes
        with pytest.raises(Refusal, match=r"name other hosts \(node2\), whose addresses modules do not know"):
            edit(request, known(ModuleState(), far))

    def test_a_policy_that_the_inventory_lacks_is_a_mistake_of_the_option(self) -> None:
        request = call("sandbox", name="c1", networks=["front"], policies=["shut"])
        host = known(ModuleState())
        with pytest.raises(DeclarationError) as caught:
            edit(request, host)
        assert format_errors(caught.value, request, host).startswith("policies[0]: There is no policy `shut`")

    def test_options_given_as_text_are_parsed(self) -> None:
        given = {
            "subnet": ["10.0.0.0/24"],
            "networks": "a, b",
            "labels": "x=y",
            "ports": '[{"target": 80}]',
            "ipam": None,
            "policies": ["web", "shut"],
        }
        assert from_text(given) == {
            "subnet": "10.0.0.0/24",
            "networks": ["a", "b"],
            "labels": ["x=y"],
            "ports": [{"target": 80}],
            "policies": ["web", "shut"],
        }


class TestLeases:
    def test_planning_one_host_accepts_its_leases_and_keeps_those_of_others(self) -> None:
        stored: Leases = {**empty(), "endpoints": {"a/n/c1": {"ipv4": "10.0.0.2"}, "b/n/c1": {"ipv4": "10.0.0.2"}}}
        part: Leases = {**empty(), "endpoints": {"a/n/c1": {"ipv4": "10.0.0.9"}}}

        def confirmed(revision: int, leases: Leases) -> tuple[int, Leases]:
            claims = {"a": Claim(3, part)}
            found = believe(revision, leases, claims, lambda _host: Part(), frozenset, signed=True, complete=False)
            return found.revision, found.leases

        revision, merged = confirmed(10, stored)
        assert (revision, merged["endpoints"]) == (11, {**stored["endpoints"], **part["endpoints"]})
        assert confirmed(11, merged) == (11, merged)

    def test_planning_one_host_keeps_the_leases_of_others(self, tmp_path: Path) -> None:
        variables = {"cnm_networks": LAB, "cnm_sandboxes": C1}
        hosts = {"node1": variables, "node2": variables}
        facts = dict.fromkeys(hosts, Facts())
        make_plans(hosts, {}, facts, str(tmp_path), NOW, remember=True)
        make_plans(
            {"node2": variables},
            {},
            {"node2": Facts()},
            str(tmp_path),
            NOW,
            remember=True,
            complete=False,
        )
        host = read_topology({"node2": variables}).host("node2")
        plan_host(host, Facts(), str(tmp_path), NOW, remember=True)
        leases = open_store(LeaseStore(), str(tmp_path)).read("default").leases
        assert sorted(leases["endpoints"]) == ["node1/lab/c1", "node2/lab/c1"]


class TestOvertaken:
    @staticmethod
    def kept(**sections: Any) -> dict[str, Any]:
        made = Plan("node1", **sections)
        return {"revision": 1, "digest": made.digest, "plan": made.to_json()}

    @pytest.mark.parametrize(
        ("alone", "strict", "based_on_it", "refused"),
        [
            ({}, False, False, False),
            ({"cnm_networks": LAB}, False, False, True),
            ({"cnm_networks": LAB}, False, True, False),
            ({}, True, False, True),
            ({}, True, True, False),
        ],
    )
    def test_a_plan_that_would_lose_new_module_objects_is_refused(
        self, alone: Any, strict: bool, based_on_it: bool, refused: bool
    ) -> None:
        kept = self.kept(module_state=alone, model={"x": 1})
        text = Plan("node1", resources=(Link("", "br0", "bridge", "network/x"),)).to_json()
        based_on = kept["digest"] if based_on_it else "another"
        request = Request("default", plan=text, revision=1, based_on=based_on, strict=strict)
        if refused:
            with pytest.raises(Overtaken):
                _plan_text(request, kept)
        else:
            assert _plan_text(request, kept)[0] == text

    def test_two_runs_of_the_same_plan_do_not_disturb_each_other(self) -> None:
        kept = self.kept()
        request = Request("default", plan=kept["plan"], revision=1, based_on="", strict=True)
        assert _plan_text(request, kept)[1] == kept["digest"]
