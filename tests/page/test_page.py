# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: cnm.fabric contributors
"""The page in a real Chromium: nothing is fetched, nothing is reported, everybody can read it."""

from __future__ import annotations

import contextlib
import itertools
import os
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pytest
from fabrics import broken, fleet, hostile, reports_of, three
from playwright.sync_api import Browser, Page

from ansible_collections.cnm.fabric.plugins.plugin_utils.inspect.graph.comparing import fabric_of
from ansible_collections.cnm.fabric.plugins.plugin_utils.inspect.graph.fabric import Fabric
from ansible_collections.cnm.fabric.plugins.plugin_utils.inspect.graph.page import page as text_of
from ansible_collections.cnm.fabric.plugins.plugin_utils.inspect.graph.report import EMPTY


def many(hosts: int, sandboxes: int) -> Fabric:
    """So many hosts, of which one has lost its plan, and one is silent."""
    reports = reports_of(fleet(hosts, sandboxes))
    reports["node3"] = replace(reports["node3"], kept=EMPTY)
    reports["node7"] = replace(reports["node7"], problem="did not answer: timeout")
    return fabric_of(reports, "default")


FABRICS = {
    "three": fabric_of(reports_of(three()), "default"),
    "broken": fabric_of(broken(), "default"),
    "nine": many(9, 3),
    "fifty": many(50, 10),
    "hostile": hostile(),
    "empty": fabric_of({}, "default"),
}


@dataclass
class Seen:
    """A page that is open, with what it reported and asked for."""

    page: Page
    said: list[str] = field(default_factory=list)
    fetched: list[str] = field(default_factory=list)


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """The pages, by name; in CNM_PICTURES, if it is set, to look at them."""
    folder = Path(os.environ.get("CNM_PICTURES") or tmp_path_factory.mktemp("pages"))
    folder.mkdir(exist_ok=True)
    found = {}
    for name, fabric in FABRICS.items():
        found[name] = folder / f"{name}.html"
        found[name].write_text(text_of(fabric), encoding="utf-8")
    return found


@contextlib.contextmanager
def opened(browser: Browser, file: Path, **how: Any) -> Iterator[Seen]:
    """The page, in a window of its own."""
    context = browser.new_context(**{"viewport": {"width": 1600, "height": 1000}, **how})
    seen = Seen(context.new_page())
    seen.page.on("console", lambda message: seen.said.append(message.text))
    seen.page.on("pageerror", lambda error: seen.said.append(str(error)))
    seen.page.on("dialog", lambda dialog: seen.said.append(f"dialog {dialog.message}"))
    seen.page.on("request", lambda request: seen.fetched.append(request.url))
    seen.page.goto(file.as_uri())
    yield seen
    context.close()


@pytest.mark.parametrize("name", FABRICS)
def test_nothing_is_reported_and_nothing_is_fetched(browser: Browser, files: dict[str, Path], name: str) -> None:
    with opened(browser, files[name], offline=True) as seen:
        seen.page.mouse.move(500, 500)
        seen.page.locator("summary").evaluate_all("all => all.forEach(each => each.click())")
        assert seen.said == []
        assert [url for url in seen.fetched if not url.startswith("data:")] == [files[name].as_uri()]


LOOKS = [
    pytest.param(
        *look,
        marks=[]
        if look[0] in ("three", "broken") or (look[0] != "fifty" and look[1:] == ("dark", 400))
        else [pytest.mark.whole],
    )
    for look in itertools.product(FABRICS, ("light", "dark"), (400, 1600))
]
"""Each page in each scheme and width: all that can be seen is on the first two."""


@pytest.mark.parametrize(("name", "scheme", "width"), LOOKS)
def test_axe_finds_nothing(
    browser: Browser, files: dict[str, Path], scripts: Path, name: str, scheme: Any, width: int
) -> None:
    # The page allows no other script than its own; the checker is let by, and nothing else.
    how = {"color_scheme": scheme, "viewport": {"width": width, "height": 1000}, "bypass_csp": True}
    with opened(browser, files[name], **how) as seen:
        folder = os.environ.get("CNM_PICTURES")
        if folder:
            seen.page.screenshot(path=f"{folder}/{name}-{scheme}-{width}.png", full_page=name != "fifty")
        if name == "fifty" and (scheme, width) != ("dark", 400):
            return  # it has no colour and no element that the page of nine hosts has not, and takes long
        if name != "fifty":
            seen.page.locator("details").evaluate_all("all => all.forEach(each => { each.open = true; })")
        seen.page.add_script_tag(path=str(scripts / "axe.min.js"))
        found = seen.page.evaluate("axe.run({resultTypes: ['violations']})")
        assert [(item["id"], item["impact"], item["nodes"][0]["html"][:200]) for item in found["violations"]] == []
        assert len(found["passes"]) > 15


