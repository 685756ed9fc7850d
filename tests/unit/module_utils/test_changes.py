# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: cnm.fabric contributors
"""Operations and two plans, and the lines of a run: what was declared otherwise, and what was repaired."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Optional

import pytest

from ansible_collections.cnm.fabric.plugins.module_utils.changes import Before, changes, removals, repairs
from ansible_collections.cnm.fabric.plugins.module_utils.engine.expand_plan import expand_plan
from ansible_collections.cnm.fabric.plugins.module_utils.object_names import name_of, owner_of
from ansible_collections.cnm.fabric.plugins.module_utils.plan.addresses import Route
from ansible_collections.cnm.fabric.plugins.module_utils.plan.links import Link, Namespace
from ansible_collections.cnm.fabric.plugins.module_utils.plan.nftables import Nftables
from ansible_collections.cnm.fabric.plugins.module_utils.plan.plan import Plan, PlanText
from ansible_collections.cnm.fabric.plugins.module_utils.plan.settings import Boot, Resolver, Sysctl
from ansible_collections.cnm.fabric.plugins.module_utils.resources.base import Difference, Operation
from ansible_collections.cnm.fabric.plugins.module_utils.resources.boot import OTHER_VERSION
from ansible_collections.cnm.fabric.plugins.plugin_utils.facts import Facts
from ansible_collections.cnm.fabric.plugins.plugin_utils.leases.base import empty
from ansible_collections.cnm.fabric.plugins.plugin_utils.module_state.reading import read_topology
from ansible_collections.cnm.fabric.plugins.plugin_utils.planner.plan import plan

NETWORKS = {"front": {"subnet": "10.0.0.0/24"}, "wide": {"driver": "overlay", "subnet": "10.9.0.0/24"}}
C1: dict[str, Any] = {"networks": ["front"]}
SIGNS = {"add": "+", "change": "~", "remove": "-", "repair": "!", "wait": "…"}


class Declared:
    """node1's plan of what is declared, with its shared texts."""

    def __init__(self, elsewhere: Optional[dict[str, Any]] = None, **sandboxes: Any) -> None:
        variables = {
            "node1": {"cnm_networks": NETWORKS, "cnm_sandboxes": sandboxes},
            "node2": {"cnm_networks": NETWORKS, "cnm_sandboxes": elsewhere or {}},
        }
        facts = {
            name: Facts(addresses=((address, "eth0", 1500),), routes=(("default", "eth0", "192.0.2.254"),))
            for name, address in (("node1", "192.0.2.1"), ("node2", "192.0.2.2"))
        }
        made = plan(read_topology(variables), facts, empty(), "now")
        assert not made.refusals
        self.text = made.plans["node1"].to_json()
        self.plan = Plan.from_json(self.text)
        self.texts = {digest: text for digest, text in made.shared.items() if digest in self.plan.shared}
        self.resources = expand_plan(self.plan, self.texts)

    def one(self, kind: type[Any], **having: Any) -> Any:
        (found,) = (
            item
            for item in self.resources
            if isinstance(item, kind) and all(getattr(item, name) == value for name, value in having.items())
        )
        return found


def made_of(after: Declared, before: Optional[Declared] = None) -> list[Operation[Any]]:
    """The operations from one plan to another, on a host that has no drift."""
    old = {item.key: item for item in before.resources} if before else {}
    new = {item.key: item for item in after.resources}
    result: list[Operation[Any]] = [Operation("delete", old[key], old[key]) for key in sorted(old.keys() - new.keys())]
    for key, item in new.items():
        if key not in old:
            result.append(Operation("create", item))
        elif old[key] != item:
            result.append(Operation("change", item, old[key], (Difference("something", 1, 2),)))
    return result


def told(after: Declared, before: Optional[Declared], operations: Iterable[Operation[Any]], **broken: str) -> list[str]:
    kept = Before.of(before.text, before.texts) if before else Before()
    found = changes(kept, after.plan, PlanText.read(after.text), after.texts, list(operations), after.resources, broken)
    return [f"{SIGNS[item['action']]} {item['text']}" for item in found]


def repaired(declared: Declared, *operations: Operation[Any]) -> list[str]:
    return told(declared, declared, operations)


ONE = Declared(c1=C1)


def test_nothing_done_is_nothing_told() -> None:
    assert told(ONE, ONE, []) == []


def test_first_run_tells_what_is_declared_and_no_repair() -> None:
    assert told(ONE, None, made_of(ONE)) == [
        "+ network front (bridge, 10.0.0.0/24)",
        "+ sandbox c1 on front (10.0.0.2)",
    ]


