# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: cnm.fabric contributors
"""The page: the same bytes each time, everything escaped, small and soon made, and in text all that is drawn."""

from __future__ import annotations

import base64
import hashlib
import html
import random
import re
import time
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path
from typing import Any, Optional
from xml.etree import ElementTree

import pytest
from fabrics import broken, drift, fleet, hostile, picture, reports_of, three

from ansible_collections.cnm.fabric.plugins.plugin_utils.inspect.graph.comparing import fabric_of
from ansible_collections.cnm.fabric.plugins.plugin_utils.inspect.graph.dot import dot
from ansible_collections.cnm.fabric.plugins.plugin_utils.inspect.graph.fabric import STATES, Fabric
from ansible_collections.cnm.fabric.plugins.plugin_utils.inspect.graph.markup import element, text
from ansible_collections.cnm.fabric.plugins.plugin_utils.inspect.graph.mermaid import mermaid
from ansible_collections.cnm.fabric.plugins.plugin_utils.inspect.graph.page import page
from ansible_collections.cnm.fabric.plugins.plugin_utils.inspect.graph.policies import rule_words
from ansible_collections.cnm.fabric.plugins.plugin_utils.inspect.graph.report import EMPTY, HostReport


class Reader(HTMLParser):
    """What a page consists of."""

    VOID = {"meta", "link", "input", "br"}

    def __init__(self, page: str) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, Optional[str]]]] = []
        self.open: list[str] = []
        self.drawn: list[str] = []
        self.told: list[str] = []
        self.feed(page)
        self.close()

    def handle_starttag(self, tag: str, attrs: Any) -> None:
        self.elements.append((tag, dict(attrs)))
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: Any) -> None:
        self.elements.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        assert self.open, tag
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if "svg" in self.open:
            self.drawn.append(data)
        elif not {"script", "style"} & set(self.open):
            self.told.append(data)


def test_the_same_hosts_give_the_same_bytes() -> None:
    def texts() -> list[str]:
        fabric = fabric_of(broken(), "default")
        return [page(fabric), mermaid(fabric), dot(fabric)]

    assert texts() == texts()


def test_hosts_in_another_order_give_the_same_bytes() -> None:
    reports = broken()
    turned = {name: reports[name] for name in reversed(list(reports))}
    assert page(fabric_of(turned, "default")) == page(fabric_of(reports, "default"))


@pytest.mark.parametrize("fabric", [fabric_of(broken(), "default"), hostile(), fabric_of({}, "default")])
def test_every_element_is_closed_and_none_is_what_a_name_says(fabric: Fabric) -> None:
    reader = Reader(page(fabric))
    assert reader.open == []
    kinds = {name for name, _attributes in reader.elements}
    assert kinds.isdisjoint({"img", "iframe", "object", "embed", "base", "form", "foreignobject", "animate", "image"})
    assert [name for name, _attributes in reader.elements].count("script") == 2
    for name, attributes in reader.elements:
        assert not [key for key in attributes if key.startswith("on") or key == "style"], name
        for key in ("href", "src", "action", "xlink:href"):
            target = attributes.get(key)
            assert target is None or target.startswith("#") or target == "data:,", (name, target)


def test_hostile_names_are_shown_as_text() -> None:
    made = page(hostile())
    told = " ".join(Reader(made).told)
    assert "<script>alert(1)</script>" in told
    for raw in ("<script>alert", "<img", "\x1b", "\u202e", "\u2066", "\u200f", "\x00"):
        assert raw not in made
    assert "a?b?[31mc?gnp.exe" in told


def damaged(value: Any, chance: random.Random) -> Any:
    """The same without some of its parts, and some of them twice, as a host may say it."""
    if isinstance(value, dict):
        kept = {key: damaged(item, chance) for key, item in value.items()}
        drop = isinstance(next(iter(kept.values()), None), dict)  # a mapping by name, and no record
        return {key: item for key, item in kept.items() if not drop or chance.random() > 0.2}
    if isinstance(value, list) and not any(isinstance(item, int) for item in value):
        some = [damaged(item, chance) for item in value if chance.random() > 0.15]
        return [*some, *chance.sample(some, min(len(some), chance.randrange(2)))]
    return value


