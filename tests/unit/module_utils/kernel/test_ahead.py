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

from ansible_collections.cnm.fabric.plugins.module_utils.kernel.ahead import Ahead


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
    if item == "refused":
        raise LookupError(item)
    return {"pid": os.getpid(), "item": (item, [len(item)], None, {item: True})}


def calls(*items: str) -> dict[str, Callable[[], Any]]:
    return {item: lambda item=item: read(item) for item in items}


def test_another_process_gives_what_functions_give_but_for_those_that_fail() -> None:
    def work() -> Any:
        ahead = Ahead(calls("first", "refused", "last"))
        taken = [ahead.take(name) for name in ("refused", "first", "last", "last", "unknown")]
        return os.getpid(), taken

    own, (refused, first, last, *others) = alone(work)
    assert refused is None
    assert others == [None, None]
    assert first["item"] == ("first", [5], None, {"first": True})
    assert last["item"] == ("last", [4], None, {"last": True})
    assert first["pid"] == last["pid"] != own


def test_what_is_there_can_be_taken_while_the_rest_is_read() -> None:
    def work() -> Any:
        started = time.monotonic()
        ahead = Ahead({**calls("first"), "never": lambda: time.sleep(60)})
        taken = ahead.take("first")
        ahead.end()
        return taken["item"][0], time.monotonic() - started

    item, seconds = alone(work)
    assert item == "first"
    assert seconds < 30


def test_more_than_a_pipe_holds_is_read() -> None:
    def work() -> Any:
        ahead = Ahead({name: lambda name=name: name * (3 << 20) for name in "abc"})
        return [ahead.take(name) == name * (3 << 20) for name in "abc"]

    assert alone(work) == [True, True, True]


@pytest.mark.parametrize("data", [lambda: os.kill(os.getpid(), signal.SIGKILL), object, lambda: os._exit(1)])
def test_of_a_process_that_fails_nothing_is_used(data: Callable[[], Any]) -> None:
    def work() -> Any:
        ahead = Ahead({"first": data, **calls("second")})
        return ahead.take("first"), ahead.take("second")

    assert alone(work) == (None, None)


def test_one_that_is_not_wanted_is_ended() -> None:
    def work() -> float:
        started = time.monotonic()
        ahead = Ahead({"never": lambda: time.sleep(60)})
        ahead.end()
        ahead.end()
        assert ahead.take("never") is None
        return time.monotonic() - started

    assert alone(work) < 30


def test_nothing_is_read_ahead_where_that_does_not_pay_or_is_not_safe(monkeypatch: pytest.MonkeyPatch) -> None:
    ended = threading.Event()
    other = threading.Thread(target=ended.wait)
    other.start()
    try:
        assert Ahead(calls("first")).take("first") is None
    finally:
        ended.set()
        other.join()
    monkeypatch.setattr(os, "sched_getaffinity", lambda _process: {0})
    assert alone(lambda: Ahead(calls("first")).take("first")) is None
