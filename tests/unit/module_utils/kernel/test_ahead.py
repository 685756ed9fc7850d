# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: cnm.fabric contributors
"""What another process reads meanwhile: the same, or nothing, and no process is left."""

from __future__ import annotations

import multiprocessing
import os
import signal
import threading
import time
from collections.abc import Callable
from typing import Any

import pytest

from ansible_collections.cnm.fabric.plugins.module_utils.kernel.ahead import FEWEST, Ahead

ITEMS = [str(number) for number in range(FEWEST)]


@pytest.fixture(autouse=True)
def two_processors(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda _process: {0, 1})


def alone(work: Callable[[], Any]) -> Any:
    """What a function gives in a process that has one thread, and that no process is left of it."""
    fork = multiprocessing.get_context("fork")
    receiving, sending = fork.Pipe(duplex=False)

    def send() -> None:
        result = work()
        with pytest.raises(ChildProcessError):
            os.waitpid(-1, 0)
        sending.send(result)

    worker = fork.Process(target=send)
    worker.start()
    sending.close()
    try:
        assert receiving.poll(30)
        return receiving.recv()
    finally:
        worker.kill()
        worker.join()


def read(item: str) -> Any:
    """Plain data of many kinds, and of which process it comes."""
    if item == "7":
        raise LookupError(item)
    return {"pid": os.getpid(), "item": (item, [int(item)], None, {item: True})}


def test_another_process_gives_what_the_function_gives_but_for_what_it_refuses() -> None:
    own, found, again = alone(lambda: (os.getpid(), (ahead := Ahead(read, ITEMS)).results(), ahead.results()))
    assert found.keys() == set(ITEMS) - {"7"}
    assert {data["pid"] for data in found.values()}.isdisjoint({own})
    assert len({data["pid"] for data in found.values()}) == 1
    assert all(data["item"] == (item, [int(item)], None, {item: True}) for item, data in found.items())
    assert again == {}


def test_more_than_a_pipe_holds_is_read() -> None:
    found = alone(lambda: Ahead(lambda item: item * 100_000, ITEMS).results())
    assert found == {item: item * 100_000 for item in ITEMS}


@pytest.mark.parametrize("data", [lambda: os.kill(os.getpid(), signal.SIGKILL), object, lambda: os._exit(1)])
def test_of_a_process_that_fails_nothing_is_used(data: Callable[[], Any]) -> None:
    assert alone(lambda: Ahead(lambda _item: data(), ITEMS).results()) == {}


def test_one_that_is_not_wanted_is_ended() -> None:
    def work() -> float:
        started = time.monotonic()
        ahead = Ahead(lambda _item: time.sleep(60), ITEMS)
        ahead.end()
        ahead.end()
        assert ahead.results() == {}
        return time.monotonic() - started

    assert alone(work) < 30


def test_nothing_is_read_ahead_where_that_does_not_pay_or_is_not_safe(monkeypatch: pytest.MonkeyPatch) -> None:
    assert alone(lambda: Ahead(read, ITEMS[1:]).results()) == {}
    ended = threading.Event()
    other = threading.Thread(target=ended.wait)
    other.start()
    try:
        assert Ahead(read, ITEMS).results() == {}
    finally:
        ended.set()
        other.join()
    monkeypatch.setattr(os, "sched_getaffinity", lambda _process: {0})
    assert alone(lambda: Ahead(read, ITEMS).results()) == {}
