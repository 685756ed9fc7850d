# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: cnm.fabric contributors
"""The fabric in the DOT language of Graphviz: ``dot -Tsvg cnm_graph.dot``."""

from __future__ import annotations

from collections.abc import Iterable

from ...forms import printable
from .diagram import Edge, Node, diagram_of
from .fabric import FINE, Fabric, State

MOST = 3000
"""Lines of a graph that ``dot`` lays out in seconds."""

_LOOKS = {
    "fine": 'color="#66717f"',
    "new": 'color="#0b5cad", style="rounded,dashed", penwidth=2',
    "lost": 'color="#b3261e", style="rounded,dotted", penwidth=3',
    "differs": 'color="#8a4b00", penwidth=3',
    "left": 'color="#7a2f8a", style="rounded,dashed", penwidth=3',
    "unknown": 'color="#525c6d", style="rounded,dotted"',
}


def quoted(lines: Iterable[str]) -> str:
    """Lines as a quoted string, in which nothing means anything to Graphviz but the ends of lines."""
    return '"' + "\\n".join(_escaped(line) for line in lines) + '"'


def _escaped(line: str) -> str:
    return printable(line, 200).replace("\\", "\\\\").replace('"', '\\"').replace("&", "&amp;")


def dot(fabric: Fabric) -> str:
    """The text of a ``.dot`` file."""
    diagram = diagram_of(fabric, MOST)
    lines = [
        "graph fabric {",
        f'  graph [rankdir=LR, fontname="sans-serif", label={quoted([f"Networks of the project {fabric.project}"])}];',
        '  node [shape=box, style=rounded, fontname="sans-serif", fontsize=11];',
        '  edge [fontname="sans-serif", fontsize=10];',
    ]
    for host, inside in diagram.hosts:
        lines.append(f"  subgraph cluster_{host.id} {{")
        lines.append(f"    graph [label={quoted(host.lines)}, {_LOOKS[host.state.key]}];")
        lines += [f"    {_node(node)}" for node in inside] or [
            f'    {host.id}_none [label="no sandboxes", shape=plain];'
        ]
        lines.append("  }")
    lines += [f"  {_node(node)}" for node in diagram.networks]
    lines += [f"  {_node(node, 'shape=hexagon, ')}" for node in diagram.services]
    lines += [f"  {_node(node, 'shape=note, ')}" for node in diagram.policies]
    lines += [f"  {_node(node, 'shape=cds, ')}" for node in diagram.others]
    lines += [f"  {_edge(edge)}" for edge in diagram.edges]
    return "\n".join([*lines, "}"]) + "\n"


def _node(node: Node, shape: str = "") -> str:
    shape = shape or ("shape=ellipse, " if node.network else "")
    return f"{node.id} [{shape}label={quoted(node.lines)}, {_LOOKS[node.state.key]}];"


def _edge(edge: Edge) -> str:
    text = edge.text or _word(edge.state)
    looks = [*(["style=dashed"] if edge.dashed else []), *([f"label={quoted([text])}"] if text else [])]
    if edge.speaks:
        looks += ["dir=forward", 'color="#1c7a3c"' if edge.speaks == "allow" else 'color="#b3261e",arrowhead=tee']
    return f"{edge.one} -- {edge.other}{f' [{chr(44).join(looks)}]' if looks else ''};"


def _word(state: State) -> str:
    return "" if state is FINE else state.words
