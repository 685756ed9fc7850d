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
    assert len([edge for edge in diagram.edges if not edge.dashed]) == ends
    assert len([edge for edge in diagram.edges if edge.dashed]) == tasks


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
