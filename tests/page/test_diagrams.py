# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: cnm.fabric contributors
"""The diagrams by the programs that they are for: Mermaid draws them, and dot."""

from __future__ import annotations

import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest
from fabrics import broken, fleet, hostile, reports_of, three
from playwright.sync_api import Browser

from ansible_collections.cnm.fabric.plugins.plugin_utils.inspect.graph.comparing import fabric_of
from ansible_collections.cnm.fabric.plugins.plugin_utils.inspect.graph.dot import dot
from ansible_collections.cnm.fabric.plugins.plugin_utils.inspect.graph.fabric import Fabric
from ansible_collections.cnm.fabric.plugins.plugin_utils.inspect.graph.mermaid import mermaid

FABRICS: dict[str, Callable[[], Fabric]] = {
    "three": lambda: fabric_of(reports_of(three()), "default"),
    "broken": lambda: fabric_of(broken(), "default"),
    "fifty": lambda: fabric_of(reports_of(fleet(50, 10)), "default"),
    "hostile": hostile,
    "empty": lambda: fabric_of({}, "default"),
}


def by_dot(form: str, text: str) -> subprocess.CompletedProcess[str]:
    """What Graphviz makes of a text."""
    return subprocess.run(["dot", form], input=text, capture_output=True, text=True, check=True, timeout=60)


@pytest.mark.parametrize("name", FABRICS)
def test_dot_draws_each_sandbox(name: str) -> None:
    fabric = FABRICS[name]()
    # Positions are not asked for: they take a while, and the text is what is tested.
    done = by_dot("-Tcanon", dot(fabric))
    assert done.stderr == ""
    assert done.stdout.count("subgraph cluster_") == len(fabric.hosts)
    if name in ("three", "broken", "hostile"):
        drawn = by_dot("-Tsvg", dot(fabric))
        assert drawn.stderr == ""
        words = " ".join(ElementTree.fromstring(drawn.stdout).itertext())
        assert all(sandbox.name in words for sandbox in fabric.sandboxes if sandbox.name.isprintable())


@pytest.mark.parametrize("name", FABRICS)
def test_mermaid_draws_each_host(browser: Browser, scripts: Path, name: str) -> None:
    fabric = FABRICS[name]()
    page = browser.new_page()
    said: list[str] = []
    page.on("dialog", lambda dialog: said.append(dialog.message))
    page.add_script_tag(path=str(scripts / "mermaid.min.js"))
    script = """async text => {
        mermaid.initialize({startOnLoad: false, securityLevel: "loose", htmlLabels: true});
        const {svg} = await mermaid.render("drawn", text);
        document.body.innerHTML = svg;
        const found = [...document.body.querySelectorAll("script, img, iframe, a, [onclick], [onerror]")];
        const clusters = document.querySelectorAll(".cluster").length;
        return [document.body.textContent, clusters, found.map(each => each.outerHTML)];
    }"""
    made: list[Any] = page.evaluate(script, mermaid(fabric))
    words, clusters, dangerous = made
    page.close()
    assert clusters == len(fabric.hosts)
    assert dangerous == []
    assert said == []
    if name in ("three", "broken"):
        assert all(sandbox.name in words for sandbox in fabric.sandboxes)
    if name == "hostile":
        assert "<script>alert(1)</script>" in words
