# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: cnm.fabric contributors
"""Whatever one host reports, the others' plans stay, and there is a plan, a warning or a refusal: never a traceback.

A minute of it, always the same; with all tests asked for ten minutes, always others.
"""

from __future__ import annotations

import copy
import json
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import hypothesis
import pytest
from hypothesis import strategies as st
from reporting import HOSTS, RECORDED, VARIABLES, Answer, Controller, texts
from sampling import WHOLE

from ansible_collections.cnm.fabric.plugins.plugin_utils.declaration.errors import DeclarationError
from ansible_collections.cnm.fabric.plugins.plugin_utils.inspect.docker_json import inspect_document, merge_documents
from ansible_collections.cnm.fabric.plugins.plugin_utils.inspect.docker_model import live_model
from ansible_collections.cnm.fabric.plugins.plugin_utils.inspect.graph.comparing import fabric_of
from ansible_collections.cnm.fabric.plugins.plugin_utils.inspect.graph.dot import dot
from ansible_collections.cnm.fabric.plugins.plugin_utils.inspect.graph.mermaid import mermaid
from ansible_collections.cnm.fabric.plugins.plugin_utils.inspect.graph.page import page
from ansible_collections.cnm.fabric.plugins.plugin_utils.inspect.graph.report import HostReport
from ansible_collections.cnm.fabric.plugins.plugin_utils.inspect.health import HostView
from ansible_collections.cnm.fabric.plugins.plugin_utils.inspect.model import NOTHING
from ansible_collections.cnm.fabric.plugins.plugin_utils.inspect.summary import counts, problems, select, tables
from ansible_collections.cnm.fabric.plugins.plugin_utils.module_runner import Run, carry_out, network_documents
from ansible_collections.cnm.fabric.plugins.plugin_utils.module_state.edits import Call
from ansible_collections.cnm.fabric.plugins.plugin_utils.reports.answers import admitted
from ansible_collections.cnm.fabric.plugins.plugin_utils.reports.models import own_model
from ansible_collections.cnm.fabric.plugins.plugin_utils.reports.probe import read_probe
from ansible_collections.cnm.fabric.plugins.plugin_utils.shown import LEVELS, Shown

MARKER = "pwned"
EXAMPLES = 8000 if WHOLE else 240
FUZZED = hypothesis.settings(
    max_examples=EXAMPLES,
    derandomize=not WHOLE,
    database=None,
    suppress_health_check=list(hypothesis.HealthCheck),
)
OF_ALL = ("addresses", "routes", "vnis", "resolvers")
"""What a host says of the underlay that it shares with others may change what they are told."""

_TEXTS = (
    f"198.51.100.12 }}; add table ip {MARKER}; #",
    f"{MARKER}\nnameserver 1",
    f"../../{MARKER}",
    f"$({MARKER})",
    f"{{{{ {MARKER} }}}}",
    MARKER,
    "\x1b[2J",
    "\ud800",
    "\0",
    "",
    "node1",
    "node2/multinet/c1",
    "node1/multinet/c1",
    "node3/multinet/c1",
    "node3/front/c9",
    "multinet",
    "front",
    "redis",
    "c1",
    "default",
    "10.20.0.2",
    "10.20.0.0/24",
    "10.21.0.0/16",
    "198.51.100.11",
    "fe80::1%eth0",
    "::ffff:10.20.0.2",
    "0.0.0.0/0",
    "²",
    "x" * 5000,
    "1" * 4000,
    f"7:{'0' * 64}",
    "0" * 64,
)
_VALUES: tuple[Any, ...] = (
    *_TEXTS,
    *(None, True, False, 0, 1, -1, 4, 6, 4096, 7777, 2**24, 2**31, 2**53, 2**63 - 1, 2**64, 10**400),
    *(1.5, float("nan"), float("inf"), [], {}, [[]], [None], {"": None}, {"ipv4": "10.20.0.2"}, {"tasks": {}}),
    {"networks": ["multinet"]},
    {"networks": [["multinet", {"aliases": ["c1"]}]]},
    {"driver": "overlay"},
    {"tasks": {"1": "node3", "2": "node3"}},
    {"subnets": ["10.20.0.0/24"], "vni": 5000, "vips": {"redis": {"ipv4": "10.20.0.2"}}},
    {"underlay": "198.51.100.12", "mtu": 576, "vnis": [4096]},
)
hostile = st.sampled_from(_VALUES) | st.recursive(
    st.sampled_from(_VALUES) | st.text(max_size=20) | st.integers() | st.floats(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.sampled_from(_TEXTS) | st.text(max_size=8), inner),
    max_leaves=12,
)