@pytest.mark.parametrize("seed", range(40))
def test_hosts_that_contradict_themselves_are_drawn_all_the_same(seed: int) -> None:
    chance = random.Random(seed)
    reports = {}
    for name, report in broken().items():
        kept: Any = {key: damaged(value, chance) for key, value in report.kept.items()}
        operations = [drift("create", "link", f"{box}/eth{chance.randrange(3)}") for box in kept["sandboxes"]]
        reports[name] = replace(report, kept=kept, drift=chance.sample(operations, len(operations) // 2))
    fabric = fabric_of(reports, "default")
    assert Reader(page(fabric)).open == []
    assert mermaid(fabric)
    assert dot(fabric)


def test_diagrams_have_no_control_character_and_no_direction_of_text() -> None:
    for made in (mermaid(hostile()), dot(hostile())):
        assert [line for line in made.split("\n") if not line.isprintable()] == []


def test_nothing_but_the_page_s_own_style_and_script_is_allowed() -> None:
    made = page(hostile())
    (policy,) = re.findall(r'http-equiv="Content-Security-Policy" content="([^"]*)"', made)
    policy = html.unescape(policy)
    scripts = re.findall(r"<script>(.*?)</script>", made, re.S)
    styles = re.findall(r"<style>(.*?)</style>", made, re.S)
    assert len(scripts) == len(styles) == 1
    assert "default-src 'none'" in policy
    assert "unsafe" not in policy
    for directive, content in (("script-src", scripts[0]), ("style-src", styles[0])):
        digest = base64.b64encode(hashlib.sha256(content.encode()).digest()).decode()
        assert f"{directive} 'sha256-{digest}';" in policy


def test_a_page_names_no_address_of_the_web() -> None:
    assert not re.search(r"https?://|url\(|@import", page(fabric_of(broken(), "default")))


@pytest.mark.parametrize("reports", [reports_of(three()), broken()])
def test_the_tables_have_every_fact_that_is_drawn(reports: dict[str, HostReport]) -> None:
    fabric = fabric_of(reports, "default")
    told = " ".join(Reader(page(fabric)).told)
    for host in fabric.hosts:
        assert {host.name, host.words, *host.addresses} <= set(re.split(r"  |(?<=\S) (?=\S)|\n", told)) | {host.words}
        assert host.words in told
    for sandbox in fabric.sandboxes:
        for fact in (sandbox.name, sandbox.state.words, *sandbox.ports):
            assert fact in told
        for end in sandbox.endpoints:
            assert all(fact in told for fact in (end.network, end.link, end.mac, *end.addresses, *end.names, *end.was))
    for network in fabric.networks:
        for part in network.parts:
            assert all(fact in told for fact in (network.name, part.driver, *part.subnets, *part.gateways, *part.flags))
            assert all(f"{key}={value}" in told for key, value in (*part.options, *part.labels))
            assert all(f"{host}: VTEP {address}" in told for host, address in part.vteps)
    for service in fabric.services:
        assert f"{len(service.tasks)} of {service.wanted}" in told
        assert all(f"{address} on {network}" in told for network, address in service.vips)
        assert all(fact in told for fact in (service.name, service.mode, *service.ports))
    for policy in fabric.policies:
        assert all(f"all on the network {name}" in told for name in policy.networks)
        for rules, default in ((policy.ingress, policy.ingress_default), (policy.egress, policy.egress_default)):
            assert all(line in told for line in rule_words(rules, default))
    for difference in fabric.differences:
        assert difference.words in told
        assert all(part in told for value in difference.values for part in value)
    for state in STATES:
        assert state.meaning in told


def test_a_policy_is_told_with_who_may_speak_to_whom() -> None:
    told = re.sub(r"\s+", " ", " ".join(Reader(page(fabric_of(reports_of(three()), "default"))).told))
    assert (
        "store allow sandbox worker, sandbox report: 5432/tcp allow everybody: echo-request all else: drop "
        "service db everything: reject"
    ) in told
    assert "drop network ps-bridge: 22/tcp all else: drop proxy on node1 allow service redis, addresses office" in told
    drawn = " ".join(Reader(page(fabric_of(reports_of(three()), "default"))).drawn)
    assert "10.10.2.2 · policy store" in drawn


def test_without_policies_a_page_has_no_place_for_them() -> None:
    assert "#policies" not in page(fabric_of(reports_of(fleet(2, 2)), "default"))


def test_what_is_drawn_has_signs_and_words_for_every_state() -> None:
    made = page(fabric_of(broken(), "default"))
    drawn = " ".join(Reader(made).drawn)
    shapes = {}
    for state in STATES:
        assert state.words in drawn
        (shape, *_more) = re.findall(rf'<path d="([^"]*)" class="sign s-{state.key}"/>', made)
        shapes[re.sub(r"[-0-9. ]+", "", shape)] = state
    assert len(shapes) == len(STATES)


def test_every_drawing_has_a_title_and_a_description() -> None:
    reader = Reader(page(fabric_of(reports_of(fleet(9, 2)), "default")))
    ids = {attributes["id"] for _name, attributes in reader.elements if "id" in attributes}
    drawings = [attributes for name, attributes in reader.elements if name == "svg"]
    assert len(drawings) == 1 + 3
    for drawing in drawings:
        assert drawing["role"] == "img"
        assert {drawing["aria-labelledby"], drawing["aria-describedby"]} <= ids


def test_the_picture_of_the_documentation_is_a_drawing_of_ours() -> None:
    kept = (Path(__file__).parents[5] / "docs" / "graph.svg").read_text(encoding="utf-8")
    assert kept == picture() + "\n", "make it again: python tests/support/fabrics.py >docs/graph.svg"
    ElementTree.fromstring(kept)


def test_fifty_hosts_are_small_and_soon_drawn() -> None:
    reports = reports_of(fleet(50, 10))
    started = time.process_time()
    fabric = fabric_of(reports, "default")
    made = page(fabric)
    diagrams = mermaid(fabric), dot(fabric)
    took = time.process_time() - started
    assert len(fabric.sandboxes) >= 500
    assert len(made.encode()) < 3_000_000
    assert took < 2
    assert len(diagrams[0]) < 50_000  # Mermaid takes no more


def test_fifty_hosts_are_folded_but_for_those_with_differences() -> None:
    reports = reports_of(fleet(50, 2))
    reports["node30"] = replace(reports["node30"], kept=EMPTY)
    reader = Reader(page(fabric_of(reports, "default")))
    folds = [attributes for name, attributes in reader.elements if name == "details" and attributes["class"] == "fold"]
    assert len(folds) == 17 + 50
    assert len([fold for fold in folds if "open" in fold]) == 2


@pytest.mark.parametrize(
    ("reports", "words"),
    [
        ({}, "There are no hosts."),
        ({"n1": HostReport(EMPTY)}, "No host has a sandbox, and none is declared."),
        ({"n1": HostReport(problem="did not answer: timeout")}, "Nothing is known"),
        (reports_of(three()), "Nothing: every host that was asked is as declared."),
    ],
)
def test_a_page_of_little_says_so(reports: dict[str, HostReport], words: str) -> None:
    assert words in " ".join(Reader(page(fabric_of(reports, "default"))).told)


class TestMarkup:
    def test_text_is_escaped_once(self) -> None:
        assert text("a<b") == "a&lt;b"
        assert text(text("a<b")) == "a&lt;b"
        assert element("p", "&", element("b", "<"), class_="x") == '<p class="x">&amp;<b>&lt;</b></p>'

    def test_attributes_are_escaped(self) -> None:
        assert element("p", title='"<&', hidden=True, id=None) == '<p title="&quot;&lt;&amp;" hidden=""></p>'

    def test_long_texts_are_cut(self) -> None:
        assert len(text("x" * 10_000)) == 2000