def test_what_follows_from_a_change_is_not_told() -> None:
    two = Declared(c1=C1, c2=C1)
    assert told(two, ONE, made_of(two, ONE)) == ["+ sandbox c2 on front (10.0.0.3)"]
    assert told(ONE, two, made_of(ONE, two)) == ["- sandbox c2"]


def test_drift_is_a_repair_and_named_by_what_it_is_of() -> None:
    route = ONE.one(Route, namespace="c1")
    assert repaired(ONE, Operation("create", route)) == ["! default route of c1 (missing)"]
    resolver = ONE.one(Resolver)
    stopped = Operation("change", resolver, resolver, (Difference("running", True, False),))
    assert repaired(ONE, stopped) == ["! resolver of c1 (not running)"]
    forwarding = ONE.one(Sysctl, name="net.ipv4.ip_forward")
    off = Operation("change", forwarding, forwarding, (Difference("value", "1", "0"),))
    assert repaired(ONE, off) == ["! setting net.ipv4.ip_forward (value 0 → 1)"]
    table = ONE.one(Nftables, namespace="", family="inet")
    assert repaired(ONE, Operation("create", table)) == ["! table inet cnm (missing)"]


def test_network_named_as_a_word_of_parts_is_no_sandbox() -> None:
    assert owner_of("network sandbox in sandbox c1") == ("sandbox", "c1")
    assert owner_of("network sandbox") == ("network", "sandbox")
    assert owner_of("applications in sandbox sandbox") == ("sandbox", "sandbox")
    assert owner_of("link sandbox/eth0") == ("host", "")
    link = ONE.one(Link, namespace="c1")
    assert name_of(link, "network sandbox in sandbox c1") == "link eth0 of c1 on sandbox"


def test_missing_sandbox_is_one_line() -> None:
    lost = [
        item
        for item in ONE.resources
        if getattr(item, "namespace", getattr(item, "name", "")) == "c1" or item.key == ("file", "/etc/netns/c1")
    ]
    assert any(isinstance(item, Namespace) for item in lost)
    assert any(isinstance(item, Link) for item in lost)
    assert repaired(ONE, *(Operation("create", item) for item in lost)) == ["! sandbox c1 (missing)"]


def test_drift_and_change_are_told_apart_in_one_run() -> None:
    two = Declared(c1=C1, c2=C1)
    lost = Operation("create", two.one(Route, namespace="c1"))
    assert told(two, ONE, [*made_of(two, ONE), lost]) == [
        "+ sandbox c2 on front (10.0.0.3)",
        "! default route of c1 (missing)",
    ]


def test_drift_of_a_set_is_told_beside_a_change_of_another() -> None:
    two = Declared(c1=C1, c2={**C1, "ports": ["8080:80"]})
    old, new = (item.one(Nftables, namespace="", family="inet") for item in (ONE, two))
    sets = [{part.name: part for part in table.sets} for table in (old, new)]
    (changed, *_others) = (name for name in sets[0] if sets[0][name] != sets[1][name])
    (same, *_others) = (name for name in sets[0] if sets[0][name] == sets[1][name])
    differences = (Difference(f"set {changed}", ["a"], ["b"]), Difference(f"set {same}", ["a"], ["b"]))
    found = told(two, ONE, [Operation("change", new, old, differences)])
    assert found[-1] == f"! table inet cnm (set {same})"
    assert not any(changed in line for line in found)


def test_recreated_with_its_parent_is_no_repair() -> None:
    other = Declared(c1={"networks": {"front": {"mac_address": "02:42:00:00:00:99"}}})
    link, route = other.one(Link, namespace="c1", name="eth0"), other.one(Route, namespace="c1")
    found = told(other, ONE, [Operation("replace", link, link), Operation("create", route)])
    assert not any(line.startswith("!") for line in found)


def test_what_no_model_tells_is_told_by_object() -> None:
    other = Declared(c1={**C1, "sysctls": {"net.ipv4.ip_default_ttl": "70"}})
    assert told(other, ONE, made_of(other, ONE)) == ["~ setting net.ipv4.ip_default_ttl of c1"]


def test_another_version_of_the_host_half_is_a_change() -> None:
    found = ONE.one(Boot)
    other = Operation("change", found, found, (Difference("/x", "as this version has it", OTHER_VERSION),))
    assert repaired(ONE, other) == ["~ what the host keeps to restore its networks (/x: another version)"]
    gone = Operation("change", found, found, (Difference("/x", "as this version has it", "missing"),))
    assert repaired(ONE, gone) == ["! what the host keeps to restore its networks (/x: missing)"]


