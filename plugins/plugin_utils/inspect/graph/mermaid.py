# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: cnm.fabric contributors
"""The fabric as a Mermaid flowchart, for documents that render it."""

from __future__ import annotations

import re
from collections.abc import Iterable

from ...forms import printable
from .diagram import Diagram, Edge, Node, diagram_of
from .fabric import FINE, STATES, Fabric

MOST = 240
"""Lines of a chart; Mermaid draws 500 at most, and 50,000 characters."""

_COLOURS = {
    "new": "stroke:#0b5cad,stroke-width:3px,stroke-dasharray:6 3",
    "lost": "stroke:#b3261e,stroke-width:3px,stroke-dasharray:2 3",
    "differs": "stroke:#8a4b00,stroke-width:3px",
    "left": "stroke:#7a2f8a,stroke-width:3px,stroke-dasharray:8 2",
    "unknown": "stroke:#525c6d,stroke-width:2px,stroke-dasharray:1 4",
}
_ARROWS = {"allow": "-->", "drop": "--x", "reject": "--x"}
_PLAIN = re.compile(r"[^\w .,/+→·-]")


def label(lines: Iterable[str]) -> str:
    """Lines as a quoted label; whatever could mean something to Mermaid is written as a number."""
    return (
        '"' + "<br/>".join(_PLAIN.sub(lambda found: f"#{ord(found[0])};", printable(line, 200)) for line in lines) + '"'
    )


def mermaid(fabric: Fabric) -> str:
    """The text of a ``.mmd`` file."""
    diagram = diagram_of(fabric, MOST)
    lines = ["flowchart LR"]
    for host, inside in diagram.hosts:
        lines.append(f"  subgraph {host.id}[{label(host.lines)}]")
        lines += [f"    {_node(node)}" for node in inside] or [f"    {host.id}_none[no sandboxes]"]
        lines.append("  end")
    lines += [f"  {_node(node)}" for node in diagram.networks]
    lines += [f"  {node.id}{{{{{label(node.lines)}}}}}" for node in diagram.services]
    lines += [f"  {node.id}[[{label(node.lines)}]]" for node in diagram.policies]
    lines += [f"  {node.id}>{label(node.lines)}]" for node in diagram.others]
    lines += [f"  {_edge(edge)}" for edge in diagram.edges]
    lines += [f"  classDef {key} {style}" for key, style in _COLOURS.items()]
    for state in STATES:
        ids = [node.id for node in _nodes(diagram) if node.state is state]
        if ids and state is not FINE:
            lines.append(f"  class {','.join(ids)} {state.key}")
    return "\n".join(lines) + "\n"


def _node(node: Node) -> str:
    return f"{node.id}([{label(node.lines)}])" if node.network else f"{node.id}[{label(node.lines)}]"


def _edge(edge: Edge) -> str:
    line = "-.-" if edge.dashed or edge.state is not FINE else _ARROWS.get(edge.speaks, "---")
    text = edge.text or ("" if edge.state is FINE else edge.state.words)
    return f"{edge.one} {line}{f'|{label([text])}|' if text else ''} {edge.other}"


def _nodes(diagram: Diagram) -> list[Node]:
    inside = [node for host, nodes in diagram.hosts for node in (host, *nodes)]
    return [*inside, *diagram.networks, *diagram.services, *diagram.policies, *diagram.others]
