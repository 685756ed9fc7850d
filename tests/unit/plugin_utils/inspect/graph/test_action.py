# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: cnm.fabric contributors
"""The action: where it reads, what it writes, and what it refuses."""

from __future__ import annotations

import os
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from fabrics import drift, reports_of, three
from reporting import answer_of

from ansible_collections.cnm.fabric.plugins.action.graph import ActionModule


def probes() -> dict[str, dict[str, Any]]:
    """The answers of hosts that are as their kept plans say."""
    found = {}
    for host, report in reports_of(three()).items():
        found[host] = {**answer_of(host, model=report.kept), "drift": []}
    return found


def run(file: Path, answers: dict[str, Any], **variables: Any) -> dict[str, Any]:
    """The result, with these answers registered; there is no plan."""
    task = SimpleNamespace(args={"file": str(file)}, async_val=0, check_mode=False, diff=False, environment=None)
    connection = SimpleNamespace(_shell=SimpleNamespace(tmpdir="/nowhere"))
    action = ActionModule(task, connection, None, None, SimpleNamespace(template=lambda value: value), None)
    hostvars = {host: {"fabric_probe": answer} for host, answer in answers.items()}
    made: dict[str, Any] = action.run(
        None, {"ansible_play_hosts_all": list(answers), "hostvars": hostvars, **variables}
    )
    return made


def test_a_page_and_two_diagrams_are_written(tmp_path: Path) -> None:
    result = run(tmp_path / "a.html", probes())
    assert (result["changed"], result["differences"]) == (True, 0)
    assert result["files"] == [str(tmp_path / f"a.{ending}") for ending in ("html", "mmd", "dot")]
    assert "proxy" in (tmp_path / "a.html").read_text(encoding="utf-8")
    assert sorted(os.listdir(tmp_path)) == ["a.dot", "a.html", "a.mmd"]


def test_what_is_the_same_is_not_written_again(tmp_path: Path) -> None:
    run(tmp_path / "a.html", probes())
    stamps = [path.stat().st_ino for path in sorted(tmp_path.iterdir())]
    assert run(tmp_path / "a.html", probes())["changed"] is False
    assert [path.stat().st_ino for path in sorted(tmp_path.iterdir())] == stamps


def test_drift_is_counted(tmp_path: Path) -> None:
    answers = probes()
    answers["node1"]["drift"] = [drift("create", "namespace", "proxy")]
    assert run(tmp_path / "a.html", answers)["differences"] == 1


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        ({"unreachable": True, "msg": "No route\nto host"}, "did not answer: No route to host"),
        ({"failed": True, "msg": "no Python"}, "could not be read: no Python"),
        ({}, "did not answer: the play did not ask it"),
        ({"kept": {}, "routes": "none"}, "of its answer cannot be used"),
        ({"unreachable": True, "msg": "<script>\x1b[2J\u202e"}, "did not answer: &lt;script&gt;?[2J?"),
    ],
)
def test_hosts_without_a_usable_answer_are_drawn_as_not_known(tmp_path: Path, answer: Any, words: str) -> None:
    result = run(tmp_path / "a.html", {**probes(), "node3": answer})
    assert not result.get("failed")
    assert words in (tmp_path / "a.html").read_text(encoding="utf-8")


def test_hosts_outside_the_topology_are_not_drawn(tmp_path: Path) -> None:
    run(tmp_path / "a.html", {**probes(), "switch": {"skipped": True}})
    assert "switch" not in (tmp_path / "a.html").read_text(encoding="utf-8")


def test_a_host_cannot_say_that_it_has_what_is_another_s(tmp_path: Path) -> None:
    answers = probes()
    answers["node3"]["kept"]["model"] = probes()["node1"]["kept"]["model"]
    run(tmp_path / "a.html", answers)
    page = (tmp_path / "a.html").read_text(encoding="utf-8")
    assert "node3: VTEP 192.0.2.10" not in page


@pytest.mark.parametrize("name", ["a.dot", "a.mmd", "a", "a.html.j2"])
def test_other_names_are_refused(tmp_path: Path, name: str) -> None:
    result = run(tmp_path / name, probes())
    assert "has to end in .html" in result["msg"]
    assert not list(tmp_path.iterdir())


def test_a_folder_that_is_not_there_is_named(tmp_path: Path) -> None:
    result = run(tmp_path / "none" / "a.html", probes())
    assert f"cannot be written to {tmp_path / 'none'}: No such file or directory" in result["msg"]


@pytest.mark.parametrize("fact", ["cnm_graph_file", "fabric_plan"])
def test_a_host_cannot_choose_the_files(tmp_path: Path, fact: str) -> None:
    result = run(tmp_path / "a.html", probes(), ansible_facts={fact: "/etc/x.html"})
    assert fact in result["msg"]
    assert not list(tmp_path.iterdir())


def test_a_pipe_that_was_there_is_not_read(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "a.html")
    assert run(tmp_path / "a.html", probes())["changed"]
    assert b"proxy" in (tmp_path / "a.html").read_bytes()


@pytest.mark.parametrize("before", [b"\xff\xfe\x00", b"x" * 100, b""])
def test_whatever_was_there_is_written_over(tmp_path: Path, before: bytes) -> None:
    (tmp_path / "a.html").write_bytes(before)
    assert run(tmp_path / "a.html", probes())["changed"]
    assert b"proxy" in (tmp_path / "a.html").read_bytes()


def test_the_order_of_the_page_that_was_there_is_kept(tmp_path: Path) -> None:
    answers = probes()
    run(tmp_path / "a.html", dict(list(answers.items())[1:]))
    run(tmp_path / "a.html", answers)
    page = (tmp_path / "a.html").read_text(encoding="utf-8")
    assert '"hosts":["node2","node3","node1"]' in page


def test_a_link_is_replaced_and_not_followed(tmp_path: Path) -> None:
    (tmp_path / "other").write_text("keep")
    (tmp_path / "a.mmd").symlink_to(tmp_path / "other")
    run(tmp_path / "a.html", probes())
    assert (tmp_path / "other").read_text() == "keep"
    assert not (tmp_path / "a.mmd").is_symlink()