def test_the_page_does_not_grow_wider_than_a_narrow_screen(browser: Browser, files: dict[str, Path]) -> None:
    with opened(browser, files["broken"], viewport={"width": 400, "height": 900}) as seen:
        assert seen.page.evaluate("document.documentElement.scrollWidth") <= 400


def test_what_is_written_in_a_drawing_has_its_place(browser: Browser, files: dict[str, Path]) -> None:
    """No text leaves the drawing, nor lies upon another."""
    script = """() => [...document.querySelectorAll("svg.deck")].flatMap(svg => {
        const edge = svg.getBoundingClientRect();
        const texts = [...svg.querySelectorAll("text:not(.turned)")]
            .map(each => ({words: each.textContent, box: each.getBoundingClientRect()}));
        const out = texts.filter(({box}) =>
            box.left < edge.left || box.right > edge.right + 1 || box.bottom > edge.bottom);
        const crossing = texts.filter((one, place) => texts.some((other, at) => at > place
            && one.box.left + 2 < other.box.right && other.box.left + 2 < one.box.right
            && one.box.top + 4 < other.box.bottom && other.box.top + 4 < one.box.bottom));
        return [...out, ...crossing].map(each => each.words);
    })"""
    for name in ("three", "broken"):
        with opened(browser, files[name]) as seen:
            assert seen.page.evaluate(script) == []


class TestTheFilter:
    def test_it_leaves_what_has_all_the_words(self, browser: Browser, files: dict[str, Path]) -> None:
        with opened(browser, files["fifty"]) as seen:
            seen.page.get_by_label("Filter").fill("node12-app3 node12")
            seen.page.get_by_text("1 of ").wait_for()
            shown = seen.page.locator("#sandboxes tbody tr:visible")
            assert [row.split()[0] for row in shown.all_inner_texts()] == ["node12-app3"]
            assert seen.page.locator("#map details:visible").count() == 1
            assert seen.page.locator("#map details:visible g.sandbox:not(.off)").count() == 1
            seen.page.get_by_role("button", name="Show all").click()
            assert seen.page.locator("#map details:visible").count() == 17
            assert seen.said == []

    def test_a_host_of_the_overview_is_a_filter_too(self, browser: Browser, files: dict[str, Path]) -> None:
        with opened(browser, files["fifty"]) as seen:
            seen.page.locator("g.heading").nth(4).click()
            assert seen.page.get_by_label("Filter").input_value() == "node5"

    def test_a_key_leads_to_it(self, browser: Browser, files: dict[str, Path]) -> None:
        with opened(browser, files["three"]) as seen:
            seen.page.keyboard.press("/")
            seen.page.keyboard.type("vault")
            assert seen.page.get_by_label("Filter").input_value() == "vault"
            seen.page.keyboard.press("Escape")
            assert seen.page.get_by_label("Filter").input_value() == ""


def test_without_a_script_it_is_all_there(browser: Browser, files: dict[str, Path]) -> None:
    with opened(browser, files["fifty"], java_script_enabled=False) as seen:
        assert not seen.page.get_by_label("Filter").is_visible()
        fold = seen.page.locator("#sandboxes details").nth(4)
        assert not fold.locator("table").is_visible()
        fold.locator("summary").first.click()
        assert fold.locator("table").is_visible()


@pytest.mark.parametrize("script", [True, False])
def test_it_prints_what_is_folded_too(browser: Browser, files: dict[str, Path], script: bool) -> None:
    with opened(browser, files["fifty"], java_script_enabled=script) as seen:
        seen.page.emulate_media(media="print")
        assert seen.page.locator("#sandboxes details").nth(4).locator("table").is_visible()
        assert not seen.page.get_by_role("navigation").is_visible()
        assert len(seen.page.pdf(prefer_css_page_size=True)) > 100_000


def test_a_screen_reader_finds_headings_tables_and_pictures(browser: Browser, files: dict[str, Path]) -> None:
    with opened(browser, files["broken"]) as seen:
        headings = seen.page.get_by_role("heading").all_inner_texts()
        assert headings[:3] == ["Networks of the project default", "Map", "Not as declared"]
        assert seen.page.get_by_role("img", name="Networks of node1, node2, node3").count() == 1
        for name in ("What is not as declared", "Hosts", "Networks", "Services", "Published ports"):
            assert seen.page.get_by_role("table", name=name, exact=True).count() == 1
        row = seen.page.get_by_role("table", name="Sandboxes of node1").get_by_role("row").filter(has_text="db.1")
        assert "missing" in row.inner_text()


def test_hostile_names_run_nothing(browser: Browser, files: dict[str, Path]) -> None:
    with opened(browser, files["hostile"]) as seen:
        seen.page.locator("details").evaluate_all("all => all.forEach(each => { each.open = true; })")
        assert seen.page.locator("script").count() == 2
        assert seen.page.locator("img").count() == 0
        assert seen.said == []
        assert "<script>alert(1)</script>" in seen.page.locator("h1").inner_text()