def test_endpoints_of_other_hosts_are_told_by_network() -> None:
    wide = {"networks": ["wide"]}
    before, after = (Declared(elsewhere, c1=wide) for elsewhere in ({"c2": wide}, {"c3": wide}))
    assert told(after, before, made_of(after, before)) == [
        "~ wide reaches c3 on node2 (10.9.0.3)",
        "~ wide no longer reaches c2 on node2",
    ]
    renamed = Declared({"c3": {"networks": {"wide": {"aliases": ["store"]}}}}, c1=wide)
    assert told(renamed, after, made_of(renamed, after)) == ["~ wide knows c3 on node2 by other names or addresses"]


def test_many_endpoints_of_other_hosts_are_counted() -> None:
    wide = {"networks": ["wide"]}
    few, many = ({f"d{number}": wide for number in range(count)} for count in (1, 30))
    one, thirty = Declared(few, c1=wide), Declared(many, c1=wide)
    assert told(thirty, one, made_of(thirty, one)) == ["~ wide reaches 29 more sandboxes on other hosts"]
    assert told(one, thirty, made_of(one, thirty)) == ["~ wide no longer reaches 29 sandboxes on other hosts"]


def test_first_endpoint_on_a_network_tells_no_peers() -> None:
    wide = {"networks": ["wide"]}
    before, after = Declared({"c2": wide}, c1=C1), Declared({"c2": wide}, c1=C1, c3=wide)
    assert told(after, before, made_of(after, before)) == [
        "+ network cnm_gwbridge (the way out of overlays)",
        "+ network wide (overlay, 10.9.0.0/24)",
        "+ sandbox c3 on wide (10.9.0.3)",
    ]


def test_waiting_sandboxes_are_told_without_operations() -> None:
    assert told(ONE, ONE, [], c1="the container web does not run") == ["… sandbox c1: the container web does not run"]


def test_kept_plan_of_another_form_is_no_error() -> None:
    resources = '[[1, {"=": {"kind": "unknown"}}], [1, {"=": {"kind": "route", "more": 1}}]]'
    kept = Before.of(f'{{"model": {{}}, "resources": {resources}}}', {})
    found = changes(kept, ONE.plan, PlanText.read(ONE.text), ONE.texts, made_of(ONE), ONE.resources, {})
    assert [item["text"] for item in found][:1] == ["network front (bridge, 10.0.0.0/24)"]


@pytest.mark.parametrize("model", ['{"sandboxes": {"c1": {}}}', '{"networks": [{}]}', "[1]"])
def test_model_of_another_form_does_not_fail_a_run_that_has_changed_the_host(model: str) -> None:
    kept = f'{{"model": {model}, "resources": []}}'
    table = ONE.one(Nftables, namespace="", family="inet")
    text, done = PlanText.read(ONE.text), [Operation("create", table)]
    found = changes(Before.of(kept, {}), ONE.plan, text, ONE.texts, done, ONE.resources, {"c2": "why"})
    assert [(item["action"], item["text"]) for item in found] == [
        ("change", "table inet cnm"),
        ("wait", "sandbox c2: why"),
    ]
    gone = removals(kept, [Operation("delete", table)])
    assert gone and all(item["action"] == "remove" for item in gone)


def test_teardown_tells_what_was_kept_or_else_what_is_left() -> None:
    gone = made_of(Declared(), ONE)
    assert [item["text"] for item in removals(ONE.text, gone)] == ["network front", "sandbox c1"]
    (found,) = removals("", [Operation("delete", ONE.one(Nftables, namespace="", family="inet"))])
    assert (found["action"], found["text"]) == ("remove", "table inet cnm")
    assert removals("", []) == []


def test_what_differs_from_a_kept_plan_is_told_by_part_and_what_waits_last() -> None:
    kept = Declared(c1=C1, c2=C1)
    lost = [item for item in kept.resources if item.kind in ("namespace", "link", "resolver") and item.key[1] == "c1"]
    operations = [Operation("create", item) for item in [*lost, kept.one(Resolver, namespace="c2")]]
    found = repairs(operations, kept.resources, {"web": "no container web"})
    assert [(item["action"], item["kind"], item["name"], item["text"]) for item in found] == [
        ("repair", "sandbox", "c1", "sandbox c1 (missing)"),
        ("repair", "sandbox", "c2", "resolver of c2 (missing)"),
        ("wait", "sandbox", "web", "sandbox web: no container web"),
    ]
