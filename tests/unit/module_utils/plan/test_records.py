# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: cnm.fabric contributors
"""Our dataclasses do what Python's own do."""

from __future__ import annotations

import dataclasses
import operator
from itertools import product
from typing import Any, Callable, Optional

import pytest

from ansible_collections.cnm.fabric.plugins.module_utils.plan import records

NAN = float("nan")


def classes(dataclass: Callable[..., Any]) -> list[type]:
    """The same classes, made by one or the other."""

    @dataclass(frozen=True)
    class Empty:
        """No field."""

    @dataclass(frozen=True)
    class Point:
        """Two fields, and one of the class."""

        x: Any
        y: Any = 0

    @dataclass(frozen=True)
    class Deep(Point):
        """One more."""

        z: tuple[int, ...] = ()

    @dataclass(frozen=True, order=True)
    class Ranked:
        """Can be sorted."""

        x: Any
        y: Any = 0

    @dataclass
    class Loose:
        """Cannot be hashed."""

        x: Any
        items: list[int] = dataclasses.field(default_factory=list)

    @dataclass
    class Own:
        """Says for itself what it is."""

        x: Any

        def __repr__(self) -> str:
            return "own"

    @dataclass(frozen=True, order=True)
    class One:
        """A single field."""

        x: Any

    @dataclass(frozen=True)
    class Equal:  # noqa: PLW1641  # dataclasses give it one
        """Says for itself what is equal, and is hashed by its fields."""

        x: Any

        def __eq__(self, other: object) -> bool:
            return type(other) is type(self)

    return [Empty, Point, Deep, Ranked, Loose, Own, One, Equal]


def objects(dataclass: Callable[..., Any]) -> list[Any]:
    empty, point, deep, ranked, loose, own, one, equal = classes(dataclass)
    found = [empty(), loose(1), loose(1, [2]), own(1), own(2), deep(1, 2, (3,)), deep(1, 2), one(1), one(2), equal(1)]
    found += [one(None), one(NAN), one(NAN)]
    return found + [made(*given) for made in (point, ranked) for given in ((1,), (1, 0), (1, 2), (2,), ("a",), (1.0,))]


def outcome(function: Callable[..., Any], *arguments: Any) -> Any:
    try:
        return function(*arguments)
    except TypeError:
        return TypeError


def test_they_compare_hash_and_show_themselves_alike() -> None:
    ours, pythons = objects(records.dataclass), objects(dataclasses.dataclass)
    assert [repr(item) for item in ours] == [repr(item).replace("pythons", "ours") for item in pythons]
    assert [outcome(hash, item) is TypeError for item in ours] == [outcome(hash, item) is TypeError for item in pythons]
    pairs = list(product(range(len(ours)), repeat=2))
    for by in (operator.eq, operator.ne, operator.lt, operator.le, operator.gt, operator.ge):
        said = [outcome(by, ours[one], ours[other]) for one, other in pairs]
        assert said == [outcome(by, pythons[one], pythons[other]) for one, other in pairs], by
    for one, other in pairs:
        if ours[one] == ours[other] and outcome(hash, ours[one]) is not TypeError:
            assert hash(ours[one]) == hash(ours[other])


def test_they_can_be_replaced_and_listed() -> None:
    for item in objects(records.dataclass):
        assert dataclasses.replace(item) == item
        assert dataclasses.is_dataclass(item)


@pytest.mark.parametrize("option", ["compare", "repr"])
def test_fields_that_are_left_out_are_refused(option: str) -> None:
    with pytest.raises(TypeError, match="Secret has fields that are left out"):

        @records.dataclass(frozen=True)
        class Secret:
            key: Optional[str] = dataclasses.field(default=None, **{option: False})
