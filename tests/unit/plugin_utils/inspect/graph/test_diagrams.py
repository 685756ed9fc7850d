# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: cnm.fabric contributors
"""The fabric as Mermaid and Graphviz text; that their own programs take it is tested in tests/page."""

from __future__ import annotations

import pytest
from fabrics import broken, fleet, reports_of, three

from ansible_collections.cnm.fabric.plugins.plugin_utils.inspect.graph.comparing import fabric_of
from ansible_collections.cnm.fabric.plugins.plugin_utils.inspect.graph.diagram import diagram_of
from ansible_collections.cnm.fabric.plugins.plugin_utils.inspect.graph.dot import dot, quoted
from ansible_collections.cnm.fabric.plugins.plugin_utils.inspect.graph.mermaid import MOST, label, mermaid


def test_each_sandbox_is_joined_to_its_networks_and_each_service_to_its_tasks() -> None:
    fabric = fabric_of(reports_of(three()), "default")
    diagram = diagram_of(fabric, MOST)
    ends = sum(len(sandbox.endpoints) for sandbox in fabric.sandboxes)
    tasks = sum(len(service.tasks) for service in fabric.services)
    policies = {node.id for node in diagram.policies}
    assert len([edge for edge in diagram.edges if not edge.dashed and not edge.speaks]) == ends
    assert len([edge for edge in diagram.edges if edge.dashed and edge.one not in policies]) == tasks


def test_a_policy_has_arrows_from_those_who_may_speak_and_to_those_who_may_be_spoken_to() -> None:
    diagram = diagram_of(fabric_of(reports_of(three()), "default"), MOST)
    inside = [node for _host, nodes in diagram.hosts for node in nodes]
    every = [*inside, *diagram.networks, *diagram.services, *diagram.policies, *diagram.others]
    names = {node.id: node.lines[0] for node in every}
    policies = [edge for edge in diagram.edges if {edge.one, edge.other} & {node.id for node in diagram.policies}]
    assert [(names[edge.one], names[edge.other], edge.text, edge.speaks) for edge in policies] == [
        ("policy edge", "proxy", "", ""),
        ("198.51.100.0/24", "policy edge", "80/tcp, 443/tcp", "allow"),
        ("host node2", "policy edge", "80/tcp, 443/tcp", "allow"),
        ("ps-bridge", "policy edge", "drop 22/tcp", "drop"),
        ("policy edge", "redis", "everything", "allow"),
        ("policy edge", "addresses office", "everything", "allow"),
        ("policy store", "db", "", ""),
        ("worker", "policy store", "5432/tcp", "allow"),
        ("report", "policy store", "5432/tcp", "allow"),
        ("everybody", "policy store", "echo-request", "allow"),
    ]
    assert [node.lines[1:] for node in diagram.policies] == [
        ("all else to it: drop", "all else from it: drop"),
        ("all else to it: drop", "all else from it: reject"),
    ]


def test_a_policy_of_a_network_is_joined_to_the_network_and_not_to_all_on_it() -> None:
    variables = three()
    for host in variables.values():
        host["cnm_networks"] = {**host["cnm_networks"]}
        host["cnm_networks"]["back"] = {**host["cnm_networks"]["back"], "policies": ["store"]}
    fabric = fabric_of(reports_of(variables), "default")
    (store,) = (policy for policy in fabric.policies if policy.name == "store")
    assert {name for _host, name in store.holders} == {"db.1", "db.2", "report", "worker"}
    diagram = diagram_of(fabric, MOST)
    (back,) = (node.id for node in diagram.networks if node.lines[0] == "back")
    assert [edge.other for edge in diagram.edges if edge.dashed and edge.one == "p2"] == [back]


def test_of_more_policies_than_a_chart_holds_there_are_none() -> None:
    fabric = fabric_of(reports_of(three()), "default")
    lines = len(diagram_of(fabric, MOST).edges)
    assert diagram_of(fabric, lines).policies
    small = diagram_of(fabric, lines - 1)
    assert small.policies == small.others == []
    assert not any(edge.speaks for edge in small.edges)


def test_a_network_of_a_single_host_is_in_the_host() -> None:
    diagram = diagram_of(fabric_of(reports_of(three()), "default"), MOST)
    assert [node.lines[0] for node in diagram.networks] == ["back", "front", "ingress"]
    for _host, inside in diagram.hosts:
        assert [node.lines[0] for node in inside if node.network] == ["ps-bridge", "cnm_gwbridge"]


def test_of_many_hosts_a_chart_has_a_box_each() -> None:
    fabric = fabric_of(reports_of(fleet(50, 10)), "default")
    diagram = diagram_of(fabric, MOST)
    assert len(diagram.edges) < 500
    assert sum(not node.network for _host, inside in diagram.hosts for node in inside) == 50
    ids = [node.id for host, inside in diagram.hosts for node in (host, *inside)]
    assert len(set(ids)) == len(ids)


def test_states_are_words_too() -> None:
    fabric = fabric_of(broken(), "default")
    for text in (mermaid(fabric), dot(fabric)):
        for words in ("not there yet", "missing", "differs", "no longer declared", "not known"):
            assert words in text


@pytest.mark.parametrize(
    ("line", "made"),
    [
        ("node1 10.0.0.1/24", '"node1 10.0.0.1/24"'),
        ('"]', '"#34;#93;"'),
        ("%%{init}", '"#37;#37;#123;init#125;"'),
        ("style: #1;", '"style#58; #35;1#59;"'),
        ("`<b>`&", '"#96;#60;b#62;#96;#38;"'),
        ("a\nb\u202e", '"a#63;b#63;"'),
    ],
)
def test_nothing_means_anything_to_mermaid(line: str, made: str) -> None:
    assert label([line]) == made


@pytest.mark.parametrize(
    ("line", "made"),
    [('a"b', '"a\\"b"'), ("\\N\\", '"\\\\N\\\\"'), ("&lt;", '"&amp;lt;"'), ("a\nb", '"a?b"')],
)
def test_nothing_means_anything_to_graphviz(line: str, made: str) -> None:
    assert quoted([line]) == made
    assert quoted(["a", "b"]) == '"a\\nb"'