def _paths(value: Any, above: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    yield above
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, item in items:
        yield from _paths(item, (*above, key))


@dataclass
class _Mutated:
    """An answer with changes, and the sections they were made in."""

    answer: Any
    touched: set[str]


@st.composite
def mutated(draw: st.DrawFn, start: Answer) -> _Mutated:
    """A valid answer in which some values were replaced, removed or added, often where it hurts."""
    answer: Any = copy.deepcopy(start)
    touched = set()
    for _turn in range(draw(st.integers(1, 4))):
        paths = [path for path in _paths(answer) if path]
        kept = [path for path in paths if path[0] == "kept"]
        path = draw(st.sampled_from(kept if kept and draw(st.booleans()) else paths))
        touched.add(path[0])
        place = answer
        for key in path[:-1]:
            place = place[key]
        how = draw(st.sampled_from(("replace", "remove", "add", "rename", "newer")))
        if how == "newer" and isinstance(answer.get("kept"), dict):
            answer["kept"]["revision"] = draw(st.sampled_from((3, 50, 2**53, 2**53 + 1)))
        elif how == "remove":
            del place[path[-1]]
        elif how == "add" and isinstance(place[path[-1]], dict):
            place[path[-1]][draw(st.sampled_from(_TEXTS))] = copy.deepcopy(draw(hostile))
        elif how == "add" and isinstance(place[path[-1]], list):
            place[path[-1]].append(copy.deepcopy(draw(hostile)))
        elif how == "rename" and isinstance(place, dict):
            place[draw(st.sampled_from(_TEXTS))] = place.pop(path[-1])
        else:
            place[path[-1]] = copy.deepcopy(draw(hostile))
    return _Mutated(answer, touched)


class World:
    """A fleet that was planned twice, and what comes of one run more in which everybody is honest."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.controller = Controller(directory / "before", {**VARIABLES, "node1": {**VARIABLES["node2"]}})
        self.controller.variables = {**VARIABLES, "node1": {"cnm_networks": VARIABLES["node1"]["cnm_networks"]}}
        self.controller.run(self.controller.answers())
        self.old = self.controller.answers()
        self.controller.variables = VARIABLES
        self.controller.run(self.controller.answers())
        self.answers = self.controller.answers()
        for answer in self.answers.values():
            answer["kept"].update(declared=RECORDED["kept"]["declared"], model=RECORDED["kept"]["model"])
            answer["drift"] = [{"action": "create", "kind": "link", "name": "c1/eth0"}]
        self.honest = self.controller.copied(directory / "honest").run(self.answers)
        self.lost = Controller(directory / "lost")

    def run(self, host: str, answer: Any) -> tuple[Any, Any]:
        """What comes of the answer, with the lease store there, and with it lost."""
        answers = {**self.answers, host: answer}
        with_store = self.controller.copied(self.directory / "now").run(answers)
        self.lost.store.unlink(missing_ok=True)
        return with_store, self.lost.run(answers)


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> World:
    return World(tmp_path_factory.mktemp("fuzz"))


def holds(world: World, host: str, answer: Any, touched: set[str]) -> None:
    """One answer of one host: what must be so of the plans."""
    with_store, lost = world.run(host, answer)
    for outcome in (with_store, lost):
        assert host in outcome.plans or outcome.refusals.get(host)
        assert MARKER not in str(texts(outcome, host)), outcome.warnings
        for sentence in (*outcome.warnings.get(host, ()), *outcome.refusals.get(host, ())):
            assert sentence.replace("\n", "").isprintable()
    if not touched & set(OF_ALL):
        assert texts(with_store, host) == texts(world.honest, host)


@pytest.mark.parametrize("host", HOSTS[1:])
def test_mutations_of_what_a_host_keeps_and_answers(world: World, host: str) -> None:
    @FUZZED
    @hypothesis.given(mutated(world.answers[host]))
    def fuzz(found: _Mutated) -> None:
        holds(world, host, found.answer, found.touched)

    fuzz()


def test_arbitrary_answers(world: World) -> None:
    keys = st.sampled_from([*RECORDED, *RECORDED["kept"]])

    @hypothesis.settings(FUZZED, max_examples=EXAMPLES // 3)
    @hypothesis.given(hostile | st.dictionaries(keys, hostile) | st.dictionaries(keys, st.dictionaries(keys, hostile)))
    def fuzz(answer: Any) -> None:
        holds(world, "node3", answer, set(OF_ALL))

    fuzz()


def test_replayed_old_leases(world: World) -> None:
    outcome = world.controller.copied(world.directory / "now").run({**world.answers, "node2": world.old["node2"]})
    assert texts(outcome, "node2") == texts(world.honest, "node2")


def test_hostile_module_state_and_models(world: World) -> None:
    """The single-object modules, network_info, inspect and the graph read the same answers."""
    start = copy.deepcopy(world.answers["node3"])
    start["kept"]["declared"] = copy.deepcopy(VARIABLES["node3"])
    start["kept"]["declared"]["cnm_sandboxes"]["c3"]["networks"] = [["front", None], ["auto", None]]
    start["kept"]["declared"].pop("cnm_services")
    start["drift"] = [
        {"action": "wait for", "kind": "sandbox", "name": "c3", "reason": "no container c3"},
        {"action": "create", "kind": "link", "name": "c3/eth0"},
        {
            **{"action": "change", "kind": "sysctl", "name": "net.ipv4.ip_forward"},
            "differences": [{"attribute": "value", "found": "0", "wanted": "1"}],
        },
    ]
    start["repairs"] = [
        {"action": "repair", "kind": "sandbox", "name": "c3", "text": "network front in sandbox c3 (missing)"},
        {"action": "repair", "kind": "host", "name": None, "text": "setting net.ipv4.ip_forward (value 0 → 1)"},
    ]
    calls = (
        Call("network", "node3", {"name": "lab", "subnet": "10.77.0.0/24"}),
        Call("sandbox", "node3", {"name": "c9", "networks": ["front"]}),
        Call("endpoint", "node3", {"network": "auto", "sandbox": "c3"}, absent=True),
    )

    @hypothesis.settings(FUZZED, max_examples=EXAMPLES // 3)
    @hypothesis.given(mutated(start) | st.builds(_Mutated, hostile, st.just(set())), hostile, st.sampled_from(calls))
    def fuzz(found: _Mutated, converged: Any, call: Call) -> None:
        def execute(module: str, _options: Any) -> dict[str, Any]:
            return admitted(module, "node3", found.answer if module.endswith("probe") else converged)

        with tempfile.TemporaryDirectory() as directory:
            result = carry_out(Run(call, {"cnm_project": "default"}, directory, False, 60, execute))
        json.dumps(result)
        report = read_probe("node3", found.answer)
        if report.refusal:
            return
        [json.dumps(document) for document in network_documents(report.data, "node3", "default")]
        view = HostView(
            own_model(report.data["kept"].get("model", {}), "node3", "default") or NOTHING,  # type: ignore[arg-type]
            *(report.data.get(key, ()) for key in ("drift", "repairs")),
        )
        for level in LEVELS:
            shown = Shown(level)
            selection = select({"node3": view}, shown.only)
            lines = [counts(selection), *tables(selection, shown), *problems(selection, shown)]
            assert all(line.isprintable() for line in lines)
        fabric = fabric_of({"node3": HostReport(None, view.planned, view.drift)}, "default")
        assert all(draw(fabric) for draw in (page, mermaid, dot))
        networks = {"node3": live_model(view.planned, view.drift)["networks"]}
        [inspect_document(each) for group in merge_documents(networks).values() for each in group]

    fuzz()


def test_an_error_in_the_variables_is_still_reported(world: World) -> None:
    controller = world.controller.copied(world.directory / "now")
    controller.variables = {**VARIABLES, "node1": {"cnm_networks": {"x": {"subnet": "10.0.0.1/24"}}}}
    with pytest.raises(DeclarationError, match="bits set"):
        controller.run(world.answers)
