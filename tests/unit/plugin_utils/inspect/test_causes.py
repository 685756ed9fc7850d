# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: cnm.fabric contributors
"""How failures of several hosts are explained: the causes first, each miss once."""

from __future__ import annotations

import time
from typing import Any, Optional

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ansible_collections.cnm.fabric.plugins.module_utils.plan.peers import PeerTable
from ansible_collections.cnm.fabric.plugins.module_utils.plan.plan import plan_data
from ansible_collections.cnm.fabric.plugins.plugin_utils.facts import Facts, LinkFacts
from ansible_collections.cnm.fabric.plugins.plugin_utils.inspect.ends import PeerIndex
from ansible_collections.cnm.fabric.plugins.plugin_utils.inspect.findings import Findings, findings_of
from ansible_collections.cnm.fabric.plugins.plugin_utils.inspect.verdict import judge
from ansible_collections.cnm.fabric.plugins.plugin_utils.inspect.verification import checks_of
from ansible_collections.cnm.fabric.plugins.plugin_utils.leases.base import empty
from ansible_collections.cnm.fabric.plugins.plugin_utils.module_state.reading import read_topology
from ansible_collections.cnm.fabric.plugins.plugin_utils.planner.plan import plan
from ansible_collections.cnm.fabric.plugins.plugin_utils.reports.answers import admitted
from ansible_collections.cnm.fabric.plugins.plugin_utils.shown import Shown

NETWORKS = {
    "multinet": {"driver": "overlay", "subnet": "10.10.0.0/24"},
    "front": {"subnet": "10.20.0.0/24"},
    "back": {"subnet": "10.21.0.0/24"},
}
BOXES = {
    "node1": {"c1": ["multinet"], "web": ["front", "multinet"], "app": ["front"], "db": ["back"]},
    "node2": {"c2": ["multinet"]},
    "node3": {"c3": ["multinet"]},
}
RULE = {"packet": "udp 4789", "chain": "inet mine input", "hook": "input", "rule": "udp dport 4789 drop", "sure": True}
SUMMARY = Shown()
Miss = dict[str, Any]


class World:
    """The plan of three hosts, and who can answer whom there."""

    def __init__(
        self,
        boxes: dict[str, dict[str, list[str]]],
        networks: Optional[dict[str, Any]] = None,
        services: Optional[dict[str, Any]] = None,
    ) -> None:
        variables = {
            host: {
                "cnm_networks": networks or NETWORKS,
                **({"cnm_services": services} if services else {}),
                "cnm_sandboxes": {name: {"networks": on} for name, on in found.items()},
            }
            for host, found in boxes.items()
        }
        facts = {
            host: Facts(
                resolvers=("192.0.2.1",),
                addresses=((f"192.0.2.{number}", "eth0", 1500),),
                routes=(("default", "eth0", "192.0.2.254"),),
                links={"eth1": LinkFacts(kind="", mtu=1500)},
            )
            for number, host in enumerate(boxes, 1)
        }
        made = plan(read_topology(variables), facts, empty(), "now")
        assert not made.refusals
        self.models = {host: plan_data(each.to_json())["model"] for host, each in made.plans.items()}
        self.peers = {
            host: [PeerIndex(PeerTable.from_json(made.shared[digest])) for digest in digests]
            for host, digests in made.peer_tables.items()
        }
        tables = {host: [index.table for index in found] for host, found in self.peers.items()}
        self.tasks = {task: host for host, model in self.models.items() for task in model["sandboxes"]}
        self.checks = {host: checks_of(self.models[host], 100, tables[host], host) for host in boxes}

    def address(self, name: str, network: str = "multinet") -> str:
        ends = (
            end["addresses"][0].partition("/")[0]
            for model in self.models.values()
            for box, sandbox in model["sandboxes"].items()
            for end in sandbox["endpoints"]
            if (box, end["network"]) == (name, network)
        )
        return next(ends)

    def mac(self, name: str) -> str:
        tables = (index.table for indexes in self.peers.values() for index in indexes)
        return next(row.mac for table in tables for row in table.endpoints if row.sandbox == name)

    def unreached(self, *pairs: str, found: str = "none") -> dict[str, list[Miss]]:
        """Misses of pairs such as ``c1 c3``, both ways."""
        result: dict[str, list[Miss]] = {}
        for pair in pairs:
            one, other = pair.split()
            for source, target in ((one, other), (other, one)):
                host = self.tasks[source]
                result.setdefault(host, []).append(miss("reach", source, self.address(target), "an answer", found))
        return result

    def judged(
        self,
        answers: dict[str, dict[str, Any]],
        unasked: Optional[dict[str, str]] = None,
        shown: Shown = SUMMARY,
    ) -> list[str]:
        return list(judge(self.findings(answers), unasked or {}, shown).lines)

    def findings(self, answers: dict[str, dict[str, Any]]) -> dict[str, Findings]:
        made = {host: {"misses": [], "counts": {"reach": 4}, **answers.get(host, {})} for host in self.models}
        return {
            host: findings_of(host, self.models[host], self.peers[host], 100, answer) for host, answer in made.items()
        }


