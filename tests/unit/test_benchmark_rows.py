# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: cnm.fabric contributors
"""The benchmarks' table says what was measured, and nothing else."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from rows import BY_KEY, ROWS, Table, lines


def line(table: Table, key: str, markdown: bool = False) -> str:
    return next(text for text in lines(table, markdown=markdown) if BY_KEY[key].what in text)


def test_each_row_has_a_key_of_its_own_and_an_aim_that_is_a_number() -> None:
    assert len(BY_KEY) == len(ROWS)
    for row in ROWS:
        relation, _space, limit = row.aim.partition(" ")
        assert relation in ("", "<=", ">=") and (not relation or float(limit) > 0), row


def test_a_number_is_the_median_of_pairs() -> None:
    table = Table()
    table.add("50.first", [10.0, 2.0, 3.0], [9.5, 1.0, 0.0])
    table.add("packet.overlay", [10.0, 20.0, 30.0], [20.0, 20.0, 15.0])
    table.add("ports.change", [1.0, 9.0, 2.0])
    numbers = {key: row["measured"] for key, row in table.to_json()["rows"].items()}
    assert numbers == {"50.first": 1.0, "packet.overlay": 1.0, "ports.change": 2.0}


@pytest.mark.parametrize(("value", "missed"), [(0.6, False), (1.7, True)])
def test_a_row_whose_aim_is_not_reached_is_marked(value: float, missed: bool) -> None:
    table = Table()
    table.add("50.first", [1 + value], [1.0])
    assert ("missed" in line(table, "50.first")) is missed


def test_growth_is_the_exponent_of_cost_by_size() -> None:
    table = Table()
    for size in (31, 125, 500):
        table.grew("500.unchanged", size, [1 + size / 1000], [1.0])
        table.grew("500.memory", size, [size * 2.0])
    rows = table.to_json()["rows"]
    assert rows["500.unchanged"]["slope"] == pytest.approx(1.0)
    assert rows["500.unchanged"]["measured"] == pytest.approx(0.5)
    assert "faster" not in line(table, "500.unchanged")
    assert "faster than its work" in line(table, "500.memory")


def test_a_number_of_a_smaller_size_says_so_and_misses_no_aim() -> None:
    table = Table()
    table.grew("500.unchanged", 31, [9.0], [1.0])
    assert "8.00 s at 31" in line(table, "500.unchanged")
    assert "missed" not in line(table, "500.unchanged")


def test_a_table_read_again_is_the_same(tmp_path: Path) -> None:
    table, again = Table(), Table()
    table.grew("500.unchanged", 31, [2.0], [1.0])
    table.grew("500.unchanged", 500, [3.0], [1.0])
    path = tmp_path / "found.json"
    path.write_text(json.dumps(table.to_json()), encoding="utf-8")
    again.read(path)
    assert list(lines(again)) == list(lines(table))
    compared = list(lines(again, table, markdown=True))
    assert compared[-1].startswith("| unchanged | 2.00 | 2.00 s | ≤ 0.5 | missed |")


def test_a_row_that_is_not_declared_is_an_error() -> None:
    with pytest.raises(KeyError):
        Table().add("500.unknown", [1.0])