def miss(check: str, sandbox: str, target: str, wanted: str, found: str, **more: Any) -> Miss:
    return {"check": check, "sandbox": sandbox, "target": target, "wanted": wanted, "found": found, **more}


def drift(part: str, found: str, *kinds: str, entries: tuple[str, ...] = ()) -> Miss:
    return miss("plan", "host", part, "as planned", found, kinds=list(kinds), entries=list(entries))


def answers(*misses: dict[str, list[Miss]], **more: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """By host."""
    result: dict[str, dict[str, Any]] = {host: dict(answer) for host, answer in more.items()}
    for group in misses:
        for host, found in group.items():
            entry = result.setdefault(host, {})
            entry["misses"] = [*entry.get("misses", []), *found]
    return result


@pytest.fixture(scope="module")
def world() -> World:
    return World(BOXES)


NODE3 = ("c1 c3", "c2 c3", "web c3")


def test_if_all_is_well_there_is_one_line_for_the_fleet(world: World) -> None:
    assert world.judged({}) == ["6 sandboxes on 3 hosts: 12 checks, no miss"]
    assert world.judged({}, shown=Shown("quiet")) == []


def test_a_rule_that_drops_vxlan_is_named_with_its_host_and_explains_both_ways(world: World) -> None:
    assert world.judged(answers(world.unreached(*NODE3), node3={"drops": [RULE]})) == [
        "node3 answers nobody by VXLAN: its firewall drops UDP 4789 (chain inet mine input)",
        "    rule: udp dport 4789 drop",
        "    do: let UDP 4789 from 192.0.2.1 and 192.0.2.2 pass there",
        "    explains 6 misses: c1 ↔ c3, c2 ↔ c3 and web ↔ c3",
    ]


def test_a_rule_that_drops_vxlan_of_one_host_names_both(world: World) -> None:
    rule = {**RULE, "rule": "ip saddr 192.0.2.1 udp dport 4789 drop", "sure": False}
    (first, *_rest) = world.judged(answers(world.unreached("c1 c3", "web c3"), node3={"drops": [rule]}))
    assert first == (
        "node3 and node1 do not reach each other by VXLAN: node3's firewall may drop UDP 4789 (chain inet mine input)"
    )


def test_a_rule_that_drops_vxlan_explains_nothing_if_it_arrives(world: World) -> None:
    lines = world.judged(answers(world.unreached("c1 c3"), node3={"drops": [RULE]}))
    assert lines[0] == "node1 and node3 lose packets by VXLAN"


def test_a_host_that_answers_nobody_and_no_ping_is_named_by_what_others_say(world: World) -> None:
    silent = {"silent": ["192.0.2.3"]}
    lines = world.judged(answers(world.unreached(*NODE3), node1=silent, node2=silent))
    assert lines == [
        "node3 answers nobody, neither by VXLAN nor a ping to 192.0.2.3",
        "    do: look at its link and routes, and at what is between: ping 192.0.2.3 from node1",
        "    explains 6 misses: c1 ↔ c3, c2 ↔ c3 and web ↔ c3",
    ]


def test_a_host_that_answers_pings_but_no_vxlan_points_to_what_is_in_between(world: World) -> None:
    lines = world.judged(answers(world.unreached(*NODE3)))
    assert lines[0] == "node3 answers nobody by VXLAN, though 192.0.2.3 answers a ping"
    assert "tcpdump -ni any host 192.0.2.3" in lines[1]


def test_a_host_that_could_not_be_asked_explains_who_does_not_reach_it(world: World) -> None:
    found = world.unreached(*NODE3)
    del found["node3"]
    findings = world.findings(answers(found))
    del findings["node3"]
    lines = judge(findings, {"node3": "Ansible does not reach it"}, Shown()).lines
    assert lines[0] == "node3 could not be verified: Ansible does not reach it"
    assert lines[-1] == "    explains 3 misses: c1 → c3, c2 → c3 and web → c3"


def test_a_host_that_could_not_be_asked_is_told_even_if_nobody_missed_it(world: World) -> None:
    assert world.judged({}, {"node9": "it was not asked"})[0] == "node9 could not be verified: it was not asked"


def test_what_differs_from_the_plan_explains_what_follows_from_it(world: World) -> None:
    asked = {"node1": [miss("resolve", "c1", name, "10.10.0.9", "no answer") for name in ("c2", "c3", "web")]}
    dead = {"node1": [drift("sandbox c1", "resolver of c1 (not running)", "resolver")]}
    assert world.judged(answers(asked, dead)) == [
        "node1: the resolver of c1 does not run",
        "    do: ansible-playbook cnm.fabric.site --limit node1 repairs it",
        "    explains 3 misses: c1 asks for c2, c3 and web",
    ]


def test_a_missing_route_explains_the_missing_way_out(world: World) -> None:
    found = [
        drift("network front in sandbox web", "default route of web (missing)", "route"),
        miss("egress", "web", "outside over IPv4", "a default route", "none"),
    ]
    assert world.judged(answers({"node1": found})) == [
        "node1: default route of web (missing)",
        "    do: ansible-playbook cnm.fabric.site --limit node1 repairs it",
        "    explains 1 miss: no default route for IPv4 in web",
    ]


def test_missing_forwarding_entries_explain_only_those_that_they_are_for(world: World) -> None:
    lost = {
        "node1": [
            drift(
                "network multinet",
                "forwarding entries of network multinet (entries)",
                "fdb",
                entries=(world.mac("c3"),),
            )
        ]
    }
    lines = world.judged(answers(world.unreached("c1 c3", "web c3", "c1 c2"), lost))
    assert lines[0] == "node1: forwarding entries of c3 on network multinet (not as planned)"
    assert lines[2] == "    explains 4 misses: c1 ↔ c3 and web ↔ c3"
    assert lines[3] == "node1 and node2 lose packets by VXLAN"


def test_a_sandbox_that_is_gone_explains_all_with_it(world: World) -> None:
    gone = {
        "node2": [
            drift("sandbox c2", "sandbox c2 (missing)", "namespace", "link"),
            miss("sandbox", "c2", "c2", "a", "none"),
        ]
    }
    lines = world.judged(answers(world.unreached("c1 c2", "c2 c3", "web c2"), gone))
    assert (lines[0], lines[2].partition(":")[0]) == ("node2: sandbox c2 (missing)", "    explains 7 misses")


def test_two_faults_at_once_are_two_causes_the_larger_first(world: World) -> None:
    asked = {"node1": [miss("resolve", "c1", "c2", "10.10.0.9", "no answer")]}
    dead = {"node1": [drift("sandbox c1", "resolver of c1 (not running)", "resolver")]}
    lines = world.judged(answers(world.unreached(*NODE3), asked, dead, node3={"drops": [RULE]}))
    assert [line for line in lines if not line.startswith(" ")] == [
        "node3 answers nobody by VXLAN: its firewall drops UDP 4789 (chain inet mine input)",
        "node1: the resolver of c1 does not run",
    ]


def test_what_is_alike_in_many_sandboxes_of_a_host_is_one_cause(world: World) -> None:
    dead = [
        drift(f"sandbox {name}", f"resolver of {name} (not running)", "resolver") for name in ("c1", "web", "app", "db")
    ]
    assert world.judged(answers({"node1": dead}))[0] == "node1: the resolvers of app, c1, db and 1 more do not run"
    gone = [drift(f"sandbox {name}", f"sandbox {name} (missing)", "namespace") for name in ("c1", "web")]
    assert world.judged(answers({"node1": gone}))[0] == "node1: sandboxes c1 and web (missing)"


def test_a_plan_that_is_another_explains_all_of_its_host(world: World) -> None:
    other = {"node3": [drift("host", "does not have the plan of the present variables", "plan")]}
    lines = world.judged(answers(world.unreached(*NODE3), other))
    assert [line for line in lines if not line.startswith(" ")] == [
        "node3 does not have the plan of the present variables"
    ]


def test_a_resolver_that_runs_and_says_nothing_is_told_from_a_wrong_answer(world: World) -> None:
    names = [name for check in world.checks["node1"] if check["sandbox"] == "c1" for name in check["names"]]
    silent = [miss("resolve", "c1", name, "10.10.0.9", "no answer") for name in names]
    wrong = [miss("resolve", box, "c2", "10.10.0.3", "10.10.0.9") for box in ("web", "c1")]
    assert world.judged(answers({"node1": silent}))[0] == "node1: the resolver of c1 answers nothing"
    assert world.judged(answers({"node1": wrong}))[0] == "the name c2 resolves to 10.10.0.9 instead of 10.10.0.3"
    assert (
        world.judged(answers({"node1": silent[:1]}))[0]
        == f"the name {names[0]} does not resolve; it should resolve to 10.10.0.9"
    )


def test_gateways_that_do_not_answer_are_told_by_the_rule_that_drops(world: World) -> None:
    gateway = {"node1": [miss("reach", box, "10.20.0.1", "an answer", "none") for box in ("web", "app")]}
    rule = {"packet": "icmp", "chain": "inet mine input", "hook": "input", "rule": "policy drop", "sure": True}
    lines = world.judged(answers(gateway, node1={"drops": [rule]}))
    assert lines[0] == "node1 does not answer its own sandboxes: its firewall drops ICMP (chain inet mine input)"
    assert lines[-1] == "    explains 2 misses: app → the gateway of front and web → the gateway of front"
    assert world.judged(answers(gateway))[0] == "node1: its address on network front does not answer its sandboxes"


def test_who_reaches_what_it_must_not_is_named_with_the_network(world: World) -> None:
    opened = {"node1": [miss("refuse", "app", world.address("db", "back"), "no answer", "one")]}
    lines = world.judged(answers(opened))
    assert lines[0] == "node1: sandboxes on network back are reached by some that must not reach them"
    assert lines[-1] == "    explains 1 miss: app → db"


def test_lost_packets_of_full_size_are_one_cause_between_two_hosts(world: World) -> None:
    large = {
        "node1": [miss("mtu", box, world.address("c2"), "an answer", "none") for box in ("c1", "web")],
        "node2": [miss("mtu", "c2", world.address("c1"), "an answer", "none")],
    }
    lines = world.judged(answers(large))
    assert lines[0] == "packets as large as the MTU are lost between node1 and node2"
    assert lines[-1] == "    explains 3 misses: c1 ↔ c2 and web → c2"


def test_what_is_lost_on_a_lan_is_no_matter_of_tunnels() -> None:
    office = {"office": {"driver": "macvlan", "subnet": "198.18.0.0/24", "driver_opts": {"parent": "eth1"}}}
    world = World({"node1": {"a": ["office"], "b": ["office"]}, "node2": {"c": ["office"]}}, office)
    target = world.address("c", "office")
    lost = {"node1": [miss("reach", box, target, "an answer", "none") for box in ("a", "b")]}
    lines = world.judged(answers(lost))
    assert lines[0] == "sandboxes of network office do not reach each other"
    assert lines[-1] == "    explains 2 misses: a → c and b → c"


def test_a_sandbox_that_reaches_nobody_is_told_with_what_the_kernel_says(world: World) -> None:
    found = world.unreached("c1 c2", "c1 web", "c1 c3", found="Network is unreachable")
    found["node1"] += [miss("reach", "c1", "172.18.0.1", "an answer", "Network is unreachable")]
    lines = world.judged(answers(found))
    assert lines[:2] == [
        "node1: c1 reaches nobody and nobody reaches it",
        "    the kernel says: Network is unreachable",
    ]


def test_sandboxes_of_a_host_that_reach_nobody_are_told_together() -> None:
    boxes = {host: {f"{host}-{number}": ["front"] for number in range(60)} for host in ("node1", "node2")}
    world = World(boxes)
    lost = {
        host: [miss("reach", each["sandbox"], to, "an answer", "none") for each in checks for to in each["reach"]]
        for host, checks in world.checks.items()
    }
    causes = judge(world.findings(answers(lost)), {}, SUMMARY).causes
    assert len(causes) <= 4
    for host in boxes:
        (text,) = (cause.text for cause in causes if cause.text.startswith(f"{host}: {host}-"))
        assert text.endswith(" more reach nobody and nobody reaches them")
    assert sum(len(cause.misses) for cause in causes) == sum(map(len, lost.values()))


def test_causes_fit_a_screen_unless_all_are_asked_for(world: World) -> None:
    odd = {"node1": [miss("odd", "c1", str(number), "one thing", "another") for number in range(30)]}
    lines = world.judged(answers(odd))
    assert len([line for line in lines if line.startswith("node1: c1")]) == 20
    assert lines[-1] == "and 10 more causes: -e cnm_show=full prints them all"
    assert len([line for line in world.judged(answers(odd), shown=Shown("full")) if "wanted one" in line]) >= 30


def test_what_was_tried_is_not_derived_again_if_all_is_well(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    def derived(*_arguments: Any) -> Any:
        raise AssertionError

    monkeypatch.setattr("ansible_collections.cnm.fabric.plugins.plugin_utils.inspect.findings.checks_of", derived)
    assert world.judged({}) == ["6 sandboxes on 3 hosts: 12 checks, no miss"]


def test_each_miss_is_explained_once(world: World) -> None:
    odd = {
        "node1": [
            miss("parent", "host", "eth0", "no macvlan link", "spy in x"),
            miss("connect", "host", "192.0.2.3 tcp 80", "an answer", "none"),
        ]
    }
    findings = world.findings(answers(world.unreached(*NODE3, "c1 c2"), odd))
    causes = judge(findings, {}, Shown()).causes
    told = [item for cause in causes for item in cause.misses]
    assert sorted(told) == sorted(item for found in findings.values() for item in found.misses)


def test_how_much_is_shown_and_of_whom_changes_no_verdict(world: World) -> None:
    asked = {"node1": [miss("resolve", "c1", "c2", "10.10.0.9", "no answer")]}
    dead = {"node1": [drift("sandbox c1", "resolver of c1 (not running)", "resolver")]}
    given = answers(world.unreached(*NODE3), asked, dead, node3={"drops": [RULE]})
    quiet = world.judged(given, shown=Shown("quiet"))
    assert quiet == [
        "node3 answers nobody by VXLAN: its firewall drops UDP 4789 (chain inet mine input)",
        "node1: the resolver of c1 does not run",
    ]
    only = judge(world.findings(given), {}, Shown("quiet", frozenset({"c2"})))
    assert [*only.lines] == quiet[:1]
    assert only.failed
    full = world.judged(given, shown=Shown("full"))
    assert f"      node1 c1: reach {world.address('c3')} (c3 on node3): wanted an answer, found none" in full
    assert "node2 c2: 1 miss (4 reached, 0 refused, 6 names)" in full


def test_checks_that_could_not_be_made_are_no_misses(world: World) -> None:
    lost = [miss("reach", "c1", world.address("c2"), "an answer", "No buffer space available")]
    found = judge(world.findings({"node1": {"unproven": lost, "neighbours": 1024}}), {}, Shown())
    assert not found.failed
    assert found.warnings[0].startswith("node1: 1 check of c1 could not be made: the kernel's neighbour table, of 1024")


def test_what_a_host_writes_into_its_answer_is_printed_in_one_line(world: World) -> None:
    evil = [drift("sandbox \x1b[2J", "differs\nnode1: all is well", "x"), miss("parent", "host", "e\x07", "a", "b\n")]
    lines = world.judged(answers({"node3": evil}))
    assert all(line.isprintable() for line in lines)


def test_a_host_that_repeats_itself_condemns_no_other(world: World) -> None:
    lie = [miss("reach", "c3", world.address("c1"), "an answer", f"none {number}") for number in range(100)]
    findings = world.findings(answers({"node3": lie}))
    assert len(findings["node3"].misses) == 1
    assert judge(findings, {}, SUMMARY).lines[0] == "node1 and node3 lose packets by VXLAN"


def test_what_a_host_was_not_asked_says_nothing_of_others(world: World) -> None:
    lie = [miss("connect", "host", "192.0.2.1 tcp 80", "an answer", "none")]
    lie += [miss("reach", f"x{number}", world.address("c1"), "an answer", "none") for number in range(100)]
    findings = world.findings(answers({"node3": lie}))
    assert {(item.end, item.hosts) for item in findings["node3"].misses} == {(None, frozenset())}
    causes = judge(findings, {}, SUMMARY).causes
    assert {cause.hosts for cause in causes} <= {frozenset({"node3"}), frozenset({"node3", "192.0.2.1 tcp 80"})}


def test_a_flood_of_differences_is_soon_explained(world: World) -> None:
    lies = [drift(f"sandbox {number}", f"differs {number}", "link") for number in range(20_000)]
    lies += [drift("host", f"no plan {number}", "plan") for number in range(20_000)]
    started = time.monotonic()
    findings = world.findings(answers({"node3": lies}, world.unreached(*NODE3)))
    lines = judge(findings, {}, SUMMARY).lines
    assert time.monotonic() - started < 20
    assert any(line == "node3: 38000 more differences" for line in lines)


hostile = st.text(max_size=20) | st.sampled_from(["host", "c1", "sandbox c1", "10.10.0.4", "none", "192.0.2.3 tcp 80"])
LIES = st.fixed_dictionaries(
    {
        "counts": st.dictionaries(hostile, st.integers()),
        "misses": st.lists(
            st.fixed_dictionaries(
                {
                    "check": hostile
                    | st.sampled_from(["reach", "resolve", "plan", "connect", "egress", "mtu", "refuse"]),
                    **dict.fromkeys(("sandbox", "target", "wanted", "found"), hostile),
                },
                optional={"kinds": st.lists(hostile), "entries": st.lists(hostile)},
            )
        ),
    },
    optional={
        "drops": st.lists(st.fixed_dictionaries({key: hostile | st.booleans() for key in RULE}) | st.just(RULE)),
        "silent": st.lists(hostile),
        "neighbours": hostile | st.integers(),
    },
)


@given(LIES)
@settings(max_examples=200)
def test_lies_of_a_host_are_explained_as_its_own(world: World, lie: dict[str, Any]) -> None:
    admitted_lie = admitted("cnm.fabric.verify", "node3", lie)
    verdict = judge(world.findings({"node3": admitted_lie}), {}, Shown("full"))
    assert all(line.isprintable() for line in verdict.lines)
    assert {miss.host for cause in verdict.causes for miss in cause.misses} <= {"node3"}
    told = [item for cause in verdict.causes for item in cause.misses]
    assert sorted(map(repr, set(told))) == sorted(
        {repr(item) for item in world.findings({"node3": admitted_lie})["node3"].misses}
    )


WEB = {"web": {"networks": ["multinet"], "ports": ["8080:80"], "deploy": {"replicas": 3}}}


@pytest.fixture(scope="module")
def called() -> World:
    """With a service of a task on each host, which is called by its virtual address and a port of each host."""
    networks = {"multinet": {"driver": "overlay", "subnet": "10.10.0.0/24"}}
    return World({f"node{n}": {f"c{n}": ["multinet"]} for n in (1, 2, 3)}, networks, WEB)


def at_the_service(world: World, *callers: str) -> dict[str, list[Miss]]:
    """Sandboxes that miss an answer of the virtual address."""
    vip = world.models["node1"]["services"]["web"]["networks"]["multinet"]["vips"][0]
    result: dict[str, list[Miss]] = {}
    for caller in callers:
        result.setdefault(world.tasks[caller], []).append(miss("reach", caller, vip, "an answer", "none"))
    return result


def at_the_port(number: int, *hosts: str) -> dict[str, list[Miss]]:
    """Hosts that miss an answer of the port at another one."""
    return {host: [miss("connect", "host", f"192.0.2.{number} tcp 8080", "an answer", "none")] for host in hosts}


def cut_off(world: World, host: str) -> dict[str, list[Miss]]:
    """All that was tried between a host and the others."""
    result: dict[str, list[Miss]] = {}
    for name, item in world.findings({}).items():
        for check in item.checks:
            for target in check.get("reach", ()):
                end = item.ends.at(check["sandbox"], target)
                if end is not None and end.kind == "sandbox" and name != end.host and host in (name, end.host):
                    found = miss("reach", check["sandbox"], target, "an answer", "none")
                    result.setdefault(name, []).append(found)
    return result


def test_what_a_host_that_is_cut_off_keeps_from_services_is_of_the_same_cause(called: World) -> None:
    lost = answers(
        cut_off(called, "node3"),
        at_the_service(called, "c3", "c1"),
        at_the_port(3, "node1"),
        at_the_port(1, "node3"),
        node3={"drops": [RULE]},
    )
    (cause,) = judge(called.findings(lost), {}, SUMMARY).causes
    assert cause.text == "node3 answers nobody by VXLAN: its firewall drops UDP 4789 (chain inet mine input)"
    assert len(called.judged(lost)) == 4


def test_what_a_task_that_answers_nobody_keeps_from_its_service_is_of_the_same_cause(called: World) -> None:
    (task,) = (name for name, host in called.tasks.items() if name.startswith("web.") and host == "node1")
    down = f"link eth0 in {task} (up no instead of yes)"
    everybody = [name for name in called.tasks if name not in (task, "ingress_sbox")]
    lost = answers(
        called.unreached(*(f"{task} {other}" for other in everybody)),
        {"node1": [drift(f"network multinet in sandbox {task}", down, "link")]},
        at_the_service(called, "c3"),
        at_the_port(2, "node3"),
    )
    heads = [line for line in called.judged(lost) if not line.startswith(" ")]
    assert heads == [f"node1: {down}"]


def test_a_virtual_address_that_alone_does_not_answer_is_a_cause_of_its_own(called: World) -> None:
    lines = called.judged(answers(at_the_service(called, "c3"), called.unreached("c1 c2")))
    assert "the virtual address of service web does not answer c3" in lines


@pytest.mark.parametrize(
    ("hook", "head"),
    [
        ("forward", "port 8080 of node3 does not answer: its firewall drops TCP 8080 (chain inet mine forward)"),
        ("prerouting", "port 8080 of node3 does not answer: its firewall drops TCP 8080 (chain inet mine prerouting)"),
        ("input", "port 8080 of node3 does not answer node1 and node2"),
    ],
)
def test_only_what_forwarded_packets_meet_drops_those_to_a_published_port(called: World, hook: str, head: str) -> None:
    drop = {**RULE, "packet": "tcp 8080", "chain": f"inet mine {hook}", "hook": hook, "rule": "policy drop"}
    lost = at_the_port(3, "node1", "node2")
    assert called.judged(answers(lost, node3={"drops": [drop]}))[0] == head
